//! Many ranges are cheap: what is idle costs neither ticks nor messages, and comes back when it is needed. Only counts are compared.

use std::time::Duration;

use cluster_tests::sim::{Options, World};
use futures::future::BoxFuture;
use proto::{Key, keyspace};
use server::kv::{BeginOptions, Db, Error, Kv};
use server::probe::Path;
use server::store::StoreStats;

const SECOND: u64 = 1_000_000_000;
const RANGES: u64 = 200;

fn key(n: u64) -> Key {
    Key([&[keyspace::APPLICATION], n.to_be_bytes().as_slice()].concat())
}

/// Three nodes with many ranges, asked nothing for a while.
fn cluster(place_replicas: bool) -> World {
    let mut options = Options::calm(1, 3);
    options.knobs.place_replicas = place_replicas;
    options.knobs.splitting.merge_age_min = Duration::from_secs(30);
    let no_split = |_: Db, _: u64| -> BoxFuture<'static, ()> { Box::pin(async {}) };
    let mut world = World::new(options, |_, _| Vec::new(), no_split);
    let until = 4 * SECOND;
    world.run_until(until, |_| false);
    for n in 1..RANGES {
        world.ask(0, 4 * SECOND, |db| Box::pin(async move { db.split(&key(n)).await })).expect("the split succeeds");
    }
    // Then nobody looks any more whether the meta range has them all.
    idle(&mut world, 20);
    world
}

fn idle(world: &mut World, seconds: u64) {
    let until = world.now() + seconds * SECOND;
    world.run_until(until, |_| false);
}

fn stats(world: &World) -> Vec<StoreStats> {
    world.nodes.iter().filter_map(|node| node.process.as_ref()).map(|process| process.store.stats()).collect()
}

/// Ranges that some node leads, and how many of the replicas everywhere are quiet.
fn led_and_quiet(world: &World) -> (usize, usize) {
    let stores = || world.nodes.iter().filter_map(|node| node.process.as_ref()).map(|process| &process.store);
    let led = stores().flat_map(|store| store.replicas()).filter(|replica| replica.is_serving()).count();
    let quiet = stores().flat_map(|store| store.replicas()).filter(|replica| replica.is_quiet()).count();
    (led, quiet)
}

fn put_everywhere(db: Db) -> BoxFuture<'static, Result<(), Error>> {
    Box::pin(async move {
        for n in 0..RANGES {
            let mut txn = db.begin(BeginOptions::default()).await?;
            txn.put(key(n), b"value".to_vec())?;
            txn.commit().await?;
        }
        Ok(())
    })
}

#[test]
fn an_idle_minute_ticks_no_group_and_sends_nothing_for_any() {
    // The placement driver would write down what it does.
    let mut world = cluster(false);
    let ranges = RANGES as usize + 1;
    assert_eq!(led_and_quiet(&world), (ranges, 3 * ranges));
    let before = stats(&world);
    idle(&mut world, 60);
    for (before, after) in before.into_iter().zip(stats(&world)) {
        assert_eq!(after.group_ticks, before.group_ticks);
        assert_eq!(after.raft_messages, before.raft_messages);
        assert_eq!(after.counts, before.counts);
    }
    // Beats there are: one a pair and interval.
    world.ask(1, 20 * SECOND, put_everywhere).expect("every range wakes");
    idle(&mut world, 10);
    assert_eq!(led_and_quiet(&world), (ranges, 3 * ranges));
}

/// It reads the meta range, whose load it reports to itself.
#[test]
fn the_placement_driver_looks_at_ranges_at_rest_once_a_minute() {
    let mut world = cluster(true);
    idle(&mut world, 30);
    let looks = |world: &World| world.probe.coverage().paths.get(&Path::LookedAtAll).copied().unwrap_or_default();
    let before = looks(&world);
    assert!(before > 10, "it looks while ranges are split: {before}");
    idle(&mut world, 120);
    let looked = looks(&world) - before;
    assert!((1..=3).contains(&looked), "it looked {looked} times");
}

/// Time alone makes them ripe for it: nothing is reported.
#[test]
fn ranges_at_rest_are_merged_when_they_have_been_cold_for_long_enough() {
    let mut world = cluster(true);
    idle(&mut world, 30);
    let told = |world: &World| world.probe.coverage().paths.get(&Path::Merged).copied().unwrap_or_default();
    assert_eq!(told(&world), 0, "the boundaries were asked for");
    world.ask(0, 4 * SECOND, |db| Box::pin(async move { db.unsplit(&key(7)).await })).expect("it is given up");
    // Half a minute, and ten seconds at most until somebody looks.
    idle(&mut world, 29);
    assert_eq!(told(&world), 0);
    idle(&mut world, 16);
    assert_eq!(told(&world), 3, "a replica of each node has taken in another");
}
