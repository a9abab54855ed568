//! The gRPC API as the driver, and programs without it, see it.

use std::time::Duration;

use client::Value;
use client::driver::{DataType, ErrorKind, Place, RangeScope, TransactionOptions};
use proto::v1;
use proto::v1::sql_client::SqlClient;
use server::grpc::HandleLimits;
use tonic_types::StatusExt;

use crate::node::Node;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_of_every_type_go_in_and_come_out() {
    let db = Node::start().await.client().await;
    db.execute(
        "CREATE TABLE t (id INT8 PRIMARY KEY, a BOOL, b INT2, c INT4, d FLOAT8, e NUMERIC(10,2), f TEXT, g VARCHAR(5),
         h BYTEA, i TIMESTAMPTZ, j DATE, k UUID)",
        &[],
    )
    .await
    .unwrap();
    let values: Vec<Value> = vec![
        Value::Int(1),
        Value::Bool(true),
        Value::Int(-2),
        Value::Int(3),
        Value::Float(0.5),
        Value::Numeric("12.50".parse().unwrap()),
        Value::Text("Zoë".into()),
        Value::Text("abc".into()),
        Value::Bytes(vec![0, 255]),
        Value::TimestampTz(1_700_000_000_000_000),
        Value::Date(19_000),
        Value::Uuid(uuid::Uuid::from_u128(42)),
    ];
    let params: Vec<&dyn client::driver::ToValue> = values.iter().map(|v| v as _).collect();
    let insert = "INSERT INTO t VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
    assert_eq!(db.execute(insert, &params).await.unwrap(), 1);
    let row = db.query_one("SELECT * FROM t", &[]).await.unwrap();
    assert_eq!(row.values(), values);
    let types: Vec<DataType> = row.columns().iter().map(|c| c.data_type).collect();
    assert_eq!((types[2], types[5]), (DataType::Int2, DataType::Numeric(Some((10, 2)))));
    let nulls = db.query_one("SELECT a, k FROM t WHERE f = $1 AND h IS NOT NULL", &[&"Zoë"]).await.unwrap();
    assert!(nulls.get::<Option<bool>>("a").unwrap().unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_keep_their_place_and_fail_the_transaction() {
    let node = Node::start().await;
    let db = node.accounts().await;
    let mut tx = db.begin().await.unwrap();
    let error = tx.query("SELECT balnace FROM accounts", &[]).await.unwrap_err();
    assert_eq!((error.sqlstate(), error.position(), error.kind()), ("42703", Some(8), ErrorKind::Refused));
    assert_eq!(tx.query("SELECT 1", &[]).await.unwrap_err().sqlstate(), "25P02");
    let error = db.execute("INSERT INTO accounts VALUES (1, 0)", &[]).await.unwrap_err();
    assert_eq!((error.sqlstate(), error.constraint()), ("23505", Some("accounts_pkey")));
    let error = db.execute("SELECT $1::INT8", &[]).await.unwrap_err();
    assert_eq!(error.sqlstate(), "08P01");
    assert_eq!(db.execute("SELECT 1; SELECT 2", &[]).await.unwrap_err().sqlstate(), "42601");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_parameter_fails_the_transaction() {
    let node = Node::start().await;
    let db = node.accounts().await;
    let mut tx = db.begin().await.unwrap();
    tx.query("SELECT * FROM accounts WHERE id = $1", &[&"many"]).await.unwrap_err();
    assert_eq!(tx.query("SELECT 1", &[]).await.unwrap_err().sqlstate(), "25P02");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_results_come_in_batches() {
    let node = Node::start().await;
    let db = node.client().await;
    db.execute("CREATE TABLE t (id INT8 PRIMARY KEY, pad TEXT)", &[]).await.unwrap();
    for first in (0..5000).step_by(1000) {
        let rows: Vec<String> = (first..first + 1000).map(|i| format!("({i}, 'x')")).collect();
        db.execute(&format!("INSERT INTO t VALUES {}", rows.join(",")), &[]).await.unwrap();
    }
    let mut session = db.session().await.unwrap();
    let (rows, completion) = session.query("SELECT id FROM t", &[]).await.unwrap();
    assert_eq!((rows.len(), completion.tag.as_str()), (5000, "SELECT 5000"));
    // Left halfway, it is cancelled, and the session goes on.
    let mut rows = session.stream("SELECT id FROM t", &[]).await.unwrap();
    rows.next().await.unwrap().unwrap();
    drop(rows);
    assert_eq!(session.execute("SELECT 1", &[]).await.unwrap().rows, 1);
    let (rows, _) = session.query("SELECT id FROM t WHERE id < 0", &[]).await.unwrap();
    assert!(rows.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_statement_can_be_cancelled() {
    let node = Node::start().await;
    let db = node.accounts().await;
    node.slow_splits();
    let mut session = db.session().await.unwrap();
    let canceller = session.canceller();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        canceller.cancel().await;
    });
    let error = session.execute("ALTER TABLE accounts SPLIT AT VALUES (2)", &[]).await.unwrap_err();
    assert_eq!(error.sqlstate(), "57014");
    assert_eq!(session.execute("SELECT 1", &[]).await.unwrap().rows, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_tells_its_timestamp() {
    let node = Node::start().await;
    let db = node.accounts().await;
    let first = db.run("UPDATE accounts SET balance = 1 WHERE id = 1", &[]).await.unwrap();
    let done = db
        .transact_with(TransactionOptions::default(), async |mut tx| {
            tx.execute("UPDATE accounts SET balance = balance + $1 WHERE id = 1", &[&5i32]).await
        })
        .await
        .unwrap();
    assert_eq!((first.tag.as_str(), done.value), ("UPDATE 1", 1));
    assert!(done.committed.timestamp > first.commit_timestamp.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_statements_need_no_session() {
    let node = Node::start().await;
    node.accounts().await;
    let mut client = SqlClient::connect(format!("http://{}", node.grpc)).await.unwrap();
    let request = |sql: &str| v1::ExecuteRequest { sql: sql.into(), ..Default::default() };
    let mut answers = client.execute(request("SELECT balance FROM accounts")).await.unwrap().into_inner();
    let mut tags = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        if let Some(v1::execute_response::Response::Complete(complete)) = answer.response {
            tags.push(complete.tag);
        }
    }
    assert_eq!(tags, ["SELECT 2"]);
    let mut answers = client.execute(request("SELECT nothing")).await.unwrap().into_inner();
    let status = answers.message().await.unwrap_err();
    assert_eq!(status.get_details_error_info().unwrap().metadata["sqlstate"], "42703");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_can_be_written_read_and_scanned() {
    let node = Node::start().await;
    let keys = node.client().await.key_range();
    assert!(keys.put(&[(b"a", b"1"), (b"b", b"2"), (b"c", b"")]).await.unwrap() > 0);
    assert_eq!(keys.get(&[b"c", b"x", b"a"]).await.unwrap(), [Some(vec![]), None, Some(b"1".to_vec())]);
    let page = keys.scan(b"", b"", 2, true).await.unwrap();
    assert_eq!(page.rows, [(b"c".to_vec(), vec![]), (b"b".to_vec(), b"2".to_vec())]);
    let (start, end) = page.resume.unwrap();
    let rest = keys.scan(&start, &end, 10, true).await.unwrap();
    assert_eq!((rest.rows, rest.resume), (vec![(b"a".to_vec(), b"1".to_vec())], None));
    keys.delete(&[b"a"]).await.unwrap();
    let moved = keys
        .transact(TransactionOptions::default(), async |mut tx| {
            let value = tx.get(&[b"b"], true).await?.remove(0).unwrap_or_default();
            tx.delete(&[b"b"]).await?;
            tx.put(&[(b"d", &value)]).await?;
            Ok(value)
        })
        .await
        .unwrap();
    assert_eq!(moved, b"2");
    let names: Vec<Vec<u8>> = keys.scan(b"", b"", 0, false).await.unwrap().rows.into_iter().map(|r| r.0).collect();
    assert_eq!(names, [b"c", b"d"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_over_keys_tells_its_id_before_its_commit() {
    let node = Node::start().await;
    let db = node.client().await;
    let mut transaction = db.key_range().begin(TransactionOptions::default()).await.unwrap();
    transaction.get(&[b"a"], false).await.unwrap();
    assert_eq!(transaction.id(), None);
    transaction.put(&[(b"a", b"1")]).await.unwrap();
    let first = transaction.id().unwrap().to_string();
    transaction.delete(&[b"b"]).await.unwrap();
    assert_eq!(transaction.id(), Some(first.as_str()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_is_not_used_expires() {
    let limits = HandleLimits { open_max: 2, idle_max: Duration::from_millis(80) };
    let node = Node::with_handle_limits(limits).await;
    let keys = node.client().await.key_range();
    let mut first = keys.begin(TransactionOptions::default()).await.unwrap();
    let _second = keys.begin(TransactionOptions::default()).await.unwrap();
    let error = keys.begin(TransactionOptions::default()).await.err().unwrap();
    assert_eq!(error.sqlstate(), "54000");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(first.get(&[b"a"], false).await.unwrap_err().message().contains("handle"));
    keys.begin(TransactionOptions::default()).await.unwrap().commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_see_nodes_and_ranges_and_can_split() {
    let node = Node::start().await;
    let db = node.accounts().await;
    let admin = db.admin();
    admin.split(Place::row("accounts", &[&2i64])).await.unwrap();
    assert_eq!(admin.ranges(RangeScope::Table("accounts".into())).await.unwrap().len(), 2);
    assert_eq!(admin.split(Place::row("nobody", &[&2i64])).await.unwrap_err().sqlstate(), "42P01");
    admin.unsplit(Place::row("accounts", &[&2i64])).await.unwrap();
    let nowhere = admin.unsplit(Place::row("accounts", &[&3i64])).await.unwrap_err();
    assert_eq!(nowhere.sqlstate(), "22023", "{nowhere}");
    assert_eq!(admin.init().await.unwrap_err().sqlstate(), "42710");
    let (_, status) = admin.statuses().await.remove(0);
    assert_eq!(status.unwrap().node_id, 1);
    assert_eq!(admin.stats().await[0].1.as_ref().unwrap()["commits_total"], 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_served() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;
    let node = Node::start().await;
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", node.grpc)).unwrap();
    let mut health = HealthClient::new(endpoint.connect().await.unwrap());
    let answer = health.check(HealthCheckRequest { service: "meridian.v1.Sql".into() }).await.unwrap();
    assert_eq!(answer.into_inner().status, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bank_keeps_its_money() {
    use client::bench::bank::{BankOptions, Verdict, run};
    let node = Node::start().await;
    let options = BankOptions {
        accounts: 50,
        clients: 4,
        ranges: 4,
        duration: Duration::from_millis(700),
        progress: false,
        ..BankOptions::new(node.grpc.to_string())
    };
    let report = run(options).await.unwrap();
    assert_eq!(report.verdict, Verdict::Ok, "{report}");
    assert!(report.transfers > 10, "{report}");
}

/// The program runs its work again, on another connection; the second run is answered by the first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_under_an_idempotency_key_is_done_once() {
    let node = Node::start().await;
    let db = node.accounts().await;
    let mut seen = Vec::new();
    for run in 0..3 {
        let client = node.client().await;
        let order = client.with_idempotency_key("order-17");
        let done = order
            .transact_with(TransactionOptions::default(), async |mut tx| {
                let row = tx.query_one("SELECT balance FROM accounts WHERE id = $1", &[&1i64]).await?;
                let balance: i64 = row.get("balance")?;
                tx.execute("UPDATE accounts SET balance = $2 WHERE id = $1", &[&1i64, &(balance - 30)]).await?;
                Ok((balance, tx.id().map(str::to_string)))
            })
            .await
            .unwrap();
        assert_eq!(done.committed.replayed, run > 0);
        seen.push((done.value, done.committed.timestamp));
        // Meanwhile the world goes on.
        db.execute("UPDATE accounts SET balance = balance + 1000 WHERE id = 1", &[]).await.unwrap();
    }
    assert_eq!((seen[0].0.0, &seen[1], &seen[2]), (100, &seen[0], &seen[0]));
    let balance: i64 = db.query_one("SELECT balance FROM accounts WHERE id = 1", &[]).await.unwrap().get(0).unwrap();
    assert_eq!(balance, 3070);
    let other = db.with_idempotency_key("order-17").execute("DELETE FROM accounts", &[]).await.unwrap_err();
    assert_eq!(
        (other.sqlstate(), other.reason(), other.kind()),
        ("55000", Some("idempotency_key_reused"), ErrorKind::Refused)
    );
    assert!(other.detail().is_some_and(|detail| detail.contains("Number 1")), "{other:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_statement_may_have_a_key_too() {
    let node = Node::start().await;
    let db = node.accounts().await;
    let add = "UPDATE accounts SET balance = balance + $1 WHERE id = 1 RETURNING balance";
    for run in 0..2 {
        let keyed = db.with_idempotency_key("add");
        assert_eq!(keyed.query_one(add, &[&5i64]).await.unwrap().get::<i64>(0).unwrap(), 105);
        assert!(keyed.run(add, &[&5i64]).await.unwrap().replayed, "{run}");
        // The key does not stay with the session.
        db.execute("UPDATE accounts SET balance = balance WHERE id = 1", &[]).await.unwrap();
    }
    let error = db.with_idempotency_key("x".repeat(300)).execute(add, &[&5i64]).await.unwrap_err();
    assert_eq!((error.sqlstate(), error.kind()), ("22023", ErrorKind::Refused));
    assert_eq!(db.query_one(add, &[&0i64]).await.unwrap().get::<i64>(0).unwrap(), 105);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_of_one_statement_may_have_a_key() {
    let node = Node::start().await;
    let db = node.accounts().await;
    let mut client = SqlClient::connect(format!("http://{}", node.grpc)).await.unwrap();
    for _ in 0..2 {
        let request = v1::ExecuteRequest {
            sql: "UPDATE accounts SET balance = balance + 1 WHERE id = 2".into(),
            idempotency_key: "call".into(),
            ..Default::default()
        };
        let mut answers = client.execute(request).await.unwrap().into_inner();
        while answers.message().await.unwrap().is_some() {}
    }
    let balance: i64 = db.query_one("SELECT balance FROM accounts WHERE id = 2", &[]).await.unwrap().get(0).unwrap();
    assert_eq!(balance, 51);
    let request = v1::ExecuteRequest { sql: "SELECT 1".into(), idempotency_key: "call".into(), ..Default::default() };
    let refused = client.execute(request).await.unwrap().into_inner().message().await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert_eq!(refused.get_details_error_info().unwrap().reason, "IDEMPOTENCY_KEY_REUSED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_over_keys_may_have_an_idempotency_key() {
    let node = Node::start().await;
    let keys = node.client().await.key_range();
    for _ in 0..2 {
        let once = keys.with_idempotency_key("over keys");
        let before = once
            .transact(TransactionOptions::default(), async |mut tx| {
                let before = tx.get(&[b"a"], true).await?.remove(0);
                let page = tx.scan(b"", b"", 10, false).await?;
                let more = [before.clone().unwrap_or_default(), b"x".to_vec()].concat();
                tx.put(&[(b"a", &more)]).await?;
                Ok((before, page.rows.len()))
            })
            .await
            .unwrap();
        assert_eq!(before, (None, 0));
        assert_eq!(keys.get(&[b"a"]).await.unwrap(), [Some(b"x".to_vec())]);
    }
    let put = keys.with_idempotency_key("put");
    let first = put.put(&[(b"b", b"1")]).await.unwrap();
    keys.put(&[(b"b", b"2")]).await.unwrap();
    assert_eq!(put.put(&[(b"b", b"1")]).await.unwrap(), first);
    assert_eq!(keys.get(&[b"b"]).await.unwrap(), [Some(b"2".to_vec())]);
    assert_eq!(put.delete(&[b"b"]).await.unwrap_err().reason(), Some("IDEMPOTENCY_KEY_REUSED"));
    // Half of the first run, and a transaction that cannot write.
    let half = keys.with_idempotency_key("over keys").begin(TransactionOptions::default()).await.unwrap();
    assert_eq!(half.commit().await.unwrap_err().sqlstate(), "55000");
    let reading = put.begin(TransactionOptions::read_only()).await.err().unwrap();
    assert_eq!(reading.sqlstate(), "22023");
}
