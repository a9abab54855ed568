//! Replicas that have applied the same entries must hold the same bytes.

use std::collections::{BTreeMap, BTreeSet};

use proto::{Key, RangeDescriptor, RangeId};
use txn::engine::{self, Space};
use txn::keys;

use crate::sim::World;

/// What one replica holds.
#[derive(PartialEq, Eq)]
struct Held {
    applied: u64,
    descriptor: RangeDescriptor,
    data: Vec<(u8, Vec<u8>, Vec<u8>)>,
}

/// Differences between replicas with the same applied index, and ranges whose replicas have not come together.
pub fn violations(world: &World) -> Vec<String> {
    let mut ranges: BTreeMap<RangeId, Vec<(usize, Held)>> = BTreeMap::new();
    for node in world.nodes.iter().filter(|node| world.is_whole(node.index)) {
        let Some(process) = &node.process else { continue };
        for replica in process.store.replicas() {
            if replica.stopped.is_some() && node.disk.rotten {
                continue;
            }
            if let Some(why) = &replica.stopped {
                return vec![format!("{} on node {} has stopped: {why}", replica.descriptor().id, node.index)];
            }
            let span = replica.descriptor().span();
            let mut data = Vec::new();
            let bounds = [
                (Space::Versions, keys::versions_of(&span.start), keys::versions_of(&span.end)),
                (Space::Intents, span.start.0.clone(), span.end.0.clone()),
                (Space::Local, keys::records_of(&span.start), keys::records_of(&span.end)),
            ];
            let mut unreadable = false;
            for (space, start, end) in bounds {
                let all = engine::visit(process.store.engine(), space, &start, &end, |key, value| {
                    data.push((space as u8, key.to_vec(), value.to_vec()));
                    Ok(true)
                });
                unreadable |= all.is_err();
            }
            if unreadable {
                assert!(node.disk.rotten, "node {} cannot read a disk that nobody has damaged", node.index);
                continue;
            }
            let held = Held { applied: replica.applied.index, descriptor: replica.descriptor().clone(), data };
            ranges.entry(replica.descriptor().id).or_default().push((node.index, held));
        }
    }
    let mut found = Vec::new();
    for (range, replicas) in ranges {
        for pair in replicas.windows(2) {
            let ((a, left), (b, right)) = (&pair[0], &pair[1]);
            if left.applied != right.applied {
                let (l, r) = (left.applied, right.applied);
                found.push(format!("{range}: node {a} has applied {l} and node {b} {r}"));
            } else if left != right {
                let differs = |x: &Held, y: &Held| -> Vec<String> {
                    let missing = x.data.iter().filter(|item| !y.data.contains(item)).take(3);
                    missing
                        .map(|(space, key, value)| format!("{space}:{}={}", Key::from(&key[..]), Key::from(&value[..])))
                        .collect()
                };
                let (only_a, only_b) = (differs(left, right), differs(right, left));
                let (l, r) = (&left.descriptor, &right.descriptor);
                found.push(format!(
                    "{range}: nodes {a} ({l}) and {b} ({r}) differ at entry {}: {only_a:?} against {only_b:?}",
                    left.applied
                ));
            }
        }
        found.extend(misplaced(world, range, &replicas));
    }
    found
}

/// A range has replicas where its newest descriptor says, and nowhere else.
fn misplaced(world: &World, range: RangeId, replicas: &[(usize, Held)]) -> Option<String> {
    let newest = replicas.iter().map(|(_, held)| &held.descriptor).max_by_key(|descriptor| descriptor.epoch)?;
    // A replica that has stopped applies no split either, so on a damaged disk any may be missing.
    let sound = |node: usize| world.is_whole(node) && !world.nodes[node].disk.rotten;
    let expected = newest.replicas.iter().map(|replica| replica.node.0 as usize - 1).filter(|node| sound(*node));
    let expected: BTreeSet<usize> = expected.collect();
    let held: BTreeSet<usize> = replicas.iter().map(|(node, _)| *node).filter(|node| sound(*node)).collect();
    (held != expected).then(|| format!("{range} has replicas on the nodes {held:?}, not on {expected:?}"))
}
