//! Judges of what happened.
//!
//! Histories of transactions: [`history`] is the record. [`append`] and [`register`] look for anomalies in what transactions saw of each
//! other: [`writes`] sorts out who wrote what, [`dependencies`] and [`frontier`] make a [`graph`] of it, [`cycle`] finds what cannot be in
//! any order, and an [`anomaly`] says so. [`linearizable`] judges single operations, [`commit_order`] timestamps, [`mvcc`] reads by
//! timestamp.
//!
//! For one workload each: [`bank`]. For the whole cluster: [`replicas`].

pub mod history;
pub mod anomaly;
pub mod append;
pub mod register;
pub mod writes;
pub mod dependencies;
pub mod frontier;
pub mod graph;
pub mod cycle;
pub mod linearizable;
pub mod commit_order;
pub mod mvcc;
pub mod bank;
pub mod replicas;

#[cfg(test)]
mod testing;
