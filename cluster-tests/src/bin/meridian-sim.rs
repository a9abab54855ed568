//! `meridian-sim`: whole clusters under simulated time, network, disks, clocks and faults, from seeds.
//!
//! Each seed draws its own cluster: latencies, losses, limits, a plan of faults, fault points in the code, and what the clients do. Checkers judge
//! what the clients saw. The same seed gives the same run, event for event; a seed that fails is replayed by its number, and can be shrunk to a
//! script that says what it needs.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::builder::PossibleValuesParser;
use clap::{Parser, ValueEnum};
use cluster_tests::reduce::{self, TRIES, reduce};
use cluster_tests::scenario::{Run, attempt, draw, draw_astray, draw_moving, draw_untrusted};
use cluster_tests::script::Script;
use cluster_tests::sim::faults::Kind;
use cluster_tests::sim::{Coverage, Options};
use cluster_tests::workload::Work;

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
    /// Begin no further seed after so many seconds of real time.
    #[arg(long)]
    seconds: Option<u64>,
    /// Nodes of each cluster.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(3..=9))]
    nodes: u16,
    /// What the clients do: transfers between accounts and audits, half of the seeds through SQL; transactions on lists; transactions and single
    /// operations on registers; work under idempotency keys, done again and again.
    #[arg(long, value_parser = PossibleValuesParser::new(Work::ALL.map(Work::name)), default_value = "bank")]
    workload: String,
    /// Only faults of these kinds, separated by commas; each seed still draws its own mix. All of them if not given; `none` leaves those of the
    /// network: losses, duplicates, delays.
    #[arg(long, value_parser = PossibleValuesParser::new(fault_names()), value_delimiter = ',')]
    faults: Option<Vec<String>>,
    /// How wrong clocks go, and whether the cluster believes in their bounds.
    #[arg(long, value_enum, default_value = "inside")]
    clocks: Clocks,
    /// Three replicas of each range, on more nodes than that, and they move all the time.
    #[arg(long, conflicts_with = "clocks")]
    moves: bool,
    /// Of a seed that fails: find what it needs, and write it as a script.
    #[arg(long)]
    shrink: bool,
    /// Runs that shrinking a seed may try.
    #[arg(long, default_value_t = TRIES)]
    tries: usize,
    /// Where scripts go.
    #[arg(long, default_value = ".")]
    scripts: PathBuf,
    /// Run this script, not seeds.
    #[arg(long)]
    script: Option<PathBuf>,
    /// Write the histories of the workloads `append` and `register` into this folder, as JSON lines for other tools.
    #[arg(long)]
    history: Option<PathBuf>,
    /// Print which paths were taken and which fault points fired, over all seeds.
    #[arg(long)]
    coverage: bool,
    /// Print the trace's hash every 1000 events.
    #[arg(long)]
    ladder: bool,
    /// Print these events of the trace: the first, and the one behind the last.
    #[arg(long, num_args = 2, value_names = ["FROM", "TO"])]
    events: Option<Vec<u64>>,
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

/// The kinds of faults; and what is drawn beside the plan of faults.
fn fault_names() -> Vec<&'static str> {
    Kind::ALL.iter().map(|kind| kind.name).chain(["points", "minority", "none"]).collect()
}

impl Args {
    fn window(&self) -> Range<u64> {
        self.events.as_ref().map_or(0..0, |events| events[0]..events[1])
    }

    fn work(&self) -> Work {
        Work::named(&self.workload).expect("clap knows the names")
    }

    fn options(&self, seed: u64) -> Options {
        let nodes = usize::from(self.nodes);
        let mut options = match self.clocks {
            Clocks::Inside if self.moves => draw_moving(seed, nodes),
            Clocks::Inside => draw(seed, nodes),
            Clocks::Astray => draw_astray(seed, nodes),
            Clocks::Untrusted => draw_untrusted(seed, nodes),
        };
        options.window = self.window();
        if let Some(kinds) = &self.faults {
            let chosen = |name: &str| kinds.iter().any(|kind| kind == name);
            options.faults.0.retain(|(_, fault)| chosen(fault.kind().name));
            if !chosen("points") {
                options.points.clear();
            }
            options.abandon = options.abandon.filter(|_| chosen("minority"));
        }
        options
    }

    fn keep_histories(&self, options: &Options, run: &Run) {
        let Some(folder) = &self.history else { return };
        for (name, history) in &run.histories {
            let path = folder.join(format!("{name}-{}-{}.jsonl", options.nodes, options.seed));
            write(&path, &history.to_json_lines());
        }
    }

    fn print_trace(&self, run: &Run) {
        run.trace.words.iter().for_each(|event| println!("{event}"));
        if self.ladder {
            run.trace.ladder.iter().for_each(|rung| println!("{rung:016x}"));
        }
    }

    /// Runs one cluster and prints how it went. Says whether all was well.
    fn run(&self, work: Work, options: &Options, name: &str, sums: &mut Sums) -> bool {
        let run = attempt(work, options.clone());
        let verdict = &run.verdict;
        self.keep_histories(options, &run);
        self.print_trace(&run);
        sums.simulated += verdict.simulated;
        sums.coverage.add(&verdict.coverage);
        let Some(failure) = verdict.failure else {
            let (tally, recovered) = (verdict.tally, verdict.recoveries);
            println!(
                "{name}: ok, {} committed, {} unknown, {} retries, {} audits, {recovered} recovered, {:.1} s, trace {:016x}",
                tally.committed,
                tally.unknown,
                tally.retries,
                tally.audits,
                verdict.simulated.as_secs_f64(),
                verdict.trace
            );
            return true;
        };
        println!("{name}: FAILED\n  {}", verdict.violations.join("\n  "));
        if self.shrink {
            // Each try would tell of its assertion.
            std::panic::set_hook(Box::new(|_| {}));
            let script = reduce(Script::of(work, options), failure, self.tries, reduce::run);
            let _ = std::panic::take_hook();
            let path = self.scripts.join(format!("{}-{}-{}.script", work.name(), options.nodes, options.seed));
            let (faults, operations) = (script.faults.len(), script.operations.as_ref().map_or(0, Vec::len));
            let why = verdict.violations.join("\n# ");
            write(&path, &format!("# {why}\n{script}"));
            println!("  it needs {faults} faults and {operations} operations: see {}", path.display());
        }
        false
    }
}

fn write(path: &Path, text: &str) {
    if let Err(error) = std::fs::write(path, text) {
        eprintln!("meridian-sim: {} was not written: {error}", path.display());
    }
}

/// What all seeds came to together.
#[derive(Default)]
struct Sums {
    simulated: Duration,
    coverage: Coverage,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let began = Instant::now();
    let mut sums = Sums::default();
    let mut failed = Vec::new();
    if let Some(path) = &args.script {
        let script = std::fs::read_to_string(path).map_err(|e| e.to_string()).and_then(|text| Script::parse(&text));
        let script = match script {
            Ok(script) => script,
            Err(why) => {
                eprintln!("meridian-sim: {}: {why}", path.display());
                return ExitCode::from(2);
            }
        };
        let options = Options { window: args.window(), ..script.options() };
        if !args.run(script.work, &options, &path.display().to_string(), &mut sums) {
            failed.push(script.seed);
        }
    } else {
        let in_time = |_: &u64| args.seconds.is_none_or(|seconds| began.elapsed().as_secs() < seconds);
        for seed in (args.seed..args.seed.saturating_add(args.seeds)).take_while(in_time) {
            if !args.run(args.work(), &args.options(seed), &format!("seed {seed}"), &mut sums) {
                failed.push(seed);
            }
        }
    }
    if args.coverage {
        println!("{}", sums.coverage.table());
    }
    let real = began.elapsed().as_secs_f64();
    let simulated = sums.simulated.as_secs_f64();
    println!("{simulated:.0} simulated seconds in {real:.1} s ({:.0} a second)", simulated / real);
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("these seeds failed: {failed:?}");
    ExitCode::from(1)
}
