//! What is asked of a range about itself: its bounds, its members, how it stands.

use minicbor::{Decode, Encode};

use crate::{Epoch, Key, NodeId, RangeDescriptor, RangeId, ReplicaId, Timestamp};

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
    /// Serve nothing any more, so that the range on the left can take this one in as long as it is as described here.
    #[n(4)]
    Freeze(#[n(0)] RangeDescriptor),
    /// Whether the replicas on the node that is asked, of this range and of the one on its left, are ready for a merge. Answered by any
    /// replica.
    #[n(5)]
    IsReady {
        #[n(0)]
        left: RangeId,
        /// The entry that froze this range.
        #[n(1)]
        frozen_at: u64,
    },
    /// Take in the range on the right, which is frozen for this one as it is now.
    #[n(6)]
    Merge {
        #[n(0)]
        right: RangeDescriptor,
        /// The entry that froze it.
        #[n(1)]
        frozen_at: u64,
    },
    /// Raise the epoch: nothing that was planned for the present one can happen afterwards.
    #[n(7)]
    Advance,
    /// Serve again: the merge that this range was frozen for cannot happen any more.
    #[n(8)]
    Thaw {
        #[n(0)]
        frozen_at: u64,
    },
    /// Whether the range's first key is a boundary that an operator asks for. Such a range is not merged with what lies left of it.
    #[n(9)]
    Pin(#[n(0)] bool),
}

/// Why a range serves nothing: the one on its left is about to take it in.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Frozen {
    /// The range that may take it in, where that begins, and at which epoch only it may.
    #[n(0)]
    pub left: RangeId,
    #[n(1)]
    pub left_start: Key,
    #[n(2)]
    pub left_epoch: Epoch,
    /// Everything in the range counts as read up to here.
    #[n(3)]
    pub read_summary: Timestamp,
    /// The entry that froze it.
    #[n(4)]
    pub index: u64,
    #[n(5)]
    pub term: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Split {
    #[n(0)]
    pub key: Key,
    /// The id of the new right-hand range, allocated by the caller.
    #[n(1)]
    pub right: RangeId,
    /// Whether an operator asks for it: such a boundary stays.
    #[n(2)]
    #[cbor(default)]
    pub pinned: bool,
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
    /// Whether it waits to be taken in by the range on its left.
    #[n(7)]
    pub frozen: Option<Frozen>,
    /// Whether its first key is a boundary that an operator asked for.
    #[n(8)]
    #[cbor(default)]
    pub pinned: bool,
    /// What the leader has to say: why it is not split though it should be.
    #[n(9)]
    pub note: Option<Note>,
}

/// What a range's leader has to say, for people to read.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Note {
    #[n(0)]
    pub text: String,
    /// What it is about. Shown in terms that a range knows nothing of.
    #[n(1)]
    pub key: Option<Key>,
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
