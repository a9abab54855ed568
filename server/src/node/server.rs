//! A node as its operator starts and stops it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use proto::ClusterId;
use proto::v1::peer_server::PeerServer;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::async_trait;

use super::bootstrap::Bootstrap;
use super::config::NodeConfig;
use super::core::{Core, candidate};
use super::folder::{Folder, Identity};
use super::http;
use super::join::Sponsor;
use super::unready::Unready;
use crate::edge::departure::Departure;
use crate::grpc::{AdminBackend, GrpcApi, HandleLimits, InitError, NodeStatus};
use crate::io::peer::{Membership, PeerService};
use crate::io::transport::MESSAGE_BYTES_MAX;
use crate::kv::idempotency::Collector;
use crate::kv::{Error as KvError, Kv};
use crate::pgwire::PgServer;
use crate::sql::{Limits, Sql};

/// PostgreSQL connections past which more are refused.
const PG_CONNECTIONS_MAX: usize = 1000;
/// How long a stopping node lets open transactions go on.
const TRANSACTIONS: Duration = Duration::from_secs(5);
/// How long a stopping node tries to hand its leadership over.
const DRAIN: Duration = Duration::from_secs(3);

/// A running node.
pub struct Node {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    run: tokio::task::JoinHandle<()>,
    fatal: mpsc::UnboundedReceiver<String>,
}

/// What the services of one node share.
pub(super) struct Shared {
    pub config: NodeConfig,
    pub bootstrap: Arc<Bootstrap>,
    pub core: OnceLock<Arc<Core>>,
    pub address: SocketAddr,
    pub started: Instant,
    departure: Departure,
    counters: std::sync::Mutex<BTreeMap<String, u64>>,
}

/// Listens.
///
/// # Errors
/// A sentence, when the address cannot be used.
async fn listen(what: &str, address: &str) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|e| match e.kind() {
        std::io::ErrorKind::AddrInUse => format!("{what} cannot listen on {address}: the port is in use"),
        _ => format!("{what} cannot listen on {address}: {e}"),
    })
}

impl Node {
    /// Takes the store directory, listens, and goes on in the background.
    ///
    /// # Errors
    /// A sentence, when the directory or an address cannot be used, or the directory holds damaged files. Nothing has been
    /// changed then.
    pub async fn start(config: NodeConfig) -> Result<Node, String> {
        let folder = Arc::new(Folder::open(&config.store)?);
        let identity = folder.identity()?;
        let listener = listen("the node", &config.listen).await?;
        let address = listener.local_addr().map_err(|e| e.to_string())?;
        let pg = match &config.pg_listen {
            Some(address) => Some(listen("PostgreSQL's protocol", address).await?),
            None => None,
        };
        let web = match &config.http_listen {
            Some(address) => Some(listen("HTTP", address).await?),
            None => None,
        };
        let own = if config.advertise.is_some() || address.port().to_string() == port_of(&config.listen) {
            config.address().to_string()
        } else {
            address.to_string()
        };
        let introduction = candidate(&config, &folder, &own)?;
        let bootstrap = Arc::new(Bootstrap::new(folder.clone(), introduction, config.join.clone(), identity));
        let (fatal_sender, fatal) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            config,
            bootstrap,
            core: OnceLock::new(),
            address,
            started: Instant::now(),
            departure: Departure::default(),
            counters: std::sync::Mutex::default(),
        });
        // What is there is opened now, so that damage is reported to whoever starts the node.
        if let Some(identity) = shared.bootstrap.identity() {
            shared.open_core(&folder, identity, fatal_sender.clone())?;
        }
        let (stop, stopped) = watch::channel(false);
        let run = tokio::spawn(run(shared.clone(), folder, Listeners { listener, pg, web }, stopped, fatal_sender));
        Ok(Node { address, shared, stop, run, fatal })
    }

    /// Makes a cluster of this node and those of its join list.
    ///
    /// # Errors
    /// A sentence.
    pub async fn init(&self) -> Result<ClusterId, String> {
        self.shared.bootstrap.init().await
    }

    /// Waits until the node can go on no longer; says why.
    pub async fn failed(&mut self) -> String {
        self.fatal.recv().await.unwrap_or_else(|| "the node has ended".into())
    }

    /// Lets clients come off, hands leadership over, ends connections, and closes the store.
    pub async fn stop(self) {
        self.shared.departure.clear(TRANSACTIONS).await;
        if let Some(core) = self.shared.core.get() {
            core.drain(DRAIN).await;
        }
        self.stop_now().await;
    }

    /// Ends without letting clients come off or handing leadership over; nothing acknowledged is lost.
    pub async fn stop_now(self) {
        self.stop.send_replace(true);
        // It may have panicked; then there is nothing to wait for.
        let _ = self.run.await;
        if let Some(core) = self.shared.core.get() {
            core.clone().stop().await;
        }
    }
}

fn port_of(address: &str) -> &str {
    address.rsplit(':').next().unwrap_or_default()
}

struct Listeners {
    listener: TcpListener,
    pg: Option<TcpListener>,
    web: Option<TcpListener>,
}

impl Shared {
    fn open_core(
        &self,
        folder: &Arc<Folder>,
        identity: Identity,
        fatal: mpsc::UnboundedSender<String>,
    ) -> Result<(), String> {
        let node = identity.node;
        let address = self.bootstrap.address();
        let core = Core::start(&self.config, folder, identity, address, move |why| {
            tracing::error!(%why, "the node cannot go on");
            // Nobody listens any more when the node is stopping already.
            let _ = fatal.send(why);
        })?;
        tracing::info!(%node, cluster = %core.identity.cluster, "the node is part of its cluster");
        // Opened once: at the start or when the node is initialised.
        let _ = self.core.set(Arc::new(core));
        Ok(())
    }

    /// Tries to become a member of a running cluster. Says why, if that is refused.
    async fn join(&self) -> String {
        match self.bootstrap.join().await {
            Ok(()) => std::future::pending().await,
            Err(why) => why,
        }
    }

    /// Counters by name.
    pub async fn counters(&self) -> BTreeMap<String, u64> {
        let Some(core) = self.core.get() else { return BTreeMap::new() };
        let counters = http::counters(core).await;
        self.counters.lock().expect("no holder of this lock panics").clone_from(&counters);
        counters
    }
}

#[async_trait]
impl AdminBackend for Shared {
    async fn init(&self) -> Result<ClusterId, InitError> {
        if let Some(core) = self.core.get() {
            return Err(InitError::AlreadyInitialised(core.identity.cluster));
        }
        self.bootstrap.init().await.map_err(InitError::NotReady)
    }

    fn status(&self) -> NodeStatus {
        let identity = self.bootstrap.identity();
        NodeStatus {
            node_id: identity.as_ref().map(|i| i.node),
            cluster_id: identity.as_ref().map(|i| i.cluster),
            version: env!("CARGO_PKG_VERSION").into(),
            grpc_address: self.address.to_string(),
            pg_address: self.config.pg_listen.clone().unwrap_or_default(),
            http_address: self.config.http_listen.clone().unwrap_or_default(),
            uptime: self.started.elapsed(),
        }
    }

    async fn stats(&self) -> BTreeMap<String, u64> {
        self.counters().await
    }
}

/// A node's life between start and stop.
async fn run(
    shared: Arc<Shared>,
    folder: Arc<Folder>,
    listeners: Listeners,
    stopped: watch::Receiver<bool>,
    fatal: mpsc::UnboundedSender<String>,
) {
    let Listeners { listener, pg, web } = listeners;
    let membership = Arc::new(OnceLock::new());
    let peers = PeerService::new(shared.bootstrap.clone(), membership.clone());
    let web = web.map(|listener| tokio::spawn(http::serve(listener, shared.clone(), stopped.clone())));
    let mut listener = Some(listener);
    if shared.core.get().is_none() {
        listener = wait_for_identity(&shared, peers.clone(), listener, stopped.clone(), &fatal).await;
        match shared.bootstrap.identity() {
            Some(identity) if !*stopped.borrow() => {
                if let Err(why) = shared.open_core(&folder, identity, fatal.clone()) {
                    let _ = fatal.send(why);
                    return;
                }
            }
            _ => return,
        }
    }
    let (Some(core), Some(listener)) = (shared.core.get().cloned(), listener) else { return };
    let (cluster, db) = (core.identity.cluster, core.db.clone());
    let _ = membership.set(Membership { cluster, db: db.clone(), transport: core.transport.clone() });
    shared.bootstrap.sponsor(Sponsor { cluster, db });
    let acquainted = tokio::spawn(get_acquainted(shared.bootstrap.clone(), core.clone(), fatal));
    let clean_up = {
        let sql = core.sql.clone();
        tokio::spawn(async move {
            // What an interrupted DROP TABLE left; the next start tries again.
            if let Err(error) = sql.clean_up().await {
                tracing::debug!(error = %error.message, "the catalog was not cleaned up");
            }
        })
    };
    let collecting = tokio::spawn(collect_keys(core.sql.key_collector()));
    let kv: Arc<dyn Kv> = Arc::new(core.db.clone());
    let pg = pg.map(|listener| {
        let server = PgServer::new(core.sql.clone(), kv.clone(), shared.departure.clone(), PG_CONNECTIONS_MAX);
        tokio::spawn(server.serve(listener, until(stopped.clone())))
    });
    drop(serve_grpc(core.sql.clone(), kv, shared.clone(), peers, listener, until(stopped.clone())).await);
    acquainted.abort();
    clean_up.abort();
    collecting.abort();
    if let Some(pg) = pg {
        let _ = pg.await;
    }
    if let Some(web) = web {
        let _ = web.await;
    }
}

/// Keeps the node's picture of the cluster current, as long as the node is part of it.
async fn get_acquainted(bootstrap: Arc<Bootstrap>, core: Arc<Core>, fatal: mpsc::UnboundedSender<String>) {
    let Some(membership) = core.take_membership() else { return };
    let meet = |node, address: &str| {
        if core.db.member(node).is_some_and(|member| member.state.is_member()) {
            core.db.learn_address(node, address);
            core.transport.meet(node, address);
        }
    };
    let strangers = async {
        match bootstrap.look_around(meet).await {
            Some(why) => why,
            None => std::future::pending().await,
        }
    };
    let why = tokio::select! {
        biased;
        why = strangers => why,
        why = membership.keep() => why,
    };
    // Nobody listens any more when the node is stopping already.
    let _ = fatal.send(why);
}

/// Deletes idempotency keys whose time is over. Never returns.
async fn collect_keys(collector: Collector) {
    loop {
        let pause = match collector.step().await {
            Ok(pause) => pause,
            Err(error) => {
                if matches!(error, KvError::Corrupt(_)) {
                    tracing::error!(%error, "idempotency keys are not collected past this one");
                }
                collector.idle()
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Serves until the node has an identity, is refused one, or is stopped. Returns the listener for what comes after.
async fn wait_for_identity(
    shared: &Arc<Shared>,
    peers: PeerService,
    listener: Option<TcpListener>,
    stopped: watch::Receiver<bool>,
    fatal: &mpsc::UnboundedSender<String>,
) -> Option<TcpListener> {
    let listener = listener?.into_std().ok()?;
    let first = TcpListener::from_std(listener.try_clone().ok()?).ok()?;
    let kv: Arc<dyn Kv> = Arc::new(Unready(shared.clone()));
    let sql = Sql::new(kv.clone(), Limits::default());
    let waiting = shared.clone();
    let fatal = fatal.clone();
    let end = async move {
        tokio::select! {
            biased;
            () = until(stopped) => {}
            _ = waiting.bootstrap.joined() => {}
            why = waiting.join() => drop(fatal.send(why)),
        }
    };
    drop(serve_grpc(sql, kv, shared.clone(), peers, first, end).await);
    TcpListener::from_std(listener).ok()
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // The sender goes away only when the node does.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Serves gRPC until `end`, and lets what is under way finish for a moment.
async fn serve_grpc(
    sql: Arc<Sql>,
    kv: Arc<dyn Kv>,
    backend: Arc<Shared>,
    peers: PeerService,
    listener: TcpListener,
    end: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    /// Streams of sessions and peers do not end by themselves.
    const GRACE: Duration = Duration::from_millis(200);
    let departure = backend.departure.clone();
    let (sql_limits, handle_limits) = (Limits::default(), HandleLimits::default());
    let router = GrpcApi { sql, kv, backend, sql_limits, handle_limits, departure }.router().await;
    let peers = PeerServer::new(peers)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let (ended, mut over) = watch::channel(false);
    let signal = async move {
        end.await;
        ended.send_replace(true);
    };
    let serving = router.add_service(peers).serve_with_incoming_shutdown(TcpListenerStream::new(listener), signal);
    let cut = async move {
        let _ = over.wait_for(|over| *over).await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        biased;
        result = serving => result,
        () = cut => Ok(()),
    }
}
