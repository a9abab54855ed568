//! Transactions on lists under faults, over many seeds, searched for anomalies.

use cluster_tests::scenario::{draw, run, run_append};
use cluster_tests::sim::Options;
use cluster_tests::workload::append::Lists;

mod seeds;

/// Runs a seed; `SIM_HISTORY=folder` keeps its history there, for other tools.
fn run_seed(options: Options) -> cluster_tests::scenario::Verdict {
    let name = format!("append-{}-{}.jsonl", options.nodes, options.seed);
    let lists = Lists::default();
    let verdict = run(options, &lists);
    if let Ok(folder) = std::env::var("SIM_HISTORY") {
        let path = std::path::Path::new(&folder).join(name);
        std::fs::write(path, lists.history().to_json_lines()).expect("SIM_HISTORY names a folder that can be written");
    }
    verdict
}

#[test]
fn nodes_3_show_no_anomaly_under_faults() {
    seeds::run("append", 3, 40, run_seed);
}

#[test]
fn nodes_5_show_no_anomaly_under_faults() {
    seeds::run("append", 5, 15, run_seed);
}

#[test]
fn calm_lists_make_progress() {
    let verdict = run_append(Options::calm(1, 3));
    assert_eq!(verdict.violations, Vec::<String>::new());
    assert!(verdict.tally.committed > 1000 && verdict.tally.audits > 100, "{verdict:?}");
    assert_eq!(verdict.tally.unknown, 0);
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    assert_eq!(run_append(draw(3, 3)), run_append(draw(3, 3)));
}
