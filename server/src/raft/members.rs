//! Who belongs to a group, and how that changes.
//!
//! A change of voters goes through a *joint* configuration, in which the old and the new majority both have to agree; a second entry leaves
//! it. Replicas that do not vote come and go with one entry. Each takes effect on a replica when it applies the entry.

use prost_raft::Message as _;
use proto::{RangeDescriptor, ReplicaRole};
use raft::eraftpb::{ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState};

/// The replicas of a group by what they count for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    pub voters: Vec<u64>,
    /// In a joint configuration: the voters of the old majority.
    pub outgoing: Vec<u64>,
    pub learners: Vec<u64>,
}

impl From<&RangeDescriptor> for Members {
    fn from(descriptor: &RangeDescriptor) -> Members {
        let joint = descriptor.is_joint();
        let mut members = Members::default();
        for replica in &descriptor.replicas {
            let id = replica.id.0;
            match replica.role {
                ReplicaRole::Voter => {
                    members.voters.push(id);
                    members.outgoing.extend(joint.then_some(id));
                }
                ReplicaRole::Incoming => members.voters.push(id),
                ReplicaRole::Outgoing => members.outgoing.push(id),
                ReplicaRole::Learner | ReplicaRole::NonVoter => members.learners.push(id),
            }
        }
        members
    }
}

impl Members {
    pub(super) fn to_conf_state(&self) -> ConfState {
        ConfState {
            voters: self.voters.clone(),
            voters_outgoing: self.outgoing.clone(),
            learners: self.learners.clone(),
            ..ConfState::default()
        }
    }
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    AddLearner(u64),
    /// A learner goes.
    Remove(u64),
    /// Into a joint configuration: learners become voters, voters go.
    Join {
        promote: Vec<u64>,
        remove: Vec<u64>,
    },
    /// Out of it.
    Leave,
}

impl MemberChange {
    /// The library's words for it, around what the replica itself has to say.
    pub(super) fn to_conf_change(&self, context: Vec<u8>) -> ConfChangeV2 {
        let single = |kind: ConfChangeType, id: &u64| {
            let mut change = ConfChangeSingle { node_id: *id, ..ConfChangeSingle::default() };
            change.set_change_type(kind);
            change
        };
        let (transition, changes) = match self {
            MemberChange::AddLearner(id) => {
                (ConfChangeTransition::Auto, vec![single(ConfChangeType::AddLearnerNode, id)])
            }
            MemberChange::Remove(id) => (ConfChangeTransition::Auto, vec![single(ConfChangeType::RemoveNode, id)]),
            MemberChange::Join { promote, remove } => {
                let promoted = promote.iter().map(|id| single(ConfChangeType::AddNode, id));
                let removed = remove.iter().map(|id| single(ConfChangeType::RemoveNode, id));
                (ConfChangeTransition::Explicit, promoted.chain(removed).collect())
            }
            MemberChange::Leave => (ConfChangeTransition::Auto, Vec::new()),
        };
        let mut change = ConfChangeV2 { changes, context, ..ConfChangeV2::default() };
        change.set_transition(transition);
        change
    }
}

/// A change of members as an entry carries it: the library's part, and the replica's.
///
/// # Errors
/// A sentence, if it is none.
pub fn decode_change(data: &[u8]) -> Result<(ConfChangeV2, Vec<u8>), String> {
    let mut change = ConfChangeV2::decode(data).map_err(|e| format!("a change of members: {e}"))?;
    let context = std::mem::take(&mut change.context);
    Ok((change, context))
}
