//! The cluster as its operators see it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proto::v1;
use proto::v1::admin_client::AdminClient;
use tonic::transport::Channel;

use super::error::{Error, Result};
use super::pool::Pool;
use super::{ToValue, Value};

/// One node's word on itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// 0 before the cluster is initialised.
    pub node_id: u64,
    /// Empty before the cluster is initialised.
    pub cluster_id: String,
    pub initialised: bool,
    pub version: String,
    pub grpc_address: String,
    pub pg_address: String,
    pub http_address: String,
    pub uptime: Duration,
    pub clock_source: String,
    /// None where clocks are not trusted.
    pub clock_error_max: Option<Duration>,
    /// `confirmed`, or why the node serves nothing.
    pub clock_standing: String,
}

/// A node, as another sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSummary {
    pub id: u64,
    pub address: String,
    /// The failure domains that it belongs to; empty if it was given none.
    pub locality: String,
    /// `active`, `joining`, `draining`, `decommissioning` or `decommissioned`.
    pub state: String,
    pub live: bool,
}

/// What can be done with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeChange {
    /// It leads nothing from then on.
    Drain,
    /// It may lead again.
    Undrain,
    /// It is to lose its replicas.
    Decommission,
    /// It has none, and is a member no longer.
    Finish,
}

/// Which ranges to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeScope {
    All,
    Table(String),
    /// Raw keys from the first (inclusive) to the second (exclusive).
    Span(Vec<u8>, Vec<u8>),
}

/// A range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeSummary {
    pub id: u64,
    /// Its bounds in readable form.
    pub span: String,
    pub epoch: u64,
    /// The nodes that hold a replica.
    pub replica_nodes: Vec<u64>,
    /// The node that leads it, if known.
    pub leader: Option<u64>,
}

/// Whether all is well with a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkup {
    /// What is wrong, a sentence each.
    pub faults: Vec<String>,
    /// Ranges that lack replicas, a sentence each.
    pub lacking: Vec<String>,
    pub ranges: u64,
}

/// Where to split.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// At a raw key.
    Key(Vec<u8>),
    /// At a row of a table, given by the leading columns of its primary key.
    Row { table: String, values: Vec<Value> },
}

impl Place {
    /// At the row of a table with this primary key.
    pub fn row(table: &str, values: &[&dyn ToValue]) -> Place {
        Place::Row { table: table.to_string(), values: values.iter().map(|v| v.to_value()).collect() }
    }
}

/// The administration service of a cluster. Calls go to any node that answers, except where they name one.
#[derive(Clone)]
pub struct Admin {
    pool: Arc<Pool>,
}

impl Admin {
    pub(super) fn new(pool: Arc<Pool>) -> Admin {
        Admin { pool }
    }

    /// Makes a cluster out of started nodes. Returns the new cluster's id.
    pub async fn init(&self) -> Result<String> {
        let init = async |channel| AdminClient::new(channel).init(v1::InitRequest {}).await;
        self.pool.nodes.call("Init", init).await.map(|r| r.into_inner().cluster_id)
    }

    /// Each known address with what the node there says of itself.
    pub async fn statuses(&self) -> Vec<(String, Result<NodeStatus>)> {
        self.each(async |channel| {
            AdminClient::new(channel).status(v1::StatusRequest {}).await.map(|r| node_status(r.into_inner()))
        })
        .await
    }

    /// The counters of each known address's node, counting since it was started.
    pub async fn stats(&self) -> Vec<(String, Result<BTreeMap<String, u64>>)> {
        self.each(async |channel| {
            AdminClient::new(channel).stats(v1::StatsRequest {}).await.map(|r| r.into_inner().counters)
        })
        .await
    }

    /// The nodes of the cluster, also those that were decommissioned.
    pub async fn nodes(&self) -> Result<Vec<NodeSummary>> {
        let nodes = async |channel| AdminClient::new(channel).nodes(v1::NodesRequest {}).await;
        let response = self.pool.nodes.call("Nodes", nodes).await?.into_inner();
        Ok(response.nodes.into_iter().map(node_summary).collect())
    }

    /// Drains or decommissions a node. Returns it as it is then.
    ///
    /// # Errors
    /// Among others when the change makes no sense or may not be: in words, why.
    pub async fn change_node(&self, node_id: u64, change: NodeChange) -> Result<NodeSummary> {
        let change = match change {
            NodeChange::Drain => v1::NodeChange::Drain,
            NodeChange::Undrain => v1::NodeChange::Undrain,
            NodeChange::Decommission => v1::NodeChange::Decommission,
            NodeChange::Finish => v1::NodeChange::Finish,
        };
        let request = v1::ChangeNodeRequest { node_id, change: change.into() };
        let ask = async |channel| AdminClient::new(channel).change_node(request).await;
        let response = self.pool.nodes.call("ChangeNode", ask).await?.into_inner();
        response.node.map(node_summary).ok_or_else(|| Error::protocol("a changed node came back without itself"))
    }

    /// The ranges within a scope, in key order.
    pub async fn ranges(&self, scope: RangeScope) -> Result<Vec<RangeSummary>> {
        let scope = match scope {
            RangeScope::All => None,
            RangeScope::Table(table) => Some(v1::ranges_request::Scope::Table(table)),
            RangeScope::Span(start, end) => Some(v1::ranges_request::Scope::Span(v1::KeySpan { start, end })),
        };
        let request = v1::RangesRequest { scope };
        let ranges = |channel| {
            let request = request.clone();
            async move { AdminClient::new(channel).ranges(request).await }
        };
        let response = self.pool.nodes.call("Ranges", ranges).await?.into_inner();
        Ok(response.ranges.into_iter().map(range_summary).collect())
    }

    /// Looks at every range, the map of the ranges, and the members.
    pub async fn check(&self) -> Result<Checkup> {
        let check = async |channel| AdminClient::new(channel).check(v1::CheckRequest {}).await;
        let v1::CheckResponse { faults, lacking, ranges } = self.pool.nodes.call("Check", check).await?.into_inner();
        Ok(Checkup { faults, lacking, ranges })
    }

    /// Makes a place the start of a new range.
    pub async fn split(&self, place: Place) -> Result<()> {
        let at = match place {
            Place::Key(key) => v1::split_request::At::Key(key),
            Place::Row { table, values } => v1::split_request::At::Row(row(table, values)),
        };
        let request = v1::SplitRequest { at: Some(at) };
        let split = |channel| {
            let request = request.clone();
            async move { AdminClient::new(channel).split(request).await }
        };
        self.pool.nodes.call("Split", split).await.map(|_| ())
    }

    /// Gives up a boundary that was asked for: the ranges beside it may be merged when they are small and cold.
    ///
    /// # Errors
    /// When no range begins at this place.
    pub async fn unsplit(&self, place: Place) -> Result<()> {
        let at = match place {
            Place::Key(key) => v1::unsplit_request::At::Key(key),
            Place::Row { table, values } => v1::unsplit_request::At::Row(row(table, values)),
        };
        let request = v1::UnsplitRequest { at: Some(at) };
        let unsplit = |channel| {
            let request = request.clone();
            async move { AdminClient::new(channel).unsplit(request).await }
        };
        self.pool.nodes.call("Unsplit", unsplit).await.map(|_| ())
    }

    /// Asks every known address, one after the other.
    async fn each<T, F>(&self, mut ask: impl FnMut(Channel) -> F) -> Vec<(String, Result<T>)>
    where
        F: Future<Output = Result<T, tonic::Status>>,
    {
        let nodes = &self.pool.nodes;
        let mut answers = Vec::new();
        for node in 0..nodes.len() {
            let answer = tokio::time::timeout(self.pool.config.connect_timeout, ask(nodes.channel(node))).await;
            let answer = match answer {
                Ok(answer) => answer.map_err(|status| Error::from_status(&status)),
                Err(_) => Err(Error::connection(format!("no answer within {:?}", self.pool.config.connect_timeout))),
            };
            answers.push((nodes.address(node).to_string(), answer));
        }
        answers
    }
}

fn node_status(wire: v1::StatusResponse) -> NodeStatus {
    NodeStatus {
        node_id: wire.node_id,
        cluster_id: wire.cluster_id,
        initialised: wire.initialised,
        version: wire.version,
        grpc_address: wire.grpc_address,
        pg_address: wire.pg_address,
        http_address: wire.http_address,
        uptime: Duration::from_micros(wire.uptime_us),
        clock_source: wire.clock_source,
        clock_error_max: wire.clock_error_us_max.map(Duration::from_micros),
        clock_standing: wire.clock_standing,
    }
}

fn node_summary(wire: v1::Node) -> NodeSummary {
    let state = match wire.state() {
        v1::NodeState::Unspecified => "unknown",
        v1::NodeState::Active => "active",
        v1::NodeState::Joining => "joining",
        v1::NodeState::Draining => "draining",
        v1::NodeState::Decommissioning => "decommissioning",
        v1::NodeState::Decommissioned => "decommissioned",
    };
    NodeSummary {
        id: wire.id,
        address: wire.address,
        locality: wire.locality,
        state: state.to_string(),
        live: wire.live,
    }
}

fn row(table: String, values: Vec<Value>) -> v1::TableRow {
    v1::TableRow { table, values: values.into_iter().map(Value::into_wire).collect() }
}

fn range_summary(wire: v1::Range) -> RangeSummary {
    RangeSummary {
        id: wire.id,
        span: wire.span_text,
        epoch: wire.epoch,
        replica_nodes: wire.replicas.iter().map(|r| r.node_id).collect(),
        leader: Some(wire.leader_node_id).filter(|&id| id > 0),
    }
}
