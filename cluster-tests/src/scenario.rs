//! A workload under faults, from a seed to a verdict.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use futures::future::BoxFuture;
use server::config::Knobs;
use server::kv::{Db, Error};
use txn::clock::Trust;

use crate::check;
use crate::sim::net::NetOptions;
use crate::sim::rng::Rng;
use crate::sim::{FaultPlan, Options, World, lead_clocks_astray};
use crate::workload::append::Lists;
use crate::workload::bank::{Bank, Layer};
use crate::workload::{Tally, Workload};

const SECOND: u64 = 1_000_000_000;

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub seed: u64,
    pub violations: Vec<String>,
    pub tally: Tally,
    /// Staged transactions that somebody recovered.
    pub recoveries: u64,
    pub trace: u64,
    pub events: u64,
    pub simulated: Duration,
}

/// Draws everything about a run from its seed.
pub fn draw(seed: u64, nodes: usize) -> Options {
    let mut rng = Rng::new(seed, "options");
    let mut options = Options::calm(seed, nodes);
    options.net = NetOptions::draw(&mut rng);
    if !rng.one_in(3) {
        options.max_error = Duration::from_micros(rng.between(10, 8_000));
    }
    options.sync_max = rng.between(200_000, 8_000_000);
    let knobs = &mut options.knobs;
    *knobs = Knobs {
        read_window: Duration::from_millis(rng.between(50, 700)),
        push_after: Duration::from_millis(rng.between(1, 40)),
        lock_wait: Duration::from_millis(rng.between(20, 500)),
        read_keys_max: rng.between(2, 200) as usize,
        read_spans_max: rng.between(2, 50) as usize,
        log_bytes_max: rng.between(2_000, 200_000) as usize,
        request_deadline: Duration::from_millis(rng.between(800, 8_000)),
        txn_expiry: Duration::from_millis(rng.between(500, 3_000)),
        txn_heartbeat: Duration::from_millis(rng.between(50, 500)),
        ..Knobs::default()
    };
    knobs.locks.wound_after = Duration::from_millis(rng.between(1, 50));
    knobs.ceiling_step = Duration::from_millis(rng.between(100, 1_000));
    options.faults = FaultPlan::draw(&mut rng, nodes, 0, 17 * SECOND);
    options
}

/// As [`draw`], with clocks that leave their bounds, so few at a time that a majority is right.
pub fn draw_astray(seed: u64, nodes: usize) -> Options {
    let mut options = draw(seed, nodes);
    let mut rng = Rng::new(seed, "astray");
    lead_clocks_astray(&mut options.faults, &mut rng, nodes, (nodes - 1) / 2, 17 * SECOND);
    options
}

/// As [`draw`], with clocks of which nobody asks anything.
pub fn draw_untrusted(seed: u64, nodes: usize) -> Options {
    let mut options = draw(seed, nodes);
    options.trust = Trust::Untrusted;
    let mut rng = Rng::new(seed, "untrusted");
    lead_clocks_astray(&mut options.faults, &mut rng, nodes, nodes, 17 * SECOND);
    options
}

/// Runs the bank, through keys or through SQL as the seed says.
pub fn run_bank(options: Options) -> Verdict {
    let layer = if Rng::new(options.seed, "layer").one_in(2) { Layer::Sql } else { Layer::Keys };
    run(options, &Bank::new(layer))
}

/// Runs transactions that append to lists.
pub fn run_append(options: Options) -> Verdict {
    run(options, &Lists::default())
}

/// Runs a workload: loads it, lets it work under faults, heals everything, and judges.
pub fn run(options: Options, workload: &impl Workload) -> Verdict {
    let real_time = options.trust == Trust::Bounded;
    run_and_ask(options, workload, real_time)
}

/// As [`run`]; says whether real-time order is asked for, whatever the cluster promises.
pub fn run_and_ask(options: Options, workload: &impl Workload, real_time: bool) -> Verdict {
    let opened = Rc::new(Cell::new(false));
    let mut world = open_world(options, workload, &opened);
    if let Err(why) = load(&mut world, workload) {
        // Nothing that follows would mean anything.
        return verdict(&world, workload, vec![format!("the workload was not loaded: {why}")]);
    }
    opened.set(true);
    world.unleash();
    let opened_at = world.now();
    for node in 0..world.nodes.len() {
        if let Some(db) = world.db(node) {
            for task in workload.tasks(&db) {
                world.spawn(node, task);
            }
        }
    }
    world.run_until(opened_at + 19 * SECOND, |_| false);
    world.heal();
    world.run_until(opened_at + 23 * SECOND, |_| false);
    workload.stop();
    // Liveness: with all faults gone everything must finish.
    let until = world.now() + 12 * SECOND;
    world.run_until(until, |_| false);
    let violations = judge(&mut world, workload, real_time);
    verdict(&world, workload, violations)
}

/// A cluster whose starting nodes get their clients once the workload is loaded.
fn open_world(options: Options, workload: &impl Workload, opened: &Rc<Cell<bool>>) -> World {
    let (clients, splitter, opened) = (workload.clone(), workload.clone(), opened.clone());
    let start = move |_: usize, db: &Db| if opened.get() { clients.tasks(db) } else { Vec::new() };
    World::new(options, start, move |db, dice| splitter.split(db, dice))
}

fn load(world: &mut World, workload: &impl Workload) -> Result<(), String> {
    let workload = workload.clone();
    let load = |db: Db| -> BoxFuture<'static, _> {
        Box::pin(async move {
            // With a short deadline the first tries may come before the first elections.
            while let Err(error) = workload.load(db.clone()).await {
                if !matches!(error, Error::Unavailable(_) | Error::OutcomeUnknown { .. } | Error::Retry(_)) {
                    return Err(error);
                }
            }
            Ok(())
        })
    };
    // Each message that the network loses costs a time-out.
    ask(world, 20 * SECOND, load)
}

/// Asks the healed cluster for everything, and says what is wrong.
fn judge(world: &mut World, workload: &impl Workload, real_time: bool) -> Vec<String> {
    let mut violations = Vec::new();
    if let Err(why) = ask(world, 20 * SECOND, |db| workload.finish(db)) {
        violations.push(format!("after all faults the cluster does not answer: {why}"));
    }
    let until = world.now() + 3 * SECOND;
    world.run_until(until, |_| false);
    violations.extend(check::replicas::violations(world));
    violations.extend(workload.judge(real_time));
    violations
}

fn verdict(world: &World, workload: &impl Workload, violations: Vec<String>) -> Verdict {
    Verdict {
        seed: world.options.seed,
        tally: workload.tally(),
        recoveries: (0..world.nodes.len()).filter_map(|n| world.db(n)).map(|db| db.stats().recoveries).sum(),
        trace: world.trace.hash,
        events: world.trace.events,
        simulated: Duration::from_nanos(world.now()),
        violations,
    }
}

/// Asks a running node something and waits for the answer.
fn ask<T: Send + 'static>(
    world: &mut World,
    patience: u64,
    question: impl FnOnce(Db) -> BoxFuture<'static, Result<T, Error>>,
) -> Result<T, String> {
    let node = (0..world.nodes.len()).find(|node| world.db(*node).is_some()).ok_or("no node runs")?;
    world.ask(node, patience, question)
}
