//! The seams of one simulated node: its clock, dice, timers and outbox.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};
use std::time::Duration;

use futures::future::BoxFuture;
use proto::message::Body;
use proto::{NodeId, Timestamp};
use server::env::{Clock, Env, Interval, Outbox};
use txn::clock::{ClockError, Hlc};

use super::rng::Rng;

/// When simulated time began, for the wall clocks: some day in 2026.
pub const EPOCH_MICROS: u64 = 1_790_000_000_000_000;

/// What the nodes' code shares with the world: time, and what it asked for since the world last looked.
#[derive(Default)]
pub struct Shared {
    inner: Mutex<Inner>,
}

#[derive(Default)]
pub struct Inner {
    /// Nanoseconds since the run began.
    pub now: u64,
    pub spawned: Vec<(usize, BoxFuture<'static, ()>)>,
    pub sent: Vec<(usize, NodeId, Body)>,
    /// Timers by time and number.
    pub timers: BTreeMap<(u64, u64), Waker>,
    next_timer: u64,
}

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of this lock panics")
    }
}

/// A simulated node's environment, for one life of its process.
pub struct SimEnv {
    pub node: usize,
    pub shared: Arc<Shared>,
    pub offset: Arc<Mutex<i64>>,
    pub max_error: Duration,
    hlc: Mutex<Hlc>,
    rng: Mutex<Rng>,
}

impl SimEnv {
    pub fn new(
        node: usize,
        shared: Arc<Shared>,
        offset: Arc<Mutex<i64>>,
        max_error: Duration,
        ceiling: Timestamp,
        rng: Rng,
    ) -> SimEnv {
        SimEnv { node, shared, offset, max_error, hlc: Mutex::new(Hlc::new(ceiling)), rng: Mutex::new(rng) }
    }

    fn wall(&self) -> Timestamp {
        let offset = *self.offset.lock().expect("no holder of this lock panics");
        let nanos = i128::from(self.shared.lock().now) + i128::from(offset);
        let micros = i128::from(EPOCH_MICROS) + nanos.div_euclid(1000);
        Timestamp::from_micros(u64::try_from(micros).unwrap_or(0))
    }
}

impl Clock for SimEnv {
    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.shared.lock().now)
    }

    fn interval(&self) -> Interval {
        let now = self.wall();
        Interval { earliest: now.minus(self.max_error), latest: now.plus(self.max_error) }
    }

    fn issue(&self) -> Result<Timestamp, ClockError> {
        let wall = self.wall();
        self.hlc.lock().expect("no holder of this lock panics").issue(wall)
    }

    fn reading(&self) -> Timestamp {
        let wall = self.wall();
        let mut hlc = self.hlc.lock().expect("no holder of this lock panics");
        let now = wall.min(hlc.ceiling());
        let _ = hlc.adopt(now, now);
        hlc.reading()
    }

    fn adopt(&self, theirs: Timestamp) -> Result<(), ClockError> {
        let limit = self.wall().plus(self.max_error * 2).plus(Duration::from_micros(1));
        self.hlc.lock().expect("no holder of this lock panics").adopt(theirs, limit)
    }

    fn ceiling(&self) -> Timestamp {
        self.hlc.lock().expect("no holder of this lock panics").ceiling()
    }

    fn raise_ceiling(&self, ceiling: Timestamp) {
        self.hlc.lock().expect("no holder of this lock panics").raise(ceiling);
    }

    fn bound(&self) -> (Duration, &'static str) {
        (self.max_error, "simulated")
    }
}

impl Env for SimEnv {
    fn clock(&self) -> &dyn Clock {
        self
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.shared.lock().spawned.push((self.node, task));
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let shared = self.shared.clone();
        let until = shared.lock().now + u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2).max(1);
        let mut registered = false;
        Box::pin(futures::future::poll_fn(move |cx| {
            let mut inner = shared.lock();
            if inner.now >= until {
                return Poll::Ready(());
            }
            // One registration is enough: a task keeps its waker's identity for life.
            if !std::mem::replace(&mut registered, true) {
                inner.next_timer += 1;
                let number = inner.next_timer;
                inner.timers.insert((until, number), cx.waker().clone());
            }
            Poll::Pending
        }))
    }

    fn random(&self) -> u64 {
        self.rng.lock().expect("no holder of this lock panics").next()
    }
}

impl Outbox for SimEnv {
    fn send(&self, to: NodeId, body: Body) {
        self.shared.lock().sent.push((self.node, to, body));
    }
}
