//! Replicas move all the time, under faults.

use cluster_tests::scenario::draw_moving;
use cluster_tests::workload::Work;

mod seeds;

#[test]
fn nodes_4_keep_the_bank_whole_while_replicas_move() {
    seeds::run(Work::Bank, 4, 80, draw_moving, "moves nodes_4");
}

#[test]
fn nodes_5_keep_lists_whole_while_replicas_move() {
    seeds::run(Work::Append, 5, 80, draw_moving, "moves nodes_5");
}
