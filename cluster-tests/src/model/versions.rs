//! Old versions under a replicated threshold (I16): a read that is served finds what it would have found had nothing ever been dropped.
//!
//! One key whose versions are values or deletions. Compaction drops, whenever it likes, what no read at or above the threshold needs: all that lies below
//! the newest at or below the threshold, and that one too if it is a deletion. So the newest version may be gone from the engine, and only the
//! threshold keeps a slow writer from slipping in below it.

use stateright::{Model, Property};

use super::bug::Bug;

const TIMES: usize = 4;

/// A version by its timestamp.
type Versions = [Option<Kind>; TIMES + 1];

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Kind {
    Value,
    Deletion,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct State {
    /// All that was ever written, and what is left of it.
    history: Versions,
    engine: Versions,
    threshold: usize,
    /// Up to where the key counts as read.
    read_to: usize,
    /// The latest read: at which timestamp, and the timestamp of the value found.
    read: Option<(usize, Option<usize>)>,
    dropped_deletion: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Write { at: usize, kind: Kind },
    Read { at: usize },
    RaiseThreshold,
    Compact { at: usize },
}

#[derive(Clone, Copy, Debug)]
pub struct Collection {
    pub bug: Option<Bug>,
}

/// The timestamp of the value that a read finds, if it finds one.
fn find(versions: &Versions, at: usize) -> Option<usize> {
    let newest = newest(versions, at)?;
    (versions[newest] == Some(Kind::Value)).then_some(newest)
}

fn newest(versions: &Versions, at: usize) -> Option<usize> {
    (0..=at).rev().find(|ts| versions[*ts].is_some())
}

impl State {
    fn step(&mut self, bug: Option<Bug>, action: Action) -> Option<()> {
        match action {
            Action::Write { at, kind } => {
                let newest = newest(&self.engine, TIMES).unwrap_or(0);
                let threshold = if bug == Some(Bug::WriteBelowThreshold) { 0 } else { self.threshold };
                (at > newest.max(self.read_to).max(threshold)).then_some(())?;
                self.history[at] = Some(kind);
                self.engine[at] = Some(kind);
            }
            Action::Read { at } => {
                (at >= self.threshold || bug == Some(Bug::ReadBelowThreshold)).then_some(())?;
                self.read_to = self.read_to.max(at);
                self.read = Some((at, find(&self.engine, at)));
            }
            Action::RaiseThreshold => {
                (self.threshold < TIMES).then_some(())?;
                self.threshold += 1;
            }
            Action::Compact { at } => {
                let kind = self.engine[at]?;
                let kept = newest(&self.engine, self.threshold)?;
                (at < kept || (at == kept && kind == Kind::Deletion)).then_some(())?;
                // A deletion goes last, or what it hides would come back.
                (at < kept || newest(&self.engine, at - 1).is_none()).then_some(())?;
                self.engine[at] = None;
                self.dropped_deletion |= kind == Kind::Deletion;
            }
        }
        Some(())
    }
}

impl Model for Collection {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let none = [None; TIMES + 1];
        vec![State { history: none, engine: none, threshold: 0, read_to: 0, read: None, dropped_deletion: false }]
    }

    fn actions(&self, _: &State, actions: &mut Vec<Action>) {
        actions.push(Action::RaiseThreshold);
        for at in 1..=TIMES {
            actions.extend([Kind::Value, Kind::Deletion].map(|kind| Action::Write { at, kind }));
            actions.extend([Action::Read { at }, Action::Compact { at }]);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        state.step(self.bug, action)?;
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("I16 a read finds what it should", |_, s: &State| {
                s.read.is_none_or(|(at, found)| found == find(&s.history, at))
            }),
            Property::sometimes("a deletion is dropped, and the key written again", |_, s: &State| {
                s.dropped_deletion && s.read.is_some_and(|(_, found)| found.is_some())
            }),
        ]
    }
}
