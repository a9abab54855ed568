//! Transactions over the key space: what SQL and the edges call.
//!
//! A gateway (any node) runs transactions for its clients. [`db::Db`] opens them, [`transaction`] reads and buffers, [`commit`] drives
//! the pure [`txn::coordinator`], [`settle`] removes what dead or slow transactions left in the way,
//! [`recover`] decides what their coordinators left open, and [`router`] finds the
//! range and leader for every request; [`near`] asks others than leaders for reads in the past. [`meta`] keeps the range descriptors, [`members`] changes who holds replicas, and [`registry`] keeps who the
//! nodes are. [`reports`], [`survey`] and [`decisions`] tell how ranges stand and what was done about them, [`wishes`] what is
//! wanted of them. [`aftermath`] brings the system's rows into line with ranges that were rebuilt from survivors, and [`checkup`] tells
//! whether all is well. [`idempotency`] lets applications run whole transactions again.

pub mod api;
pub mod error;
pub mod db;
pub mod transaction;
pub mod commit;
pub mod scatter;
pub mod near;
pub mod settle;
pub mod recover;
pub mod meta;
pub mod members;
pub mod merge;
pub mod registry;
pub mod reports;
pub mod decisions;
pub mod wishes;
pub mod survey;
pub mod aftermath;
pub mod checkup;
pub mod spans;
pub mod router;
pub mod stats;
pub mod idempotency;

pub use api::{
    BeginOptions, ClockInfo, CommitTimings, Committed, Isolation, Kv, Lock, NodeChange, NodeHoldings, NodeInfo,
    RangeInfo, RangeSurvey, ScanOptions, ScanPage, Transaction,
};
pub use db::{Db, DbConfig};
pub use error::{Conflict, Error, RetryReason};
pub use stats::GatewayStats;
