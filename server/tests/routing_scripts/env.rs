//! The gateway's surroundings: whoever waits has waited at once, and dice always show the same.

use std::time::Duration;

use futures::future::BoxFuture;
use proto::Timestamp;
use server::env::{Clock, Env};

use crate::clock::{ScriptClock, Time, script_clock};

pub struct ScriptEnv {
    time: Time,
    clock: ScriptClock,
}

impl ScriptEnv {
    pub fn new(time: Time) -> ScriptEnv {
        ScriptEnv { clock: script_clock(time.clone(), Timestamp::MAX), time }
    }
}

impl Env for ScriptEnv {
    fn clock(&self) -> &dyn Clock {
        &self.clock
    }

    /// Reads leave nothing behind that has to be done.
    fn spawn(&self, _task: BoxFuture<'static, ()>) {}

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let time = self.time.clone();
        Box::pin(async move { time.advance(duration.as_millis().try_into().unwrap_or(u64::MAX)) })
    }

    fn random(&self) -> u64 {
        0
    }
}
