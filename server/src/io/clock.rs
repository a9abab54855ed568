//! The operating system's clock, with a declared bound on its error.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proto::Timestamp;
use txn::clock::{ClockError, Hlc};

use crate::env::{Clock, Interval};

/// See the module.
pub struct SystemClock {
    started: Instant,
    max_error: Duration,
    source: &'static str,
    hlc: Mutex<Hlc>,
}

/// Clocks are compared in whole microseconds.
const GRAIN: Duration = Duration::from_micros(1);

impl SystemClock {
    /// A clock whose hybrid readings begin at the ceiling that was last synced.
    pub fn new(max_error: Duration, source: &'static str, ceiling: Timestamp) -> SystemClock {
        SystemClock { started: Instant::now(), max_error, source, hlc: Mutex::new(Hlc::new(ceiling)) }
    }

    fn hlc(&self) -> MutexGuard<'_, Hlc> {
        self.hlc.lock().expect("no holder of this lock panics")
    }
}

/// The wall clock. Before 1970 it reads zero.
pub fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    fn interval(&self) -> Interval {
        let now = wall();
        Interval { earliest: now.minus(self.max_error), latest: now.plus(self.max_error) }
    }

    fn issue(&self) -> Result<Timestamp, ClockError> {
        self.hlc().issue(wall())
    }

    fn reading(&self) -> Timestamp {
        let mut hlc = self.hlc();
        let now = wall().min(hlc.ceiling());
        // Never fails: the wall clock is not too far ahead of itself, and it was capped at the ceiling.
        let _ = hlc.adopt(now, now);
        hlc.reading()
    }

    // The sender may err by the bound in one direction, this node in the other.
    fn adopt(&self, theirs: Timestamp) -> Result<(), ClockError> {
        let limit = wall().plus(self.max_error * 2).plus(GRAIN);
        self.hlc().adopt(theirs, limit)
    }

    fn ceiling(&self) -> Timestamp {
        self.hlc().ceiling()
    }

    fn raise_ceiling(&self, ceiling: Timestamp) {
        self.hlc().raise(ceiling);
    }

    fn bound(&self) -> (Duration, &'static str) {
        (self.max_error, self.source)
    }
}
