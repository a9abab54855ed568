//! The protocols, checked in every state of small models; and the planted mistakes, each found.

use std::time::Instant;

use cluster_tests::model::bug::Bug;
use cluster_tests::model::clocks::Clocks;
use cluster_tests::model::commit::Commit;
use cluster_tests::model::fence::Fence;
use cluster_tests::model::log::Log;
use cluster_tests::model::versions::Collection;
use stateright::{Checker, HasDiscoveries, Model};

/// Explores everything; each claim holds in each state, and what should be seen in some is seen.
fn holds<M>(name: &str, model: M)
where
    M: Model + Send + Sync + 'static,
    M::State: std::fmt::Debug + std::hash::Hash + PartialEq + Clone + Send + Sync,
    M::Action: std::fmt::Debug + PartialEq + Clone + Send + Sync,
{
    let begun = Instant::now();
    let checker = model.checker().spawn_bfs().join();
    println!("{name}: {} states, {:?}", checker.unique_state_count(), begun.elapsed());
    checker.assert_properties();
}

#[test]
fn commit_and_recovery_hold() {
    holds("commit", Commit { bug: None });
}

/// A mistake, and the claim that it breaks.
fn finds<M>(model: M, claim: &'static str)
where
    M: Model + Send + Sync + 'static,
    M::State: std::fmt::Debug + std::hash::Hash + PartialEq + Clone + Send + Sync,
    M::Action: std::fmt::Debug + PartialEq + Clone + Send + Sync,
{
    let begun = Instant::now();
    let broken = HasDiscoveries::AllOf([claim].into());
    let checker = model.checker().finish_when(broken).spawn_bfs().join();
    let path = checker.assert_any_discovery(claim).into_actions();
    println!(
        "{claim}: broken in {} steps, {} states, {:?}: {path:?}",
        path.len(),
        checker.unique_state_count(),
        begun.elapsed()
    );
}

#[test]
fn mistakes_in_the_commit_are_found() {
    for (bug, claim) in [
        (Bug::NoLowWaterMark, "I2 I5 serializable"),
        (Bug::ValidationAfterStaging, "I2 I5 serializable"),
        (Bug::LateDuplicateIntent, "I9 nothing committed is lost"),
        (Bug::RecoveryRacesRestage, "I6 I8 implicitly committed stays so"),
        (Bug::PreparedBeforeRecord, "I9 nothing committed is lost"),
        (Bug::EntryOfAnotherTerm, "I2 I5 serializable"),
        (Bug::RecordResurrected, "I8 a final record is final"),
        (Bug::RecordCollectedEarly, "I9 nothing committed is lost"),
    ] {
        println!("{bug:?}");
        finds(Commit { bug: Some(bug) }, claim);
    }
}

#[test]
fn a_fence_is_never_undercut() {
    holds("fence", Fence { bug: None });
    for bug in [Bug::NoLowWaterMark, Bug::ShrunkWindow] {
        finds(Fence { bug: Some(bug) }, "I2 no write below a served read");
    }
}

#[test]
fn real_time_order_holds_inside_the_bound() {
    holds("clocks", Clocks { bug: None, error: Clocks::BOUND });
    finds(Clocks { bug: Some(Bug::NoCommitWait), error: Clocks::BOUND }, "real-time order");
    // Outside the bound it is not promised; the model can tell.
    finds(Clocks { bug: None, error: Clocks::BOUND + 1 }, "real-time order");
}

#[test]
fn reads_above_the_threshold_miss_nothing() {
    holds("versions", Collection { bug: None });
    for bug in [Bug::WriteBelowThreshold, Bug::ReadBelowThreshold] {
        finds(Collection { bug: Some(bug) }, "I16 a read finds what it should");
    }
}

#[test]
fn what_is_acknowledged_outlives_crashes() {
    holds("log", Log { bug: None });
    finds(Log { bug: Some(Bug::AckBeforeFsync) }, "acknowledged is durable");
}
