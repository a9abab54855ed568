//! Ranges that were born of a split a moment ago: what they log waits for the engine.
//!
//! A log of a range that the engine does not hold would be nobody's after a crash: the split is applied again, and begins the range anew. So
//! a flush of the engine is begun at a birth, and until it is done the newborn replica's records are held back; its votes and
//! acknowledgements with them, as they wait for their records. All other ranges go on.

use std::collections::BTreeMap;

use proto::{RangeId, ReplicaId};

use super::event::Effect;
use super::machine::{FrameInFlight, Store};
use crate::probe::Path;
use crate::raft::{GroupRecord, LogFrame};

/// What a group logs, and the number of the output that it belongs to; 0 if nobody waits to be told.
pub(super) struct Logged {
    pub record: GroupRecord,
    pub output: u64,
}

impl Logged {
    pub fn append_to(self, frame: &mut LogFrame, in_flight: &mut FrameInFlight) {
        let Logged { record, output } = self;
        if output > 0 {
            in_flight.outputs.push((record.range, ReplicaId(record.replica), output));
        }
        frame.groups.push(record);
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Newborn {
    /// The flush that makes each of them durable.
    ranges: BTreeMap<RangeId, u64>,
    held: Vec<Logged>,
    /// To go with the next frame.
    released: Vec<Logged>,
    /// One of them has been given contents, of which the flush does not know.
    flush_first: bool,
}

impl Newborn {
    /// Holds back what a newborn range logs; gives back what any other does.
    pub fn hold(&mut self, logged: Logged, has_snapshot: bool) -> Option<Logged> {
        if !self.ranges.contains_key(&logged.record.range) {
            return Some(logged);
        }
        self.flush_first |= has_snapshot;
        self.held.push(logged);
        None
    }

    /// A flush is done.
    fn grow_up(&mut self, number: u64) {
        self.ranges.retain(|_, durable| *durable > number);
        let (held, released) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|logged: &Logged| self.ranges.contains_key(&logged.record.range));
        self.held = held;
        self.released.extend::<Vec<Logged>>(released);
    }

    /// What was held back until now; and whether the engine must be flushed before it is synced.
    pub fn take_released(&mut self) -> (Vec<Logged>, bool) {
        let released = std::mem::take(&mut self.released);
        let flush_first = !released.is_empty() && std::mem::take(&mut self.flush_first);
        (released, flush_first)
    }

    /// The replica is gone, and nothing that it logged is of any use.
    pub fn forget(&mut self, range: RangeId) {
        self.ranges.remove(&range);
        self.held.retain(|logged| logged.record.range != range);
        self.released.retain(|logged| logged.record.range != range);
    }
}

impl Store {
    /// A range was born here.
    pub(super) fn hold_newborn(&mut self, range: RangeId, out: &mut Vec<Effect>) {
        let durable = self.flush_from_now_on(out);
        self.newborn.ranges.insert(range, durable);
    }

    /// A flush is done: whoever was born before it began may log.
    pub(super) fn release_newborn(&mut self, number: u64, out: &mut Vec<Effect>) {
        if self.newborn.ranges.is_empty() {
            return;
        }
        self.config.knobs.probe.took(Path::NewbornReleased);
        self.newborn.grow_up(number);
        if !self.newborn.ranges.is_empty() {
            self.flush_from_now_on(out);
        }
    }
}
