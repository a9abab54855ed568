//! The meta range comes to say what is the case though leaders' publications fail: gateways that have yet to find a range find it there.

use std::collections::BTreeMap;

use cluster_tests::sim::{Options, World};
use futures::future::BoxFuture;
use proto::{Key, NodeId, RangeDescriptor, RangeId, keyspace};
use server::kv::{Db, Kv};
use server::probe::Point;

const SECOND: u64 = 1_000_000_000;
const RANGES: u64 = 20;

fn key(n: u64) -> Key {
    Key([&[keyspace::APPLICATION], n.to_be_bytes().as_slice()].concat())
}

/// What the replicas themselves know, whatever anybody was told.
fn descriptors(world: &World) -> Vec<RangeDescriptor> {
    let stores = world.nodes.iter().filter_map(|node| node.process.as_ref()).map(|process| &process.store);
    let all = stores.flat_map(|store| store.replicas()).map(|replica| replica.descriptor());
    let mut newest: BTreeMap<RangeId, RangeDescriptor> = BTreeMap::new();
    for descriptor in all {
        let known = newest.entry(descriptor.id).or_insert_with(|| descriptor.clone());
        if known.epoch < descriptor.epoch {
            *known = descriptor.clone();
        }
    }
    newest.into_values().collect()
}

fn idle(world: &mut World, seconds: u64) {
    let until = world.now() + seconds * SECOND;
    world.run_until(until, |_| false);
}

#[test]
fn what_no_leader_has_published_is_published_all_the_same() {
    let mut options = Options { replicas: 3, ..Options::calm(1, 4) };
    options.knobs.place_replicas = true;
    options.points.insert(Point::PublicationLost, 1);
    let nothing = |_: Db, _: u64| -> BoxFuture<'static, ()> { Box::pin(async {}) };
    let mut world = World::new(options, |_, _| Vec::new(), nothing);
    idle(&mut world, 4);
    for n in 1..RANGES {
        world.ask(0, 4 * SECOND, |db| Box::pin(async move { db.split(&key(n)).await })).expect("the split succeeds");
    }
    // Replicas move to the fourth node: it is for leaders to say so.
    idle(&mut world, 60);
    let moved = descriptors(&world)
        .iter()
        .filter(|range| range.replicas.iter().any(|replica| replica.node == NodeId(4)))
        .count();
    assert!(moved as u64 >= RANGES / 4, "{moved} ranges have moved");
    let wanted = descriptors(&world);
    let missing = world.ask(1, 4 * SECOND, |db| Box::pin(async move { db.unpublished(wanted).await }));
    assert_eq!(missing.expect("the meta range answers"), []);
}
