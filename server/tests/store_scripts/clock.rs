//! A clock that moves when it is told to.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use proto::Timestamp;
use server::env::{Clock, Interval};
use txn::clock::{ClockError, Hlc};

/// The time that all stores share, in milliseconds.
#[derive(Clone, Default)]
pub struct Time(Arc<AtomicU64>);

impl Time {
    pub fn advance(&self, by_ms: u64) {
        self.0.fetch_add(by_ms, Ordering::Relaxed);
    }

    pub fn advance_to(&self, timestamp: Timestamp) {
        self.0.fetch_max(timestamp.micros() / 1000, Ordering::Relaxed);
    }

    pub fn now(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// One store's clock: without error, but with a hybrid reading and a ceiling of its own.
pub struct ScriptClock {
    time: Time,
    hlc: Mutex<Hlc>,
}

impl ScriptClock {
    pub fn new(time: Time, ceiling: Timestamp) -> ScriptClock {
        ScriptClock { time, hlc: Mutex::new(Hlc::new(ceiling)) }
    }

    fn hlc(&self) -> MutexGuard<'_, Hlc> {
        self.hlc.lock().expect("no holder of this lock panics")
    }

    fn wall(&self) -> Timestamp {
        Timestamp::ZERO.plus(self.time.now())
    }
}

impl Clock for ScriptClock {
    fn monotonic(&self) -> Duration {
        self.time.now()
    }

    fn interval(&self) -> Interval {
        Interval { earliest: self.wall(), latest: self.wall() }
    }

    fn issue(&self) -> Result<Timestamp, ClockError> {
        self.hlc().issue(self.wall())
    }

    fn reading(&self) -> Timestamp {
        let mut hlc = self.hlc();
        let now = self.wall().min(hlc.ceiling());
        // Never fails: the wall clock was capped at the ceiling, and is its own limit.
        let _ = hlc.adopt(now, now);
        hlc.reading()
    }

    fn adopt(&self, theirs: Timestamp) -> Result<(), ClockError> {
        // As if the sender might err by a millisecond in one direction, and this store in the other.
        self.hlc().adopt(theirs, self.wall().plus(Duration::from_millis(2)))
    }

    fn ceiling(&self) -> Timestamp {
        self.hlc().ceiling()
    }

    fn raise_ceiling(&self, ceiling: Timestamp) {
        self.hlc().raise(ceiling);
    }

    fn bound(&self) -> (Duration, &'static str) {
        (Duration::ZERO, "script")
    }
}
