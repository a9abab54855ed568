//! Merges, as far as they concern two replicas of a store: see [`crate::range::merge`].

use std::time::Duration;

use proto::message::Body;
use proto::range::RangeOperation;
use proto::request::{RangeRequest, Refusal, Reply, ReplyBody, Response};
use proto::{NodeId, RangeDescriptor, RangeId, ReplicaId};
use txn::engine::EngineError;

use super::event::Effect;
use super::machine::Store;
use crate::probe::Path;
use crate::range::merge::Subsume;
use crate::range::replica::Origin;
use crate::range::state::Tombstone;

impl Store {
    /// Answers, or passes on with what is known here, what is asked about a merge. Says whether it was that.
    pub(super) fn receive_of_merge(
        &mut self,
        now: Duration,
        origin: Origin,
        request: &RangeRequest,
        operation: &RangeOperation,
        out: &mut Vec<Effect>,
    ) -> bool {
        match operation {
            RangeOperation::IsReady { left, frozen_at } => {
                let response = match self.is_ready(*left, request.range, *frozen_at) {
                    Ok(()) => Response::Done(Reply { body: ReplyBody::Ok, queue_us: 0, replication_us: 0 }),
                    Err(why) => Response::Refused(Refusal::Busy(why)),
                };
                out.push(Effect::Send { to: origin.node, body: Body::Response { id: origin.id, response } });
                true
            }
            RangeOperation::Merge { right, frozen_at } => {
                let neighbour = self.replicas.get(&right.id).filter(|r| r.frozen_contents(*frozen_at).is_some());
                let neighbour = neighbour.map(|replica| replica.state.clone());
                let leads = self.replicas.get(&request.range).is_some_and(|replica| replica.is_serving());
                if !leads || neighbour.is_none() {
                    return false;
                }
                self.with_replica(now, request.range, out, |replica, cx| {
                    cx.neighbour = neighbour;
                    replica.serve(cx, origin, request.clone());
                });
                true
            }
            _ => false,
        }
    }

    /// Whether the replicas here are ready for a merge: both whole, and the right-hand one frozen.
    fn is_ready(&self, left: RangeId, right: RangeId, frozen_at: u64) -> Result<(), String> {
        let whole = |range: RangeId| {
            let replica = self.replicas.get(&range).filter(|replica| replica.stopped.is_none() && !replica.hollow);
            replica.ok_or_else(|| format!("{} has no whole replica of {range}", self.config.node))
        };
        whole(left)?;
        match whole(right)?.frozen_contents(frozen_at) {
            Some(_) => Ok(()),
            None => Err(format!("the replica of {right} on {} has not applied entry {frozen_at}", self.config.node)),
        }
    }

    /// A replica here has come to a merge in its log.
    pub(super) fn subsume(&mut self, now: Duration, left: RangeId, subsume: Subsume, out: &mut Vec<Effect>) {
        let Subsume { right, index, term, merged } = subsume;
        let tombstone = Tombstone::subsumed_by(merged);
        if self.replicas.get(&left).is_some_and(|replica| replica.hollow) {
            return self.delete(now, right, tombstone, out);
        }
        self.with_replica(now, right, out, |replica, cx| replica.catch_up_to(cx, index, term));
        let contents = self.replicas.get(&right).and_then(|replica| replica.frozen_contents(index));
        if contents.is_none() {
            self.delete(now, right, tombstone, out);
        }
        self.with_replica(now, left, out, |replica, cx| replica.go_on(cx, contents));
        let failed = self.replicas.get(&left).and_then(|replica| replica.stopped.clone());
        match failed {
            // The right-hand range's replica must not go on either: it may be no more.
            Some(why) => self.with_replica(now, right, out, |replica, cx| replica.stop(cx, &EngineError::Corrupt(why))),
            // The left-hand replica's batch has told the engine.
            None => {
                self.let_go(now, right, out);
                self.merged_away.push(right);
            }
        }
    }

    /// Whether a replica is frozen for one that is here as well, and has not come as far: it will need this one, to take it in.
    pub(super) fn is_awaited(&self, right: RangeId) -> bool {
        let Some(frozen) = self.replicas.get(&right).and_then(|replica| replica.state.frozen.as_ref()) else {
            return false;
        };
        self.replicas.get(&frozen.left).is_some_and(|left| {
            let lives = left.stopped.is_none() && !left.hollow && !left.has_departed();
            lives && left.descriptor().epoch <= frozen.left_epoch
        })
    }

    /// Deletes replicas here whose ranges were merged into this one: else they would keep its contents out for ever.
    pub(super) fn clear_subsumed(&mut self, now: Duration, by: &RangeDescriptor, out: &mut Vec<Effect>) {
        let gone = self.replicas.values().filter(|replica| by.has_taken_in(replica.descriptor()));
        let gone: Vec<RangeId> = gone.map(|replica| replica.descriptor().id).collect();
        for range in gone {
            self.config.knobs.probe.took(Path::SubsumedCleared);
            self.delete(now, range, Tombstone::subsumed_by(by.clone()), out);
        }
    }

    /// Tells a replica whose range was merged into one that is held here.
    pub(super) fn tell_merged(&self, to: NodeId, replica: ReplicaId, known: &RangeDescriptor, out: &mut Vec<Effect>) {
        let whole = self.replicas.values().filter(|replica| !replica.hollow);
        if let Some(holder) = whole.map(|replica| replica.descriptor()).find(|holder| holder.has_taken_in(known)) {
            let descriptor = holder.clone();
            out.push(Effect::Send { to, body: Body::Removed { range: known.id, replica, descriptor } });
        }
    }
}
