//! One-round commit, its recovery, and collection of its record: the state of the model and what can happen in it.
//!
//! ```text
//! gateway   Start ─ read X ─▶ Staging ─ all written at or below s ─▶ Acked
//!                             ▲    │ an intent was pushed
//!                    stage 2  │    ▼
//!                          Validating ─ changed ─▶ Aborting ─▶ Failed        (a crash: it takes no more steps)
//!
//! record    Absent ─▶ Staging(1) ─▶ Staging(2)       every edge a compare-and-set on (state, attempt, s)
//!             │          └──────┬──────┘
//!             ▼                 ▼
//!           Aborted   Committed(attempt, s) ─▶ Collected
//!
//! recovery  Idle ─ record is Staging ─▶ Asking(attempt, s) ─ query A, query B ─▶ verdict ─▶ Idle
//! ```
//!
//! One transaction reads `X` and writes `A` and `B`; the other reads `A` and `B` and writes `X` with a commit of one range. `A`, `X` and the record
//! lie in range 0, `B` in range 1. Everything ever sent can be delivered again at any time, so there is no network in the state: what was sent follows from
//! the sender's attempt, and is offered in every later state.

use stateright::{Model, Property};

use super::bug::Bug;
use super::commit_claims;

/// No timestamp grows beyond this; who would have to go higher gives up.
pub const TIMESTAMP_MAX: u8 = 4;
/// A transaction that is pushed in this attempt gives up.
pub const ATTEMPT_MAX: u8 = 2;
/// The first transaction's read timestamp.
pub const READ_AT: u8 = 2;

pub const A: usize = 0;
pub const B: usize = 1;
pub const X: usize = 2;

/// The range of a key.
pub fn range_of(key: usize) -> usize {
    usize::from(key == B)
}

/// The record, as replicated.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Record {
    Absent,
    Staging { attempt: u8, s: u8 },
    Committed { attempt: u8, s: u8 },
    Aborted,
    Collected,
}

/// An intent, as replicated.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct Intent {
    pub attempt: u8,
    pub ts: u8,
}

/// What a leader evaluated and proposed; applying it is blind.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Effect {
    Intent {
        key: usize,
        intent: Intent,
    },
    Record(Record),
    /// The intent goes; a version may come.
    Resolved {
        key: usize,
        version: Option<u8>,
    },
    /// The second transaction's commit in one range.
    Second {
        ts: u8,
    },
}

/// Leader of a range: what is in flight, and what an earlier leader left (applied only if [`Bug::EntryOfAnotherTerm`]).
#[derive(Clone, Copy, Debug, Default, Hash, PartialEq, Eq)]
pub struct Leader {
    pub in_flight: Option<Effect>,
    pub stray: Option<Effect>,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Phase {
    Start,
    Staging,
    Validating { to: u8 },
    Acked,
    Aborting,
    Failed,
}

/// The coordinator of the first transaction.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct Gateway {
    pub phase: Phase,
    pub attempt: u8,
    /// The timestamp of each attempt.
    pub s: [u8; 2],
    /// The reads hold up to here.
    pub valid_to: u8,
    /// Where this attempt's intents are, as far as it was told.
    pub got: [Option<u8>; 2],
    pub staged: bool,
    /// Whether its read of `X` found the other's version.
    pub saw: bool,
}

/// Somebody who recovers.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Recovery {
    Idle,
    Asking { attempt: u8, s: u8, found: [Option<bool>; 2] },
}

/// The second transaction.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct Second {
    /// It commits here if its reads hold here.
    pub at: u8,
    pub valid_to: [u8; 2],
    /// Whether the reads of `A` and `B` found the first transaction's versions.
    pub saw: [bool; 2],
    pub gave_up: bool,
}

/// The whole.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct State {
    pub leaders: [Leader; 2],
    pub leader_changed: bool,
    /// The timestamp caches: the greatest read of each key.
    pub reads: [u8; 3],
    pub record: Record,
    pub intents: [Option<Intent>; 2],
    pub versions: [Option<u8>; 3],
    pub gateway: Gateway,
    pub recovery: Recovery,
    pub second: Second,
    /// History: the first final state of the record; whether recovery brought it about.
    pub decided: Option<Record>,
    pub recovered: bool,
    /// History: the attempt and timestamp that were first implicitly committed.
    pub implied: Option<(u8, u8)>,
}

/// What can happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    FirstReads,
    Prepare { key: usize, attempt: u8 },
    Stage { attempt: u8 },
    TakePush,
    Validate,
    Acknowledge,
    CommitRecord,
    AbortRecord,
    Recover,
    Query { key: usize },
    Verdict,
    AbortAbsent,
    Resolve { key: usize },
    Collect,
    SecondReads { key: usize },
    SecondCommits,
    Apply { range: usize },
    ApplyStray { range: usize },
    ChangeLeader { range: usize, applied: bool },
}

/// The model.
#[derive(Clone, Copy, Debug)]
pub struct Commit {
    pub bug: Option<Bug>,
}

impl Commit {
    pub fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }
}

fn init(at: u8) -> State {
    State {
        leaders: [Leader::default(); 2],
        leader_changed: false,
        reads: [0; 3],
        record: Record::Absent,
        intents: [None; 2],
        versions: [None; 3],
        gateway: Gateway {
            phase: Phase::Start,
            attempt: 0,
            s: [0; 2],
            valid_to: READ_AT,
            got: [None; 2],
            staged: false,
            saw: false,
        },
        recovery: Recovery::Idle,
        second: Second { at, valid_to: [0; 2], saw: [false; 2], gave_up: false },
        decided: None,
        recovered: false,
        implied: None,
    }
}

impl Model for Commit {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        (READ_AT - 1..=READ_AT).map(init).collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        use Action as Do;
        actions.extend([
            Do::FirstReads,
            Do::TakePush,
            Do::Validate,
            Do::Acknowledge,
            Do::CommitRecord,
            Do::AbortRecord,
        ]);
        actions.extend([Do::Recover, Do::Verdict, Do::AbortAbsent, Do::Collect, Do::SecondCommits]);
        for attempt in 1..=state.gateway.attempt {
            actions.extend([Do::Stage { attempt }, Do::Prepare { key: A, attempt }, Do::Prepare { key: B, attempt }]);
        }
        for key in [A, B] {
            actions.extend([Do::Query { key }, Do::Resolve { key }, Do::SecondReads { key }]);
        }
        for range in [0, 1] {
            actions.extend([Do::Apply { range }, Do::ApplyStray { range }]);
            actions.extend([true, false].map(|applied| Do::ChangeLeader { range, applied }));
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        // `None` from a step: it cannot happen here.
        match action {
            Action::FirstReads => state.first_reads(),
            Action::Prepare { key, attempt } => state.prepare(self, key, attempt),
            Action::Stage { attempt } => state.stage(self, attempt),
            Action::TakePush => state.take_push(self),
            Action::Validate => state.validate(),
            Action::Acknowledge => state.acknowledge(),
            Action::CommitRecord => state.commit_record(),
            Action::AbortRecord => state.abort_record(),
            Action::Recover => state.recover(),
            Action::Query { key } => state.query(key),
            Action::Verdict => state.verdict(self),
            Action::AbortAbsent => state.abort_absent(),
            Action::Resolve { key } => state.resolve(key),
            Action::Collect => state.collect(self),
            Action::SecondReads { key } => state.second_reads(key),
            Action::SecondCommits => state.second_commits(),
            Action::Apply { range } => state.apply(range),
            Action::ApplyStray { range } => state.apply_stray(range),
            Action::ChangeLeader { range, applied } => state.change_leader(self, range, applied),
        }?;
        state.implied = state.implied.or(state.implicitly_committed());
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        commit_claims::properties()
    }
}
