//! Replicas that belong to their ranges no longer are deleted, and leave tombstones (I13).
//!
//! A replica's id is never used twice, and a node holds one replica of a range at a time. So a message to a higher id says
//! that the replica here was removed, and a message from an id that a descriptor counts as gone comes from one that does not know yet. Its
//! removal was committed: whoever hears of it may believe it.

use std::time::Duration;

use proto::message::{Body, ContentsMessage, RaftMessage};
use proto::{NodeId, RangeDescriptor, RangeId, ReplicaId};
use raft::eraftpb::Message;
use txn::WriteBatch;

use super::event::Effect;
use super::machine::Store;
use crate::probe::Path;
use crate::range::incoming::manifest;
use crate::range::state::{self, Tombstone};
use crate::range::{Replica, snapshot};

impl Store {
    /// Deletes a replica for good.
    pub(super) fn delete(&mut self, now: Duration, range: RangeId, tombstone: Tombstone, out: &mut Vec<Effect>) {
        let Some(replica) = self.let_go(now, range, out) else { return };
        self.config.knobs.probe.took(Path::ReplicaDeleted);
        let mut batch = WriteBatch::default();
        snapshot::clear(&mut batch, &replica.claims());
        state::remove_state(&mut batch, range);
        state::put_tombstone(&mut batch, range, &tombstone);
        if let Err(error) = self.engine.write(batch) {
            out.push(Effect::Stop(error.to_string()));
        }
    }

    /// The store has a replica no longer, and the log is to forget it once the engine has durably.
    pub(super) fn let_go(&mut self, now: Duration, range: RangeId, out: &mut Vec<Effect>) -> Option<Replica> {
        self.with_replica(now, range, out, |replica, cx| replica.step_down(cx));
        let replica = self.replicas.remove(&range)?;
        self.unlist(range, replica.listing);
        self.touched.remove(&range);
        self.orphans.remove(&range);
        self.newborn.forget(range);
        self.forgotten.push(range);
        // Else a crash might leave contents whose votes are forgotten.
        self.flush_first = true;
        Some(*replica)
    }

    /// A message for a later replica of a range than the one here: this one was removed, and the later one is to come into being.
    pub(super) fn replace_by_newer(&mut self, now: Duration, message: &RaftMessage, out: &mut Vec<Effect>) {
        let Some(replica) = self.replicas.get(&message.range) else { return };
        let descriptor = replica.descriptor().clone();
        self.delete(now, message.range, Tombstone { next_replica: message.to, descriptor }, out);
    }

    /// If a message comes from a replica that was removed and is not needed any more, tells it so.
    pub(super) fn tell_removed(&self, to: NodeId, range: RangeId, id: ReplicaId, out: &mut Vec<Effect>) -> bool {
        let gone = |known: &RangeDescriptor| known.id != range || known.has_removed(id);
        let descriptor = match self.replicas.get(&range) {
            Some(replica) => Some(&replica.state)
                .filter(|state| !replica.hollow && gone(&state.descriptor) && state.is_settled())
                .map(|state| state.descriptor.clone()),
            // This one could only be deleted once all removals that its descriptor knows of were settled.
            None => state::tombstone(self.engine.as_ref(), range).ok().flatten().map(|t| t.descriptor).filter(gone),
        };
        let Some(descriptor) = descriptor else { return false };
        self.config.knobs.probe.took(Path::RemovedTold);
        out.push(Effect::Send { to, body: Body::Removed { range, replica: id, descriptor } });
        true
    }

    /// Somebody says that a replica here was removed.
    pub fn hear_of_removal(
        &mut self,
        now: Duration,
        (range, id): (RangeId, ReplicaId),
        descriptor: RangeDescriptor,
        out: &mut Vec<Effect>,
    ) {
        if self.replicas.get(&range).is_none_or(|replica| replica.me.id != id) {
            return;
        }
        let tombstone = match descriptor.id == range {
            true if !descriptor.has_removed(id) => return,
            true => Tombstone::on(self.config.node, descriptor),
            // The range on its left needs it, to take it in here as well.
            false if self.is_awaited(range) => return,
            // Whoever says so has seen it: there is no such range any more.
            false => Tombstone::subsumed_by(descriptor),
        };
        self.delete(now, range, tombstone, out);
    }

    /// Where a range went that is not here: for a gateway that still asks here.
    pub(super) fn sent_on(&self, range: RangeId) -> Vec<RangeDescriptor> {
        let tombstone = state::tombstone(self.engine.as_ref(), range).ok().flatten();
        tombstone.map(|tombstone| tombstone.descriptor).into_iter().collect()
    }

    /// Whether the contents that an offer promises have their place here: no other replica claims any of their keys, and not too many
    /// take in contents already. Replicas of ranges that were merged into this one make room.
    pub(super) fn may_take(&mut self, now: Duration, range: RangeId, offer: &Message, out: &mut Vec<Effect>) -> bool {
        let Ok(manifest) = manifest(offer) else { return false };
        let needs = self.replicas.get(&range).is_some_and(|replica| replica.needs_contents(offer));
        let others = || self.replicas.iter().filter(|(id, _)| **id != range).map(|(_, replica)| replica);
        let taking = others().filter(|replica| replica.incoming.is_some()).count();
        if !needs || taking >= self.config.knobs.snapshots_max {
            return false;
        }
        self.clear_subsumed(now, &manifest.state.descriptor, out);
        let span = manifest.state.descriptor.span();
        !self.replicas.iter().any(|(id, replica)| *id != range && replica.claims().overlaps(&span))
    }

    pub(super) fn receive_contents(
        &mut self,
        now: Duration,
        from: NodeId,
        message: &ContentsMessage,
        out: &mut Vec<Effect>,
    ) {
        self.with_replica(now, message.range, out, |replica, cx| {
            if replica.stopped.is_none() && replica.me.id == message.to {
                replica.hear_of_contents(cx, from, message);
            }
        });
    }
}
