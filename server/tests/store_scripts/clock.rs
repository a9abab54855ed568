//! A clock that moves when it is told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proto::Timestamp;
use server::env::{ClockSource, NodeClock};
use txn::clock::{Agreement, Reading, Timekeeper, Trust};

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

/// One store's clock: it errs by a millisecond at most, and shows no error.
pub struct ScriptSource(Time);

impl ClockSource for ScriptSource {
    fn read(&self) -> Reading {
        let monotonic = self.0.now();
        Reading { monotonic, wall: Timestamp::ZERO.plus(monotonic), error: Duration::from_millis(1) }
    }

    fn name(&self) -> &'static str {
        "script"
    }
}

/// One store's clock, with a hybrid reading and a ceiling of its own. Nobody disputes it.
pub type ScriptClock = NodeClock<ScriptSource>;

pub fn script_clock(time: Time, ceiling: Timestamp) -> ScriptClock {
    let alone = Agreement::new([], Duration::MAX);
    NodeClock::new(ScriptSource(time), Timekeeper::new(Trust::Bounded, alone, ceiling, 0))
}
