//! Many seeds of one workload; shared by its tests.

use cluster_tests::scenario::attempt;
use cluster_tests::sim::{Coverage, Options};
use cluster_tests::workload::Work;

/// What the seeds of every day may miss: a crash between two writes that follow each other at once, damage that is found between two messages, an
/// election in the middle of a change of members, a crash in the middle of a transfer that the engine was made durable after it had begun.
const RARE: &[&str] = &[
    "LogCaughtUp",
    "RecoveryOvertaken",
    "SlowRecovery",
    "CreatedEmpty",
    "ContentsResumed",
    "SplitOfRemoved",
    "MergeMissed",
    "OutgoingLeader",
];

/// What happens only where replicas move.
const OF_MOVES: &[&str] = &[
    "JointEntered",
    "MembersChanged",
    "ReplicaDeleted",
    "RemovedTold",
    "SplitOfRemoved",
    "FoundElsewhere",
    "HollowedOut",
    "TransferGivenUp",
    "SplitWished",
    "Placed",
];

/// What happens only where nodes drain and are decommissioned.
const OF_MEMBERS: &[&str] = &["NodeDrained", "NodeRetired"];

/// What happens only where ranges are merged all the time.
const OF_MERGES: &[&str] = &["CaughtUpForMerge", "SubsumedCleared"];

/// Fewer seeds than this may miss anything.
const ENOUGH: usize = 40;

/// The first seed and how many, from the environment: `SIM_SEED=17 cargo test ...` replays one.
fn seeds(default: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    match (number("SIM_SEED"), number("SIM_SEEDS")) {
        (Some(seed), count) => seed..seed + count.unwrap_or(1),
        (None, count) => 0..count.unwrap_or(default),
    }
}

/// Runs a workload over seeds, and fails with those that found something, or if together they miss a path that is not rare. `draw` says what a
/// seed means, `test` which file and test this is. `SIM_HISTORY=folder` keeps histories there, for other tools.
pub fn run(work: Work, nodes: usize, default: u64, draw: impl Fn(u64, usize) -> Options, test: &str) {
    let mut failed = Vec::new();
    let mut coverage = Coverage::default();
    let (mut committed, mut recoveries, mut simulated) = (0, 0, std::time::Duration::ZERO);
    let began = std::time::Instant::now();
    for seed in seeds(default) {
        let run = attempt(work, draw(seed, nodes));
        let verdict = run.verdict;
        committed += verdict.tally.committed;
        recoveries += verdict.recoveries;
        simulated += verdict.simulated;
        coverage.add(&verdict.coverage);
        if std::env::var("SIM_VERBOSE").is_ok() {
            println!("{verdict:?}");
        }
        if let Ok(folder) = std::env::var("SIM_HISTORY") {
            for (name, history) in run.histories {
                let path = std::path::Path::new(&folder).join(format!("{name}-{nodes}-{seed}.jsonl"));
                std::fs::write(path, history.to_json_lines()).expect("SIM_HISTORY names a folder that can be written");
            }
        }
        if verdict.failure.is_some() {
            println!("seed {seed} on {nodes} nodes failed; replay it with");
            println!("  SIM_SEED={seed} cargo test -p meridian-cluster-tests --test {test}");
            println!("{:#?}", verdict.violations);
            failed.push(seed);
        }
    }
    println!(
        "{nodes} nodes: {committed} transactions committed, {recoveries} recovered, {:.0} simulated seconds in {:.1} s",
        simulated.as_secs_f64(),
        began.elapsed().as_secs_f64()
    );
    println!("{}", coverage.table());
    assert!(failed.is_empty(), "these seeds failed: {failed:?}");
    // One seed may do without; so many cannot, or the faults have become toothless.
    let moves = draw(0, nodes).replicas < nodes;
    let merges = test.starts_with("merges");
    let rare = RARE.iter().chain(OF_MOVES.iter().filter(|_| !moves)).chain(OF_MERGES.iter().filter(|_| !merges));
    let members = seeds(default).any(|seed| draw(seed, nodes).faults.changes_members());
    let rare: Vec<&str> = rare.chain(OF_MEMBERS.iter().filter(|_| !members)).copied().collect();
    let missing = coverage.missing(&rare);
    assert!(missing.is_empty() || seeds(default).count() < ENOUGH, "no seed reached {missing:?}");
}
