//! A workload under faults, from a seed to a verdict.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use server::config::Knobs;
use server::kv::{Db, Error, Kv};
use server::probe::Point;
use txn::clock::Trust;

use crate::check;
use crate::check::history::History;
use crate::sim::net::NetOptions;
use crate::sim::probe::{Coverage, draw_points};
use crate::sim::rng::Rng;
use crate::sim::trace::Trace;
use crate::sim::{
    Abandon, Fault, FaultPlan, Options, World, keep_members_changing, keep_moving, keep_reshaping, lead_clocks_astray,
};
use crate::workload::append::Lists;
use crate::workload::bank::{Bank, Layer};
use crate::workload::keyed::Keyed;
use crate::workload::register::Registers;
use crate::workload::{Agenda, Operation, Tally, Work, Workload, operation};

const SECOND: u64 = 1_000_000_000;

/// In which way a run failed. Shrinking a run keeps this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// The database failed an assertion of its own.
    Assertion,
    /// The workload could not even be loaded.
    NotLoaded,
    /// The healed cluster does not answer.
    NoAnswer,
    /// With all faults gone some client did not come to an end.
    ClientsStuck,
    /// Replicas hold different things, or did not come together.
    ReplicasDiffer,
    /// What clients saw is wrong.
    WrongHistory,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub seed: u64,
    pub failure: Option<Failure>,
    pub violations: Vec<String>,
    pub tally: Tally,
    /// Staged transactions that somebody recovered.
    pub recoveries: u64,
    pub coverage: Coverage,
    pub trace: u64,
    pub events: u64,
    pub simulated: Duration,
}

/// A verdict with everything that led to it.
pub struct Run {
    pub verdict: Verdict,
    pub trace: Trace,
    /// The operations that clients came to.
    pub begun: Vec<Operation>,
    pub histories: Vec<(&'static str, History)>,
}

/// Draws everything about a run from its seed.
pub fn draw(seed: u64, nodes: usize) -> Options {
    draw_replicated(seed, nodes, nodes)
}

/// As [`draw`], with replicas that move all the time: ranges have three, and there are more nodes than that.
pub fn draw_moving(seed: u64, nodes: usize) -> Options {
    let mut options = draw_replicated(seed, nodes, 3);
    let mut rng = Rng::new(seed, "moves");
    // In some seeds the driver has the cluster to itself.
    if !rng.one_in(3) {
        keep_moving(&mut options.faults, &mut rng, 17 * SECOND);
    }
    let knobs = &mut options.knobs;
    knobs.place_replicas = !rng.one_in(4);
    knobs.placement.dead_after = Duration::from_millis(rng.between(1_000, 10_000));
    knobs.placement.learner_patience = Duration::from_millis(rng.between(2_000, 10_000));
    knobs.placement.rest = Duration::from_millis(rng.between(500, 10_000));
    knobs.placement.retry_after = Duration::from_millis(rng.between(100, 2_000));
    knobs.placement.bytes_floor = rng.between(1_000, 100_000);
    knobs.placement.load_floor = rng.between(5, 200);
    knobs.splitting.bytes_max = rng.between(20_000, 400_000);
    knobs.splitting.rate_max = rng.between(50, 1_000);
    knobs.splitting.window = Duration::from_millis(rng.between(500, 5_000));
    knobs.splitting.touches_min = rng.between(5, 100);
    draw_lulls(knobs, &mut Rng::new(seed, "lulls"));
    let mut rng = Rng::new(seed, "members");
    if rng.one_in(2) {
        keep_members_changing(&mut options.faults, &mut rng, nodes, 17 * SECOND);
    }
    options
}

/// When the driver merges neighbours: in most seeds soon, in some never.
fn draw_lulls(knobs: &mut Knobs, rng: &mut Rng) {
    let splitting = &mut knobs.splitting;
    splitting.merge_age_min = Duration::from_millis(if rng.one_in(4) { 300_000 } else { rng.between(200, 6_000) });
    splitting.merge_bytes_permille = rng.between(100, 900);
    splitting.merge_rate_permille = rng.between(100, 900);
    knobs.placement.merges_max = rng.between(1, 4) as usize;
}

/// As [`draw`]; each range has so many replicas.
pub fn draw_replicated(seed: u64, nodes: usize, replicas: usize) -> Options {
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
    draw_transfers(knobs, replicas, &mut Rng::new(seed, "transfers"));
    draw_quiet(knobs, &mut Rng::new(seed, "quiet"));
    draw_closing(knobs, &mut Rng::new(seed, "closing"));
    // What is lost for good, all together, leaves a majority.
    let lost = rng.below(nodes as u64) as usize;
    let minority: Vec<usize> = (lost..lost + (replicas - 1) / 2).map(|node| node % nodes).collect();
    options.faults = FaultPlan::draw(&mut rng, nodes, &minority, 0, 17 * SECOND);
    // Where the clients' keys lie in one range only, many protocols have nothing to do.
    for split in 0..rng.below(5) {
        options.faults.0.push((split * SECOND / 10, Fault::Split { key: rng.next() }));
    }
    options.faults.0.sort_by_key(|(at, _)| *at);
    options.points = draw_points(&mut rng);
    options.replicas = replicas;
    options.abandon = rng.one_in(3).then(|| {
        let count = rng.between(1, minority.len() as u64) as usize;
        Abandon { nodes: minority[..count].to_vec(), dead: rng.one_in(2) }
    });
    options
}

/// How far behind the clock timestamps are closed: in some seeds so little that it pushes many a writer.
fn draw_closing(knobs: &mut Knobs, rng: &mut Rng) {
    let longest = if rng.one_in(3) { 50 } else { 2_000 };
    knobs.close_lag = Duration::from_millis(rng.between(0, longest));
    knobs.close_every = Duration::from_millis(rng.between(5, 500));
}

/// When ranges fall quiet: in some seeds at the first opportunity.
fn draw_quiet(knobs: &mut Knobs, rng: &mut Rng) {
    let longest = if rng.one_in(2) { 100 } else { 2_000 };
    knobs.quiet_after = Duration::from_millis(rng.between(0, longest));
    knobs.beat_every = Duration::from_millis(rng.between(20, 200));
    knobs.silent_after = knobs.beat_every * 2 + Duration::from_millis(rng.between(500, 1_000));
    knobs.roll_call = rng.between(1, 4) as usize;
    knobs.wakes_per_tick = rng.between(1, 4) as usize;
    knobs.leisure = rng.between(1, 6) as u32;
}

/// How contents travel, and what the placement driver is told.
fn draw_transfers(knobs: &mut Knobs, replicas: usize, rng: &mut Rng) {
    knobs.placement.replicas = replicas as u32;
    knobs.report_every = Duration::from_millis(rng.between(100, 1_500));
    knobs.report_all_every = Duration::from_millis(rng.between(1_000, 60_000));
    knobs.placement_every = Duration::from_millis(rng.between(100, 1_500));
    knobs.snapshot_piece_bytes = rng.between(1_000, 30_000);
    knobs.snapshot_bytes_per_second = rng.between(200_000, 20_000_000);
    knobs.snapshots_max = rng.between(1, 4) as usize;
    knobs.snapshot_ask_again = Duration::from_millis(rng.between(20, 400));
    knobs.snapshot_patience = Duration::from_millis(rng.between(500, 5_000));
    knobs.merge_patience = Duration::from_millis(rng.between(200, 3_000));
    if knobs.snapshots_max == 1 {
        // So slowly that crashes come in between.
        knobs.snapshot_piece_bytes = (knobs.snapshot_piece_bytes / 10).max(300);
        knobs.snapshot_bytes_per_second = (knobs.snapshot_bytes_per_second / 50).max(200_000);
    }
}

/// As [`draw`], with ranges that are split and merged all the time; where there is a node to spare, replicas move as well.
pub fn draw_merging(seed: u64, nodes: usize) -> Options {
    let mut options = if nodes.is_multiple_of(2) { draw_moving(seed, nodes) } else { draw(seed, nodes) };
    let mut rng = Rng::new(seed, "merging");
    draw_lulls(&mut options.knobs, &mut Rng::new(seed, "lulls"));
    if Rng::new(seed, "short logs").one_in(3) {
        // Whoever misses a merge is given the contents of the merged range.
        options.knobs.log_bytes_max = 2_000;
    }
    keep_reshaping(&mut options.faults, &mut rng, nodes, 17 * SECOND);
    options
}

/// As [`draw`], with clocks that leave their bounds, so few at a time that a majority is right; in half of the seeds so far that it can be told.
pub fn draw_astray(seed: u64, nodes: usize) -> Options {
    let mut options = draw(seed, nodes);
    let mut rng = Rng::new(seed, "astray");
    lead_clocks_astray(&mut options.faults, &mut rng, nodes, (nodes - 1) / 2, 17 * SECOND);
    if rng.one_in(2) {
        let unnoticed = unnoticed(&options);
        options.faults.0.retain(|(_, fault)| !unnoticed(fault));
    }
    options
}

/// Which clocks leave their bounds by so little that they may agree with a right one, and real-time order suffers unnoticed: by less than the bounds of two
/// clocks, another one's error, and the time that a report takes.
fn unnoticed(options: &Options) -> impl Fn(&Fault) -> bool + use<> {
    let told = options.max_error * 3 + Duration::from_nanos(options.net.latency_max);
    let (harmless, told) = (options.max_error.as_millis(), told.as_millis());
    move |fault| match fault {
        Fault::ClockAstray { by_ms, .. } => (harmless + 1..=told + 1).contains(&u128::from(by_ms.unsigned_abs())),
        _ => false,
    }
}

/// Whether a run owes real-time order: only to clocks that are right, or so wrong that it is noticed.
fn owes_real_time(options: &Options) -> bool {
    let unnoticed = unnoticed(options);
    options.trust == Trust::Bounded && !options.faults.0.iter().any(|(_, fault)| unnoticed(fault))
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
    run_work(Work::Bank, options).verdict
}

/// Runs transactions that append to lists.
pub fn run_append(options: Options) -> Verdict {
    run_work(Work::Append, options).verdict
}

/// Runs transactions, and single operations, on registers.
pub fn run_register(options: Options) -> Verdict {
    run_work(Work::Register, options).verdict
}

/// What the clients of a run do.
fn agenda(work: Work, options: &Options) -> Agenda {
    match &options.operations {
        Some(operations) => Agenda::new(operations),
        None => Agenda::new(&operation::draw(work, options.seed, options.nodes)),
    }
}

/// Runs a workload. A database that fails an assertion of its own takes the caller with it.
pub fn run_work(work: Work, options: Options) -> Run {
    let agenda = agenda(work, &options);
    run_agenda(work, options, agenda)
}

fn run_agenda(work: Work, options: Options, agenda: Agenda) -> Run {
    match work {
        Work::Bank => {
            let layer = if Rng::new(options.seed, "layer").one_in(2) { Layer::Sql } else { Layer::Keys };
            run(options, &Bank::new(layer, agenda))
        }
        Work::Append => run(options, &Lists::new(agenda)),
        Work::Register => run(options, &Registers::new(agenda)),
        Work::Keyed => run(options, &Keyed::default()),
    }
}

/// The same, but an assertion that fails is a verdict.
pub fn attempt(work: Work, options: Options) -> Run {
    let (seed, agenda) = (options.seed, agenda(work, &options));
    let run = catch_unwind(AssertUnwindSafe(|| run_agenda(work, options, agenda.clone())));
    run.unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().cloned().or(panic.downcast_ref::<&str>().map(ToString::to_string));
        let verdict = Verdict {
            seed,
            failure: Some(Failure::Assertion),
            violations: vec![format!("an assertion failed: {}", said.unwrap_or_default())],
            tally: Tally::default(),
            recoveries: 0,
            coverage: Coverage::default(),
            trace: 0,
            events: 0,
            simulated: Duration::ZERO,
        };
        Run { verdict, trace: Trace::default(), begun: agenda.begun(), histories: Vec::new() }
    })
}

/// How many clients of each node's present process there are, and how many have come to an end.
type Clients = Arc<Mutex<Vec<(usize, usize)>>>;

/// Runs a workload: loads it, lets it work under faults, heals everything, and judges.
pub fn run(options: Options, workload: &impl Workload) -> Run {
    let real_time = owes_real_time(&options);
    run_and_ask(options, workload, real_time)
}

/// As [`run`]; says whether real-time order is asked for, whatever the cluster promises.
pub fn run_and_ask(options: Options, workload: &impl Workload, real_time: bool) -> Run {
    let opened = Rc::new(Cell::new(false));
    let unquiet_ns = options.unquiet_ns;
    let clients: Clients = Arc::new(Mutex::new(vec![(0, 0); options.nodes]));
    let mut world = open_world(options, workload, &opened, &clients);
    if let Err(why) = load(&mut world, workload) {
        // Nothing that follows would mean anything.
        return verdict(world, workload, vec![(Failure::NotLoaded, format!("the workload was not loaded: {why}"))]);
    }
    if world.options.trust == Trust::Untrusted {
        // Nobody promises that other gateways see at once what this one has been told.
        let until = world.now() + 2 * SECOND;
        world.run_until(until, |_| false);
    }
    opened.set(true);
    world.unleash();
    let opened_at = world.now();
    for node in 0..world.nodes.len() {
        if let Some(db) = world.db(node) {
            for task in tasks(workload, &db, &clients) {
                world.spawn(node, task);
            }
        }
    }
    world.run_until(opened_at + unquiet_ns, |_| false);
    world.heal();
    let healed_at = world.now();
    world.run_until(healed_at + 4 * SECOND, |_| false);
    workload.stop();
    // Liveness: with all faults gone everything must finish.
    let stuck = |world: &World| {
        let clients = clients.lock().expect("no holder of this lock panics");
        let left = |node: usize| clients[node].0 - clients[node].1;
        (0..world.nodes.len()).filter(|node| world.is_whole(*node)).map(left).sum::<usize>()
    };
    world.run_until(healed_at + 16 * SECOND, |world| stuck(world) == 0);
    let mut violations = Vec::new();
    if stuck(&world) > 0 {
        violations.push((Failure::ClientsStuck, format!("{} clients have not come to an end", stuck(&world))));
    }
    violations.extend(judge(&mut world, workload, real_time));
    verdict(world, workload, violations)
}

/// A cluster whose starting nodes get their clients once the workload is loaded.
fn open_world(options: Options, workload: &impl Workload, opened: &Rc<Cell<bool>>, clients: &Clients) -> World {
    let (work, splitter, opened, clients) = (workload.clone(), workload.clone(), opened.clone(), clients.clone());
    let start = move |_: usize, db: &Db| if opened.get() { tasks(&work, db, &clients) } else { Vec::new() };
    World::new(options, start, move |db, dice| splitter.split(db, dice))
}

/// The clients of a process that starts, counted.
fn tasks(workload: &impl Workload, db: &Db, clients: &Clients) -> Vec<BoxFuture<'static, ()>> {
    let node = db.node().0 as usize - 1;
    let tasks = workload.tasks(db);
    clients.lock().expect("no holder of this lock panics")[node] = (tasks.len(), 0);
    let count = |task: BoxFuture<'static, ()>| -> BoxFuture<'static, ()> {
        let clients = clients.clone();
        Box::pin(async move {
            task.await;
            clients.lock().expect("no holder of this lock panics")[node].1 += 1;
        })
    };
    tasks.into_iter().map(count).collect()
}

fn load(world: &mut World, workload: &impl Workload) -> Result<(), String> {
    if world.options.faults.changes_members() {
        world.found()?;
    }
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
fn judge(world: &mut World, workload: &impl Workload, real_time: bool) -> Vec<(Failure, String)> {
    let mut violations = Vec::new();
    if let Err(why) = ask(world, 20 * SECOND, |db| finish(workload.clone(), db)) {
        violations.push((Failure::NoAnswer, format!("after all faults the cluster does not answer: {why}")));
    }
    violations.extend(rest(world).into_iter().map(|what| (Failure::ReplicasDiffer, what)));
    violations.extend(workload.judge(real_time).into_iter().map(|what| (Failure::WrongHistory, what)));
    violations
}

/// Waits until all replicas have come together and are where they should be; the placement driver may be in the middle of something.
fn rest(world: &mut World) -> Vec<String> {
    const PATIENCE: u64 = 20;
    /// Out of step with what leaders do at even intervals, and followers a moment later: closing timestamps of a range that is asked things.
    const STEP: u64 = SECOND + 37_000_000;
    // Followers of a range that is written to now and then would otherwise never know that the last entry is committed.
    world.probe.insist(Point::EagerTick);
    let mut apart = Vec::new();
    for _ in 0..PATIENCE {
        let until = world.now() + STEP;
        world.run_until(until, |_| false);
        apart = check::replicas::violations(world);
        if apart.is_empty() {
            break;
        }
    }
    apart
}

/// Asks the workload's last questions. With a short deadline the first ones may go to a leader that is gone for good.
fn finish(workload: impl Workload, db: Db) -> BoxFuture<'static, Result<(), Error>> {
    Box::pin(async move {
        loop {
            match workload.finish(db.clone()).await {
                Err(Error::Unavailable(_) | Error::Retry(_)) => db.sleep(Duration::from_millis(50)).await,
                result => return result,
            }
        }
    })
}

fn verdict(world: World, workload: &impl Workload, violations: Vec<(Failure, String)>) -> Run {
    let verdict = Verdict {
        seed: world.options.seed,
        // What clients saw is worse than anything else.
        failure: violations.iter().map(|(failure, _)| *failure).max(),
        tally: workload.tally(),
        recoveries: (0..world.nodes.len()).filter_map(|n| world.db(n)).map(|db| db.stats().recoveries).sum(),
        coverage: world.probe.coverage(),
        trace: world.trace.hash,
        events: world.trace.events,
        simulated: Duration::from_nanos(world.now()),
        violations: violations.into_iter().map(|(_, what)| what).collect(),
    };
    Run { verdict, trace: world.trace, begun: workload.agenda().begun(), histories: workload.histories() }
}

/// Asks a running node something and waits for the answer.
fn ask<T: Send + 'static>(
    world: &mut World,
    patience: u64,
    question: impl FnOnce(Db) -> BoxFuture<'static, Result<T, Error>>,
) -> Result<T, String> {
    let node = (0..world.nodes.len()).find(|node| world.is_whole(*node)).ok_or("no node runs")?;
    world.ask(node, patience, question)
}
