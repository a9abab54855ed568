//! What the placement driver sees: the members, and what their nodes have reported.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proto::{NodeId, NodeRecord, NodeState, PlacementRules, RangeDescriptor, RangeId};
use range_split::placement::{Node, NodeIntent, NodeStatus, Picture, Progress, Range, Settings};

use crate::kv::reports::Reports;

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
    pub settings: &'a Settings,
}

/// Whether every member that is not silent has reported everything, and every range is either reported or leaderless for good reason.
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
    let rules = Arc::new(PlacementRules::default());
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
            load: status.load,
            progress: Progress::of_all(status),
            rules: rules.clone(),
            in_flight: sources.in_flight.contains(id),
        };
        ranges.insert(*id, range);
    }
    Picture { now: sources.now, nodes, ranges, settings: sources.settings.clone() }
}

fn unled(descriptor: RangeDescriptor, rules: &Arc<PlacementRules>) -> Range {
    let rules = rules.clone();
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
