//! The Rust driver.
//!
//! ```no_run
//! # async fn example() -> Result<(), client::Error> {
//! let db = client::Client::connect("127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003").await?;
//! db.execute("CREATE TABLE pets (name TEXT PRIMARY KEY, legs INT8)", &[]).await?;
//! db.execute("INSERT INTO pets VALUES ($1, $2)", &[&"Rex", &4i64]).await?;
//! for row in db.query("SELECT name, legs FROM pets", &[]).await? {
//!     println!("{} has {} legs", row.get::<String>("name")?, row.get::<i64>("legs")?);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A [`Client`] knows the addresses of several nodes, any of which can serve any statement. It keeps a small pool of
//! [`Session`]s, each one gRPC stream to one node, opened when needed and spread over the nodes. A node that
//! cannot be reached is set aside for a moment and another one is tried.
//!
//! A strictly serializable database sometimes tells a transaction to run again. [`Client::transact`] does that: it
//! takes the transaction's body as a closure and runs it until it commits, with pauses that grow and are random.
//! [`Client::begin`] leaves that to the caller. Single statements outside a transaction are run again by the
//! server, or by the driver if the connection was lost and the statement cannot have had an effect.
//!
//! When the connection breaks after a commit was sent, the driver asks another node how the transaction ended, and goes on
//! accordingly; single statements that may write are sent so that this works for them too. Only if no node answers for as long as
//! transactions are retried, the error is [`ErrorKind::OutcomeUnknown`], which is never retried blindly; [`Client::outcome`] asks later. A
//! program that may crash, and then does its work again, gives it a key: [`Client::with_idempotency_key`].
//!
//! Left out: TLS and passwords, `COPY`.

mod client;
mod config;
mod nodes;
mod pool;
mod session;
mod rows;
mod transaction;
mod single;
mod keyed;
mod outcome;
mod retry;
mod lent;
mod value;
mod text;
mod types;
mod convert;
mod key_range;
mod admin;
mod error;
#[cfg(test)]
mod tests;

pub use admin::{Admin, NodeChange, NodeStatus, NodeSummary, Place, RangeScope, RangeSummary};
pub use client::Client;
pub use config::Config;
pub use convert::{FromValue, ToValue};
pub use error::{Error, ErrorKind, Result};
pub use key_range::{KeyRange, KeyRangeTransaction, ScanResult};
pub use keyed::Keyed;
pub use lent::Lent;
pub use outcome::Outcome;
pub use retry::{RetryPolicy, Transacted};
pub use rows::{ColumnIndex, Completion, Notice, Row, Rows, ServerTimings, TransactionStatus};
pub use session::{Canceller, Description, Session};
pub use transaction::{Committed, Isolation, Transaction, TransactionOptions};
pub use types::{Column, DataType};
pub use value::Value;
