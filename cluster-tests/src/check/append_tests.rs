//! The judge of lists, fed with histories that are wrong in one way each, and with good ones.

use super::*;
use crate::check::history::Kind;
use crate::check::testing::{concurrent, plant_in_lists, random_lists, serial};
use crate::sim::rng::Rng;

fn classes(history: &History) -> Vec<Class> {
    judge(history).anomalies.iter().map(|anomaly| anomaly.class).collect()
}

fn assert_good(history: &History) {
    let found = judge(history).anomalies;
    assert!(found.is_empty(), "{}", found[0]);
}

#[test]
fn good_histories_are_passed() {
    assert_good(&History::default());
    assert_good(&serial("ok a1=1 r1=[1] a1=2 | ok r1=[1,2] r2=- | fail a1=3 | ok r1=[1,2] r2=[]"));
    // Unknown outcomes: one that took effect and one that did not.
    assert_good(&serial("info a1=1 | info a1=2 | ok r1=[2] | ok r1=[2] a1=3 | ok r1=[2,3]"));
    // What overlaps may be seen or not.
    assert_good(&concurrent("ok a1=1 | ok r1=[] | ok r1=[1] | ok r1=[1,2] | ok r1=[1] a1=2"));
}

#[test]
fn each_direct_anomaly_has_its_class() {
    let cases = [
        (Class::Internal, serial("ok a1=1 r1=[]")),
        (Class::Internal, concurrent("ok r1=[] r1=[1] | ok a1=1")),
        (Class::Internal, serial("ok r1=[1] a1=1")),
        (Class::Unwritten, serial("ok r1=[5]")),
        (Class::G1a, serial("fail a1=1 | ok r1=[1]")),
        (Class::G1b, concurrent("ok a1=1 a1=2 | ok r1=[1] | ok r1=[1,2]")),
        (Class::DirtyUpdate, serial("fail a1=1 | ok a1=2 | ok r1=[1,2]")),
        (Class::Duplicate, serial("ok a1=1 | ok r1=[1,1]")),
        (Class::IncompatibleOrder, concurrent("ok a1=1 | ok a1=2 | ok r1=[1,2] | ok r1=[2,1]")),
        (Class::IncompatibleOrder, concurrent("ok a1=1 | ok a1=2 | ok r1=[1] | ok r1=[2]")),
        (Class::LostAppend, serial("ok a1=1 | ok a1=2 | ok r1=[1]")),
        (Class::Malformed, serial("ok a1=1 | ok a1=1")),
        (Class::Malformed, serial("ok w1=1")),
        (Class::Malformed, serial("p1 info a1=1 | p1 ok r1=[]")),
    ];
    for (class, history) in cases {
        assert!(classes(&history).contains(&class), "{class:?}: {:?}", judge(&history).anomalies);
    }
}

#[test]
fn each_cycle_has_its_class() {
    let cases = [
        (Class::G0, "ok a1=1 a2=1 | ok a1=2 a2=2 | ok r1=[1,2] r2=[2,1]"),
        (Class::G1c, "ok a1=1 r2=[1] | ok a2=1 r1=[1]"),
        (Class::GSingle, "ok a1=1 a2=1 | ok r1=[1] r2=[]"),
        // Both read the same list and append to it.
        (Class::GSingle, "ok r1=[] a1=1 | ok r1=[] a1=2 | ok r1=[1,2]"),
        // Two readers that disagree on which of two appends came first.
        (Class::GNonadjacent, "ok a1=1 | ok a2=1 | ok r1=[1] r2=[] | ok r1=[] r2=[1]"),
        // Write skew.
        (Class::G2Item, "ok r1=[] a2=1 | ok r2=[] a1=1"),
    ];
    for (class, text) in cases {
        let found = judge(&concurrent(text)).anomalies;
        let cycles: Vec<_> = found.iter().filter_map(|anomaly| anomaly.cycle.as_ref()).collect();
        assert_eq!(cycles.iter().map(|c| (c.class, c.order)).collect::<Vec<_>>(), [(class, Order::Data)], "{text}");
    }
}

#[test]
fn processes_and_real_time_count() {
    let order = |history: &History| {
        let found = judge(history).anomalies;
        let cycles: Vec<_> = found.iter().filter_map(|anomaly| anomaly.cycle.as_ref()).collect();
        cycles.iter().map(|cycle| (cycle.class, cycle.order)).collect::<Vec<_>>()
    };
    // Its own append is not seen by the same process, or by another that began later.
    assert_eq!(order(&serial("p1 ok a1=1 | p1 ok r1=[] | ok r1=[1]")), [(Class::GSingle, Order::Process)]);
    assert_eq!(order(&serial("ok a1=1 | ok r1=[] | ok r1=[1]")), [(Class::GSingle, Order::RealTime)]);
    assert_eq!(order(&serial("ok a1=1 | ok a1=2 | ok r1=[2,1]")), [(Class::G0, Order::RealTime)]);
    // Nobody ever saw it.
    assert_eq!(order(&serial("ok a1=1 | ok r1=[]")), [(Class::GSingle, Order::RealTime)]);
    // A read of what comes later in time.
    assert_eq!(order(&serial("ok r1=[1] | ok a1=1")), [(Class::G1c, Order::RealTime)]);
    // An unknown outcome may come at any later time, but not earlier.
    assert_eq!(order(&serial("info a1=1 | ok r1=[] | ok r1=[1]")), []);
    assert_eq!(order(&serial("ok r1=[1] | info a1=1")), [(Class::G1c, Order::RealTime)]);
    // Two keys, seen in the wrong order: each alone would be fine.
    let history = serial("ok a1=1 | ok a2=1 | ok r1=[1] r2=[1]");
    assert_good(&history);
    assert_eq!(order(&serial("ok a1=1 | ok a2=1 | ok r1=[] r2=[1] | ok r1=[1]")), [(Class::GSingle, Order::RealTime)]);
}

#[test]
fn a_cycle_is_told_in_words_and_drawn() {
    let found = judge(&concurrent("p4 ok r1=[] a2=1 | ok r2=[] a1=1")).anomalies;
    let text = found[0].to_string();
    for part in [
        "G2-item (anti-dependency cycle): a cycle of 2 transactions.",
        "T0 (process 1004: read [] of 1, append 1 to 2)",
        "T0 comes before T1: T0 read the initial state of key 1, and T1 wrote 1 over it (rw).",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let dot = found[0].cycle.as_ref().expect("it is a cycle").dot();
    assert!(dot.starts_with("digraph cycle {\n  T0 [label=") && dot.contains("T0 -> T1 [label="), "{dot}");
}

#[test]
fn one_mistake_is_told_once_and_briefly() {
    let mut history = serial(&(1..200).map(|n| format!("ok a1={n}")).collect::<Vec<_>>().join(" | "));
    for list in [vec![], (1..200).collect()] {
        let end = history.events.len() as u64;
        history.record(Kind::Invoke, end, end, vec![Micro::Read { key: 1, found: Found::Nil }]);
        history.record(Kind::Ok, end, end, vec![Micro::Read { key: 1, found: Found::List(list) }]);
    }
    let found = judge(&history).anomalies;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].cycle.as_ref().map(|cycle| cycle.steps.len()), Some(2));
}

#[test]
fn serial_histories_pass_and_one_planted_error_is_found() {
    let mut planted = BTreeMap::new();
    for seed in 0..300 {
        let mut rng = Rng::new(seed, "append");
        let mut history = random_lists(&mut rng, 80, 4);
        assert_good(&history);
        if let Some(what) = plant_in_lists(&mut history, &mut rng) {
            assert_ne!(classes(&history), [], "seed {seed}: {what}");
            *planted.entry(what).or_insert(0) += 1;
        }
    }
    assert!(planted.len() == 5 && planted.values().all(|count| *count > 20), "{planted:?}");
}

#[test]
fn long_histories_take_little_time() {
    // 20 000 operations with lists that do not grow without bound; a quadratic step would show.
    let mut rng = Rng::new(1, "long");
    let history = random_lists(&mut rng, 20_000, 1_000);
    assert_good(&history);
}
