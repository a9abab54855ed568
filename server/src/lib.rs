//! Meridian's server, in the order in which a write passes through it.

pub mod sql;
pub mod kv;
pub mod store;
pub mod range;
pub mod raft;
pub mod env;
pub mod config;
