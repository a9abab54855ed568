//! Replicas come and go.
//!
//! A change of members is a command like any other: evaluated by the leader, replicated, and effective where it is applied. Its
//! entry carries the whole descriptor that results. One change of the range, of its members or its bounds, is under way at a
//! time. Voters change by way of a joint configuration, which the leader leaves as soon as it has applied the entry that
//! entered it; a leader that is on its way out hands over first.
//!
//! **A removed replica stays for a while.** The library uses a configuration once its entry is applied, not once it is in the log. So a
//! follower that does not know yet that the joint configuration was left still needs both majorities to be elected, and if
//! the leader dies with that knowledge, the votes of those who were removed. They go on voting, therefore, until
//! the range is *settled*: the leader has proposed another entry after it had applied the removal, and it is committed. Whoever holds that
//! entry was told with it how far the log is committed, and wrote that down with it; and one of them is in every majority.
//! Then any replica may tell the removed ones, and their stores delete them and leave tombstones (I13).

use std::time::Duration;

use proto::message::Body;
use proto::range::{RangeStatus, ReplicaChange, ReplicaStatus};
use proto::request::{Refusal, ReplyBody};
use proto::{Epoch, NodeId, RangeDescriptor, ReplicaDescriptor, ReplicaId, ReplicaRole};
use txn::WriteBatch;

use super::command::Trigger;
use super::replica::{Origin, Replica, Surroundings};
use super::serve::Proposed;
use super::state;
use crate::env::Stray;
use crate::probe::Path;
use crate::raft::MemberChange;

/// What a step makes of the members.
pub struct Planned {
    pub descriptor: RangeDescriptor,
    pub change: MemberChange,
}

fn refuse(why: String) -> Refusal {
    Refusal::Invalid(why)
}

/// The members after a step.
///
/// # Errors
/// [`Refusal::Busy`] in the middle of another change, [`Refusal::Invalid`] if the step makes no sense.
pub fn plan(descriptor: &RangeDescriptor, change: &ReplicaChange) -> Result<Planned, Refusal> {
    if descriptor.is_joint() {
        return Err(Refusal::Busy(format!("the members of {} are being changed", descriptor.id)));
    }
    let mut next = RangeDescriptor { epoch: Epoch(descriptor.epoch.0 + 1), ..descriptor.clone() };
    let change = match change {
        ReplicaChange::AddLearner(node) => add(&mut next, *node, ReplicaRole::Learner)?,
        ReplicaChange::AddNonVoter(node) => add(&mut next, *node, ReplicaRole::NonVoter)?,
        ReplicaChange::Remove(node) => {
            let replica = held(descriptor, *node)?;
            if replica.role.votes() {
                return Err(refuse(format!("the replica of {} on {node} votes: it is to be replaced", descriptor.id)));
            }
            next.replicas.retain(|r| r.id != replica.id);
            MemberChange::Remove(replica.id.0)
        }
        ReplicaChange::Replace { promote, remove } => replace(&mut next, promote, remove)?,
    };
    Ok(Planned { descriptor: next, change })
}

fn held(descriptor: &RangeDescriptor, node: NodeId) -> Result<ReplicaDescriptor, Refusal> {
    descriptor.replica_on(node).ok_or_else(|| refuse(format!("{} has no replica on {node}", descriptor.id)))
}

fn add(next: &mut RangeDescriptor, node: NodeId, role: ReplicaRole) -> Result<MemberChange, Refusal> {
    if next.replica_on(node).is_some() {
        return Err(refuse(format!("{} has a replica on {node} already", next.id)));
    }
    let above = next.replicas.iter().map(|r| r.id.0 + 1).max().unwrap_or(1);
    let id = ReplicaId(next.next_replica.0.max(above));
    next.replicas.push(ReplicaDescriptor { node, id, role });
    next.next_replica = ReplicaId(id.0 + 1);
    Ok(MemberChange::AddLearner(id.0))
}

fn replace(next: &mut RangeDescriptor, promote: &[NodeId], remove: &[NodeId]) -> Result<MemberChange, Refusal> {
    let mut change = (Vec::new(), Vec::new());
    for (nodes, votes, becomes, ids) in
        [(promote, false, ReplicaRole::Incoming, &mut change.0), (remove, true, ReplicaRole::Outgoing, &mut change.1)]
    {
        for node in nodes {
            let id = next.id;
            let replica = next.replicas.iter_mut().find(|r| r.node == *node);
            let replica = replica.ok_or_else(|| refuse(format!("{id} has no replica on {node}")))?;
            if replica.role.votes() != votes {
                let is = if votes { "does not vote" } else { "votes already" };
                return Err(refuse(format!("the replica of {id} on {node} {is}")));
            }
            replica.role = becomes;
            ids.push(replica.id.0);
        }
    }
    let (promote, remove) = change;
    let stays = next.replicas.iter().any(|r| matches!(r.role, ReplicaRole::Voter | ReplicaRole::Incoming));
    if !stays || (promote.is_empty() && remove.is_empty()) {
        return Err(refuse(format!("{} would have no voter left, or nothing would change", next.id)));
    }
    Ok(MemberChange::Join { promote, remove })
}

/// The members after a joint configuration.
pub fn leave(descriptor: &RangeDescriptor) -> Planned {
    let mut next = RangeDescriptor { epoch: Epoch(descriptor.epoch.0 + 1), ..descriptor.clone() };
    next.replicas.retain(|r| r.role != ReplicaRole::Outgoing);
    for replica in &mut next.replicas {
        if replica.role == ReplicaRole::Incoming {
            replica.role = ReplicaRole::Voter;
        }
    }
    Planned { descriptor: next, change: MemberChange::Leave }
}

impl Replica {
    /// The command of a change of members.
    pub(super) fn evaluate_change(&self, change: &ReplicaChange) -> Result<Proposed, Refusal> {
        self.may_reshape()?;
        self.must_be_settled()?;
        let planned = plan(self.descriptor(), change)?;
        if let ReplicaChange::Replace { promote, remove } = change {
            if remove.contains(&self.me.node) {
                let why = format!("{} leads {}: hand the leadership over first", self.me.node, self.descriptor().id);
                return Err(Refusal::Invalid(why));
            }
            let status = self.status();
            for replica in status.descriptor.replicas.iter().filter(|r| promote.contains(&r.node)) {
                let seen = status.replicas.iter().find(|seen| seen.id == replica.id);
                if !seen.is_some_and(|seen| seen.has_caught_up(status.last_index)) {
                    return Err(Refusal::Busy(format!("the replica on {} has not caught up yet", replica.node)));
                }
            }
        }
        Ok(self.proposed_change(planned))
    }

    fn proposed_change(&self, planned: Planned) -> Proposed {
        let Planned { descriptor, change } = planned;
        let reply = ReplyBody::Ranges(vec![descriptor.clone()]);
        Proposed { members: Some(change), ..Proposed::of_range(Trigger::Members { descriptor }, reply) }
    }

    /// Whether the range's bounds or members may be changed now.
    pub(super) fn may_reshape(&self) -> Result<(), Refusal> {
        if self.leading.as_ref().is_some_and(|leading| leading.reshaping.is_some()) {
            return Err(Refusal::Busy("another change of the range is under way".into()));
        }
        if self.descriptor().is_joint() {
            return Err(Refusal::Busy("the range's members are being changed".into()));
        }
        match self.state.frozen {
            Some(_) => Err(self.frozen_refusal()),
            None => Ok(()),
        }
    }

    /// Whether nobody needs those any more whom the last change did away with: replicas that were removed, a range that was taken in.
    pub(super) fn must_be_settled(&self) -> Result<(), Refusal> {
        match self.state.is_settled() {
            true => Ok(()),
            false => Err(Refusal::Busy("the last change of the range is not settled yet".into())),
        }
    }

    /// How the range stands, as its leader sees it.
    pub fn status(&self) -> RangeStatus {
        let progress = self.group.progress();
        let seen = |replica: &ReplicaDescriptor| {
            let progress = progress.iter().find(|p| p.replica == replica.id.0);
            ReplicaStatus {
                id: replica.id,
                matched: progress.map_or(0, |p| p.matched),
                active: progress.is_some_and(|p| p.active),
                needs_snapshot: progress.is_some_and(|p| p.needs_snapshot),
            }
        };
        let replicas = self.descriptor().replicas.iter().map(seen).collect();
        RangeStatus {
            descriptor: self.descriptor().clone(),
            replicas,
            last_index: self.group.last_index(),
            leader: self.me.node,
            bytes: self.applied.bytes,
            load: self.leading.as_ref().map_or(0, |leading| leading.weighing.load),
            note: self.leading.as_ref().and_then(|leading| leading.weighing.note.clone()),
            frozen: self.state.frozen.clone(),
            pinned: self.state.pinned,
        }
    }

    /// Hands the leadership to the voter on a node.
    pub(super) fn hand_over(&mut self, cx: &mut Surroundings<'_>, to: NodeId) -> Result<ReplyBody, Refusal> {
        let replica = held(self.descriptor(), to)?;
        if !matches!(replica.role, ReplicaRole::Voter | ReplicaRole::Incoming) {
            return Err(refuse(format!(
                "the replica of {} on {to} cannot lead: it does not vote",
                self.descriptor().id
            )));
        }
        if replica.id == self.me.id {
            return Ok(ReplyBody::Ok);
        }
        if cx.resting.holds(to) {
            return Err(Refusal::Busy(format!("{to} is to lead nothing now")));
        }
        self.may_reshape()?;
        let status = self.status();
        let seen = status.replicas.iter().find(|seen| seen.id == replica.id);
        if !seen.is_some_and(|seen| seen.has_caught_up(status.last_index)) {
            return Err(Refusal::Invalid(format!("the replica on {to} lags: it cannot lead yet")));
        }
        self.hand_over_to(cx, replica.id.0);
        Ok(ReplyBody::Ok)
    }

    /// A leader leaves a joint configuration; one that is on its way out lets another do it.
    pub fn tick_members(&mut self, cx: &mut Surroundings<'_>) {
        let idle = self.is_serving() && self.leading.as_ref().is_some_and(|leading| leading.reshaping.is_none());
        if self.has_departed() {
            return self.ask_to_go(cx);
        }
        if !idle {
            return;
        }
        if !self.descriptor().is_joint() {
            if !self.state.is_settled() {
                let proposed = self.proposed_settlement();
                self.propose_own(cx, proposed);
            }
            return;
        }
        if self.me.role == ReplicaRole::Outgoing {
            if let (_, Some(follower)) = self.group.followers() {
                cx.knobs.probe.took(Path::OutgoingLeader);
                self.group.transfer_leader(follower);
                self.dirty = true;
            }
            return;
        }
        let proposed = self.proposed_change(leave(self.descriptor()));
        self.propose_own(cx, proposed);
    }

    /// Applies a change of members.
    pub(super) fn apply_members(
        &mut self,
        cx: &mut Surroundings<'_>,
        batch: &mut WriteBatch,
        descriptor: RangeDescriptor,
    ) {
        assert!(descriptor.epoch.0 == self.descriptor().epoch.0 + 1, "changes of a range follow one another");
        cx.knobs.probe.took(if descriptor.is_joint() { Path::JointEntered } else { Path::MembersChanged });
        let was_settled = self.state.is_settled();
        let old = std::mem::replace(&mut self.state.descriptor, descriptor);
        let descriptor = &self.state.descriptor;
        let gone: Vec<ReplicaDescriptor> =
            old.replicas.into_iter().filter(|r| descriptor.replica(r.id).is_none()).collect();
        if was_settled && gone.is_empty() {
            self.state.settled = descriptor.epoch;
        }
        if let Some(me) = descriptor.replica(self.me.id) {
            self.me = me;
        }
        if self.group.is_leader() {
            cx.effects.published.push(descriptor.clone());
        }
        if let Some(leading) = &mut self.leading {
            leading.departed.extend(gone);
        }
        self.group.withdraw_snapshot();
        state::put_state(batch, &self.state);
    }

    fn proposed_settlement(&self) -> Proposed {
        Proposed::of_range(Trigger::Settled { epoch: self.descriptor().epoch }, ReplyBody::Ok)
    }

    /// Those who were removed are not needed any more.
    pub(super) fn apply_settled(&mut self, cx: &mut Surroundings<'_>, batch: &mut WriteBatch, epoch: Epoch) {
        if epoch != self.descriptor().epoch {
            return;
        }
        self.state.settled = epoch;
        state::put_state(batch, &self.state);
        let departed = self.leading.as_mut().map(|leading| std::mem::take(&mut leading.departed));
        for gone in departed.unwrap_or_default() {
            let descriptor = self.descriptor().clone();
            let body = Body::Removed { range: descriptor.id, replica: gone.id, descriptor };
            cx.effects.messages.push((gone.node, body));
        }
    }

    /// A replica that hears from nobody may have been removed by those who have been removed themselves since: it has them
    /// found who hold the range now.
    pub fn tick_stray(&mut self, cx: &mut Surroundings<'_>) {
        const SILENCE: Duration = Duration::from_secs(5);
        // A learner goes on believing in its last leader, however long that has been silent.
        let leads = self.group.is_leader() && !self.hollow;
        let heard = *self.heard.get_or_insert(cx.now);
        if leads || self.incoming.is_some() || cx.now < heard + SILENCE {
            return;
        }
        // Again after as long.
        self.heard = Some(cx.now);
        cx.effects.stray = Some(Stray { descriptor: self.descriptor().clone(), replica: self.me.id });
    }

    /// A removed replica that has not been told yet that it may go asks whoever may know.
    fn ask_to_go(&mut self, cx: &mut Surroundings<'_>) {
        const ASK_AGAIN: Duration = Duration::from_millis(500);
        if self.asked_to_go.is_some_and(|asked| cx.now < asked + ASK_AGAIN) {
            return;
        }
        self.asked_to_go = Some(cx.now);
        for member in &self.state.descriptor.replicas {
            let body = Body::Straggler { replica: self.me.id, descriptor: self.state.descriptor.clone() };
            cx.effects.messages.push((member.node, body));
        }
    }

    /// Nobody asked for it: the leader itself did.
    pub(super) fn own_origin(&self) -> Origin {
        Origin { node: self.me.node, id: Origin::NOBODY }
    }
}
