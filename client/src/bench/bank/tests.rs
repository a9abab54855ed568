//! The benchmark against a server on a real socket.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::*;
use crate::fake::{Bank, FakeServer};

fn options(addresses: String) -> BankOptions {
    BankOptions {
        accounts: 20,
        clients: 8,
        ranges: 4,
        duration: Duration::from_millis(400),
        progress: false,
        ..BankOptions::new(addresses)
    }
}

#[tokio::test]
async fn money_moves_and_stays() {
    let server = FakeServer::start(1, Arc::new(Bank::default())).await;
    let report = run(options(server.address.to_string())).await.unwrap();
    assert_eq!(report.verdict, Verdict::Ok, "{report}");
    assert!(report.transfers > 0 && report.audits > 1, "{report}");
    assert!(report.server_counters.is_some());
    assert!(report.transfer.p50_us <= report.transfer.max_us);
}

#[tokio::test]
async fn missing_money_is_found() {
    let bank = Arc::new(Bank::default());
    let server = FakeServer::start(1, bank.clone()).await;
    bank.embezzle.store(true, Ordering::Relaxed);
    let report = run(options(server.address.to_string())).await.unwrap();
    assert_eq!((report.verdict, report.exit_code()), (Verdict::Violation, 1));
    assert!(report.to_string().contains("VIOLATION: found 20 accounts with 19999 in all"), "{report}");
}

#[tokio::test]
async fn a_node_that_dies_causes_only_a_pause() {
    let bank = Arc::new(Bank::default());
    let first = FakeServer::start(1, bank.clone()).await;
    let second = FakeServer::start(2, bank).await;
    let addresses = format!("{},{}", first.address, second.address);
    let killer = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        drop(first);
    });
    let report = run(BankOptions { duration: Duration::from_millis(800), ..options(addresses) }).await.unwrap();
    killer.await.unwrap();
    assert_eq!(report.verdict, Verdict::Ok, "{report}");
}
