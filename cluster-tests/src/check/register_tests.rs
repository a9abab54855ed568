//! The judge of registers, fed with histories that are wrong in one way each, and with good ones.

use super::*;
use crate::check::testing::{concurrent, plant_stale_register, random_registers, serial};
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
    assert_good(&serial("ok w1=1 r1=1 w1=2 | ok r1=2 r2=- | fail w1=3 | ok r1=2"));
    assert_good(&serial("info w1=1 | info w1=2 | ok r1=- | ok r1=2 w1=3 | ok r1=3"));
    assert_good(&concurrent("ok w1=1 | ok r1=- | ok r1=1 | ok r1=2 | ok r1=1 w1=2"));
    // Blind writes that overlap may come in any order.
    assert_good(&concurrent("ok w1=1 w2=1 | ok w1=2 w2=2 | ok r1=1 r2=1 | ok r1=2 r2=2"));
}

#[test]
fn each_direct_anomaly_has_its_class() {
    let cases = [
        (Class::Internal, serial("ok w1=1 r1=-")),
        (Class::Internal, concurrent("ok r1=- r1=1 | ok w1=1")),
        (Class::Internal, serial("ok r1=1 w1=1")),
        (Class::Unwritten, serial("ok r1=5")),
        (Class::G1a, serial("fail w1=1 | ok r1=1")),
        (Class::G1b, concurrent("ok w1=1 w1=2 | ok r1=1")),
        (Class::LostUpdate, concurrent("ok r1=- w1=1 | ok r1=- w1=2")),
        (Class::LostUpdate, concurrent("ok w1=1 | ok r1=1 w1=2 | ok r1=1 w1=3")),
        (Class::Malformed, serial("ok w1=1 | ok w1=1")),
        (Class::Malformed, serial("ok a1=1")),
    ];
    for (class, history) in cases {
        assert!(classes(&history).contains(&class), "{class:?}: {:?}", judge(&history).anomalies);
    }
}

#[test]
fn each_cycle_has_its_class() {
    let data = Order::Data;
    let cases = [
        // Each overwrites what it read of the other.
        (Class::G0, data, concurrent("ok r1=1 w1=2 w2=1 | ok w1=1 r2=1 w2=2")),
        (Class::G1c, data, concurrent("ok w1=1 r2=1 | ok w2=1 r1=1")),
        (Class::GSingle, data, concurrent("ok w1=1 w2=1 | ok r1=1 r2=-")),
        (Class::GNonadjacent, data, concurrent("ok w1=1 | ok w2=1 | ok r1=1 r2=- | ok r1=- r2=1")),
        (Class::G2Item, data, concurrent("ok r1=- w2=1 | ok r2=- w1=1")),
        (Class::GSingle, Order::Process, serial("p1 ok w1=1 | p1 ok r1=-")),
        (Class::GSingle, Order::RealTime, serial("ok w1=1 | ok r1=-")),
        (Class::GSingle, Order::RealTime, serial("ok w1=1 | ok w1=2 | ok r1=1")),
        (Class::G1c, Order::RealTime, serial("ok r1=1 | ok w1=1")),
    ];
    for (class, order, history) in cases {
        let found = judge(&history).anomalies;
        let cycles: Vec<_> = found.iter().filter_map(|anomaly| anomaly.cycle.as_ref()).collect();
        let found: Vec<_> = cycles.iter().map(|cycle| (cycle.class, cycle.order)).collect();
        assert_eq!(found, [(class, order)], "{history:?}");
    }
}

#[test]
fn serial_histories_pass_and_a_planted_stale_read_is_found() {
    let mut planted = 0;
    for seed in 0..200 {
        let mut rng = Rng::new(seed, "register");
        let mut history = random_registers(&mut rng, 80, 4, 4);
        assert_good(&history);
        if plant_stale_register(&mut history, &mut rng) {
            planted += 1;
            assert_ne!(classes(&history), [], "seed {seed}");
        }
    }
    assert!(planted > 150, "only {planted}");
}
