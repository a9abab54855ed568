//! What the SQL layer and the edges see of the transactional key-value layer.
//!
//! [`Kv`] opens transactions over the one ordered key space; a [`Transaction`] reads an MVCC snapshot, buffers
//! its writes and commits them. How keys become ranges, where those are led, and how a commit crosses
//! ranges is none of the caller's business.

use std::time::Duration;

use async_trait::async_trait;
use proto::range::RangeStatus;
use proto::transaction::{TxnAddress, TxnOutcome};
use proto::{Key, NodeDescriptor, NodeId, NodeState, RangeDescriptor, Span, Timestamp, TxnId, Value};

use super::checkup::Checkup;
use super::error::{Conflict, Error};

/// What a transaction promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Isolation {
    /// Strictly serializable. Its reads are validated if its commit had to move past its read timestamp.
    #[default]
    Serializable,
    /// `REPEATABLE READ`: reads one MVCC snapshot; only what it wrote or locked is validated (snapshot isolation).
    Snapshot,
}

/// How a transaction begins.
#[derive(Clone, Debug, Default)]
pub struct BeginOptions {
    pub isolation: Isolation,
    /// Writes are refused.
    pub read_only: bool,
    /// The priority of an earlier attempt at the same work, so that a retried transaction keeps its age and
    /// in the end wins every conflict. See [`Transaction::priority`].
    pub priority: Option<Timestamp>,
    /// It reads the MVCC snapshot of this time in the past, from whichever replicas are near, and writes nothing.
    pub at: Option<Timestamp>,
}

/// Whether a read takes a place in the queue for its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    None,
    /// `FOR UPDATE`, and the read half of `UPDATE` and `DELETE`.
    Exclusive,
}

/// Limits and direction of a scan.
#[derive(Clone, Copy, Debug)]
pub struct ScanOptions {
    /// At most this many rows a page.
    pub rows_max: usize,
    /// A page ends after the row with which it reaches this many bytes of keys and values.
    pub bytes_max: usize,
    /// From the end of the span to its start.
    pub reverse: bool,
}

impl Default for ScanOptions {
    fn default() -> Self {
        ScanOptions { rows_max: 1024, bytes_max: 1 << 20, reverse: false }
    }
}

/// A part of a scan's result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanPage {
    /// In key order, or against it when reversed.
    pub rows: Vec<(Key, Value)>,
    /// What is left to scan; `None` at the end.
    pub resume: Option<Span>,
}

/// Where a commit's time went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommitTimings {
    /// Waiting at the leaders for latches, locks and intents, and being evaluated.
    pub queue: Duration,
    /// From proposal to application: log write, fsync, quorum.
    pub replication: Duration,
    /// Waiting for the clock to pass the commit timestamp (the reply rule).
    pub clock_wait: Duration,
    /// The whole commit as the gateway saw it.
    pub total: Duration,
}

/// A commit that took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    pub timestamp: Timestamp,
    pub timings: CommitTimings,
}

/// Transactions, and a view of the cluster.
#[async_trait]
pub trait Kv: Send + Sync {
    /// Begins a transaction. Its read timestamp is the greatest time that any clock in the cluster may show
    /// now, so it sees whatever was acknowledged to anyone before this call; unless it is to read in the past.
    ///
    /// # Errors
    /// [`Error::Future`] when it is to read later than now.
    async fn begin(&self, options: BeginOptions) -> Result<Box<dyn Transaction>, Error>;

    /// How a transaction ended. If it has not ended yet it is aborted, so that the answer stays true. May be asked for as long as receipts are
    /// kept, on any node.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when its range cannot be reached: ask again later.
    async fn outcome(&self, txn: &TxnAddress) -> Result<TxnOutcome, Error>;

    /// The ranges that overlap a span, in key order, as of some recent moment.
    async fn ranges(&self, span: &Span) -> Result<Vec<RangeInfo>, Error>;

    /// The ranges that overlap a span, in key order, each with what its leader says of it now. Takes a few seconds at most: a leader that
    /// does not answer meanwhile is left out.
    ///
    /// # Errors
    /// When it cannot be found out which ranges there are.
    async fn survey(&self, span: &Span) -> Result<Vec<RangeSurvey>, Error>;

    /// Looks at every range, the map of the ranges, and the members. Takes a few seconds at most.
    ///
    /// # Errors
    /// When it cannot be found out which ranges there are.
    async fn check(&self) -> Result<Checkup, Error> {
        Err(Error::Invalid("this is no cluster".into()))
    }

    /// Splits the range that holds `key` so that `key` becomes the first key of a new range. A key that is
    /// a boundary already is fine. Boundaries that were asked for stay, whatever becomes of the ranges.
    async fn split(&self, key: &Key) -> Result<(), Error>;

    /// Gives up a boundary that was asked for: the range that begins at `key` may be merged with the one on its left.
    ///
    /// # Errors
    /// [`Error::Invalid`] if no range begins there.
    async fn unsplit(&self, key: &Key) -> Result<(), Error>;

    /// The latest conflicts of this node's transactions, the newest first, and when they were met.
    fn recent_conflicts(&self) -> Vec<(Timestamp, Conflict)>;

    /// The nodes of the cluster, also those that are members no longer.
    fn nodes(&self) -> Vec<NodeInfo>;

    /// Changes a node's state.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the change makes no sense or may not be.
    async fn change_node(&self, node: NodeId, _change: NodeChange) -> Result<NodeInfo, Error> {
        Err(Error::Invalid(format!("{node} cannot be changed: this is no cluster")))
    }

    /// The clock in force at this node.
    fn clock(&self) -> ClockInfo;

    /// How far back reads in the past are served by replicas that do not lead, wherever these keep up.
    fn follower_lag(&self) -> Duration;

    /// Time since some fixed moment, for durations; simulated under simulation.
    fn monotonic(&self) -> Duration;

    /// Waits.
    async fn sleep(&self, duration: Duration);

    /// Random bits for `gen_random_uuid()`; seeded under simulation.
    fn random(&self) -> u128;
}

/// One transaction. Dropping it unfinished rolls it back in the background.
#[async_trait]
pub trait Transaction: Send {
    fn id(&self) -> TxnId;

    /// Where its outcome will be kept; `None` as long as it has written nothing.
    fn address(&self) -> Option<TxnAddress>;

    /// The MVCC snapshot that reads see; `now()` in SQL terms. Moves forward only by [`Transaction::get`] with a lock.
    fn read_timestamp(&self) -> Timestamp;

    /// Its age, which decides who gives way in a conflict: the older wins. To be passed on to the next attempt.
    fn priority(&self) -> Timestamp;

    /// Reads keys, in the order asked for. With [`Lock::Exclusive`] waits in a fair queue for each key first, and
    /// may move the read timestamp forward to see what the previous holder wrote, after validating all earlier reads.
    /// The transaction's own buffered writes are seen.
    ///
    /// # Errors
    /// [`Error::Retry`] when an earlier read no longer holds or an older transaction has displaced this one.
    async fn get(&mut self, keys: &[Key], lock: Lock) -> Result<Vec<Option<Value>>, Error>;

    /// Reads a page of a span, own buffered writes included.
    async fn scan(&mut self, span: &Span, options: ScanOptions) -> Result<ScanPage, Error>;

    /// Buffers a write.
    ///
    /// # Errors
    /// [`Error::Limit`] when the transaction's buffer is full; [`Error::ReadOnly`].
    fn put(&mut self, key: Key, value: Value) -> Result<(), Error>;

    /// Buffers a deletion. Same errors as [`Transaction::put`].
    fn delete(&mut self, key: Key) -> Result<(), Error>;

    /// Waits until everything read so far may be shown to the client (the reply rule). To be called before any
    /// row, or any error that tells something of the data, leaves the server.
    async fn reveal(&mut self) -> Result<(), Error>;

    /// Commits, and returns when the acknowledgement may be shown to the client. No call may follow.
    async fn commit(&mut self) -> Result<Committed, Error>;

    /// Gives up all buffered writes and locks. No call may follow.
    async fn rollback(&mut self);
}

/// A range as the admin service shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeInfo {
    pub descriptor: RangeDescriptor,
    /// The last known leader.
    pub leader: Option<NodeId>,
}

/// A range as `SHOW RANGES` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeSurvey {
    pub descriptor: RangeDescriptor,
    /// What its leader says; nothing if none has answered.
    pub status: Option<RangeStatus>,
}

/// A node as the admin service shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    pub descriptor: NodeDescriptor,
    /// Whether a message from it has arrived lately. Always true for the node itself.
    pub live: bool,
    pub state: NodeState,
    /// Nothing where its reports do not come.
    pub holdings: Option<NodeHoldings>,
}

/// What a node holds, as it has lately reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeHoldings {
    pub replicas: u64,
    /// Ranges that it leads.
    pub leads: u64,
    /// Of all its replicas.
    pub bytes: u64,
}

/// What an operator does with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeChange {
    /// It shall lead nothing.
    Drain,
    /// It may lead again, and is not to be decommissioned.
    Undrain,
    /// It shall lose its replicas.
    Decommission,
    /// It has none, and is a member no longer.
    Finish,
}

/// The clock as `SHOW CLOCK` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockInfo {
    /// Where the bound comes from: `same host`, `kernel`, `fixed`.
    pub source: String,
    /// The greatest error of this node's clock. None is declared where clocks are not trusted.
    pub max_error: Option<Duration>,
    /// Whether the other nodes confirm the clock, in words: `confirmed`, or who differs and how.
    pub standing: String,
    pub earliest: Timestamp,
    pub latest: Timestamp,
    pub hlc: Timestamp,
}
