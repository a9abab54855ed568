//! A failing run becomes a short script that fails in the same way.

use cluster_tests::reduce::reduce;
use cluster_tests::scenario::{Run, attempt, draw};
use cluster_tests::script::Script;
use cluster_tests::sim::disk::PlantedInDisk;
use cluster_tests::sim::{Fault, Options, Planted};
use cluster_tests::workload::Work;

/// With a recovery that does not cut torn tails off; on slow disks, where a tear mostly finds a write under way.
fn run(script: &Script) -> Run {
    let disk = PlantedInDisk { tail_kept: true, ..PlantedInDisk::default() };
    let planted = Planted { disk, ..Planted::default() };
    attempt(script.work, Options { planted, sync_min: 20_000_000, sync_max: 60_000_000, ..script.options() })
}

#[test]
fn a_planted_mistake_is_reduced_to_the_faults_that_show_it() {
    const SECOND: u64 = 1_000_000_000;
    let torn = |time: u64| (time * SECOND / 4, Fault::Tear { node: 1, down_ns: SECOND / 10 });
    let options = |seed| {
        let mut options = draw(seed, 3);
        options.faults.0.extend((1..20).map(torn));
        options.faults.0.sort_by_key(|(at, _)| *at);
        options
    };
    let mut scripts = (0..60).map(|seed| Script::of(Work::Bank, &options(seed)));
    let (script, failure) = scripts
        .find_map(|script| run(&script).verdict.failure.map(|failure| (script, failure)))
        .expect("some seed finds it");
    let reduced = reduce(script.clone(), failure, 400, run);
    assert!(!reduced.faults.is_empty() && reduced.faults.len() * 4 <= script.faults.len(), "{reduced}");
    assert!(reduced.operations.as_ref().is_some_and(|operations| operations.len() < 200), "{reduced}");
    // It is what it says, also from text.
    let again = Script::parse(&reduced.to_string()).expect("it is a script");
    assert_eq!(run(&again).verdict.failure, Some(failure));
}
