//! Judges of what happened.

pub mod bank;
pub mod replicas;
