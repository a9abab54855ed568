//! `meridian bench restart`: what a rolling restart costs the transfers under way.
//!
//! The bank works without a break while one node after the other is stopped, as by its service manager, and started again. For as long as that
//! takes at least, nothing happens before each restart; so what the machine does by itself is seen beside what the restart does.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use client::bench::bank::{self, BankOptions, Verdict};
use client::driver::{Client, NodeChange, RangeScope};
use tokio::time::{sleep, timeout};

use super::fleet::Fleet;
use super::idle_table;
use super::median::{Table, median};
use super::pace::{Pace, Watch};
use crate::cli::args::RestartArgs;
use crate::cli::scratch::Scratch;

const WARM_UP: Duration = Duration::from_secs(5);
/// How long a node may take to hand over all it leads.
const DRAINS_WITHIN: Duration = Duration::from_secs(60);
/// The bank is told when to end before it is known how long the restarts take; this is enough for each, and what is left over is cut off.
const LONGEST_RESTART: Duration = Duration::from_secs(180);

/// A node's restart, or a time in which nothing happened.
struct Moment {
    at: Instant,
    length: Duration,
    restart: Option<Restart>,
}

struct Restart {
    node: usize,
    /// How long leadership took to leave it before it was told to stop.
    drain: Duration,
    stop: Duration,
    /// Until it listened.
    start: Duration,
}

/// What one moment showed.
struct Seen {
    per_second: f64,
    pause_ms: f64,
    restart: Option<[f64; 3]>,
}

pub async fn run(args: RestartArgs) -> Result<String, String> {
    let scratch = Scratch::new("bench-restart").map_err(|e| format!("no temporary directory: {e}"))?;
    let mut fleet = Fleet::start(&scratch, "cluster", usize::from(args.nodes)).await?;
    let restarts = args.rounds * u32::from(args.nodes);
    let transferred = Arc::new(AtomicU64::new(0));
    let options = BankOptions {
        accounts: args.accounts,
        clients: args.clients,
        ranges: args.ranges,
        duration: WARM_UP + (LONGEST_RESTART + args.pause * 2) * restarts,
        progress: false,
        transferred: transferred.clone(),
        ..BankOptions::new(fleet.addresses())
    };
    let client = fleet.client().await?;
    eprintln!(
        "loading {} accounts into {} ranges, and making {} idle ones",
        args.accounts, args.ranges, args.idle_ranges
    );
    idle_table::create(&client, args.idle_ranges).await.map_err(|e| e.to_string())?;
    bank::load(&options).await.map_err(|e| e.to_string())?;
    let watch = Watch::start(transferred);
    let enough = options.enough.clone();
    let running = tokio::spawn(bank::run(BankOptions { loaded: true, ..options }));
    sleep(WARM_UP).await;
    let moments = roll(&mut fleet, &client, &args).await?;
    enough.notify_one();
    let report = running.await.map_err(|e| e.to_string())?;
    let report = report.map_err(|e| format!("a transfer failed for good: {e}"))?;
    let pace = watch.stop().await?;
    if report.verdict == Verdict::Violation {
        return Err(format!("the money does not add up:\n{report}"));
    }
    let seen: Vec<Seen> = moments.iter().map(|moment| Seen::at(moment, &pace)).collect();
    let retries: u64 = report.client_retries.values().sum();
    Ok(format!(
        "{}\n{} transfers, none failed; {retries} were run again, {} sessions were opened again, and of {} commits the outcome was unknown",
        table(&seen),
        report.transfers,
        report.reconnects,
        report.outcomes_unknown
    ))
}

/// Restarts every node in turn, with a time before each in which nothing happens.
async fn roll(fleet: &mut Fleet, client: &Client, args: &RestartArgs) -> Result<Vec<Moment>, String> {
    let mut moments = Vec::new();
    for _ in 0..args.rounds {
        for node in 0..fleet.nodes() {
            let at = Instant::now();
            sleep(args.pause).await;
            moments.push(Moment { at, length: at.elapsed(), restart: None });
            let at = Instant::now();
            let drain = if args.drain { drain(fleet, client, node).await? } else { Duration::ZERO };
            let (stop, start) = fleet.restart_one(node).await?;
            if args.drain {
                change(fleet, client, node, NodeChange::Undrain).await?;
            }
            sleep(args.pause).await;
            moments.push(Moment { at, length: at.elapsed(), restart: Some(Restart { node, drain, stop, start }) });
        }
    }
    Ok(moments)
}

/// Has leadership leave a node. Says how long that took.
async fn drain(fleet: &Fleet, client: &Client, node: usize) -> Result<Duration, String> {
    let began = Instant::now();
    let id = change(fleet, client, node, NodeChange::Drain).await?;
    let led = async || -> Result<bool, String> {
        let ranges = client.admin().ranges(RangeScope::All).await.map_err(|e| e.to_string())?;
        Ok(ranges.iter().any(|range| range.leader == Some(id)))
    };
    let drained = async {
        while led().await? {
            sleep(Duration::from_millis(50)).await;
        }
        Ok::<_, String>(began.elapsed())
    };
    timeout(DRAINS_WITHIN, drained).await.map_err(|_| format!("node {id} does not hand over what it leads"))?
}

/// Changes a node's state, and tells its id.
async fn change(fleet: &Fleet, client: &Client, node: usize, change: NodeChange) -> Result<u64, String> {
    let nodes = client.admin().nodes().await.map_err(|e| e.to_string())?;
    let address = fleet.address(node);
    let id = nodes.iter().find(|node| node.address == address).map(|node| node.id);
    let id = id.ok_or_else(|| format!("no node of the cluster has the address {address}"))?;
    client.admin().change_node(id, change).await.map_err(|e| e.to_string())?;
    Ok(id)
}

impl Seen {
    fn at(moment: &Moment, pace: &Pace) -> Seen {
        let pause = pace.longest_pause(moment.at, moment.length);
        let (pause_ms, after) = match pause {
            Some(pause) => (ms(pause.took), pause.began - moment.at),
            None => (0.0, Duration::ZERO),
        };
        if let Some(Restart { node, drain, stop, start }) = &moment.restart {
            eprintln!(
                "node {}: drained in {:.0} ms, stopped in {:.0}, listened {:.0} later; longest pause {pause_ms:.0} ms, {:.0} ms after the beginning",
                node + 1,
                ms(*drain),
                ms(*stop),
                ms(*start),
                ms(after)
            );
        }
        Seen {
            per_second: pace.per_second(moment.at, moment.length),
            pause_ms,
            restart: moment.restart.as_ref().map(|restart| [restart.drain, restart.stop, restart.start].map(ms)),
        }
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn table(seen: &[Seen]) -> String {
    let cases: Vec<Vec<&Seen>> = [false, true]
        .iter()
        .map(|restart| seen.iter().filter(|seen| seen.restart.is_some() == *restart).collect())
        .collect();
    let mut table = Table::new("by moments", vec!["nothing".into(), "restart".into()]);
    let mut row = |name: &str, of: fn(&Seen) -> f64, of_all: fn(&[f64]) -> f64| {
        let figures = cases.iter().map(|case| of_all(&case.iter().map(|seen| of(seen)).collect::<Vec<_>>()));
        table.row(name, 0, &figures.collect::<Vec<_>>());
    };
    let longest = |figures: &[f64]| figures.iter().copied().fold(0.0, f64::max);
    row("transfers a second, median", |seen| seen.per_second, median);
    row("the longest pause in it, median, ms", |seen| seen.pause_ms, median);
    row("the longest pause of all, ms", |seen| seen.pause_ms, longest);
    row("until drained, median, ms", |seen| seen.restart.map_or(0.0, |[drain, _, _]| drain), median);
    row("until stopped, median, ms", |seen| seen.restart.map_or(0.0, |[_, stop, _]| stop), median);
    row("until it listened again, median, ms", |seen| seen.restart.map_or(0.0, |[_, _, start]| start), median);
    table.to_string()
}
