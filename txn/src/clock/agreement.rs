//! What the other nodes say about this node's wall clock, and it about theirs.
//!
//! A report that arrives from the future shows that one of two clocks is wrong, whatever the network did meanwhile; one from
//! the past may just have been on its way for long. So each side judges what it hears, and tells the other: two clocks agree when
//! neither has found the other ahead.
//!
//! Members come and go. One that has not begun yet is *heard*: it is judged and told so, for it needs a majority's word to begin;
//! but it counts in nobody's majority but its own, or else one that never begins could keep the others from confirming each other.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use proto::NodeId;
use proto::clock::{ClockDomain, ClockReport, ClockVerdict};

use super::{GRAIN, Reading};

/// How another node's clock differs from this node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Theirs is ahead by at least so much, both errors granted.
    Ahead(Duration),
    /// Theirs is behind by at least so much.
    Behind(Duration),
    /// It is another clock: of another host, or universal time where this node keeps a host's.
    Elsewhere,
}

/// What another node's word is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// It counts in majorities.
    Counted,
    /// It is answered, and counts for nothing.
    Heard,
}

/// Another node.
#[derive(Clone, Copy, Debug)]
struct Other {
    voice: Voice,
    evidence: Option<Evidence>,
}

/// What is known of one other node's clock.
#[derive(Clone, Copy, Debug)]
struct Evidence {
    /// When the report came, on the monotonic clock.
    at: Duration,
    era: u64,
    /// How far its clock may err.
    error: Duration,
    /// How far ahead of the time its clock's readings may have been at most, with the errors that it had before. That grows less as time goes by.
    lead: Duration,
    ahead: Duration,
    elsewhere: bool,
    /// By how much it found this node's clock ahead, if it has said so of this node's era.
    behind: Option<Duration>,
}

impl Evidence {
    fn difference(&self) -> Option<Difference> {
        match (self.elsewhere, self.behind) {
            (true, _) => Some(Difference::Elsewhere),
            (_, _) if !self.ahead.is_zero() => Some(Difference::Ahead(self.ahead)),
            (_, Some(behind)) if !behind.is_zero() => Some(Difference::Behind(behind)),
            _ => None,
        }
    }

    fn lead_at(&self, now: Duration) -> Duration {
        self.error.max(self.lead.saturating_sub(now.saturating_sub(self.at)))
    }

    fn agrees(&self) -> bool {
        self.difference().is_none() && self.behind.is_some()
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Agreement {
    others: BTreeMap<NodeId, Other>,
    /// How long a report counts.
    horizon: Duration,
}

impl Agreement {
    /// Nothing is known yet of the other members' clocks.
    pub fn new(others: impl IntoIterator<Item = NodeId>, horizon: Duration) -> Agreement {
        let other = |node| (node, Other { voice: Voice::Counted, evidence: None });
        Agreement { others: others.into_iter().map(other).collect(), horizon }
    }

    /// From now on these are the other members. What is known of those that stay is kept.
    pub fn set_others(&mut self, others: &BTreeMap<NodeId, Voice>) {
        let known = |node: &NodeId| self.others.get(node).and_then(|other| other.evidence);
        let other = |(node, voice): (&NodeId, &Voice)| (*node, Other { voice: *voice, evidence: known(node) });
        self.others = others.iter().map(other).collect();
    }

    /// Takes a report in. `era` is this node's. Reports of strangers are ignored: says whether it was none.
    pub fn hear(&mut self, from: NodeId, report: &ClockReport, own: &ClockDomain, era: u64, now: Reading) -> bool {
        let Some(slot) = self.others.get_mut(&from) else { return false };
        let elsewhere = match (own, &report.domain) {
            (ClockDomain::Utc, ClockDomain::Utc) => false,
            (ClockDomain::Host { boot: mine, .. }, ClockDomain::Host { boot, .. }) => mine != boot,
            _ => true,
        };
        let latest = now.wall.plus(now.error).plus(GRAIN);
        // What it made of an earlier clock of this node's says nothing of the present one.
        let behind = report.heard.filter(|verdict| verdict.era == era).map(|verdict| verdict.ahead());
        let ahead = report.earliest.since(latest);
        let error = report.latest.since(report.earliest) / 2;
        let lead = slot.evidence.map_or(Duration::ZERO, |before| before.lead_at(now.monotonic));
        slot.evidence = Some(Evidence { at: now.monotonic, era: report.era, error, lead, ahead, elsewhere, behind });
        true
    }

    /// How far ahead of true time others may be for the errors of their clocks, as far as is known: of the present ones, and of greater ones
    /// that they had before. Whoever has adopted a reading then may still show it.
    pub fn peer_lead(&self, now: Duration) -> Duration {
        self.known(now).map(|(_, _, e)| e.lead_at(now)).max().unwrap_or_default()
    }

    /// What to tell a node of its last report.
    pub fn verdict(&self, of: NodeId, now: Duration) -> Option<ClockVerdict> {
        let evidence = self.known(now).find(|(node, _, _)| *node == of)?.2;
        let ahead_us = u64::try_from(evidence.ahead.as_micros()).unwrap_or(u64::MAX);
        Some(ClockVerdict { era: evidence.era, ahead_us })
    }

    /// Forgets everything: this node's clock is not what it was.
    pub fn forget(&mut self) {
        self.others.values_mut().for_each(|other| other.evidence = None);
    }

    /// What was heard of anybody lately.
    fn known(&self, now: Duration) -> impl Iterator<Item = (NodeId, Voice, Evidence)> + '_ {
        let known = self.others.iter().filter_map(|(node, other)| other.evidence.map(|e| (*node, other.voice, e)));
        known.filter(move |(_, _, e)| now.saturating_sub(e.at) <= self.horizon)
    }

    /// What was heard lately of those that count.
    fn fresh(&self, now: Duration) -> impl Iterator<Item = (NodeId, Evidence)> + '_ {
        self.known(now).filter(|(_, voice, _)| *voice == Voice::Counted).map(|(node, _, e)| (node, e))
    }

    /// How many others count.
    fn counted(&self) -> usize {
        self.others.values().filter(|other| other.voice == Voice::Counted).count()
    }

    fn majority(&self) -> usize {
        self.counted().div_ceil(2) + 1
    }

    /// Whether a majority of all nodes, this one included, share its time.
    pub fn is_confirmed(&self, now: Duration) -> bool {
        let agreeing = self.fresh(now).filter(|(_, e)| e.agrees()).count();
        agreeing + 1 >= self.majority()
    }

    /// Whether so many differ that no majority can share this node's time.
    pub fn is_disputed(&self, now: Duration) -> bool {
        let differing = self.differences(now).len();
        self.counted() + 1 - differing < self.majority()
    }

    /// Who differs, and how.
    pub fn differences(&self, now: Duration) -> Vec<(NodeId, Difference)> {
        self.fresh(now).filter_map(|(node, e)| Some((node, e.difference()?))).collect()
    }
}

impl fmt::Display for Difference {
    /// Continues "the clock of n2 ...".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Ahead(by) => write!(f, "is ahead by {by:?} or more"),
            Difference::Behind(by) => write!(f, "is behind by {by:?} or more"),
            Difference::Elsewhere => {
                f.write_str("is another one: it runs on another host, or has another --clock-source")
            }
        }
    }
}
