//! SQL: from a client's text to operations on key ranges, and back to rows.
//!
//! A front end in the manner of PostgreSQL, whose names, errors and semantics it follows wherever it has the feature;
//! what it does not have is refused by name with SQLSTATE `0A000`. A statement passes through the modules in
//! this order:
//!
//! ```text
//! text ─ parser ─► Statement ─ plan (names from catalog, types by expr) ─► Plan ─ exec ─► kv::Transaction
//!          └────────── plan_cache ──────────┘                             └─ rows ─► session ─► edge
//! ```
//!
//! * [`session`] owns transactions: when they begin and end, when they run again, and what may leave when.
//! * [`parser`] wraps `sqlparser` and adds our own statements.
//! * [`plan`] turns syntax into a small tree of operators over points and bounded scans.
//! * [`expr`] binds, folds and evaluates expressions, with PostgreSQL's types and arithmetic.
//! * [`exec`] runs plans, batch by batch, within limits.
//! * [`system`] lists the tables that the cluster tells of itself.
//! * [`moment`] reads what `AS OF SYSTEM TIME` names.
//! * [`catalog`] knows the tables, and [`encoding`] how their rows become keys and values.
//! * [`variables`] holds a session's settings, [`limits`] every limit by name, [`error`] what clients are told.
//!
//! The whole layer is plain `async` code over [`crate::kv`]: it neither spawns nor blocks, takes time and random numbers
//! from there, and keeps its maps ordered, so that it runs in a simulator as it runs in production.
//!
//! Not here: joins, subqueries, set operations, window functions, views, secondary indexes, foreign keys, checks,
//! sequences, intervals, time zones other than UTC, savepoints, the system catalog. Text is compared
//! bytewise (the C collation).

pub mod session;
pub mod parser;
pub mod plan;
pub mod plan_cache;
pub mod expr;
pub mod types;
pub mod exec;
pub mod moment;
pub mod catalog;
pub mod schema;
pub mod system;
pub mod encoding;
pub mod variables;
pub mod limits;
pub mod error;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use error::{Error, Result};
pub use limits::Limits;
pub use parser::Statement;
pub use plan::Column;
pub use session::{
    BlockOutcome, BlockResult, CommitWatch, Completion, Prepared, Rows, Session, SessionOptions, Sql, Status,
};
