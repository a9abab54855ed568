//! Work under idempotency keys takes effect once, under faults, over many seeds.

use std::time::Duration;

use cluster_tests::scenario::{draw, draw_untrusted, run};
use cluster_tests::sim::{Options, World};
use cluster_tests::workload::Work;
use cluster_tests::workload::keyed::Keyed;
use futures::future::BoxFuture;
use server::kv::idempotency::{CollectLimits, Collector, Guard, IdempotencyKey, key};
use server::kv::{BeginOptions, Db, Error, Kv, ScanOptions};

mod seeds;

const SECOND: u64 = 1_000_000_000;

#[test]
fn nodes_3_do_keyed_work_once_under_faults() {
    seeds::run(Work::Keyed, 3, 39, draw, "idempotency nodes_3");
}

/// A clock that is years ahead makes no key an old one.
#[test]
fn nodes_3_with_clocks_untrusted_do_keyed_work_once() {
    seeds::run(Work::Keyed, 3, 12, draw_untrusted, "idempotency nodes_3_with_clocks_untrusted");
}

#[test]
fn a_calm_cluster_does_keyed_work_once_and_never_lets_it_go_unanswered() {
    let clients = Keyed::default();
    let verdict = run(Options::calm(1, 3), &clients).verdict;
    assert_eq!(verdict.violations, Vec::<String>::new());
    assert!(verdict.tally.committed > 500, "{verdict:?}");
    assert_eq!(verdict.tally.unknown, 0);
    assert!(clients.history.lock().unwrap().replays > 50, "{verdict:?}");
}

/// All nodes collect, and no key outlives its time by much.
#[test]
fn keys_are_collected_when_their_time_is_over() {
    let start = |_: usize, db: &Db| -> Vec<BoxFuture<'static, ()>> {
        let db = db.clone();
        let limits = CollectLimits {
            retention: Duration::from_secs(8),
            page_rows: 3,
            page_bytes: 1 << 20,
            pause: Duration::from_millis(20),
        };
        vec![Box::pin(async move {
            let collector = Collector::new(std::sync::Arc::new(db.clone()), limits);
            loop {
                let pause = collector.step().await.unwrap_or_else(|_| collector.idle());
                db.sleep(pause).await;
            }
        })]
    };
    let mut world = World::new(Options::calm(7, 3), start, |_, _| Box::pin(async {}));
    world.run_until(3 * SECOND, |_| false);
    world.ask(0, 5 * SECOND, |db| Box::pin(write_keys(db))).expect("the keys are written");
    let mut left = Vec::new();
    for _ in 0..11 {
        left.push(world.ask(1, SECOND, |db| Box::pin(count_keys(db))).expect("the keys are counted"));
        let until = world.now() + SECOND;
        world.run_until(until, |_| false);
    }
    assert_eq!((left[0], left[7], left[10]), (20, 20, 0), "{left:?}");
}

async fn write_keys(db: Db) -> Result<(), Error> {
    for number in 0..20 {
        let mut txn = db.begin(BeginOptions::default()).await?;
        let key = IdempotencyKey::new(&format!("key {number}"))?;
        let mut guard = Guard::open(txn.as_mut(), key).await?;
        guard.seal(txn.as_mut(), db.clock().hlc)?;
        txn.commit().await?;
    }
    Ok(())
}

async fn count_keys(db: Db) -> Result<usize, Error> {
    let mut txn = db.begin(BeginOptions { read_only: true, ..BeginOptions::default() }).await?;
    let page = txn.scan(&key::rows(), ScanOptions::default()).await?;
    txn.commit().await?;
    Ok(page.rows.len())
}
