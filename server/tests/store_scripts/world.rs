//! Three stores, the messages between them, and their disks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use proto::message::{Body, Envelope};
use proto::request::RangeRequest;
use proto::{ClusterId, Epoch, Key, NodeId, RangeDescriptor, RangeId, ReplicaDescriptor, ReplicaId, Span, Timestamp};
use server::config::Knobs;
use server::env::Clock;
use server::raft::{LogFrame, RecoveredLog};
use server::store::recover::initial_contents;
use server::store::{Effect, Event, Store, StoreConfig};
use txn::MemoryEngine;
use txn::engine::Engine;

use super::clock::{ScriptClock, Time, script_clock};
use super::show;

/// Who asks: not one of the stores.
pub const CLIENT: NodeId = NodeId(99);

/// Milliseconds between two ticks.
const TICK_MS: u64 = 10;

/// What outlives the store.
#[derive(Default)]
struct Disk {
    engine: MemoryEngine,
    synced: Vec<LogFrame>,
    writing: VecDeque<(u64, LogFrame, bool)>,
    flushing: Vec<u64>,
    held: bool,
    /// Nor is the engine flushed when the store asks for it.
    flushes_held: bool,
}

struct Node {
    disk: Disk,
    running: Option<(Store, Arc<ScriptClock>)>,
    /// How often it was started.
    runs: u64,
}

/// See the module.
pub struct World {
    time: Time,
    knobs: Arc<Knobs>,
    nodes: BTreeMap<NodeId, Node>,
    mail: VecDeque<(NodeId, NodeId, Timestamp, Body)>,
    cut: BTreeSet<NodeId>,
    /// Who leads what, as last told.
    told: BTreeMap<(NodeId, RangeId), String>,
    /// Which replicas are quiet, as last told.
    quiet: BTreeSet<(NodeId, RangeId)>,
    /// The term and vote that each replica was last told to have written down.
    votes: BTreeMap<(NodeId, RangeId), (u64, u64)>,
    /// Lines to be shown.
    pub out: Vec<String>,
    /// Answers, by the number of the request.
    pub answers: Vec<(u64, String)>,
}

fn knobs() -> Knobs {
    Knobs {
        tick: Duration::from_millis(TICK_MS),
        raft_tick_every: 1,
        election_ticks: 10,
        heartbeat_ticks: 2,
        leisure: 1,
        quiet_after: Duration::from_secs(1),
        read_window: Duration::from_millis(500),
        wait_max: Duration::from_millis(80),
        log_bytes_max: usize::MAX,
        beat_every: Duration::from_millis(20),
        silent_after: Duration::from_millis(100),
        ..Knobs::default()
    }
}

impl Default for World {
    fn default() -> Self {
        let ids: Vec<NodeId> = (1..=3).map(NodeId).collect();
        let replicas = ids.iter().map(|id| ReplicaDescriptor::voter(*id, ReplicaId(id.0))).collect();
        let first = RangeDescriptor::new(RangeId(1), Span { start: Key::MIN, end: Key::max() }, Epoch(1), replicas);
        let mut world = World {
            time: Time::default(),
            knobs: Arc::new(knobs()),
            nodes: BTreeMap::new(),
            mail: VecDeque::new(),
            cut: BTreeSet::new(),
            told: BTreeMap::new(),
            quiet: BTreeSet::new(),
            votes: BTreeMap::new(),
            out: Vec::new(),
            answers: Vec::new(),
        };
        world.time.advance(1000);
        for id in ids {
            let disk = Disk::default();
            disk.engine.clone().write(initial_contents(std::slice::from_ref(&first))).expect("memory does not fail");
            disk.engine.flush();
            world.nodes.insert(id, Node { disk, running: None, runs: 0 });
            world.start(id);
        }
        // How a store comes to life is the same in every script.
        world.settle();
        world.out.clear();
        world
    }
}

impl World {
    /// A store that holds nothing.
    pub fn add(&mut self, id: NodeId) {
        self.nodes.insert(id, Node { disk: Disk::default(), running: None, runs: 0 });
        self.start(id);
    }

    fn node(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).expect("there are n1, n2, n3, and those that were added")
    }

    pub fn store(&self, id: NodeId) -> Option<&Store> {
        self.nodes.get(&id)?.running.as_ref().map(|(store, _)| store)
    }

    pub fn reading(&self, id: NodeId) -> Timestamp {
        self.nodes[&id].running.as_ref().map_or(Timestamp::ZERO, |(_, clock)| clock.reading())
    }

    pub fn ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    pub fn engine(&self, id: NodeId) -> &MemoryEngine {
        &self.nodes[&id].disk.engine
    }

    /// For stores that begin from now on.
    pub fn set_leisure(&mut self, leisure: u32) {
        Arc::make_mut(&mut self.knobs).leisure = leisure;
    }

    /// For stores that begin from now on.
    pub fn set_quiet_after(&mut self, ms: u64) {
        Arc::make_mut(&mut self.knobs).quiet_after = Duration::from_millis(ms);
    }

    /// For stores that begin from now on.
    pub fn set_pieces(&mut self, bytes: u64, bytes_per_second: u64) {
        let knobs = Arc::make_mut(&mut self.knobs);
        knobs.snapshot_piece_bytes = bytes;
        knobs.snapshot_bytes_per_second = bytes_per_second;
    }

    /// How many Raft messages a store has sent since it began.
    pub fn raft_messages(&self, id: NodeId) -> u64 {
        let running = self.nodes.get(&id).and_then(|node| node.running.as_ref());
        running.map_or(0, |(store, _)| store.stats().raft_messages)
    }

    /// A store begins with what its disk holds.
    pub fn start(&mut self, id: NodeId) {
        let (time, knobs) = (self.time.clone(), self.knobs.clone());
        let node = self.node(id);
        node.runs += 1;
        let mut log = RecoveredLog::default();
        for frame in &node.disk.synced {
            log.add(frame.clone()).expect("frames follow each other");
        }
        // Its clock begins at the ceiling: before that moment the others would refuse what it says.
        time.advance_to(log.ceiling);
        let clock = Arc::new(script_clock(time, log.ceiling));
        let config = StoreConfig {
            node: id,
            cluster: ClusterId(1),
            // It reports its clock to nobody: see the clock.
            members: vec![id],
            knobs,
            seed: id.0,
            run: node.runs,
            logger: server::raft::logger(),
        };
        let engine = Box::new(node.disk.engine.clone());
        let store = Store::open(config, clock.clone(), engine, log).expect("a crash leaves a store that opens");
        node.running = Some((store, clock));
        self.finish(id);
    }

    /// A store ends; its disk keeps what was made durable.
    pub fn crash(&mut self, id: NodeId) {
        let node = self.node(id);
        node.running = None;
        node.disk.writing.clear();
        node.disk.held = false;
        node.disk.flushes_held = false;
        node.disk.flushing.clear();
        node.disk.engine.crash();
        self.told.retain(|(node, _), _| *node != id);
        self.quiet.retain(|(node, _)| *node != id);
    }

    pub fn cut(&mut self, id: NodeId, cut: bool) {
        if cut {
            self.cut.insert(id);
        } else {
            self.cut.remove(&id);
        }
    }

    pub fn hold(&mut self, id: NodeId, held: bool) {
        self.node(id).disk.held = held;
    }

    pub fn hold_flushes(&mut self, id: NodeId, held: bool) {
        self.node(id).disk.flushes_held = held;
    }

    /// Time passes, and these stores tick.
    pub fn tick(&mut self, ids: &[NodeId]) {
        self.time.advance(TICK_MS);
        for id in ids {
            self.step(*id, Event::Tick);
        }
        self.settle();
    }

    pub fn flush(&mut self, id: NodeId) {
        let mut effects = Vec::new();
        if let Some((store, _)) = &mut self.node(id).running {
            store.start_flush(&mut effects);
        }
        self.carry_out(id, effects);
    }

    /// A client's request reaches a store, which takes it in; it goes no further before the next step.
    pub fn ask(&mut self, id: NodeId, number: u64, hlc: Timestamp, request: RangeRequest) {
        let refused = |world: &World| world.store(id).map_or(0, |store| store.stats().refused_messages);
        let before = refused(self);
        let envelope = Envelope { from: CLIENT, hlc, body: Body::Request { id: number, request } };
        let now = self.time.now();
        let mut effects = Vec::new();
        if let Some((store, _)) = &mut self.node(id).running {
            store.take_in(now, Event::Message(envelope), &mut effects);
        }
        self.carry_out(id, effects);
        if refused(self) > before {
            self.out.push(format!("{id} ⇨ refuses the message"));
        }
    }

    pub fn step(&mut self, id: NodeId, event: Event) {
        let now = self.time.now();
        let mut effects = Vec::new();
        if let Some((store, _)) = &mut self.node(id).running {
            store.take_in(now, event, &mut effects);
        }
        self.carry_out(id, effects);
        self.finish(id);
    }

    /// What became ready in a store is gathered and carried out.
    pub fn finish(&mut self, id: NodeId) {
        let now = self.time.now();
        let mut effects = Vec::new();
        if let Some((store, _)) = &mut self.node(id).running {
            store.finish(now, &mut effects);
        }
        self.carry_out(id, effects);
        self.tell_leadership(id);
        self.tell_quiet(id);
    }

    fn carry_out(&mut self, id: NodeId, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { to: CLIENT, body: Body::Response { id: number, response } } => {
                    self.answers.push((number, show::response(&response)));
                }
                Effect::Send { to, body } => {
                    self.out.extend(show::ask(&body).map(|what| format!("{id} ⇨ asks {to} for {what}")));
                    let hlc = self.reading(id);
                    self.mail.push_back((id, to, hlc, body));
                }
                Effect::Append { number, frame, flush_first } => {
                    self.tell_frame(id, &frame);
                    self.node(id).disk.writing.push_back((number, frame, flush_first));
                }
                Effect::Flush { number } => self.node(id).disk.flushing.push(number),
                // Nobody splits ranges by itself here, and there is no placement driver.
                Effect::Stop(why) => unreachable!("memory does not fail: {why}"),
                // What is decided about a range is for other scripts.
                Effect::SettleMerge(stuck) => {
                    self.out.push(format!("{id} ⇨ asks what became of the merge of {}", stuck.right.id));
                }
                Effect::AskFor(stray) => {
                    self.out.push(format!("{id} ⇨ asks who holds {} now", stray.descriptor.id));
                }
                Effect::Split(_) | Effect::Report(_) => {}
                Effect::Publish(descriptor) => {
                    self.out.push(format!("{id} ⇨ publishes {}", show::descriptor(&descriptor)));
                }
            }
        }
    }

    /// Delivers, syncs and flushes until nothing is left to do.
    pub fn settle(&mut self) {
        loop {
            if let Some((from, to, hlc, body)) = self.mail.pop_front() {
                if !self.cut.contains(&from) && !self.cut.contains(&to) {
                    self.step(to, Event::Message(Envelope { from, hlc, body }));
                }
                continue;
            }
            let ids = self.ids();
            if !ids.into_iter().any(|id| self.make_durable(id)) {
                return;
            }
        }
    }

    /// Syncs what a store has written to its log, or flushes its engine; says whether there was anything.
    fn make_durable(&mut self, id: NodeId) -> bool {
        let disk = &mut self.node(id).disk;
        if let Some(number) = disk.flushing.pop_if(|_| !disk.flushes_held) {
            disk.engine.flush();
            self.out.push(format!("{id} ⇨ engine flushed"));
            self.step(id, Event::Flushed(number));
            return true;
        }
        if disk.held || disk.writing.is_empty() {
            return false;
        }
        let mut last = 0;
        for (number, frame, flush_first) in std::mem::take(&mut disk.writing) {
            if flush_first {
                disk.engine.flush();
            }
            disk.synced.push(frame);
            last = number;
        }
        self.step(id, Event::Synced(last));
        true
    }

    /// Tells what goes into a log; terms and votes only where they are new, and nothing of the clock's ceiling.
    fn tell_frame(&mut self, id: NodeId, frame: &LogFrame) {
        let mut parts = Vec::new();
        for record in &frame.groups {
            let vote = record.hard_state.map(|state| (state.term, state.vote));
            let known = vote.is_none_or(|vote| self.votes.insert((id, record.range), vote) == Some(vote));
            parts.extend(show::group(record, !known));
        }
        if !parts.is_empty() {
            self.out.push(format!("{id} ⇨ log: {}", parts.join("; ")));
        }
    }

    /// Tells whose replicas have fallen quiet, or woken.
    fn tell_quiet(&mut self, id: NodeId) {
        let Some(store) = self.store(id) else { return };
        let all: Vec<(RangeId, bool)> = store.replicas().map(|r| (r.descriptor().id, r.is_quiet())).collect();
        for (range, quiet) in all {
            let was = if quiet { !self.quiet.insert((id, range)) } else { self.quiet.remove(&(id, range)) };
            if quiet != was {
                self.out.push(format!("{id} ⇨ {range}: {}", if quiet { "falls quiet" } else { "wakes" }));
            }
        }
    }

    /// Tells who has begun or ceased to lead.
    fn tell_leadership(&mut self, id: NodeId) {
        let Some(store) = self.store(id) else { return };
        let mut news = Vec::new();
        for replica in store.replicas() {
            let range = replica.descriptor().id;
            let state = match &replica.leading {
                None => "leads no more".to_string(),
                Some(leading) if !leading.serving => format!("leads in term {}, and does not serve yet", leading.term),
                Some(leading) => {
                    let low = show::timestamp(leading.reads.low_water());
                    format!("serves in term {}, low-water mark {low}", leading.term)
                }
            };
            news.push(((id, range), state));
        }
        for ((node, range), state) in news {
            let before = self.told.insert((node, range), state.clone());
            if before.as_ref() != Some(&state) && (before.is_some() || state != "leads no more") {
                // The low-water mark rises when reads are forgotten, which is no news of leadership.
                self.out.push(format!("{node} ⇨ {range}: {state}"));
            }
        }
    }
}
