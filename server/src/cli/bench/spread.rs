//! `meridian bench spread`: the bank over few and over many ranges, in turn.
//!
//! Each number of ranges has a cluster of its own, of three nodes in processes of their own; all run all the time, and the benchmark works on one
//! after the other, again and again, while the others are quiet. So a machine that is faster at times is so for all of them. Medians are shown.

use std::time::Duration;

use client::bench::bank::{self, BankOptions, Report, Verdict};

use super::fleet::{Counters, Fleet, Usage};
use super::median::{Table, median};
use crate::cli::args::SpreadArgs;
use crate::cli::scratch::Scratch;

/// For the ranges to be all in use, and the connections warm, before anything counts.
const WARM_UP: Duration = Duration::from_secs(3);

/// What one run showed.
struct Round {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// Of all nodes, for one transfer.
    cpu_ms: f64,
    retries: f64,
    syncs: f64,
    /// On all nodes, for one transfer.
    commands: f64,
    messages: f64,
}

pub async fn run(args: SpreadArgs) -> Result<String, String> {
    let scratch = Scratch::new("bench-spread").map_err(|e| format!("no temporary directory: {e}"))?;
    let mut cases = Vec::new();
    for ranges in &args.ranges {
        let fleet = Fleet::start(&scratch, &format!("with-{ranges}"), usize::from(args.nodes)).await?;
        let options = BankOptions {
            accounts: args.accounts,
            clients: args.clients,
            ranges: *ranges,
            audit_pause: args.audit_pause,
            progress: false,
            ..BankOptions::new(fleet.addresses())
        };
        eprintln!("loading {} accounts into {ranges} ranges", args.accounts);
        bank::load(&options).await.map_err(|e| e.to_string())?;
        cases.push((fleet, BankOptions { loaded: true, ..options }, Vec::new()));
    }
    for round in 1..=args.rounds {
        for (fleet, options, rounds) in &mut cases {
            bank::run(BankOptions { duration: WARM_UP, ..options.clone() }).await.map_err(|e| e.to_string())?;
            let before = (fleet.usage()?, fleet.counters().await?);
            let options = BankOptions { duration: args.duration, ..options.clone() };
            let report = bank::run(options).await.map_err(|e| e.to_string())?;
            if report.verdict == Verdict::Violation {
                return Err(format!("the money does not add up:\n{report}"));
            }
            let after = (fleet.usage()?, fleet.counters().await?);
            let found = Round::new(&report, &before, &after);
            eprintln!(
                "round {round}, {} ranges: {:.1} tx/s, {:.2} ms of CPU each",
                report.ranges, found.per_second, found.cpu_ms
            );
            rounds.push(found);
        }
    }
    let rounds: Vec<&[Round]> = cases.iter().map(|(_, _, rounds)| rounds.as_slice()).collect();
    Ok(table(&args.ranges, &rounds))
}

impl Round {
    fn new(report: &Report, before: &(Usage, Counters), after: &(Usage, Counters)) -> Round {
        let cpu = after.0.cpu - before.0.cpu;
        let counted = |name: &str| {
            let of = |counters: &Counters| counters.get(name).copied().unwrap_or_default();
            of(&after.1).saturating_sub(of(&before.1)) as f64
        };
        let transfers = report.transfers.max(1) as f64;
        let retries: u64 = report.client_retries.values().chain(report.server_retries.values()).sum();
        let syncs = report.server_counters.as_ref().map_or(0, |counters| counters.log_syncs);
        Round {
            per_second: report.transfers_per_second,
            p50_ms: report.transfer.p50_us as f64 / 1e3,
            p99_ms: report.transfer.p99_us as f64 / 1e3,
            cpu_ms: cpu.as_secs_f64() * 1e3 / transfers,
            retries: retries as f64 / transfers,
            syncs: syncs as f64 / transfers,
            commands: counted("commands_applied_total") / transfers,
            messages: counted("raft_messages_total") / transfers,
        }
    }
}

fn table(ranges: &[u64], rounds: &[&[Round]]) -> String {
    let mut table = Table::new("medians, by ranges", ranges.iter().map(ToString::to_string).collect());
    let mut row = |name: &str, digits: usize, of: fn(&Round) -> f64| {
        let of_case = |rounds: &&[Round]| median(&rounds.iter().map(of).collect::<Vec<_>>());
        table.row(name, digits, &rounds.iter().map(of_case).collect::<Vec<_>>());
    };
    row("transfers a second", 1, |round| round.per_second);
    row("latency, p50, ms", 1, |round| round.p50_ms);
    row("latency, p99, ms", 1, |round| round.p99_ms);
    row("CPU of all nodes a transfer, ms", 2, |round| round.cpu_ms);
    row("retries a transfer", 3, |round| round.retries);
    row("log syncs a transfer", 2, |round| round.syncs);
    row("commands applied, on all nodes, a transfer", 1, |round| round.commands);
    row("Raft messages a transfer", 1, |round| round.messages);
    table.to_string()
}
