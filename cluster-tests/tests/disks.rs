//! Disks that stop answering.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cluster_tests::sim::{Fault, FaultPlan, Options, World};
use futures::future::BoxFuture;
use proto::{Key, keyspace};
use server::kv::{BeginOptions, Db, Error, Kv};

const SECOND: u64 = 1_000_000_000;

fn leader(world: &World) -> Option<usize> {
    let leads = |node: &usize| {
        let process = world.nodes[*node].process.as_ref();
        process.is_some_and(|p| p.store.replicas().any(|r| r.is_serving()))
    };
    (0..world.nodes.len()).find(leads)
}

async fn write(db: &Db) -> Result<(), Error> {
    let mut txn = db.begin(BeginOptions::default()).await?;
    txn.put(Key(vec![keyspace::APPLICATION, 1]), b"value".to_vec())?;
    txn.commit().await.map(drop)
}

/// Leadership rests on a recent sync: a leader whose disk stalls gives it away within the election timeout, and clients of other nodes hardly notice.
#[test]
fn a_stalled_disk_gives_leadership_away_within_the_election_timeout() {
    let mut options = Options::calm(3, 3);
    let knobs = options.knobs.clone();
    let election = knobs.tick * knobs.raft_tick_every * u32::try_from(knobs.election_ticks).expect("it is small");
    options.faults = FaultPlan((0..3).map(|node| (0, Fault::DiskStall { node, for_ns: 20 * SECOND })).collect());
    let mut world = World::new(options, |_, _| Vec::new(), |_, _| Box::pin(async {}));
    world.run_until(5 * SECOND, |_| false);
    let stalled = leader(&world).expect("somebody leads");
    // Only the leader's disk stalls.
    world.options.faults.0.retain(|(_, fault)| matches!(fault, Fault::DiskStall { node, .. } if *node == stalled));
    let client = (stalled + 1) % 3;
    let times: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let (db, done) = (world.db(client).expect("it runs"), times.clone());
    let work: BoxFuture<'static, ()> = Box::pin(async move {
        loop {
            write(&db).await.expect("two of three disks are well");
            done.lock().expect("nobody panics").push(db.monotonic());
        }
    });
    world.spawn(client, work);
    let until = world.now() + SECOND;
    world.run_until(until, |_| false);
    let began = world.now();
    world.unleash();
    let given = world.run_until(began + SECOND, |world| leader(world).is_some_and(|leader| leader != stalled));
    let took = Duration::from_nanos(world.now() - began);
    assert!(
        given && took <= election,
        "leadership is where it was after {took:?}; the election timeout is {election:?}"
    );
    world.run_until(began + 15 * SECOND, |_| false);
    let times = times.lock().expect("nobody panics");
    let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max().expect("writes were made");
    assert!(longest < election * 2, "nothing was written for {longest:?}");
    assert_ne!(leader(&world), Some(stalled), "whoever cannot write to his disk does not lead");
}
