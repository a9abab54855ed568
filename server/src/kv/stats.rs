//! What a gateway counts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::api::Committed;
use super::error::{Error, RetryReason};

/// Counters since the node started, as read at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayStats {
    pub commits: u64,
    /// Commits whose outcome could not be learned.
    pub unknown: u64,
    /// Staged transactions decided by looking at their intents.
    pub recoveries: u64,
    /// Microseconds that commits spent, added up.
    pub queue_us: u64,
    pub replication_us: u64,
    pub clock_wait_us: u64,
    /// Transactions that had to run again, by [`RetryReason::name`].
    pub retries: BTreeMap<&'static str, u64>,
}

/// The counters themselves.
#[derive(Debug, Default)]
pub(super) struct Counters {
    commits: AtomicU64,
    unknown: AtomicU64,
    recoveries: AtomicU64,
    queue_us: AtomicU64,
    replication_us: AtomicU64,
    clock_wait_us: AtomicU64,
    retries: [AtomicU64; RetryReason::ALL.len()],
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

    /// Takes note of an error on its way to the caller.
    pub fn failed(&self, error: &Error) {
        match error {
            Error::Retry(conflict) => {
                let position = RetryReason::ALL.iter().position(|reason| *reason == conflict.reason);
                if let Some(counter) = position.and_then(|p| self.retries.get(p)) {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            }
            Error::OutcomeUnknown { .. } => {
                self.unknown.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    pub fn read(&self) -> GatewayStats {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        GatewayStats {
            commits: of(&self.commits),
            unknown: of(&self.unknown),
            recoveries: of(&self.recoveries),
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
