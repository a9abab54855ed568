//! Findings of clusters that lost nodes, and what is planned for them.

use proptest::prelude::*;
use proto::ReplicaRole::{Incoming, Learner, Outgoing, Voter};
use proto::range::Frozen;
use proto::{
    ClusterId, Key, Locality, NodeDescriptor, NodeRecord, ReplicaDescriptor, ReplicaId, ReplicaRole, StoreId, Timestamp,
};

use super::super::findings::{Found, Grave, Hollow, Store};
use super::*;
use crate::raft::record::LogPosition;
use crate::range::state::{RangeState, Tombstone};

/// Replicas 1, 2, ... on nodes of these numbers.
fn range(id: u64, start: &str, end: &str, epoch: u64, on: &[(u64, ReplicaRole)]) -> RangeDescriptor {
    let replica =
        |(n, id): (&(u64, ReplicaRole), u64)| ReplicaDescriptor { node: NodeId(n.0), id: ReplicaId(id), role: n.1 };
    let replicas = on.iter().zip(1..).map(replica).collect();
    RangeDescriptor::new(RangeId(id), Span::new(start, end), Epoch(epoch), replicas)
}

fn voters(id: u64, start: &str, end: &str, epoch: u64, nodes: &[u64]) -> RangeDescriptor {
    let on: Vec<(u64, ReplicaRole)> = nodes.iter().map(|node| (*node, Voter)).collect();
    range(id, start, end, epoch, &on)
}

fn state(descriptor: &RangeDescriptor) -> RangeState {
    RangeState::new(descriptor.clone(), Timestamp(1))
}

fn found(node: u64, descriptor: &RangeDescriptor, term: u64, index: u64) -> Found {
    let last = LogPosition { index, term };
    Found {
        replica: descriptor.replica_on(NodeId(node)).map_or(ReplicaId(99), |me| me.id),
        state: state(descriptor),
        steps: vec![descriptor.clone()],
        births: Vec::new(),
        newest: Timestamp::from_micros(1_700_000_000_000_000),
        applied: last,
        committed: index,
        last,
        term,
        takes: Vec::new(),
        cut: None,
        torn: None,
    }
}

/// What a node of five holds; the first one also everything before `a` and from `z` on.
fn holds(node: u64, replicas: Vec<Found>) -> Findings {
    let member = |id: u64| {
        let (address, boot_id) = (format!("host:{id}"), "boot".to_string());
        NodeRecord::founding(NodeDescriptor { id: NodeId(id), address, boot_id, locality: Locality::default() })
    };
    let store = Store {
        cluster: ClusterId(7),
        node: NodeId(node),
        store: StoreId(u128::from(node)),
        starts: 3,
        members: (1..=5).map(member).collect(),
        begun: None,
    };
    let mut replicas = replicas;
    if node == 1 {
        replicas.push(found(1, &voters(1, "", "a", 1, &[1]), 6, 10));
        let end = RangeDescriptor { end: Key::max(), ..voters(2, "z", "zz", 1, &[1]) };
        replicas.push(found(1, &end, 6, 10));
    }
    let (hollow, graves, tables, ranges) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    Findings { store, ceiling: Timestamp(node << 40), replicas, hollow, graves, tables, ranges }
}

fn ask(dead: &[u64]) -> Request {
    Request { dead: dead.iter().map(|node| NodeId(*node)).collect(), accept_lost_keys: false }
}

fn refused(findings: &[Findings], request: &Request, words: &str) {
    let why = plan(findings, request).unwrap_err().join("\n");
    assert!(why.contains(words), "{why}");
}

/// A line for each range between `a` and `z`.
fn shown(plan: &Plan) -> Vec<String> {
    let line = |range: &RangePlan| {
        let span = range.span().unwrap();
        let on = range.becomes.map(|becomes| format!(" on n{}", becomes.node)).unwrap_or_default();
        let of = range.source.map(|source| format!(" of r{} on n{}", source.range, source.node)).unwrap_or_default();
        format!("{:?} r{} {span}{on}{of}", range.action, range.range)
    };
    plan.ranges.iter().filter(|range| range.range > 2).map(line).collect()
}

fn of(plan: &Plan, range: u64) -> &RangePlan {
    plan.ranges.iter().find(|plan| plan.range == range).unwrap()
}

#[test]
fn a_range_with_its_majority_goes_on_and_one_without_is_rebuilt_from_the_furthest_log() {
    let (kept, lost) = (voters(3, "a", "m", 4, &[1, 2, 3]), voters(4, "m", "z", 7, &[1, 2, 3, 4, 5]));
    let findings = [
        holds(1, vec![found(1, &kept, 8, 20), found(1, &lost, 8, 90)]),
        holds(2, vec![found(2, &kept, 8, 21), found(2, &lost, 9, 70)]),
    ];
    let plan = plan(&findings, &ask(&[3, 4, 5])).unwrap();
    assert_eq!(shown(&plan), ["Keep r3 [a, m)", "Rebuild r4 [m, z) on n2 of r4 on n2"]);
    let becomes = of(&plan, 4).becomes.unwrap();
    assert_eq!((becomes.epoch, becomes.replica, becomes.term), (1007, 1006, 9), "beyond what anybody may have given");
    assert!(plan.read_floor > Timestamp(2 << 40).0, "beyond all that any survivor has heard of");
    assert!(of(&plan, 4).loss.as_ref().unwrap().contains("is lost; nothing tells"));
    assert_eq!(plan.dead.iter().map(|dead| dead.node).collect::<Vec<_>>(), [3, 4, 5]);
    assert_eq!(plan, super::plan(&findings, &ask(&[3, 4, 5])).unwrap(), "the same again");
}

#[test]
fn where_the_dead_were_no_majority_nothing_acknowledged_is_missing() {
    let lost = voters(3, "a", "z", 4, &[1, 2, 3, 4]);
    let findings =
        [holds(1, vec![found(1, &lost, 8, 20)]), holds(2, vec![found(2, &lost, 8, 21)]), holds(5, Vec::new())];
    let plan = plan(&findings, &ask(&[3, 4])).unwrap();
    assert_eq!(shown(&plan), ["Rebuild r3 [a, z) on n2 of r3 on n2"]);
    assert!(of(&plan, 3).loss.as_ref().unwrap().contains("Nothing that was acknowledged is missing"));
}

#[test]
fn a_joint_configuration_needs_both_majorities() {
    let joint = range(3, "a", "z", 4, &[(1, Voter), (2, Outgoing), (3, Outgoing), (4, Incoming), (5, Incoming)]);
    let on = |node| holds(node, vec![found(node, &joint, 8, 20)]);
    let only_new = plan(&[on(1), on(4), on(5)], &ask(&[2, 3])).unwrap();
    assert_eq!(of(&only_new, 3).action, Action::Rebuild);
    let both = plan(&[on(1), on(2), on(4)], &ask(&[3, 5])).unwrap();
    assert_eq!(of(&both, 3).action, Action::Keep);
    // One that is still in the log counts as well: whoever leads has to get it committed.
    let mut coming = found(1, &joint, 8, 20);
    coming.steps.insert(0, voters(3, "a", "z", 3, &[1, 2, 3]));
    let mut old = found(2, &voters(3, "a", "z", 3, &[1, 2, 3]), 8, 19);
    old.committed = 19;
    let plan = plan(&[holds(1, vec![coming]), holds(2, vec![old])], &ask(&[3, 4, 5])).unwrap();
    assert_eq!(shown(&plan), ["Rebuild r3 [a, z) on n1 of r3 on n1"]);
}

#[test]
fn a_survivor_that_lags_behind_a_split_gives_way_to_those_that_do_not() {
    let wide = voters(3, "a", "z", 4, &[1, 3, 4]);
    let right = voters(9, "m", "z", 5, &[2, 3, 4]);
    let findings =
        [holds(1, vec![found(1, &wide, 8, 20)]), holds(2, vec![found(2, &right, 6, 7)]), holds(5, Vec::new())];
    let plan = plan(&findings, &ask(&[3, 4])).unwrap();
    assert_eq!(shown(&plan), ["Rebuild r3 [a, m) on n1 of r3 on n1", "Rebuild r9 [m, z) on n2 of r9 on n2"]);
}

#[test]
fn where_nothing_of_a_split_survives_it_did_not_happen() {
    let wide = voters(3, "a", "z", 4, &[1, 3, 4]);
    let mut first = holds(1, vec![found(1, &wide, 8, 20)]);
    first.ranges = vec![voters(9, "m", "z", 5, &[2, 3, 4])];
    let plan = plan(&[first, holds(2, Vec::new()), holds(5, Vec::new())], &ask(&[3, 4])).unwrap();
    assert_eq!(shown(&plan), ["Rebuild r3 [a, z) on n1 of r3 on n1"]);
}

#[test]
fn an_older_copy_fills_the_place_of_what_was_split_off_and_is_gone() {
    let (wide, left) = (voters(3, "a", "z", 4, &[1, 2, 3, 4, 5]), voters(3, "a", "m", 5, &[1, 2, 3, 4, 5]));
    let mut first = holds(1, vec![found(1, &left, 8, 30)]);
    let findings = |first: &Findings| [first.clone(), holds(2, vec![found(2, &wide, 8, 20)])];
    let unknown = plan(&findings(&first), &ask(&[3, 4, 5])).unwrap();
    let id = unknown.next_range - 1;
    assert!(id > 1 << 20);
    assert_eq!(shown(&unknown)[1], format!("Fill r{id} [m, z) on n2 of r3 on n2"));
    // It keeps its id if anybody knows it.
    first.ranges = vec![voters(9, "m", "z", 5, &[3, 4, 5])];
    let known = plan(&findings(&first), &ask(&[3, 4, 5])).unwrap();
    assert_eq!(shown(&known), ["Rebuild r3 [a, m) on n1 of r3 on n1", "Fill r9 [m, z) on n2 of r3 on n2"]);
    assert!(of(&known, 9).loss.as_ref().unwrap().contains("had been split off r3"));
}

#[test]
fn a_split_in_the_log_takes_effect() {
    let (left, right) = (voters(3, "a", "m", 5, &[1, 3, 4]), voters(9, "m", "z", 5, &[1, 3, 4]));
    let mut lags = found(1, &left, 8, 20);
    lags.births = vec![state(&right)];
    let findings = [holds(1, vec![lags]), holds(2, Vec::new()), holds(5, Vec::new())];
    let born = plan(&findings, &ask(&[3, 4])).unwrap();
    assert_eq!(shown(&born), ["Rebuild r3 [a, m) on n1 of r3 on n1", "Rebuild r9 [m, z) on n1 of r9 on n1"]);
    assert_eq!(of(&born, 9).source.unwrap().born_of, Some(3));
    // Who has it already is further.
    let right = voters(9, "m", "z", 6, &[2, 3, 4]);
    let mut findings = findings;
    findings[1] = holds(2, vec![found(2, &right, 6, 6)]);
    assert_eq!(shown(&plan(&findings, &ask(&[3, 4])).unwrap())[1], "Rebuild r9 [m, z) on n2 of r9 on n2");
}

#[test]
fn a_merge_in_the_log_takes_the_other_half_along() {
    let (merged, right) = (voters(3, "a", "z", 9, &[1, 2, 3]), voters(4, "m", "z", 8, &[1, 2, 3]));
    let takes = |node| Found { takes: vec![RangeId(4)], ..found(node, &merged, 8, 20) };
    let (first, second) = (holds(1, vec![takes(1), found(1, &right, 8, 9)]), holds(2, vec![takes(2)]));
    let kept = plan(&[first.clone(), second], &ask(&[3, 4, 5])).unwrap();
    assert_eq!(shown(&kept), ["Keep r3 [a, z)", "Keep r4 [m, z)"], "it goes when the other one runs");
    let lost = plan(&[first, holds(4, Vec::new()), holds(5, Vec::new())], &ask(&[2, 3])).unwrap();
    assert_eq!(shown(&lost), ["Rebuild r3 [a, z) on n1 of r3 on n1", "Drop r4 [m, z)"]);
}

#[test]
fn hollow_replicas_vote_and_are_no_source() {
    let lost = voters(3, "a", "z", 4, &[1, 2, 3]);
    let hollow = |term, index| {
        let mut second = holds(2, Vec::new());
        let last = LogPosition { index, term };
        second.hollow = vec![Hollow { range: RangeId(3), replica: ReplicaId(2), last }];
        second
    };
    let first = holds(1, vec![found(1, &lost, 8, 20)]);
    let action = |second| of(&plan(&[first.clone(), second], &ask(&[3, 4, 5])).unwrap(), 3).action;
    assert_eq!(action(hollow(8, 20)), Action::Keep);
    assert_eq!(action(hollow(8, 21)), Action::Rebuild, "it would not vote for the only one that can lead");
    refused(&[holds(1, Vec::new()), hollow(8, 20)], &ask(&[3, 4, 5]), "nothing survives of the keys");
}

#[test]
fn a_removed_replica_has_no_vote() {
    let old = voters(3, "a", "z", 4, &[1, 2, 3]);
    let mut second = holds(2, Vec::new());
    let now = RangeDescriptor { next_replica: ReplicaId(9), ..voters(3, "a", "z", 9, &[3, 4, 5]) };
    let tombstone = Tombstone { next_replica: ReplicaId(9), descriptor: now };
    second.graves = vec![Grave { range: RangeId(3), tombstone }];
    let plan = plan(&[holds(1, vec![found(1, &old, 8, 20)]), second], &ask(&[3, 4, 5])).unwrap();
    assert_eq!(shown(&plan), ["Rebuild r3 [a, z) on n1 of r3 on n1"]);
    let becomes = of(&plan, 3).becomes.unwrap();
    assert!(becomes.replica > 1000 && becomes.epoch > 1000, "beyond what the tombstone tells of");
}

/// What a store is left with that has applied a merge.
fn taken_in(range: u64, by: &RangeDescriptor) -> Grave {
    Grave { range: RangeId(range), tombstone: Tombstone::subsumed_by(by.clone()) }
}

fn frozen(mut found: Found, left: &RangeDescriptor) -> Found {
    let (left, left_start, left_epoch) = (left.id, left.start.clone(), left.epoch);
    found.state.frozen = Some(Frozen { left, left_start, left_epoch, read_summary: Timestamp(9), index: 9, term: 8 });
    found
}

#[test]
fn a_range_that_has_taken_in_another_goes_on_with_its_majority() {
    let merged = voters(3, "a", "z", 9, &[1, 2, 3]);
    let on = |node| {
        let mut holds = holds(node, vec![found(node, &merged, 8, 20)]);
        holds.graves = vec![taken_in(4, &merged)];
        holds
    };
    let kept = plan(&[on(1), on(2)], &ask(&[3, 4, 5])).unwrap();
    assert_eq!(shown(&kept), ["Keep r3 [a, z)"]);
    assert!(of(&kept, 3).replicas.iter().filter(|replica| !replica.contains("dead")).count() == 2);
    let lost = plan(&[on(1), holds(4, Vec::new()), holds(5, Vec::new())], &ask(&[2, 3])).unwrap();
    assert_eq!(shown(&lost), ["Rebuild r3 [a, z) on n1 of r3 on n1"]);
}

#[test]
fn a_merge_that_only_some_have_applied_needs_what_is_left_of_the_other_half() {
    let all = [1, 2, 3, 4, 5];
    let (left, right) = (voters(3, "a", "m", 7, &all), voters(4, "m", "z", 7, &all));
    let merged = voters(3, "a", "z", 8, &all);
    let done = |node| {
        let mut holds = holds(node, vec![found(node, &merged, 8, 20)]);
        holds.graves = vec![taken_in(4, &merged)];
        holds
    };
    // It holds the merge in its log, or has not even got it.
    let right = |node| frozen(found(node, &right, 8, 9), &left);
    let comes = |node| holds(node, vec![Found { takes: vec![RangeId(4)], ..found(node, &merged, 8, 20) }, right(node)]);
    let lags = |node| holds(node, vec![found(node, &left, 8, 18), right(node)]);
    let both = ["Keep r3 [a, z)", "Keep r4 [m, z)"];
    assert_eq!(shown(&plan(&[done(1), comes(2), comes(3)], &ask(&[4, 5])).unwrap()), both);
    assert_eq!(shown(&plan(&[done(1), comes(2), lags(3), lags(4)], &ask(&[5])).unwrap()), both);
    assert_eq!(
        shown(&plan(&[done(1), lags(2), lags(3), lags(4)], &ask(&[5])).unwrap()),
        ["Keep r3 [a, z)", "Keep r4 [m, z)"]
    );
    // Whoever has lost the majority of both takes the copy that knows of the merge.
    let lost = plan(&[done(1), lags(2)], &ask(&[3, 4, 5])).unwrap();
    assert_eq!(shown(&lost), ["Rebuild r3 [a, z) on n1 of r3 on n1", "Drop r4 [m, z)"]);
    let open = plan(&[lags(1), lags(2)], &ask(&[3, 4, 5])).unwrap();
    assert_eq!(shown(&open), ["Rebuild r3 [a, m) on n1 of r3 on n1", "Rebuild r4 [m, z) on n1 of r4 on n1"]);
}

#[test]
fn the_id_of_a_range_that_was_taken_in_is_not_given_again() {
    let merged = voters(3, "a", "z", 9, &[1, 2, 3, 4, 5]);
    let mut first = holds(1, Vec::new());
    first.graves = vec![taken_in(4, &merged)];
    first.ranges = vec![voters(4, "a", "z", 7, &[3, 4, 5])];
    let accept = Request { accept_lost_keys: true, ..ask(&[3, 4, 5]) };
    let emptied = plan(&[first, holds(2, Vec::new())], &accept).unwrap();
    assert_eq!(shown(&emptied), ["Empty r3 [a, z) on n2"]);
}

#[test]
fn contents_that_are_of_no_single_moment_are_taken_only_where_there_are_no_others() {
    let lost = voters(3, "a", "z", 4, &[1, 2, 3, 4, 5]);
    let torn = Found { torn: Some(40), ..found(1, &lost, 8, 30) };
    let both = plan(&[holds(1, vec![torn.clone()]), holds(2, vec![found(2, &lost, 8, 20)])], &ask(&[3, 4, 5])).unwrap();
    assert_eq!(shown(&both), ["Rebuild r3 [a, z) on n2 of r3 on n2"]);
    assert!(of(&both, 3).why.contains("of those whose contents are whole"));
    assert!(of(&both, 3).loss.as_ref().unwrap().contains("n1's log goes further, up to entry 30"));
    let alone = plan(&[holds(1, vec![torn.clone()]), holds(2, Vec::new())], &ask(&[3, 4, 5])).unwrap();
    assert_eq!(shown(&alone), ["Rebuild r3 [a, z) on n1 of r3 on n1"]);
    let loss = of(&alone, 3).loss.as_ref().unwrap();
    assert!(
        loss.contains("not of one moment") && loss.contains("entry 40") && !loss.contains("holds everything"),
        "{loss}"
    );
    // Raft elects by logs alone.
    let three = [holds(1, vec![torn]), holds(2, vec![found(2, &lost, 8, 20)]), holds(3, vec![found(3, &lost, 8, 20)])];
    assert_eq!(of(&plan(&three, &ask(&[4, 5])).unwrap(), 3).action, Action::Keep);
    // An older copy of a range that was split off: its loss says the same.
    let (wide, left) = (voters(3, "a", "z", 4, &[1, 2, 3, 4, 5]), voters(3, "a", "m", 5, &[1, 2, 3, 4, 5]));
    let wide = Found { torn: Some(40), ..found(2, &wide, 8, 20) };
    let filled = plan(&[holds(1, vec![found(1, &left, 8, 30)]), holds(2, vec![wide])], &ask(&[3, 4, 5])).unwrap();
    assert!(filled.ranges.iter().any(|r| r.action == Action::Fill && r.loss.as_ref().unwrap().contains("one moment")));
}

#[test]
fn learners_are_a_source_where_their_logs_go_furthest() {
    let lost = range(3, "a", "z", 4, &[(1, Voter), (3, Voter), (4, Voter), (2, Learner)]);
    let findings =
        [holds(1, vec![found(1, &lost, 8, 20)]), holds(2, vec![found(2, &lost, 8, 25)]), holds(5, Vec::new())];
    assert_eq!(shown(&plan(&findings, &ask(&[3, 4])).unwrap()), ["Rebuild r3 [a, z) on n2 of r3 on n2"]);
}

#[test]
fn keys_without_a_survivor_are_given_up_only_when_that_is_said_and_never_the_systems() {
    let findings = [holds(1, Vec::new()), holds(2, Vec::new())];
    refused(&findings, &ask(&[3, 4, 5]), "give up their rows with --accept-lost-keys");
    let accept = Request { accept_lost_keys: true, ..ask(&[3, 4, 5]) };
    let emptied = plan(&findings, &accept).unwrap();
    let id = emptied.next_range - 1;
    assert_eq!(shown(&emptied), [format!("Empty r{id} [a, z) on n2")]);
    refused(&[holds(2, Vec::new())], &Request { dead: ask(&[1, 3, 4, 5]).dead, ..accept }, "begin a new cluster");
}

#[test]
fn everybody_is_accounted_for() {
    let first = || holds(1, vec![found(1, &voters(3, "a", "z", 4, &[1]), 8, 20)]);
    refused(&[], &ask(&[]), "no store was given");
    refused(&[first()], &ask(&[2, 3, 4]), "--dead 5");
    refused(&[first()], &ask(&[1, 2, 3, 4, 5]), "it is one or the other");
    refused(&[first()], &ask(&[2, 3, 4, 5, 9]), "nobody knows it");
    refused(&[first(), first()], &ask(&[2, 3, 4, 5]), "two copies");
    let mut other = holds(2, Vec::new());
    other.store.cluster = ClusterId(8);
    refused(&[first(), other], &ask(&[3, 4, 5]), "belongs to cluster");
    let mut begun = first();
    begun.store.begun = Some("abc".into());
    refused(&[begun], &ask(&[2, 3, 4, 5]), "plan abc was begun on n1");
}

proptest! {
    /// Whatever the survivors hold, each key has one range afterwards.
    #[test]
    fn each_key_has_one_range(
        copies in prop::collection::vec((1u64..=2, 3u64..8, 0usize..6, 1usize..6, 1u64..9, 1u64..4, 6u64..40), 0..10),
    ) {
        let cuts = ["a", "c", "f", "m", "p", "s", "z"];
        let mut stores = [Vec::new(), Vec::new()];
        for (node, id, start, length, epoch, term, index) in copies {
            let end = (start + length).min(6);
            let descriptor = voters(id, cuts[start], cuts[end], epoch, &[1, 2, 3, 4, 5]);
            let held: &mut Vec<Found> = &mut stores[node as usize - 1];
            // What a store holds does not overlap.
            if held.iter().all(|other| other.range().0 != id && !other.span().overlaps(&descriptor.span())) {
                held.push(found(node, &descriptor, term, index));
            }
        }
        let [first, second] = stores;
        let accept = Request { accept_lost_keys: true, ..ask(&[3, 4, 5]) };
        let plan = plan(&[holds(1, first), holds(2, second)], &accept).unwrap();
        let mut end = Key::MIN;
        let mut ids = BTreeSet::new();
        let mut live: Vec<&RangePlan> = plan.ranges.iter().filter(|range| range.action != Action::Drop).collect();
        live.sort_by_key(|range| range.span().unwrap().start);
        for range in live {
            prop_assert_eq!(&range.span().unwrap().start, &end);
            end = range.span().unwrap().end;
            prop_assert!(ids.insert(range.range), "an id is given twice");
        }
        prop_assert_eq!(end, Key::max());
        prop_assert!(ids.iter().all(|id| *id < plan.next_range));
    }
}
