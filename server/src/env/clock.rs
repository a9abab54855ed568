//! A node's clocks: one implementation over any source of raw readings.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use proto::clock::{ClockDomain, ClockReport};
use proto::{NodeId, Timestamp};
use txn::clock::{ClockError, Reading, Standing, Timekeeper, Trust, Voice};

/// The wall clock with its error: true time lies in `[earliest, latest]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    pub earliest: Timestamp,
    pub latest: Timestamp,
}

/// How far the wall clock may err.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    pub error: Duration,
    /// Where the bound comes from.
    pub source: &'static str,
    pub trust: Trust,
}

/// A node's clocks.
pub trait Clock: Send + Sync {
    /// Time since some fixed moment; never goes back.
    fn monotonic(&self) -> Duration;
    /// The wall clock and its error.
    fn interval(&self) -> Interval;
    /// Issues a hybrid logical timestamp; see [`txn::clock::Timekeeper::issue`].
    fn issue(&self) -> Result<Timestamp, ClockError>;
    /// The hybrid logical clock's reading, for outgoing messages: at least the wall clock, if the ceiling allows.
    fn reading(&self) -> Timestamp;
    /// Adopts the reading of an incoming message; see [`txn::clock::Timekeeper::adopt`].
    fn adopt(&self, theirs: Timestamp) -> Result<(), ClockError>;
    /// Nothing above this is issued or adopted.
    fn ceiling(&self) -> Timestamp;
    /// What the ceiling should let through soon.
    fn wanted(&self) -> Timestamp;
    /// A higher ceiling is on disk.
    fn raise_ceiling(&self, ceiling: Timestamp);
    /// The greatest error of the wall clock, and where the bound comes from.
    fn bound(&self) -> Bound;
    /// What to tell another node of this clock, if anything.
    fn report(&self, to: NodeId) -> Option<ClockReport>;
    /// Takes in what another node says of its clock. Returns whether it waits for a report in turn.
    fn hear(&self, from: NodeId, report: &ClockReport) -> bool;
    /// Whether the node may serve, as far as its clock is concerned.
    fn standing(&self) -> Standing;
    /// Which clock this is.
    fn domain(&self) -> ClockDomain;
    /// From now on these are the other members.
    fn set_others(&self, others: &BTreeMap<NodeId, Voice>);
}

/// Where raw readings come from.
pub trait ClockSource: Send + Sync {
    fn read(&self) -> Reading;
    fn name(&self) -> &'static str;
    /// Which clock this is.
    fn domain(&self) -> ClockDomain {
        ClockDomain::Utc
    }
    /// Another node has said which clock it reads.
    fn hear(&self, _from: NodeId, _domain: &ClockDomain) {}
    /// From now on these are the other members.
    fn set_others(&self, _others: &BTreeMap<NodeId, Voice>) {}
}

/// A node's clocks over a source.
pub struct NodeClock<S> {
    pub source: S,
    keeper: Mutex<Timekeeper>,
}

impl<S: ClockSource> NodeClock<S> {
    pub fn new(source: S, keeper: Timekeeper) -> NodeClock<S> {
        NodeClock { source, keeper: Mutex::new(keeper) }
    }

    fn keeper(&self) -> MutexGuard<'_, Timekeeper> {
        self.keeper.lock().expect("no holder of this lock panics")
    }
}

// The source is read under the lock: readings that two threads take must come to the keeper in their order.
impl<S: ClockSource> Clock for NodeClock<S> {
    fn monotonic(&self) -> Duration {
        self.source.read().monotonic
    }

    fn interval(&self) -> Interval {
        let mut keeper = self.keeper();
        let now = self.source.read();
        let (earliest, latest) = keeper.interval(now).unwrap_or((Timestamp::ZERO, now.wall.plus(now.error)));
        Interval { earliest, latest }
    }

    fn issue(&self) -> Result<Timestamp, ClockError> {
        let mut keeper = self.keeper();
        keeper.issue(self.source.read())
    }

    fn reading(&self) -> Timestamp {
        let mut keeper = self.keeper();
        keeper.reading(self.source.read())
    }

    fn adopt(&self, theirs: Timestamp) -> Result<(), ClockError> {
        let mut keeper = self.keeper();
        keeper.adopt(theirs, self.source.read())
    }

    fn ceiling(&self) -> Timestamp {
        self.keeper().ceiling()
    }

    fn wanted(&self) -> Timestamp {
        let mut keeper = self.keeper();
        keeper.wanted(self.source.read())
    }

    fn raise_ceiling(&self, ceiling: Timestamp) {
        self.keeper().raise(ceiling);
    }

    fn bound(&self) -> Bound {
        Bound { error: self.source.read().error, source: self.source.name(), trust: self.keeper().trust() }
    }

    fn report(&self, to: NodeId) -> Option<ClockReport> {
        let mut keeper = self.keeper();
        keeper.report(to, self.source.domain(), self.source.read())
    }

    fn hear(&self, from: NodeId, report: &ClockReport) -> bool {
        let mut keeper = self.keeper();
        self.source.hear(from, &report.domain);
        keeper.hear(from, report, &self.source.domain(), self.source.read())
    }

    fn standing(&self) -> Standing {
        let mut keeper = self.keeper();
        keeper.standing(self.source.read())
    }
    fn domain(&self) -> ClockDomain {
        self.source.domain()
    }

    fn set_others(&self, others: &BTreeMap<NodeId, Voice>) {
        let mut keeper = self.keeper();
        self.source.set_others(others);
        keeper.set_others(others);
    }
}
