//! Timestamps as the lease: what a deposed leader may still serve lies below what its successor writes, whatever the clocks say.
//!
//! ```text
//! leader 0, term 1   round(H) ─▶ acknowledged by a quorum ─▶ fence = H + W ─▶ serves reads at r ≤ fence, for as long as it likes
//!                    shrinks W: floor = fence, and the fence stays there until the entry is applied or dead
//! leader 1, term 2   votes bring the voters' clocks ─▶ low-water mark = max(clock + W, floor) ─▶ writes above it
//! ```
//!
//! Three nodes, each with a hybrid clock that may jump up at any time (no wall clock is in the model, so any is allowed). Node 0 leads first,
//! node 1 stands in term 2. A vote and an acknowledgement are each one step: a late one is one that is taken late.

use stateright::{Model, Property};

use super::bug::Bug;

const CLOCK_MAX: u8 = 3;
const WINDOW: u8 = 2;
const WINDOW_SHRUNK: u8 = 1;

/// The change of the window, an entry of term 1.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Shrinking {
    No,
    InFlight { floor: u8 },
    Applied { floor: u8 },
    Dead,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct State {
    clocks: [u8; 3],
    /// Who has moved on to term 2 (by its vote, or by standing).
    moved_on: [bool; 3],
    /// The round that leader 0 has under way, and who acknowledged it.
    round: Option<(u8, [bool; 3])>,
    fence: u8,
    shrinking: Shrinking,
    /// Leader 1's low-water mark, once it is elected.
    low_water: Option<u8>,
    /// History: the newest read that leader 0 served, whether after its successor's election, and the oldest write of leader 1.
    served: u8,
    served_late: bool,
    written: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Tick {
        node: usize,
    },
    BeginRound,
    Acknowledge {
        node: usize,
    },
    Serve {
        at: u8,
    },
    Shrink,
    ApplyShrink,
    Vote {
        node: usize,
    },
    /// The window's change came through to the new leader, or never will.
    Elect {
        applied: bool,
    },
    Write,
}

#[derive(Clone, Copy, Debug)]
pub struct Fence {
    pub bug: Option<Bug>,
}

fn majority(of: &[bool; 3]) -> bool {
    of.iter().filter(|yes| **yes).count() >= 2
}

impl State {
    fn acknowledge(&mut self, node: usize) -> Option<()> {
        let (at, acknowledged) = self.round.as_mut()?;
        if self.moved_on[node] || acknowledged[node] {
            return None;
        }
        acknowledged[node] = true;
        self.clocks[node] = self.clocks[node].max(*at);
        if majority(acknowledged) {
            let fence = match self.shrinking {
                Shrinking::No | Shrinking::Dead => *at + WINDOW,
                Shrinking::InFlight { floor } => floor.min(*at + WINDOW),
                Shrinking::Applied { .. } => *at + WINDOW_SHRUNK,
            };
            self.fence = self.fence.max(fence);
            self.round = None;
        }
        Some(())
    }

    fn elect(&mut self, bug: Option<Bug>, applied: bool) -> Option<()> {
        (self.low_water.is_none() && self.moved_on[1] && majority(&self.moved_on)).then_some(())?;
        // What is applied was on a quorum; what is in flight may be.
        let floor = match self.shrinking {
            Shrinking::Applied { floor } if applied => Some(floor),
            Shrinking::InFlight { floor } if applied => Some(floor),
            Shrinking::Applied { .. } => return None,
            Shrinking::InFlight { .. } => None,
            _ if applied => return None,
            _ => None,
        };
        let window = if floor.is_some() { WINDOW_SHRUNK } else { WINDOW };
        let floor = floor.filter(|_| bug != Some(Bug::ShrunkWindow)).unwrap_or(0);
        let mark = (self.clocks[1] + window).max(floor);
        self.low_water = Some(if bug == Some(Bug::NoLowWaterMark) { 0 } else { mark });
        Some(())
    }

    fn step(&mut self, bug: Option<Bug>, action: Action) -> Option<()> {
        match action {
            Action::Tick { node } => {
                (self.clocks[node] < CLOCK_MAX).then_some(())?;
                self.clocks[node] += 1;
            }
            Action::BeginRound => {
                (self.round.is_none() && !self.moved_on[0]).then_some(())?;
                self.round = Some((self.clocks[0], [true, false, false]));
            }
            Action::Acknowledge { node } => self.acknowledge(node)?,
            Action::Serve { at } => {
                (at <= self.fence && at > self.served).then_some(())?;
                self.served = at;
                self.served_late |= self.low_water.is_some();
            }
            Action::Shrink => {
                (self.shrinking == Shrinking::No && !self.moved_on[0]).then_some(())?;
                self.shrinking = Shrinking::InFlight { floor: self.fence };
            }
            Action::ApplyShrink => {
                let Shrinking::InFlight { floor } = self.shrinking else { return None };
                self.low_water.is_none().then_some(())?;
                self.shrinking = Shrinking::Applied { floor };
            }
            Action::Vote { node } => {
                (!self.moved_on[node] && (node == 1 || self.moved_on[1])).then_some(())?;
                self.moved_on[node] = true;
                if self.low_water.is_none() {
                    self.clocks[1] = self.clocks[1].max(self.clocks[node]);
                }
            }
            Action::Elect { applied } => self.elect(bug, applied)?,
            Action::Write => {
                let mark = self.low_water.filter(|_| self.written.is_none())?;
                self.written = Some(self.clocks[1].max(mark + 1));
            }
        }
        Some(())
    }
}

impl Model for Fence {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            clocks: [0; 3],
            moved_on: [false; 3],
            round: None,
            fence: 0,
            shrinking: Shrinking::No,
            low_water: None,
            served: 0,
            served_late: false,
            written: None,
        }]
    }

    fn actions(&self, _: &State, actions: &mut Vec<Action>) {
        use Action as Do;
        actions.extend([Do::BeginRound, Do::Shrink, Do::ApplyShrink, Do::Write]);
        actions.extend([true, false].map(|applied| Do::Elect { applied }));
        for node in 0..3 {
            actions.extend([Do::Tick { node }, Do::Acknowledge { node }, Do::Vote { node }]);
        }
        actions.extend((1..=CLOCK_MAX + WINDOW).map(|at| Do::Serve { at }));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        state.step(self.bug, action)?;
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("I2 no write below a served read", |_, s: &State| s.written.is_none_or(|w| w > s.served)),
            Property::sometimes("a deposed leader serves", |_, s: &State| s.served_late && s.written.is_some()),
            Property::sometimes("a shrunk window, and a write", |_, s: &State| {
                matches!(s.shrinking, Shrinking::Applied { .. }) && s.served > 0 && s.written.is_some()
            }),
        ]
    }
}
