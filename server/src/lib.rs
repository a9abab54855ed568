//! Meridian's server, in the order in which a write passes through it.

pub mod grpc;
pub mod pgwire;
pub mod edge;
pub mod sql;
pub mod kv;
