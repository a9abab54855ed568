//! What a node is started with.

use std::path::PathBuf;
use std::time::Duration;

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
    /// The addresses of all nodes of the cluster that is to be, itself included or not.
    pub join: Vec<String>,
    /// Where it listens for PostgreSQL clients.
    pub pg_listen: Option<String>,
    /// Where it serves health and metrics.
    pub http_listen: Option<String>,
    /// The declared bound on the wall clock's error, used unless all nodes share one clock.
    pub clock_max_error: Duration,
    pub knobs: Knobs,
}

impl NodeConfig {
    /// The address that others use.
    pub fn address(&self) -> &str {
        self.advertise.as_deref().unwrap_or(&self.listen)
    }
}
