//! Many clients on few rows: steady progress, and no collapse as clients double. In simulated time, where a processor is never short.

use std::sync::{Arc, Mutex};

use cluster_tests::sim::{Options, World};
use cluster_tests::workload::sql_bank;
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
    /// Of the client with the fewest.
    least: usize,
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
    // Nothing is lost or doubled: the rows hold what was acknowledged, and at most one unfinished increment a client.
    let sum = |db: Db| -> BoxFuture<'static, Result<u64, Error>> {
        Box::pin(async move {
            let mut txn = db.begin(BeginOptions::default()).await?;
            let found = txn.get(&(0..ROWS).map(row).collect::<Vec<_>>(), Lock::None).await?;
            let count = |bytes: Vec<u8>| u64::from_be_bytes(bytes.try_into().expect("eight bytes were written"));
            Ok(found.into_iter().flatten().map(count).sum())
        })
    };
    let total = world.ask(0, 5 * SECOND, sum).expect("it answers");
    let acknowledged: usize = crowd.done.lock().expect("nobody panics").iter().map(Vec::len).sum();
    let total = usize::try_from(total).expect("ten seconds are short");
    assert!(total >= 2 * done.iter().map(Vec::len).sum::<usize>() && total <= 2 * (acknowledged + clients));
    Outcome { per_second, least }
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

/// Statements that lock the same rows in opposite orders, in different ranges: the server sorts it out by itself.
#[test]
fn clients_of_single_statements_never_hear_of_a_deadlock() {
    let mut world = World::new(Options::calm(11, 3), |_, _| Vec::new(), |_, _| Box::pin(async {}));
    world.run_until(3 * SECOND, |_| false);
    let table = |db: Db| -> BoxFuture<'static, Result<(), Error>> {
        Box::pin(async move {
            let mut session = sql_bank::session(&sql_bank::open(&db));
            for text in [
                "CREATE TABLE counters (id INT8 PRIMARY KEY, n INT8 NOT NULL)",
                "INSERT INTO counters VALUES (0, 0), (1, 0), (2, 0), (3, 0)",
                "ALTER TABLE counters SPLIT AT VALUES (2)",
            ] {
                sql_bank::run(&mut session, text, &[]).await.expect("the calm cluster does it");
            }
            Ok(())
        })
    };
    world.ask(0, 10 * SECOND, table).expect("the table is there");
    let errors: Arc<Mutex<Vec<String>>> = Arc::default();
    let (done, retried): (Arc<Mutex<i64>>, Arc<Mutex<u64>>) = Default::default();
    const CLIENTS: usize = 32;
    for client in 0..CLIENTS {
        let node = client % 3;
        let db = world.db(node).expect("it runs");
        let (errors, done, retried) = (errors.clone(), done.clone(), retried.clone());
        let work = async move {
            let mut session = sql_bank::session(&sql_bank::open(&db));
            for _ in 0..20 {
                let dice = db.random() as i64;
                let rows = [dice & 1, 2 + (dice >> 1 & 1)];
                // Named in either order.
                let rows = if dice & 4 == 0 { rows } else { [rows[1], rows[0]] };
                match sql_bank::run(&mut session, "UPDATE counters SET n = n + 1 WHERE id IN ($1, $2)", &rows).await {
                    Ok((_, completion)) => {
                        *done.lock().expect("nobody panics") += 1;
                        *retried.lock().expect("nobody panics") +=
                            completion.retries.iter().map(|(_, times)| u64::from(*times)).sum::<u64>();
                    }
                    Err(error) => errors.lock().expect("nobody panics").push(error.to_string()),
                }
            }
        };
        world.spawn(node, Box::pin(work));
    }
    let until = world.now() + 60 * SECOND;
    let all = CLIENTS as i64 * 20;
    let finished = world.run_until(until, |_| *done.lock().expect("nobody panics") == all);
    assert_eq!(*errors.lock().expect("nobody panics"), Vec::<String>::new());
    assert!(finished, "{} of {all} statements are done", done.lock().expect("nobody panics"));
    println!("{} retries inside the server", retried.lock().expect("nobody panics"));
}
