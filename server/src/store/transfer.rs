//! A store gives leadership away.
//!
//! One whose process is about to stop says so to all others, and takes no leadership any more: whoever was handed a range a moment before its node
//! stops would leave it without a leader until that is noticed.

use std::time::Duration;

use proto::message::{Beat, Body};
use proto::{NodeId, RangeId};

use super::event::Effect;
use super::machine::Store;
use crate::probe::Path;
use crate::range::replica::Resting;

/// How leadership is given away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// With an entry that spares the winner its low-water mark: see [`crate::range::handover`].
    Planned,
    /// By a leader that can write no entry, or whose clock nobody shall rely on. The winner begins like any other.
    AtOnce,
}

impl Store {
    /// The process is about to stop. Said again and again.
    pub(super) fn leave(&mut self, now: Duration, out: &mut Vec<Effect>) {
        self.leaving = true;
        for to in self.config.members.iter().copied().filter(|node| *node != self.config.node) {
            let beat = Beat { run: self.config.run, asks: false, roll: Vec::new(), leaving: true };
            out.push(Effect::Send { to, body: Body::Beat(beat) });
        }
        self.drain(now, Haste::Planned, out);
    }

    /// How many ranges are led here that somebody else could lead.
    pub fn to_hand_over(&self) -> usize {
        let led = self.replicas().filter(|replica| replica.group.is_leader());
        led.filter(|replica| replica.successor(self.resting_nodes(), None).is_some()).count()
    }

    fn resting_nodes(&self) -> Resting<'_> {
        Resting { members: &self.resting, leaving: self.listed.liveness.leaving() }
    }

    /// What is being handed to a node that is about to stop goes to others.
    pub(super) fn hand_elsewhere(&mut self, now: Duration, leaving: NodeId, out: &mut Vec<Effect>) {
        let handed = self.replicas().filter(|replica| replica.is_handing_over_to(leaving));
        let handed: Vec<RangeId> = handed.map(|replica| replica.descriptor().id).collect();
        for range in handed {
            self.with_replica(now, range, out, |replica, cx| replica.hand_over_to_another(cx));
        }
    }

    /// Hands all leadership to followers that are up to date.
    pub(super) fn drain(&mut self, now: Duration, haste: Haste, out: &mut Vec<Effect>) {
        let led: Vec<RangeId> = self.replicas.iter().filter(|(_, r)| r.group.is_leader()).map(|(id, _)| *id).collect();
        for range in led {
            self.transfer(now, range, haste, out);
        }
    }

    /// Hands the leadership of a range, if it is here, to the follower that is furthest and does not rest.
    pub fn transfer(&mut self, now: Duration, range: RangeId, haste: Haste, out: &mut Vec<Effect>) {
        self.rouse(now, range, out);
        let Some(replica) = self.replicas.get(&range).filter(|r| r.group.is_leader()) else { return };
        // What is under way already goes on by itself.
        if haste == Haste::Planned && replica.is_handing_over() {
            return;
        }
        let Some(follower) = replica.successor(self.resting_nodes(), None) else { return };
        let planned = haste == Haste::Planned && replica.is_serving();
        self.config.knobs.probe.took(Path::Transferred);
        self.with_replica(now, range, out, |replica, cx| {
            if planned {
                replica.hand_over_to(cx, follower);
            } else {
                replica.group.transfer_leader(follower);
                replica.dirty = true;
            }
        });
    }
}
