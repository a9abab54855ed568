//! What nodes have reported of the ranges that they lead, where a placement driver may run.
//!
//! Reports go to every node with a replica of the meta range, so that whoever leads it next has a picture already. They tell of what has changed,
//! and may be lost or late: whoever finds that he lacks something asks for a full one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proto::range::RangeStatus;
use proto::report::StoreReport;
use proto::{NodeId, RangeId};

use super::api::NodeHoldings;
use crate::store::recover::META_RANGE;

/// What was reported so long ago is not told any more.
const STALE_AFTER: Duration = Duration::from_secs(10);

/// A node whose ranges are counted differently here, though no report of it is missing, is asked for everything only so often: while
/// leaders change, that is so for moments.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// What one node said.
#[derive(Clone, Debug, Default)]
pub struct Reported {
    /// When it was last heard, on this node's monotonic clock.
    pub heard: Duration,
    pub bytes_used: u64,
    pub bytes_capacity: u64,
    pub replicas: u64,
    /// Whether everything it leads is known.
    pub whole: bool,
    number: u64,
    /// Ranges that it leads, as far as is known here.
    leads: u64,
    /// When it was last asked for everything because that is not what it says.
    asked: Option<Duration>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Reports {
    pub nodes: BTreeMap<NodeId, Reported>,
    /// Each range as its leader last told of it. Changed by [`Reports::put`] and [`Reports::remove`] only.
    pub ranges: BTreeMap<RangeId, RangeStatus>,
    /// When anything of this was last seen to change.
    pub changed: Duration,
    /// When a descriptor was last seen to change, or a range to come or go.
    pub described: Duration,
}

impl Reports {
    /// What a node holds, if it has lately said so.
    pub fn holdings(&self, node: NodeId, now: Duration) -> Option<NodeHoldings> {
        let reported = self.nodes.get(&node).filter(|reported| now.saturating_sub(reported.heard) < STALE_AFTER)?;
        let (replicas, bytes) = (reported.replicas, reported.bytes_used);
        Some(NodeHoldings { replicas, leads: reported.leads, bytes })
    }

    /// The connection to a node broke: whoever reports next may be a new process, which counts from one. It has to tell of everything
    /// before it counts as known again.
    pub fn lost(&mut self, node: NodeId) {
        if let Some(reported) = self.nodes.get_mut(&node) {
            reported.number = 0;
            reported.whole = false;
        }
    }

    fn put(&mut self, status: RangeStatus) -> Option<RangeStatus> {
        self.nodes.entry(status.leader).or_default().leads += 1;
        let old = self.ranges.insert(status.descriptor.id, status);
        if let Some(node) = old.as_ref().and_then(|old| self.nodes.get_mut(&old.leader)) {
            node.leads -= 1;
        }
        old
    }

    fn remove(&mut self, range: RangeId) {
        let old = self.ranges.remove(&range);
        if let Some(node) = old.and_then(|old| self.nodes.get_mut(&old.leader)) {
            node.leads -= 1;
        }
    }

    /// Takes in a report. Says whether the node is to be asked for a full one, as something is missing.
    #[must_use]
    pub fn hear(&mut self, now: Duration, from: NodeId, report: StoreReport) -> bool {
        let node = self.nodes.entry(from).or_default();
        // The first word of a new process, however short a time the one before it has lived.
        if report.full && report.number == 1 {
            node.number = 0;
        }
        // A report that comes after a later one of the same process is old; a small number is that of a new process.
        if report.number < node.number && report.number + 100 > node.number {
            return false;
        }
        // What came between is lost.
        if !report.full && report.number != node.number + 1 {
            node.whole = false;
        }
        let before = node.whole;
        node.whole |= report.full;
        let mut news = before != node.whole;
        let mut described = false;
        node.number = report.number;
        node.heard = now;
        node.bytes_used = report.bytes_used;
        node.bytes_capacity = report.bytes_capacity;
        node.replicas = report.replicas;
        if report.full {
            let told: BTreeSet<RangeId> = report.ranges.iter().map(|status| status.descriptor.id).collect();
            let gone =
                self.ranges.values().filter(|status| status.leader == from && !told.contains(&status.descriptor.id));
            let gone: Vec<RangeId> = gone.map(|status| status.descriptor.id).collect();
            described |= !gone.is_empty();
            gone.into_iter().for_each(|range| self.remove(range));
        }
        for range in report.lost {
            if self.ranges.get(&range).is_some_and(|status| status.leader == from) {
                self.remove(range);
                described = true;
            }
        }
        for status in report.ranges {
            let id = status.descriptor.id;
            if self.ranges.get(&id).is_none_or(|known| known.descriptor.epoch <= status.descriptor.epoch) {
                let (old, new) = (self.put(status), &self.ranges[&id]);
                news |= old.as_ref().is_none_or(|old| is_news(old, new));
                described |= old.is_none_or(|old| old.descriptor != new.descriptor);
            }
        }
        if described {
            self.described = now;
        }
        if news || described {
            self.changed = now;
        }
        self.lacks(now, from, report.leads)
    }

    /// Whether something is missing of what a node has told: a report, or a range that an older word of somebody else has displaced.
    fn lacks(&mut self, now: Duration, from: NodeId, leads: u64) -> bool {
        let Some(node) = self.nodes.get_mut(&from) else { return false };
        let differs = node.leads != leads && node.asked.is_none_or(|asked| now >= asked + ASK_AGAIN);
        if differs {
            node.asked = Some(now);
        }
        differs || !node.whole
    }
}

/// Whether there is anything in a report that the placement driver was waiting for. It reads the meta range itself: how much that is asked, and has grown by
/// closing timestamps, would keep it looking for ever.
fn is_news(old: &RangeStatus, new: &RangeStatus) -> bool {
    if new.descriptor.id != META_RANGE {
        return old != new;
    }
    let (last_index, bytes, load) = (new.last_index, new.bytes, new.load);
    let replicas = new.replicas.clone();
    RangeStatus { replicas, last_index, bytes, load, ..old.clone() } != *new
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::{Epoch, Key, RangeDescriptor, Span};

    fn status(range: u64, epoch: u64, leader: u64) -> RangeStatus {
        let span = Span { start: Key::MIN, end: Key::max() };
        let descriptor = RangeDescriptor::new(RangeId(range), span, Epoch(epoch), Vec::new());
        let leader = NodeId(leader);
        RangeStatus {
            descriptor,
            replicas: Vec::new(),
            last_index: 0,
            leader,
            bytes: 0,
            load: 0,
            note: None,
            frozen: None,
            pinned: false,
        }
    }

    fn report(number: u64, full: bool, ranges: Vec<RangeStatus>) -> StoreReport {
        let leads = ranges.len() as u64;
        StoreReport { number, full, ranges, leads, ..StoreReport::default() }
    }

    #[test]
    fn a_gap_in_the_reports_is_closed_by_the_next_full_one() {
        let mut reports = Reports::default();
        let n1 = NodeId(1);
        assert!(!reports.hear(Duration::ZERO, n1, report(1, true, vec![status(1, 1, 1)])));
        assert!(reports.nodes[&n1].whole);
        assert!(reports.hear(Duration::ZERO, n1, report(3, false, vec![status(2, 1, 1)])), "a full one is asked for");
        assert!(!reports.nodes[&n1].whole);
        assert_eq!(reports.ranges.len(), 2);
        assert!(!reports.hear(Duration::ZERO, n1, report(4, true, vec![status(2, 1, 1)])));
        assert!(reports.nodes[&n1].whole);
        assert_eq!(reports.ranges.len(), 1, "it leads the first one no more");
    }

    #[test]
    fn a_range_that_a_late_word_has_displaced_is_missed() {
        let mut reports = Reports::default();
        let (n1, n2) = (NodeId(1), NodeId(2));
        assert!(!reports.hear(Duration::ZERO, n1, report(1, true, vec![status(1, 1, 1)])));
        // By then n2 leads it, and has said so. The late word of n1, and that it leads it no more, leave nobody.
        assert!(!reports.hear(Duration::ZERO, n2, report(1, true, vec![status(1, 1, 2)])));
        let _ = reports.hear(Duration::ZERO, n1, report(2, false, vec![status(1, 1, 1)]));
        let lost = StoreReport { lost: vec![RangeId(1)], leads: 0, ..report(3, false, Vec::new()) };
        assert!(!reports.hear(Duration::ZERO, n1, lost));
        assert!(reports.ranges.is_empty());
        let next = |number| StoreReport { leads: 1, ..report(number, false, Vec::new()) };
        assert!(reports.hear(Duration::ZERO, n2, next(2)));
        assert!(!reports.hear(Duration::ZERO, n2, next(3)), "it was asked just now");
        assert!(reports.hear(ASK_AGAIN, n2, next(4)));
        assert!(!reports.hear(ASK_AGAIN, n2, report(5, true, vec![status(1, 1, 2)])));
        assert_eq!(reports.nodes[&n2].leads, 1);
    }

    #[test]
    fn a_node_that_is_started_again_soon_is_heard_at_once() {
        let mut reports = Reports::default();
        let n1 = NodeId(1);
        let second = Duration::from_secs(1);
        let _ = reports.hear(Duration::ZERO, n1, report(1, true, Vec::new()));
        let _ = reports.hear(Duration::ZERO, n1, report(40, true, Vec::new()));
        let _ = reports.hear(second, n1, report(39, false, Vec::new()));
        assert_eq!(reports.nodes[&n1].heard, Duration::ZERO, "this one was late");
        let _ = reports.hear(second, n1, report(1, true, Vec::new()));
        assert_eq!(reports.nodes[&n1].heard, second);
        // Where its first report does not arrive, its connection has at least been lost.
        let _ = reports.hear(second, n1, report(40, true, Vec::new()));
        reports.lost(n1);
        let _ = reports.hear(2 * second, n1, report(2, false, vec![status(2, 1, 1)]));
        assert!(reports.nodes[&n1].heard == 2 * second && !reports.nodes[&n1].whole);
    }

    #[test]
    fn an_old_leader_does_not_overrule_a_newer_descriptor() {
        let mut reports = Reports::default();
        let _ = reports.hear(Duration::ZERO, NodeId(2), report(1, true, vec![status(1, 5, 2)]));
        let _ = reports.hear(Duration::ZERO, NodeId(1), report(9, true, vec![status(1, 4, 1)]));
        assert_eq!(reports.ranges[&RangeId(1)].leader, NodeId(2));
    }
}
