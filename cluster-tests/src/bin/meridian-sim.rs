//! `meridian-sim`: whole clusters under simulated time, network, disks, clocks and faults, from seeds.
//!
//! Each seed draws its own cluster: latencies, losses, limits, a plan of faults. Checkers judge what the clients saw. The same seed gives the same
//! run, event for event; a seed that fails is replayed by its number and can be shrunk to the faults that it needs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use cluster_tests::scenario::{Verdict, draw, draw_astray, draw_untrusted, run, run_bank};
use cluster_tests::shrink::shrink;
use cluster_tests::sim::{Fault, FaultPlan, Options};
use cluster_tests::workload::append::Lists;
use cluster_tests::workload::keyed::Keyed;

/// Simulates clusters under faults and judges what their clients saw.
#[derive(Parser)]
#[command(name = "meridian-sim", version)]
struct Args {
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How many seeds, one after the other.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Nodes of each cluster.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(3..=9))]
    nodes: u16,
    /// What the clients do.
    #[arg(long, value_enum, default_value = "bank")]
    workload: Work,
    /// Only faults of these kinds, separated by commas; each seed still draws its own mix. All of them if not given.
    #[arg(long, value_enum, value_delimiter = ',')]
    faults: Option<Vec<Kind>>,
    /// How wrong clocks go, and whether the cluster believes in their bounds.
    #[arg(long, value_enum, default_value = "inside")]
    clocks: Clocks,
    /// Of a seed that fails: find the faults that it needs.
    #[arg(long)]
    shrink: bool,
    /// Write each history of the workload `append` into this folder, as JSON lines for other tools.
    #[arg(long)]
    history: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Work {
    /// Transfers between accounts, half of the seeds through SQL; audits of the total.
    Bank,
    /// Transactions that read and append to lists, searched for anomalies.
    Append,
    /// Work under idempotency keys, run again and again, which must take effect once.
    Keyed,
}

#[derive(Clone, Copy, ValueEnum)]
enum Clocks {
    /// Inside their bounds.
    Inside,
    /// Some leave their bounds, never a majority at once: they must harm nobody.
    Astray,
    /// All may be anywhere, and the cluster runs with --clocks untrusted: no real-time order is asked for.
    Untrusted,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// No faults but those of the network: losses, duplicates, delays.
    None,
    Crash,
    Isolate,
    OneWay,
    Pause,
    DiskStall,
    ClockJump,
    /// With --clocks astray or untrusted only.
    ClockAstray,
    Split,
    Flush,
}

impl Kind {
    fn of(fault: &Fault) -> Kind {
        match fault {
            Fault::Crash { .. } => Kind::Crash,
            Fault::Isolate { .. } => Kind::Isolate,
            Fault::OneWay { .. } => Kind::OneWay,
            Fault::Pause { .. } => Kind::Pause,
            Fault::DiskStall { .. } => Kind::DiskStall,
            Fault::ClockJump { .. } => Kind::ClockJump,
            Fault::ClockAstray { .. } => Kind::ClockAstray,
            Fault::Split { .. } => Kind::Split,
            Fault::Flush { .. } => Kind::Flush,
        }
    }
}

impl Args {
    fn options(&self, seed: u64) -> Options {
        let nodes = usize::from(self.nodes);
        let mut options = match self.clocks {
            Clocks::Inside => draw(seed, nodes),
            Clocks::Astray => draw_astray(seed, nodes),
            Clocks::Untrusted => draw_untrusted(seed, nodes),
        };
        if let Some(kinds) = &self.faults {
            options.faults.0.retain(|(_, fault)| kinds.contains(&Kind::of(fault)));
        }
        options
    }

    /// Runs one cluster. A database that fails its own assertions has failed too.
    fn verdict(&self, options: Options) -> Result<Verdict, String> {
        let run = catch_unwind(AssertUnwindSafe(|| match self.workload {
            Work::Bank => run_bank(options),
            Work::Append => self.run_lists(options),
            Work::Keyed => run(options, &Keyed::default()),
        }));
        let verdict = run.map_err(|_| "the database failed an assertion of its own".to_string())?;
        if verdict.violations.is_empty() { Ok(verdict) } else { Err(verdict.violations.join("\n  ")) }
    }

    fn run_lists(&self, options: Options) -> Verdict {
        let name = format!("append-{}-{}.jsonl", options.nodes, options.seed);
        let lists = Lists::default();
        let verdict = run(options, &lists);
        if let Some(folder) = &self.history
            && let Err(error) = std::fs::write(folder.join(&name), lists.history().to_json_lines())
        {
            eprintln!("meridian-sim: {} was not written: {error}", folder.join(name).display());
        }
        verdict
    }

    /// Prints the faults without which the seed would pass.
    fn print_shrunk(&self, seed: u64) {
        let options = self.options(seed);
        let all = options.faults.0.clone();
        // Each try would tell of its assertion.
        std::panic::set_hook(Box::new(|_| {}));
        let needed = shrink(all.clone(), |faults| {
            self.verdict(Options { faults: FaultPlan(faults.to_vec()), ..options.clone() }).is_err()
        });
        let _ = std::panic::take_hook();
        println!("  of {} faults it needs {}:", all.len(), needed.len());
        for (at, fault) in needed {
            println!("    {:>9.6} s  {fault:?}", Duration::from_nanos(at).as_secs_f64());
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let began = Instant::now();
    let mut simulated = Duration::ZERO;
    let mut failed = Vec::new();
    for seed in args.seed..args.seed.saturating_add(args.seeds) {
        match args.verdict(args.options(seed)) {
            Ok(verdict) => {
                simulated += verdict.simulated;
                let (tally, recovered) = (verdict.tally, verdict.recoveries);
                println!(
                    "seed {seed}: ok, {} committed, {} unknown, {} retries, {} audits, {recovered} recovered, {:.1} s, trace {:016x}",
                    tally.committed,
                    tally.unknown,
                    tally.retries,
                    tally.audits,
                    verdict.simulated.as_secs_f64(),
                    verdict.trace
                );
            }
            Err(why) => {
                println!("seed {seed}: FAILED\n  {why}");
                if args.shrink {
                    args.print_shrunk(seed);
                }
                failed.push(seed);
            }
        }
    }
    let real = began.elapsed().as_secs_f64();
    println!(
        "{:.0} simulated seconds in {real:.1} s ({:.0} a second)",
        simulated.as_secs_f64(),
        simulated.as_secs_f64() / real
    );
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("these seeds failed: {failed:?}");
    ExitCode::from(1)
}
