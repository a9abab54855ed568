//! Who is who: nodes, ranges and their replicas.

use std::fmt;

use minicbor::{Decode, Encode};

use crate::{Epoch, Key, NodeId, RangeId, ReplicaId, Span};

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
}

/// One replica of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct ReplicaDescriptor {
    #[n(0)]
    pub node: NodeId,
    #[n(1)]
    pub id: ReplicaId,
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
}

impl RangeDescriptor {
    pub fn span(&self) -> Span {
        Span { start: self.start.clone(), end: self.end.clone() }
    }

    pub fn contains(&self, key: &Key) -> bool {
        self.start <= *key && *key < self.end
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
