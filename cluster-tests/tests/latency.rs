//! What a commit costs in rounds and clock waits, as equalities: fixed link delays, no load, nothing else in the way.

use std::time::Duration;

use cluster_tests::sim::net::NetOptions;
use cluster_tests::sim::{Options, World};
use cluster_tests::workload::sql_bank;
use futures::future::BoxFuture;
use proto::{Key, keyspace};
use server::kv::{BeginOptions, Committed, Db, Error, Kv};

const SECOND: u64 = 1_000_000_000;
/// From one node to another.
const LINK: Duration = Duration::from_millis(10);
/// To a quorum and back.
const ROUND: Duration = Duration::from_millis(20);
/// Deliveries inside a node, and syncs.
const SLACK: Duration = Duration::from_micros(300);

fn key(n: u64) -> Key {
    Key([&[keyspace::APPLICATION], n.to_be_bytes().as_slice()].concat())
}

/// A cluster with 20 ranges, all led by the node that is returned with it; nothing has happened there for a while.
fn cluster(max_error: Duration) -> (World, usize) {
    let link = LINK.as_nanos() as u64;
    let mut options = Options::calm(1, 3);
    options.net = NetOptions { latency_min: link, latency_max: link, ..NetOptions::calm() };
    options.max_error = max_error;
    (options.sync_min, options.sync_max) = (1_000, 1_001);
    let no_split = |_: Db, _: u64| -> BoxFuture<'static, ()> { Box::pin(async {}) };
    let mut world = World::new(options, |_, _| Vec::new(), no_split);
    world.run_until(4 * SECOND, |_| false);
    let ranges = world.ask(0, SECOND, |db| Box::pin(async move { db.ranges(&proto::Span::point(&key(0))).await }));
    let leader = ranges.expect("the calm cluster answers")[0].leader.expect("somebody leads").0 as usize - 1;
    for n in 1..20 {
        // The right-hand range is led where the left-hand one is.
        world.ask(leader, SECOND, |db| Box::pin(async move { db.split(&key(n)).await })).expect("the split succeeds");
    }
    let until = world.now() + 4 * SECOND;
    world.run_until(until, |_| false);
    (world, leader)
}

/// A transaction that writes in so many ranges and thinks for a while before it commits; with how long it took from its begin.
fn commit(world: &mut World, node: usize, ranges: u64, think: Duration) -> (Committed, Duration) {
    let work = move |db: Db| -> BoxFuture<'static, Result<(Committed, Duration), Error>> {
        Box::pin(async move {
            let began = db.monotonic();
            let mut txn = db.begin(BeginOptions::default()).await?;
            for n in 0..ranges {
                txn.put(key(n), b"value".to_vec())?;
            }
            db.sleep(think).await;
            let committed = txn.commit().await?;
            Ok((committed, db.monotonic() - began))
        })
    };
    let done = world.ask(node, SECOND, work).expect("the commit succeeds");
    // What follows in the background is not to stand in the way of the next one.
    let until = world.now() + SECOND;
    world.run_until(until, |_| false);
    done
}

#[test]
fn committing_one_range_or_twenty_takes_one_quorum_round() {
    let (mut world, leader) = cluster(Duration::ZERO);
    let afar = (leader + 1) % 3;
    // Nobody there has heard of the splits yet: that costs redirects, and no transaction.
    commit(&mut world, afar, 20, Duration::ZERO);
    for ranges in [1, 2, 5, 20] {
        let (committed, took) = commit(&mut world, leader, ranges, Duration::ZERO);
        assert!(took >= ROUND && took < ROUND + SLACK, "{ranges} ranges took {took:?}");
        assert_eq!(committed.timings.clock_wait, Duration::ZERO);
        // On another node one message there and one back are added.
        let (_, took) = commit(&mut world, afar, ranges, Duration::ZERO);
        assert!(took >= 2 * ROUND && took < 2 * ROUND + SLACK, "{ranges} ranges from afar took {took:?}");
    }
}

#[test]
fn a_commit_waits_for_twice_the_clock_error_or_a_round_whichever_is_longer() {
    for error in [1, 9, 11, 40].map(Duration::from_millis) {
        let (mut world, leader) = cluster(error);
        for ranges in [1, 5] {
            let (_, took) = commit(&mut world, leader, ranges, Duration::ZERO);
            let expected = ROUND.max(2 * error);
            assert!(took >= expected && took < expected + SLACK, "error {error:?}, {ranges} ranges: {took:?}");
        }
    }
}

#[test]
fn a_transaction_that_ran_longer_than_twice_the_clock_error_waits_for_nothing() {
    let error = Duration::from_millis(40);
    let (mut world, leader) = cluster(error);
    for ranges in [1, 5] {
        let think = 2 * error;
        let (committed, took) = commit(&mut world, leader, ranges, think);
        assert_eq!(committed.timings.clock_wait, Duration::ZERO);
        assert!(took < think + ROUND + SLACK, "{ranges} ranges: {took:?}");
    }
}

#[test]
fn an_autocommit_statement_costs_no_more() {
    let (mut world, leader) = cluster(Duration::from_millis(1));
    let statement = |text: &'static str| {
        move |db: Db| -> BoxFuture<'static, Result<Duration, Error>> {
            Box::pin(async move {
                let mut session = sql_bank::session(&sql_bank::open(&db));
                // Plans and descriptors are looked up the first time.
                sql_bank::run(&mut session, "SELECT v FROM t WHERE id = 1", &[]).await.expect("it is read");
                let began = db.monotonic();
                sql_bank::run(&mut session, text, &[]).await.expect("it succeeds");
                Ok(db.monotonic() - began)
            })
        }
    };
    let create = |db: Db| -> BoxFuture<'static, Result<(), Error>> {
        Box::pin(async move {
            let mut session = sql_bank::session(&sql_bank::open(&db));
            for text in ["CREATE TABLE t (id INT8 PRIMARY KEY, v INT8)", "INSERT INTO t VALUES (1, 1)"] {
                sql_bank::run(&mut session, text, &[]).await.expect("the calm cluster takes it");
            }
            Ok(())
        })
    };
    world.ask(leader, 2 * SECOND, create).expect("it answers");
    for text in ["UPDATE t SET v = 2 WHERE id = 1", "INSERT INTO t VALUES (2, 2)", "DELETE FROM t WHERE id = 1"] {
        let took = world.ask(leader, SECOND, statement(text)).expect("it answers");
        assert!(took >= ROUND && took < ROUND + 2 * SLACK, "{text} took {took:?}");
    }
}
