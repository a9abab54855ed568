//! A seed is one run, event for event: in one process twice, and in another.

use std::ops::Range;
use std::process::Command;

use cluster_tests::scenario::{draw, run_work};
use cluster_tests::sim::Options;
use cluster_tests::sim::trace::{Trace, first_difference, parting};
use cluster_tests::workload::Work;

fn here(work: Work, seed: u64, window: Range<u64>) -> Trace {
    run_work(work, Options { window, ..draw(seed, 3) }).trace
}

/// What `meridian-sim` prints of a seed's trace.
fn elsewhere(work: Work, seed: u64, args: &[&str]) -> Vec<String> {
    let seed = seed.to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_meridian-sim"))
        .args(["--workload", work.name(), "--seed", &seed])
        .args(args)
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().take_while(|line| !line.starts_with("seed ")).map(ToString::to_string).collect()
}

/// Fails with the first event that differs.
fn agree(what: &str, left: &[u64], right: &[u64], words: impl Fn(bool, Range<u64>) -> Vec<String>) {
    if let Some(window) = parting(left, right) {
        let (left, right) = (words(true, window.clone()), words(false, window.clone()));
        let difference = first_difference(&left, &right);
        panic!("{what}: the runs come apart between events {window:?}: {difference:?}");
    }
    assert_eq!(left.len(), right.len(), "{what}: one run is longer");
}

#[test]
fn a_seed_is_one_run() {
    for work in Work::ALL {
        for seed in [3, 11] {
            let what = format!("{} seed {seed}", work.name());
            let first = here(work, seed, 0..0);
            assert!(first.ladder.len() > 20, "{what} is long");
            let second = here(work, seed, 0..0);
            agree(&what, &first.ladder, &second.ladder, |_, window| here(work, seed, window).words);
            assert_eq!(first.hash, second.hash, "{what}: the runs differ after their last rung");
            let rung = |line: &String| u64::from_str_radix(line, 16).expect("a rung is a number");
            let third: Vec<u64> = elsewhere(work, seed, &["--ladder"]).iter().map(rung).collect();
            agree(&what, &first.ladder, &third, |inside, window| {
                if inside {
                    return here(work, seed, window).words;
                }
                elsewhere(work, seed, &["--events", &window.start.to_string(), &window.end.to_string()])
            });
        }
    }
}

/// The window in words is the same in both, so that a difference could be shown.
#[test]
fn events_can_be_told_in_words() {
    let words = here(Work::Bank, 3, 20..60).words;
    assert_eq!(words.len(), 40);
    assert_eq!(words, elsewhere(Work::Bank, 3, &["--events", "20", "60"]));
}
