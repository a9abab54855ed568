//! Meridian's server, in the order in which a write passes through it.

pub mod grpc;
pub mod pgwire;
pub mod edge;
pub mod sql;
pub mod kv;
pub mod store;
pub mod range;
pub mod raft;
pub mod io;

// The seams, and what stands beside the path of a write.
pub mod env;
pub mod probe;
pub mod config;
pub mod admin;
pub mod recovery;
pub mod node;
pub mod telemetry;
pub mod cli;
