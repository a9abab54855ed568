//! `meridian-sim` as a user runs it.

use std::process::{Command, Output};

fn sim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_meridian-sim")).args(args).output().expect("the binary runs")
}

/// What it prints but for how long it took.
fn told(args: &[&str]) -> String {
    let output = sim(args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (seeds, total) = text.trim_end().rsplit_once('\n').expect("the total comes last");
    assert!(total.contains("simulated seconds"), "{total}");
    seeds.to_string()
}

#[test]
fn a_seed_repeats_itself_in_another_process() {
    for workload in ["bank", "append", "register"] {
        let args = ["--seed", "3", "--seeds", "2", "--workload", workload];
        let first = told(&args);
        assert_eq!(first.lines().filter(|line| line.contains(": ok, ")).count(), 2, "{first}");
        assert_eq!(first, told(&args));
    }
}

#[test]
fn faults_can_be_chosen() {
    let all = told(&["--seed", "3"]);
    let none = told(&["--seed", "3", "--faults", "none"]);
    let some = told(&["--seed", "3", "--faults", "crash,one-way"]);
    assert!(all != none && some != none && some != all, "{all}\n{none}\n{some}");
    let wrong = sim(&["--faults", "rain"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("disk-stall"), "it names what there is");
}
