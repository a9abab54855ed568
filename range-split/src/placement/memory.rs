//! What a planner remembers from plan to plan. It is data: lose it, and plans are as safe as before, only less calm.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proto::{NodeId, RangeId, Span};

use super::operation::Reason;
use super::picture::Picture;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// What learners were added for.
    pub moves: BTreeMap<RangeId, Move>,
    /// When a replica of a range was last moved for balance.
    pub moved: BTreeMap<RangeId, Duration>,
    /// When the leader of a range was last moved for balance.
    pub led: BTreeMap<RangeId, Duration>,
    /// When a range's change failed.
    pub failed: BTreeMap<RangeId, Duration>,
    /// For a range, since when it and the one on its left could be merged.
    pub cold: BTreeMap<RangeId, Cold>,
    /// Pairs of neighbours that are being brought together and merged, by the right-hand one.
    pub joining: BTreeMap<RangeId, Joining>,
    /// What is being balanced: what has begun goes on to half the margin that it began at.
    pub balancing: BTreeSet<Measure>,
}

/// A replica on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    pub add: NodeId,
    /// The voter that it is to replace.
    pub remove: Option<NodeId>,
    pub since: Duration,
    /// Nothing for a learner that was found on the way.
    pub reason: Option<Reason>,
}

/// Two neighbours that could be merged. With other bounds they would be others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cold {
    pub left: RangeId,
    /// From the first key of the one to the last of the other.
    pub span: Span,
    pub since: Duration,
}

/// Two neighbours that are to become one range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joining {
    pub left: RangeId,
    /// Which of them moves to where the other one stands.
    pub mover: RangeId,
    pub since: Duration,
}

/// What is balanced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    Bytes,
    Load,
    Leaders,
}

impl Memory {
    /// Tells that an operation could not be carried out: its range is left alone for a while.
    pub fn fail(&mut self, now: Duration, range: RangeId) {
        self.failed.insert(range, now);
    }

    /// Tells that two ranges could not be merged: they are left alone until they have been cold for long once more.
    pub fn fail_merge(&mut self, now: Duration, left: RangeId, right: RangeId) {
        self.cold.remove(&right);
        self.joining.remove(&right);
        self.fail(now, left);
        self.fail(now, right);
    }

    /// Ranges that are being brought together with others.
    pub(super) fn joined(&self) -> BTreeSet<RangeId> {
        self.joining.iter().flat_map(|(right, joining)| [*right, joining.left]).collect()
    }

    /// Where a range is on its way to, to be merged.
    pub(super) fn anchor_of(&self, range: RangeId) -> Option<RangeId> {
        let found = self.joining.iter().find(|(_, joining)| joining.mover == range);
        found.map(|(right, joining)| if *right == range { joining.left } else { *right })
    }

    /// The memory without what is over.
    pub(super) fn pruned(&self, picture: &Picture) -> Memory {
        let mut memory = self.clone();
        let (now, settings) = (picture.now, &picture.settings);
        memory.moves.retain(|range, made| {
            let Some(range) = picture.ranges.get(range) else { return false };
            let leaves = made.remove.is_some_and(|node| range.descriptor.replica_on(node).is_some());
            let arrived = range.descriptor.replica_on(made.add);
            range.in_flight || arrived.is_some_and(|replica| leaves || !replica.role.votes())
        });
        memory.moved.retain(|_, at| now.saturating_sub(*at) < settings.rest);
        memory.led.retain(|_, at| now.saturating_sub(*at) < settings.rest);
        memory.failed.retain(|_, at| now.saturating_sub(*at) < settings.retry_after);
        memory
    }
}
