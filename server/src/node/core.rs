//! Store, gateway and SQL of a node that is part of a cluster.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use proto::RangeDescriptor;
use tokio_util::sync::CancellationToken;
use txn::engine::{Engine, EngineError};

use super::config::NodeConfig;
use super::folder::{Folder, Identity};
use crate::env::{Clock, Env};
use crate::io::clock::SystemClock;
use crate::io::engine::RocksEngine;
use crate::io::env::TokioEnv;
use crate::io::event_loop::{DiskStats, Input, LoopParts, StoreThread};
use crate::io::log::LogFiles;
use crate::io::transport::Transport;
use crate::kv::{Db, DbConfig};
use crate::sql::{Limits, Sql};
use crate::store::recover::initial_contents;
use crate::store::{Event, Store, StoreConfig, StoreStats};

/// The running parts.
pub struct Core {
    pub identity: Identity,
    pub db: Db,
    pub sql: Arc<Sql>,
    pub clock: Arc<dyn Clock>,
    pub transport: Arc<Transport>,
    pub disk: Arc<DiskStats>,
    store: StoreThread,
    stopped: CancellationToken,
}

/// A picture of the store.
#[derive(Clone, Debug, Default)]
pub struct StorePicture {
    pub stats: StoreStats,
    pub ranges: usize,
    pub leads: usize,
    pub stopped: usize,
    pub log_bytes: usize,
}

impl Core {
    /// Opens what the directory holds and starts everything. `fatal` is told when the node cannot go on.
    ///
    /// # Errors
    /// A sentence, when the directory holds damaged or contradictory files.
    pub fn start(
        config: &NodeConfig,
        folder: &Folder,
        identity: Identity,
        fatal: impl Fn(String) + Send + Sync + 'static,
    ) -> Result<Core, String> {
        let name = config.store.display();
        let mut engine = RocksEngine::open(&folder.data()).map_err(|e| format!("{name}: {e}"))?;
        prepare(&mut engine, &identity).map_err(|e| format!("{name}: {e}"))?;
        let (log, recovered) = LogFiles::open(&folder.log())?;
        let (max_error, source) = clock_bound(config, &identity);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new(max_error, source, recovered.ceiling));
        let stopped = CancellationToken::new();
        let env = Arc::new(TokioEnv::new(tokio::runtime::Handle::current(), clock.clone(), stopped.clone()));
        let knobs = Arc::new(config.knobs.clone());
        let store_config = StoreConfig {
            node: identity.node,
            cluster: identity.cluster,
            knobs: knobs.clone(),
            seed: env.random(),
            logger: crate::raft::logger(),
        };
        let store = Store::open(store_config, clock.clone(), Box::new(engine.clone()), recovered)
            .map_err(|e| format!("{name}: {e}"))?;
        let inbox = channel();
        let transport = Transport::start(
            identity.node,
            identity.cluster,
            &identity.members,
            clock.clone(),
            inbox.0.clone(),
            &stopped,
        );
        let db = Db::new(DbConfig {
            env: env.clone(),
            outbox: transport.clone(),
            knobs,
            node: identity.node,
            nodes: identity.members.clone(),
            ranges: identity.ranges.clone(),
        });
        transport.attach(db.clone());
        let disk = Arc::new(DiskStats::default());
        let parts = LoopParts {
            store,
            engine,
            log,
            clock: clock.clone(),
            outbox: transport.clone(),
            tick: config.knobs.tick,
            publish: publisher(&db),
            fatal: Box::new(fatal),
            stats: disk.clone(),
        };
        let store = StoreThread::start(parts, inbox).map_err(|e| format!("no thread for the store: {e}"))?;
        let limits = Limits { idempotency_retention: config.knobs.idempotency_retention, ..Limits::default() };
        let sql = Sql::new(Arc::new(db.clone()), limits);
        Ok(Core { identity, db, sql, clock, transport, disk, store, stopped })
    }

    /// A picture of the store, taken by its thread.
    pub async fn picture(&self) -> StorePicture {
        let (sender, receiver) = futures::channel::oneshot::channel();
        let look = move |store: &Store| {
            let mut picture = StorePicture { stats: store.stats(), ..StorePicture::default() };
            for replica in store.replicas() {
                picture.ranges += 1;
                picture.leads += usize::from(replica.is_serving());
                picture.stopped += usize::from(replica.stopped.is_some());
                picture.log_bytes += replica.group.log_bytes();
            }
            let _ = sender.send(picture);
        };
        if self.store.inputs.send(Input::Inspect(Box::new(look))).is_err() {
            return StorePicture::default();
        }
        receiver.await.unwrap_or_default()
    }

    /// Hands leadership over, as far as followers are up to date, within the given time.
    pub async fn drain(&self, patience: Duration) {
        let until = tokio::time::Instant::now() + patience;
        while tokio::time::Instant::now() < until && self.picture().await.leads > 0 {
            let _ = self.store.inputs.send(Input::Event(Event::Drain));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends all tasks and threads; what is on its way to disk gets there.
    pub async fn stop(self: Arc<Self>) {
        self.stopped.cancel();
        // Joining a thread blocks.
        let _ = tokio::task::spawn_blocking(move || self.store.stop()).await;
    }
}

/// Fills a fresh engine with the cluster's first contents.
fn prepare(engine: &mut RocksEngine, identity: &Identity) -> Result<(), EngineError> {
    if !crate::range::state::load_all(engine)?.is_empty() {
        return Ok(());
    }
    let here: Vec<RangeDescriptor> =
        identity.ranges.iter().filter(|r| r.replica_on(identity.node).is_some()).cloned().collect();
    if here.is_empty() {
        return Ok(());
    }
    engine.write(initial_contents(&here))?;
    engine.flush()
}

/// Nodes that share a kernel share a clock, which differs from itself by nothing.
fn clock_bound(config: &NodeConfig, identity: &Identity) -> (Duration, &'static str) {
    let own = super::bootstrap::boot_id();
    let shared = identity.members.iter().all(|member| {
        // A member's own entry may be from before the machine was started again.
        member.id == identity.node || member.boot_id == own
    });
    if shared { (Duration::ZERO, "same host") } else { (config.clock_max_error, "declared") }
}

/// Puts leaders' descriptors into the meta range, in the background.
fn publisher(db: &Db) -> Box<dyn Fn(RangeDescriptor) + Send> {
    let db = db.clone();
    Box::new(move |descriptor| {
        let publishing = db.clone();
        let task = async move {
            if let Err(error) = publishing.publish(&descriptor).await {
                tracing::warn!(range = %descriptor, %error, "a range's descriptor was not published");
            }
        };
        db.env().spawn(Box::pin(task));
    })
}
