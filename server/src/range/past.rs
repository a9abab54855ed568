//! A replica answers reads in the past, whether or not it leads.
//!
//! It looks at its engine as it is: what it has applied says up to where that can be read ([`super::closing`]). There are no latches to wait for, no
//! fence, and nothing is remembered. What stands in the way is told at once, so that whoever asked can turn to the leader:
//!
//! * the timestamp is not closed yet here, or the replica was given contents that are not of one moment yet;
//! * another transaction's intent lies at or below the timestamp. Whoever asked settles it at its record, as if a leader had said so. That
//!   comes here with the log, some time; so the leader is asked next.
//!
//! A read is no reason for a range to wake, but one that is read by its followers alone would not close anything while it is quiet, and they could
//! serve nothing recent. So a follower that finds its range quiet and far behind sends its leader a word to wake: it closes, and falls quiet again.

use proto::message::Body;
use proto::request::{RangeRequest, Read, Refusal, Reply, Response};
use proto::{ReplicaRole, Timestamp};
use txn::mvcc::Found;
use txn::participant;

use super::replica::{Origin, Replica, Surroundings};
use super::serve::respond;
use crate::probe::Path;

impl Replica {
    /// Up to where this replica can be read without asking its leader.
    pub fn readable(&self) -> Timestamp {
        let holds = self.stopped.is_none() && !self.hollow && !self.has_departed();
        if holds && self.me.role != ReplicaRole::Learner && self.applied.is_whole() {
            return self.state.closed;
        }
        Timestamp::ZERO
    }

    /// Answers a read in the past at once: with what it finds, or with why it cannot.
    pub(super) fn serve_past(
        &mut self,
        cx: &mut Surroundings<'_>,
        origin: Origin,
        request: &RangeRequest,
        read: &Read,
    ) {
        let response = match self.read_past(cx, request, read) {
            Ok(response) => response,
            Err(error) => {
                let refusal = Refusal::Corrupt(error.to_string());
                self.stop(cx, &error);
                Response::Refused(refusal)
            }
        };
        let done = matches!(response, Response::Done(_));
        cx.effects.counts.past_reads += u64::from(done);
        cx.knobs.probe.took(if done { Path::PastServed } else { Path::PastRefused });
        self.call_for_closing(cx);
        respond(cx, origin, response);
    }

    fn read_past(
        &self,
        cx: &Surroundings<'_>,
        request: &RangeRequest,
        read: &Read,
    ) -> Result<Response, txn::engine::EngineError> {
        if read.timestamp > self.readable() {
            return Ok(Response::Refused(self.refusal()));
        }
        if let Some(refusal) = self.misrouted(request) {
            return Ok(Response::Refused(refusal));
        }
        Ok(match participant::read_at(cx.engine, read)? {
            Found::Data(body) => Response::Done(Reply { body, queue_us: 0, replication_us: 0 }),
            Found::InTheWay(intents) => Response::Refused(Refusal::Intents(intents)),
        })
    }

    /// Calls the leader of a range that is read here, and there not, if it could close much more than it has.
    fn call_for_closing(&mut self, cx: &mut Surroundings<'_>) {
        let every = cx.knobs.close_every;
        let behind = cx.clock.reading().since(self.state.closed) > cx.knobs.close_lag + every * 3;
        let called = self.called.is_some_and(|called| cx.now < called + every);
        let Some(leader) = self.leader.filter(|_| behind && !called) else { return };
        if leader != self.me.node {
            cx.knobs.probe.took(Path::ClosingCalled);
            self.called = Some(cx.now);
            cx.effects.messages.push((leader, Body::Wake(vec![self.state.descriptor.id])));
        }
    }
}
