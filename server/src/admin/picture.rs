//! What the placement driver sees: the members, and what their nodes have reported.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proto::{NodeId, NodeRecord, NodeState, PlacementRules, RangeDescriptor, RangeId, Span};
use range_split::placement::{Node, NodeIntent, NodeStatus, Picture, Progress, Range, Settings};

use crate::kv::reports::Reports;
use crate::kv::wishes::Wish;

/// A node that has not reported for so long is not counted on.
pub const SUSPECT_AFTER: Duration = Duration::from_secs(5);

/// What an empty range weighs when replicas are balanced: small ranges are spread by their number.
const RANGE_BYTES: u64 = 8 << 20;

/// What pictures are made from.
pub struct Sources<'a> {
    pub now: Duration,
    /// Since when this driver has been listening: nobody is silent for longer than that.
    pub since: Duration,
    pub members: &'a [NodeRecord],
    pub reports: &'a Reports,
    /// All ranges, as the meta range has them; those that nobody reports have no leader.
    pub descriptors: &'a [RangeDescriptor],
    pub in_flight: &'a BTreeSet<RangeId>,
    /// What operators wish for parts of the key space, in order.
    pub wishes: &'a [Wish],
    pub settings: &'a Settings,
}

/// Whether every member has reported everything that it leads, or has been silent for long enough.
pub fn is_whole(sources: &Sources<'_>) -> bool {
    let listening = sources.now.saturating_sub(sources.since);
    let heard = |member: &NodeRecord| {
        let reported = sources.reports.nodes.get(&member.descriptor.id);
        reported.is_some_and(|reported| reported.whole) || listening >= SUSPECT_AFTER
    };
    sources.members.iter().filter(|member| member.state.counts()).all(heard)
}

/// The cluster as far as it is known.
pub fn picture(sources: &Sources<'_>) -> Picture {
    let nodes: BTreeMap<NodeId, Node> =
        sources.members.iter().map(|member| (member.descriptor.id, node(sources, member))).collect();
    let rules = Rules::new(sources.wishes);
    let silent = |node: NodeId| nodes.get(&node).is_none_or(|node| !node.is_live());
    let mut ranges = BTreeMap::new();
    for descriptor in sources.descriptors {
        ranges.insert(descriptor.id, unled(descriptor.clone(), rules.of(descriptor)));
    }
    for (id, status) in &sources.reports.ranges {
        let leader = Some(status.leader).filter(|leader| !silent(*leader));
        let known = ranges.get(id).is_none_or(|range| range.descriptor.epoch <= status.descriptor.epoch);
        if !known {
            continue;
        }
        let range = Range {
            descriptor: status.descriptor.clone(),
            leader,
            bytes: status.bytes + RANGE_BYTES,
            load: status.load,
            progress: Progress::of_all(status),
            rules: rules.of(&status.descriptor),
            in_flight: sources.in_flight.contains(id),
        };
        ranges.insert(*id, range);
    }
    Picture { now: sources.now, nodes, ranges, settings: sources.settings.clone() }
}

/// Which rules hold where.
struct Rules<'a> {
    wished: Vec<(&'a Span, Arc<PlacementRules>)>,
    default: Arc<PlacementRules>,
}

impl Rules<'_> {
    fn new(wishes: &[Wish]) -> Rules<'_> {
        let wished = wishes.iter().map(|wish| (&wish.span, Arc::new(wish.rules.clone()))).collect();
        Rules { wished, default: Arc::default() }
    }

    /// A range keeps to the wish for all of its keys. One that holds others as well, and so is to be split, keeps to no wish.
    fn of(&self, range: &RangeDescriptor) -> Arc<PlacementRules> {
        let before = self.wished.partition_point(|(span, _)| span.start <= range.start);
        let nearest = before.checked_sub(1).and_then(|place| self.wished.get(place));
        let covering = nearest.filter(|(span, _)| span.covers(&range.span()));
        covering.map_or_else(|| self.default.clone(), |(_, rules)| rules.clone())
    }
}

fn unled(descriptor: RangeDescriptor, rules: Arc<PlacementRules>) -> Range {
    Range { descriptor, leader: None, bytes: 0, load: 0, progress: BTreeMap::new(), rules, in_flight: false }
}

fn node(sources: &Sources<'_>, member: &NodeRecord) -> Node {
    let reported = sources.reports.nodes.get(&member.descriptor.id);
    let heard = reported.map_or(sources.since, |reported| reported.heard.max(sources.since));
    let silent = sources.now.saturating_sub(heard) >= SUSPECT_AFTER;
    Node {
        locality: member.descriptor.locality.clone(),
        status: if silent { NodeStatus::Suspect { since: heard } } else { NodeStatus::Live },
        intent: match member.state {
            NodeState::Active => NodeIntent::Serve,
            // It has not started yet: nothing may be given to it.
            NodeState::Joining | NodeState::Draining => NodeIntent::Drain,
            NodeState::Decommissioning => NodeIntent::Decommission,
            NodeState::Decommissioned => NodeIntent::Decommissioned,
        },
        bytes_used: reported.map_or(0, |reported| reported.bytes_used),
        bytes_capacity: reported.map_or(0, |reported| reported.bytes_capacity),
    }
}
