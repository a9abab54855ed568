//! Transactions over the key space: what SQL and the edges call.

pub mod api;
pub mod error;

pub use api::{
    BeginOptions, ClockInfo, CommitTimings, Committed, Isolation, Kv, Lock, NodeInfo, RangeInfo, ScanOptions, ScanPage,
    Transaction,
};
pub use error::{Conflict, Error, RetryReason};
