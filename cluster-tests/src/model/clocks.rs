//! Clocks and the reply rule: real-time order, as long as every clock keeps inside its declared bound.
//!
//! A writer commits at its start timestamp `latest`, or a little above; a reader elsewhere may see its version before the writer is answered. Each answer
//! leaves when its node's `earliest` has passed the newest timestamp that it reveals. Whoever begins after an answer, on any node, must see what it revealed.
//!
//! True time runs; a clock reads anything within `error` of it, and another thing the next time. `BOUND` is what the nodes believe the error to be.

use stateright::{Model, Property};

use super::bug::Bug;

const BOUND: u8 = 1;
/// True time begins here, so that no clock reads below zero.
const BEGIN: u8 = 4;
const END: u8 = 10;

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct State {
    time: u8,
    /// The writer's commit timestamp, and whether it was answered.
    writer: Option<(u8, bool)>,
    /// A reader's timestamp, and whether it was answered; only one that saw the version.
    reader: Option<(u8, bool)>,
    /// The timestamp of one that began after an answer revealed the version.
    later: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Pass,
    Write { clock: u8, pushed: bool },
    AnswerWriter { clock: u8 },
    Read { clock: u8 },
    AnswerReader { clock: u8 },
    BeginLater { clock: u8 },
}

#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    pub bug: Option<Bug>,
    /// How wrong clocks are: within the bound up to [`Clocks::BOUND`].
    pub error: u8,
}

impl Clocks {
    pub const BOUND: u8 = BOUND;

    fn may_answer(&self, clock: u8, revealed: u8) -> bool {
        self.bug == Some(Bug::NoCommitWait) || clock - BOUND > revealed
    }
}

impl Model for Clocks {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State { time: BEGIN, writer: None, reader: None, later: None }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.push(Action::Pass);
        for clock in state.time - self.error..=state.time + self.error {
            actions.extend([true, false].map(|pushed| Action::Write { clock, pushed }));
            actions.extend([Action::AnswerWriter { clock }, Action::Read { clock }]);
            actions.extend([Action::AnswerReader { clock }, Action::BeginLater { clock }]);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Pass if state.time < END => state.time += 1,
            Action::Write { clock, pushed } if state.writer.is_none() => {
                state.writer = Some((clock + BOUND + u8::from(pushed), false));
            }
            Action::AnswerWriter { clock } => {
                let (at, _) = state.writer.filter(|(at, done)| !done && self.may_answer(clock, *at))?;
                state.writer = Some((at, true));
            }
            Action::Read { clock } if state.reader.is_none() => {
                let at = clock + BOUND;
                state.writer.filter(|(version, _)| *version <= at)?;
                state.reader = Some((at, false));
            }
            Action::AnswerReader { clock } => {
                let (version, _) = state.writer?;
                let (at, _) = state.reader.filter(|(_, done)| !done && self.may_answer(clock, version))?;
                state.reader = Some((at, true));
            }
            Action::BeginLater { clock } if state.later.is_none() => {
                let answered = |txn: Option<(u8, bool)>| txn.is_some_and(|(_, done)| done);
                (answered(state.writer) || answered(state.reader)).then_some(())?;
                state.later = Some(clock + BOUND);
            }
            _ => return None,
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("real-time order", |_, s: &State| match (s.writer, s.later) {
                (Some((version, _)), Some(later)) => version < later,
                _ => true,
            }),
            Property::sometimes("a reader is answered before the writer", |_, s: &State| {
                matches!((s.writer, s.reader), (Some((_, false)), Some((_, true)))) && s.later.is_some()
            }),
        ]
    }
}
