//! The PostgreSQL protocol as tokio-postgres speaks it: extended queries in binary format.

use std::time::Duration;

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::node::Node;

async fn connect(node: &Node) -> Client {
    let parameters = format!("host=127.0.0.1 port={} user=ann dbname=meridian application_name=test", node.pg.port());
    let (client, connection) = tokio_postgres::connect(&parameters, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn accounts(node: &Node) -> Client {
    let client = connect(node).await;
    let script = "CREATE TABLE accounts (id INT8 PRIMARY KEY, balance INT8 NOT NULL);
                  INSERT INTO accounts VALUES (1, 100), (2, 50)";
    client.batch_execute(script).await.unwrap();
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_are_prepared_and_run_in_binary() {
    let node = Node::start().await;
    let mut client = accounts(&node).await;
    let statement =
        client.prepare("SELECT id, balance, balance > 60 AS rich FROM accounts WHERE id = $1").await.unwrap();
    assert_eq!(statement.columns()[2].name(), "rich");
    let row = client.query_one(&statement, &[&1i64]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, bool>(2)), (1, 100, true));
    let transaction = client.transaction().await.unwrap();
    let changed = transaction.execute("UPDATE accounts SET balance = balance - $1 WHERE id = 1", &[&5i64]).await;
    assert_eq!(changed.unwrap(), 1);
    transaction.commit().await.unwrap();
    let row = client.query_one("SELECT balance FROM accounts WHERE id = 1", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 95);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_of_other_types_come_back() {
    let node = Node::start().await;
    let client = connect(&node).await;
    let sql = "SELECT $1::TEXT, $2::BYTEA, $3::FLOAT8, $4::INT2, $5::INT4, $6::BOOL";
    let row = client.query_one(sql, &[&"Zoë", &[0u8, 255].as_slice(), &0.5f64, &-3i16, &7i32, &None::<bool>]).await;
    let row = row.unwrap();
    assert_eq!((row.get::<_, String>(0), row.get::<_, Vec<u8>>(1)), ("Zoë".to_string(), vec![0, 255]));
    assert_eq!((row.get::<_, f64>(2), row.get::<_, i16>(3), row.get::<_, i32>(4)), (0.5, -3, 7));
    assert_eq!(row.get::<_, Option<bool>>(5), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_simple_query_is_one_transaction() {
    let node = Node::start().await;
    let client = accounts(&node).await;
    let failed = client.batch_execute("INSERT INTO accounts VALUES (3, 0); INSERT INTO accounts VALUES (1, 0)").await;
    assert_eq!(failed.unwrap_err().code().unwrap().code(), "23505");
    let messages = client.simple_query("SELECT count(*) FROM accounts; SELECT 'x' AS y").await.unwrap();
    let rows: Vec<&str> = messages
        .iter()
        .filter_map(|message| if let SimpleQueryMessage::Row(row) = message { row.get(0) } else { None })
        .collect();
    assert_eq!(rows, ["2", "x"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_tell_all_that_is_known() {
    let node = Node::start().await;
    let client = accounts(&node).await;
    let error = client.query("SELECT balnace FROM accounts", &[]).await.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code().code(), "42703");
    assert_eq!(error.position(), Some(&tokio_postgres::error::ErrorPosition::Original(8)));
    let error = client.execute("INSERT INTO accounts VALUES (1, 0)", &[]).await.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!((error.constraint(), error.table()), (Some("accounts_pkey"), Some("accounts")));
    assert!(client.query_one("SELECT 1", &[]).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_portal_can_be_read_in_parts() {
    let node = Node::start().await;
    let mut client = accounts(&node).await;
    let rows: Vec<String> = (10..3000).map(|i| format!("({i}, 1)")).collect();
    client.batch_execute(&format!("INSERT INTO accounts VALUES {}", rows.join(","))).await.unwrap();
    let transaction = client.transaction().await.unwrap();
    let portal = transaction.bind("SELECT id FROM accounts ORDER BY id", &[]).await.unwrap();
    let first = transaction.query_portal(&portal, 2).await.unwrap();
    assert_eq!(first.iter().map(|row| row.get::<_, i64>(0)).collect::<Vec<_>>(), [1, 2]);
    // Another statement in between does not disturb it.
    transaction.execute("UPDATE accounts SET balance = 0 WHERE id = 1", &[]).await.unwrap();
    assert_eq!(transaction.query_portal(&portal, 1000).await.unwrap().len(), 1000);
    assert_eq!(transaction.query_portal(&portal, 0).await.unwrap().len(), 1990);
    assert_eq!(transaction.query_portal(&portal, 5).await.unwrap().len(), 0);
    transaction.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_statements_each_succeed() {
    let node = Node::start().await;
    let client = accounts(&node).await;
    let update = client.prepare("UPDATE accounts SET balance = balance + 1 WHERE id = $1").await.unwrap();
    let (a, b) = (client.execute(&update, &[&1i64]), client.execute(&update, &[&2i64]));
    let (a, b) = futures::future::join(a, b).await;
    assert_eq!((a.unwrap(), b.unwrap()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_connections_are_refused_in_words() {
    let node = Node::start().await;
    let mut open = Vec::new();
    for _ in 0..8 {
        open.push(connect(&node).await);
    }
    let parameters = format!("host=127.0.0.1 port={} user=ann", node.pg.port());
    let error = tokio_postgres::connect(&parameters, NoTls).await.err().unwrap();
    assert_eq!(error.code().unwrap().code(), "53300");
    open.pop();
    tokio::time::sleep(Duration::from_millis(200)).await;
    connect(&node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_request_stops_what_runs_and_nothing_else() {
    let node = Node::start().await;
    let client = accounts(&node).await;
    let token = client.cancel_token();
    token.cancel_query(NoTls).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(client.query_one("SELECT 1", &[]).await.is_ok());
    node.slow_splits();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        token.cancel_query(NoTls).await.unwrap();
    });
    let error = client.batch_execute("ALTER TABLE accounts SPLIT AT VALUES (2)").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "57014");
    assert!(client.query_one("SELECT 1", &[]).await.is_ok());
}
