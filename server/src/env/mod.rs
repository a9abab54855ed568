//! The seams to the world: time, dice, tasks and the wire.
//!
//! Protocol code reaches the outside only through these traits. Production implements them over the operating system and
//! tokio (in [`crate::io`]); the simulator over a seed. A node can be started many times in one process, so nothing here is global.

mod clock;

use std::time::Duration;

use futures::future::BoxFuture;
use proto::message::Body;
use proto::range::Frozen;
use proto::report::StoreReport;
use proto::{Key, NodeId, RangeDescriptor, ReplicaId};

pub use clock::{Bound, Clock, ClockSource, Interval, NodeClock};

/// What asynchronous code needs to run on a node.
pub trait Env: Send + Sync {
    fn clock(&self) -> &dyn Clock;
    /// Runs a task that belongs to the node and dies with it.
    fn spawn(&self, task: BoxFuture<'static, ()>);
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
    /// 64 random bits, not for secrets.
    fn random(&self) -> u64;
}

/// A split that a range's leader wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitWish {
    pub range: RangeDescriptor,
    /// The right-hand range's first key.
    pub key: Key,
    /// In words.
    pub reason: String,
}

/// A replica that nobody leads, and that may have been removed from its range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// The range as it knows it.
    pub descriptor: RangeDescriptor,
    pub replica: ReplicaId,
}

/// A range that was frozen for a merge, of which nobody has heard any more for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StuckMerge {
    pub right: RangeDescriptor,
    pub frozen: Frozen,
}

/// What a store asks of its node, beside messages and its disk: work that takes transactions.
pub trait Errands: Send + Sync {
    /// Puts a leader's descriptor into the meta range, unless a newer one is there.
    fn publish(&self, descriptor: RangeDescriptor);
    fn split(&self, wish: SplitWish);
    /// Asks those who hold the range now whether the replica may go.
    fn ask_for(&self, stray: Stray);
    /// Finds out whether the merge can still happen, sees to it that it cannot, and has the range serve again; unless it has happened.
    fn settle_merge(&self, stuck: StuckMerge);
    /// Tells the placement driver.
    fn report(&self, report: StoreReport);
}

/// Sends messages, unordered and lossy. A message to the node itself is delivered like any other.
pub trait Outbox: Send + Sync {
    fn send(&self, to: NodeId, body: Body);
}
