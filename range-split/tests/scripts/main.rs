//! Golden scripts of the decisions about ranges.
//!
//! * `range-split/scripts/policy`: one range and its load, or two neighbours ([`policy`]).
//! * `range-split/scripts/placement`: a cluster, planned round by round ([`placement`]).

#[path = "../cluster/mod.rs"]
mod cluster;
mod words;
mod policy;
mod placement;

use std::path::Path;

test_each_file::test_each_path! { in "./range-split/scripts/policy" as policy_scripts => run_policy }
test_each_file::test_each_path! { in "./range-split/scripts/placement" as placement_scripts => run_placement }

fn run_policy(path: &Path) {
    goldenscript::run(&mut policy::PolicyRunner::default(), path).expect("the script runs as written");
}

fn run_placement(path: &Path) {
    goldenscript::run(&mut placement::PlacementRunner::default(), path).expect("the script runs as written");
}
