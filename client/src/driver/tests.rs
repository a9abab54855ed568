//! The driver against a server on a real socket.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::*;
use crate::fake::{Bank, FakeServer};

async fn server() -> (FakeServer, Client) {
    let server = FakeServer::start(1, Arc::new(Bank::default())).await;
    let client = Client::connect(&server.address.to_string()).await.unwrap();
    client.execute("INSERT INTO accounts VALUES (1, 100), (2, 50)", &[]).await.unwrap();
    (server, client)
}

const BALANCE: &str = "SELECT balance FROM accounts WHERE id = $1";
const SET_BALANCE: &str = "UPDATE accounts SET balance = $2 WHERE id = $1";

#[tokio::test]
async fn statements_share_sessions() {
    let (server, client) = server().await;
    for _ in 0..10 {
        let row = client.query_one(BALANCE, &[&1i64]).await.unwrap();
        assert_eq!(row.get::<i64>("balance").unwrap(), 100);
        assert_eq!(row.get::<Option<i32>>(0).unwrap(), Some(100));
        assert!(row.get::<String>("balance").unwrap_err().message().contains("column \"balance\""));
        assert!(row.get::<i64>("amount").is_err());
    }
    assert_eq!(server.sessions.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_transaction_runs_again_until_it_commits() {
    let (_server, client) = server().await;
    let tasks = (0..8).map(|_| {
        let client = client.clone();
        tokio::spawn(async move {
            let account = String::from("1");
            for step in [1i64; 10] {
                let add = async |mut tx: Lent<Transaction>| {
                    let id: i64 = account.parse().map_err(Error::application)?;
                    let balance: i64 = tx.query_one(BALANCE, &[&id]).await?.get(0)?;
                    tokio::task::yield_now().await;
                    tx.execute(SET_BALANCE, &[&id, &(balance + step)]).await
                };
                client.transact(add).await.unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let balance: i64 = client.query_one(BALANCE, &[&1i64]).await.unwrap().get(0).unwrap();
    assert_eq!(balance, 180);
}

#[tokio::test]
async fn retries_are_told_by_reason() {
    let (_server, client) = server().await;
    let attempts = AtomicU32::new(0);
    let done = client
        .transact_with(TransactionOptions::default(), async |mut tx| {
            if attempts.fetch_add(1, Ordering::Relaxed) < 2 { tx.execute("SELECT conflict", &[]).await } else { Ok(7) }
        })
        .await
        .unwrap();
    assert_eq!((done.value, done.retries["wounded"]), (7, 2));
}

#[tokio::test]
async fn an_application_error_rolls_back_and_is_not_retried() {
    let (_server, client) = server().await;
    let attempts = AtomicU32::new(0);
    let error = client
        .transact(async |mut tx| {
            attempts.fetch_add(1, Ordering::Relaxed);
            tx.execute(SET_BALANCE, &[&1i64, &0i64]).await?;
            Err::<(), _>(Error::application("changed my mind"))
        })
        .await
        .unwrap_err();
    assert_eq!((error.kind(), attempts.into_inner()), (ErrorKind::Application, 1));
    let balance: i64 = client.query_one(BALANCE, &[&1i64]).await.unwrap().get(0).unwrap();
    assert_eq!(balance, 100);
}

#[tokio::test]
async fn a_failed_transaction_cannot_be_committed_by_mistake() {
    let (_server, client) = server().await;
    let mut tx = client.begin().await.unwrap();
    tx.execute("nonsense", &[]).await.unwrap_err();
    assert_eq!(tx.execute(BALANCE, &[&1i64]).await.unwrap_err().sqlstate(), "25P02");
    assert_eq!(tx.commit().await.unwrap_err().sqlstate(), "25P02");
}

#[tokio::test]
async fn rows_that_are_not_read_do_not_disturb_the_next_statement() {
    let (_server, client) = server().await;
    let mut session = client.session().await.unwrap();
    let mut rows = session.stream("SELECT numbers", &[]).await.unwrap();
    assert_eq!(rows.next().await.unwrap().unwrap().get::<i64>("n").unwrap(), 0);
    drop(rows);
    let (rows, _) = session.query(BALANCE, &[&2i64]).await.unwrap();
    assert_eq!(rows[0].get::<i64>(0).unwrap(), 50);
    let (rows, completion) = session.query("SELECT numbers", &[]).await.unwrap();
    assert_eq!((rows.len() as u64, completion.rows), (100_000, 100_000));
}

#[tokio::test]
async fn a_statement_can_be_cancelled_from_elsewhere() {
    let (_server, client) = server().await;
    let mut session = client.session().await.unwrap();
    let canceller = session.canceller();
    let cancelling = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        canceller.cancel().await;
    });
    let error = session.execute("SELECT slow", &[]).await.unwrap_err();
    assert_eq!(error.sqlstate(), "57014");
    cancelling.await.unwrap();
    session.query(BALANCE, &[&1i64]).await.unwrap();
}

#[tokio::test]
async fn a_statement_that_takes_too_long_ends_its_session() {
    let (server, _) = server().await;
    let mut config = Config::new(&server.address.to_string()).unwrap();
    config.statement_timeout = Some(Duration::from_millis(30));
    let client = Client::with_config(config).await.unwrap();
    let mut session = client.session().await.unwrap();
    assert_eq!(session.execute("SELECT slow", &[]).await.unwrap_err().kind(), ErrorKind::Deadline);
    assert!(session.is_broken());
    assert!(session.execute(BALANCE, &[&1i64]).await.unwrap_err().retryable());
}

#[tokio::test]
async fn a_lost_answer_is_unknown_only_if_the_statement_may_have_taken_effect() {
    let (server, client) = server().await;
    let mut session = client.session().await.unwrap();
    assert_eq!(session.execute("SELECT vanish", &[]).await.unwrap_err().kind(), ErrorKind::Unavailable);
    let mut config = Config::new(&server.address.to_string()).unwrap();
    config.settle_statements = false;
    let client = Client::with_config(config).await.unwrap();
    let error = client.execute("DELETE vanish", &[]).await.unwrap_err();
    assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::OutcomeUnknown, "08007"));
}

/// A single statement is settled like a transaction: it takes effect once, wherever the connection breaks.
#[tokio::test]
async fn a_single_statement_whose_answer_is_lost_is_settled() {
    for lost in [Some(true), Some(false), None] {
        let bank = Arc::new(Bank::default());
        let server = FakeServer::start(1, bank.clone()).await;
        let client = Client::connect(&server.address.to_string()).await.unwrap();
        *bank.lose_commit.lock().unwrap() = lost;
        *bank.lose_statement.lock().unwrap() = lost.is_none();
        let completion = client.run("INSERT INTO accounts VALUES (1, 100)", &[]).await.unwrap();
        assert_eq!((completion.rows, completion.transaction_status), (1, TransactionStatus::Idle));
        assert_eq!(bank.commits(), 1, "{lost:?}");
        assert_eq!(completion.commit_timestamp.is_some(), lost == Some(true), "{lost:?}");
    }
}

/// Only if no node answers until the client's patience is over nobody knows; then the error has what to ask for.
#[tokio::test]
async fn a_statement_is_unknown_only_if_the_cluster_stays_away_and_can_be_asked_for_later() {
    let bank = Arc::new(Bank::default());
    let server = FakeServer::start(1, bank.clone()).await;
    let mut config = Config::new(&server.address.to_string()).unwrap();
    config.retry.give_up_after = Duration::from_millis(300);
    let client = Client::with_config(config).await.unwrap();
    *bank.lose_commit.lock().unwrap() = Some(true);
    // The session that the statement needs is there already.
    client.query("SELECT numbers", &[]).await.unwrap();
    bank.refuse_sessions.store(true, Ordering::Relaxed);
    let error = client.execute("INSERT INTO accounts VALUES (1, 100)", &[]).await.unwrap_err();
    assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::OutcomeUnknown, "08007"));
    bank.refuse_sessions.store(false, Ordering::Relaxed);
    let outcome = client.outcome(error.transaction_id().unwrap()).await.unwrap();
    assert!(matches!(outcome, Outcome::Committed { .. }), "{outcome:?}");
}

/// The driver asks how it ended: what took effect is not run again, and what did not is.
#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_settled() {
    for after in [true, false] {
        let bank = Arc::new(Bank::default());
        let server = FakeServer::start(1, bank.clone()).await;
        let client = Client::connect(&server.address.to_string()).await.unwrap();
        client.execute("INSERT INTO accounts VALUES (1, 100)", &[]).await.unwrap();
        *bank.lose_commit.lock().unwrap() = Some(after);
        let done = client
            .transact_with(TransactionOptions::default(), async |mut tx| {
                let balance: i64 = tx.query_one(BALANCE, &[&1i64]).await?.get(0)?;
                assert_eq!(tx.id(), None);
                tx.execute("UPDATE accounts SET balance = $2 WHERE id = $1", &[&1i64, &(balance - 10)]).await?;
                assert!(tx.id().is_some());
                Ok(())
            })
            .await
            .unwrap();
        let lost = BTreeMap::from([("commit_lost".to_string(), 1)]);
        assert_eq!(done.retries, if after { BTreeMap::new() } else { lost });
        assert_eq!(done.committed.timestamp > 0, after);
        let balance: i64 = client.query_one(BALANCE, &[&1i64]).await.unwrap().get(0).unwrap();
        assert_eq!(balance, 90);
    }
}

#[tokio::test]
async fn another_node_takes_over() {
    let bank = Arc::new(Bank::default());
    let first = FakeServer::start(1, bank.clone()).await;
    let second = FakeServer::start(2, bank).await;
    let client = Client::connect(&format!("{},{}", first.address, second.address)).await.unwrap();
    client.execute("INSERT INTO accounts VALUES (1, 100)", &[]).await.unwrap();
    drop(first);
    for _ in 0..10 {
        assert_eq!(client.query(BALANCE, &[&1i64]).await.unwrap().len(), 1);
        assert_eq!(client.session().await.unwrap().node_id(), 2);
    }
}

#[tokio::test]
async fn an_unreachable_cluster_is_told_with_every_address() {
    let client = Client::connect("127.0.0.1:1,127.0.0.1:2").await.unwrap();
    let error = client.execute("SELECT 1", &[]).await.unwrap_err();
    assert_eq!(error.sqlstate(), "08001");
    assert!(error.message().contains("127.0.0.1:1: ") && error.message().contains("127.0.0.1:2: "), "{error}");
}

/// Everything can be done in a spawned task.
#[tokio::test]
async fn futures_are_send() {
    fn check<T: Send>(_future: T) {}
    let (_server, client) = server().await;
    let (admin, keys) = (client.admin(), client.key_range());
    check(client.execute("SELECT 1", &[&"x"]));
    check(client.query_one("SELECT 1", &[]));
    check(client.session());
    check(admin.init());
    check(admin.stats());
    check(admin.ranges(RangeScope::All));
    check(admin.split(Place::row("t", &[&1i64])));
    check(keys.get(&[b"a"]));
    check(keys.put(&[(b"a", b"1")]));
    let key = b"a".to_vec();
    check(keys.transact(TransactionOptions::default(), async |mut tx| tx.get(&[&key], true).await));
}

#[tokio::test]
async fn admin_calls_go_through() {
    let (server, client) = server().await;
    let admin = client.admin();
    let node = admin.nodes().await.unwrap().remove(0);
    assert_eq!((node.id, node.address.as_str(), node.live), (1, server.address.to_string().as_str(), true));
    assert_eq!(node.state, "active");
    assert!(admin.change_node(1, NodeChange::Decommission).await.unwrap_err().message().contains("too few voters"));
    assert!(admin.statuses().await[0].1.as_ref().unwrap().initialised);
    assert_eq!(admin.init().await.unwrap_err().sqlstate(), "42710");
    assert_eq!(admin.stats().await[0].1.as_ref().unwrap()["commits_total"], 1);
}
