//! The seams to the world: time, dice, tasks and the wire.
//!
//! Protocol code reaches the outside only through these traits. Production implements them over the operating system and
//! tokio (in [`crate::io`]); the simulator over a seed. A node can be started many times in one process, so nothing here is global.

use std::time::Duration;

use futures::future::BoxFuture;
use proto::message::Body;
use proto::{NodeId, Timestamp};
use txn::clock::ClockError;

/// The wall clock with its error: true time lies in `[earliest, latest]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    pub earliest: Timestamp,
    pub latest: Timestamp,
}

/// A node's clocks.
pub trait Clock: Send + Sync {
    /// Time since some fixed moment; never goes back.
    fn monotonic(&self) -> Duration;
    /// The wall clock and its error.
    fn interval(&self) -> Interval;
    /// Issues a hybrid logical timestamp; see [`txn::clock::Hlc::issue`].
    fn issue(&self) -> Result<Timestamp, ClockError>;
    /// The hybrid logical clock's reading, for outgoing messages: at least the wall clock, if the ceiling allows.
    fn reading(&self) -> Timestamp;
    /// Adopts the reading of an incoming message; see [`txn::clock::Hlc::adopt`].
    fn adopt(&self, theirs: Timestamp) -> Result<(), ClockError>;
    /// Nothing above this is issued or adopted.
    fn ceiling(&self) -> Timestamp;
    /// A higher ceiling is on disk.
    fn raise_ceiling(&self, ceiling: Timestamp);
    /// The greatest error of the wall clock, and where the bound comes from.
    fn bound(&self) -> (Duration, &'static str);
}

/// What asynchronous code needs to run on a node.
pub trait Env: Send + Sync {
    fn clock(&self) -> &dyn Clock;
    /// Runs a task that belongs to the node and dies with it.
    fn spawn(&self, task: BoxFuture<'static, ()>);
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
    /// 64 random bits, not for secrets.
    fn random(&self) -> u64;
}

/// Sends messages, unordered and lossy. A message to the node itself is delivered like any other.
pub trait Outbox: Send + Sync {
    fn send(&self, to: NodeId, body: Body);
}
