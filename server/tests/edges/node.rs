//! A node with both edges and nothing below them but memory.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use proto::transaction::{TxnAddress, TxnOutcome};
use proto::{ClusterId, Key, NodeId, Span, Timestamp};
use server::edge::departure::Departure;
use server::grpc::{AdminBackend, GrpcApi, HandleLimits, InitError, NodeStatus};
use server::kv::{BeginOptions, ClockInfo, Conflict, Error, Kv, NodeInfo, RangeInfo, RangeSurvey, Transaction};
use server::pgwire::PgServer;
use server::sql::testing::MemoryKv;
use server::sql::{Limits, Sql};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;

/// The addresses of a running node, which ends with the test's runtime.
pub struct Node {
    pub grpc: SocketAddr,
    pub pg: SocketAddr,
    slow_splits: Arc<AtomicBool>,
    pub departure: Departure,
}

impl Node {
    pub async fn start() -> Node {
        Node::with_handle_limits(HandleLimits::default()).await
    }

    pub async fn with_handle_limits(handle_limits: HandleLimits) -> Node {
        let slow_splits = Arc::new(AtomicBool::new(false));
        let real_time =
            RealTime { memory: MemoryKv::default(), started: Instant::now(), slow_splits: slow_splits.clone() };
        let kv: Arc<dyn Kv> = Arc::new(real_time);
        let sql = Sql::new(kv.clone(), Limits::default());
        let pg_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let grpc_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (grpc, pg) = (grpc_listener.local_addr().unwrap(), pg_listener.local_addr().unwrap());
        let departure = Departure::default();
        let pg_server = PgServer::new(sql.clone(), kv.clone(), departure.clone(), 8);
        tokio::spawn(pg_server.serve(pg_listener, std::future::pending()));
        let (backend, sql_limits) = (Arc::new(Backend), Limits::default());
        let router =
            GrpcApi { sql, kv, backend, sql_limits, handle_limits, departure: departure.clone() }.router().await;
        tokio::spawn(router.serve_with_incoming(TcpListenerStream::new(grpc_listener)));
        Node { grpc, pg, slow_splits, departure }
    }

    /// From now on splitting a range takes long enough to be caught at it.
    pub fn slow_splits(&self) {
        self.slow_splits.store(true, Ordering::Relaxed);
    }

    pub async fn client(&self) -> client::Client {
        client::Client::connect(&self.grpc.to_string()).await.unwrap()
    }

    /// A client, of a table with two accounts.
    pub async fn accounts(&self) -> client::Client {
        let db = self.client().await;
        db.execute("CREATE TABLE accounts (id INT8 PRIMARY KEY, balance INT8 NOT NULL)", &[]).await.unwrap();
        db.execute("INSERT INTO accounts VALUES (1, 100), (2, 50)", &[]).await.unwrap();
        db
    }
}

struct Backend;

#[async_trait]
impl AdminBackend for Backend {
    async fn init(&self) -> Result<ClusterId, InitError> {
        Err(InitError::AlreadyInitialised(ClusterId(7)))
    }

    fn status(&self) -> NodeStatus {
        NodeStatus {
            node_id: Some(NodeId(1)),
            cluster_id: Some(ClusterId(7)),
            version: "test".into(),
            ..NodeStatus::default()
        }
    }

    async fn stats(&self) -> BTreeMap<String, u64> {
        BTreeMap::from([("commits_total".to_string(), 5)])
    }
}

/// The in-memory layer, whose own time stands still unless it is told otherwise, in real time.
struct RealTime {
    memory: MemoryKv,
    started: Instant,
    slow_splits: Arc<AtomicBool>,
}

#[async_trait]
impl Kv for RealTime {
    async fn begin(&self, options: BeginOptions) -> Result<Box<dyn Transaction>, Error> {
        self.memory.begin(options).await
    }

    async fn outcome(&self, txn: &TxnAddress) -> Result<TxnOutcome, Error> {
        self.memory.outcome(txn).await
    }

    async fn ranges(&self, span: &Span) -> Result<Vec<RangeInfo>, Error> {
        self.memory.ranges(span).await
    }

    async fn survey(&self, span: &Span) -> Result<Vec<RangeSurvey>, Error> {
        self.memory.survey(span).await
    }

    async fn split(&self, key: &Key) -> Result<(), Error> {
        if self.slow_splits.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
        self.memory.split(key).await
    }

    async fn unsplit(&self, key: &Key) -> Result<(), Error> {
        self.memory.unsplit(key).await
    }

    fn recent_conflicts(&self) -> Vec<(Timestamp, Conflict)> {
        self.memory.recent_conflicts()
    }

    fn nodes(&self) -> Vec<NodeInfo> {
        self.memory.nodes()
    }

    fn clock(&self) -> ClockInfo {
        self.memory.clock()
    }

    fn follower_lag(&self) -> Duration {
        self.memory.follower_lag()
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    fn random(&self) -> u128 {
        self.memory.random()
    }
}
