//! Simulated time and the queue of events.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use proto::message::{Body, Envelope};
use proto::{NodeId, codec};
use server::admin::{Driver, Office};
use server::config::Knobs;
use server::env::{Env, Errands, StuckMerge};
use server::kv::{Db, Error};
use server::store::{Effect, Event};
use txn::clock::Trust;

use super::disk::PlantedInDisk;
use super::env::Shared;
use super::executor::Executor;
use super::faults::{Fault, FaultPlan};
use super::membership::follow;
use super::net::{Net, NetOptions};
use super::node::{ClusterOptions, Node, Waiting};
use super::probe::{Event as Seen, Points, SimProbe};
use super::rng::Rng;
use super::trace::{Trace, fold_bytes};
use crate::workload::Operation;

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct Options {
    pub seed: u64,
    pub nodes: usize,
    /// How many of the nodes, the first ones, hold the first ranges.
    pub replicas: usize,
    pub knobs: Knobs,
    /// The bound on clock errors; each clock errs by as much as it likes inside it.
    pub max_error: Duration,
    pub trust: Trust,
    pub net: NetOptions,
    /// Strikes once [`World::unleash`] says so.
    pub faults: FaultPlan,
    /// Nanoseconds that a sync takes.
    pub sync_min: u64,
    pub sync_max: u64,
    /// Fault points of the code that may fire.
    pub points: Points,
    /// What becomes of a minority when everything else heals.
    pub abandon: Option<Abandon>,
    /// How long faults strike, in nanoseconds.
    pub unquiet_ns: u64,
    /// What the clients do; if not given, what the seed says.
    pub operations: Option<Arc<Vec<Operation>>>,
    /// Events that the trace keeps in words.
    pub window: Range<u64>,
    pub planted: Planted,
}

/// A minority that does not come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abandon {
    pub nodes: Vec<usize>,
    /// They are dead; else they run, and nobody hears of them.
    pub dead: bool,
}

/// Faults that the database does not promise to survive, planted to see whether the judges notice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Planted {
    /// Disks say that they have synced long before they have.
    pub lying_disks: bool,
    /// The first node believes in a read window that its successors do not know of.
    pub longer_window: Option<Duration>,
    /// A write for which there was no room counts as done.
    pub full_disk_ignored: bool,
    pub disk: PlantedInDisk,
}

impl Options {
    /// A cluster in which nothing goes wrong.
    pub fn calm(seed: u64, nodes: usize) -> Options {
        Options {
            seed,
            nodes,
            replicas: nodes,
            // Whoever measures a calm cluster wants leaders to stay where they are.
            knobs: Knobs { place_replicas: false, ..Knobs::default() },
            max_error: Duration::ZERO,
            trust: Trust::Bounded,
            net: NetOptions::calm(),
            faults: FaultPlan::default(),
            sync_min: 100_000,
            sync_max: 1_000_000,
            points: Points::new(),
            abandon: None,
            unquiet_ns: 19_000_000_000,
            operations: None,
            window: 0..0,
            planted: Planted::default(),
        }
    }
}

pub(super) enum Happening {
    Deliver {
        to: usize,
        bytes: Vec<u8>,
    },
    Tick {
        node: usize,
        life: u64,
    },
    Synced {
        node: usize,
        life: u64,
        number: u64,
    },
    Flushed {
        node: usize,
        life: u64,
        number: u64,
    },
    /// By a disk that lies: it has said so, and now it is so.
    SaidSynced {
        node: usize,
        life: u64,
        number: u64,
    },
    Kept {
        node: usize,
        life: u64,
        number: u64,
    },
    Restart {
        node: usize,
    },
    Isolation {
        node: usize,
        begins: bool,
    },
    Speed {
        node: usize,
        factor: u64,
    },
    Cut {
        from: usize,
        to: usize,
    },
    Heal {
        from: usize,
        to: usize,
    },
    /// A clock that was astray is right again.
    ClockRight {
        node: usize,
    },
    Fault(Fault),
}

/// What gives a starting process its tasks.
type OnStart = dyn FnMut(usize, &Db) -> Vec<BoxFuture<'static, ()>>;

/// See the module.
pub struct World {
    pub options: Options,
    cluster: ClusterOptions,
    pub shared: Arc<Shared>,
    pub nodes: Vec<Node>,
    pub executor: Executor,
    pub(super) net: Net,
    queue: BTreeMap<(u64, u64), Happening>,
    next: u64,
    pub(super) rng: Rng,
    pub trace: Trace,
    pub probe: Arc<SimProbe>,
    /// Called when a node's process has started, to give it work.
    on_start: Box<OnStart>,
    /// Splits a range of the workload, chosen by a random number.
    pub(super) on_split: Box<dyn Fn(Db, u64) -> BoxFuture<'static, ()>>,
}

impl World {
    /// A cluster at time zero. `on_start` gives each starting process its tasks.
    pub fn new(
        options: Options,
        on_start: impl FnMut(usize, &Db) -> Vec<BoxFuture<'static, ()>> + 'static,
        on_split: impl Fn(Db, u64) -> BoxFuture<'static, ()> + 'static,
    ) -> World {
        let seed = options.seed;
        let probe = Arc::new(SimProbe::new(seed, &options.points));
        let cluster = ClusterOptions {
            nodes: options.nodes,
            replicas: options.replicas,
            seed,
            knobs: Arc::new(Knobs { probe: probe.clone(), ..options.knobs.clone() }),
            max_error: options.max_error,
            trust: options.trust,
            first_window: options.planted.longer_window,
            planted: options.planted.disk,
        };
        let mut world = World {
            nodes: (0..options.nodes).map(|index| Node::new(index, &cluster)).collect(),
            cluster,
            shared: Arc::default(),
            executor: Executor::new(Rng::new(seed, "executor")),
            net: Net::new(options.net.clone(), Rng::new(seed, "net")),
            queue: BTreeMap::new(),
            next: 0,
            rng: Rng::new(seed, "world"),
            trace: Trace { window: options.window.clone(), ..Trace::default() },
            probe,
            on_start: Box::new(on_start),
            on_split: Box::new(on_split),
            options,
        };
        for node in 0..world.nodes.len() {
            world.draw_offset(node);
            world.start(node);
        }
        world
    }

    pub fn now(&self) -> u64 {
        self.shared.lock().now
    }

    /// From now on things go wrong: the plan's times count from here.
    pub fn unleash(&mut self) {
        for (after, fault) in self.options.faults.0.clone() {
            self.schedule(after, Happening::Fault(fault));
        }
    }

    pub(super) fn schedule_at(&mut self, at: u64, what: Happening) {
        self.next += 1;
        self.queue.insert((at, self.next), what);
    }

    pub(super) fn schedule(&mut self, after: u64, what: Happening) {
        let at = self.now() + after;
        self.schedule_at(at, what);
    }

    pub(super) fn draw_offset(&mut self, node: usize) {
        let bound = u64::try_from(self.options.max_error.as_nanos()).unwrap_or(u64::MAX);
        let offset = self.rng.between(0, 2 * bound) as i64 - bound as i64;
        *self.nodes[node].offset.lock().expect("no holder of this lock panics") = offset;
    }

    pub(super) fn start(&mut self, node: usize) {
        let (cluster, shared) = (self.cluster.clone(), self.shared.clone());
        match self.nodes[node].start(&cluster, &shared) {
            Ok(false) => {}
            Ok(true) => self.probe.saw(Seen::TornTailCut),
            Err(why) => return self.refuse_disk(node, &why),
        }
        let Some(process) = &self.nodes[node].process else { return };
        for task in (self.on_start)(node, &process.db) {
            self.executor.spawn(node, task);
        }
        if self.options.faults.changes_members() {
            self.executor.spawn(node, follow(process.db.clone()));
        }
        let driver = Driver::new(process.db.clone(), self.cluster.knobs.clone());
        self.executor.spawn(node, Box::pin(driver.run()));
        let life = self.nodes[node].life;
        let jitter = self.rng.below(1_000_000);
        self.schedule(jitter, Happening::Tick { node, life });
    }

    /// Gives a running node a task.
    pub fn spawn(&mut self, node: usize, task: BoxFuture<'static, ()>) {
        self.executor.spawn(node, task);
    }

    /// The gateway of a running node.
    pub fn db(&self, node: usize) -> Option<Db> {
        self.nodes[node].process.as_ref().map(|p| p.db.clone())
    }

    /// Has a running node do something, and runs until it has or `patience` nanoseconds have passed.
    ///
    /// # Errors
    /// In words: whatever the database says, no such node, no answer in time.
    pub fn ask<T: Send + 'static>(
        &mut self,
        node: usize,
        patience: u64,
        question: impl FnOnce(Db) -> BoxFuture<'static, Result<T, Error>>,
    ) -> Result<T, String> {
        let db = self.db(node).ok_or("the node does not run")?;
        let answer = Arc::new(Mutex::new(None));
        let (slot, question) = (answer.clone(), question(db));
        self.spawn(node, Box::pin(async move { *slot.lock().expect("no holder panics") = Some(question.await) }));
        let until = self.now() + patience;
        self.run_until(until, |_| answer.lock().expect("no holder panics").is_some());
        let taken = answer.lock().expect("no holder panics").take();
        taken.ok_or("no answer in time")?.map_err(|e| e.to_string())
    }

    /// Runs until a time in nanoseconds, or until `done` says so. Returns whether `done` did.
    pub fn run_until(&mut self, until: u64, mut done: impl FnMut(&World) -> bool) -> bool {
        loop {
            self.run_tasks();
            if done(self) {
                return true;
            }
            let timer = self.shared.lock().timers.first_key_value().map(|((at, _), _)| *at);
            let event = self.queue.first_key_value().map(|((at, _), _)| *at);
            let Some(at) = [timer, event].into_iter().flatten().min().filter(|at| *at <= until) else {
                self.shared.lock().now = until;
                return false;
            };
            let woken = {
                let mut inner = self.shared.lock();
                inner.now = inner.now.max(at);
                if timer == Some(at) { inner.timers.pop_first() } else { None }
            };
            if let Some(((_, number), waker)) = woken {
                self.trace.add("timer", &[at, number]);
                waker.wake();
            } else if let Some(((_, number), what)) = self.queue.pop_first() {
                let (name, parts) = what.words();
                self.trace.add(name, &[at, number, parts[0], parts[1]]);
                self.happen(what);
            }
        }
    }

    fn run_tasks(&mut self) {
        loop {
            self.collect();
            let now = self.now();
            let nodes = &self.nodes;
            match self.executor.run_one(|node| nodes[node].paused_until <= now) {
                Some(task) => self.trace.add("task", &[task]),
                None => return,
            }
        }
    }

    /// Takes what the nodes' code asked for: tasks and messages.
    fn collect(&mut self) {
        let (spawned, sent) = {
            let mut inner = self.shared.lock();
            (std::mem::take(&mut inner.spawned), std::mem::take(&mut inner.sent))
        };
        for (node, task) in spawned {
            self.executor.spawn(node, task);
        }
        for (from, to, body) in sent {
            self.send(from, to, body);
        }
    }

    fn send(&mut self, from: usize, to: NodeId, body: Body) {
        let Some(process) = &self.nodes[from].process else { return };
        let envelope = Envelope { from: self.nodes[from].id, hlc: process.env.clock().reading(), body };
        let bytes = codec::encode(&envelope);
        let to = to.0 as usize - 1;
        for after in self.net.deliveries(from, to) {
            self.schedule(after, Happening::Deliver { to, bytes: bytes.clone() });
        }
    }

    fn happen(&mut self, what: Happening) {
        let now = self.now();
        // A paused process takes nothing in until it wakes; its disk and the network go on.
        if let Some(node) = what.concerns()
            && self.nodes[node].paused_until > now
        {
            let at = self.nodes[node].paused_until;
            return self.schedule_at(at, what);
        }
        match what {
            Happening::Deliver { to, bytes } => self.deliver(to, &bytes),
            Happening::Tick { node, life } if self.nodes[node].life == life => {
                self.put_members_in_force(node);
                self.step(node, Event::Tick);
                let tick = u64::try_from(self.options.knobs.tick.as_nanos()).unwrap_or(u64::MAX);
                self.schedule(tick, Happening::Tick { node, life });
            }
            Happening::Synced { node, life, number } if self.nodes[node].life == life => {
                self.nodes[node].disk.synced(number);
                self.end_sync(node, number);
            }
            Happening::Flushed { node, life, number } if self.nodes[node].life == life => {
                self.end_flush(node, number);
            }
            Happening::SaidSynced { node, life, number } if self.nodes[node].life == life => {
                self.end_sync(node, number);
            }
            Happening::Kept { node, life, number } if self.nodes[node].life == life => {
                self.nodes[node].disk.synced(number);
            }
            Happening::Restart { node } if self.nodes[node].process.is_none() => self.restart(node),
            Happening::Isolation { node, begins } => self.isolate(node, begins),
            Happening::Speed { node, factor } => self.net.set_slowness(node, factor),
            Happening::Cut { from, to } => self.net.set_cut(from, to, true),
            Happening::Heal { from, to } => self.net.set_cut(from, to, false),
            Happening::ClockRight { node } => self.draw_offset(node),
            Happening::Fault(fault) => self.strike(fault),
            // Of an earlier life.
            _ => {}
        }
    }

    fn deliver(&mut self, to: usize, bytes: &[u8]) {
        let Some(process) = &self.nodes[to].process else { return };
        let envelope: Envelope = codec::decode("an envelope", bytes).expect("messages arrive as sent");
        process.db.heard_of(envelope.from);
        if let Body::ReportWanted(meta) = &envelope.body {
            process.db.report_wanted(meta);
        }
        if let Body::Response { id, response } = envelope.body {
            if process.env.clock().adopt(envelope.hlc).is_ok() {
                process.db.deliver(id, response);
            }
            return;
        }
        if let Body::Report(report) = envelope.body {
            if process.env.clock().adopt(envelope.hlc).is_ok() {
                process.db.hear_report(envelope.from, report);
            }
            return;
        }
        self.step(to, Event::Message(envelope));
    }

    /// Lets a node's store step, and carries out its effects.
    pub(super) fn step(&mut self, node: usize, event: Event) {
        let now = Duration::from_nanos(self.now());
        let mut effects = Vec::new();
        let Some(process) = &mut self.nodes[node].process else { return };
        process.store.step(now, event, &mut effects);
        self.carry_out_all(node, effects);
    }

    /// Carries out effects in order, as long as the process that asked for them lives.
    pub(super) fn carry_out_all(&mut self, node: usize, effects: Vec<Effect>) {
        let life = self.nodes[node].life;
        for effect in effects {
            if self.nodes[node].life == life {
                self.carry_out(node, effect);
            }
        }
    }

    /// What would still go wrong does not.
    pub(super) fn forget_faults(&mut self) {
        let is_fault = |what: &Happening| {
            matches!(
                what,
                Happening::Fault(_)
                    | Happening::Cut { .. }
                    | Happening::Heal { .. }
                    | Happening::Isolation { .. }
                    | Happening::Speed { .. }
            )
        };
        self.queue.retain(|_, what| !is_fault(what));
    }

    /// Lets a node do something in the background that its store asks for.
    fn errand<F: Future<Output = ()> + Send + 'static>(&mut self, node: usize, errand: impl FnOnce(Db) -> F) {
        if let Some(db) = self.db(node) {
            self.executor.spawn(node, Box::pin(errand(db)));
        }
    }

    fn carry_out(&mut self, node: usize, effect: Effect) {
        let life = self.nodes[node].life;
        match effect {
            Effect::Send { to, body } => self.send(node, to, body),
            Effect::Append { number, frame, flush_first } => {
                self.nodes[node].waiting.push(Waiting { number, frame, flush_first });
                self.begin_sync(node);
            }
            Effect::Stop(_) => {
                self.probe.saw(Seen::DiskFailed);
                self.stop_for_disk(node);
            }
            Effect::Flush { number } => {
                let after = self.rng.between(1_000_000, 50_000_000);
                self.schedule(after, Happening::Flushed { node, life, number });
            }
            Effect::Publish(descriptor) => {
                if let Some(process) = &self.nodes[node].process {
                    process.office.publish(descriptor);
                }
            }
            Effect::Split(wish) => {
                self.errand(node, |db| async move { drop(Office::new(db).split_range(&wish).await) })
            }
            Effect::SettleMerge(StuckMerge { right, frozen }) => {
                self.errand(node, |db| async move { drop(db.settle_merge(&right, &frozen).await) });
            }
            Effect::AskFor(stray) => self.errand(node, |db| async move { db.ask_for(&stray).await }),
            Effect::Report(report) => {
                if let Some(process) = &self.nodes[node].process {
                    process.db.send_report(&report);
                }
            }
        }
    }
}

impl Happening {
    /// The node whose process takes this in.
    fn concerns(&self) -> Option<usize> {
        match self {
            Happening::Deliver { to, .. } => Some(*to),
            Happening::Tick { node, .. }
            | Happening::Synced { node, .. }
            | Happening::SaidSynced { node, .. }
            | Happening::Flushed { node, .. } => Some(*node),
            _ => None,
        }
    }

    /// For the trace: what it is, and about what.
    fn words(&self) -> (&'static str, [u64; 2]) {
        match self {
            Happening::Deliver { to, bytes } => ("deliver", [*to as u64, fold_bytes(bytes)]),
            Happening::Tick { node, life } => ("tick", [*node as u64, *life]),
            Happening::Synced { node, number, .. } => ("synced", [*node as u64, *number]),
            Happening::Flushed { node, number, .. } => ("flushed", [*node as u64, *number]),
            Happening::SaidSynced { node, number, .. } => ("said synced", [*node as u64, *number]),
            Happening::Kept { node, number, .. } => ("kept", [*node as u64, *number]),
            Happening::Restart { node } => ("restart", [*node as u64, 0]),
            Happening::Isolation { node, begins } => ("isolation", [*node as u64, u64::from(*begins)]),
            Happening::Speed { node, factor } => ("speed", [*node as u64, *factor]),
            Happening::Cut { from, to } => ("cut", [*from as u64, *to as u64]),
            Happening::Heal { from, to } => ("heal", [*from as u64, *to as u64]),
            Happening::ClockRight { node } => ("clock right", [*node as u64, 0]),
            Happening::Fault(fault) => ("fault", [fold_bytes(fault.to_string().as_bytes()), 0]),
        }
    }
}
