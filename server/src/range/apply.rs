//! Committed entries go into the engine.

use proto::codec;
use proto::range::Frozen;
use proto::request::{Reply, Response};
use raft::eraftpb::{ConfChangeV2, Entry, EntryType};
use txn::WriteBatch;
use txn::engine::EngineError;

use super::command::{Command, Trigger};
use super::merge::Subsume;
use super::replica::{Replica, Surroundings};
use super::serve::{Wake, micros, respond};
use super::state::{self, Applied};
use super::weigh;
use crate::probe::Point;
use crate::raft::members::decode_change;

/// The command in an entry; and the change of members, if it is one.
fn decode(entry: &Entry) -> Result<(Command, Option<ConfChangeV2>), EngineError> {
    if entry.entry_type == EntryType::EntryNormal as i32 {
        return Ok((codec::decode("a command", &entry.data)?, None));
    }
    let (change, context) = decode_change(&entry.data).map_err(EngineError::Corrupt)?;
    Ok((codec::decode("a command", &context)?, Some(change)))
}

/// The merge in an entry, if it is one and takes effect.
///
/// # Errors
/// [`EngineError::Corrupt`] if the entry cannot be read.
pub fn merge_in(entry: &Entry) -> Result<Option<Subsume>, EngineError> {
    if entry.data.is_empty() {
        return Ok(None);
    }
    let (command, _) = decode(entry)?;
    Ok(match command.trigger {
        Some(Trigger::Merge(merge)) if command.term == entry.term => Some(Subsume::from(merge.as_ref())),
        _ => None,
    })
}

impl Replica {
    /// Applies entries in order, and answers those who proposed them here.
    pub fn apply(&mut self, cx: &mut Surroundings<'_>, entries: &[Entry]) {
        let Some(last) = entries.last().filter(|_| self.stopped.is_none()) else { return };
        if self.hollow {
            // What it is to take in it cannot; but nobody may believe the other range to be still there.
            for merge in entries.iter().map(merge_in) {
                match merge {
                    Ok(merge) => cx.effects.subsumes.extend(merge),
                    Err(error) => return self.stop(cx, &error),
                }
            }
            // The contents that are to come are further than this.
            self.applied = Applied { index: last.index, term: last.term, ..Applied::default() };
            self.group.applied(last.index);
            self.dirty = true;
            return;
        }
        let at_once = if cx.knobs.probe.fires(Point::SingleApply) { 1 } else { entries.len() };
        let mut rest = entries;
        while !rest.is_empty() {
            let (next, later) = rest.split_at(rest.len().min(at_once));
            match self.try_apply(cx, next) {
                Err(error) => return self.stop(cx, &error),
                Ok(None) => rest = later,
                Ok(Some(applied)) => {
                    self.deferred = rest[applied..].to_vec();
                    return;
                }
            }
        }
    }

    /// Applies entries. If it comes to a merge whose other half the store has to see to first, says how many there were before.
    fn try_apply(&mut self, cx: &mut Surroundings<'_>, entries: &[Entry]) -> Result<Option<usize>, EngineError> {
        let mut batch = WriteBatch::default();
        let mut finished = Vec::new();
        let mut own_term = false;
        let mut deferred = None;
        for (entry, before) in entries.iter().zip(0..) {
            assert_eq!(entry.index, self.applied.index + 1, "entries are applied one after another");
            // Evaluated in one term, appended in another: its latches meant nothing (I4).
            let decoded = match entry.data.is_empty() {
                true => None,
                false => Some(decode(entry)?).filter(|(command, _)| command.term == entry.term),
            };
            if let Some((Command { trigger: Some(Trigger::Merge(merge)), .. }, _)) = &decoded
                && self.taken_in.is_none()
            {
                cx.effects.subsumes.push(Subsume::from(merge.as_ref()));
                deferred = Some(before);
                break;
            }
            self.applied = Applied { index: entry.index, term: entry.term, ..self.applied };
            self.applied.whole_at.take_if(|last| *last < entry.index);
            own_term |= self.leading.as_ref().is_some_and(|l| l.term == entry.term);
            let Some((command, members)) = decoded else { continue };
            cx.effects.counts.commands_applied += 1;
            self.applied.bytes += weigh::weight(&command.batch);
            if cfg!(debug_assertions) {
                let broken = self.written_below(cx.engine, &batch, &command.batch.writes)?;
                assert!(broken.is_none(), "{}", broken.unwrap_or_default());
            }
            batch.writes.extend(command.batch.writes);
            if let Some(change) = members {
                self.group.apply_change(&change).map_err(EngineError::Corrupt)?;
            }
            if let Some(closed) = command.closed {
                self.apply_closed(cx, closed);
            }
            if let Some(trigger) = command.trigger {
                self.apply_trigger(cx, &mut batch, trigger, entry)?;
            }
            finished.push((entry.term, command.proposal));
        }
        state::put_applied(&mut batch, self.state.descriptor.id, self.applied);
        cx.engine.write(batch)?;
        self.group.applied(self.applied.index);
        self.dirty = true;
        for (term, proposal) in finished {
            self.finish(cx, term, proposal);
            self.handover_applied(proposal);
        }
        if own_term {
            self.start_serving(cx);
        }
        Ok(deferred)
    }

    /// What a command does to the range itself.
    fn apply_trigger(
        &mut self,
        cx: &mut Surroundings<'_>,
        batch: &mut WriteBatch,
        trigger: Trigger,
        entry: &Entry,
    ) -> Result<(), EngineError> {
        self.tell_soon(entry.index);
        match trigger {
            Trigger::Split { left, right, read_floor, pinned } => {
                self.apply_split(cx, batch, left, right, (read_floor, pinned))?;
            }
            Trigger::Members { descriptor } => self.apply_members(cx, batch, descriptor),
            Trigger::Settled { epoch } => self.apply_settled(cx, batch, epoch),
            Trigger::Freeze { left, left_start, left_epoch, read_summary } => {
                let (index, term) = (entry.index, entry.term);
                self.apply_freeze(cx, batch, Frozen { left, left_start, left_epoch, read_summary, index, term });
            }
            Trigger::Merge(merge) => {
                let contents = self.taken_in.take().expect("a merge is deferred until the other half is here");
                self.apply_merge(cx, batch, *merge, contents);
            }
            Trigger::Thaw { frozen_at } => self.apply_thaw(cx, batch, frozen_at),
            Trigger::Advance { descriptor } => self.apply_advance(cx, batch, descriptor),
            Trigger::Pin(pinned) => {
                self.state.pinned = pinned;
                state::put_state(batch, &self.state);
            }
            // It speaks to the next leader.
            Trigger::HandOver { .. } => {}
        }
        Ok(())
    }

    /// Answers the proposer of an applied command, and lets go of what it held.
    fn finish(&mut self, cx: &mut Surroundings<'_>, term: u64, number: u64) {
        let Some(leading) = self.leading.as_mut().filter(|l| l.term == term) else { return };
        let Some(proposal) = leading.proposals.remove(&number) else { return };
        leading.latches.release(proposal.latch);
        leading.reshaping.take_if(|reshaping| *reshaping == number);
        let handed_on = proposal.ends.map(|txn| leading.locks.release(txn)).unwrap_or_default();
        cx.effects.counts.commits += u64::from(proposal.commits);
        self.vouched(cx, proposal.reading);
        let reply = Reply {
            body: proposal.reply,
            queue_us: micros(proposal.proposed - proposal.arrived),
            replication_us: micros(cx.now - proposal.proposed),
        };
        if !cx.knobs.probe.fires(Point::AnswerLost) {
            respond(cx, proposal.origin, Response::Done(reply));
        }
        self.wake(cx, Wake::Applied(&proposal.touched));
        if !handed_on.is_empty() {
            self.wake(cx, Wake::Locks);
        }
    }
}
