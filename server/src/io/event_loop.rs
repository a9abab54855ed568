//! The loop that drives a store: a thread of its own, and one more for the log.
//!
//! The store's thread takes in whatever events wait, gathers what became ready, and hands the frame to the log's thread, which
//! writes all frames that came while it was syncing as one and syncs again: group commit. The engine is flushed on a third
//! thread, seldom.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::engine::RocksEngine;
use super::log::LogFiles;
use crate::env::{Clock, Errands, Outbox};
use crate::raft::LogFrame;
use crate::store::{Effect, Event, Store};

/// What the loop is told.
pub enum Input {
    Event(Event),
    /// Asks for a picture of the store, for the metrics and the tests.
    Inspect(Box<dyn FnOnce(&Store) + Send>),
    /// Flush, sync, and end.
    Stop,
}

/// Counters of the disk, shared with the metrics.
#[derive(Debug, Default)]
pub struct DiskStats {
    pub log_syncs: AtomicU64,
    pub log_sync_micros: AtomicU64,
    pub engine_flushes: AtomicU64,
}

/// What the loop works with.
pub struct LoopParts {
    pub store: Store,
    pub engine: RocksEngine,
    pub log: LogFiles,
    pub clock: Arc<dyn Clock>,
    pub outbox: Arc<dyn Outbox>,
    pub tick: Duration,
    pub errands: Arc<dyn Errands>,
    /// Something that cannot be recovered from has happened.
    pub fatal: Box<dyn Fn(String) + Send + Sync>,
    pub stats: Arc<DiskStats>,
}

/// Events taken in before the groups' outputs are gathered: more would let a busy inbox delay the log.
const EVENTS_AT_ONCE: usize = 256;

/// A running store.
pub struct StoreThread {
    pub inputs: Sender<Input>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl StoreThread {
    /// Starts the threads. `channel` is the store's inbox.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(parts: LoopParts, inbox: (Sender<Input>, Receiver<Input>)) -> std::io::Result<StoreThread> {
        let (inputs, receiver) = inbox;
        let own = inputs.clone();
        let name = format!("store-{}", parts.store.node());
        let thread = thread::Builder::new().name(name).spawn(move || run(parts, &receiver, own))?;
        Ok(StoreThread { inputs, thread: Mutex::new(Some(thread)) })
    }

    /// Lets the store finish what is on its way to disk, and ends its threads.
    pub fn stop(&self) {
        // An ended loop needs no telling.
        let _ = self.inputs.send(Input::Stop);
        let thread = self.thread.lock().expect("no holder of this lock panics").take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

/// Work for the log's thread.
struct Append {
    number: u64,
    frame: LogFrame,
    flush_first: bool,
}

fn run(parts: LoopParts, inbox: &Receiver<Input>, inputs: Sender<Input>) {
    let LoopParts { mut store, engine, log, clock, outbox, tick, errands, fatal, stats } = parts;
    let fatal: Arc<dyn Fn(String) + Send + Sync> = fatal.into();
    let (appends, log_inbox) = channel();
    let log_thread = {
        let (inputs, engine, fatal, stats) = (inputs.clone(), engine.clone(), fatal.clone(), stats.clone());
        thread::spawn(move || run_log(log, &log_inbox, &engine, &inputs, fatal.as_ref(), &stats))
    };
    let mut next_tick = Instant::now() + tick;
    let mut effects = Vec::new();
    let mut running = true;
    while running {
        let first = match inbox.recv_timeout(next_tick.saturating_duration_since(Instant::now())) {
            Ok(input) => Some(input),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let now = clock.monotonic();
        for input in first.into_iter().chain(inbox.try_iter().take(EVENTS_AT_ONCE)) {
            match input {
                Input::Event(event) => store.take_in(now, event, &mut effects),
                Input::Inspect(look) => look(&store),
                Input::Stop => running = false,
            }
        }
        if Instant::now() >= next_tick {
            store.take_in(now, Event::Tick, &mut effects);
            // Ticks that were missed are not made up for.
            next_tick = Instant::now() + tick;
        }
        store.finish(now, &mut effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Send { to, body } => outbox.send(to, body),
                Effect::Append { number, frame, flush_first } => {
                    // It only fails after the log's thread has reported why it ended.
                    let _ = appends.send(Append { number, frame, flush_first });
                }
                Effect::Flush { number } => {
                    let (engine, inputs, fatal, stats) = (engine.clone(), inputs.clone(), fatal.clone(), stats.clone());
                    thread::spawn(move || flush(&engine, number, &inputs, fatal.as_ref(), &stats));
                }
                Effect::Publish(descriptor) => errands.publish(descriptor),
                Effect::Split(wish) => errands.split(wish),
                Effect::AskFor(stray) => errands.ask_for(stray),
                Effect::SettleMerge(stuck) => errands.settle_merge(stuck),
                Effect::Report(report) => errands.report(report),
                Effect::Stop(why) => {
                    fatal(format!("the storage engine cannot be written: {why}. The node stops"));
                    running = false;
                }
            }
        }
    }
    drop(appends);
    let _ = log_thread.join();
    if let Err(error) = engine.flush() {
        fatal(error.to_string());
    }
}

fn flush(engine: &RocksEngine, number: u64, inputs: &Sender<Input>, fatal: &dyn Fn(String), stats: &DiskStats) {
    match engine.flush() {
        Ok(()) => {
            stats.engine_flushes.fetch_add(1, Ordering::Relaxed);
            let _ = inputs.send(Input::Event(Event::Flushed(number)));
        }
        Err(error) => fatal(error.to_string()),
    }
}

fn run_log(
    mut log: LogFiles,
    inbox: &Receiver<Append>,
    engine: &RocksEngine,
    inputs: &Sender<Input>,
    fatal: &dyn Fn(String),
    stats: &DiskStats,
) {
    while let Ok(first) = inbox.recv() {
        let mut number = first.number;
        let mut flush_first = first.flush_first;
        let mut frames = vec![first.frame];
        for more in inbox.try_iter() {
            number = more.number;
            flush_first |= more.flush_first;
            frames.push(more.frame);
        }
        if flush_first && let Err(error) = engine.flush() {
            return fatal(error.to_string());
        }
        let began = Instant::now();
        if let Err(error) = log.append(frames) {
            return fatal(format!(
                "the Raft log cannot be written: {error}. The node stops, for what is on disk is unknown"
            ));
        }
        stats.log_syncs.fetch_add(1, Ordering::Relaxed);
        stats.log_sync_micros.fetch_add(u64::try_from(began.elapsed().as_micros()).unwrap_or(0), Ordering::Relaxed);
        if inputs.send(Input::Event(Event::Synced(number))).is_err() {
            return;
        }
    }
}
