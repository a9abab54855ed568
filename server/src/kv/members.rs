//! Changes of ranges' members, a step at a time.
//!
//! Each step is asked of the range's leader, which carries it out or refuses it. Nothing is remembered in between: what is to be
//! done next follows from how the range stands, so whoever comes later goes on where another was interrupted.

use std::time::Duration;

use proto::message::Body;
use proto::range::{RangeOperation, RangeStatus, ReplicaChange};
use proto::request::{Operation, ReplyBody};
use proto::{Key, NodeId, RangeDescriptor, ReplicaRole};

use super::db::Db;
use super::error::Error;
use super::router::Failure;
use crate::env::Stray;

/// What brings a replica nearer to where it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MoveStep {
    Done,
    /// Others are at work: a joint configuration is being left, a learner catches up.
    Wait,
    Change(ReplicaChange),
    /// The leader is to go, and hands over first.
    HandOver(NodeId),
}

/// The next step towards a range that has a voter on `add` and none on `remove`, and no fewer than `voters` of them.
pub fn next_step(status: &RangeStatus, add: Option<NodeId>, remove: Option<NodeId>, voters: usize) -> MoveStep {
    let descriptor = &status.descriptor;
    if descriptor.is_joint() {
        return MoveStep::Wait;
    }
    let added = add.and_then(|node| descriptor.replica_on(node));
    let caught_up = |node: NodeId| {
        let replica = descriptor.replica_on(node);
        let seen = status.replicas.iter().find(|seen| Some(seen.id) == replica.map(|r| r.id));
        seen.is_some_and(|seen| seen.has_caught_up(status.last_index))
    };
    let promote = match (add, added.map(|replica| replica.role)) {
        (None, _) | (_, Some(ReplicaRole::Voter)) => Vec::new(),
        (Some(node), None) => return MoveStep::Change(ReplicaChange::AddLearner(node)),
        (Some(node), Some(_)) if !caught_up(node) => return MoveStep::Wait,
        (Some(node), Some(_)) => vec![node],
    };
    let goes = remove.and_then(|node| descriptor.replica_on(node));
    match goes.map(|replica| (replica.node, replica.role)) {
        None if promote.is_empty() => MoveStep::Done,
        None => MoveStep::Change(ReplicaChange::Replace { promote, remove: Vec::new() }),
        Some((_, ReplicaRole::Voter)) if descriptor.voters().count() + promote.len() <= voters => MoveStep::Done,
        Some((node, ReplicaRole::Voter)) if node == status.leader => {
            let others = descriptor.replicas.iter().filter(|r| r.role == ReplicaRole::Voter && r.node != node);
            match others.map(|r| r.node).find(|other| caught_up(*other)) {
                Some(other) => MoveStep::HandOver(other),
                // The only voter: the new one has to vote first.
                None if !promote.is_empty() => MoveStep::Change(ReplicaChange::Replace { promote, remove: Vec::new() }),
                None => MoveStep::Wait,
            }
        }
        Some((node, ReplicaRole::Voter)) => MoveStep::Change(ReplicaChange::Replace { promote, remove: vec![node] }),
        Some((node, _)) => MoveStep::Change(ReplicaChange::Remove(node)),
    }
}

impl Db {
    /// How the range that holds a key stands, as its leader sees it.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it has no leader that answers.
    pub async fn inspect(&self, key: &Key) -> Result<RangeStatus, Error> {
        let inspect = Operation::Range(RangeOperation::Inspect);
        let reply = self.call_key(key, &inspect).await.map_err(Error::from_failure)?;
        match reply.body {
            ReplyBody::Status(status) => Ok(*status),
            other => Err(Error::Corrupt(format!("asked how it stands, a range answered {other:?}"))),
        }
    }

    /// Has a range take one step, if it still is as the descriptor says.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is another by now, or refuses.
    pub async fn reshape(&self, range: &RangeDescriptor, operation: RangeOperation) -> Result<(), Error> {
        let deadline = self.shared.knobs.request_deadline;
        let reply = match self.shared.router.call(range, Operation::Range(operation), deadline).await {
            Err(Failure::Repartition { .. }) => {
                return Err(Error::Invalid(format!("{} has changed meanwhile", range.id)));
            }
            reply => reply.map_err(Error::from_failure)?,
        };
        if let ReplyBody::Ranges(descriptors) = reply.body {
            self.shared.router.learn(descriptors);
        }
        Ok(())
    }

    /// Asks those who hold a range, as the meta range has it, whether a replica here may be deleted. They answer its store, or nobody.
    pub async fn ask_for(&self, stray: &Stray) {
        // If it cannot be found out now, the store asks again.
        let Stray { descriptor, replica } = stray;
        let _ = self.shared.router.look_up(&descriptor.start).await;
        let range = self.shared.router.range_of(&descriptor.start);
        // Where another range holds its first key by now, it was merged into that one: whoever knows so tells.
        if range.id != descriptor.id || range.has_removed(*replica) {
            for holder in &range.replicas {
                let body = Body::Straggler { replica: *replica, descriptor: descriptor.clone() };
                self.shared.router.send(holder.node, body);
            }
        }
    }

    /// Gives the range that holds a key a voter on one node, and takes the one on another away if more than `voters` are left; step by
    /// step, until it is so or `patience` has passed.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when time is up: what was begun stays, and can be gone on with or undone.
    pub async fn move_replica(
        &self,
        key: &Key,
        add: Option<NodeId>,
        remove: Option<NodeId>,
        voters: usize,
        patience: Duration,
    ) -> Result<(), Error> {
        const PAUSE: Duration = Duration::from_millis(20);
        let clock = self.shared.env.clock();
        let until = clock.monotonic() + patience;
        while clock.monotonic() < until {
            let status = self.inspect(key).await?;
            let operation = match next_step(&status, add, remove, voters) {
                MoveStep::Done => return Ok(()),
                MoveStep::Wait => None,
                MoveStep::Change(change) => Some(RangeOperation::ChangeReplicas(change)),
                MoveStep::HandOver(to) => Some(RangeOperation::Transfer(to)),
            };
            if let Some(operation) = operation {
                // Refused or not, the next look tells.
                let _ = self.reshape(&status.descriptor, operation).await;
            }
            self.shared.env.sleep(PAUSE).await;
        }
        Err(Error::Unavailable(format!("the members of the range of key {key} were not changed in time")))
    }
}
