//! Many seeds of one scenario; shared by its tests.

use cluster_tests::scenario::{Verdict, draw};
use cluster_tests::sim::Options;

/// The first seed and how many, from the environment: `SIM_SEED=17 cargo test ...` replays one.
fn seeds(default: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    match (number("SIM_SEED"), number("SIM_SEEDS")) {
        (Some(seed), count) => seed..seed + count.unwrap_or(1),
        (None, count) => 0..count.unwrap_or(default),
    }
}

/// Runs a scenario over seeds, and fails with those that found something. `test` is the name of the test file.
pub fn run(test: &str, nodes: usize, default: u64, scenario: impl Fn(Options) -> Verdict) {
    run_drawn(test, nodes, default, draw, scenario);
}

/// As [`run`], with another way to draw a seed's options.
pub fn run_drawn(
    test: &str,
    nodes: usize,
    default: u64,
    draw: impl Fn(u64, usize) -> Options,
    scenario: impl Fn(Options) -> Verdict,
) {
    let mut failed = Vec::new();
    let (mut committed, mut recoveries, mut simulated) = (0, 0, std::time::Duration::ZERO);
    let began = std::time::Instant::now();
    for seed in seeds(default) {
        let verdict = scenario(draw(seed, nodes));
        committed += verdict.tally.committed;
        recoveries += verdict.recoveries;
        simulated += verdict.simulated;
        if std::env::var("SIM_VERBOSE").is_ok() {
            println!("{verdict:?}");
        }
        if !verdict.violations.is_empty() {
            println!("seed {seed} on {nodes} nodes failed; replay it with");
            println!("  SIM_SEED={seed} cargo test -p meridian-cluster-tests --test {test} nodes_{nodes}");
            println!("{verdict:#?}");
            failed.push(seed);
        }
    }
    println!(
        "{nodes} nodes: {committed} transactions committed, {recoveries} recovered, {:.0} simulated seconds in {:.1} s",
        simulated.as_secs_f64(),
        began.elapsed().as_secs_f64()
    );
    assert!(failed.is_empty(), "these seeds failed: {failed:?}");
    // One seed may do without; so many cannot, or the faults have become toothless.
    assert!(recoveries > 0 || seeds(default).count() < 20, "no seed recovered any transaction");
}
