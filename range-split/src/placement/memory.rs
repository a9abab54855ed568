//! What a planner remembers from plan to plan. It is data: lose it, and plans are as safe as before, only less calm.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proto::{NodeId, RangeId};

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
