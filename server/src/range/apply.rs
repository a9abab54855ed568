//! Committed entries go into the engine.

use proto::codec;
use proto::request::{Reply, Response};
use raft::eraftpb::{ConfChangeV2, Entry, EntryType};
use txn::WriteBatch;
use txn::engine::EngineError;

use super::command::{Command, Trigger};
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

impl Replica {
    /// Applies entries in order, and answers those who proposed them here.
    pub fn apply(&mut self, cx: &mut Surroundings<'_>, entries: &[Entry]) {
        let Some(last) = entries.last().filter(|_| self.stopped.is_none()) else { return };
        if self.hollow {
            // The contents that are to come are further than this.
            self.applied = Applied { index: last.index, term: last.term, ..Applied::default() };
            self.group.applied(last.index);
            self.dirty = true;
            return;
        }
        let at_once = if cx.knobs.probe.fires(Point::SingleApply) { 1 } else { entries.len() };
        for entries in entries.chunks(at_once) {
            if let Err(error) = self.try_apply(cx, entries) {
                return self.stop(cx, &error);
            }
        }
    }

    fn try_apply(&mut self, cx: &mut Surroundings<'_>, entries: &[Entry]) -> Result<(), EngineError> {
        let mut batch = WriteBatch::default();
        let mut finished = Vec::new();
        let mut own_term = false;
        for entry in entries {
            assert_eq!(entry.index, self.applied.index + 1, "entries are applied one after another");
            self.applied = Applied { index: entry.index, term: entry.term, ..self.applied };
            self.applied.whole_at.take_if(|last| *last < entry.index);
            own_term |= self.leading.as_ref().is_some_and(|l| l.term == entry.term);
            if entry.data.is_empty() {
                continue;
            }
            let (command, members) = decode(entry)?;
            // Evaluated in one term, appended in another: its latches meant nothing (I4).
            if command.term != entry.term {
                continue;
            }
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
                self.apply_closed(cx, &mut batch, closed);
            }
            match command.trigger {
                Some(Trigger::Split { left, right, read_floor }) => {
                    self.apply_split(cx, &mut batch, left, right, read_floor)?;
                }
                Some(Trigger::Members { descriptor }) => self.apply_members(cx, &mut batch, descriptor),
                Some(Trigger::Settled { epoch }) => self.apply_settled(cx, &mut batch, epoch),
                // It speaks to the next leader.
                Some(Trigger::HandOver { .. }) | None => {}
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
