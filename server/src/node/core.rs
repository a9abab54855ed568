//! Store, gateway and SQL of a node that is part of a cluster.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto::{NodeRecord, NodeRun, RangeDescriptor, Timestamp};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use txn::clock::{Agreement, Timekeeper, Trust};
use txn::engine::{Engine, EngineError};
use txn::mvcc;

use super::config::{ClockChoice, NodeConfig};
use super::folder::{Acquaintances, Folder, Identity};
use super::membership::{Membership, voices};
use crate::admin::{Driver, Office};
use crate::config::Knobs;
use crate::env::{Clock, Env, NodeClock};
use crate::io::clock::{FixedSource, HostSource, KernelSource, boot_name};
use crate::io::engine::RocksEngine;
use crate::io::env::TokioEnv;
use crate::io::event_loop::{DiskStats, Input, LoopParts, StoreThread};
use crate::io::log::LogFiles;
use crate::io::transport::{Transport, TransportConfig};
use crate::kv::registry::{Candidate, founding_rows};
use crate::kv::{Db, DbConfig};
use crate::raft::RecoveredLog;
use crate::sql::{Limits, Sql};
use crate::store::recover::{META_RANGE, initial_contents};
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
    membership: Mutex<Option<Membership>>,
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
    /// Opens what the directory holds and starts everything. `address` is what others call the node. `fatal` is told when it cannot go on.
    ///
    /// # Errors
    /// A sentence, when the directory holds damaged or contradictory files.
    pub fn start(
        config: &NodeConfig,
        folder: &Arc<Folder>,
        identity: Identity,
        address: &str,
        fatal: impl Fn(String) + Send + Sync + 'static,
    ) -> Result<Core, String> {
        let Opened { engine, log, recovered, known } = Opened::from(folder, &identity)?;
        let clock = open_clock(config, folder, &identity, &known.members, recovered.ceiling)?;
        let stopped = CancellationToken::new();
        let env = Arc::new(TokioEnv::new(tokio::runtime::Handle::current(), clock.clone(), stopped.clone()));
        let run = NodeRun { starts: folder.starts()? + 1, token: env.random() };
        // Before anybody hears of it: no start is ever told of twice.
        folder.set_starts(run.starts)?;
        let knobs = Arc::new(config.knobs.clone());
        let store_config = store_config(&identity, &known.members, &knobs, env.random());
        let store = Store::open(store_config, clock.clone(), Box::new(engine.clone()), recovered)
            .map_err(|e| format!("{}: {e}", config.store.display()))?;
        let inbox = channel();
        let (dismissed, dismissal) = mpsc::unbounded_channel();
        let transport = Transport::new(TransportConfig {
            me: identity.node,
            cluster: identity.cluster,
            address: address.to_string(),
            run,
            clock: clock.clone(),
            store: inbox.0.clone(),
            stopped: stopped.clone(),
            dismissed,
        });
        let db = Db::new(DbConfig {
            env: env.clone(),
            outbox: transport.clone(),
            knobs: knobs.clone(),
            node: identity.node,
            members: known.members.clone(),
            ranges: [identity.ranges.clone(), known.ranges].concat(),
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
            errands: Arc::new(Office::new(db.clone())),
            fatal: Box::new(fatal),
            stats: disk.clone(),
        };
        let store = StoreThread::start(parts, inbox).map_err(|e| format!("no thread for the store: {e}"))?;
        let sql = open_sql(config, &db);
        env.spawn(Box::pin(watch_clock(clock.clone())));
        env.spawn(Box::pin(Driver::new(db.clone(), knobs).run()));
        let membership = Membership {
            db: db.clone(),
            transport: transport.clone(),
            clock: clock.clone(),
            store: store.inputs.clone(),
            folder: folder.clone(),
            candidate: candidate(config, folder, address)?,
            run,
            dismissal,
            applied: Vec::new(),
            aftermath: folder.recovery()?.map(|recovery| recovery.aftermath),
        };
        membership.put_in_force(&known.members);
        Ok(Core { identity, db, sql, clock, transport, disk, store, stopped, membership: Mutex::new(Some(membership)) })
    }

    /// Who else is part of the cluster: for whoever keeps that current. Given out once.
    pub fn take_membership(&self) -> Option<Membership> {
        self.membership.lock().expect("no holder of this lock panics").take()
    }

    /// A picture of the store, taken by its thread.
    pub async fn picture(&self) -> StorePicture {
        let picture = self.look(|store| {
            let mut picture = StorePicture { stats: store.stats(), ..StorePicture::default() };
            for replica in store.replicas() {
                picture.ranges += 1;
                picture.leads += usize::from(replica.is_serving());
                picture.stopped += usize::from(replica.stopped.is_some());
                picture.log_bytes += replica.group.log_bytes();
            }
            picture
        });
        picture.await
    }

    /// What the store's thread finds; nothing if it has ended.
    async fn look<T: Default + Send + 'static>(&self, look: impl FnOnce(&Store) -> T + Send + 'static) -> T {
        let (sender, receiver) = futures::channel::oneshot::channel();
        let tell = move |store: &Store| {
            // Whoever asked may have given up.
            let _ = sender.send(look(store));
        };
        if self.store.inputs.send(Input::Inspect(Box::new(tell))).is_err() {
            return T::default();
        }
        receiver.await.unwrap_or_default()
    }

    /// Lets what transactions owe others be done, and hands leadership over as far as followers are up to date, each within the given time.
    pub async fn drain(&self, patience: Duration) {
        self.db.pay_debts(patience).await;
        let until = tokio::time::Instant::now() + patience;
        loop {
            let _ = self.store.inputs.send(Input::Event(Event::Leave));
            tokio::time::sleep(Duration::from_millis(20)).await;
            if tokio::time::Instant::now() >= until || self.look(Store::to_hand_over).await == 0 {
                return;
            }
        }
    }

    /// Ends all tasks and threads; what is on its way to disk gets there.
    pub async fn stop(self: Arc<Self>) {
        self.stopped.cancel();
        // Joining a thread blocks.
        let _ = tokio::task::spawn_blocking(move || self.store.stop()).await;
    }
}

/// What a store directory holds.
struct Opened {
    engine: RocksEngine,
    log: LogFiles,
    recovered: RecoveredLog,
    known: Acquaintances,
}

impl Opened {
    /// # Errors
    /// A sentence, when it holds damaged or contradictory files.
    fn from(folder: &Folder, identity: &Identity) -> Result<Opened, String> {
        folder.check_parts(identity.node)?;
        if let Some(recovery) = folder.recovery()?.filter(|recovery| !recovery.applied) {
            let plan = recovery.aftermath.plan;
            return Err(format!(
                "recovery plan {plan} was begun on this store and not finished: run `meridian recover apply` again with it"
            ));
        }
        let fail = |e: EngineError| format!("{}: {e}", folder.data().display());
        let mut engine = RocksEngine::open(&folder.data()).map_err(fail)?;
        prepare(&mut engine, identity).map_err(fail)?;
        let (log, recovered) = LogFiles::open(&folder.log())?;
        let known = acquaintances(folder, identity)?;
        Ok(Opened { engine, log, recovered, known })
    }
}

fn store_config(identity: &Identity, members: &[NodeRecord], knobs: &Arc<Knobs>, seed: u64) -> StoreConfig {
    StoreConfig {
        node: identity.node,
        cluster: identity.cluster,
        members: members.iter().map(|member| member.descriptor.id).collect(),
        knobs: knobs.clone(),
        seed,
        run: seed,
        logger: crate::raft::logger(),
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
    let mut contents = initial_contents(&here);
    if here.iter().any(|range| range.id == META_RANGE) {
        for (key, row) in founding_rows(&identity.members) {
            mvcc::put_version(&mut contents, &key, Timestamp::BOOTSTRAP, mvcc::NOBODY, Some(&row));
        }
    }
    engine.write(contents)?;
    engine.flush()
}

/// What the node knew last of its cluster; at first what it was told when it became part of it.
pub(super) fn acquaintances(folder: &Folder, identity: &Identity) -> Result<Acquaintances, String> {
    let founding = || identity.members.iter().cloned().map(NodeRecord::founding).collect();
    let known = folder.acquaintances()?;
    Ok(known.unwrap_or_else(|| Acquaintances { members: founding(), ranges: Vec::new() }))
}

/// The node as it introduces itself to the registry.
///
/// # Errors
/// A sentence, when the disk fails.
pub fn candidate(config: &NodeConfig, folder: &Folder, address: &str) -> Result<Candidate, String> {
    let (store, locality) = (folder.store_id()?, config.locality.clone());
    Ok(Candidate { store, address: address.to_string(), boot_id: boot_name(), locality })
}

/// The clock that the configuration asks for.
///
/// # Errors
/// A sentence.
fn open_clock(
    config: &NodeConfig,
    folder: &Folder,
    identity: &Identity,
    members: &[NodeRecord],
    ceiling: Timestamp,
) -> Result<Arc<dyn Clock>, String> {
    let others = voices(identity.node, members);
    let mut agreement = Agreement::new([], config.knobs.clock_horizon);
    agreement.set_others(&others);
    let era = uuid::Uuid::new_v4().as_u64_pair().0;
    let keeper = Timekeeper::new(config.clock.trust, agreement, ceiling, era);
    let declared = config.clock.max_error;
    // Where everybody was booted together once, everybody is on one host.
    let founded_together = || identity.members.iter().all(|member| member.boot_id == identity.members[0].boot_id);
    let same_host = identity.same_host.unwrap_or_else(founded_together);
    let clock: Arc<dyn Clock> = match config.clock.source {
        ClockChoice::Auto if !same_host || config.clock.trust == Trust::Untrusted => {
            Arc::new(NodeClock::new(FixedSource { error: declared }, keeper))
        }
        ClockChoice::Auto | ClockChoice::SameHost => {
            Arc::new(NodeClock::new(HostSource::open(folder.clock(), declared, &others)?, keeper))
        }
        ClockChoice::Fixed(error) => Arc::new(NodeClock::new(FixedSource { error }, keeper)),
        ClockChoice::Kernel => Arc::new(NodeClock::new(KernelSource::new(declared), keeper)),
    };
    if !others.is_empty() && config.clock.trust == Trust::Bounded {
        wait_for_ceiling(clock.as_ref(), config.knobs.ceiling_step * 2);
    }
    Ok(clock)
}

/// Waits until the time has passed the ceiling of an earlier start, at which the hybrid clock begins. What the node sent before
/// would show a clock that is ahead: some nodes would refuse it, and others, who take the clock's error for greater at that moment, adopt it, so that their own
/// messages would be refused in turn. If the wall clock was set back since, that could take for ever: then the others are to judge.
fn wait_for_ceiling(clock: &dyn Clock, longest: Duration) {
    let wall = clock.interval().latest.minus(clock.bound().error);
    let ahead = clock.ceiling().since(wall);
    if ahead <= longest {
        std::thread::sleep(ahead);
    }
}

fn open_sql(config: &NodeConfig, db: &Db) -> Arc<Sql> {
    let limits = Limits { idempotency_retention: config.knobs.idempotency_retention, ..Limits::default() };
    Sql::new(Arc::new(db.clone()), limits)
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
