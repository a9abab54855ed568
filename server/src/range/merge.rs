//! Two neighbours become one range: the one on the left takes in the one on the right.
//!
//! ```text
//!   right:  serving ──▶ frozen, for the left one at epoch e ─────────────────┬──▶ taken in: gone for good
//!                          │                                                 │
//!                          │ nobody merges: the left one moves on to e + 1   │
//!                          ▼                                                 │
//!                       serving                                              │
//!   left:   serving at e ── every store says that its replicas are ready ────┴──▶ serving both spans
//! ```
//!
//! Both have replicas on the same nodes, in the same roles. Data does not move: it lies in the same stores' engines. Each step is an entry.
//!
//! * **Freeze**, in the right-hand range, evaluated under a latch on all of it, with a summary of what was read (I11). It binds all later leaders
//!   (I12): nothing is served, no member changes. It is meant for the left-hand range at one epoch only.
//! * **Merge**, in the left-hand range at that epoch, evaluated when each store has said that both of its replicas are whole and that the
//!   right-hand one has applied the freeze. What the right-hand range was read up to binds all writes to its span from here on.
//! * **Thaw**, in the right-hand range, once the left-hand one is past that epoch *and does not hold the right-hand one's first key*. If it holds
//!   the epoch still, it is first made to move on.
//!
//! **A thaw never follows a merge.** Until a merge is *settled* (as after a change of members: another entry is committed, so a majority of
//! stores has written down that the merge is), the left-hand range is not reshaped any further: it holds that key, and whoever asks finds out. When it is
//! settled, each store of that majority has applied the merge, or applies it before anything else after a crash, and has no replica of the right-hand range any
//! more; as the voters of both were on the same nodes, that range cannot commit a thaw.
//!
//! **Applying** a merge asks for a right-hand replica on the same store that has applied the freeze. One that has the freeze in its log, and did not know that
//! it is committed, learns it now. Where there is none (its contents were lost, or it was not there), the left-hand replica has no use for the
//! entry: it gives up its contents, and is given those of the merged range like any replica that lags too far behind.
//!
//! The scheme of freezing first is common to range-sharded stores (CockroachDB calls it subsuming, TiKV preparing a merge); here the verdict is found by the
//! epochs of the left-hand range alone.

use std::time::Duration;

use proto::range::Frozen;
use proto::request::{Refusal, ReplyBody, Response};
use proto::{Epoch, NodeId, RangeDescriptor, RangeId, ReplicaRole, TxnId};
use txn::WriteBatch;

use super::command::{Merge, Trigger};
use super::replica::{Replica, Surroundings};
use super::serve::{Proposed, respond};
use super::state::{self, RangeState, Tombstone};
use super::weigh::Weighing;
use crate::env::StuckMerge;
use crate::probe::Path;

/// A merge that is about to be applied: which replica of this store it takes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subsume {
    pub right: RangeId,
    /// The entry that froze it.
    pub index: u64,
    pub term: u64,
    /// What the two are from then on.
    pub merged: RangeDescriptor,
}

impl From<&Merge> for Subsume {
    fn from(merge: &Merge) -> Subsume {
        let Frozen { index, term, .. } = merge.frozen;
        Subsume { right: merge.right.id, index, term, merged: merge.merged.clone() }
    }
}

/// What a frozen replica brings in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    pub bytes: u64,
}

fn invalid(why: String) -> Refusal {
    Refusal::Invalid(why)
}

/// Where a range's replicas are, and what they are for.
fn places(descriptor: &RangeDescriptor) -> Vec<(NodeId, ReplicaRole)> {
    let mut places: Vec<_> = descriptor.replicas.iter().map(|replica| (replica.node, replica.role)).collect();
    places.sort_unstable();
    places
}

/// Whether one range may take in another: they touch, and their replicas stand side by side for good.
///
/// # Errors
/// [`Refusal::Invalid`] says what is in the way.
pub fn fit(left: &RangeDescriptor, right: &RangeDescriptor) -> Result<(), Refusal> {
    if left.id == right.id || left.end != right.start {
        return Err(invalid(format!("{left} does not end where {right} begins")));
    }
    let lasting =
        |d: &RangeDescriptor| d.replicas.iter().all(|r| matches!(r.role, ReplicaRole::Voter | ReplicaRole::NonVoter));
    if !lasting(left) || !lasting(right) {
        return Err(invalid(format!("the members of {} or {} are being changed", left.id, right.id)));
    }
    if places(left) != places(right) {
        return Err(invalid(format!("the replicas of {} and {} are not on the same nodes", left.id, right.id)));
    }
    Ok(())
}

/// The range that two become. No range that held any of their keys had so high an epoch.
fn merged(left: &RangeDescriptor, right: &RangeDescriptor) -> RangeDescriptor {
    let epoch = Epoch(left.epoch.0.max(right.epoch.0) + 1);
    RangeDescriptor { end: right.end.clone(), epoch, ..left.clone() }
}

impl Replica {
    /// What to answer while the range is frozen.
    pub(super) fn frozen_refusal(&self) -> Refusal {
        Refusal::Busy(format!("{} is being merged with the range on its left", self.descriptor().id))
    }

    /// The command that freezes this range for the one on its left. Repeated, it is carried out once.
    pub(super) fn evaluate_freeze(&self, left: &RangeDescriptor) -> Result<Option<Proposed>, Refusal> {
        if let Some(frozen) = &self.state.frozen {
            let same = (frozen.left, frozen.left_epoch) == (left.id, left.epoch);
            return if same { Ok(None) } else { Err(self.frozen_refusal()) };
        }
        self.may_reshape()?;
        self.must_be_settled()?;
        fit(left, self.descriptor())?;
        if self.state.pinned {
            return Err(invalid(format!("{} begins at a boundary that was asked for", self.descriptor().id)));
        }
        let Some(leading) = self.leading.as_ref() else { return Err(self.refusal()) };
        let trigger = Trigger::Freeze {
            left: left.id,
            left_start: left.start.clone(),
            left_epoch: left.epoch,
            read_summary: leading.reads.summary(),
        };
        Ok(Some(Proposed::of_range(trigger, ReplyBody::Ok)))
    }

    /// Applies a freeze. Nobody waits any longer: what comes next is a merge or a thaw.
    pub(super) fn apply_freeze(&mut self, cx: &mut Surroundings<'_>, batch: &mut WriteBatch, frozen: Frozen) {
        cx.knobs.probe.took(Path::Frozen);
        if let Some(leading) = self.leading.as_mut().filter(|leading| leading.serving) {
            // Nothing was read since the summary was made, for the whole range was latched.
            assert!(frozen.read_summary >= leading.reads.summary(), "I11: a freeze's summary covers what was read");
        }
        self.state.frozen = Some(frozen);
        state::put_state(batch, &self.state);
        let refusal = self.frozen_refusal();
        let Some(leading) = self.leading.as_mut() else { return };
        leading.settle_at = None;
        for (id, waiting) in std::mem::take(&mut leading.waiting) {
            leading.latches.stop_waiting(id);
            respond(cx, waiting.origin, Response::Refused(refusal.clone()));
        }
    }

    /// What this replica brings into a merge, if it has applied the freeze of that entry.
    pub fn frozen_contents(&self, index: u64) -> Option<Contents> {
        let frozen = self.state.frozen.as_ref().filter(|frozen| frozen.index == index)?;
        let whole = self.stopped.is_none() && !self.hollow && self.applied.index >= frozen.index;
        whole.then_some(Contents { bytes: self.applied.bytes })
    }

    /// The command that takes in the range on the right, of which the replica on this store has this state.
    pub(super) fn evaluate_merge(&self, right: &RangeState, frozen_at: u64) -> Result<Proposed, Refusal> {
        self.may_reshape()?;
        self.must_be_settled()?;
        let left = self.descriptor();
        fit(left, &right.descriptor)?;
        let frozen = right.frozen.as_ref().filter(|frozen| frozen.index == frozen_at);
        let meant = frozen.filter(|frozen| (frozen.left, frozen.left_epoch) == (left.id, left.epoch));
        let Some(frozen) = meant else {
            return Err(invalid(format!("{} is not frozen for {left}", right.descriptor.id)));
        };
        let merged = merged(left, &right.descriptor);
        let reply = ReplyBody::Ranges(vec![merged.clone()]);
        let merge = Merge {
            merged,
            right: right.descriptor.clone(),
            frozen: frozen.clone(),
            receipt_floor: right.receipt_floor,
            closed: right.closed,
        };
        Ok(Proposed::of_range(Trigger::Merge(Box::new(merge)), reply))
    }

    /// Applies a merge: this replica takes in the other one's span, with its contents, which are in the engine already.
    pub(super) fn apply_merge(
        &mut self,
        cx: &mut Surroundings<'_>,
        batch: &mut WriteBatch,
        merge: Merge,
        contents: Contents,
    ) {
        let Merge { merged, right, frozen, receipt_floor, closed } = merge;
        assert_eq!(self.state.descriptor.end, right.start, "the halves of a merge touch");
        cx.knobs.probe.took(Path::Merged);
        // The epoch is ahead of what is settled: until that has caught up, nothing more is done to the range.
        assert!(self.applied.is_whole(), "contents are given as they were before the range's bounds changed");
        assert!(frozen.read_summary >= closed, "I14: what is closed counts as read");
        // What either had closed binds all later leaders; what both had can be read (I14).
        self.state.read_floor = self.state.read_floor.max(frozen.read_summary).max(self.state.closed);
        self.state.closed = self.state.closed.min(closed);
        self.applied.closed = self.state.closed;
        self.state.receipt_floor = self.state.receipt_floor.max(receipt_floor);
        self.applied.bytes += contents.bytes;
        if let Some(leading) = &mut self.leading {
            leading.reads.record(&right.span(), frozen.read_summary, TxnId::default());
            leading.weighing = Weighing::new(cx.now);
        }
        self.state.descriptor = merged.clone();
        self.group.withdraw_snapshot();
        state::put_state(batch, &self.state);
        state::remove_state(batch, right.id);
        state::put_tombstone(batch, right.id, &Tombstone::subsumed_by(merged.clone()));
        if self.group.is_leader() {
            cx.effects.published.push(merged);
        }
    }

    /// Goes on with a merge, of which the store has seen to the other replica: whole, or else gone.
    pub fn go_on(&mut self, cx: &mut Surroundings<'_>, contents: Option<Contents>) {
        let entries = std::mem::take(&mut self.deferred);
        if contents.is_none() {
            cx.knobs.probe.took(Path::MergeMissed);
            if let Err(error) = self.lose_contents(cx) {
                return self.stop(cx, &error);
            }
        }
        self.taken_in = contents;
        self.apply(cx, &entries);
    }

    /// Applies its log up to an entry that is committed, as somebody else's log says.
    pub fn catch_up_to(&mut self, cx: &mut Surroundings<'_>, index: u64, term: u64) {
        let behind = self.stopped.is_none() && !self.hollow && self.applied.index < index;
        if !behind || !self.group.learn_committed(index, term) {
            return;
        }
        let entries: Vec<_> = (self.applied.index + 1..=index).map_while(|index| self.group.entry(index)).collect();
        cx.knobs.probe.took(Path::CaughtUpForMerge);
        self.apply(cx, &entries);
    }

    /// The command that moves the epoch on.
    pub(super) fn evaluate_advance(&self) -> Result<Proposed, Refusal> {
        self.may_reshape()?;
        let descriptor = RangeDescriptor { epoch: Epoch(self.descriptor().epoch.0 + 1), ..self.descriptor().clone() };
        let reply = ReplyBody::Ranges(vec![descriptor.clone()]);
        Ok(Proposed::of_range(Trigger::Advance { descriptor }, reply))
    }

    pub(super) fn apply_advance(
        &mut self,
        cx: &mut Surroundings<'_>,
        batch: &mut WriteBatch,
        descriptor: RangeDescriptor,
    ) {
        if self.state.is_settled() {
            self.state.settled = descriptor.epoch;
        }
        if self.group.is_leader() {
            cx.effects.published.push(descriptor.clone());
        }
        self.state.descriptor = descriptor;
        self.group.withdraw_snapshot();
        state::put_state(batch, &self.state);
    }

    /// The command that ends a freeze.
    pub(super) fn evaluate_thaw(&self, frozen_at: u64) -> Result<Option<Proposed>, Refusal> {
        if self.state.frozen.as_ref().is_none_or(|frozen| frozen.index != frozen_at) {
            return Ok(None);
        }
        if self.leading.as_ref().is_some_and(|leading| leading.reshaping.is_some()) {
            return Err(Refusal::Busy("another change of the range is under way".into()));
        }
        Ok(Some(Proposed::of_range(Trigger::Thaw { frozen_at }, ReplyBody::Ok)))
    }

    pub(super) fn apply_thaw(&mut self, cx: &mut Surroundings<'_>, batch: &mut WriteBatch, frozen_at: u64) {
        if self.state.frozen.take_if(|frozen| frozen.index == frozen_at).is_some() {
            cx.knobs.probe.took(Path::Thawed);
            state::put_state(batch, &self.state);
        }
    }

    /// A leader that has been frozen for long has somebody find out what became of the merge.
    pub fn tick_frozen(&mut self, cx: &mut Surroundings<'_>) {
        const ASK_AGAIN: Duration = Duration::from_secs(1);
        let Some(frozen) = &self.state.frozen else { return };
        let Some(leading) = self.leading.as_mut().filter(|leading| leading.serving) else { return };
        let ask_at = *leading.settle_at.get_or_insert(cx.now + cx.knobs.merge_patience);
        if cx.now >= ask_at {
            leading.settle_at = Some(cx.now + ASK_AGAIN);
            cx.effects.stuck = Some(StuckMerge { right: self.state.descriptor.clone(), frozen: frozen.clone() });
        }
    }
}
