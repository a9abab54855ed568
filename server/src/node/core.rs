//! Store, gateway and SQL of a node that is part of a cluster.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use proto::{RangeDescriptor, Timestamp};
use tokio_util::sync::CancellationToken;
use txn::clock::{Agreement, Timekeeper, Trust};
use txn::engine::{Engine, EngineError};

use super::config::{ClockChoice, NodeConfig};
use super::folder::{Folder, Identity};
use crate::env::{Clock, Env, NodeClock};
use crate::io::clock::{FixedSource, HostSource, KernelSource};
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
        let clock = open_clock(config, folder, &identity, recovered.ceiling)?;
        let stopped = CancellationToken::new();
        let env = Arc::new(TokioEnv::new(tokio::runtime::Handle::current(), clock.clone(), stopped.clone()));
        let knobs = Arc::new(config.knobs.clone());
        let store_config = StoreConfig {
            node: identity.node,
            cluster: identity.cluster,
            members: identity.members.iter().map(|member| member.id).collect(),
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
        let sql = Sql::new(Arc::new(db.clone()), Limits::default());
        env.spawn(Box::pin(watch_clock(clock.clone())));
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

/// The clock that the configuration asks for.
///
/// # Errors
/// A sentence.
fn open_clock(
    config: &NodeConfig,
    folder: &Folder,
    identity: &Identity,
    ceiling: Timestamp,
) -> Result<Arc<dyn Clock>, String> {
    let others = || identity.members.iter().map(|member| member.id).filter(|id| *id != identity.node);
    let agreement = Agreement::new(others(), config.knobs.clock_horizon);
    let era = uuid::Uuid::new_v4().as_u64_pair().0;
    let keeper = Timekeeper::new(config.clock.trust, agreement, ceiling, era);
    let declared = config.clock.max_error;
    // Where everybody was booted together once, everybody is on one host.
    let founded_together = identity.members.iter().all(|member| member.boot_id == identity.members[0].boot_id);
    Ok(match config.clock.source {
        ClockChoice::Auto if !founded_together || config.clock.trust == Trust::Untrusted => {
            Arc::new(NodeClock::new(FixedSource { error: declared }, keeper))
        }
        ClockChoice::Auto | ClockChoice::SameHost => {
            Arc::new(NodeClock::new(HostSource::open(folder.clock(), declared, others())?, keeper))
        }
        ClockChoice::Fixed(error) => Arc::new(NodeClock::new(FixedSource { error }, keeper)),
        ClockChoice::Kernel => Arc::new(NodeClock::new(KernelSource::new(declared), keeper)),
    })
}

/// Tells the operator when the node stops serving on account of its clock, and when it goes on.
async fn watch_clock(clock: Arc<dyn Clock>) {
    const EVERY: Duration = Duration::from_millis(200);
    let mut serves = false;
    let mut source = "";
    loop {
        let standing = clock.standing();
        let bound = clock.bound();
        if standing.doubt.is_none() != serves {
            serves = standing.doubt.is_none();
            if serves {
                tracing::info!(error = ?bound.error, "the clock is confirmed: the node serves");
            } else {
                tracing::warn!(%standing, "the node stops serving: it does not believe its clock");
            }
        }
        if bound.source != source {
            source = bound.source;
            tracing::info!(source, error = ?bound.error, "the clock's bound");
        }
        tokio::time::sleep(EVERY).await;
    }
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
