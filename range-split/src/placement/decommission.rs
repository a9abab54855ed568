//! Whether nodes can be decommissioned, and how far they are.

use std::collections::{BTreeMap, BTreeSet};

use proto::placement::Demand;
use proto::{NodeId, ReplicaRole};

use super::ledger::{Ledger, RangeEntry};
use super::memory::Memory;
use super::operation::{Refusal, RefusalReason};
use super::picture::{Node, NodeIntent, Picture};
use super::plan::Refusals;

/// What a node still has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remaining {
    /// Replicas of any role.
    pub replicas: usize,
    pub leaders: usize,
    /// Of its ranges, not of its disk.
    pub bytes: u64,
}

/// What nodes that are to lose their replicas still have.
pub fn progress(picture: &Picture) -> BTreeMap<NodeId, Remaining> {
    let leaving = picture.nodes.iter().filter(|(_, node)| node.is_leaving());
    let mut all: BTreeMap<NodeId, Remaining> = leaving.map(|(id, _)| (*id, Remaining::default())).collect();
    for range in picture.ranges.values() {
        for replica in &range.descriptor.replicas {
            let Some(remaining) = all.get_mut(&replica.node) else { continue };
            remaining.replicas += 1;
            remaining.leaders += usize::from(range.leader == Some(replica.node));
            remaining.bytes += range.bytes;
        }
    }
    all
}

/// Whether these nodes could be decommissioned now, all of them together: each of their replicas has somewhere to go, within the rules,
/// and the disks of those that stay have room.
///
/// # Errors
/// What stands in the way.
pub fn decommission_check(picture: &Picture, nodes: &BTreeSet<NodeId>) -> Result<(), Vec<Refusal>> {
    let mut after = picture.clone();
    let mut refusals = Refusals::default();
    for (_, node) in after.nodes.iter_mut().filter(|(id, _)| nodes.contains(id)) {
        node.intent = NodeIntent::Decommission;
    }
    let ledger = Ledger::new(&after, &Memory::default());
    let mut moving: u64 = 0;
    for range in &ledger.ranges {
        let Some(node) = range.range.descriptor.replicas.iter().map(|r| r.node).find(|n| nodes.contains(n)) else {
            continue;
        };
        let leaves = range.voters.iter().filter(|v| nodes.contains(&ledger.nodes[**v].id)).count();
        moving = moving.saturating_add(range.range.bytes.saturating_mul(leaves as u64));
        obstacles(&ledger, range, node).into_iter().for_each(|reason| refusals.add(reason, Some(range.id)));
    }
    let free = room(&after);
    if let Some(free) = free.filter(|free| moving > *free) {
        refusals.add(RefusalReason::NoRoom { bytes: moving, free }, None);
    }
    let refusals = refusals.into_vec();
    if refusals.is_empty() { Ok(()) } else { Err(refusals) }
}

/// What keeps a range from leaving the nodes that leave.
fn obstacles(ledger: &Ledger<'_>, range: &RangeEntry<'_>, node: NodeId) -> Vec<RefusalReason> {
    let stays = |v: &usize| !ledger.nodes[*v].is_leaving && !ledger.nodes[*v].is_gone;
    let staying = range.voters.iter().copied().filter(stays);
    let places: Vec<usize> = staying.chain(ledger.possible_targets(range)).collect();
    let want = range.wanted(ledger.picture).min(range.voters.len());
    let mut found = Vec::new();
    let gone = range.voters.iter().filter(|v| ledger.nodes[**v].is_gone).count();
    if gone > range.voters.len().saturating_sub(1) / 2 {
        found.push(RefusalReason::QuorumLost { gone, voters: range.voters.len() });
    }
    let votes = range.range.descriptor.replica_on(node).is_some_and(|r| r.role != ReplicaRole::NonVoter);
    for constraint in &range.range.rules.constraints {
        let matches = |v: &&usize| ledger.nodes[**v].node.is_some_and(|n| constraint.matches(&n.locality));
        let count = |places: &[usize]| places.iter().filter(matches).count();
        let wanted = match constraint.demand {
            Demand::AtLeast(want) => (want as usize).min(count(&range.voters)),
            Demand::Required => want.min(count(&range.voters)),
            Demand::Forbidden => 0,
        };
        if count(&places) < wanted {
            found.push(RefusalReason::NoMatch { constraint: constraint.clone() });
        }
    }
    if votes && places.len() < want && found.is_empty() {
        let nodes = ledger.nodes.iter().filter(|n| !n.is_gone).count();
        let replicas = range.wanted(ledger.picture);
        found.push(RefusalReason::Irreplaceable { node, leaving: true, nodes, replicas });
    }
    found
}

/// What the disks of nodes that may receive can still take; nothing if one of them does not tell its size.
fn room(picture: &Picture) -> Option<u64> {
    let free = |node: &Node| {
        let limit = u128::from(node.bytes_capacity) * u128::from(picture.settings.full_permille) / 1000;
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        (node.bytes_capacity > 0).then(|| limit.saturating_sub(node.bytes_used))
    };
    picture.nodes.values().filter(|n| n.may_receive(&picture.settings)).map(free).sum()
}
