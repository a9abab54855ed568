//! The bank under faults, over many seeds.

use cluster_tests::scenario::{draw, run_bank};
use cluster_tests::sim::Options;
use cluster_tests::workload::Work;

mod seeds;

#[test]
fn nodes_3_keep_the_bank_whole_under_faults() {
    seeds::run(Work::Bank, 3, 280, draw, "bank nodes_3");
}

#[test]
fn nodes_5_keep_the_bank_whole_under_faults() {
    seeds::run(Work::Bank, 5, 90, draw, "bank nodes_5");
}

#[test]
fn a_calm_bank_makes_progress() {
    let verdict = run_bank(Options::calm(1, 3));
    assert_eq!(verdict.violations, Vec::<String>::new());
    assert!(verdict.tally.committed > 1000, "{verdict:?}");
    assert_eq!(verdict.tally.unknown, 0);
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [3, 11] {
        let (first, second) = (run_bank(draw(seed, 3)), run_bank(draw(seed, 3)));
        assert_eq!(first, second);
        assert_ne!(first.trace, run_bank(draw(seed + 1, 3)).trace);
    }
}
