//! Replicas of a range whose stores vouch for each other tick slowly: a heartbeat is for two stores, not for each range.
//!
//! By Raft's heartbeats followers know that their leader lives, and what is committed; by the answers the leader knows that a quorum
//! follows. Of life and death stores tell each other, for all ranges that they share ([`proto::message::Beat`]). What is left for the ranges
//! themselves is seldom: an awake replica is *at leisure* while it
//!
//! * leads, and every follower holds all entries and knows them to be committed, or is on a silent node; and a quorum is on others; or
//! * follows a leader, whose node is not silent.
//!
//! At leisure one Raft tick in [`Knobs::leisure`](crate::config::Knobs::leisure) counts, each replica's in its turn. Each side decides that by itself; no promise rests on it (fences need rounds or commands
//! that a quorum has acknowledged). What must not happen is that nobody leads for long:
//!
//! 1. When a node falls silent or has been started anew, followers of its leaders stand for election within one more election timeout, of ticks that count.
//! 2. A leader that steps down, and knows no other, says so to its followers, which do the same.
//! 3. If that word is lost, an election timeout of slow ticks passes, and then one of ticks that count.

use proto::message::{Body, Unled};

use super::replica::{Replica, Surroundings};
use crate::probe::{Path, Point};

impl Replica {
    /// A Raft tick has passed. It counts if the replica is not at leisure, or if it is its `turn`. Says whether it is at leisure.
    pub fn tick_group(&mut self, cx: &Surroundings<'_>, turn: bool) -> bool {
        if self.leader.is_some_and(|leader| cx.lost.contains(&leader)) {
            self.group.miss_leader();
        }
        let at_leisure = self.is_at_leisure(cx);
        if at_leisure && !turn {
            return true;
        }
        if at_leisure {
            cx.knobs.probe.took(Path::TickedAtLeisure);
        }
        self.group.tick();
        self.dirty = true;
        at_leisure
    }

    fn is_at_leisure(&self, cx: &Surroundings<'_>) -> bool {
        if self.hollow || self.incoming.is_some() || self.has_departed() {
            return false;
        }
        match &self.leading {
            Some(leading) => {
                let done = leading.rounds.is_empty() && leading.departed.is_empty() && leading.handover.is_none();
                leading.serving && done && self.has_followers_in_step(cx)
            }
            None => {
                let answers = self.leader.is_some_and(|leader| cx.answering.contains(&leader));
                answers && !self.group.misses_leader()
            }
        }
    }

    /// Tells the followers of a leader that steps down, and knows no other.
    pub(super) fn tell_unled(&self, cx: &mut Surroundings<'_>, term: u64) {
        if self.leader_node().is_some_and(|leader| leader != self.me.node) || cx.knobs.probe.fires(Point::UnledLost) {
            return;
        }
        let unled = Unled { range: self.state.descriptor.id, term };
        let others = self.state.descriptor.replicas.iter().filter(|replica| replica.id != self.me.id);
        cx.effects.messages.extend(others.map(|replica| (replica.node, Body::Unled(unled))));
    }

    /// A node says that it leads the range no longer.
    pub fn hear_unled(&mut self, cx: &Surroundings<'_>, from: proto::NodeId, unled: Unled) {
        if self.group.term() == unled.term && self.leader_node() == Some(from) {
            cx.knobs.probe.took(Path::LeaderResigned);
            self.rouse(cx);
            self.group.miss_leader();
        }
    }
}
