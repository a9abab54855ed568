//! Who is who: nodes, ranges and their replicas.

use std::fmt;

use minicbor::{Decode, Encode};

use crate::{Epoch, Key, Locality, NodeId, RangeId, ReplicaId, Span};

/// A node as the others know it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct NodeDescriptor {
    #[n(0)]
    pub id: NodeId,
    /// Where its gRPC service listens: `host:port`.
    #[n(1)]
    pub address: String,
    /// Identifies the running kernel: nodes with the same one share a clock.
    #[n(2)]
    pub boot_id: String,
    /// The failure domains that it belongs to.
    #[n(3)]
    #[cbor(default)]
    pub locality: Locality,
}

/// What a replica counts for in its range's quorums.
///
/// ```text
///   (added) ──▶ Learner ──▶ Incoming ──▶ Voter ──▶ Outgoing ──▶ (removed)
///                  │                                   ▲
///                  ▼                                   │  the two in the middle are one joint step
///              (removed)                    Incoming ──┴── Outgoing
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum ReplicaRole {
    #[default]
    #[n(0)]
    Voter,
    /// Receives everything and counts for nothing, until it has caught up and becomes a voter.
    #[n(1)]
    Learner,
    /// Receives everything and counts for nothing, for good: it serves reads in its region.
    #[n(2)]
    NonVoter,
    /// In a joint configuration: a voter of the new majority alone.
    #[n(3)]
    Incoming,
    /// In a joint configuration: a voter of the old majority alone.
    #[n(4)]
    Outgoing,
}

impl ReplicaRole {
    /// Whether it counts for some majority.
    pub fn votes(self) -> bool {
        !matches!(self, ReplicaRole::Learner | ReplicaRole::NonVoter)
    }

    /// Whether it belongs to a joint configuration.
    pub fn is_joint(self) -> bool {
        matches!(self, ReplicaRole::Incoming | ReplicaRole::Outgoing)
    }
}

/// One replica of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct ReplicaDescriptor {
    #[n(0)]
    pub node: NodeId,
    #[n(1)]
    pub id: ReplicaId,
    #[n(2)]
    #[cbor(default)]
    pub role: ReplicaRole,
}

impl ReplicaDescriptor {
    pub fn voter(node: NodeId, id: ReplicaId) -> ReplicaDescriptor {
        ReplicaDescriptor { node, id, role: ReplicaRole::Voter }
    }
}

/// A range's bounds and members. Every change raises the epoch.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RangeDescriptor {
    #[n(0)]
    pub id: RangeId,
    #[n(1)]
    pub start: Key,
    #[n(2)]
    pub end: Key,
    #[n(3)]
    pub replicas: Vec<ReplicaDescriptor>,
    #[n(4)]
    pub epoch: Epoch,
    /// The id of the next replica to be added. Ids are never used twice in a range: a lower one that is not in `replicas` is gone for good.
    #[n(5)]
    #[cbor(default)]
    pub next_replica: ReplicaId,
}

impl RangeDescriptor {
    pub fn span(&self) -> Span {
        Span { start: self.start.clone(), end: self.end.clone() }
    }

    pub fn contains(&self, key: &Key) -> bool {
        self.start <= *key && *key < self.end
    }

    /// A range with these replicas.
    pub fn new(id: RangeId, span: Span, epoch: Epoch, replicas: Vec<ReplicaDescriptor>) -> RangeDescriptor {
        let next_replica = ReplicaId(replicas.iter().map(|r| r.id.0 + 1).max().unwrap_or(1));
        RangeDescriptor { id, start: span.start, end: span.end, replicas, epoch, next_replica }
    }

    pub fn replica(&self, id: ReplicaId) -> Option<ReplicaDescriptor> {
        self.replicas.iter().find(|r| r.id == id).copied()
    }

    /// Whether a replica was removed, as far as this descriptor knows.
    pub fn has_removed(&self, id: ReplicaId) -> bool {
        id < self.next_replica && self.replica(id).is_none()
    }

    /// Whether this says that another range, known at an epoch, was merged into this one. A range's first key is its own as long as there is the
    /// range, and the epochs of the ranges that hold a key one after another only grow.
    pub fn has_taken_in(&self, other: &RangeDescriptor) -> bool {
        self.id != other.id && other.epoch > Epoch::UNKNOWN && self.epoch > other.epoch && self.contains(&other.start)
    }

    /// Whether two majorities decide, as a change of members is under way.
    pub fn is_joint(&self) -> bool {
        self.replicas.iter().any(|r| r.role.is_joint())
    }

    /// The replicas that count for some majority.
    pub fn voters(&self) -> impl Iterator<Item = &ReplicaDescriptor> {
        self.replicas.iter().filter(|r| r.role.votes())
    }

    /// The replica that a node holds, if it holds one.
    pub fn replica_on(&self, node: NodeId) -> Option<ReplicaDescriptor> {
        self.replicas.iter().find(|r| r.node == node).copied()
    }
}

impl fmt::Display for RangeDescriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.id, self.span(), self.epoch)
    }
}
