//! Do the judges bite? Bugs planted around the database must be found, in few seeds.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use cluster_tests::scenario::{Verdict, draw, run_append, run_bank};
use cluster_tests::sim::faults::{Fault, FaultPlan};
use cluster_tests::sim::{Options, Planted};

/// Whether some seed finds something: a violation, or an assertion of the database itself.
fn found(seeds: Range<u64>, scenario: fn(Options) -> Verdict, options: impl Fn(u64) -> Options) -> bool {
    seeds.into_iter().any(|seed| {
        let run = catch_unwind(AssertUnwindSafe(|| scenario(options(seed))));
        run.is_err() || run.is_ok_and(|verdict| !verdict.violations.is_empty())
    })
}

const SECOND: u64 = 1_000_000_000;

fn lying_disks(seed: u64) -> Options {
    let mut options = draw(seed, 3);
    options.planted = Planted { lying_disks: true, ..Planted::default() };
    // Everybody falls at once, as when the power fails.
    let fall = |at: u64| (0..3).map(move |node| (at * SECOND, Fault::Crash { node, down_ns: SECOND / 2 }));
    options.faults = FaultPlan(fall(6).chain(fall(11)).collect());
    options
}

fn longer_window(seed: u64) -> Options {
    let mut options = Options::calm(seed, 3);
    options.knobs.read_window = Duration::from_millis(20);
    options.planted = Planted { longer_window: Some(Duration::from_secs(20)), ..Planted::default() };
    // It sleeps through its succession, and wakes up without hearing of it at once.
    let oversleep = |at: u64| {
        let isolate = Fault::Isolate { node: 0, for_ns: 3 * SECOND + SECOND / 2 };
        [(at * SECOND, isolate), (at * SECOND + 1, Fault::Pause { node: 0, for_ns: 3 * SECOND })]
    };
    options.faults = FaultPlan([4, 8, 12, 16].into_iter().flat_map(oversleep).collect());
    options
}

#[test]
fn acknowledging_before_the_sync_is_found() {
    assert!(found(0..10, run_bank, lying_disks));
    assert!(found(0..10, run_append, lying_disks));
}

#[test]
fn a_leader_that_serves_reads_beyond_its_successors_low_water_mark_is_found() {
    assert!(found(0..20, run_bank, longer_window));
    assert!(found(0..20, run_append, longer_window));
}
