//! What a node is started with.

use std::path::PathBuf;
use std::time::Duration;

use proto::Locality;
use txn::clock::Trust;

use crate::config::Knobs;

/// See the module.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The store directory; created if it is not there.
    pub store: PathBuf,
    /// Where the node listens for nodes and gRPC clients: `host:port`.
    pub listen: String,
    /// What the others call it, where that differs from `listen`.
    pub advertise: Option<String>,
    /// The addresses of nodes of the cluster, itself included or not: all of them, where it is to be initialised.
    pub join: Vec<String>,
    /// Where it listens for PostgreSQL clients.
    pub pg_listen: Option<String>,
    /// Where it serves health and metrics.
    pub http_listen: Option<String>,
    /// The failure domains that it belongs to.
    pub locality: Locality,
    pub clock: ClockConfig,
    pub knobs: Knobs,
}

/// Which clock a node reads, and what it believes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockConfig {
    pub source: ClockChoice,
    /// The declared bound on the wall clock's error, where nothing better is known.
    pub max_error: Duration,
    pub trust: Trust,
}

impl Default for ClockConfig {
    fn default() -> ClockConfig {
        ClockConfig { source: ClockChoice::Auto, max_error: Duration::from_millis(250), trust: Trust::Bounded }
    }
}

/// Which clock a node reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClockChoice {
    /// The host's, if the whole cluster was founded on one host and keeps its clock; else the wall clock with the declared bound.
    #[default]
    Auto,
    /// The wall clock with a bound of its own.
    Fixed(Duration),
    /// The wall clock with the error that the kernel computes.
    Kernel,
    /// The time since the host was booted, which all nodes share.
    SameHost,
}

impl NodeConfig {
    /// The address that others use.
    pub fn address(&self) -> &str {
        self.advertise.as_deref().unwrap_or(&self.listen)
    }
}
