//! The seams of one simulated node: its clock, dice, timers and outbox.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};
use std::time::Duration;

use futures::future::BoxFuture;
use proto::message::Body;
use proto::{NodeId, Timestamp};
use server::env::{Clock, ClockSource, Env, NodeClock, Outbox};
use txn::clock::{Agreement, Reading, Timekeeper, Trust};

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

/// A simulated node's clocks, as they read them: true time, and a wall clock that errs.
pub struct SimSource {
    shared: Arc<Shared>,
    /// Nanoseconds by which the wall clock errs.
    offset: Arc<Mutex<i64>>,
    max_error: Duration,
}

impl ClockSource for SimSource {
    fn read(&self) -> Reading {
        let now = self.shared.lock().now;
        let offset = *self.offset.lock().expect("no holder of this lock panics");
        let nanos = i128::from(now) + i128::from(offset);
        let micros = i128::from(EPOCH_MICROS) + nanos.div_euclid(1000);
        let wall = Timestamp::from_micros(u64::try_from(micros).unwrap_or(0));
        Reading { monotonic: Duration::from_nanos(now), wall, error: self.max_error }
    }

    fn name(&self) -> &'static str {
        "simulated"
    }
}

/// A simulated node's environment, for one life of its process.
pub struct SimEnv {
    pub node: usize,
    pub shared: Arc<Shared>,
    pub clock: Arc<NodeClock<SimSource>>,
    rng: Mutex<Rng>,
}

/// What a simulated node's clock is made with.
pub struct SimClock {
    pub offset: Arc<Mutex<i64>>,
    pub max_error: Duration,
    pub trust: Trust,
    pub agreement: Agreement,
    pub ceiling: Timestamp,
}

impl SimEnv {
    pub fn new(node: usize, shared: Arc<Shared>, clock: SimClock, mut rng: Rng) -> SimEnv {
        let SimClock { offset, max_error, trust, agreement, ceiling } = clock;
        let keeper = Timekeeper::new(trust, agreement, ceiling, rng.next());
        let clock = Arc::new(NodeClock::new(SimSource { shared: shared.clone(), offset, max_error }, keeper));
        SimEnv { node, shared, clock, rng: Mutex::new(rng) }
    }
}

impl Env for SimEnv {
    fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
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
