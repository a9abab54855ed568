//! Meridian's server, in the order in which a write passes through it.

pub mod sql;
pub mod kv;
