//! A simulated node: a process that comes and goes, and the disk that stays.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto::{ClusterId, Locality, NodeDescriptor, NodeId, NodeRecord, RangeDescriptor};
use server::admin::Office;
use server::config::Knobs;
use server::kv::{Db, DbConfig};
use server::raft::LogFrame;
use server::store::recover::{initial_contents, initial_ranges};
use server::store::{Store, StoreConfig};
use txn::clock::{Agreement, Trust};
use txn::engine::Engine;

use super::disk::{Disk, PlantedInDisk, Recovered};
use super::env::{Shared, SimClock, SimEnv};
use super::rng::Rng;

/// What lives only as long as the process.
pub struct Process {
    pub env: Arc<SimEnv>,
    pub store: Store,
    pub db: Db,
    pub office: Office,
}

/// See the module.
pub struct Node {
    pub index: usize,
    pub id: NodeId,
    pub disk: Disk,
    pub process: Option<Process>,
    /// Counts the lives of the process, so that events of an earlier one are ignored.
    pub life: u64,
    pub offset: Arc<Mutex<i64>>,
    /// Until when the process is paused, and the disk stalled.
    pub paused_until: u64,
    pub stalled_until: u64,
    /// Frames in the process's memory: the log's thread takes them in when the sync under way has ended.
    pub waiting: Vec<Waiting>,
    pub syncing: bool,
    /// The disk refuses the next write to the log.
    pub log_fails: bool,
    /// Its disk was found damaged, or it is to stay away: it does not start again.
    pub gone: bool,
}

/// A frame that is to be written.
pub struct Waiting {
    pub number: u64,
    pub frame: LogFrame,
    /// Only once the engine is flushed.
    pub flush_first: bool,
}

/// What all nodes of a cluster are made with.
#[derive(Clone)]
pub struct ClusterOptions {
    pub nodes: usize,
    /// How many of the nodes, the first ones, hold the first ranges.
    pub replicas: usize,
    pub seed: u64,
    pub knobs: Arc<Knobs>,
    pub max_error: Duration,
    pub trust: Trust,
    /// A read window of the first node alone; see [`super::world::Planted`].
    pub first_window: Option<Duration>,
    pub planted: PlantedInDisk,
}

impl ClusterOptions {
    fn knobs_of(&self, node: usize) -> Arc<Knobs> {
        match self.first_window {
            Some(read_window) if node == 0 => Arc::new(Knobs { read_window, ..(*self.knobs).clone() }),
            _ => self.knobs.clone(),
        }
    }

    pub fn ids(&self) -> Vec<NodeId> {
        (1..=self.nodes as u64).map(NodeId).collect()
    }

    fn first_ranges(&self) -> Vec<RangeDescriptor> {
        initial_ranges(&self.ids()[..self.replicas])
    }
}

impl Node {
    /// A node with a freshly initialised disk.
    pub fn new(index: usize, options: &ClusterOptions) -> Node {
        let disk = Disk::new(options.planted);
        if index < options.replicas {
            disk.engine.clone().write(initial_contents(&options.first_ranges())).expect("memory does not fail");
            disk.engine.flush();
        }
        Node {
            index,
            id: NodeId(index as u64 + 1),
            disk,
            process: None,
            life: 0,
            offset: Arc::default(),
            paused_until: 0,
            stalled_until: 0,
            waiting: Vec::new(),
            syncing: false,
            log_fails: false,
            gone: false,
        }
    }

    /// Starts the process on what the disk holds. Says whether it cut off a torn tail.
    ///
    /// # Errors
    /// A sentence, if what it holds is damaged.
    pub fn start(&mut self, options: &ClusterOptions, shared: &Arc<Shared>) -> Result<bool, String> {
        self.life += 1;
        self.disk.engine.recover();
        let Recovered { log, torn } = self.disk.recover()?;
        let rng = Rng::new(options.seed, &format!("node {} life {}", self.index, self.life));
        let others = options.ids().into_iter().filter(|id| *id != self.id);
        let clock = SimClock {
            offset: self.offset.clone(),
            max_error: options.max_error,
            trust: options.trust,
            agreement: Agreement::new(others, options.knobs.clock_horizon),
            ceiling: log.ceiling,
        };
        let env = Arc::new(SimEnv::new(self.index, shared.clone(), clock, rng));
        let config = StoreConfig {
            node: self.id,
            cluster: ClusterId(1),
            members: options.ids(),
            knobs: options.knobs_of(self.index),
            seed: options.seed ^ (self.life << 32),
            run: self.life,
            logger: server::raft::logger(),
        };
        let store = Store::open(config, env.clock.clone(), Box::new(self.disk.engine.clone()), log)
            .map_err(|error| error.to_string())?;
        let db = Db::new(DbConfig {
            env: env.clone(),
            outbox: env.clone(),
            knobs: options.knobs.clone(),
            node: self.id,
            members: options.ids().into_iter().map(|id| NodeRecord::founding(descriptor(id))).collect(),
            ranges: options.first_ranges(),
        });
        let office = Office::new(db.clone());
        self.process = Some(Process { env, store, db, office });
        Ok(torn)
    }

    /// The process is gone, and what was in its memory.
    pub fn die(&mut self) {
        self.process = None;
        self.life += 1;
        self.paused_until = 0;
        self.waiting.clear();
        self.syncing = false;
    }
}

/// A node as the registry describes it.
pub fn descriptor(id: NodeId) -> NodeDescriptor {
    NodeDescriptor { id, address: format!("sim:{id}"), boot_id: "sim".into(), locality: Locality::default() }
}
