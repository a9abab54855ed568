//! The picture, made ready for planning: nodes and rules by number, and sums that grow with the plan.
//!
//! A replica that is on its way counts at its goal and no more at its source, so that what is under way is not planned twice. Bytes
//! are those of ranges, not what disks report: the two differ by compression and by what is not yet compacted, and only the former
//! follow from a plan.

use std::collections::BTreeMap;

use proto::placement::{Constraint, Demand};
use proto::{Locality, NodeId, PlacementRules, RangeId, ReplicaRole};

use super::memory::{Memory, Move};
use super::picture::{Node, Picture, Progress, Range};

/// A node's place in [`Ledger::nodes`].
pub type Place = usize;

/// See the module.
pub struct Ledger<'a> {
    pub picture: &'a Picture,
    pub memory: Memory,
    pub nodes: Vec<NodeEntry<'a>>,
    pub rulebook: Vec<RuleEntry>,
    pub ranges: Vec<RangeEntry<'a>>,
    /// Replicas on their way, in parts of which `Settings::small_moves` make one.
    moves: usize,
    places: BTreeMap<NodeId, Place>,
    /// What two replicas on a pair of nodes cost: see [`pair_penalty`].
    penalties: Vec<u64>,
}

/// A node with its sums.
pub struct NodeEntry<'a> {
    pub id: NodeId,
    /// Nothing if a replica names a node that the picture does not know.
    pub node: Option<&'a Node>,
    pub may_receive: bool,
    pub may_lead: bool,
    pub is_live: bool,
    pub is_gone: bool,
    pub is_leaving: bool,
    pub bytes: u64,
    /// The disk's capacity in thousandths of the mean.
    pub weight: u64,
    /// Of the ranges that it leads.
    pub load: u64,
    pub leaders: u64,
    /// Replicas on their way to it, and from leaders on it, in the same parts.
    incoming: usize,
    sending: usize,
}

/// Rules with what they mean for each node.
pub struct RuleEntry {
    /// Whether a voter may stand on each node.
    pub allowed: Vec<bool>,
    /// Constraints that want a number of voters, and who counts.
    pub counts: Vec<(u32, Vec<bool>)>,
    /// For each node, the first leader preference that it meets; their number if none.
    pub preference: Vec<usize>,
}

/// A range with its members by place.
pub struct RangeEntry<'a> {
    pub id: RangeId,
    pub range: &'a Range,
    pub rule: usize,
    pub voters: Vec<Place>,
    pub leader: Option<Place>,
}

impl NodeEntry<'_> {
    /// Bytes as if its disk were of mean size.
    pub fn fill(&self) -> u64 {
        scaled(self.bytes, self.weight)
    }
}

/// An amount on a disk of some weight, as if it were of mean size.
pub fn scaled(bytes: u64, weight: u64) -> u64 {
    u64::try_from(u128::from(bytes) * 1000 / u128::from(weight.max(1))).unwrap_or(u64::MAX)
}

/// What it costs that two replicas stand at two localities: the wider a domain they share, the more; one wider domain costs more than
/// all pairs of a range in narrower ones.
fn pair_penalty(a: &Locality, b: &Locality) -> u64 {
    const BASE: u64 = 64;
    let depth = Locality::TIERS_MAX as u32;
    let shared = a.shared_with(b) as u32;
    (1..=shared).map(|tier| BASE.pow(depth - tier)).sum()
}

impl<'a> Ledger<'a> {
    pub fn new(picture: &'a Picture, memory: &Memory) -> Ledger<'a> {
        let memory = memory.pruned(picture);
        let nodes = node_entries(picture);
        let places: BTreeMap<NodeId, Place> = nodes.iter().enumerate().map(|(place, n)| (n.id, place)).collect();
        let nowhere = Locality::default();
        let locality = |n: &NodeEntry<'a>| n.node.map_or(&nowhere, |n| &n.locality);
        let penalties = nodes
            .iter()
            .flat_map(|a| nodes.iter().map(move |b| (a, b)))
            .map(|(a, b)| pair_penalty(locality(a), locality(b)))
            .collect();
        let mut ledger =
            Ledger { picture, memory, nodes, rulebook: Vec::new(), ranges: Vec::new(), moves: 0, places, penalties };
        ledger.enter_ranges();
        ledger
    }

    /// A node's place. Every node of the picture has one, and every node that holds a replica.
    pub fn place(&self, node: NodeId) -> Place {
        self.places[&node]
    }

    /// The voter that a replica on its way is to replace, if it still is one.
    pub fn intended(&self, range: &RangeEntry<'_>, going: &Move) -> Option<Place> {
        let place = self.places.get(&going.remove?).copied();
        place.filter(|place| range.voters.contains(place))
    }

    fn enter_ranges(&mut self) {
        let mut known: BTreeMap<&'a PlacementRules, usize> = BTreeMap::new();
        for (id, range) in &self.picture.ranges {
            let rules = range.rules.as_ref();
            let rule = *known.entry(rules).or_insert_with(|| {
                self.rulebook.push(RuleEntry::new(rules, &self.nodes));
                self.rulebook.len() - 1
            });
            let voters = range.descriptor.voters().filter(|r| r.role != ReplicaRole::Outgoing);
            let voters = voters.map(|r| self.places[&r.node]).collect();
            let leader = range.leader.filter(|l| range.descriptor.replica_on(*l).is_some());
            let leader = leader.map(|node| self.places[&node]);
            let entry = RangeEntry { id: *id, range, rule, voters, leader };
            self.count_range(&entry);
            self.ranges.push(entry);
        }
    }

    /// Adds what a range means for its nodes.
    fn count_range(&mut self, entry: &RangeEntry<'a>) {
        let range = entry.range;
        let going = self.memory.moves.get(&entry.id).cloned();
        let going = going.filter(|g| self.places.contains_key(&g.add));
        for replica in range.descriptor.replicas.iter().filter(|r| r.role != ReplicaRole::Outgoing) {
            let leaves = going.as_ref().is_some_and(|g| g.remove == Some(replica.node));
            if !leaves {
                self.nodes[self.places[&replica.node]].bytes += range.bytes;
            }
            let arrives = going.as_ref().is_some_and(|g| g.add == replica.node);
            let is_far = entry.progress(replica.node) != Progress::CaughtUp;
            if replica.role == ReplicaRole::Learner || (arrives && replica.role == ReplicaRole::NonVoter && is_far) {
                self.start_move(range, self.places[&replica.node], entry.leader);
            }
        }
        if let Some(going) = going.filter(|g| range.descriptor.replica_on(g.add).is_none()) {
            let place = self.places[&going.add];
            self.nodes[place].bytes += range.bytes;
            self.start_move(range, place, entry.leader);
        }
        if let Some(leader) = entry.leader {
            self.nodes[leader].load += range.load;
            self.nodes[leader].leaders += 1;
        }
    }

    /// Counts a replica on its way.
    pub fn start_move(&mut self, range: &Range, to: Place, leader: Option<Place>) {
        let settings = &self.picture.settings;
        let parts = if range.size <= settings.small_bytes { 1 } else { settings.small_moves };
        self.moves += parts;
        self.nodes[to].incoming += parts;
        if let Some(leader) = leader {
            self.nodes[leader].sending += parts;
        }
    }

    /// Whether less is on its way than so many replicas.
    fn is_below(&self, parts: usize, replicas_max: usize) -> bool {
        parts < replicas_max.saturating_mul(self.picture.settings.small_moves)
    }

    /// Whether one more replica may be sent.
    pub fn may_send(&self, leader: Option<Place>) -> bool {
        let settings = &self.picture.settings;
        let free = leader.is_none_or(|l| self.is_below(self.nodes[l].sending, settings.moves_per_node_max));
        free && self.is_below(self.moves, settings.moves_max)
    }

    /// Whether one more replica may be on its way to a node.
    pub fn has_slot(&self, place: Place) -> bool {
        self.is_below(self.nodes[place].incoming, self.picture.settings.moves_per_node_max)
    }

    /// How far voters on these nodes are from what the rules and the failure domains ask: the less the better, rules first.
    pub fn score(&self, rule: usize, voters: &[Place]) -> Score {
        let rule = &self.rulebook[rule];
        let forbidden = voters.iter().filter(|v| !rule.allowed[**v]).count();
        let missing = |(want, counts): &(u32, Vec<bool>)| {
            (*want as usize).saturating_sub(voters.iter().filter(|v| counts[**v]).count())
        };
        let violations = forbidden + rule.counts.iter().map(missing).sum::<usize>();
        let mut penalty = 0;
        for (n, a) in voters.iter().enumerate() {
            penalty += voters[..n].iter().map(|b| self.penalties[a * self.nodes.len() + b]).sum::<u64>();
        }
        Score { violations, penalty }
    }

    /// The part of a score that the failure domains make: what a voter costs beside others.
    pub fn shares_with(&self, place: Place, voters: &[Place]) -> Option<Place> {
        let cost = |other: &Place| self.penalties[place * self.nodes.len() + other];
        voters.iter().copied().filter(|v| *v != place && cost(v) > 0).max_by_key(|v| (cost(v), usize::MAX - v))
    }
}

/// See [`Ledger::score`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score {
    pub violations: usize,
    pub penalty: u64,
}

fn node_entries(picture: &Picture) -> Vec<NodeEntry<'_>> {
    let mut all: BTreeMap<NodeId, Option<&Node>> = picture.nodes.iter().map(|(id, node)| (*id, Some(node))).collect();
    for replica in picture.ranges.values().flat_map(|r| &r.descriptor.replicas) {
        all.entry(replica.node).or_default();
    }
    let (now, settings) = (picture.now, &picture.settings);
    let capacities: Vec<u64> = picture.nodes.values().map(|n| n.bytes_capacity).filter(|c| *c > 0).collect();
    let mean = capacities.iter().map(|c| u128::from(*c)).sum::<u128>() / capacities.len().max(1) as u128;
    let weight = |node: &Node| match u128::from(node.bytes_capacity) * 1000 {
        0 => 1000,
        capacity => u64::try_from(capacity / mean.max(1)).unwrap_or(u64::MAX).max(1),
    };
    all.into_iter()
        .map(|(id, node)| NodeEntry {
            id,
            node,
            may_receive: node.is_some_and(|n| n.may_receive(settings)),
            may_lead: node.is_some_and(Node::may_lead),
            is_live: node.is_some_and(Node::is_live),
            is_gone: node.is_none_or(|n| n.is_gone(now, settings)),
            is_leaving: node.is_none_or(Node::is_leaving),
            bytes: 0,
            weight: node.map_or(1000, weight),
            load: 0,
            leaders: 0,
            incoming: 0,
            sending: 0,
        })
        .collect()
}

impl RuleEntry {
    fn new(rules: &PlacementRules, nodes: &[NodeEntry<'_>]) -> RuleEntry {
        let matching = |constraint: &Constraint| -> Vec<bool> {
            nodes.iter().map(|n| n.node.is_some_and(|n| constraint.matches(&n.locality))).collect()
        };
        let mut allowed = vec![true; nodes.len()];
        let mut counts = Vec::new();
        for constraint in &rules.constraints {
            let matching = matching(constraint);
            let wanted = match constraint.demand {
                Demand::AtLeast(want) => {
                    counts.push((want, matching));
                    continue;
                }
                Demand::Required => true,
                Demand::Forbidden => false,
            };
            allowed.iter_mut().zip(matching).for_each(|(allowed, matches)| *allowed &= matches == wanted);
        }
        let rank = |locality: &Locality| {
            let meets = |tier: &proto::locality::Tier| locality.get(&tier.key) == Some(tier.value.as_str());
            rules.leader_preferences.iter().position(meets).unwrap_or(rules.leader_preferences.len())
        };
        let preference = nodes.iter().map(|n| n.node.map_or(usize::MAX, |n| rank(&n.locality))).collect();
        RuleEntry { allowed, counts, preference }
    }
}

impl RangeEntry<'_> {
    pub fn progress(&self, node: NodeId) -> Progress {
        self.range.progress.get(&node).copied().unwrap_or(Progress::Lagging)
    }

    /// The places of its non-voters.
    pub fn non_voters(&self, ledger: &Ledger<'_>) -> Vec<Place> {
        let replicas = self.range.descriptor.replicas.iter().filter(|r| r.role == ReplicaRole::NonVoter);
        replicas.map(|r| ledger.place(r.node)).collect()
    }

    /// Voters that the rules want.
    pub fn wanted(&self, picture: &Picture) -> usize {
        self.range.rules.replicas.unwrap_or(picture.settings.replicas).max(1) as usize
    }

    /// Whether some replica of it stands on a node.
    pub fn holds(&self, node: NodeId) -> bool {
        self.range.descriptor.replica_on(node).is_some()
    }

    /// The voters with one replaced.
    pub fn voters_with(&self, remove: Option<Place>, add: Place) -> Vec<Place> {
        let kept = self.voters.iter().copied().filter(|v| Some(*v) != remove);
        kept.chain([add]).collect()
    }
}
