//! Transactions and single operations on registers under faults, over many seeds.

use cluster_tests::scenario::{draw, run_register, run_work};
use cluster_tests::sim::Options;
use cluster_tests::workload::Work;

mod seeds;

#[test]
fn nodes_3_keep_registers_in_order_under_faults() {
    seeds::run(Work::Register, 3, 130, draw, "register nodes_3");
}

#[test]
fn nodes_5_keep_registers_in_order_under_faults() {
    seeds::run(Work::Register, 5, 50, draw, "register nodes_5");
}

#[test]
fn calm_registers_make_progress() {
    let run = run_work(Work::Register, Options::calm(1, 3));
    assert_eq!(run.verdict.violations, Vec::<String>::new());
    assert!(run.verdict.tally.committed > 1000 && run.verdict.tally.audits > 100, "{:?}", run.verdict);
    assert_eq!(run.verdict.tally.unknown, 0);
    assert!(run.histories.iter().all(|(_, history)| history.events.len() > 500), "registers and cells were used");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    assert_eq!(run_register(draw(3, 3)), run_register(draw(3, 3)));
}
