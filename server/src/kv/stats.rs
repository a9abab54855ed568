//! What a gateway counts.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proto::Timestamp;

use super::api::Committed;
use super::error::{Conflict, Error, RetryReason};

/// Counters since the node started, as read at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayStats {
    pub commits: u64,
    /// Commits whose outcome could not be learned.
    pub unknown: u64,
    /// Staged transactions decided by looking at their intents.
    pub recoveries: u64,
    /// Reads in the past that a replica answered which does not lead, as far as is known; and those for which the leader was asked after all.
    pub near_reads: u64,
    pub near_refusals: u64,
    /// Microseconds that commits spent, added up.
    pub queue_us: u64,
    pub replication_us: u64,
    pub clock_wait_us: u64,
    /// Transactions that had to run again, by [`RetryReason::name`].
    pub retries: BTreeMap<&'static str, u64>,
}

/// Conflicts that a gateway remembers.
const RECENT_MAX: usize = 256;

/// The counters themselves.
#[derive(Debug, Default)]
pub(super) struct Counters {
    commits: AtomicU64,
    unknown: AtomicU64,
    recoveries: AtomicU64,
    near_reads: AtomicU64,
    near_refusals: AtomicU64,
    queue_us: AtomicU64,
    replication_us: AtomicU64,
    clock_wait_us: AtomicU64,
    retries: [AtomicU64; RetryReason::ALL.len()],
    /// The latest conflicts, the oldest first, and when they were met.
    recent: Mutex<VecDeque<(Timestamp, Conflict)>>,
}

fn add(counter: &AtomicU64, duration: Duration) {
    counter.fetch_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
}

impl Counters {
    pub fn committed(&self, committed: &Committed) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        add(&self.queue_us, committed.timings.queue);
        add(&self.replication_us, committed.timings.replication);
        add(&self.clock_wait_us, committed.timings.clock_wait);
    }

    pub fn recovered(&self) {
        self.recoveries.fetch_add(1, Ordering::Relaxed);
    }

    /// A replica that is near was asked for a read in the past.
    pub fn asked_near(&self, answered: bool) {
        let counter = if answered { &self.near_reads } else { &self.near_refusals };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes note of an error on its way to the caller.
    pub fn failed(&self, error: &Error, now: Timestamp) {
        match error {
            Error::Retry(conflict) => {
                let position = RetryReason::ALL.iter().position(|reason| *reason == conflict.reason);
                if let Some(counter) = position.and_then(|p| self.retries.get(p)) {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
                let mut recent = self.recent.lock().expect("no holder of this lock panics");
                if recent.len() >= RECENT_MAX {
                    recent.pop_front();
                }
                recent.push_back((now, conflict.clone()));
            }
            Error::OutcomeUnknown { .. } => {
                self.unknown.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    /// The latest conflicts, the newest first, and when they were met.
    pub fn recent(&self) -> Vec<(Timestamp, Conflict)> {
        self.recent.lock().expect("no holder of this lock panics").iter().rev().cloned().collect()
    }

    pub fn read(&self) -> GatewayStats {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        GatewayStats {
            commits: of(&self.commits),
            unknown: of(&self.unknown),
            recoveries: of(&self.recoveries),
            near_reads: of(&self.near_reads),
            near_refusals: of(&self.near_refusals),
            queue_us: of(&self.queue_us),
            replication_us: of(&self.replication_us),
            clock_wait_us: of(&self.clock_wait_us),
            retries: RetryReason::ALL
                .iter()
                .zip(&self.retries)
                .map(|(reason, count)| (reason.name(), of(count)))
                .collect(),
        }
    }
}
