//! A store gives leadership away.

use std::time::Duration;

use proto::{NodeId, RangeId, ReplicaDescriptor};

use super::event::Effect;
use super::machine::Store;
use crate::probe::Path;

/// How leadership is given away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// With an entry that spares the winner its low-water mark: see [`crate::range::handover`].
    Planned,
    /// By a leader that can write no entry, or whose clock nobody shall rely on. The winner begins like any other.
    AtOnce,
}

impl Store {
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
        let rests = |replica: &&ReplicaDescriptor| self.resting.contains::<NodeId>(&replica.node);
        let resting: Vec<u64> = replica.descriptor().replicas.iter().filter(rests).map(|r| r.id.0).collect();
        let Some(follower) = replica.group.successor(&resting) else { return };
        let planned = haste == Haste::Planned && replica.is_serving();
        // What is under way already goes on by itself.
        if haste == Haste::Planned && replica.is_handing_over() {
            return;
        }
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
