//! A node's clock: what it issues, whom it believes, and when it stops believing itself.
//!
//! [`Hlc`] issues hybrid logical timestamps. [`Agreement`] weighs what the other nodes say about this node's wall clock.
//! [`Timekeeper`] puts both over a wall clock and a monotonic one, which come in as [`Reading`]s. [`HostTime`] is the offset on
//! which the processes of one host agree, so that they share one clock without error.

mod agreement;
mod hlc;
mod host;
mod timekeeper;

use std::time::Duration;

use proto::Timestamp;

pub use agreement::{Agreement, Difference, Voice};
pub use hlc::Hlc;
pub use host::HostTime;
pub use timekeeper::{Doubt, Standing, Timekeeper};

/// Clocks are compared in whole microseconds.
pub const GRAIN: Duration = Duration::from_micros(1);

/// The clocks of a machine at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Time since some fixed moment; never goes back, never jumps.
    pub monotonic: Duration,
    pub wall: Timestamp,
    /// How far the wall clock may err, either way.
    pub error: Duration,
}

/// Whether clocks are believed to stay inside their bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Real-time order holds while they do. Readings beyond the bounds are refused, and answers wait out the error.
    #[default]
    Bounded,
    /// Nothing is refused on account of a clock and nobody waits. Serializability holds, real-time order is not promised.
    Untrusted,
}

/// The clock may not go where it was asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockError {
    /// A higher ceiling must be synced first.
    Ceiling { needed: Timestamp },
    /// The other clock is further ahead than the bound allows.
    TooFarAhead { theirs: Timestamp, limit: Timestamp },
    /// The node does not believe its own clock; see [`Standing`].
    Doubted,
}
