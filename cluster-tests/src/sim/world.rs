//! Simulated time and the queue of events.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use proto::message::{Body, Envelope};
use proto::{NodeId, codec};
use server::config::Knobs;
use server::env::Env;
use server::kv::{Db, Error};
use server::store::{Effect, Event};

use txn::clock::Trust;

use super::env::Shared;
use super::executor::Executor;
use super::faults::{Fault, FaultPlan};
use super::net::{Net, NetOptions};
use super::node::{ClusterOptions, Node};
use super::rng::Rng;

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct Options {
    pub seed: u64,
    pub nodes: usize,
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
    pub planted: Planted,
}

/// Faults that the database does not promise to survive, planted to see whether the judges notice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Planted {
    /// Disks say that they have synced long before they have.
    pub lying_disks: bool,
    /// The first node believes in a read window that its successors do not know of.
    pub longer_window: Option<Duration>,
}

impl Options {
    /// A cluster in which nothing goes wrong.
    pub fn calm(seed: u64, nodes: usize) -> Options {
        Options {
            seed,
            nodes,
            knobs: Knobs::default(),
            max_error: Duration::ZERO,
            trust: Trust::Bounded,
            net: NetOptions::calm(),
            faults: FaultPlan::default(),
            sync_min: 100_000,
            sync_max: 1_000_000,
            planted: Planted::default(),
        }
    }
}

enum Happening {
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

/// The event trace: a hash over everything that happened, and the last happenings in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    pub hash: u64,
    pub events: u64,
}

impl Trace {
    fn add(&mut self, what: &[u64]) {
        self.events += 1;
        for part in what {
            // FNV-1a, by words.
            self.hash = (self.hash ^ part).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
        }
    }
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
    net: Net,
    queue: BTreeMap<(u64, u64), Happening>,
    next: u64,
    rng: Rng,
    pub trace: Trace,
    /// Called when a node's process has started, to give it work.
    on_start: Box<OnStart>,
    /// Splits a range of the workload, chosen by a random number.
    on_split: Box<dyn Fn(Db, u64) -> BoxFuture<'static, ()>>,
}

impl World {
    /// A cluster at time zero. `on_start` gives each starting process its tasks.
    pub fn new(
        options: Options,
        on_start: impl FnMut(usize, &Db) -> Vec<BoxFuture<'static, ()>> + 'static,
        on_split: impl Fn(Db, u64) -> BoxFuture<'static, ()> + 'static,
    ) -> World {
        let seed = options.seed;
        let cluster = ClusterOptions {
            nodes: options.nodes,
            seed,
            knobs: Arc::new(options.knobs.clone()),
            max_error: options.max_error,
            trust: options.trust,
            first_window: options.planted.longer_window,
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
            trace: Trace::default(),
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

    fn schedule_at(&mut self, at: u64, what: Happening) {
        self.next += 1;
        self.queue.insert((at, self.next), what);
    }

    fn schedule(&mut self, after: u64, what: Happening) {
        let at = self.now() + after;
        self.schedule_at(at, what);
    }

    fn draw_offset(&mut self, node: usize) {
        let bound = u64::try_from(self.options.max_error.as_nanos()).unwrap_or(u64::MAX);
        let offset = self.rng.between(0, 2 * bound) as i64 - bound as i64;
        *self.nodes[node].offset.lock().expect("no holder of this lock panics") = offset;
    }

    fn start(&mut self, node: usize) {
        let (cluster, shared) = (self.cluster.clone(), self.shared.clone());
        self.nodes[node].start(&cluster, &shared);
        let Some(process) = &self.nodes[node].process else { return };
        for task in (self.on_start)(node, &process.db) {
            self.executor.spawn(node, task);
        }
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
                self.trace.add(&[1, at, number]);
                waker.wake();
            } else if let Some(((_, number), what)) = self.queue.pop_first() {
                self.trace.add(&[2, at, number]);
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
                Some(task) => self.trace.add(&[3, task]),
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
                self.step(node, Event::Tick);
                let tick = u64::try_from(self.options.knobs.tick.as_nanos()).unwrap_or(u64::MAX);
                self.schedule(tick, Happening::Tick { node, life });
            }
            Happening::Synced { node, life, number } if self.nodes[node].life == life => {
                self.nodes[node].disk.synced(number);
                self.step(node, Event::Synced(number));
            }
            Happening::Flushed { node, life, number } if self.nodes[node].life == life => {
                self.nodes[node].disk.engine.flush();
                self.step(node, Event::Flushed(number));
            }
            Happening::SaidSynced { node, life, number } if self.nodes[node].life == life => {
                self.step(node, Event::Synced(number));
            }
            Happening::Kept { node, life, number } if self.nodes[node].life == life => {
                self.nodes[node].disk.synced(number);
            }
            Happening::Restart { node } if self.nodes[node].process.is_none() => self.start(node),
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
        if let Body::Response { id, response } = envelope.body {
            if process.env.clock().adopt(envelope.hlc).is_ok() {
                process.db.deliver(id, response);
            }
            return;
        }
        self.step(to, Event::Message(envelope));
    }

    /// Lets a node's store step, and carries out its effects.
    fn step(&mut self, node: usize, event: Event) {
        let now = Duration::from_nanos(self.now());
        let mut effects = Vec::new();
        let Some(process) = &mut self.nodes[node].process else { return };
        process.store.step(now, event, &mut effects);
        for effect in effects {
            self.carry_out(node, effect);
        }
    }

    fn carry_out(&mut self, node: usize, effect: Effect) {
        let life = self.nodes[node].life;
        let now = self.now();
        match effect {
            Effect::Send { to, body } => self.send(node, to, body),
            Effect::Append { number, frame, flush_first } => {
                // The frame is not even written before the engine is flushed.
                if flush_first {
                    self.nodes[node].disk.engine.flush();
                }
                self.nodes[node].disk.append(number, &frame);
                let sync = self.rng.between(self.options.sync_min, self.options.sync_max);
                let at = (now + sync).max(self.nodes[node].stalled_until);
                if self.options.planted.lying_disks {
                    const LATE: u64 = 300_000_000;
                    self.schedule(1_000, Happening::SaidSynced { node, life, number });
                    return self.schedule_at(at + LATE, Happening::Kept { node, life, number });
                }
                self.schedule_at(at, Happening::Synced { node, life, number });
            }
            Effect::Flush { number } => {
                let after = self.rng.between(1_000_000, 50_000_000);
                self.schedule(after, Happening::Flushed { node, life, number });
            }
            Effect::Publish(descriptor) => {
                let Some(process) = &self.nodes[node].process else { return };
                let db = process.db.clone();
                let task = async move { drop(db.publish(&descriptor).await) };
                self.executor.spawn(node, Box::pin(task));
            }
        }
    }

    fn strike(&mut self, fault: Fault) {
        match fault {
            Fault::Crash { node, down_ns } => self.crash(node, down_ns),
            Fault::Isolate { node, for_ns } => {
                for other in (0..self.nodes.len()).filter(|other| *other != node) {
                    self.cut(node, other, for_ns);
                    self.cut(other, node, for_ns);
                }
            }
            Fault::OneWay { from, to, for_ns } => self.cut(from, to, for_ns),
            Fault::Pause { node, for_ns } => self.nodes[node].paused_until = self.now() + for_ns,
            Fault::DiskStall { node, for_ns } => self.nodes[node].stalled_until = self.now() + for_ns,
            Fault::ClockJump { node, to_ppm_of_bound } => {
                let bound = i64::try_from(self.options.max_error.as_nanos()).unwrap_or(i64::MAX);
                let offset = (i128::from(bound) * i128::from(to_ppm_of_bound) / 1_000_000) as i64;
                *self.nodes[node].offset.lock().expect("no holder of this lock panics") = offset;
            }
            Fault::ClockAstray { node, by_ms, for_ns } => {
                *self.nodes[node].offset.lock().expect("no holder of this lock panics") =
                    by_ms.saturating_mul(1_000_000);
                self.schedule(for_ns, Happening::ClockRight { node });
            }
            Fault::Split { key } => self.split(key),
            Fault::Flush { node } => {
                let mut effects = Vec::new();
                if let Some(process) = &mut self.nodes[node].process {
                    process.store.start_flush(&mut effects);
                }
                for effect in effects {
                    self.carry_out(node, effect);
                }
            }
        }
    }

    fn cut(&mut self, from: usize, to: usize, for_ns: u64) {
        self.net.set_cut(from, to, true);
        self.schedule(for_ns, Happening::Heal { from, to });
    }

    /// A node dies now and starts again later.
    pub fn crash(&mut self, node: usize, down_ns: u64) {
        if self.nodes[node].process.is_none() {
            return;
        }
        self.executor.kill(node);
        self.nodes[node].crash(&mut self.rng);
        self.nodes[node].paused_until = 0;
        self.break_connections(node);
        self.schedule(down_ns, Happening::Restart { node });
    }

    /// The others may notice that a process is gone, as connections break; or the network keeps it to itself.
    fn break_connections(&mut self, node: usize) {
        let lost = self.nodes[node].id;
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            if let Some(db) = self.db(other).filter(|_| self.rng.one_in(2)) {
                db.lost(lost);
            }
        }
    }

    /// Splits some range at a key of the workload, through some node.
    fn split(&mut self, key: u64) {
        let Some((node, db)) = (0..self.nodes.len()).find_map(|n| self.db(n).map(|db| (n, db))) else { return };
        let task = (self.on_split)(db, key);
        self.executor.spawn(node, task);
    }

    /// Ends all faults: everybody runs, hears everybody, and syncs.
    pub fn heal(&mut self) {
        self.net.heal();
        self.net.options = NetOptions::calm();
        let now = self.now();
        self.queue.retain(|_, what| !matches!(what, Happening::Fault(_)));
        for node in 0..self.nodes.len() {
            self.nodes[node].stalled_until = now;
            self.nodes[node].paused_until = now;
            self.draw_offset(node);
            if self.nodes[node].process.is_none() {
                self.start(node);
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
}
