//! Meridian's client side: the Rust [`driver`], the SQL [`shell`] and the benchmarks in [`bench`].
//!
//! The shell and the benchmarks are written against the driver alone, and the driver against the public gRPC
//! API (`proto::v1`) alone, so all three see of a cluster what any other program would.

pub mod driver;
pub mod shell;
pub mod bench;
mod random;
#[cfg(test)]
mod fake;

pub use driver::{Client, Config, Error, ErrorKind, Row, Rows, Transaction, Value};
