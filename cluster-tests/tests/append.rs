//! Transactions on lists under faults, over many seeds, searched for anomalies.

use cluster_tests::scenario::{draw, run_append};
use cluster_tests::sim::Options;
use cluster_tests::workload::Work;

mod seeds;

#[test]
fn nodes_3_show_no_anomaly_under_faults() {
    seeds::run(Work::Append, 3, 160, draw, "append nodes_3");
}

#[test]
fn nodes_5_show_no_anomaly_under_faults() {
    seeds::run(Work::Append, 5, 60, draw, "append nodes_5");
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
