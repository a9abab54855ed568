//! Many clients on few rows: steady progress, and no collapse as clients double. In simulated time, where a processor is never short.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use cluster_tests::sim::{Options, World};
use futures::future::BoxFuture;
use proto::{Key, keyspace};
use server::kv::{BeginOptions, Db, Error, Kv, Lock};

const SECOND: u64 = 1_000_000_000;
const ROWS: u64 = 10;

fn row(n: u64) -> Key {
    Key([&[keyspace::APPLICATION], n.to_be_bytes().as_slice()].concat())
}

/// When each client's increments of two rows were acknowledged.
#[derive(Clone, Default)]
struct Clients {
    done: Arc<Mutex<Vec<Vec<u64>>>>,
    wrong: Arc<Mutex<Vec<Error>>>,
}

impl Clients {
    /// Locks two rows, in whatever order the dice say, and counts both up.
    async fn work(self, db: Db, client: usize) {
        loop {
            let dice = db.random() as u64;
            let first = dice % ROWS;
            let second = (first + 1 + (dice >> 32) % (ROWS - 1)) % ROWS;
            let mut options = BeginOptions::default();
            loop {
                match increment(&db, [first, second], &mut options).await {
                    Ok(()) => break,
                    Err(Error::Retry(_)) => {}
                    Err(error) => return self.wrong.lock().expect("nobody panics").push(error),
                }
            }
            let now = u64::try_from(db.monotonic().as_nanos()).expect("simulations are short");
            self.done.lock().expect("nobody panics")[client].push(now);
        }
    }
}

async fn increment(db: &Db, rows: [u64; 2], options: &mut BeginOptions) -> Result<(), Error> {
    let mut txn = db.begin(options.clone()).await?;
    options.priority = Some(txn.priority());
    for n in rows {
        let found = txn.get(&[row(n)], Lock::Exclusive).await?.pop().flatten();
        let count = found.map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().expect("eight bytes were written")));
        txn.put(row(n), (count + 1).to_be_bytes().to_vec())?;
    }
    txn.commit().await.map(drop)
}

/// What a crowd came to in ten simulated seconds.
#[derive(Debug)]
struct Outcome {
    per_second: Vec<usize>,
    least: usize,
    most: usize,
}

fn run(clients: usize, ranges: u64) -> Outcome {
    const FOR: u64 = 10;
    let crowd = Clients::default();
    crowd.done.lock().expect("nobody panics").resize(clients, Vec::new());
    let mut world = World::new(Options::calm(7, 3), |_, _| Vec::new(), |_, _| Box::pin(async {}));
    world.run_until(3 * SECOND, |_| false);
    for n in 1..ranges {
        let split = move |db: Db| -> BoxFuture<'static, Result<(), Error>> {
            Box::pin(async move { db.split(&row(n * ROWS / ranges)).await })
        };
        world.ask(0, SECOND, split).expect("the split succeeds");
    }
    let began = world.now();
    for client in 0..clients {
        let node = client % 3;
        let db = world.db(node).expect("it runs");
        world.spawn(node, Box::pin(crowd.clone().work(db, client)));
    }
    world.run_until(began + FOR * SECOND, |_| false);
    assert_eq!(*crowd.wrong.lock().expect("nobody panics"), []);
    let done = crowd.done.lock().expect("nobody panics").clone();
    let mut per_second = vec![0; FOR as usize];
    for at in done.iter().flatten() {
        per_second[((at - began) / SECOND).min(FOR - 1) as usize] += 1;
    }
    let least = done.iter().map(Vec::len).min().unwrap_or(0);
    let most = done.iter().map(Vec::len).max().unwrap_or(0);
    // Nothing is lost or doubled: the rows hold what was acknowledged, and at most one unfinished increment a client.
    let total = Rc::new(RefCell::new(0));
    let sum = |db: Db| -> BoxFuture<'static, Result<u64, Error>> {
        Box::pin(async move {
            let mut txn = db.begin(BeginOptions::default()).await?;
            let found = txn.get(&(0..ROWS).map(row).collect::<Vec<_>>(), Lock::None).await?;
            let count = |bytes: Vec<u8>| u64::from_be_bytes(bytes.try_into().expect("eight bytes were written"));
            Ok(found.into_iter().flatten().map(count).sum())
        })
    };
    *total.borrow_mut() = world.ask(0, 5 * SECOND, sum).expect("it answers");
    let acknowledged: usize = crowd.done.lock().expect("nobody panics").iter().map(Vec::len).sum();
    let total = *total.borrow() as usize;
    assert!(total >= 2 * done.iter().map(Vec::len).sum::<usize>() && total <= 2 * (acknowledged + clients));
    Outcome { per_second, least, most }
}

fn check(ranges: u64) {
    let mut best = 0;
    for clients in [8, 16, 32, 64, 128, 256] {
        let outcome = run(clients, ranges);
        let total: usize = outcome.per_second.iter().sum();
        println!("{ranges} ranges, {clients} clients: {} a second, {outcome:?}", total / 10);
        best = best.max(total);
        let slowest = outcome.per_second.iter().min().copied().unwrap_or(0);
        assert!(slowest * 2 >= total / 10, "no steady progress: {outcome:?}");
        assert!(total * 2 >= best, "throughput collapses at {clients} clients: {outcome:?}");
        assert!(outcome.least > 0, "somebody starves: {outcome:?}");
    }
}

#[test]
fn ten_rows_of_one_range_bear_any_crowd() {
    check(1);
}

#[test]
fn ten_rows_of_five_ranges_bear_any_crowd() {
    check(5);
}
