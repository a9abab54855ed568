//! What is asked of a range about itself: its bounds, its members, how it stands.

use minicbor::{Decode, Encode};

use crate::{Key, NodeId, RangeDescriptor, RangeId, ReplicaId};

/// An operation on the range itself rather than on its data.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum RangeOperation {
    /// Make `key` the first key of a new range.
    #[n(0)]
    Split(#[n(0)] Split),
    /// Change the members by one step.
    #[n(1)]
    ChangeReplicas(#[n(0)] ReplicaChange),
    /// Hand the leadership to the voter on a node. Answered when it is under way.
    #[n(2)]
    Transfer(#[n(0)] NodeId),
    /// Tell how the range stands.
    #[n(3)]
    Inspect,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Split {
    #[n(0)]
    pub key: Key,
    /// The id of the new right-hand range, allocated by the caller.
    #[n(1)]
    pub right: RangeId,
}

/// One step of a change of members. A whole move is `AddLearner`, then `Replace`, after which the leader leaves the joint
/// configuration by itself.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ReplicaChange {
    /// A replica that counts for nothing yet.
    #[n(0)]
    AddLearner(#[n(0)] NodeId),
    /// A replica that never counts.
    #[n(1)]
    AddNonVoter(#[n(0)] NodeId),
    /// By way of a joint configuration: learners that have caught up become voters, and voters go. Either may be empty.
    #[n(2)]
    Replace {
        #[n(0)]
        promote: Vec<NodeId>,
        #[n(1)]
        remove: Vec<NodeId>,
    },
    /// A learner or non-voter goes.
    #[n(3)]
    Remove(#[n(0)] NodeId),
}

/// How a range stands, as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RangeStatus {
    #[n(0)]
    pub descriptor: RangeDescriptor,
    /// In the descriptor's order.
    #[n(1)]
    pub replicas: Vec<ReplicaStatus>,
    /// The last entry of the leader's log.
    #[n(2)]
    pub last_index: u64,
    #[n(3)]
    pub leader: NodeId,
    /// Of the versions that it holds, about.
    #[n(4)]
    pub bytes: u64,
    /// Requests a second, decayed over a while.
    #[n(5)]
    pub load: u64,
    /// What the leader has to say: why it is not split though it should be.
    #[n(6)]
    pub note: Option<String>,
}

/// How a leader sees a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ReplicaStatus {
    #[n(0)]
    pub id: ReplicaId,
    /// The last entry that it is known to hold.
    #[n(1)]
    pub matched: u64,
    /// Whether it has answered lately.
    #[n(2)]
    pub active: bool,
    /// Whether it waits for a Raft snapshot.
    #[n(3)]
    pub needs_snapshot: bool,
}

impl ReplicaStatus {
    /// Entries that a replica may lack and still count as caught up.
    pub const LAG_MAX: u64 = 256;

    /// Whether it is near the end of a log that ends at `last_index`.
    pub fn has_caught_up(&self, last_index: u64) -> bool {
        self.active && !self.needs_snapshot && self.matched > 0 && self.matched + Self::LAG_MAX >= last_index
    }
}
