//! When and how often to run a transaction again.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::error::{Error, ErrorKind, Result};
use super::transaction::Committed;
use crate::random::Random;

/// How a transaction is run again. The pause before an attempt is random, between half of a bound and the bound; the
/// bound doubles from attempt to attempt.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    pub pause_min: Duration,
    pub pause_max: Duration,
    /// After this long no further attempt is begun, and the last error is returned.
    pub give_up_after: Duration,
}

impl Default for RetryPolicy {
    fn default() -> RetryPolicy {
        RetryPolicy {
            pause_min: Duration::from_millis(1),
            pause_max: Duration::from_millis(500),
            give_up_after: Duration::from_secs(60),
        }
    }
}

/// A transaction that committed, and what it took.
#[derive(Clone, Debug)]
pub struct Transacted<T> {
    /// What its body returned.
    pub value: T,
    pub committed: Committed,
    /// How often it had to run again, by reason.
    pub retries: BTreeMap<String, u32>,
}

/// The attempts at one piece of work.
pub(super) struct Attempts {
    policy: RetryPolicy,
    started: Instant,
    pause_next: Duration,
    random: Random,
    /// The last attempt that may have taken effect.
    unknown: Option<Error>,
    pub retries: BTreeMap<String, u32>,
}

impl Attempts {
    pub fn new(policy: RetryPolicy) -> Attempts {
        Attempts {
            policy,
            started: Instant::now(),
            pause_next: policy.pause_min,
            random: Random::from_os(),
            unknown: None,
            retries: BTreeMap::new(),
        }
    }

    /// Waits before the next attempt, or returns the error if there is to be none.
    pub async fn after(&mut self, error: Error) -> Result<()> {
        if !error.retryable() || self.started.elapsed() >= self.policy.give_up_after {
            return Err(error);
        }
        *self.retries.entry(error.reason().unwrap_or("unspecified").to_string()).or_default() += 1;
        tokio::time::sleep(self.next_pause()).await;
        Ok(())
    }

    /// [`Attempts::after`], for work that may be `repeatable` although nobody knows how it ended: under an idempotency key. If the attempts
    /// end before that is known, the error says so, whatever the last of them ran into.
    pub async fn after_known(&mut self, error: Error, repeatable: bool) -> Result<()> {
        if !repeatable {
            return self.after(error).await;
        }
        let is_unknown = error.kind() == ErrorKind::OutcomeUnknown;
        if !is_unknown && !error.retryable() {
            return Err(self.unknown.take().unwrap_or(error));
        }
        if self.started.elapsed() >= self.policy.give_up_after {
            return Err(self.unknown.take().unwrap_or(error));
        }
        *self.retries.entry(error.reason().unwrap_or("unspecified").to_string()).or_default() += 1;
        if is_unknown {
            self.unknown = Some(error);
        }
        tokio::time::sleep(self.next_pause()).await;
        Ok(())
    }

    fn next_pause(&mut self) -> Duration {
        let bound = self.pause_next;
        self.pause_next = (bound * 2).min(self.policy.pause_max);
        bound.mul_f64(0.5 + self.random.unit() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound() {
        let mut attempts = Attempts::new(RetryPolicy::default());
        for bound_ms in [1, 2, 4, 8, 16, 32, 64, 128, 256, 500, 500] {
            let pause = attempts.next_pause();
            let bound = Duration::from_millis(bound_ms);
            assert!(bound / 2 <= pause && pause <= bound, "{pause:?} is not within {bound:?}");
        }
    }

    #[tokio::test]
    async fn retries_are_counted_by_reason_and_final_errors_returned() {
        let mut attempts = Attempts::new(RetryPolicy::default());
        attempts.after(Error::connection("gone")).await.unwrap();
        attempts.after(Error::connection("gone")).await.unwrap();
        assert_eq!(attempts.retries, BTreeMap::from([("connection_lost".into(), 2)]));
        assert!(attempts.after(Error::usage("wrong")).await.is_err());
    }
}
