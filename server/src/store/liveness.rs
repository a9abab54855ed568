//! Which other stores live, as far as ranges need to know that send little or nothing.
//!
//! A quiet range sends nothing, one at leisure little, so their replicas cannot tell by themselves whether a leader is still there. Their stores do it for all
//! of them: each sends every store that its quiet ranges *watch*, or that Raft messages come from, one [`Beat`](proto::message::Beat) now and then. Any message counts as a sign of life; a beat also
//! says which life of the process it comes from, and names a few of the ranges that the sender believes to be led quietly by the receiver.
//!
//! A node *changes* when it falls silent, speaks after it was silent, or turns out to have been started anew. Then every quiet range that watches
//! it is woken: thousands of them a few at a time. A node that was never heard of counts as silent.
//!
//! Time in which this store itself stood still is nobody's silence.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proto::{NodeId, RangeId};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Liveness {
    peers: BTreeMap<NodeId, Peer>,
    /// The nodes that are not silent.
    answering: BTreeSet<NodeId>,
    /// The quiet ranges here, and whom they watch; and the same the other way round.
    watches: BTreeMap<RangeId, Vec<NodeId>>,
    watched: BTreeMap<NodeId, BTreeSet<RangeId>>,
    /// Nodes that fell silent, or turned out to have been started anew, since the last Raft tick.
    lost: BTreeSet<NodeId>,
    /// Nodes that said that they are about to stop, and have not been heard of in another life.
    leaving: BTreeSet<NodeId>,
    /// Quiet ranges that are to be woken.
    waking: BTreeSet<RangeId>,
    ticked: Duration,
    beaten: Option<Duration>,
}

#[derive(Debug, Default)]
struct Peer {
    heard: Duration,
    /// When it last sent a Raft message.
    raft: Option<Duration>,
    run: Option<u64>,
    /// The last range that the roll call came to.
    called: Option<RangeId>,
}

/// Replicas at leisure send each other something at least so often, or their stores no beats.
const AWAKE: Duration = Duration::from_secs(3);

impl Peer {
    fn shares_awake(&self, now: Duration) -> bool {
        self.raft.is_some_and(|at| now < at + AWAKE)
    }
}

impl Liveness {
    pub fn answering(&self) -> &BTreeSet<NodeId> {
        &self.answering
    }

    pub fn lost(&self) -> &BTreeSet<NodeId> {
        &self.lost
    }

    /// All replicas here have learnt who was lost.
    pub fn forget_lost(&mut self) {
        self.lost.clear();
    }

    /// A Raft message has come from a node: they share a range that is awake.
    pub fn hear_raft(&mut self, now: Duration, node: NodeId) {
        self.peers.entry(node).or_default().raft = Some(now);
    }

    /// A message has come from a node.
    pub fn hear(&mut self, now: Duration, node: NodeId) {
        self.peers.entry(node).or_default().heard = now;
        if self.answering.insert(node) {
            self.change(node);
        }
    }

    /// A node says which life it is in.
    pub fn hear_run(&mut self, node: NodeId, run: u64) {
        let known = self.peers.entry(node).or_default().run.replace(run);
        if known.is_some_and(|known| known != run) {
            self.leaving.remove(&node);
            self.lost.insert(node);
            self.change(node);
        }
    }

    /// A node says that this life of it is about to end. Says whether that is news.
    pub fn hear_leaving(&mut self, node: NodeId) -> bool {
        self.leaving.insert(node)
    }

    pub fn leaving(&self) -> &BTreeSet<NodeId> {
        &self.leaving
    }

    /// Notices who is silent.
    pub fn tick(&mut self, now: Duration, silent_after: Duration) {
        let stood_still = now.saturating_sub(self.ticked);
        self.ticked = now;
        let mut silent = Vec::new();
        for (node, peer) in &mut self.peers {
            // However often beats come: ticks may be further apart than they are.
            if stood_still > silent_after / 2 {
                peer.heard += stood_still;
            }
            if now >= peer.heard + silent_after && self.answering.remove(node) {
                silent.push(*node);
            }
        }
        for node in silent {
            self.lost.insert(node);
            self.change(node);
        }
    }

    fn change(&mut self, node: NodeId) {
        self.waking.extend(self.watched.get(&node).into_iter().flatten());
    }

    /// A range has fallen quiet, and watches these nodes.
    pub fn watch(&mut self, range: RangeId, nodes: Vec<NodeId>) {
        self.forget(range);
        for node in &nodes {
            self.watched.entry(*node).or_default().insert(range);
        }
        self.watches.insert(range, nodes);
    }

    /// A range is quiet no more.
    pub fn forget(&mut self, range: RangeId) {
        self.waking.remove(&range);
        for node in self.watches.remove(&range).into_iter().flatten() {
            if let Some(ranges) = self.watched.get_mut(&node) {
                ranges.remove(&range);
                if ranges.is_empty() {
                    self.watched.remove(&node);
                }
            }
        }
    }

    /// Whether a node is sent beats: a quiet range watches it, or they share one that is awake.
    pub fn is_beaten_to(&self, now: Duration, node: NodeId) -> bool {
        self.watched.contains_key(&node) || self.peers.get(&node).is_some_and(|peer| peer.shares_awake(now))
    }

    /// Ranges to be woken now.
    pub fn take_waking(&mut self, most: usize) -> Vec<RangeId> {
        let taken: Vec<RangeId> = self.waking.iter().take(most).copied().collect();
        self.waking.retain(|range| taken.last().is_some_and(|last| range > last));
        taken
    }

    /// Whom to send a beat, if it is time.
    pub fn take_beats(&mut self, now: Duration, every: Duration) -> Vec<NodeId> {
        if self.beaten.is_some_and(|beaten| now < beaten + every) {
            return Vec::new();
        }
        self.beaten = Some(now);
        let awake = self.peers.iter().filter(|(_, peer)| peer.shares_awake(now)).map(|(node, _)| *node);
        let nodes: BTreeSet<NodeId> = self.watched.keys().copied().chain(awake).collect();
        nodes.into_iter().collect()
    }

    /// The next quiet ranges that watch a node, each in its turn.
    pub fn call_roll(&mut self, node: NodeId, most: usize) -> Vec<RangeId> {
        let Some(ranges) = self.watched.get(&node) else { return Vec::new() };
        let peer = self.peers.entry(node).or_default();
        let after = peer.called.map_or(RangeId(0), |called| RangeId(called.0 + 1));
        let called: Vec<RangeId> = ranges.range(after..).chain(ranges.range(..after)).take(most).copied().collect();
        peer.called = called.last().copied();
        called
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const OTHER: NodeId = NodeId(2);

    fn tick(liveness: &mut Liveness, now: u32) -> Vec<RangeId> {
        liveness.tick(MS * now, MS * 50);
        liveness.take_waking(100)
    }

    #[test]
    fn ranges_wake_when_a_node_falls_silent_and_when_it_speaks_again() {
        let mut liveness = Liveness::default();
        liveness.hear(Duration::ZERO, OTHER);
        liveness.watch(RangeId(7), vec![OTHER]);
        assert!((0..50).step_by(10).all(|now| tick(&mut liveness, now).is_empty()));
        assert_eq!(tick(&mut liveness, 50), [RangeId(7)]);
        assert!(liveness.answering().is_empty());
        liveness.hear(MS * 51, OTHER);
        assert_eq!(tick(&mut liveness, 55), [RangeId(7)]);
    }

    #[test]
    fn another_life_is_a_change_and_the_first_one_heard_of_is_not() {
        let mut liveness = Liveness::default();
        liveness.hear(Duration::ZERO, OTHER);
        liveness.watch(RangeId(7), vec![OTHER]);
        liveness.hear_run(OTHER, 1);
        liveness.hear_run(OTHER, 1);
        assert!(tick(&mut liveness, 1).is_empty());
        liveness.hear_run(OTHER, 2);
        assert_eq!(tick(&mut liveness, 2), [RangeId(7)]);
    }

    #[test]
    fn ones_own_pause_is_nobodys_silence() {
        let mut liveness = Liveness::default();
        liveness.hear(Duration::ZERO, OTHER);
        liveness.watch(RangeId(7), vec![OTHER]);
        assert!(tick(&mut liveness, 1).is_empty());
        assert!(tick(&mut liveness, 900).is_empty());
        assert!(tick(&mut liveness, 905).is_empty());
    }

    #[test]
    fn the_roll_call_comes_to_everybody() {
        let mut liveness = Liveness::default();
        (1..=5).for_each(|range| liveness.watch(RangeId(range), vec![OTHER]));
        let calls: Vec<Vec<u64>> =
            (0..3).map(|_| liveness.call_roll(OTHER, 2).into_iter().map(|range| range.0).collect()).collect();
        assert_eq!(calls, [[1, 2], [3, 4], [5, 1]]);
    }

    #[test]
    fn what_is_awake_is_neither_woken_nor_watched() {
        let mut liveness = Liveness::default();
        liveness.watch(RangeId(7), vec![OTHER]);
        liveness.hear(Duration::ZERO, OTHER);
        liveness.forget(RangeId(7));
        assert!(tick(&mut liveness, 1).is_empty());
        assert!(!liveness.is_beaten_to(Duration::ZERO, OTHER));
    }
}
