//! The members of a cluster, as its registry keeps them.

use std::fmt;

use minicbor::{Decode, Encode};

use crate::{NodeDescriptor, StoreId};

/// Where a member stands in its life.
///
/// ```text
///   Joining ──▶ Active ◀──▶ Draining
///      │          │  ▲         │
///      └──────────▼──┴─────────▼
///             Decommissioning ──▶ Decommissioned
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum NodeState {
    #[default]
    #[n(0)]
    Active,
    /// It has been given an id, and has not started under it yet: it is heard, and counts for nothing.
    #[n(1)]
    Joining,
    /// It leads nothing; everything else goes on.
    #[n(2)]
    Draining,
    /// It leads nothing, and is to lose its replicas.
    #[n(3)]
    Decommissioning,
    /// It is no member any more, and never will be again.
    #[n(4)]
    Decommissioned,
}

impl NodeState {
    /// Whether it counts among the nodes of which a majority must share a time.
    pub fn counts(self) -> bool {
        !matches!(self, NodeState::Joining | NodeState::Decommissioned)
    }

    /// Whether it may lead ranges.
    pub fn may_lead(self) -> bool {
        self == NodeState::Active
    }

    pub fn is_member(self) -> bool {
        self != NodeState::Decommissioned
    }

    /// In one word, as operators see it.
    pub fn name(self) -> &'static str {
        match self {
            NodeState::Active => "active",
            NodeState::Joining => "joining",
            NodeState::Draining => "draining",
            NodeState::Decommissioning => "decommissioning",
            NodeState::Decommissioned => "decommissioned",
        }
    }
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One start of a node's process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct NodeRun {
    /// How many times the node has been started on its store, this time included. Zero before the first.
    #[n(0)]
    pub starts: u64,
    /// Chosen at random by the process: a copy of the store that is started as often is another one.
    #[n(1)]
    pub token: u64,
}

/// A member's row in the registry.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct NodeRecord {
    #[n(0)]
    pub descriptor: NodeDescriptor,
    #[n(1)]
    pub state: NodeState,
    /// The latest start that has been told of.
    #[n(2)]
    pub run: NodeRun,
    /// Which store the id belongs to; zero until that is known.
    #[n(3)]
    pub store: StoreId,
}

impl NodeRecord {
    /// A member that belongs to the cluster from its beginning.
    pub fn founding(descriptor: NodeDescriptor) -> NodeRecord {
        NodeRecord { descriptor, state: NodeState::Active, run: NodeRun::default(), store: StoreId::default() }
    }

    /// Takes in what the registry says. What the node has told of a later start itself stays; and that it is a member no longer stays in
    /// any case, for whoever recovers a cluster says so before the registry does.
    pub fn learn(&mut self, row: &NodeRecord) {
        if !self.state.is_member() {
            return;
        }
        self.state = row.state;
        if row.run.starts >= self.run.starts {
            self.clone_from(row);
        }
    }
}
