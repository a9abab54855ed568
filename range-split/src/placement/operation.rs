//! What a plan consists of: operations, and what cannot be done; each with its reason.

use std::fmt;
use std::time::Duration;

use proto::locality::Tier;
use proto::placement::Constraint;
use proto::{Epoch, NodeId, RangeId};

use crate::show;

/// One step of one range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    pub range: RangeId,
    /// Of the descriptor that the step was planned for: if the range has another one now, the step is void.
    pub epoch: Epoch,
    pub change: Change,
    pub reason: Reason,
}

/// What is done to a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Adds a replica that does not vote, and sends it a Raft snapshot.
    AddLearner {
        node: NodeId,
    },
    /// Adds a replica that never votes.
    AddNonVoter {
        node: NodeId,
    },
    /// Makes a learner a voter.
    Promote {
        node: NodeId,
    },
    /// Makes a learner a voter and removes another one, in one joint step.
    ReplaceVoter {
        add: NodeId,
        remove: NodeId,
    },
    /// Removes a replica of any role.
    RemoveReplica {
        node: NodeId,
    },
    TransferLeader {
        to: NodeId,
    },
    /// Leaves a joint configuration that somebody left behind.
    FinishJoint,
    /// Takes in the range on its right, which is to be at this epoch.
    TakeIn {
        right: RangeId,
        epoch: Epoch,
    },
}

/// Why something is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    Joint,
    LearnerLost {
        node: NodeId,
    },
    LearnerStuck {
        node: NodeId,
        waited: Duration,
    },
    LearnerUnneeded {
        node: NodeId,
    },
    /// A learner that was found on the way, nobody knows any more what for.
    Better {
        add: NodeId,
        remove: NodeId,
    },
    FewReplicas {
        have: usize,
        want: usize,
    },
    /// Silent for so long; nothing if the node is unknown or decommissioned.
    Gone {
        node: NodeId,
        silent: Option<Duration>,
    },
    /// Without the dead the rest can lose one more.
    Shrink {
        node: NodeId,
        live: usize,
    },
    Decommissioning {
        node: NodeId,
    },
    Draining {
        node: NodeId,
    },
    Surplus {
        have: usize,
        want: usize,
    },
    Constraint {
        constraint: Constraint,
    },
    /// Two replicas share this failure domain.
    Shared {
        first: NodeId,
        second: NodeId,
        tier: Tier,
    },
    NonVoters {
        tier: Tier,
        have: usize,
        want: usize,
    },
    Preference {
        tier: Tier,
    },
    /// The leader's replica is about to be removed.
    MakesWay {
        node: NodeId,
    },
    /// A node holds so many thousandths more than the mean, or the other one so much less.
    Bytes {
        from: NodeId,
        above: u64,
        to: NodeId,
        below: u64,
    },
    Load {
        from: NodeId,
        above: u64,
        to: NodeId,
        below: u64,
    },
    Leaders {
        from: NodeId,
        have: u64,
        to: NodeId,
        other: u64,
    },
    /// Together with its neighbour it has held and borne little for long.
    Small {
        bytes: u64,
        rate: u64,
    },
    /// It is brought to where its neighbour stands, for that reason.
    Joins {
        neighbour: RangeId,
        bytes: u64,
        rate: u64,
    },
}

/// Something that is wrong and cannot be repaired, or wanted and cannot be had, with the ranges that it concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: RefusalReason,
    pub ranges: usize,
    pub example: Option<RangeId>,
}

/// Why something cannot be done, and what would help.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefusalReason {
    QuorumLost { gone: usize, voters: usize },
    QuorumSilent { silent: usize, voters: usize },
    TooFewNodes { have: usize, want: usize },
    Irreplaceable { node: NodeId, leaving: bool, nodes: usize, replicas: usize },
    NoMatch { constraint: Constraint },
    DisksFull { full_permille: u64 },
    NobodyLeads { node: NodeId },
    PreferenceUnmet { tier: Tier },
    NonVotersUnmet { tier: Tier, have: usize, want: usize },
    NoRoom { bytes: u64, free: u64 },
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.range, self.change, self.reason)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::AddLearner { node } => write!(f, "add learner on {node}"),
            Change::AddNonVoter { node } => write!(f, "add non-voter on {node}"),
            Change::Promote { node } => write!(f, "promote {node}"),
            Change::ReplaceVoter { add, remove } => write!(f, "replace {remove} by {add}"),
            Change::RemoveReplica { node } => write!(f, "remove {node}"),
            Change::TransferLeader { to } => write!(f, "let {to} lead"),
            Change::FinishJoint => f.write_str("finish the joint configuration"),
            Change::TakeIn { right, .. } => write!(f, "merge with {right}"),
        }
    }
}

/// `holds 12% more than the mean`, of whichever of two nodes is further from it.
fn imbalance(f: &mut fmt::Formatter<'_>, verb: &str, from: (NodeId, u64), to: (NodeId, u64)) -> fmt::Result {
    let ((node, permille), side) = if from.1 >= to.1 { (from, "more") } else { (to, "less") };
    write!(f, "{node} {verb} {} {side} than the mean", show::percent(permille))
}

fn together(f: &mut fmt::Formatter<'_>, bytes: u64, rate: u64) -> fmt::Result {
    write!(f, "together they hold {} and bear {rate} requests a second", show::bytes(bytes))
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Joint => f.write_str("a joint configuration was left unfinished"),
            Reason::LearnerLost { node } => write!(f, "the learner's node {node} is lost or leaves"),
            Reason::LearnerStuck { node, waited } => {
                write!(f, "the learner on {node} has not caught up for {}", show::duration(*waited))
            }
            Reason::LearnerUnneeded { node } => write!(f, "the learner on {node} improves nothing any more"),
            Reason::Better { add, remove } => write!(f, "{add} has caught up, and is a better place than {remove}"),
            Reason::FewReplicas { have, want } => write!(f, "{have} of {want} voters"),
            Reason::Gone { node, silent: Some(silent) } => {
                write!(f, "{node} has been gone for {}", show::duration(*silent))
            }
            Reason::Gone { node, silent: None } => write!(f, "{node} is not a member any more"),
            Reason::Shrink { node, live } => {
                write!(f, "{node} is gone and nothing replaces it: {live} live voters alone can lose one more")
            }
            Reason::Decommissioning { node } => write!(f, "{node} is being decommissioned"),
            Reason::Draining { node } => write!(f, "{node} drains"),
            Reason::Surplus { have, want } => write!(f, "{have} voters where {want} are wanted"),
            Reason::Constraint { constraint } => write!(f, "the voters do not keep {constraint}"),
            Reason::Shared { first, second, tier } => {
                write!(f, "{first} and {second} both stand in {}={}", tier.key, tier.value)
            }
            Reason::NonVoters { tier, have, want } => {
                write!(f, "{have} non-voters in {}={} where {want} are wanted", tier.key, tier.value)
            }
            Reason::Preference { tier } => write!(f, "the leader should stand in {}={}", tier.key, tier.value),
            Reason::MakesWay { node } => write!(f, "the replica on {node} is about to be removed"),
            Reason::Bytes { from, above, to, below } => imbalance(f, "holds", (*from, *above), (*to, *below)),
            Reason::Load { from, above, to, below } => {
                imbalance(f, "bears a load that is", (*from, *above), (*to, *below))
            }
            Reason::Leaders { from, have, to, other } => write!(f, "{from} leads {have} ranges and {to} {other}"),
            Reason::Small { bytes, rate } => together(f, *bytes, *rate),
            Reason::Joins { neighbour, bytes, rate } => {
                write!(f, "it is to be merged with {neighbour}: ")?;
                together(f, *bytes, *rate)
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)?;
        match (self.example, self.ranges) {
            (None, _) => Ok(()),
            (Some(range), 1) => write!(f, " ({range})"),
            (Some(range), 2) => write!(f, " ({range} and 1 other)"),
            (Some(range), ranges) => write!(f, " ({range} and {} others)", ranges - 1),
        }
    }
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RefusalReason::QuorumLost { gone, voters } => {
                let are = if *gone == 1 { "is" } else { "are" };
                write!(f, "{gone} of {voters} voters {are} gone: no quorum, see meridian recover")
            }
            RefusalReason::QuorumSilent { silent, voters } => {
                write!(f, "{silent} of {voters} voters do not answer: no quorum until one comes back")
            }
            RefusalReason::TooFewNodes { have, want } => {
                write!(f, "{have} of {want} voters, and no further node can hold one: add a node, or lower the count")
            }
            RefusalReason::Irreplaceable { node, leaving: true, nodes, replicas } => write!(
                f,
                "{nodes} nodes, replication factor {replicas}: decommissioning {node} is impossible, add a node first"
            ),
            RefusalReason::Irreplaceable { node, leaving: false, nodes, replicas } => {
                write!(f, "{nodes} nodes, replication factor {replicas}: nothing can replace {node}, add a node")
            }
            RefusalReason::NoMatch { constraint } => {
                write!(f, "no live node that is free to take a replica matches {constraint}")
            }
            RefusalReason::DisksFull { full_permille } => write!(
                f,
                "every node that could take a replica has filled {} of its disk: add a node, or space",
                show::percent(*full_permille)
            ),
            RefusalReason::NobodyLeads { node } => {
                write!(f, "the leader is to leave {node}, and no other voter is live, caught up and staying")
            }
            RefusalReason::PreferenceUnmet { tier } => write!(
                f,
                "the leader should stand in {}={}, where no voter stands: constrain one to be there",
                tier.key, tier.value
            ),
            RefusalReason::NonVotersUnmet { tier, have, want } => write!(
                f,
                "{have} of {want} non-voters in {}={}, and no further node there can hold one",
                tier.key, tier.value
            ),
            RefusalReason::NoRoom { bytes, free } => write!(
                f,
                "{} would have to move, and the nodes that stay have room for {}: add a node first",
                show::bytes(*bytes),
                show::bytes(*free)
            ),
        }
    }
}
