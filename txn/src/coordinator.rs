//! The commit of one transaction, as seen from its gateway.
//!
//! A [`Coordinator`] speaks keys. What it wants done comes out as [`Action`]s; the driver routes them to ranges, retries what
//! got lost (every request is safe to repeat), gathers the answers and puts them in as [`Event`]s.
//!
//! ```text
//!                 one range                                   written, answered
//!   Start ───────────────────────▶ One ──────────────────────────────────▶ Committed
//!     │                            │ ▲ │ outcome lost
//!     │ several          pushed to s │ │ └───────────▶ Settling ─────▶ Committed | Failed
//!     │                            ▼ │
//!     │                        Validating
//!     │                            ▲ │ valid            pushed to s
//!     ▼                  s > read  │ ▼            ┌──────────────────▶ Validating
//!   Preparing ─────────────────────┴───────▶ Committing ───────────────▶ Committed
//!     │ refused, changed                          │ aborted by another
//!     ▼                                           ▼
//!   Aborting ────────────────────────────────▶ Failed
//! ```
//!
//! A commit of one range is one command. A commit of several is two-phase: intents everywhere and a pending record at
//! the anchor, then the record's transition to committed, which is the moment of commit; the intents are resolved
//! afterwards. Validation of the reads, if the commit was pushed above the read timestamp, is finished
//! before the record is committed.
//!
//! The one-round form (parallel commit) would stage the record together with the intents: `Preparing` and `Committing` become
//! one state, and `Settling` recovers it.

use proto::request::Changed;
use proto::transaction::{TxnMeta, TxnRecord, TxnStatus};
use proto::{Timestamp, TxnId};

use proto::request::Outcome;

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send everything to the one range, to commit at or above the timestamp.
    CommitOne { timestamp: Timestamp },
    /// Send each range its intents, the anchor's range the record too.
    Prepare { timestamp: Timestamp },
    /// Have the read spans validated from the read timestamp up to this.
    Validate { to: Timestamp },
    /// Decide.
    CommitRecord { timestamp: Timestamp },
    /// Decide against, or learn what was decided.
    AbortRecord,
    /// The client may be answered (after its clock wait).
    Finish(Result<Timestamp, Failure>),
    /// In the background: what becomes of the intents.
    Resolve(Outcome),
}

/// What the driver learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The only range committed it.
    CommittedOne(Timestamp),
    /// The only range would commit at this timestamp and asks for the reads elsewhere to be validated up to it; or
    /// the record was pushed there.
    Pushed(Timestamp),
    /// The transaction is no longer in one range: nothing has happened.
    NotOneRange,
    /// All ranges hold their intents; the greatest of their timestamps.
    Prepared(Timestamp),
    /// The reads hold.
    Valid,
    /// A range refused for good.
    Refused(Failure),
    /// The answer to a commit was lost for good.
    Lost,
    /// The record as it stands.
    Record(TxnRecord),
}

/// Why a transaction did not commit. Nothing of it has taken effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// What it read or wrote has changed.
    Changed(Changed),
    /// Someone aborted it: an older transaction, or one that took it for dead.
    Aborted,
    /// An older transaction took one of its locks.
    Wounded(Option<TxnId>),
    /// Its receipt may be gone already.
    TooOld,
    /// A range makes no sense of the request.
    Refused(String),
    /// Nobody could be asked.
    Unavailable(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Start,
    One,
    Preparing,
    /// Validating up to the timestamp; then commit in one range or several.
    Validating {
        to: Timestamp,
        one: bool,
    },
    Committing {
        timestamp: Timestamp,
    },
    Settling {
        prepared: bool,
    },
    Aborting(Failure),
    Finished,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Coordinator {
    txn: TxnMeta,
    read: Timestamp,
    /// Whether there is anything to validate.
    has_reads: bool,
    /// Up to where the reads are known to hold.
    valid_to: Timestamp,
    state: State,
}

impl Coordinator {
    /// A coordinator for a transaction that read at `read`.
    pub fn new(txn: TxnMeta, read: Timestamp, has_reads: bool) -> Coordinator {
        Coordinator { txn, read, has_reads, valid_to: read, state: State::Start }
    }

    pub fn txn(&self) -> &TxnMeta {
        &self.txn
    }

    /// Begins. `one_range` says whether all writes lie in one range, as far as the driver knows.
    pub fn start(&mut self, one_range: bool) -> Vec<Action> {
        assert!(self.state == State::Start, "a commit starts once");
        if one_range { self.commit_one(self.read) } else { self.prepare() }
    }

    fn commit_one(&mut self, timestamp: Timestamp) -> Vec<Action> {
        self.state = State::One;
        vec![Action::CommitOne { timestamp }]
    }

    fn prepare(&mut self) -> Vec<Action> {
        self.state = State::Preparing;
        vec![Action::Prepare { timestamp: self.valid_to }]
    }

    /// Commits at a timestamp, after validating the reads up to it if they are not known to hold there.
    fn commit_at(&mut self, timestamp: Timestamp, one: bool) -> Vec<Action> {
        if timestamp > self.valid_to && self.has_reads {
            self.state = State::Validating { to: timestamp, one };
            return vec![Action::Validate { to: timestamp }];
        }
        self.valid_to = self.valid_to.max(timestamp);
        if one {
            return self.commit_one(timestamp);
        }
        self.state = State::Committing { timestamp };
        vec![Action::CommitRecord { timestamp }]
    }

    fn abort(&mut self, failure: Failure) -> Vec<Action> {
        self.state = State::Aborting(failure);
        vec![Action::AbortRecord]
    }

    fn settle(&mut self, prepared: bool) -> Vec<Action> {
        self.state = State::Settling { prepared };
        vec![Action::AbortRecord]
    }

    fn fail(&mut self, failure: Failure) -> Vec<Action> {
        self.state = State::Finished;
        vec![Action::Finish(Err(failure))]
    }

    fn finish(&mut self, record: &TxnRecord, failure: Failure, intents: bool) -> Vec<Action> {
        self.state = State::Finished;
        let (result, outcome) = match record.status {
            TxnStatus::Committed => {
                (Ok(record.timestamp), Outcome::Committed { attempt: record.attempt, timestamp: record.timestamp })
            }
            TxnStatus::Aborted => (Err(failure), Outcome::Aborted),
            TxnStatus::Pending => unreachable!("neither a commit nor an abort leaves a record pending"),
        };
        let mut actions = vec![Action::Finish(result)];
        if intents {
            actions.push(Action::Resolve(outcome));
        }
        actions
    }

    /// Takes in what the driver learned. Events that do not belong to the state are a bug in the driver.
    pub fn step(&mut self, event: Event) -> Vec<Action> {
        match (self.state.clone(), event) {
            (State::One, Event::CommittedOne(timestamp)) => {
                self.state = State::Finished;
                vec![Action::Finish(Ok(timestamp))]
            }
            (State::One, Event::Pushed(timestamp)) => self.commit_at(timestamp, true),
            (State::One, Event::NotOneRange) => self.prepare(),
            (State::One, Event::Refused(failure)) => self.fail(failure),
            (State::One, Event::Lost) => self.settle(false),

            (State::Preparing, Event::Prepared(timestamp)) => self.commit_at(timestamp, false),
            (State::Preparing, Event::Refused(failure)) => self.abort(failure),
            (State::Preparing, Event::Lost) => self.abort(Failure::Aborted),

            (State::Validating { to, one }, Event::Valid) => {
                self.valid_to = to;
                self.commit_at(to, one)
            }
            // Of a commit in one range nothing has been written yet.
            (State::Validating { one: true, .. }, Event::Refused(failure)) => self.fail(failure),
            (State::Validating { one: false, .. }, Event::Refused(failure)) => self.abort(failure),
            (State::Validating { one: true, .. }, Event::Lost) => self.fail(Failure::Aborted),
            (State::Validating { one: false, .. }, Event::Lost) => self.abort(Failure::Aborted),

            (State::Committing { .. }, Event::Pushed(timestamp)) => self.commit_at(timestamp, false),
            (State::Committing { .. }, Event::Record(record)) => self.finish(&record, Failure::Aborted, true),
            // The record says aborted, or is gone and so was: nothing can commit the intents any more.
            (State::Committing { .. }, Event::Refused(failure)) => {
                self.state = State::Finished;
                vec![Action::Finish(Err(failure)), Action::Resolve(Outcome::Aborted)]
            }
            (State::Committing { .. }, Event::Lost) => self.settle(true),

            (State::Settling { prepared }, Event::Record(record)) => self.finish(&record, Failure::Aborted, prepared),
            (State::Aborting(failure), Event::Record(record)) => self.finish(&record, failure, true),
            (state, event) => unreachable!("a coordinator in {state:?} was told {event:?}"),
        }
    }

    /// Whether the outcome is still open, so that losing touch now means that it is unknown.
    pub fn is_undecided(&self) -> bool {
        matches!(self.state, State::One | State::Committing { .. } | State::Settling { .. })
    }
}
