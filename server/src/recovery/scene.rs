//! What all survivors hold together: the copies of each range, the best first.
//!
//! The best is the one whose log goes furthest, as Raft compares them. But contents that are not of one moment (they were given to their replica while
//! they changed, and the entries that would have mended that are lost) come after all others: they lack writes from long before their log's end.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use proto::{NodeId, RangeDescriptor, RangeId, ReplicaDescriptor, ReplicaId, Timestamp};

use super::findings::{Findings, Found};
use super::quorum::is_majority;
use crate::raft::record::LogPosition;
use crate::range::replica::FRESH_APPLIED;
use crate::range::state::RangeState;

/// Contents that a range could be rebuilt from.
#[derive(Clone, Debug)]
pub struct Copy {
    pub node: NodeId,
    pub found: Found,
    /// The range whose log holds the split that brings it into being.
    pub born_of: Option<RangeId>,
}

impl Copy {
    /// How far its log goes, as Raft compares them.
    pub fn reach(&self) -> (u64, u64) {
        reach(self.found.reach())
    }

    fn me(&self) -> Option<ReplicaDescriptor> {
        self.found.state.descriptor.replica(self.found.replica)
    }
}

fn reach(last: LogPosition) -> (u64, u64) {
    (last.term, last.index)
}

/// See the module.
pub struct Scene<'a> {
    stores: BTreeMap<NodeId, &'a Findings>,
    copies: BTreeMap<RangeId, Vec<Copy>>,
    /// The newest descriptor of each range that anybody knows of, whether or not anything of it is left.
    known: BTreeMap<RangeId, RangeDescriptor>,
}

impl<'a> Scene<'a> {
    pub fn new(findings: &'a [Findings]) -> Scene<'a> {
        let stores: BTreeMap<NodeId, &Findings> = findings.iter().map(|found| (found.store.node, found)).collect();
        let mut scene = Scene { stores, copies: BTreeMap::new(), known: BTreeMap::new() };
        for found in findings {
            for replica in &found.replicas {
                let copy = Copy { node: found.store.node, found: replica.clone(), born_of: None };
                scene.copies.entry(replica.range()).or_default().push(copy);
                scene.learn(&replica.state.descriptor);
            }
            found.graves.iter().for_each(|grave| scene.learn(&grave.tombstone.descriptor));
            found.ranges.iter().for_each(|range| scene.learn(range));
        }
        scene.rank();
        let births: Vec<Copy> = scene.copies.values().filter_map(|copies| copies.first()).flat_map(births).collect();
        for born in births {
            let range = born.found.range();
            let there = scene.copies_of(range).iter().any(|copy| copy.node == born.node);
            if !there && !scene.is_buried(born.node, range, born.found.replica) {
                scene.learn(&born.found.state.descriptor);
                scene.copies.entry(range).or_default().push(born);
            }
        }
        scene.rank();
        scene
    }

    /// Whole ones first, of them the furthest; of those that are as far, voters, and what is there already.
    fn rank(&mut self) {
        for copies in self.copies.values_mut() {
            copies.sort_by_key(|copy| {
                let votes = copy.me().is_some_and(|me| me.role.votes());
                (copy.found.torn.is_some(), Reverse(copy.reach()), !votes, copy.born_of.is_some(), copy.node)
            });
        }
    }

    fn learn(&mut self, range: &RangeDescriptor) {
        let known = self.known.entry(range.id).or_insert_with(|| range.clone());
        if known.epoch < range.epoch {
            known.clone_from(range);
        }
    }

    pub fn ranges(&self) -> impl Iterator<Item = RangeId> {
        self.copies.keys().copied()
    }

    /// The copies of a range, the best first.
    pub fn copies_of(&self, range: RangeId) -> &[Copy] {
        self.copies.get(&range).map_or(&[], Vec::as_slice)
    }

    pub fn known(&self) -> impl Iterator<Item = &RangeDescriptor> {
        self.known.values()
    }

    pub fn newest_of(&self, range: RangeId) -> Option<&RangeDescriptor> {
        self.known.get(&range)
    }

    pub fn stores(&self) -> impl Iterator<Item = &'a Findings> {
        self.stores.values().copied()
    }

    /// Ranges that are no more: other ones have taken them in, or hold their keys since an earlier recovery.
    pub fn ended(&self) -> impl Iterator<Item = RangeId> {
        let graves = self.stores.values().flat_map(|found| &found.graves);
        graves.filter(|grave| grave.is_final()).map(|grave| grave.range)
    }

    /// The range that goes on by itself and has taken in another one, or is about to: its log says so. What is left of the other
    /// one is needed where that is not applied yet.
    pub fn taken_in_by(&self, right: RangeId, kept: &[RangeId]) -> Option<RangeId> {
        let copies = self.copies_of(right);
        let span = copies.first()?.found.span();
        let holds = |left: &&RangeId| {
            let takes = |copy: &Copy| copy.found.takes.contains(&right);
            let frozen = copies.iter().filter_map(|copy| copy.found.state.frozen.as_ref()).any(|f| f.left == **left);
            let known = frozen || self.copies_of(**left).iter().any(takes);
            known && self.copies_of(**left).first().is_some_and(|copy| copy.found.span().covers(&span))
        };
        kept.iter().filter(|left| **left != right).find(holds).copied()
    }

    /// No survivor has issued or heard of a higher timestamp.
    pub fn ceiling(&self) -> Timestamp {
        self.stores.values().map(|found| found.ceiling).max().unwrap_or(Timestamp::ZERO)
    }

    fn is_buried(&self, node: NodeId, range: RangeId, replica: ReplicaId) -> bool {
        self.stores.get(&node).is_some_and(|found| found.graves.iter().any(|grave| grave.holds(range, replica)))
    }

    /// Whether a replica will answer. One that has not come into being yet does, as soon as it is written to.
    pub fn answers(&self, range: RangeId, replica: &ReplicaDescriptor) -> bool {
        self.stores.contains_key(&replica.node) && !self.is_buried(replica.node, range, replica.id)
    }

    /// The end of a replica's log on a survivor; of one that is not there yet, its beginning.
    fn log_of(&self, range: RangeId, replica: &ReplicaDescriptor) -> (u64, u64) {
        let copies = self.copies_of(range).iter().filter(|copy| copy.node == replica.node);
        let whole = copies.filter(|copy| copy.found.replica == replica.id).map(|copy| copy.found.last);
        let hollow = self.stores.get(&replica.node).into_iter().flat_map(|found| &found.hollow);
        let hollow = hollow.filter(|h| h.range == range && h.replica == replica.id).map(|h| h.last);
        whole.chain(hollow).map(reach).max().unwrap_or_default()
    }

    /// Whether the survivors can elect a leader of a range, and go on by themselves: a voter with contents that a majority votes for, in
    /// each configuration that its log goes through.
    pub fn elects(&self, range: RangeId) -> bool {
        let stands = |copy: &&Copy| copy.found.cut.is_none() && copy.me().is_some_and(|me| me.role.votes());
        // Raft asks nothing of contents.
        let furthest = self.copies_of(range).iter().filter(stands).min_by_key(|copy| Reverse(copy.reach()));
        let Some(copy) = furthest else { return false };
        let votes =
            |replica: &ReplicaDescriptor| self.answers(range, replica) && self.log_of(range, replica) <= copy.reach();
        copy.found.steps.iter().all(|step| is_majority(step, votes))
    }

    /// The copy whose log goes furthest, if that is further than the given one's: it was not taken for its contents' sake.
    pub fn passed_over(&self, copy: &Copy) -> Option<&Copy> {
        let others = self.copies_of(copy.found.range()).iter().filter(|other| other.reach() > copy.reach());
        others.max_by_key(|other| other.reach())
    }

    /// Whether something may have been acknowledged that a copy does not hold: whether those whose logs are not here, or go further than
    /// the copy's, were a majority.
    pub fn may_lack(&self, copy: &Copy) -> bool {
        let range = copy.found.range();
        let ahead =
            |replica: &ReplicaDescriptor| !self.answers(range, replica) || self.log_of(range, replica) > copy.reach();
        copy.found.steps.iter().any(|step| is_majority(step, ahead))
    }
}

/// What a copy's log brings into being.
fn births(parent: &Copy) -> Vec<Copy> {
    let born = |state: &RangeState| {
        let replica = state.descriptor.replica_on(parent.node)?.id;
        let fresh = LogPosition { index: FRESH_APPLIED.index, term: FRESH_APPLIED.term };
        let found = Found {
            replica,
            steps: vec![state.descriptor.clone()],
            state: state.clone(),
            births: Vec::new(),
            newest: parent.found.newest,
            applied: fresh,
            committed: fresh.index,
            last: fresh,
            term: fresh.term,
            takes: Vec::new(),
            cut: None,
            torn: parent.found.torn,
        };
        Some(Copy { node: parent.node, found, born_of: Some(parent.found.range()) })
    };
    parent.found.births.iter().filter_map(born).collect()
}
