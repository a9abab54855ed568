//! What the other nodes say about this node's wall clock, and it about theirs.
//!
//! A report that arrives from the future shows that one of two clocks is wrong, whatever the network did meanwhile; one from
//! the past may just have been on its way for long. So each side judges what it hears, and tells the other: two clocks agree when
//! neither has found the other ahead.

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

/// What is known of one other node's clock.
#[derive(Clone, Copy, Debug)]
struct Evidence {
    /// When the report came, on the monotonic clock.
    at: Duration,
    era: u64,
    /// How far its clock may err.
    error: Duration,
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

    fn agrees(&self) -> bool {
        self.difference().is_none() && self.behind.is_some()
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Agreement {
    others: BTreeMap<NodeId, Option<Evidence>>,
    /// How long a report counts.
    horizon: Duration,
}

impl Agreement {
    /// Nothing is known yet of the other members' clocks.
    pub fn new(others: impl IntoIterator<Item = NodeId>, horizon: Duration) -> Agreement {
        Agreement { others: others.into_iter().map(|node| (node, None)).collect(), horizon }
    }

    /// Takes a report in. `era` is this node's. Reports of strangers are ignored.
    pub fn hear(&mut self, from: NodeId, report: &ClockReport, own: &ClockDomain, era: u64, now: Reading) {
        let Some(slot) = self.others.get_mut(&from) else { return };
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
        *slot = Some(Evidence { at: now.monotonic, era: report.era, error, ahead, elsewhere, behind });
    }

    /// How far the worst of the other clocks may err, as far as is known.
    pub fn peer_error(&self, now: Duration) -> Duration {
        self.fresh(now).map(|(_, e)| e.error).max().unwrap_or_default()
    }

    /// What to tell a node of its last report.
    pub fn verdict(&self, of: NodeId, now: Duration) -> Option<ClockVerdict> {
        let evidence = self.fresh(now).find(|(node, _)| *node == of)?.1;
        let ahead_us = u64::try_from(evidence.ahead.as_micros()).unwrap_or(u64::MAX);
        Some(ClockVerdict { era: evidence.era, ahead_us })
    }

    /// Forgets everything: this node's clock is not what it was.
    pub fn forget(&mut self) {
        self.others.values_mut().for_each(|slot| *slot = None);
    }

    fn fresh(&self, now: Duration) -> impl Iterator<Item = (NodeId, Evidence)> + '_ {
        let known = self.others.iter().filter_map(|(node, evidence)| evidence.map(|e| (*node, e)));
        known.filter(move |(_, e)| now.saturating_sub(e.at) <= self.horizon)
    }

    fn majority(&self) -> usize {
        self.others.len().div_ceil(2) + 1
    }

    /// Whether a majority of all nodes, this one included, share its time.
    pub fn is_confirmed(&self, now: Duration) -> bool {
        let agreeing = self.fresh(now).filter(|(_, e)| e.agrees()).count();
        agreeing + 1 >= self.majority()
    }

    /// Whether so many differ that no majority can share this node's time.
    pub fn is_disputed(&self, now: Duration) -> bool {
        let differing = self.differences(now).len();
        self.others.len() + 1 - differing < self.majority()
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
