//! Which replicas the store's ticks visit, and what stores tell each other about quiet ranges: see [`crate::range::quiet`].
//!
//! A tick of the store visits the *busy* replicas, at which somebody waits; a Raft tick all that are *awake*, but those at
//! leisure each in its turn (see [`crate::range::leisure`]); nothing visits the others. The lists,
//! and the sums over all replicas, are brought up to date whenever a replica has stepped.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proto::message::{Beat, Body, LedRange, QuietWord};
use proto::{NodeId, RangeId};

use super::event::Effect;
use super::liveness::Liveness;
use super::machine::Store;
use crate::probe::Path;
use crate::range::quiet::Listing;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub awake: BTreeSet<RangeId>,
    pub busy: BTreeSet<RangeId>,
    /// Awake replicas that were at leisure when last visited, and have done nothing since but follow.
    leisurely: BTreeSet<RangeId>,
    pub liveness: Liveness,
    /// To be sent after the Raft messages of the same step.
    words: BTreeMap<NodeId, Vec<QuietWord>>,
    /// Bytes of all logs, and of all versions.
    pub log_bytes: usize,
    pub bytes: u64,
}

/// Whose turn it is, of the replicas at leisure.
#[derive(Clone, Copy)]
pub(super) struct Turns {
    /// Raft ticks so far.
    pub ticks: u32,
    pub leisure: u32,
}

impl Turns {
    pub fn is_turn(self, range: RangeId) -> bool {
        (range.0 + u64::from(self.ticks)).is_multiple_of(u64::from(self.leisure.max(1)))
    }
}

impl Listed {
    /// Whom a Raft tick visits.
    pub fn due(&self, turns: Turns) -> Vec<RangeId> {
        if !self.liveness.lost().is_empty() {
            return self.awake.iter().copied().collect();
        }
        let restless = self.awake.difference(&self.leisurely);
        let their_turn = self.leisurely.iter().filter(|range| turns.is_turn(**range));
        let mut due: Vec<RangeId> = restless.chain(their_turn).copied().collect();
        due.sort_unstable();
        due
    }
}

impl Store {
    /// A replica has stepped.
    pub(super) fn list(&mut self, range: RangeId) {
        let Some(replica) = self.replicas.get_mut(&range) else { return };
        let awake = !replica.is_quiet() && replica.stopped.is_none();
        let (log_bytes, bytes) = (replica.group.log_bytes(), replica.applied.bytes);
        let new = Listing {
            awake,
            busy: awake && replica.is_busy(),
            leisurely: awake && replica.listing.leisurely && replica.follows_on(),
            changed: true,
            log_bytes,
            bytes,
        };
        let old = std::mem::replace(&mut replica.listing, new);
        let listed = &mut self.listed;
        listed.log_bytes = listed.log_bytes + new.log_bytes - old.log_bytes;
        listed.bytes = (listed.bytes + new.bytes).saturating_sub(old.bytes);
        if !old.changed {
            self.reporting.changed.insert(range);
        }
        if old.leisurely && !new.leisurely {
            listed.leisurely.remove(&range);
        }
        if new.busy != old.busy {
            if new.busy {
                listed.busy.insert(range)
            } else {
                listed.busy.remove(&range)
            };
        }
        if new.awake == old.awake {
            return;
        }
        if new.awake {
            listed.awake.insert(range);
            listed.liveness.forget(range);
        } else {
            listed.awake.remove(&range);
            listed.liveness.watch(range, replica.quiet.clone().unwrap_or_default());
        }
    }

    /// A replica is gone.
    pub(super) fn unlist(&mut self, range: RangeId, listing: Listing) {
        let listed = &mut self.listed;
        listed.awake.remove(&range);
        listed.busy.remove(&range);
        listed.leisurely.remove(&range);
        listed.liveness.forget(range);
        listed.log_bytes -= listing.log_bytes;
        listed.bytes = listed.bytes.saturating_sub(listing.bytes);
        self.reporting.changed.insert(range);
    }

    /// A replica was just visited by a Raft tick, and is at leisure or is not.
    pub(super) fn rest(&mut self, range: RangeId, at_leisure: bool) {
        let Some(replica) = self.replicas.get_mut(&range) else { return };
        let leisurely = at_leisure && replica.listing.awake;
        if std::mem::replace(&mut replica.listing.leisurely, leisurely) == leisurely {
            return;
        }
        if leisurely {
            self.listed.leisurely.insert(range)
        } else {
            self.listed.leisurely.remove(&range)
        };
    }

    /// Wakes a replica, if it is quiet.
    pub(super) fn rouse(&mut self, now: Duration, range: RangeId, out: &mut Vec<Effect>) {
        if self.replicas.get(&range).is_some_and(|replica| replica.is_quiet()) {
            self.with_replica(now, range, out, |replica, cx| replica.rouse(cx));
        }
    }

    pub(super) fn gather_words(&mut self, words: Vec<(NodeId, QuietWord)>) {
        for (to, word) in words {
            self.listed.words.entry(to).or_default().push(word);
        }
    }

    /// A follower that takes a late heartbeat for news would wake at once: the words go last.
    pub(super) fn send_words(&mut self, out: &mut Vec<Effect>) {
        for (to, words) in std::mem::take(&mut self.listed.words) {
            out.push(Effect::Send { to, body: Body::Quiet(words) });
        }
    }

    pub(super) fn tick_liveness(&mut self, now: Duration, out: &mut Vec<Effect>) {
        let knobs = self.config.knobs.clone();
        self.listed.liveness.tick(now, knobs.silent_after);
        for range in self.listed.liveness.take_waking(knobs.wakes_per_tick) {
            knobs.probe.took(Path::WokenByNode);
            self.rouse(now, range, out);
            // A follower watches its leader's node only.
            self.with_replica(now, range, out, |replica, _| replica.group.miss_leader());
        }
        for to in self.listed.liveness.take_beats(now, knobs.beat_every) {
            let called = self.listed.liveness.call_roll(to, knobs.roll_call);
            let roll = called.into_iter().filter_map(|range| self.believed_quiet(range, to)).collect();
            let beat = Beat { run: self.config.run, asks: true, roll, leaving: self.leaving };
            out.push(Effect::Send { to, body: Body::Beat(beat) });
        }
    }

    /// A quiet range of which this store believes that a node leads it.
    fn believed_quiet(&self, range: RangeId, leader: NodeId) -> Option<LedRange> {
        let replica = self.replicas.get(&range)?;
        let follows = !replica.group.is_leader() && replica.leader == Some(leader);
        follows.then(|| LedRange { range, term: replica.group.term() })
    }

    pub(super) fn hear_beat(&mut self, now: Duration, from: NodeId, beat: &Beat, out: &mut Vec<Effect>) {
        self.listed.liveness.hear_run(from, beat.run);
        if beat.leaving && self.listed.liveness.hear_leaving(from) {
            self.hand_elsewhere(now, from, out);
        }
        let quiet = |called: &&LedRange| {
            self.replicas.get(&called.range).is_some_and(|replica| replica.leads_quietly(called.term))
        };
        let led =
            |called: &LedRange| self.replicas.get(&called.range).is_some_and(|replica| replica.leads_in(called.term));
        let awake_or_unled = beat.roll.iter().filter(|called| !quiet(called)).copied();
        let (awake, unled): (Vec<LedRange>, Vec<_>) = awake_or_unled.partition(led);
        if !awake.is_empty() {
            self.config.knobs.probe.took(Path::WokenByRoll);
            let awake = awake.into_iter().map(|called| called.range).collect();
            out.push(Effect::Send { to: from, body: Body::Wake(awake) });
        }
        if !unled.is_empty() {
            self.config.knobs.probe.took(Path::UnledByRoll);
            out.push(Effect::Send { to: from, body: Body::Unled(unled) });
        }
        if beat.asks && !self.listed.liveness.is_beaten_to(now, from) {
            let answer = Beat { run: self.config.run, asks: false, roll: Vec::new(), leaving: self.leaving };
            out.push(Effect::Send { to: from, body: Body::Beat(answer) });
        }
    }

    pub(super) fn hear_quiet(&mut self, now: Duration, from: NodeId, words: &[QuietWord], out: &mut Vec<Effect>) {
        for word in words {
            self.with_replica(now, word.range, out, |replica, cx| replica.hear_quiet(cx, from, word));
        }
    }
}
