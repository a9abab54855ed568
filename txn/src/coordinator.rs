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
//!     │                            ▼ │                  ▲
//!     │                        Validating               │ outcome lost
//!     │                            ▲ │ valid            │
//!     ▼                pushed to s │ ▼                  │
//!   Staging ───────────────────────┴───────▶ Staging (the next attempt) ───▶ Committed
//!     │ refused, changed             all intents at s: committed
//!     ▼
//!   Aborting ────────────────────────────────▶ Failed
//! ```
//!
//! A commit of one range is one command. A commit of several takes one round too: every range writes its intents at `s` while the
//! anchor's range writes the record, *staged* at `s`. The transaction is committed at the moment when all of these are
//! replicated, none above `s` (I6): the client can be answered. Saying so in the record, and resolving the intents, comes afterwards and
//! delays nobody.
//!
//! A range that has to push its part above `s` writes the intent there, and so this attempt can never commit. The reads are then
//! validated up to where all parts fit, and everything is staged again, as the next attempt (I7). Validation is finished
//! before staging, for nobody who recovers the transaction could repeat it. Of a later attempt the record is staged before any intent is
//! replaced: if somebody has recovered the transaction meanwhile it says so, and what looked like a push was the repetition of a request
//! whose intent is resolved already.
//!
//! When an answer is lost for good, only the record and the intents know: the coordinator recovers its own
//! transaction, as anyone may (`Settling`).
//!
//! Source: the parallel commits of CockroachDB (Taft et al., "CockroachDB: The Resilient Geo-Distributed SQL Database", 2020).

use proto::Timestamp;
use proto::request::Changed;
use proto::transaction::{Ousting, TxnMeta, TxnRecord, TxnStatus};

use proto::request::Outcome;

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send everything to the one range, to commit at or above the timestamp.
    CommitOne { timestamp: Timestamp },
    /// Send each range its intents, the anchor's range the record too, all of this attempt and for this timestamp. Of the first attempt all at
    /// once; of a later one first the record, and the rest only when that has been moved on (I7).
    Stage { attempt: u32, timestamp: Timestamp },
    /// Have the read spans validated from the read timestamp up to this.
    Validate { to: Timestamp },
    /// Decide against, or learn what was decided; if the record is staged, by recovering it. `pushed`: it is known that some range
    /// has pushed the attempt.
    Settle { pushed: bool },
    /// The client may be answered (after its clock wait).
    Finish(Result<Timestamp, Failure>),
    /// In the background: have the record say that this attempt is committed, then resolve the intents.
    Complete { attempt: u32, timestamp: Timestamp },
    /// In the background: what becomes of the intents.
    Resolve(Outcome),
}

/// What the driver learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The only range committed it.
    CommittedOne(Timestamp),
    /// The only range would commit at this timestamp and asks for the reads elsewhere to be validated up to it.
    Pushed(Timestamp),
    /// The transaction is no longer in one range: nothing has happened.
    NotOneRange,
    /// All ranges hold their intents, and the anchor's the record; the greatest of their timestamps.
    Staged(Timestamp),
    /// The reads hold.
    Valid,
    /// A range refused for good.
    Refused(Failure),
    /// The answer to a commit was lost for good.
    Lost,
    /// The record as it stands: committed or aborted.
    Record(TxnRecord),
}

/// Why a transaction did not commit. Nothing of it has taken effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// What it read or wrote has changed.
    Changed(Changed),
    /// Someone aborted it: an older transaction, or one that took it for dead.
    Aborted(Option<Ousting>),
    /// An older transaction took one of its locks.
    Wounded(Ousting),
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
    Staging {
        timestamp: Timestamp,
    },
    /// Validating up to the timestamp; then commit in one range or several.
    Validating {
        to: Timestamp,
        one: bool,
    },
    Settling {
        intents: bool,
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
        if one_range { self.commit_one(self.read) } else { self.stage(self.read) }
    }

    fn commit_one(&mut self, timestamp: Timestamp) -> Vec<Action> {
        self.state = State::One;
        vec![Action::CommitOne { timestamp }]
    }

    fn stage(&mut self, timestamp: Timestamp) -> Vec<Action> {
        self.state = State::Staging { timestamp };
        vec![Action::Stage { attempt: self.txn.attempt, timestamp }]
    }

    /// Commits at a timestamp, after validating the reads up to it if they are not known to hold there.
    fn commit_at(&mut self, timestamp: Timestamp, one: bool) -> Vec<Action> {
        if timestamp > self.valid_to && self.has_reads {
            self.state = State::Validating { to: timestamp, one };
            return vec![Action::Validate { to: timestamp }];
        }
        self.valid_to = self.valid_to.max(timestamp);
        if one { self.commit_one(timestamp) } else { self.stage(timestamp) }
    }

    fn abort(&mut self, failure: Failure, pushed: bool) -> Vec<Action> {
        self.state = State::Aborting(failure);
        vec![Action::Settle { pushed }]
    }

    fn settle(&mut self, intents: bool) -> Vec<Action> {
        self.state = State::Settling { intents };
        vec![Action::Settle { pushed: false }]
    }

    fn fail(&mut self, failure: Failure) -> Vec<Action> {
        self.state = State::Finished;
        vec![Action::Finish(Err(failure))]
    }

    fn finish(&mut self, record: &TxnRecord, failure: Option<Failure>, intents: bool) -> Vec<Action> {
        self.state = State::Finished;
        let (result, outcome) = match record.status {
            TxnStatus::Committed => {
                (Ok(record.timestamp), Outcome::Committed { attempt: record.attempt, timestamp: record.timestamp })
            }
            TxnStatus::Aborted => {
                let failure = failure.unwrap_or_else(|| Failure::Aborted(record.ousted.clone()));
                (Err(failure), Outcome::Aborted)
            }
            TxnStatus::Pending | TxnStatus::Staging => unreachable!("settling a transaction leaves it decided"),
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
            (State::One, Event::NotOneRange) => self.stage(self.valid_to),
            (State::One, Event::Refused(failure)) => self.fail(failure),
            (State::One, Event::Lost) => self.settle(false),

            (State::Staging { timestamp }, Event::Staged(latest)) if latest == timestamp => {
                self.state = State::Finished;
                let attempt = self.txn.attempt;
                vec![Action::Finish(Ok(timestamp)), Action::Complete { attempt, timestamp }]
            }
            (State::Staging { .. }, Event::Staged(latest)) => {
                self.txn.attempt += 1;
                self.commit_at(latest, false)
            }
            // Somebody took it for dead, found everything there, and was faster.
            (State::Staging { .. }, Event::Record(record)) => self.finish(&record, None, true),
            (State::Staging { .. }, Event::Refused(failure)) => self.abort(failure, false),
            (State::Staging { .. }, Event::Lost) => self.settle(true),

            (State::Validating { to, one }, Event::Valid) => {
                self.valid_to = to;
                self.commit_at(to, one)
            }
            // Of a commit in one range nothing has been written yet.
            (State::Validating { one: true, .. }, Event::Refused(failure)) => self.fail(failure),
            (State::Validating { one: false, .. }, Event::Refused(failure)) => self.abort(failure, true),
            (State::Validating { one: true, .. }, Event::Lost) => self.fail(Failure::Aborted(None)),
            (State::Validating { one: false, .. }, Event::Lost) => self.abort(Failure::Aborted(None), true),

            (State::Settling { intents }, Event::Record(record)) => self.finish(&record, None, intents),
            (State::Aborting(failure), Event::Record(record)) => self.finish(&record, Some(failure), true),
            (state, event) => unreachable!("a coordinator in {state:?} was told {event:?}"),
        }
    }

    /// Whether the outcome is still open, so that losing touch now means that it is unknown.
    pub fn is_undecided(&self) -> bool {
        // Even while aborting: what looked like a push may have been a repeated request of an attempt that somebody has recovered as committed.
        matches!(self.state, State::One | State::Staging { .. } | State::Settling { .. } | State::Aborting(_))
    }
}
