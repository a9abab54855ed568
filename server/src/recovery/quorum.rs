//! Majorities of a range's voters.

use proto::{RangeDescriptor, ReplicaDescriptor, ReplicaId};

use crate::raft::Members;

/// Whether the replicas of which `counts` is true are a majority of a range's voters: in a joint configuration of both majorities.
pub fn is_majority(descriptor: &RangeDescriptor, counts: impl Fn(&ReplicaDescriptor) -> bool) -> bool {
    let members = Members::from(descriptor);
    let holds = |ids: &[u64]| {
        let found = ids.iter().filter_map(|id| descriptor.replica(ReplicaId(*id)));
        2 * found.filter(|replica| counts(replica)).count() > ids.len()
    };
    holds(&members.voters) && (members.outgoing.is_empty() || holds(&members.outgoing))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::ReplicaRole::{Incoming, Learner, Outgoing, Voter};
    use proto::{Epoch, NodeId, RangeId, ReplicaRole, Span};

    fn range(roles: &[ReplicaRole]) -> RangeDescriptor {
        let replica =
            |(role, id): (&ReplicaRole, u64)| ReplicaDescriptor { node: NodeId(id), id: ReplicaId(id), role: *role };
        RangeDescriptor::new(RangeId(1), Span::all(), Epoch(1), roles.iter().zip(1..).map(replica).collect())
    }

    fn hold(roles: &[ReplicaRole], nodes: &[u64]) -> bool {
        is_majority(&range(roles), |replica| nodes.contains(&replica.node.0))
    }

    #[test]
    fn learners_count_for_nothing() {
        assert!(hold(&[Voter, Voter, Voter], &[1, 3]));
        assert!(!hold(&[Voter, Voter, Voter, Learner], &[1, 4]));
        assert!(!hold(&[Voter, Voter], &[1]));
        assert!(!hold(&[Voter, Voter, Voter, Voter], &[1, 2]));
    }

    #[test]
    fn a_joint_configuration_asks_for_both_majorities() {
        // 1, 2, 3 are to become 1, 4, 5.
        let joint = [Voter, Outgoing, Outgoing, Incoming, Incoming];
        assert!(!hold(&joint, &[1, 4, 5]), "a majority of the new ones alone");
        assert!(!hold(&joint, &[1, 2, 3]), "a majority of the old ones alone");
        assert!(hold(&joint, &[1, 2, 4]));
    }
}
