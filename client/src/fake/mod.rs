//! A server for tests: the SQL and administration services on a real socket, over a small in-memory [`bank`].
//!
//! It keeps the contract of sessions: answers in order and with their ids, transaction states, cancellation, conflicts
//! that have to be run again. Of SQL it understands the few statements that the tests send.

mod bank;
mod session;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::Stream;
use proto::v1;
use proto::v1::admin_server::{Admin, AdminServer};
use proto::v1::sql_server::{Sql, SqlServer};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

pub use bank::Bank;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A running server on threads of its own. Dropping it kills it: its socket and all connections are closed at once.
pub struct FakeServer {
    pub address: SocketAddr,
    pub sessions: Arc<AtomicU64>,
    /// Always there until it is dropped.
    runtime: Option<Runtime>,
}

impl FakeServer {
    /// Serves a bank, which several servers may share as the nodes of one cluster do.
    pub async fn start(node_id: u64, bank: Arc<Bank>) -> FakeServer {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.spawn(TcpListener::bind("127.0.0.1:0")).await.unwrap().unwrap();
        let address = listener.local_addr().unwrap();
        let sessions = Arc::new(AtomicU64::new(0));
        let service = Service { node_id, bank, sessions: sessions.clone(), address: address.to_string() };
        let serving = tonic::transport::Server::builder()
            .add_service(SqlServer::new(service.clone()))
            .add_service(AdminServer::new(service))
            .serve_with_incoming(TcpListenerStream::new(listener));
        runtime.spawn(async move { serving.await.unwrap() });
        FakeServer { address, sessions, runtime: Some(runtime) }
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[derive(Clone)]
struct Service {
    node_id: u64,
    address: String,
    bank: Arc<Bank>,
    sessions: Arc<AtomicU64>,
}

#[tonic::async_trait]
impl Sql for Service {
    type SessionStream = Answers<v1::SessionResponse>;
    type ExecuteStream = Answers<v1::ExecuteResponse>;

    async fn session(
        &self,
        request: Request<Streaming<v1::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        if self.bank.refuse_sessions.load(Ordering::Relaxed) {
            return Err(Status::unavailable("nobody is here"));
        }
        let (sender, receiver) = mpsc::channel(16);
        self.sessions.fetch_add(1, Ordering::Relaxed);
        let session = session::Session::new(self.node_id, self.bank.clone(), request.into_inner(), sender);
        tokio::spawn(session.run());
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn execute(&self, _request: Request<v1::ExecuteRequest>) -> Result<Response<Self::ExecuteStream>, Status> {
        Err(Status::unimplemented("the driver does not use it"))
    }
}

#[tonic::async_trait]
impl Admin for Service {
    async fn check(&self, _request: Request<v1::CheckRequest>) -> Result<Response<v1::CheckResponse>, Status> {
        Err(Status::unimplemented("there are no ranges here to be checked"))
    }

    async fn init(&self, _request: Request<v1::InitRequest>) -> Result<Response<v1::InitResponse>, Status> {
        Err(Status::already_exists("the cluster is initialised already"))
    }

    async fn status(&self, _request: Request<v1::StatusRequest>) -> Result<Response<v1::StatusResponse>, Status> {
        Ok(Response::new(v1::StatusResponse { node_id: self.node_id, initialised: true, ..Default::default() }))
    }

    async fn nodes(&self, _request: Request<v1::NodesRequest>) -> Result<Response<v1::NodesResponse>, Status> {
        let node = v1::Node {
            id: self.node_id,
            address: self.address.clone(),
            live: true,
            state: v1::NodeState::Active.into(),
            ..v1::Node::default()
        };
        Ok(Response::new(v1::NodesResponse { nodes: vec![node] }))
    }

    async fn change_node(
        &self,
        _request: Request<v1::ChangeNodeRequest>,
    ) -> Result<Response<v1::ChangeNodeResponse>, Status> {
        Err(Status::failed_precondition("without the others the ranges would have too few voters"))
    }

    async fn ranges(&self, _request: Request<v1::RangesRequest>) -> Result<Response<v1::RangesResponse>, Status> {
        Ok(Response::new(v1::RangesResponse::default()))
    }

    async fn split(&self, _request: Request<v1::SplitRequest>) -> Result<Response<v1::SplitResponse>, Status> {
        Ok(Response::new(v1::SplitResponse {}))
    }

    async fn unsplit(&self, _request: Request<v1::UnsplitRequest>) -> Result<Response<v1::UnsplitResponse>, Status> {
        Ok(Response::new(v1::UnsplitResponse {}))
    }

    async fn stats(&self, _request: Request<v1::StatsRequest>) -> Result<Response<v1::StatsResponse>, Status> {
        let commits = self.bank.commits();
        let counters = [("commits_total".to_string(), commits), ("log_syncs_total".to_string(), commits / 2)];
        Ok(Response::new(v1::StatsResponse { counters: counters.into(), node_id: self.node_id }))
    }
}
