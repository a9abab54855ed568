//! A node: the parts, put together.
//!
//! * [`config`]: what a node is started with. * [`folder`]: its store directory. * [`bootstrap`]: how several fresh nodes become
//!   a cluster. * [`core`]: store, gateway and SQL of a node that is part of one. * [`server`]: a node as its operator starts
//!   and stops it. * [`http`]: health and metrics.
//!
//! A node's life: it takes its store directory, listens, and waits until it is told to which cluster it belongs, by its
//! directory or by `init`; then the core runs until it is stopped.

pub mod config;
pub mod folder;
pub mod bootstrap;
pub mod core;
pub mod server;
pub mod http;
pub mod unready;

pub use config::{ClockChoice, ClockConfig, NodeConfig};
pub use server::Node;
