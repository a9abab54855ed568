//! One range becomes two.
//!
//! The split is one command, evaluated under a latch on the whole range, so that nothing is in flight: neither a write nor a
//! read. Its entry carries both descriptors and a summary of what was read (I11). Data does not move: both ranges live in the same
//! stores' engines. The right-hand range begins with a log of its own; the replica on the left-hand leader's store stands for
//! election at once, and its first term needs no low-water mark beyond the summary.

use proto::range::Split;
use proto::request::Refusal;
use proto::{Epoch, RangeDescriptor, Timestamp};
use txn::WriteBatch;
use txn::engine::EngineError;

use super::replica::{FRESH_APPLIED, Replica, Surroundings};
use super::snapshot;
use super::state::{self, Applied, RangeState};
use super::weigh::Weighing;
use crate::probe::Path;

/// The descriptors after a split; `None` if the key is the range's first key already.
///
/// # Errors
/// If the key is not in the range.
pub fn plan(
    descriptor: &RangeDescriptor,
    split: &Split,
) -> Result<Option<(RangeDescriptor, RangeDescriptor)>, Refusal> {
    if split.key == descriptor.start {
        return Ok(None);
    }
    if !descriptor.contains(&split.key) {
        return Err(Refusal::WrongRange(vec![descriptor.clone()]));
    }
    let epoch = Epoch(descriptor.epoch.0 + 1);
    let left = RangeDescriptor { end: split.key.clone(), epoch, ..descriptor.clone() };
    let right = RangeDescriptor { id: split.right, start: split.key.clone(), epoch, ..descriptor.clone() };
    Ok(Some((left, right)))
}

impl Replica {
    /// Applies a split: this replica shrinks, and the store is told of the new one.
    pub fn apply_split(
        &mut self,
        cx: &mut Surroundings<'_>,
        batch: &mut WriteBatch,
        left: RangeDescriptor,
        right: RangeDescriptor,
        (read_floor, pinned): (Timestamp, bool),
    ) -> Result<(), EngineError> {
        assert_eq!(left.end, right.start, "the halves of a split touch");
        if let Some(leading) = self.leading.as_ref().filter(|leading| leading.serving) {
            // Nothing was read since the summary was made, for the whole range was latched.
            assert!(read_floor >= leading.reads.summary(), "I11: a split's summary covers what was read");
        }
        let settled = if self.state.is_settled() { left.epoch } else { self.state.settled };
        assert!(self.applied.is_whole(), "contents are given as they were before the range's bounds changed");
        assert!(read_floor >= self.state.closed, "I14: what is closed counts as read in both halves");
        let (receipt_floor, closed) = (self.state.receipt_floor, self.state.closed);
        let right = RangeState { receipt_floor, settled, pinned, closed, ..RangeState::new(right, read_floor) };
        self.state.settled = settled;
        cx.knobs.probe.took(Path::Split);
        // Nobody has counted; whoever has to know better does.
        let right_bytes = self.applied.bytes / 2;
        self.applied.bytes -= right_bytes;
        if let Some(leading) = &mut self.leading {
            leading.weighing = Weighing::new(cx.now);
        }
        self.state.descriptor = left;
        self.group.withdraw_snapshot();
        state::put_state(batch, &self.state);
        let leads = self.group.is_leader();
        if leads {
            cx.effects.published.push(self.state.descriptor.clone());
        }
        // This store may have been told that its replica of the right-hand range was removed, before it came into being (I13).
        let tombstone = state::tombstone(cx.engine, right.descriptor.id)?;
        if tombstone.is_some_and(|tombstone| tombstone.next_replica > self.me.id) {
            cx.knobs.probe.took(Path::SplitOfRemoved);
            snapshot::clear(batch, &right.descriptor.span());
            return Ok(());
        }
        state::put_state(batch, &right);
        state::put_applied(batch, right.descriptor.id, Applied { bytes: right_bytes, ..FRESH_APPLIED });
        cx.effects.splits.push((right, right_bytes, leads));
        Ok(())
    }
}
