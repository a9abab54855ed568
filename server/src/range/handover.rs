//! A leader hands over to another replica, as planned: for balance, or before its node goes.
//!
//! ```text
//!   serving ──▶ handing over: serves nothing any more ──▶ the hand-over's entry is applied ──▶ the other one is told to stand ──▶ follower
//!                                                              │          ▲
//!                                                              └──────────┘ again, perhaps another one; in the end it just resigns
//! ```
//!
//! A leader that was not handed anything counts everything as read up to its clock plus the read window, so its first writes lie that far ahead and their
//! clients wait. A planned hand-over spares them that: its entry carries a summary of what was read (I11), made after the leader has
//! served its last read in this term. The summary binds the winner instead of the low-water mark **only if that entry is the last before the winner's
//! own first one**: then nobody has led in between. If nobody wins, the old leader does not go on: its service in this term is over.

use std::time::Duration;

use proto::codec;
use proto::request::{Refusal, ReplyBody, Response};
use proto::{NodeId, ReplicaId, Timestamp};
use raft::eraftpb::{Entry, EntryType};

use super::command::{Command, Trigger};
use super::replica::{Replica, Surroundings};
use super::serve::{Proposed, respond};
use crate::probe::Path;

/// A leader that is handing over.
#[derive(Clone, Copy, Debug)]
pub struct HandOver {
    /// The replica that is to lead.
    pub to: u64,
    /// The proposal that says so, and whether it is applied.
    pub proposal: u64,
    applied: bool,
    since: Duration,
    told: Duration,
}

/// How long the other one has to win before another is told, or it again if there is none.
const TELL_AGAIN: Duration = Duration::from_millis(500);
/// How long nobody has to win before the leader resigns.
const RESIGN_AFTER: Duration = Duration::from_secs(3);

/// What was read before a hand-over, if an entry is one.
pub fn summary_in(entry: &Entry) -> Option<Timestamp> {
    if entry.entry_type != EntryType::EntryNormal as i32 || entry.data.is_empty() {
        return None;
    }
    let command: Command = codec::decode("a command", &entry.data).ok()?;
    match command.trigger {
        Some(Trigger::HandOver { read_summary }) if command.term == entry.term => Some(read_summary),
        _ => None,
    }
}

impl Replica {
    /// Ends this leader's service, and has another replica lead. One that serves nothing, or is changing the range, does not.
    pub fn hand_over_to(&mut self, cx: &mut Surroundings<'_>, to: u64) {
        if !self.is_serving() {
            return;
        }
        let Some(leading) = self.leading.as_mut().filter(|leading| leading.reshaping.is_none()) else { return };
        let read_summary = leading.reads.summary();
        let proposed = Proposed::of_range(Trigger::HandOver { read_summary }, ReplyBody::Ok);
        self.propose_own(cx, proposed);
        let Some(leading) = self.leading.as_mut() else { return };
        // If it was not accepted, nothing has happened.
        let Some(proposal) = leading.reshaping else { return };
        cx.knobs.probe.took(Path::HandedOver);
        leading.handover = Some(HandOver { to, proposal, applied: false, since: cx.now, told: cx.now });
        for (id, waiting) in std::mem::take(&mut leading.waiting) {
            leading.latches.stop_waiting(id);
            respond(cx, waiting.origin, Response::Refused(Refusal::NotLeader(None)));
        }
    }

    pub fn is_handing_over(&self) -> bool {
        self.leading.as_ref().is_some_and(|leading| leading.handover.is_some())
    }

    pub fn is_handing_over_to(&self, node: NodeId) -> bool {
        let handover = self.leading.as_ref().and_then(|leading| leading.handover);
        let to = handover.and_then(|handover| self.descriptor().replica(ReplicaId(handover.to)));
        to.is_some_and(|to| to.node == node)
    }

    /// Whoever was to lead does not: another one shall, if there is one.
    pub fn hand_over_to_another(&mut self, cx: &Surroundings<'_>) {
        let tried = self.leading.as_ref().and_then(|leading| leading.handover).map(|handover| handover.to);
        let successor = self.successor(cx.resting, tried);
        let Some(handover) = self.leading.as_mut().and_then(|leading| leading.handover.as_mut()) else { return };
        let to = successor.unwrap_or(handover.to);
        handover.to = to;
        handover.told = cx.now;
        if handover.applied {
            self.group.transfer_leader(to);
            self.dirty = true;
        }
    }

    /// The hand-over's entry is applied: the other one may stand.
    pub(super) fn handover_applied(&mut self, number: u64) {
        let Some(handover) = self.leading.as_mut().and_then(|leading| leading.handover.as_mut()) else { return };
        if handover.proposal == number {
            handover.applied = true;
            let to = handover.to;
            self.group.transfer_leader(to);
            self.dirty = true;
        }
    }

    /// A hand-over that leads to nothing is tried again with whoever is furthest; and given up together with the leadership.
    pub fn tick_handover(&mut self, cx: &mut Surroundings<'_>) {
        let Some(handover) = self.leading.as_mut().and_then(|leading| leading.handover.as_mut()) else { return };
        if cx.now >= handover.since + RESIGN_AFTER {
            self.group.resign();
            self.dirty = true;
        } else if handover.applied && cx.now >= handover.told + TELL_AGAIN {
            self.hand_over_to_another(cx);
        }
    }
}
