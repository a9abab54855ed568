//! Fifty nodes and five thousand ranges: a node is lost for good, nodes are added; and the cluster comes to rest with little more than
//! the moves that nobody could have saved.

mod cluster;

use std::collections::BTreeSet;
use std::time::Duration;

use cluster::{Cluster, range};
use proto::{NodeId, RangeId};
use range_split::placement::{Measure, Memory, Node, NodeStatus};

const ZONES: u64 = 5;
const MIB: u64 = 1 << 20;

/// A small random number generator (SplitMix64): the tests' dice.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }
}

fn node(id: u64) -> Node {
    let locality = format!("region=eu,zone=z{},host=h{id}", id % ZONES).parse().expect("a locality");
    Node { locality, bytes_capacity: 1 << 40, ..Node::default() }
}

/// A cluster that has come to rest: replicas of each range in three zones, sizes from 32 to 96 MiB, a few ranges much busier than others.
fn settled(nodes: u64, ranges: u64) -> Cluster {
    let mut dice = Dice(7);
    let mut cluster = Cluster::default();
    cluster.picture.nodes = (1..=nodes).map(|id| (NodeId(id), node(id))).collect();
    let per_zone = nodes / ZONES;
    for id in 1..=ranges {
        let first_zone = dice.roll(ZONES);
        let voter = |n: u64, dice: &mut Dice| 1 + (first_zone + 2 * n) % ZONES + ZONES * dice.roll(per_zone);
        let voters: Vec<u64> =
            (0..3).map(|n| voter(n, &mut dice)).map(|id| if id % nodes == 0 { nodes } else { id }).collect();
        let load = if dice.roll(50) == 0 { 200 + dice.roll(200) } else { dice.roll(40) };
        cluster.picture.ranges.insert(RangeId(id), range(id, &voters, (32 + dice.roll(65)) * MIB, load));
    }
    converge(&mut cluster, 2000);
    cluster.sent.clear();
    cluster.transfers = 0;
    cluster
}

/// Plans until there is nothing more to do; says how many rounds it took.
fn converge(cluster: &mut Cluster, rounds_max: usize) -> usize {
    for round in 0..rounds_max {
        if cluster.round(usize::MAX, Duration::from_secs(5)).operations.is_empty() {
            // What had to rest may move now.
            cluster.pass(cluster.picture.settings.rest);
            if cluster.round(usize::MAX, Duration::from_secs(5)).operations.is_empty() {
                return round;
            }
        }
    }
    panic!("not at rest after {rounds_max} rounds");
}

/// Bytes of ranges on each node that serves.
fn bytes(cluster: &Cluster) -> Vec<(NodeId, u64)> {
    let picture = &cluster.picture;
    let of = |node: &NodeId| {
        picture.ranges.values().filter(|r| r.descriptor.replica_on(*node).is_some()).map(|r| r.bytes).sum()
    };
    picture.nodes.iter().filter(|(_, n)| n.is_live()).map(|(id, _)| (*id, of(id))).collect()
}

fn bytes_sent(cluster: &Cluster) -> u64 {
    cluster.sent.iter().map(|(id, to)| cluster.picture.ranges[id].bytes * to.len() as u64).sum()
}

fn assert_calm(cluster: &Cluster) {
    let twice: Vec<_> = cluster.sent.iter().filter(|(_, to)| to.len() > 1).collect();
    assert!(twice.is_empty(), "moved twice: {twice:?}");
    for range in cluster.picture.ranges.values() {
        let voters: Vec<NodeId> = range.descriptor.voters().map(|r| r.node).collect();
        let zones: BTreeSet<u64> = voters.iter().map(|n| n.0 % ZONES).collect();
        assert!(voters.len() == 3 && zones.len() == 3, "{range:?}");
    }
    let all = bytes(cluster);
    let (min, max) = (all.iter().map(|b| b.1).min().unwrap(), all.iter().map(|b| b.1).max().unwrap());
    let mean = all.iter().map(|b| b.1).sum::<u64>() / all.len() as u64;
    assert!((max - min) * 1000 <= mean * 105, "from {min} to {max}");
    let mut noisy = cluster.clone();
    let mut dice = Dice(3);
    for round in 0..20 {
        for (id, range) in &mut noisy.picture.ranges {
            range.load = cluster.picture.ranges[id].load * (950 + dice.roll(101)) / 1000;
        }
        let plan = noisy.round(usize::MAX, Duration::from_secs(60));
        assert!(plan.operations.is_empty(), "round {round}: {:?}", plan.operations);
    }
}

#[test]
fn a_lost_node_is_replaced_without_a_move_too_many() {
    let mut cluster = settled(50, 5000);
    let lost = NodeId(17);
    let needed: u64 =
        cluster.picture.ranges.values().filter(|r| r.descriptor.replica_on(lost).is_some()).map(|r| r.bytes).sum();
    let replicas = cluster.picture.ranges.values().filter(|r| r.descriptor.replica_on(lost).is_some()).count();
    cluster.picture.nodes.get_mut(&lost).unwrap().status = NodeStatus::Suspect { since: cluster.picture.now };
    cluster.pass(Duration::from_secs(1));
    let plan = cluster.round(usize::MAX, Duration::from_secs(1));
    assert!(plan.operations.iter().all(|o| matches!(o.change, range_split::placement::Change::TransferLeader { .. })));
    cluster.pass(cluster.picture.settings.dead_after);
    let rounds = converge(&mut cluster, 200);
    let moves: usize = cluster.sent.values().map(Vec::len).sum();
    let sent = bytes_sent(&cluster);
    println!(
        "lost: {moves} moves of {replicas} needed, {} of {} MiB, {} transfers, {rounds} rounds",
        sent / MIB,
        needed / MIB,
        cluster.transfers
    );
    assert!(sent * 100 <= needed * 105, "{sent} for {needed}");
    assert!(rounds <= 60, "{rounds} rounds");
    assert_calm(&cluster);
}

#[test]
fn ten_new_nodes_are_filled_without_a_move_too_many() {
    let mut cluster = settled(50, 5000);
    cluster.picture.nodes.extend((51..=60).map(|id| (NodeId(id), node(id))));
    let rounds = converge(&mut cluster, 400);
    let all = bytes(&cluster);
    // What nobody could save: as far as the emptiest of the old nodes may remain above a new one, the new one need not be filled.
    let needed: u64 = all.iter().map(|b| b.1).sum::<u64>() / 60 * 95 / 100 * 10;
    let (moves, sent) = (cluster.sent.values().map(Vec::len).sum::<usize>(), bytes_sent(&cluster));
    println!(
        "added: {moves} moves, {} of {} MiB, {} transfers, {rounds} rounds",
        sent / MIB,
        needed / MIB,
        cluster.transfers
    );
    assert!(sent * 100 <= needed * 110, "{sent} for {needed}");
    assert!(rounds <= 200, "{rounds} rounds");
    assert_calm(&cluster);
    assert!(!cluster.plan(usize::MAX).memory.balancing.contains(&Measure::Bytes));
}

#[test]
fn a_planner_that_forgets_everything_finds_its_way() {
    let mut cluster = settled(20, 600);
    cluster.picture.nodes.extend((21..=25).map(|id| (NodeId(id), node(id))));
    for round in 0.. {
        assert!(round < 400, "no rest");
        cluster.memory = Memory::default();
        if cluster.round(usize::MAX, Duration::from_secs(5)).operations.is_empty() {
            break;
        }
    }
}

#[test]
fn twenty_thousand_ranges_are_planned_quickly() {
    let mut cluster = settled(50, 20_000);
    let time = |what: &str, cluster: &Cluster| {
        #[expect(clippy::disallowed_types, reason = "a test may look at the clock")]
        let before = std::time::Instant::now();
        let plan = cluster.plan(usize::MAX);
        let took = before.elapsed();
        println!("{what}: {} operations in {took:?}", plan.operations.len());
        // Generous: an optimised build on an idle machine takes a hundredth of it.
        assert!(took < Duration::from_secs(2), "{what}: {took:?}");
    };
    time("at rest", &cluster);
    cluster.picture.nodes.get_mut(&NodeId(17)).unwrap().status = NodeStatus::Dead { since: Duration::ZERO };
    cluster.pass(Duration::from_secs(1));
    time("a node lost", &cluster);
    cluster.picture.nodes.get_mut(&NodeId(17)).unwrap().status = NodeStatus::Live;
    cluster.picture.nodes.extend((51..=60).map(|id| (NodeId(id), node(id))));
    time("ten nodes added", &cluster);
}

/// Replicas that the planner has moved for merges, apart from those moved for balance, are at most three for each.
#[test]
fn small_ranges_become_few_without_a_move_too_many() {
    let mut dice = Dice(5);
    let mut cluster = Cluster::default();
    cluster.picture.nodes = (1..=20).map(|id| (NodeId(id), node(id))).collect();
    for id in 1..=1000 {
        let zone = dice.roll(ZONES);
        let voters: Vec<u64> = (0..3).map(|n| 1 + (zone + 2 * n) % ZONES + ZONES * dice.roll(4)).collect();
        cluster.picture.ranges.insert(RangeId(id), range(id, &voters, (1 + dice.roll(8)) * MIB, dice.roll(20)));
    }
    let held: u64 = cluster.picture.ranges.values().map(|r| r.size).sum();
    let (mut rounds, mut calm) = (0, Duration::ZERO);
    while calm < Duration::from_secs(1000) {
        let plan = cluster.round(64, Duration::from_secs(5));
        calm = if plan.operations.is_empty() { calm + Duration::from_secs(5) } else { Duration::ZERO };
        rounds += 1;
        assert!(rounds < 5000, "no rest");
    }
    let (left, sent) = (cluster.picture.ranges.len(), cluster.sent.values().map(Vec::len).sum::<usize>());
    println!("merged: 1000 ranges to {left}, {} merges, {sent} replicas moved, {rounds} rounds", cluster.merges);
    assert_eq!(cluster.merges + left, 1000);
    assert_eq!(cluster.picture.ranges.values().map(|r| r.size).sum::<u64>(), held);
    // Any two that touch hold more than half of what makes a range split, so few hold less than a quarter.
    let limits = &cluster.picture.limits;
    let fewest = held / limits.merge_bytes_max();
    assert!((left as u64) <= 3 * fewest, "{left} ranges for {fewest} at least");
    assert!(cluster.picture.ranges.values().all(|r| r.size <= limits.merge_bytes_max()));
    assert!(sent <= 4 * cluster.merges, "{sent} moves for {} merges", cluster.merges);
    for range in cluster.picture.ranges.values() {
        let zones: BTreeSet<u64> = range.descriptor.voters().map(|r| r.node.0 % ZONES).collect();
        assert_eq!(zones.len(), 3, "{range:?}");
    }
    let all = bytes(&cluster);
    let mean = all.iter().map(|b| b.1).sum::<u64>() / all.len() as u64;
    let most = all.iter().map(|b| b.1).max().unwrap();
    assert!(most - mean <= (mean / 10).max(cluster.picture.settings.bytes_floor), "{most} where the mean is {mean}");
}

/// Lulls that are shorter than a merge asks for merge nothing; and what is merged bears too little to be split again.
#[test]
fn splits_and_merges_do_not_chase_each_other() {
    let mut cluster = Cluster::default();
    cluster.picture.nodes = (1..=3).map(|id| (NodeId(id), node(id))).collect();
    cluster
        .picture
        .ranges
        .extend([(RangeId(1), range(1, &[1, 2, 3], MIB, 0)), (RangeId(2), range(2, &[1, 2, 3], MIB, 0))]);
    let second = Duration::from_secs(1);
    // Two minutes of work, two of rest: never cold for five.
    for lap in 0..20 {
        let load = if lap % 2 == 0 { 1300 } else { 0 };
        cluster.picture.ranges.values_mut().for_each(|range| range.load = load);
        (0..120).for_each(|_| drop(cluster.round(64, second)));
    }
    assert_eq!(cluster.merges, 0);
    // Just under what is merged, each with a noise of a tenth: they are merged once, and what they bear together splits nothing.
    let mut dice = Dice(9);
    for _ in 0..1000 {
        let each = 540 + dice.roll(60);
        cluster.picture.ranges.values_mut().for_each(|range| range.load = each);
        cluster.round(64, second);
        assert!(cluster.picture.ranges.values().all(|range| range.load < cluster.picture.limits.rate_max));
    }
    assert_eq!(cluster.merges, 1);
}
