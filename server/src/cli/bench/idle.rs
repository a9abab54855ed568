//! `meridian bench idle`: what ranges cost that nobody asks anything.
//!
//! Clusters of one node each, with few and with many ranges, run beside each other in processes of their own. They are left alone until all
//! ranges are quiet; then the operating system is asked what the processes use. At last they are started again.

use std::time::{Duration, Instant};

use client::driver::Client;

use super::fleet::{Fleet, Usage};
use super::idle_table;
use super::median::Table;
use crate::cli::args::IdleArgs;
use crate::cli::scratch::Scratch;

/// How long ranges may take to fall quiet; and how many Raft ticks a second are still called quiet.
const RESTS_WITHIN: Duration = Duration::from_secs(180);
const TICKS_AT_REST: u64 = 60;

/// What was found of one cluster.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    splitting: Duration,
    /// Of one core.
    cpu_percent: f64,
    resident: u64,
    first_answer: Duration,
    all_answer: Duration,
    resident_again: u64,
}

pub async fn run(args: IdleArgs) -> Result<String, String> {
    let scratch = Scratch::new("bench-idle").map_err(|e| format!("no temporary directory: {e}"))?;
    let mut fleets = Vec::new();
    let mut found = vec![Found::default(); args.ranges.len()];
    for (ranges, found) in args.ranges.iter().zip(&mut found) {
        let fleet = Fleet::start(&scratch, &format!("with-{ranges}"), 1).await?;
        eprintln!("splitting a table into {ranges} ranges");
        let began = Instant::now();
        idle_table::create(&fleet.client().await?, *ranges).await.map_err(|e| e.to_string())?;
        found.splitting = began.elapsed();
        fleets.push(fleet);
    }
    rest(&fleets).await?;
    eprintln!("all ranges are quiet; looking for {:?}", args.duration);
    let before = usages(&fleets)?;
    tokio::time::sleep(args.duration).await;
    let after = usages(&fleets)?;
    for (found, (before, after)) in found.iter_mut().zip(before.iter().zip(&after)) {
        found.cpu_percent = (after.cpu - before.cpu).as_secs_f64() / args.duration.as_secs_f64() * 100.0;
        found.resident = after.resident;
    }
    for (fleet, found) in fleets.iter_mut().zip(&mut found) {
        let began = Instant::now();
        found.first_answer = fleet.restart().await?;
        let stopped_for = began.elapsed() - found.first_answer;
        fleet.client().await?.query("SELECT count(*) FROM idle", &[]).await.map_err(|e| e.to_string())?;
        found.all_answer = began.elapsed() - stopped_for;
    }
    rest(&fleets).await?;
    for (usage, found) in usages(&fleets)?.iter().zip(&mut found) {
        found.resident_again = usage.resident;
    }
    Ok(table(&args.ranges, &found))
}

fn usages(fleets: &[Fleet]) -> Result<Vec<Usage>, String> {
    fleets.iter().map(Fleet::usage).collect()
}

/// Waits until hardly any range of these clusters is awake.
async fn rest(fleets: &[Fleet]) -> Result<(), String> {
    let until = Instant::now() + RESTS_WITHIN;
    for fleet in fleets {
        let client = fleet.client().await?;
        let mut last = ticks(&client).await;
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let now = ticks(&client).await;
            if now.saturating_sub(last) <= TICKS_AT_REST {
                break;
            }
            last = now;
            if Instant::now() >= until {
                return Err("ranges do not fall quiet".into());
            }
        }
    }
    Ok(())
}

/// Raft ticks of single ranges, on all nodes.
async fn ticks(client: &Client) -> u64 {
    let answers = client.admin().stats().await;
    let counted = answers.iter().filter_map(|(_, counters)| counters.as_ref().ok());
    counted.filter_map(|counters| counters.get("range_ticks_total")).sum()
}

fn table(ranges: &[u64], found: &[Found]) -> String {
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let mut table = Table::new("ranges", ranges.iter().map(ToString::to_string).collect());
    let mut row = |name: &str, digits: usize, of: &dyn Fn(&Found) -> f64| {
        table.row(name, digits, &found.iter().map(of).collect::<Vec<_>>());
    };
    row("CPU at rest, % of a core", 2, &|found| found.cpu_percent);
    row("memory at rest, MiB", 1, &|found| mebibytes(found.resident));
    row("started again, first answer, s", 2, &|found| found.first_answer.as_secs_f64());
    row("started again, all ranges asked, s", 2, &|found| found.all_answer.as_secs_f64());
    row("memory at rest after that, MiB", 1, &|found| mebibytes(found.resident_again));
    row("splitting, s", 1, &|found| found.splitting.as_secs_f64());
    table.to_string()
}
