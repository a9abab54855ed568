//! Acknowledged means durable: an entry is acknowledged once a majority has it on disk, and then every later leader has it.
//!
//! Three replicas; node 0 leads in term 1 and proposes one entry. A replica appends it in memory, syncs it, and acknowledges it; a crash loses what was not
//! synced. Another node is elected by a majority of nodes whose logs are no longer than its own, as Raft demands; votes are durable, and a leader
//! that crashes is followed by another. The rest of Raft is
//! the Raft library's.

use stateright::{Model, Property};

use super::bug::Bug;

const CRASHES_MAX: u8 = 2;

#[derive(Clone, Copy, Debug, Default, Hash, PartialEq, Eq)]
struct Replica {
    appended: bool,
    durable: bool,
    acknowledged: bool,
    /// Moved on from term 1, and takes no more of its entries.
    moved_on: bool,
    /// Voted for the present candidate.
    voted: bool,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct State {
    replicas: [Replica; 3],
    crashes: u8,
    /// The client was answered.
    acknowledged: bool,
    /// The candidate and then leader of a later term; another may stand when it has crashed.
    candidate: Option<usize>,
    elected: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Append { node: usize },
    Sync { node: usize },
    Acknowledge { node: usize },
    Answer,
    Crash { node: usize },
    Stand { node: usize },
    Vote { node: usize },
    Elect,
}

#[derive(Clone, Copy, Debug)]
pub struct Log {
    pub bug: Option<Bug>,
}

impl State {
    fn count(&self, what: fn(&Replica) -> bool) -> usize {
        self.replicas.iter().filter(|replica| what(replica)).count()
    }

    fn step(&mut self, bug: Option<Bug>, action: Action) -> Option<()> {
        match action {
            Action::Append { node } => {
                let replica = &mut self.replicas[node];
                (!replica.moved_on && !replica.appended).then_some(())?;
                replica.appended = true;
            }
            Action::Sync { node } => {
                let replica = &mut self.replicas[node];
                (replica.appended && !replica.durable).then_some(())?;
                replica.durable = true;
            }
            Action::Acknowledge { node } => {
                let replica = &mut self.replicas[node];
                let safe = replica.durable || (replica.appended && bug == Some(Bug::AckBeforeFsync));
                (safe && !replica.moved_on && !replica.acknowledged).then_some(())?;
                replica.acknowledged = true;
            }
            Action::Answer => {
                (!self.acknowledged && self.count(|replica| replica.acknowledged) >= 2).then_some(())?;
                self.acknowledged = true;
            }
            Action::Crash { node } => {
                (self.crashes < CRASHES_MAX).then_some(())?;
                self.crashes += 1;
                self.replicas[node].appended = self.replicas[node].durable;
                if self.candidate == Some(node) {
                    self.candidate = None;
                    self.elected = false;
                    self.replicas.iter_mut().for_each(|replica| replica.voted = false);
                }
            }
            Action::Stand { node } => {
                (self.candidate.is_none() && (node != 0 || self.replicas[0].moved_on)).then_some(())?;
                self.candidate = Some(node);
                self.replicas[node].voted = true;
                self.replicas[node].moved_on = true;
            }
            Action::Vote { node } => {
                let longest = self.replicas[self.candidate?].appended;
                let replica = &mut self.replicas[node];
                (!replica.voted && (longest || !replica.appended)).then_some(())?;
                replica.voted = true;
                replica.moved_on = true;
            }
            Action::Elect => {
                (!self.elected && self.candidate.is_some() && self.count(|replica| replica.voted) >= 2).then_some(())?;
                self.elected = true;
            }
        }
        Some(())
    }
}

impl Model for Log {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let replicas = [Replica::default(); 3];
        vec![State { replicas, crashes: 0, acknowledged: false, candidate: None, elected: false }]
    }

    fn actions(&self, _: &State, actions: &mut Vec<Action>) {
        use Action as Do;
        actions.extend([Do::Answer, Do::Elect]);
        for node in 0..3 {
            actions.extend([Do::Append { node }, Do::Sync { node }, Do::Acknowledge { node }]);
            actions.extend([Do::Crash { node }, Do::Stand { node }, Do::Vote { node }]);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        state.step(self.bug, action)?;
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("acknowledged is durable", |_, s: &State| {
                let kept = s.candidate.is_none_or(|leader| s.replicas[leader].appended);
                !(s.acknowledged && s.elected) || kept
            }),
            Property::sometimes("a later leader has it, after a crash", |_, s: &State| {
                s.acknowledged && s.elected && s.crashes > 0
            }),
        ]
    }
}
