//! A node: the parts, put together.
//!
//! * [`config`]: what a node is started with. * [`folder`]: its store directory. * [`bootstrap`]: how several fresh nodes become
//!   a cluster. * [`join`]: how a fresh node becomes a member of one that runs. * [`core`]: store, gateway and SQL of a node that
//!   is part of one. * [`membership`]: who else is. * [`recovery`]: what is done with the directories of stopped nodes when a majority is lost. * [`server`]: a node as its operator starts and stops it. * [`http`]: health
//!   and metrics.
//!
//! A node's life: it takes its store directory, listens, and waits until it knows to which cluster it belongs: from its
//! directory, by `init`, or because a node of its join list is part of a cluster and lets it in. Then the core runs until it is
//! stopped, or decommissioned.

pub mod config;
pub mod folder;
pub mod bootstrap;
pub mod join;
pub mod core;
pub mod membership;
pub mod recovery;
pub mod server;
pub mod http;
pub mod unready;

pub use config::{ClockChoice, ClockConfig, NodeConfig};
pub use server::Node;
