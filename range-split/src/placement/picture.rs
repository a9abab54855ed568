//! What the planner sees: nodes, ranges and settings, as reports made them known.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::policy::SplitLimits;
use proto::{Locality, NodeId, PlacementRules, RangeDescriptor, RangeId};

/// A cluster at one moment. It may be out of date: what is planned on it names the descriptor's epoch.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    /// The moment, by the clock that all times in the picture are of.
    pub now: Duration,
    pub nodes: BTreeMap<NodeId, Node>,
    pub ranges: BTreeMap<RangeId, Range>,
    pub settings: Settings,
    /// When neighbours are merged.
    pub limits: SplitLimits,
}

/// A node.
#[derive(Clone, Debug, Default)]
pub struct Node {
    pub locality: Locality,
    pub status: NodeStatus,
    pub intent: NodeIntent,
    pub bytes_used: u64,
    /// Of the disk; 0 if nobody knows.
    pub bytes_capacity: u64,
}

/// Whether a node is heard of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NodeStatus {
    #[default]
    Live,
    /// It has been silent since then. It is given nothing; after [`Settings::dead_after`] it counts as gone.
    Suspect { since: Duration },
    /// Gone for good, as an operator says.
    Dead { since: Duration },
}

/// What an operator wants of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NodeIntent {
    #[default]
    Serve,
    /// It is about to be restarted: its leaders move, its replicas stay.
    Drain,
    /// It is to lose all its replicas.
    Decommission,
    /// It has lost them, and never comes back.
    Decommissioned,
}

/// A range.
#[derive(Clone, Debug)]
pub struct Range {
    pub descriptor: RangeDescriptor,
    /// The node whose replica leads, as far as is known.
    pub leader: Option<NodeId>,
    /// What it weighs where bytes are balanced.
    pub bytes: u64,
    /// What it holds.
    pub size: u64,
    /// Costs per second, at the leader.
    pub load: u64,
    /// How far each replica is, by its node. One that is not here lags.
    pub progress: BTreeMap<NodeId, Progress>,
    pub rules: Arc<PlacementRules>,
    /// Its first key is a boundary that is wished for: it is not merged with what lies left of it.
    pub pinned: bool,
    /// A change of bounds, members or leader is being carried out: nothing is planned for the range.
    pub in_flight: bool,
}

/// How far a replica is behind its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    CaughtUp,
    Lagging,
    NeedsSnapshot,
}

/// The cluster's settings. Margins are thousandths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Voters of a range whose rules do not say.
    pub replicas: u32,
    /// A node that was silent for so long is replaced.
    pub dead_after: Duration,
    /// A learner that has not caught up after so long is given up.
    pub learner_patience: Duration,
    /// A range that was moved for balance is left in peace for so long.
    pub rest: Duration,
    /// A range whose change failed is left alone for so long.
    pub retry_after: Duration,
    /// Replicas on their way at one time, in the whole cluster.
    pub moves_max: usize,
    /// Replicas on their way to one node, and from leaders on one node.
    pub moves_per_node_max: usize,
    /// Of ranges that hold no more than this, so many on their way count as one: what they take is rounds, and hardly any bandwidth.
    pub small_bytes: u64,
    pub small_moves: usize,
    /// Pairs of neighbours that are being brought together and merged, at one time.
    pub merges_max: usize,
    /// Moves of leadership in one plan, for balance or preference.
    pub transfers_max: usize,
    /// A node's disk takes no more replicas when it is so full.
    pub full_permille: u64,
    /// Balancing begins when two nodes differ by this much of the mean, and goes on to half of it.
    pub bytes_margin: u64,
    pub load_margin: u64,
    pub leaders_margin: u64,
    /// Differences below these are no imbalance.
    pub bytes_floor: u64,
    pub load_floor: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            replicas: 3,
            dead_after: Duration::from_secs(300),
            learner_patience: Duration::from_secs(600),
            rest: Duration::from_secs(600),
            retry_after: Duration::from_secs(10),
            moves_max: 32,
            moves_per_node_max: 4,
            small_bytes: 1 << 20,
            small_moves: 8,
            merges_max: 8,
            transfers_max: 64,
            full_permille: 900,
            bytes_margin: 100,
            load_margin: 200,
            leaders_margin: 100,
            bytes_floor: 32 << 20,
            load_floor: 200,
        }
    }
}

impl Node {
    /// Whether it answers.
    pub fn is_live(&self) -> bool {
        self.status == NodeStatus::Live && self.intent != NodeIntent::Decommissioned
    }

    /// Since when it has been silent.
    pub fn silent_since(&self) -> Option<Duration> {
        match self.status {
            NodeStatus::Live => None,
            NodeStatus::Suspect { since } | NodeStatus::Dead { since } => Some(since),
        }
    }

    /// Whether nobody waits for it any more.
    pub fn is_gone(&self, now: Duration, settings: &Settings) -> bool {
        match self.status {
            _ if self.intent == NodeIntent::Decommissioned => true,
            NodeStatus::Live => false,
            NodeStatus::Suspect { since } => now.saturating_sub(since) >= settings.dead_after,
            NodeStatus::Dead { .. } => true,
        }
    }

    /// Whether it is to have no replicas.
    pub fn is_leaving(&self) -> bool {
        matches!(self.intent, NodeIntent::Decommission | NodeIntent::Decommissioned)
    }

    /// Whether leaders may stand on it.
    pub fn may_lead(&self) -> bool {
        self.is_live() && self.intent == NodeIntent::Serve
    }

    /// Whether its disk takes no more.
    pub fn is_full(&self, settings: &Settings) -> bool {
        let limit = u128::from(self.bytes_capacity) * u128::from(settings.full_permille) / 1000;
        self.bytes_capacity > 0 && u128::from(self.bytes_used) >= limit
    }

    /// Whether replicas may be added to it.
    pub fn may_receive(&self, settings: &Settings) -> bool {
        self.may_lead() && !self.is_full(settings)
    }
}
