//! When a leader may serve, and up to which timestamp.
//!
//! ```text
//!   elected ──▶ leading, not serving ──── entry of own term applied ──▶ serving
//!      ▲              │                                                   │
//!      └──────────────┴────────────── term or role changed ◀──────────────┘
//! ```

use std::time::Duration;

use proto::Timestamp;
use proto::request::{Refusal, Response};

use super::handover::summary_in;
use super::replica::{Leading, Replica, Surroundings};
use super::serve::{Wake, respond};
use super::state::INITIAL_POSITION;
use crate::probe::{Path, Point};
use crate::raft::Round;

impl Replica {
    /// Notices a change of leadership. Called after everything that may have changed it.
    pub fn check_leadership(&mut self, cx: &mut Surroundings<'_>) {
        let term = self.group.term();
        // The library lets one go on that knows of its removal from its contents only.
        let leads = self.group.is_leader() && self.stopped.is_none() && !self.has_departed();
        if let Some(led) = self.leading.as_ref().map(|l| l.term).filter(|led| !leads || *led != term) {
            self.tell_unled(cx, led);
            self.step_down(cx);
        }
        if leads && self.leading.is_none() {
            self.step_up(cx);
        }
        self.leader = self.leader_node();
    }

    fn step_up(&mut self, cx: &mut Surroundings<'_>) {
        // The library has appended this term's empty entry already. If it follows the range's beginning directly, nobody has
        // ever led this range, and only its floor binds; else some leader may have served up to its fence.
        let first = self.group.last_index() == INITIAL_POSITION + 1;
        let handed = self.group.entry(self.group.last_index() - 1).and_then(|entry| summary_in(&entry));
        let low_water = match handed {
            _ if first => self.state.read_floor,
            // The leader before had ended its service, and nobody has led since.
            Some(summary) => self.state.read_floor.max(summary),
            None => self.state.read_floor.max(cx.clock.reading().plus(cx.knobs.read_window)),
        };
        self.eager_ticks = 0;
        cx.knobs.probe.took(match handed {
            _ if first => Path::FirstLeader,
            Some(_) => Path::HandedLeader,
            None => Path::LaterLeader,
        });
        cx.effects.counts.elections_won += 1;
        self.stir(cx.now);
        self.leading = Some(Leading::new(self.group.term(), low_water, cx.knobs, cx.now));
    }

    /// Leads no more: whoever waits shall ask elsewhere, and what is in flight may or may not take effect.
    pub fn step_down(&mut self, cx: &mut Surroundings<'_>) {
        self.rouse(cx);
        let Some(leading) = self.leading.take() else { return };
        for waiting in leading.waiting.into_values() {
            let refusal = self.refusal();
            respond(cx, waiting.origin, Response::Refused(refusal));
        }
        if !leading.proposals.is_empty() {
            cx.knobs.probe.took(Path::CommandsInFlightLost);
        }
        for proposal in leading.proposals.into_values() {
            respond(cx, proposal.origin, Response::Refused(Refusal::Unknown));
        }
    }

    /// An entry of this term is applied: everything before it is too.
    pub fn start_serving(&mut self, cx: &mut Surroundings<'_>) {
        if let Some(leading) = self.leading.as_mut().filter(|l| !l.serving) {
            leading.serving = true;
            self.respect_closed();
            cx.effects.published.push(self.state.descriptor.clone());
            self.ask_for_fence(cx);
        }
    }

    /// Starts a round that will raise the fence.
    pub fn ask_for_fence(&mut self, cx: &mut Surroundings<'_>) {
        /// Rounds in flight past which no more are started: lost ones are repeated by Raft's heartbeats.
        const ROUNDS_MAX: usize = 2;
        let Some(leading) = self.leading.as_mut() else { return };
        // Whoever cannot write to his disk shall not lead, and promises nothing further.
        if leading.rounds.len() >= ROUNDS_MAX || cx.disk_stalls || cx.knobs.probe.fires(Point::RoundSkipped) {
            return;
        }
        let round = leading.next_id();
        leading.rounds.insert(round, cx.clock.reading());
        leading.active = None;
        self.group.ask_round(Round(round));
        self.dirty = true;
    }

    /// A quorum has acknowledged a round in this term.
    pub fn acknowledged(&mut self, cx: &mut Surroundings<'_>, round: Round) {
        let Some(leading) = self.leading.as_mut() else { return };
        let Some(reading) = leading.rounds.remove(&round.0) else { return };
        // An acknowledged round vouches for those before it.
        leading.rounds.retain(|number, _| *number > round.0);
        leading.fence = leading.fence.max(reading.plus(cx.knobs.read_window));
        self.wake(cx, Wake::Fence);
    }

    /// A command is committed that was proposed in this term at this reading: whoever made up the quorum had seen both, as in a round. So ranges
    /// that are written to need hardly any.
    pub fn vouched(&mut self, cx: &mut Surroundings<'_>, reading: Timestamp) {
        let Some(leading) = self.leading.as_mut() else { return };
        if cx.disk_stalls || cx.knobs.probe.fires(Point::RoundSkipped) {
            return;
        }
        leading.active = None;
        leading.fence = leading.fence.max(reading.plus(cx.knobs.read_window));
    }

    /// Keeps the fence ahead of a leader that is asked things; an idle one lets it lapse. Whoever reads mostly writes soon, which does that as well:
    /// so a round is put off for a moment while the fence is far enough ahead.
    pub fn tick_fence(&mut self, cx: &mut Surroundings<'_>) {
        const MOMENT: Duration = Duration::from_millis(60);
        let Some(leading) = self.leading.as_ref().filter(|l| l.serving) else { return };
        let Some(since) = leading.active else { return };
        let ahead = leading.fence.since(cx.clock.reading());
        let patience = if ahead < cx.knobs.read_window / 8 { Duration::ZERO } else { MOMENT };
        if ahead < cx.knobs.read_window / 2 && cx.now >= since + patience {
            self.ask_for_fence(cx);
        }
    }

    /// Whether its fence is to be kept ahead soon: not the time to take its leisure.
    pub fn awaits_fence(&self, cx: &Surroundings<'_>) -> bool {
        let leading = self.leading.as_ref().filter(|l| l.serving && l.active.is_some());
        leading.is_some_and(|leading| leading.fence.since(cx.clock.reading()) < cx.knobs.read_window / 2)
    }

    /// A replica born of a split on its leader's store stands for election until someone leads.
    pub fn tick_election(&mut self) {
        if self.eager_ticks > 0 {
            self.eager_ticks -= 1;
            if self.group.leader().is_none() {
                self.group.campaign();
                self.dirty = true;
            }
        }
    }
}
