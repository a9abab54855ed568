//! Replicas of a range whose stores vouch for each other tick slowly: a heartbeat is for two stores, not for each range.
//!
//! By Raft's heartbeats followers know that their leader lives, and what is committed; by the answers the leader knows that a quorum
//! follows. Of life and death stores tell each other, for all ranges that they share ([`proto::message::Beat`]). What is left for the ranges
//! themselves is seldom: an awake replica is *at leisure* while it
//!
//! * leads, and all entries are committed, and every follower holds them or is on a silent node; and a quorum is on others; or
//! * follows a leader, whose node is not silent.
//!
//! At leisure one Raft tick in [`Knobs::leisure`](crate::config::Knobs::leisure) counts, each replica's in its turn. Entries say all that a heartbeat says, but for the last
//! one's being committed. So a leader's turns count once there have been so many without a write that a heartbeat is due, all at once; and no tick does while all that is
//! under way is younger than the last. That the last entry is committed followers learn with the next one, or once none has come for a while; of what
//! changes the range itself they are told at once.
//!
//! Each side decides that by itself; no promise rests on it (fences need rounds or commands that a quorum has acknowledged). What must not happen is
//! that nobody leads for long:
//!
//! 1. When a node falls silent or has been started anew, followers of its leaders stand for election within one more election timeout, of ticks that count.
//! 2. A leader that steps down, and knows no other, says so to its followers, which do the same.
//! 3. If that word is lost, an election timeout of slow ticks passes, and then one of ticks that count.

use proto::message::{Body, LedRange};

use super::replica::{Replica, Surroundings};
use crate::probe::{Path, Point};

/// How a replica's Raft ticks count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// Each does.
    Regular,
    /// This one does not: all that is not done yet is younger than a tick, and was sent to every follower.
    Busy,
    /// One in several does.
    Leisurely,
}

impl Replica {
    /// A Raft tick has passed. It counts if the replica is not at leisure, or if it is its `turn`. Says whether it is at leisure.
    pub fn tick_group(&mut self, cx: &Surroundings<'_>, turn: bool) -> bool {
        if self.leader.is_some_and(|leader| cx.lost.contains(&leader)) {
            self.group.miss_leader();
        }
        self.tell_slower(cx);
        let pace = self.pace(cx);
        match pace {
            Pace::Regular => {}
            Pace::Busy => {
                cx.knobs.probe.took(Path::EntriesForHeartbeats);
                return false;
            }
            Pace::Leisurely if !turn => return true,
            Pace::Leisurely => {
                if !self.is_unwritten(cx.knobs.heartbeat_ticks) {
                    return true;
                }
                cx.knobs.probe.took(Path::TickedAtLeisure);
                if self.leading.is_some() {
                    (1..cx.knobs.heartbeat_ticks).for_each(|_| self.group.tick());
                }
            }
        }
        self.group.tick();
        self.dirty = true;
        pace == Pace::Leisurely
    }

    fn pace(&mut self, cx: &Surroundings<'_>) -> Pace {
        let eager = cx.knobs.probe.fires(Point::EagerTick);
        if eager || self.hollow || self.incoming.is_some() || self.has_departed() {
            return Pace::Regular;
        }
        let last = self.group.last_index();
        let Some(leading) = &mut self.leading else {
            let answers = self.leader.is_some_and(|leader| cx.answering.contains(&leader));
            return if answers && !self.group.misses_leader() { Pace::Leisurely } else { Pace::Regular };
        };
        let before = std::mem::replace(&mut leading.last_at_tick, last);
        let done = leading.rounds.is_empty()
            && leading.departed.is_empty()
            && leading.handover.is_none()
            && leading.to_tell.is_none();
        if !leading.serving || !done || !self.has_answering_quorum(cx) {
            return Pace::Regular;
        }
        let replicated = |index: u64| self.group.is_replicated(index, |id| self.answers(cx, id));
        if replicated(last) {
            Pace::Leisurely
        } else if before < last && replicated(before) {
            Pace::Busy
        } else {
            Pace::Regular
        }
    }

    /// Followers are to learn at once that an entry is committed, which changes the range itself: a split's right-hand side elects nobody before it
    /// exists elsewhere, and a merge waits for all replicas. Those that are slower to write it down than others learn it when they have.
    pub(super) fn tell_soon(&mut self, index: u64) {
        if let Some(leading) = &mut self.leading {
            leading.to_tell = Some(index);
            self.group.tell_committed();
        }
    }

    /// Tells the slower ones.
    pub fn tell_slower(&mut self, cx: &Surroundings<'_>) {
        let Some(index) = self.leading.as_ref().and_then(|leading| leading.to_tell) else { return };
        if !self.group.is_replicated(index, |id| self.answers(cx, id)) {
            return;
        }
        if !self.group.is_told(index, |id| self.answers(cx, id)) {
            self.group.tell_committed();
            self.dirty = true;
        }
        if let Some(leading) = &mut self.leading {
            leading.to_tell = None;
        }
    }

    /// Whether a step of a follower at leisure changes nothing of that.
    pub fn follows_on(&self) -> bool {
        let led = self.leading.is_none() && self.leader.is_some() && !self.group.misses_leader();
        led && self.stopped.is_none() && !self.hollow && self.incoming.is_none() && !self.has_departed()
    }

    /// Whether a leader has had no entries for its followers for so many turns, again and again; followers have none anyway.
    fn is_unwritten(&mut self, turns: usize) -> bool {
        let last = self.group.last_index();
        let Some(leading) = &mut self.leading else { return true };
        let wrote = std::mem::replace(&mut leading.last_at_turn, last) < last;
        leading.unwritten_turns = if wrote { 0 } else { leading.unwritten_turns + 1 };
        let unwritten = leading.unwritten_turns >= turns;
        if unwritten {
            leading.unwritten_turns = 0;
        }
        unwritten
    }

    /// Tells the followers of a leader that steps down, and knows no other.
    pub(super) fn tell_unled(&self, cx: &mut Surroundings<'_>, term: u64) {
        if self.leader_node().is_some_and(|leader| leader != self.me.node) || cx.knobs.probe.fires(Point::UnledLost) {
            return;
        }
        let unled = LedRange { range: self.state.descriptor.id, term };
        let others = self.state.descriptor.replicas.iter().filter(|replica| replica.id != self.me.id);
        cx.effects.messages.extend(others.map(|replica| (replica.node, Body::Unled(vec![unled]))));
    }

    /// A node says that it leads the range no longer.
    pub fn hear_unled(&mut self, cx: &Surroundings<'_>, from: proto::NodeId, led: LedRange) {
        if self.group.term() == led.term && self.leader_node() == Some(from) {
            cx.knobs.probe.took(Path::LeaderResigned);
            self.rouse(cx);
            self.group.miss_leader();
        }
    }
}
