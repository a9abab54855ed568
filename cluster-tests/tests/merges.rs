//! Ranges are split and merged all the time, under faults.

use cluster_tests::scenario::draw_merging;
use cluster_tests::workload::Work;

mod seeds;

#[test]
fn nodes_3_keep_the_bank_whole_while_ranges_merge() {
    seeds::run(Work::Bank, 3, 120, draw_merging, "merges nodes_3");
}

#[test]
fn nodes_4_keep_lists_whole_while_ranges_merge_and_move() {
    seeds::run(Work::Append, 4, 120, draw_merging, "merges nodes_4");
}
