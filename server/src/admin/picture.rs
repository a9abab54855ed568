//! What the placement driver sees: the members, and what their nodes have reported.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proto::{Key, NodeId, NodeRecord, NodeState, PlacementRules, RangeDescriptor, RangeId, Span};
use range_split::placement::{Node, NodeIntent, NodeStatus, Picture, Progress, Range, Settings};
use range_split::policy::SplitLimits;

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
    pub limits: &'a SplitLimits,
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
        ranges.insert(descriptor.id, unled(descriptor.clone(), &rules));
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
            size: status.bytes,
            load: status.load,
            progress: Progress::of_all(status),
            rules: rules.of(&status.descriptor),
            pinned: status.pinned || rules.begin_or_end_at(&status.descriptor.start),
            in_flight: status.frozen.is_some() || sources.in_flight.contains(id),
        };
        ranges.insert(*id, range);
    }
    for id in outdated(ranges.values().map(|range| &range.descriptor)) {
        ranges.remove(&id);
    }
    Picture { now: sources.now, nodes, ranges, settings: sources.settings.clone(), limits: sources.limits.clone() }
}

/// Ranges whose keys another one holds that is newer: they were merged into it, or split since, and this has not been reported yet.
pub fn outdated<'a>(ranges: impl Iterator<Item = &'a RangeDescriptor>) -> Vec<RangeId> {
    let mut order: Vec<&RangeDescriptor> = ranges.collect();
    order.sort_by_key(|descriptor| &descriptor.start);
    let mut outdated = Vec::new();
    let mut last: Option<&RangeDescriptor> = None;
    for descriptor in order {
        match last.filter(|last| last.end > descriptor.start) {
            Some(last) if last.epoch >= descriptor.epoch => {
                outdated.push(descriptor.id);
                continue;
            }
            Some(last) => outdated.push(last.id),
            None => {}
        }
        last = Some(descriptor);
    }
    outdated
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

    /// Whether one of the wishes is for keys up to here, or from here on. Though what lies on both sides keeps to the same rules, it is not to
    /// be merged: a range that holds more than one wish speaks of keeps to none.
    fn begin_or_end_at(&self, key: &Key) -> bool {
        let before = self.wished.partition_point(|(span, _)| span.start < *key);
        let begins = self.wished.get(before).is_some_and(|(span, _)| span.start == *key);
        begins || before.checked_sub(1).is_some_and(|place| self.wished[place].0.end == *key)
    }
}

fn unled(descriptor: RangeDescriptor, rules: &Rules<'_>) -> Range {
    let rules = rules.of(&descriptor);
    let (bytes, size, load, progress) = (0, 0, 0, BTreeMap::new());
    Range { descriptor, leader: None, bytes, size, load, progress, rules, pinned: false, in_flight: false }
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
