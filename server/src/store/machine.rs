//! The store's state and its step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proto::message::{Body, Envelope, RaftMessage};
use proto::request::{Operation, RangeRequest, Refusal, Response};
use proto::{
    ClusterId, Epoch, Key, NodeId, NodeState, RangeDescriptor, RangeId, ReplicaDescriptor, ReplicaId, ReplicaRole,
    Timestamp,
};
use raft::eraftpb::MessageType;
use txn::engine::Engine;

use super::event::{Effect, Event};
use super::newborn::Newborn;
use super::quiet::{Listed, Turns};
use super::report::Reporting;
use super::transfer::Haste;
use super::truncate::Truncation;
use crate::config::Knobs;
use crate::env::Clock;
use crate::probe::{Path, Point};
use crate::raft::RecoveredGroup;
use crate::raft::group::decode_message;
use crate::range::replica::{
    Bootstrap, Counts, Effects, FRESH_APPLIED, Origin, Replica, Resting, Surroundings, fresh_log,
};
use crate::range::state::{self, Applied, RangeState};

/// What a store is made with.
#[derive(Clone)]
pub struct StoreConfig {
    pub node: NodeId,
    pub cluster: ClusterId,
    /// All nodes of the cluster, this one included.
    pub members: Vec<NodeId>,
    pub knobs: Arc<Knobs>,
    /// Drives the election timeouts.
    pub seed: u64,
    /// Tells the lives of the store's process apart: not used before.
    pub run: u64,
    pub logger: slog::Logger,
}

/// Counters since the store started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    pub counts: Counts,
    pub frames: u64,
    pub refused_messages: u64,
    /// Raft ticks at which the disk had stalled.
    pub stalled_ticks: u64,
    /// Raft ticks of single groups.
    pub group_ticks: u64,
    /// Raft messages of single groups.
    pub raft_messages: u64,
}

/// See the module.
pub struct Store {
    pub(super) config: StoreConfig,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) engine: Box<dyn Engine>,
    /// Boxed, for they are large: a map's nodes are half empty.
    pub(super) replicas: BTreeMap<RangeId, Box<Replica>>,
    /// What a crash left of replicas that never received their first contents: their votes.
    pub(super) orphans: BTreeMap<RangeId, RecoveredGroup>,
    /// Replicas that were touched in this step.
    pub(super) touched: BTreeSet<RangeId>,
    pub(super) next_frame: u64,
    /// Frames being synced: which groups' outputs they hold, and the clock's ceiling.
    pub(super) frames: BTreeMap<u64, FrameInFlight>,
    pub(super) ceiling_asked: Timestamp,
    /// What was done to the engine must be durable before the next frame is.
    pub(super) flush_first: bool,
    pub(super) newborn: Newborn,
    /// Ranges whose replicas here were deleted since the last frame: the log is to forget them.
    pub(super) forgotten: Vec<RangeId>,
    /// Those of them that were merged away: whatever was on its way to the log for them is of no use.
    pub(super) merged_away: Vec<RangeId>,
    /// From when on contents may be taken in.
    receiving: Duration,
    pub(super) truncation: Truncation,
    pub(super) stats: StoreStats,
    /// Members that are to lead nothing; this node perhaps among them.
    pub(super) resting: BTreeSet<NodeId>,
    /// The process is about to stop.
    pub(super) leaving: bool,
    ticks: u32,
    clock_reported: Duration,
    pub(super) reporting: Reporting,
    pub(super) listed: Listed,
}

/// What a frame holds that must be told when it is on disk.
#[derive(Clone, Debug, Default)]
pub(super) struct FrameInFlight {
    pub outputs: Vec<(RangeId, ReplicaId, u64)>,
    pub ceiling: Option<Timestamp>,
    /// When it was handed to the disk, on the monotonic clock.
    pub since: Duration,
}

impl Store {
    pub(super) fn new(
        config: StoreConfig,
        clock: Arc<dyn Clock>,
        engine: Box<dyn Engine>,
        orphans: BTreeMap<RangeId, RecoveredGroup>,
    ) -> Store {
        let ceiling_asked = clock.ceiling();
        Store {
            config,
            clock,
            engine,
            replicas: BTreeMap::new(),
            orphans,
            touched: BTreeSet::new(),
            next_frame: 1,
            frames: BTreeMap::new(),
            ceiling_asked,
            flush_first: false,
            newborn: Newborn::default(),
            forgotten: Vec::new(),
            merged_away: Vec::new(),
            receiving: Duration::ZERO,
            truncation: Truncation::default(),
            stats: StoreStats::default(),
            resting: BTreeSet::new(),
            leaving: false,
            ticks: 0,
            clock_reported: Duration::ZERO,
            reporting: Reporting::default(),
            listed: Listed::default(),
        }
    }

    /// Takes in an event. The effects are to be carried out in order.
    pub fn step(&mut self, now: Duration, event: Event, out: &mut Vec<Effect>) {
        self.take_in(now, event, out);
        self.finish(now, out);
    }

    /// Takes in an event without gathering what became ready: a loop that has several waiting takes them all in first.
    pub fn take_in(&mut self, now: Duration, event: Event, out: &mut Vec<Effect>) {
        match event {
            Event::Message(envelope) => self.receive(now, envelope, out),
            Event::Tick => self.tick(now, out),
            Event::Synced(number) => self.synced(now, number, out),
            Event::Flushed(number) => self.flushed(now, number, out),
            Event::Leave => self.leave(now, out),
            Event::Members(members) => self.set_members(&members),
        }
    }

    fn receive(&mut self, now: Duration, envelope: Envelope, out: &mut Vec<Effect>) {
        let Envelope { from, hlc, body } = envelope;
        if let Body::Clock(report) = &body {
            if self.clock.hear(from, report) {
                self.report_clock(from, out);
            }
            return;
        }
        // Refused whole: of a message from a clock beyond the bound nothing is believed.
        if self.clock.adopt(hlc).is_err() {
            self.stats.refused_messages += 1;
            self.config.knobs.probe.took(Path::MessageRefused);
            return;
        }
        if from != self.config.node {
            self.listed.liveness.hear(now, from);
        }
        match body {
            Body::Raft(messages) => {
                for message in messages {
                    self.receive_raft(now, from, &message, out);
                }
            }
            Body::Request { id, request } => self.receive_request(now, Origin { node: from, id }, request, out),
            Body::Contents(message) => self.receive_contents(now, from, &message, out),
            Body::Straggler { replica, descriptor } => {
                if !self.tell_removed(from, descriptor.id, replica, out) {
                    self.tell_merged(from, replica, &descriptor, out);
                }
            }
            Body::Removed { range, replica, descriptor } => {
                self.hear_of_removal(now, (range, replica), descriptor, out);
            }
            Body::Beat(beat) => self.hear_beat(now, from, &beat, out),
            Body::Quiet(words) => self.hear_quiet(now, from, &words, out),
            Body::Unled(unled) => {
                for led in unled {
                    self.with_replica(now, led.range, out, |replica, cx| replica.hear_unled(cx, from, led));
                }
            }
            Body::Wake(ranges) => {
                for range in ranges {
                    self.with_replica(now, range, out, |replica, cx| replica.keep_awake(cx));
                }
            }
            Body::ReportWanted(_) => self.reporting.everything_is_wanted(),
            // Responses are the gateway's, and reports were taken in above.
            Body::Response { .. } | Body::Clock(_) | Body::Report(_) => {}
        }
    }

    /// Tells a node what the clock shows.
    fn report_clock(&self, to: NodeId, out: &mut Vec<Effect>) {
        if let Some(report) = self.clock.report(to) {
            out.push(Effect::Send { to, body: Body::Clock(report) });
        }
    }

    /// Whether the disk has not answered for long. Something goes to disk every so often even on an idle node: the clock's ceiling.
    fn disk_stalls(&self, now: Duration) -> bool {
        let oldest = self.frames.first_key_value();
        oldest.is_some_and(|(_, frame)| now.saturating_sub(frame.since) >= self.config.knobs.disk_stall_after)
    }

    /// Tells all nodes what the clock shows, now and then; and lets go of leadership while the clock is not believed.
    fn tick_clock(&mut self, now: Duration, out: &mut Vec<Effect>) {
        if now < self.clock_reported + self.config.knobs.clock_report_every {
            return;
        }
        self.clock_reported = now;
        for node in self.config.members.iter().filter(|node| **node != self.config.node) {
            self.report_clock(*node, out);
        }
        if self.clock.standing().doubt.is_some() {
            self.drain(now, Haste::AtOnce, out);
        }
    }

    fn receive_request(&mut self, now: Duration, origin: Origin, request: RangeRequest, out: &mut Vec<Effect>) {
        let range = request.range;
        if let Operation::Range(operation) = &request.operation
            && self.receive_of_merge(now, origin, &request, operation, out)
        {
            return;
        }
        if let Some(replica) = self.replicas.get(&range) {
            if replica.is_serving() && replica.misrouted(&request).is_some() {
                let response = Response::Refused(Refusal::WrongRange(self.overlapping(&request)));
                out.push(Effect::Send { to: origin.node, body: Body::Response { id: origin.id, response } });
                return;
            }
            self.with_replica(now, range, out, |replica, cx| replica.serve(cx, origin, request));
        } else {
            let response = Response::Refused(Refusal::WrongRange(self.sent_on(range)));
            out.push(Effect::Send { to: origin.node, body: Body::Response { id: origin.id, response } });
        }
    }

    /// The descriptors of the replicas here that hold any of the keys that a request names.
    fn overlapping(&self, request: &RangeRequest) -> Vec<RangeDescriptor> {
        let named = txn::participant::named(&request.operation);
        let holds = |r: &&Replica| {
            r.descriptor().id == request.range || named.iter().any(|s| r.descriptor().span().overlaps(s))
        };
        self.replicas().filter(holds).map(|r| r.descriptor().clone()).collect()
    }

    fn receive_raft(&mut self, now: Duration, from: NodeId, message: &RaftMessage, out: &mut Vec<Effect>) {
        if self.tell_removed(from, message.range, message.from, out) {
            return;
        }
        self.listed.liveness.hear_raft(now, from);
        if self.replicas.get(&message.range).is_some_and(|replica| replica.me.id < message.to) {
            self.replace_by_newer(now, message, out);
        }
        if !self.replicas.contains_key(&message.range) && !self.create_from(message) {
            return;
        }
        let Ok(raft_message) = decode_message(&message.payload) else { return };
        if self.leaving && raft_message.get_msg_type() == MessageType::MsgTimeoutNow {
            return;
        }
        let offered = raft_message.get_msg_type() == MessageType::MsgSnapshot;
        let takes = !offered || self.may_take(now, message.range, &raft_message, out);
        self.with_replica(now, message.range, out, |replica, cx| {
            if replica.stopped.is_some() || replica.me.id != message.to {
                return;
            }
            replica.rouse_for(cx, &raft_message);
            replica.meet(from, message.from);
            replica.heard = Some(now);
            if raft_message.get_msg_type() == MessageType::MsgAppend && replica.waits_for_commits() {
                return;
            }
            if offered && replica.needs_contents(&raft_message) {
                if takes {
                    replica.take_offer(cx, (from, message.from), &raft_message);
                }
                return;
            }
            // A message that makes no sense in the present state is Raft's everyday life: it is dropped.
            let _ = replica.group.step(raft_message);
            replica.tell_slower(cx);
            replica.dirty = true;
            replica.check_leadership(cx);
        });
    }

    /// A message for a replica that is not here: it is to come into being, hollow, and will be offered contents; unless a replica
    /// here claims its first key, for then a split will bring it, or it was removed.
    fn create_from(&mut self, message: &RaftMessage) -> bool {
        if self.replicas.values().any(|r| r.claims().contains(&message.start)) {
            return false;
        }
        // Whether the engine fails is for the first write to find out.
        let tombstone = state::tombstone(self.engine.as_ref(), message.range).ok().flatten();
        if tombstone.is_some_and(|tombstone| message.to < tombstone.next_replica) {
            return false;
        }
        if let Some(orphan) = self.orphans.get(&message.range).filter(|orphan| orphan.replica != message.to.0) {
            if orphan.replica > message.to.0 {
                return false;
            }
            // A later replica than the one that left its log was added, so that one was removed.
            self.orphans.remove(&message.range);
            self.forgotten.push(message.range);
        }
        self.config.knobs.probe.took(Path::CreatedEmpty);
        self.add_hollow(message.range, &message.start, message.to).is_ok()
    }

    /// Adds a replica without contents, with what a crash left of its log.
    pub(super) fn add_hollow(&mut self, range: RangeId, start: &Key, me: ReplicaId) -> Result<(), String> {
        let descriptor = RangeDescriptor {
            id: range,
            start: start.clone(),
            end: start.clone(),
            replicas: vec![ReplicaDescriptor { node: self.config.node, id: me, role: ReplicaRole::Learner }],
            epoch: Epoch::UNKNOWN,
            next_replica: ReplicaId::default(),
        };
        let state = RangeState::new(descriptor, Timestamp::ZERO);
        let log = self.orphans.remove(&range).unwrap_or_default();
        let applied = Applied { index: log.truncated.index, term: log.truncated.term, ..Applied::default() };
        self.add_replica(Bootstrap { state, applied, log }, true)
    }

    /// Adds a replica. `empty` ones have no voters until their snapshot comes.
    pub(super) fn add_replica(&mut self, from: Bootstrap, empty: bool) -> Result<(), String> {
        let id = from.state.descriptor.id;
        let StoreConfig { node, knobs, seed, logger, .. } = &self.config;
        let replica = if empty {
            Replica::new_empty(*node, from, knobs, *seed, logger)?
        } else {
            Replica::new(*node, from, knobs, *seed, logger)?
        };
        self.replicas.insert(id, Box::new(replica));
        self.touched.insert(id);
        self.list(id);
        Ok(())
    }

    /// Lets a replica step, and turns its effects into the store's.
    pub(super) fn with_replica(
        &mut self,
        now: Duration,
        range: RangeId,
        out: &mut Vec<Effect>,
        step: impl FnOnce(&mut Replica, &mut Surroundings<'_>),
    ) {
        let disk_stalls = self.disk_stalls(now);
        let Some(replica) = self.replicas.get_mut(&range) else { return };
        let mut effects = Effects::default();
        let mut cx = Surroundings {
            disk_stalls,
            now,
            clock: self.clock.as_ref(),
            answering: self.listed.liveness.answering(),
            lost: self.listed.liveness.lost(),
            resting: Resting { members: &self.resting, leaving: self.listed.liveness.leaving() },
            knobs: &self.config.knobs,
            engine: self.engine.as_mut(),
            receiving: &mut self.receiving,
            neighbour: None,
            effects: &mut effects,
        };
        step(replica, &mut cx);
        self.touched.insert(range);
        let Effects { responses, published, splits, subsumes, stuck, stray, wishes, messages, quiet, counts, failed } =
            effects;
        self.list(range);
        self.gather_words(quiet);
        self.stats.counts.commits += counts.commits;
        self.stats.counts.commands_applied += counts.commands_applied;
        self.stats.counts.elections_won += counts.elections_won;
        self.stats.counts.past_reads += counts.past_reads;
        for (origin, response) in responses {
            out.push(Effect::Send { to: origin.node, body: Body::Response { id: origin.id, response } });
        }
        out.extend(failed.map(Effect::Stop));
        let probe = self.config.knobs.probe.as_ref();
        let published = published.into_iter().filter(|_| !probe.fires(Point::PublicationLost));
        out.extend(published.map(Effect::Publish));
        out.extend(messages.into_iter().map(|(to, body)| Effect::Send { to, body }));
        out.extend(stray.map(Effect::AskFor));
        out.extend(stuck.map(Effect::SettleMerge));
        out.extend(wishes.into_iter().map(Effect::Split));
        for (state, bytes, leads) in splits {
            self.born_of_split(state, bytes, leads, out);
        }
        for subsume in subsumes {
            self.subsume(now, range, subsume, out);
        }
    }

    /// The right-hand replica of a split that was just applied.
    fn born_of_split(&mut self, state: RangeState, bytes: u64, leads: bool, out: &mut Vec<Effect>) {
        /// For so many Raft ticks the replica on the left-hand leader's store stands for election.
        const EAGER_TICKS: u32 = 40;
        let id = state.descriptor.id;
        if self.replicas.contains_key(&id) {
            return;
        }
        self.hold_newborn(id, out);
        let mut log = fresh_log();
        let me = state.descriptor.replica_on(self.config.node).map_or(0, |me| me.id.0);
        if let Some(orphan) = self.orphans.remove(&id).filter(|orphan| orphan.replica == me || orphan.replica == 0) {
            // It may have voted before it had any contents.
            log.hard_state.term = log.hard_state.term.max(orphan.hard_state.term);
            log.hard_state.vote = orphan.hard_state.vote;
        }
        let bootstrap = Bootstrap { state, applied: Applied { bytes, ..FRESH_APPLIED }, log };
        self.add_replica(bootstrap, false).expect("a split's right-hand replica fits the log that it begins with");
        if leads && let Some(replica) = self.replicas.get_mut(&id) {
            replica.eager_ticks = EAGER_TICKS;
            replica.group.campaign();
        }
    }

    fn tick(&mut self, now: Duration, out: &mut Vec<Effect>) {
        self.ticks = self.ticks.wrapping_add(1);
        self.tick_clock(now, out);
        if self.ticks.is_multiple_of(self.config.knobs.raft_tick_every) && self.disk_stalls(now) {
            self.stats.stalled_ticks += 1;
            self.drain(now, Haste::AtOnce, out);
        }
        let raft_tick = self.ticks.is_multiple_of(self.config.knobs.raft_tick_every);
        if raft_tick {
            self.tick_liveness(now, out);
        }
        let turns = Turns { ticks: self.ticks / self.config.knobs.raft_tick_every, leisure: self.config.knobs.leisure };
        let ranges = if raft_tick { self.listed.due(turns) } else { self.listed.busy.iter().copied().collect() };
        self.stats.group_ticks += if raft_tick { ranges.len() as u64 } else { 0 };
        for range in ranges {
            let mut at_leisure = false;
            self.with_replica(now, range, out, |replica, cx| {
                if replica.stopped.is_some() {
                    return;
                }
                if raft_tick {
                    at_leisure = replica.tick_group(cx, turns.is_turn(range));
                    replica.tick_election();
                    replica.check_leadership(cx);
                    replica.make_snapshot(cx);
                    replica.tick_members(cx);
                    replica.tick_frozen(cx);
                    replica.tick_handover(cx);
                    replica.tick_closing(cx);
                    replica.tick_stray(cx);
                    replica.ask_for_contents();
                }
                replica.tick_incoming(cx);
                replica.tick_weight(cx);
                replica.tick_fence(cx);
                replica.tick_waiting(cx);
                if raft_tick {
                    replica.tick_quiet(cx);
                    at_leisure &= !replica.awaits_fence(cx);
                }
            });
            if raft_tick {
                self.rest(range, at_leisure);
            }
        }
        if raft_tick {
            self.listed.liveness.forget_lost();
        }
        // Again and again: it may have been elected since, or have found nobody to hand over to.
        let resting = self.resting.contains(&self.config.node);
        if raft_tick && (resting || self.config.knobs.probe.fires(Point::NeedlessTransfer)) {
            self.drain(now, Haste::Planned, out);
        }
        self.tick_report(now, out);
        self.tick_truncation(out);
    }

    /// Who the members are has changed.
    fn set_members(&mut self, members: &BTreeMap<NodeId, NodeState>) {
        self.config.members = members.iter().filter(|(_, state)| state.is_member()).map(|(node, _)| *node).collect();
        self.resting = members.iter().filter(|(_, state)| !state.may_lead()).map(|(node, _)| *node).collect();
    }

    /// The replicas here, in order of range id.
    pub fn replicas(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.values().map(Box::as_ref)
    }

    pub fn stats(&self) -> StoreStats {
        self.stats
    }

    pub fn engine(&self) -> &dyn Engine {
        self.engine.as_ref()
    }

    pub fn node(&self) -> NodeId {
        self.config.node
    }

    /// The first keys of all ranges here, for tests and tools.
    pub fn starts(&self) -> Vec<Key> {
        self.replicas.values().map(|r| r.start().clone()).collect()
    }

    /// Whether a frame is being synced.
    pub fn is_syncing(&self) -> bool {
        !self.frames.is_empty()
    }
}
