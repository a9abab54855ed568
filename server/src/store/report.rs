//! What a store reports to the placement driver: of the ranges that it leads, those that have changed.
//!
//! It tells of all of them when it starts, and when somebody who has missed something asks for that; seldom by itself. So a report costs what
//! has changed since the last one, however many ranges there are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proto::RangeId;
use proto::range::RangeStatus;
use proto::report::StoreReport;

use super::event::Effect;
use super::machine::Store;

/// What was reported last.
#[derive(Debug, Default)]
pub struct Reporting {
    number: u64,
    reported: Duration,
    reported_all: Option<Duration>,
    known: BTreeMap<RangeId, RangeStatus>,
    /// Ranges whose replicas here have stepped since: none of the others has anything new to say.
    pub changed: BTreeSet<RangeId>,
}

impl Reporting {
    /// Somebody has missed a report.
    pub fn everything_is_wanted(&mut self) {
        self.reported_all = None;
    }
}

/// Whether two amounts differ by more than a tenth, and more than a little.
fn differs(a: u64, b: u64, little: u64) -> bool {
    a.abs_diff(b) > (a.max(b) / 10).max(little)
}

/// Whether a driver would decide anything else by the second.
fn is_news(old: &RangeStatus, new: &RangeStatus) -> bool {
    const BYTES: u64 = 64 << 10;
    const LOAD: u64 = 5;
    let ready = |status: &RangeStatus| -> Vec<(bool, bool)> {
        status.replicas.iter().map(|r| (r.needs_snapshot, r.has_caught_up(status.last_index))).collect()
    };
    old.descriptor.epoch != new.descriptor.epoch
        || old.note != new.note
        || old.pinned != new.pinned
        || old.frozen != new.frozen
        || ready(old) != ready(new)
        || differs(old.bytes, new.bytes, BYTES)
        || differs(old.load, new.load, LOAD)
}

impl Store {
    pub(super) fn tick_report(&mut self, now: Duration, out: &mut Vec<Effect>) {
        let knobs = &self.config.knobs;
        if now < self.reporting.reported + knobs.report_every {
            return;
        }
        let full = self.reporting.reported_all.is_none_or(|at| now >= at + knobs.report_all_every);
        let changed = std::mem::take(&mut self.reporting.changed);
        let looked_at: Vec<RangeId> = match full {
            true => self.replicas.keys().copied().collect(),
            false => changed.into_iter().collect(),
        };
        let mut lost = Vec::new();
        let mut ranges = Vec::new();
        let Reporting { number, reported, reported_all, known, .. } = &mut self.reporting;
        if full {
            *reported_all = Some(now);
            lost.extend(known.keys().filter(|id| !self.replicas.contains_key(id)));
        }
        for id in looked_at {
            let mut replica = self.replicas.get_mut(&id);
            if let Some(replica) = &mut replica {
                replica.listing.changed = false;
            }
            let Some(replica) = replica.filter(|replica| replica.is_serving()) else {
                lost.extend(known.remove(&id).map(|_| id));
                continue;
            };
            let status = replica.status();
            if full || known.get(&id).is_none_or(|old| is_news(old, &status)) {
                known.insert(id, status.clone());
                ranges.push(status);
            }
        }
        if full {
            known.retain(|id, _| self.replicas.contains_key(id));
        }
        *number += 1;
        *reported = now;
        out.push(Effect::Report(StoreReport {
            number: *number,
            full,
            bytes_used: self.listed.bytes,
            bytes_capacity: 0,
            ranges,
            lost,
            replicas: self.replicas.len() as u64,
            leads: known.len() as u64,
        }));
    }
}
