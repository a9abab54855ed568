//! The `Admin` service.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use proto::v1::admin_server::Admin;
use proto::{ClusterId, Key, NodeId, NodeState, RangeDescriptor, Span, v1};
use tonic::{Request, Response, Status};

use super::convert::datum;
use super::status::{kv_status, status};
use crate::edge::parameter::coerce;
use crate::kv::{Error as KvError, Kv, NodeChange, NodeInfo, RangeInfo};
use crate::sql::catalog::Catalog;
use crate::sql::encoding::key::encode;
use crate::sql::error::state;
use crate::sql::exec::place::place;
use crate::sql::schema::Table;
use crate::sql::{Error, Limits};

/// What the service needs of the node beyond transactions.
#[async_trait]
pub trait AdminBackend: Send + Sync {
    /// Makes a cluster out of the nodes that know each other.
    async fn init(&self) -> Result<ClusterId, InitError>;

    /// The node itself.
    fn status(&self) -> NodeStatus;

    /// Counters by name, since the node was started.
    async fn stats(&self) -> BTreeMap<String, u64>;
}

/// Why a cluster was not initialised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InitError {
    /// It has been already.
    AlreadyInitialised(ClusterId),
    /// Not enough nodes answer, or they do not agree; in words.
    NotReady(String),
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InitError::AlreadyInitialised(id) => write!(f, "the cluster is initialised already; its id is {id}"),
            InitError::NotReady(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for InitError {}

/// A node's word on itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeStatus {
    /// `None` before the cluster is initialised.
    pub node_id: Option<NodeId>,
    /// `None` before the cluster is initialised.
    pub cluster_id: Option<ClusterId>,
    pub version: String,
    /// Where each edge listens, `host:port`; empty if it does not.
    pub grpc_address: String,
    pub pg_address: String,
    pub http_address: String,
    pub uptime: Duration,
}

/// The service.
pub struct AdminService {
    kv: Arc<dyn Kv>,
    catalog: Catalog,
    backend: Arc<dyn AdminBackend>,
}

impl AdminService {
    pub fn new(kv: Arc<dyn Kv>, limits: Limits, backend: Arc<dyn AdminBackend>) -> AdminService {
        AdminService { catalog: Catalog::new(kv.clone(), limits), kv, backend }
    }

    async fn table(&self, name: &str) -> Result<Arc<Table>, Error> {
        let found = self.catalog.lookup(name).await?;
        found.ok_or_else(|| Error::new(state::UNDEFINED_TABLE, format!("relation \"{name}\" does not exist")))
    }

    /// The first key that a row with these values in the leading columns of its primary key can have.
    async fn row_prefix(&self, row: v1::TableRow) -> Result<Key, Error> {
        let table = self.table(&row.table).await?;
        let columns = table.key_ordinals().len();
        if !(1..=columns).contains(&row.values.len()) {
            let message =
                format!("a row is given by 1 to {columns} values of its primary key, not {}", row.values.len());
            return Err(Error::new(state::INVALID_PARAMETER, message));
        }
        let mut key = table.prefix();
        for (index, (value, wanted)) in row.values.into_iter().zip(table.key_types()).enumerate() {
            let value = coerce(datum(value)?, wanted, index + 1)?;
            if value.is_null() {
                return Err(Error::new(state::INVALID_PARAMETER, "a primary key has no NULL in it"));
            }
            encode(&value, &mut key.0);
        }
        Ok(key)
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn init(&self, _request: Request<v1::InitRequest>) -> Result<Response<v1::InitResponse>, Status> {
        match self.backend.init().await {
            Ok(id) => Ok(Response::new(v1::InitResponse { cluster_id: id.to_string() })),
            Err(error @ InitError::AlreadyInitialised(_)) => Err(Status::already_exists(error.to_string())),
            Err(error @ InitError::NotReady(_)) => Err(Status::failed_precondition(error.to_string())),
        }
    }

    async fn status(&self, _request: Request<v1::StatusRequest>) -> Result<Response<v1::StatusResponse>, Status> {
        let node = self.backend.status();
        let clock = self.kv.clock();
        Ok(Response::new(v1::StatusResponse {
            node_id: node.node_id.map_or(0, |id| id.0),
            cluster_id: node.cluster_id.map_or(String::new(), |id| id.to_string()),
            initialised: node.cluster_id.is_some(),
            version: node.version,
            grpc_address: node.grpc_address,
            pg_address: node.pg_address,
            http_address: node.http_address,
            uptime_us: micros(node.uptime),
            clock_source: clock.source,
            clock_error_us_max: clock.max_error.map(micros),
            clock_standing: clock.standing,
        }))
    }

    async fn nodes(&self, _request: Request<v1::NodesRequest>) -> Result<Response<v1::NodesResponse>, Status> {
        Ok(Response::new(v1::NodesResponse { nodes: self.kv.nodes().into_iter().map(node).collect() }))
    }

    async fn change_node(
        &self,
        request: Request<v1::ChangeNodeRequest>,
    ) -> Result<Response<v1::ChangeNodeResponse>, Status> {
        let request = request.into_inner();
        let change = match request.change() {
            v1::NodeChange::Unspecified => return Err(Status::invalid_argument("the request names no change")),
            v1::NodeChange::Drain => NodeChange::Drain,
            v1::NodeChange::Undrain => NodeChange::Undrain,
            v1::NodeChange::Decommission => NodeChange::Decommission,
            v1::NodeChange::Finish => NodeChange::Finish,
        };
        let info = self.kv.change_node(NodeId(request.node_id), change).await.map_err(|error| match error {
            KvError::Invalid(why) => Status::failed_precondition(why),
            other => kv_status(other),
        })?;
        Ok(Response::new(v1::ChangeNodeResponse { node: Some(node(info)) }))
    }

    async fn ranges(&self, request: Request<v1::RangesRequest>) -> Result<Response<v1::RangesResponse>, Status> {
        let span = match request.into_inner().scope {
            None => Span::all(),
            Some(v1::ranges_request::Scope::Table(table)) => self.table(&table).await.map_err(|e| status(&e))?.span(),
            Some(v1::ranges_request::Scope::Span(span)) => Span { start: Key(span.start), end: Key(span.end) },
        };
        let ranges = self.kv.ranges(&span).await.map_err(kv_status)?;
        Ok(Response::new(v1::RangesResponse { ranges: ranges.into_iter().map(range).collect() }))
    }

    async fn split(&self, request: Request<v1::SplitRequest>) -> Result<Response<v1::SplitResponse>, Status> {
        let key = match request.into_inner().at {
            None => return Err(Status::invalid_argument("a split needs a key or a row")),
            Some(v1::split_request::At::Key(key)) => Key(key),
            Some(v1::split_request::At::Row(row)) => self.row_prefix(row).await.map_err(|e| status(&e))?,
        };
        self.kv.split(&key).await.map_err(kv_status)?;
        Ok(Response::new(v1::SplitResponse {}))
    }

    async fn unsplit(&self, request: Request<v1::UnsplitRequest>) -> Result<Response<v1::UnsplitResponse>, Status> {
        let key = match request.into_inner().at {
            None => return Err(Status::invalid_argument("to give up a boundary needs a key or a row")),
            Some(v1::unsplit_request::At::Key(key)) => Key(key),
            Some(v1::unsplit_request::At::Row(row)) => self.row_prefix(row).await.map_err(|e| status(&e))?,
        };
        self.kv.unsplit(&key).await.map_err(kv_status)?;
        Ok(Response::new(v1::UnsplitResponse {}))
    }

    async fn check(&self, _request: Request<v1::CheckRequest>) -> Result<Response<v1::CheckResponse>, Status> {
        let checkup = self.kv.check().await.map_err(kv_status)?;
        // What is wrong is worth telling without the names of tables.
        let tables = self.catalog.all().await.unwrap_or_default();
        let told = |(about, words): (Option<RangeDescriptor>, String)| match about {
            Some(range) => {
                let (start, end) = (place(&range.start, &tables), place(&range.end, &tables));
                format!("{} ({start} .. {end}) {words}", range.id)
            }
            None => words,
        };
        Ok(Response::new(v1::CheckResponse {
            faults: checkup.faults.into_iter().map(told).collect(),
            lacking: checkup.lacking.into_iter().map(told).collect(),
            ranges: checkup.ranges,
        }))
    }

    async fn stats(&self, _request: Request<v1::StatsRequest>) -> Result<Response<v1::StatsResponse>, Status> {
        let node_id = self.backend.status().node_id.map_or(0, |id| id.0);
        Ok(Response::new(v1::StatsResponse { counters: self.backend.stats().await, node_id }))
    }
}

fn node(info: NodeInfo) -> v1::Node {
    let state = match info.state {
        NodeState::Active => v1::NodeState::Active,
        NodeState::Joining => v1::NodeState::Joining,
        NodeState::Draining => v1::NodeState::Draining,
        NodeState::Decommissioning => v1::NodeState::Decommissioning,
        NodeState::Decommissioned => v1::NodeState::Decommissioned,
    };
    v1::Node {
        id: info.descriptor.id.0,
        address: info.descriptor.address,
        live: info.live,
        locality: info.descriptor.locality.to_string(),
        state: state.into(),
    }
}

fn range(info: RangeInfo) -> v1::Range {
    let descriptor = info.descriptor;
    let span_text = descriptor.span().to_string();
    let replica = |r: &proto::ReplicaDescriptor| v1::RangeReplica { node_id: r.node.0, replica_id: r.id.0 };
    v1::Range {
        id: descriptor.id.0,
        replicas: descriptor.replicas.iter().map(replica).collect(),
        span: Some(v1::KeySpan { start: descriptor.start.0, end: descriptor.end.0 }),
        span_text,
        epoch: descriptor.epoch.0,
        leader_node_id: info.leader.map_or(0, |id| id.0),
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
