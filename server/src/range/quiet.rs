//! An idle range falls quiet: neither its leader nor its followers tick, and nothing is sent for it.
//!
//! ```text
//!             idle for a while, nothing left to do (leader)
//!             told so by the leader, and in step with it (follower)
//!   awake ─────────────────────────────────────────────────────────▶ quiet
//!     ▲                                                                │
//!     └── a request, a Raft message with news, a wake-up from another ─┘
//!         store, or a node that it watches has changed
//! ```
//!
//! No promise rests on it: an idle leader's fence lapses anyway, and when it is asked again it needs an acknowledged round first. What must not happen is
//! that a range stays quiet when nobody leads it. Invariants:
//!
//! 1. A quiet replica *watches* nodes: a follower its leader's, a leader those of all others. When one of them falls silent, speaks again, or
//!    has been started anew, the replica wakes (in the store).
//! 2. A follower is quiet only while its leader's replica is: its store keeps asking the leader's store, a few ranges with each beat, and
//!    that one answers for each that it does not lead quietly in that term.
//! 3. A leader falls quiet only with a quorum on nodes that answer, and with every follower on such a node in step: it holds all entries
//!    and knows them to be committed. Those on silent nodes may miss something; when they speak again, the leader wakes (1) and tells them.
//! 4. A quiet replica that is sent any Raft message with news wakes before it takes it in. So whoever was forgotten, and stands for election, wakes the
//!    others.
//!
//! What can be lost is a word. If a follower is not told, it misses its leader, asks for votes, and so wakes everybody. If it is told and the
//! leader has changed its mind, (2) wakes it.

use std::time::Duration;

use proto::message::{Body, QuietWord};
use proto::{NodeId, ReplicaId};
use raft::eraftpb::Message;

use super::replica::{Replica, Surroundings};
use crate::probe::{Path, Point};

/// How a store has a replica in its lists, and in its sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Raft ticks visit it.
    pub awake: bool,
    /// All ticks do.
    pub busy: bool,
    /// It was at leisure when last visited, and has done nothing since but follow.
    pub leisurely: bool,
    /// It has stepped since the store last reported.
    pub changed: bool,
    pub log_bytes: usize,
    pub bytes: u64,
}

impl Replica {
    pub fn is_quiet(&self) -> bool {
        self.quiet.is_some()
    }

    /// Whether it leads in a term.
    pub fn leads_in(&self, term: u64) -> bool {
        self.stopped.is_none() && self.group.is_leader() && self.group.term() == term
    }

    /// Whether it leads, and is quiet, in a term.
    pub fn leads_quietly(&self, term: u64) -> bool {
        self.is_quiet() && self.is_serving() && self.group.term() == term
    }

    /// Whether something here is looked at with every tick of the store.
    pub fn is_busy(&self) -> bool {
        let leading = self.leading.as_ref();
        self.incoming.is_some() || leading.is_some_and(|l| !l.waiting.is_empty() || l.weighing.is_surveying())
    }

    /// Ends the quiet, if there is any.
    pub fn rouse(&mut self, cx: &Surroundings<'_>) {
        if self.quiet.take().is_none() {
            return;
        }
        self.stirred = cx.now;
        if self.leader.is_some_and(|leader| !cx.answering.contains(&leader)) {
            self.group.miss_leader();
        }
    }

    /// Somebody wants it awake, and to stay so for a while.
    pub fn keep_awake(&mut self, cx: &Surroundings<'_>) {
        self.rouse(cx);
        self.stir(cx.now);
    }

    /// A Raft message is about to be taken in.
    pub fn rouse_for(&mut self, cx: &Surroundings<'_>, message: &Message) {
        if self.is_quiet() && !self.group.is_stale_news(message) {
            self.rouse(cx);
        }
    }

    /// A leader of an idle range falls quiet.
    pub fn tick_quiet(&mut self, cx: &mut Surroundings<'_>) {
        if cx.now < self.stirred + cx.knobs.quiet_after || !self.has_nothing_to_do(cx) {
            return;
        }
        // What it was asked last may make it want to be split; and can be read elsewhere once it is closed.
        if self.judge_before_rest(cx) || self.close_before_rest(cx) {
            return;
        }
        cx.knobs.probe.took(Path::LeaderQuiet);
        if let Some(leading) = &mut self.leading {
            leading.shrink();
        }
        let (from, term, commit) = (self.me.id, self.group.term(), self.group.last_index());
        let others = self.state.descriptor.replicas.iter().filter(|replica| replica.id != self.me.id);
        let mut watched: Vec<NodeId> = Vec::new();
        for other in others {
            watched.push(other.node);
            if !cx.knobs.probe.fires(Point::QuietWordLost) {
                let word = QuietWord { range: self.state.descriptor.id, from, to: other.id, term, commit };
                cx.effects.quiet.push((other.node, word));
            }
        }
        self.quiet = Some(watched);
    }

    fn has_nothing_to_do(&self, cx: &Surroundings<'_>) -> bool {
        let Some(leading) = self.leading.as_ref().filter(|leading| leading.serving) else { return false };
        let idle = leading.waiting.is_empty()
            && leading.proposals.is_empty()
            && leading.rounds.is_empty()
            && leading.reshaping.is_none()
            && leading.handover.is_none()
            && leading.departed.is_empty()
            && leading.locks.is_empty()
            && leading.active.is_none();
        let at_rest = self.state.is_settled()
            && self.state.frozen.is_none()
            && !self.state.descriptor.is_joint()
            && self.incoming.is_none();
        if !idle || !at_rest || cx.disk_stalls {
            return false;
        }
        self.has_answering_quorum(cx) && self.group.is_done(|id| self.answers(cx, id))
    }

    /// Whether a replica is on a node that answers.
    pub(super) fn answers(&self, cx: &Surroundings<'_>, id: u64) -> bool {
        let answers = |node: NodeId| node == self.me.node || cx.answering.contains(&node);
        self.state.descriptor.replica(ReplicaId(id)).is_some_and(|replica| answers(replica.node))
    }

    /// Whether a quorum of the voters is on nodes that answer.
    pub(super) fn has_answering_quorum(&self, cx: &Surroundings<'_>) -> bool {
        let voters = || self.state.descriptor.replicas.iter().filter(|replica| replica.role.votes());
        voters().filter(|replica| self.answers(cx, replica.id.0)).count() * 2 > voters().count()
    }

    /// The leader says that it falls quiet. One that is not in step with it says so.
    pub fn hear_quiet(&mut self, cx: &mut Surroundings<'_>, from: NodeId, word: &QuietWord) {
        let fits = self.stopped.is_none() && self.me.id == word.to && !self.has_departed() && self.incoming.is_none();
        if fits && self.group.is_in_step(word.from.0, word.term, word.commit) && self.leader_node() == Some(from) {
            cx.knobs.probe.took(Path::FollowerQuiet);
            self.eager_ticks = 0;
            self.quiet = Some(vec![from]);
        } else {
            cx.knobs.probe.took(Path::QuietDeclined);
            cx.effects.messages.push((from, Body::Wake(vec![word.range])));
        }
    }

    /// Whether it has been idle, for its timers.
    pub(super) fn stir(&mut self, now: Duration) {
        self.stirred = now;
    }
}
