//! Plans in the words that ranges understand, and what ranges say of themselves in the picture's words.

use std::collections::BTreeMap;

use proto::range::{RangeOperation, RangeStatus, ReplicaChange, ReplicaStatus};
use proto::{NodeId, RangeDescriptor};

use super::operation::Change;
use super::picture::Progress;

impl Change {
    /// What to ask the range's leader for. Nothing for a joint configuration, which its leader leaves unasked, and for a merge, which takes
    /// more than one request.
    pub fn request(&self, descriptor: &RangeDescriptor) -> Option<RangeOperation> {
        let change = match *self {
            Change::AddLearner { node } => ReplicaChange::AddLearner(node),
            Change::AddNonVoter { node } => ReplicaChange::AddNonVoter(node),
            Change::Promote { node } => ReplicaChange::Replace { promote: vec![node], remove: Vec::new() },
            Change::ReplaceVoter { add, remove } => ReplicaChange::Replace { promote: vec![add], remove: vec![remove] },
            Change::RemoveReplica { node } => match descriptor.replica_on(node).is_some_and(|r| r.role.votes()) {
                true => ReplicaChange::Replace { promote: Vec::new(), remove: vec![node] },
                false => ReplicaChange::Remove(node),
            },
            Change::TransferLeader { to } => return Some(RangeOperation::Transfer(to)),
            Change::FinishJoint | Change::TakeIn { .. } => return None,
        };
        Some(RangeOperation::ChangeReplicas(change))
    }
}

impl Progress {
    /// How far a replica is, as its leader sees it.
    pub fn of(replica: &ReplicaStatus, last_index: u64) -> Progress {
        if replica.needs_snapshot {
            Progress::NeedsSnapshot
        } else if replica.has_caught_up(last_index) {
            Progress::CaughtUp
        } else {
            Progress::Lagging
        }
    }

    /// How far each replica of a range is, by its node.
    pub fn of_all(status: &RangeStatus) -> BTreeMap<NodeId, Progress> {
        let node = |replica: &ReplicaStatus| status.descriptor.replica(replica.id).map(|r| r.node);
        let of = |replica: &ReplicaStatus| Some((node(replica)?, Progress::of(replica, status.last_index)));
        status.replicas.iter().filter_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::{Epoch, RangeId, ReplicaDescriptor, ReplicaId, ReplicaRole, Span};

    fn descriptor() -> RangeDescriptor {
        let mut replicas: Vec<_> = (1..=3).map(|n| ReplicaDescriptor::voter(NodeId(n), ReplicaId(n))).collect();
        replicas.push(ReplicaDescriptor { node: NodeId(4), id: ReplicaId(4), role: ReplicaRole::Learner });
        RangeDescriptor::new(RangeId(1), Span::new("a", "b"), Epoch(1), replicas)
    }

    #[test]
    fn a_voter_leaves_by_way_of_a_joint_configuration_and_a_learner_does_not() {
        let request = |node| Change::RemoveReplica { node: NodeId(node) }.request(&descriptor());
        let voter = ReplicaChange::Replace { promote: Vec::new(), remove: vec![NodeId(3)] };
        assert_eq!(request(3), Some(RangeOperation::ChangeReplicas(voter)));
        assert_eq!(request(4), Some(RangeOperation::ChangeReplicas(ReplicaChange::Remove(NodeId(4)))));
        assert_eq!(Change::FinishJoint.request(&descriptor()), None);
    }

    #[test]
    fn progress_is_what_the_leader_sees() {
        let status =
            |id, matched, needs_snapshot| ReplicaStatus { id: ReplicaId(id), matched, active: true, needs_snapshot };
        let replicas = vec![status(1, 1000, false), status(2, 900, false), status(3, 10, false), status(4, 0, true)];
        let status = RangeStatus {
            descriptor: descriptor(),
            replicas,
            last_index: 1000,
            leader: NodeId(1),
            bytes: 0,
            load: 0,
            note: None,
            frozen: None,
            pinned: false,
        };
        let all: Vec<Progress> = Progress::of_all(&status).into_values().collect();
        assert_eq!(all, [Progress::CaughtUp, Progress::CaughtUp, Progress::Lagging, Progress::NeedsSnapshot]);
    }
}
