//! How clients come off a node that is about to stop.

use std::time::Duration;

use client::driver::{Client, Config};
use futures::FutureExt;
use proto::v1;
use proto::v1::key_range_client::KeyRangeClient;
use proto::v1::sql_client::SqlClient;
use tokio_postgres::NoTls;
use tonic_types::StatusExt;

use crate::node::Node;

/// More than any test waits for.
const LONG: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_transactions_end_and_nothing_else_begins() {
    let node = Node::start().await;
    let db = node.accounts().await;
    let mut idle = db.session().await.unwrap();
    let mut tx = db.begin().await.unwrap();
    tx.execute("UPDATE accounts SET balance = 0 WHERE id = 1", &[]).await.unwrap();
    let mut clearing = Box::pin(node.departure.clear(LONG));
    assert!((&mut clearing).now_or_never().is_none());

    // It may be told before it asks, or in place of an answer: it has had no effect in any case.
    let error = idle.execute("INSERT INTO accounts VALUES (3, 0)", &[]).await.unwrap_err();
    assert!(error.retryable(), "{error:?}");
    let error = db.session().await.err().unwrap();
    assert!(error.message().contains("the node is about to stop"), "{error:?}");

    assert_eq!(tx.query("SELECT * FROM accounts", &[]).await.unwrap().len(), 2);
    tx.commit().await.unwrap();
    tokio::time::timeout(LONG / 2, clearing).await.expect("nobody is there any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_crosses_the_farewell_is_known_not_to_have_run() {
    let node = Node::start().await;
    let db = node.accounts().await;
    let mut sessions = Vec::new();
    for _ in 0..20 {
        sessions.push(db.session().await.unwrap());
    }
    let statements = sessions.iter_mut().enumerate().map(async |(n, session)| {
        let insert = format!("INSERT INTO accounts VALUES ({}, 0)", n + 10);
        session.execute(&insert, &[]).await.map(|done| done.rows)
    });
    let (results, ()) = tokio::join!(futures::future::join_all(statements), node.departure.clear(LONG));
    for result in &results {
        match result {
            Ok(rows) => assert_eq!(*rows, 1),
            Err(error) => assert!(error.retryable(), "{error:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_end_is_rolled_back() {
    let node = Node::start().await;
    let db = node.accounts().await;
    let mut tx = db.begin().await.unwrap();
    tx.execute("UPDATE accounts SET balance = 0 WHERE id = 1", &[]).await.unwrap();
    let mut keys = KeyRangeClient::connect(format!("http://{}", node.grpc)).await.unwrap();
    let handle = keys.begin(v1::BeginRequest::default()).await.unwrap().into_inner().handle;
    node.departure.clear(Duration::from_millis(50)).await;
    let error = tx.execute("UPDATE accounts SET balance = 0 WHERE id = 2", &[]).await.unwrap_err();
    assert!(error.retryable(), "{error:?}");
    let error = keys.commit(v1::CommitRequest { handle }).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::NotFound, "{error:?}");
    let error = keys.begin(v1::BeginRequest::default()).await.unwrap_err();
    let info = error.get_details_error_info().unwrap();
    assert_eq!((error.code(), info.reason.as_str()), (tonic::Code::Unavailable, "NODE_STOPPING"));
    assert_eq!((info.metadata["sqlstate"].as_str(), info.metadata["retryable"].as_str()), ("57P01", "true"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_without_a_session_is_dropped_as_well() {
    let node = Node::start().await;
    node.accounts().await;
    node.slow_splits();
    let mut client = SqlClient::connect(format!("http://{}", node.grpc)).await.unwrap();
    let sql = "ALTER TABLE accounts SPLIT AT VALUES (2)".to_string();
    let mut answers = client.execute(v1::ExecuteRequest { sql, ..Default::default() }).await.unwrap().into_inner();
    node.departure.clear(Duration::from_millis(50)).await;
    let error = answers.message().await.unwrap_err();
    assert_eq!(error.get_details_error_info().unwrap().reason, "NODE_STOPPING", "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_driver_goes_on_with_the_next_node() {
    let (first, second) = (Node::start().await, Node::start().await);
    for node in [&first, &second] {
        node.accounts().await;
    }
    let db = Client::with_config(Config::new(&format!("{},{}", first.grpc, second.grpc)).unwrap()).await.unwrap();
    for _ in 0..4 {
        db.query("SELECT * FROM accounts", &[]).await.unwrap();
        db.key_range().get(&[b"a"]).await.unwrap();
    }
    first.departure.clear(LONG).await;
    for id in 10..20i64 {
        let insert = "INSERT INTO accounts VALUES ($1, 0)";
        assert_eq!(db.execute(insert, &[&id]).await.unwrap(), 1);
        db.key_range().get(&[b"a"]).await.unwrap();
    }
    let there = second.client().await.query("SELECT * FROM accounts", &[]).await.unwrap();
    assert_eq!(there.len(), 12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_clients_are_told_as_by_postgres() {
    let node = Node::start().await;
    node.accounts().await;
    let parameters = format!("host=127.0.0.1 port={} user=ann dbname=meridian", node.pg.port());
    let connect = async || tokio_postgres::connect(&parameters, NoTls).await;
    let ((idle, idle_connection), (mut busy, busy_connection)) = (connect().await.unwrap(), connect().await.unwrap());
    let (idle_over, busy_over) = (tokio::spawn(idle_connection), tokio::spawn(busy_connection));
    let transaction = busy.transaction().await.unwrap();
    transaction.execute("UPDATE accounts SET balance = 0 WHERE id = 1", &[]).await.unwrap();
    let mut clearing = Box::pin(node.departure.clear(LONG));
    assert!((&mut clearing).now_or_never().is_none());

    let code = |error: tokio_postgres::Error| error.code().map(|code| code.code().to_string());
    assert_eq!(code(idle_over.await.unwrap().unwrap_err()).as_deref(), Some("57P01"));
    assert!(idle.is_closed());
    assert_eq!(code(connect().await.err().unwrap()).as_deref(), Some("57P03"));

    let statement = transaction.prepare("SELECT balance FROM accounts WHERE id = 1").await.unwrap();
    assert_eq!(transaction.query_one(&statement, &[]).await.unwrap().get::<_, i64>(0), 0);
    transaction.commit().await.unwrap();
    assert_eq!(code(busy_over.await.unwrap().unwrap_err()).as_deref(), Some("57P01"));
    clearing.await;
}
