//! Clocks outside their bounds: in a cluster that trusts them they harm nobody and stop themselves; in one that does not, all
//! transactions stay serializable.

use std::time::Duration;

use cluster_tests::scenario::{draw_astray, draw_untrusted, run_and_ask};
use cluster_tests::sim::{Fault, FaultPlan, Options, World};
use cluster_tests::workload::append::Lists;
use cluster_tests::workload::{Agenda, Work, operation};
use server::kv::{BeginOptions, Db, Error, Kv};

mod seeds;

#[test]
fn nodes_3_with_clocks_astray_keep_the_bank_whole() {
    seeds::run(Work::Bank, 3, 39, draw_astray, "clocks nodes_3_with_clocks_astray");
}

#[test]
fn nodes_5_with_clocks_astray_show_no_anomaly() {
    seeds::run(Work::Append, 5, 30, draw_astray, "clocks nodes_5_with_clocks_astray");
}

#[test]
fn nodes_3_with_clocks_untrusted_keep_the_bank_whole() {
    seeds::run(Work::Bank, 3, 39, draw_untrusted, "clocks nodes_3_with_clocks_untrusted");
}

#[test]
fn nodes_3_with_clocks_untrusted_show_no_anomaly() {
    seeds::run(Work::Append, 3, 39, draw_untrusted, "clocks nodes_3_with_clocks_untrusted");
}

/// What untrusted clocks do not promise would be missed if anyone asked for it.
#[test]
fn the_checkers_see_real_time_order_go() {
    let agenda = |seed| Agenda::new(&operation::draw(Work::Append, seed, 3));
    let asked = |seed| run_and_ask(draw_untrusted(seed, 3), &Lists::new(agenda(seed)), true).verdict;
    assert!((0..10).any(|seed| !asked(seed).violations.is_empty()));
}

const SECOND: u64 = 1_000_000_000;

fn begin(world: &mut World, node: usize) -> Result<(), String> {
    let begin = |db: Db| -> futures::future::BoxFuture<'static, Result<(), Error>> {
        Box::pin(async move { db.begin(BeginOptions::default()).await.map(drop) })
    };
    world.ask(node, SECOND, begin)
}

/// A node whose clock jumps by an hour, either way, serves nothing, says why, and goes on once it is right again; the others never stop.
#[test]
fn a_node_outside_the_bound_stops_serving_says_so_and_resumes() {
    for by_ms in [3_600_000, -3_600_000, 300, -300] {
        let mut options = Options::calm(1, 3);
        options.max_error = Duration::from_millis(1);
        let astray = Fault::ClockAstray { node: 1, by_ms, for_ns: 5 * SECOND };
        options.faults = FaultPlan(vec![(SECOND, astray)]);
        let mut world = World::new(options, |_, _| Vec::new(), |_, _| Box::pin(async {}));
        world.run_until(5 * SECOND, |_| false);
        assert!((0..3).all(|node| begin(&mut world, node).is_ok()));
        world.unleash();
        let until = world.now() + 3 * SECOND;
        world.run_until(until, |_| false);
        let refused = begin(&mut world, 1).expect_err("its clock is wrong");
        assert!(refused.contains("n2 serves nothing") && refused.contains("that of n1 is"), "{refused}");
        assert!(begin(&mut world, 0).is_ok() && begin(&mut world, 2).is_ok());
        let leads = |world: &World| {
            let process = world.nodes[1].process.as_ref().expect("it runs");
            process.store.replicas().filter(|r| r.is_serving()).count()
        };
        assert_eq!(leads(&world), 0, "its leadership is given away");
        let until = world.now() + 4 * SECOND;
        world.run_until(until, |_| false);
        assert_eq!(begin(&mut world, 1), Ok(()));
    }
}
