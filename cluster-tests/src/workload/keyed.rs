//! Work under idempotency keys: each piece of work adds one to a counter, and is run again and again by clients that have crashed, lost their
//! answers, or do not know of each other.
//!
//! A piece of work has a number, which says what it does and is its key. A client takes a new one, or one that another client has begun and may be
//! at, or may have died over. In the end every piece has been run to an answer, so the counters must have been added to once for each;
//! whoever got an answer must have got the same; and what the answers say must fit the order of their commits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use proto::{Datum, Key, Timestamp, keyspace};
use server::kv::idempotency::Collector;
use server::kv::{Db, Error, Kv};
use server::sql::{self, Completion, Limits, Session, Sql};

use super::{Agenda, Tally, Workload, sql_bank};

const COUNTERS: u64 = 3;
/// Clients of each node.
const CLIENTS: usize = 2;

/// What a run of some work was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What the counter was after it.
    pub value: i64,
    pub at: Timestamp,
}

/// Everything that the clients remember; outlives their nodes.
#[derive(Debug, Default)]
pub struct History {
    next: u64,
    /// Begun, and not known to have ended.
    open: BTreeSet<u64>,
    pub done: BTreeMap<u64, Answer>,
    pub surprises: Vec<String>,
    pub replays: usize,
    pub unknown: usize,
    pub retries: u64,
    /// The counters in the end.
    pub counters: Option<Vec<i64>>,
}

/// See the module.
#[derive(Clone, Default)]
pub struct Keyed {
    pub history: Arc<Mutex<History>>,
    stopped: Arc<Mutex<bool>>,
    /// Empty: what the clients do depends on what others have begun.
    agenda: Agenda,
}

fn open(db: &Db) -> Arc<Sql> {
    // So that walks over the keys begin now and then, and never find one old enough.
    let limits =
        Limits { idempotency_retention: Duration::from_secs(120), idempotency_page_rows: 5, ..Limits::default() };
    Sql::new(Arc::new(db.clone()), limits)
}

async fn run(
    session: &mut Session,
    text: &str,
    params: &[i64],
    key: &str,
) -> Result<(Vec<Vec<Datum>>, Completion), sql::Error> {
    let statement = session.parse(text)?.into_iter().next().expect("there is a statement");
    let prepared = session.prepare(&statement, &[]).await?;
    let params = params.iter().map(|p| Datum::Int8(*p)).collect();
    session.execute_with_key(&prepared, params, key).await?.collect().await
}

fn only_value(rows: &[Vec<Datum>]) -> i64 {
    rows.first().and_then(|row| row[0].as_int()).expect("a counter has one row")
}

/// One run of some work: what it does depends on its number alone, and on what the database answers.
async fn work(session: &mut Session, number: u64) -> Result<(Answer, bool), sql::Error> {
    let (key, counter) = (format!("work {number}"), (number % COUNTERS) as i64);
    let begin = match number / COUNTERS % 4 {
        0 => {
            let text = "UPDATE counters SET n = n + 1 WHERE id = $1 RETURNING n";
            let (rows, completion) = run(session, text, &[counter], &key).await?;
            return Ok((answer(only_value(&rows), &completion), completion.replayed));
        }
        1 => "BEGIN ISOLATION LEVEL REPEATABLE READ",
        _ => "BEGIN",
    };
    run(session, begin, &[], &key).await?;
    let (rows, _) = run(session, "SELECT n FROM counters WHERE id = $1", &[counter], "").await?;
    let value = only_value(&rows) + 1;
    run(session, "UPDATE counters SET n = $2 WHERE id = $1", &[counter, value], "").await?;
    let (_, completion) = run(session, "COMMIT", &[], "").await?;
    Ok((answer(value, &completion), completion.replayed))
}

fn answer(value: i64, completion: &Completion) -> Answer {
    Answer { value, at: completion.commit_timestamp.expect("a commit has a timestamp") }
}

impl Keyed {
    fn with<T>(&self, f: impl FnOnce(&mut History) -> T) -> T {
        f(&mut self.history.lock().expect("no holder of this lock panics"))
    }

    fn is_stopped(&self) -> bool {
        *self.stopped.lock().expect("no holder of this lock panics")
    }

    /// New work, or some that is open.
    fn take(&self, dice: u64) -> u64 {
        self.with(|h| {
            let open = h.open.len() as u64;
            if open > 0 && dice & 1 == 0 {
                return *h.open.iter().nth(((dice >> 8) % open) as usize).expect("it is below their number");
            }
            h.next += 1;
            h.open.insert(h.next);
            h.next
        })
    }

    async fn work_on_and_on(&self, db: &Db) {
        let sql = open(db);
        let mut session = sql_bank::session(&sql);
        while !self.is_stopped() {
            let number = self.take(db.random() as u64);
            self.run(db, &mut session, number).await;
            db.sleep(Duration::from_micros(db.random() as u64 % 20_000)).await;
        }
    }

    /// Runs some work until it is answered, or nobody can be reached. Says whether it is done.
    async fn run(&self, db: &Db, session: &mut Session, number: u64) -> bool {
        loop {
            let result = work(session, number).await;
            let dice = db.random() as u64;
            match result {
                // The answer is lost on its way to the client, which runs it again, or leaves that to another.
                Ok((answer, _)) if dice.is_multiple_of(4) && !self.is_stopped() => {
                    self.compare(number, answer);
                    if dice & 16 == 0 {
                        return false;
                    }
                }
                Ok((answer, replayed)) => {
                    self.compare(number, answer);
                    self.with(|h| {
                        h.replays += usize::from(replayed);
                        h.open.remove(&number);
                        h.done.insert(number, answer);
                    });
                    return true;
                }
                Err(error) => {
                    // Whatever it answers: the transaction is over.
                    let _ = sql_bank::run(session, "ROLLBACK", &[]).await;
                    match sql_bank::cause(&error) {
                        Some(Error::Retry(_)) => self.with(|h| h.retries += 1),
                        Some(Error::OutcomeUnknown { .. }) => {
                            self.with(|h| h.unknown += 1);
                            return false;
                        }
                        Some(_) => return false,
                        None => {
                            self.with(|h| h.surprises.push(format!("work {number}: {error} ({:?})", error.detail)));
                            return false;
                        }
                    }
                    db.sleep(Duration::from_micros(dice % 5_000)).await;
                }
            }
        }
    }

    /// Everybody who is answered is answered the same, also who does not get to hear it.
    fn compare(&self, number: u64, answer: Answer) {
        self.with(|h| {
            let before = *h.done.entry(number).or_insert(answer);
            if before != answer {
                h.surprises.push(format!("work {number} was answered {before:?}, and then {answer:?}"));
            }
        });
    }

    async fn collect_on_and_on(&self, db: &Db, collector: Collector) {
        while !self.is_stopped() {
            let pause = match collector.step().await {
                Ok(pause) => pause,
                Err(Error::Retry(_) | Error::Unavailable(_) | Error::OutcomeUnknown { .. }) => collector.idle(),
                Err(other) => return self.with(|h| h.surprises.push(format!("collecting keys: {other}"))),
            };
            db.sleep(pause).await;
        }
    }

    async fn load_tables(db: &Db) -> Result<(), sql::Error> {
        let mut session = sql_bank::session(&open(db));
        sql_bank::run(&mut session, "CREATE TABLE IF NOT EXISTS counters (id INT8 PRIMARY KEY, n INT8 NOT NULL)", &[])
            .await?;
        let rows: Vec<String> = (0..COUNTERS).map(|id| format!("({id}, 0)")).collect();
        let text = format!("INSERT INTO counters VALUES {} ON CONFLICT DO NOTHING", rows.join(", "));
        sql_bank::run(&mut session, &text, &[]).await.map(drop)
    }

    /// Ends all work that is still open, and reads the counters.
    async fn settle(&self, db: &Db) -> Result<(), sql::Error> {
        let mut session = sql_bank::session(&open(db));
        for number in self.with(|h| h.open.clone()) {
            if !self.run(db, &mut session, number).await {
                return Err(sql::Error::from(Error::Unavailable(format!("work {number} was not answered"))));
            }
        }
        let (rows, _) = sql_bank::run(&mut session, "SELECT n FROM counters ORDER BY id", &[]).await?;
        self.with(|h| h.counters = Some(rows.iter().filter_map(|row| row[0].as_int()).collect()));
        Ok(())
    }
}

/// What is wrong with what was remembered.
fn violations(history: &History) -> Vec<String> {
    let mut found = history.surprises.clone();
    let Some(counters) = &history.counters else { return found };
    for counter in 0..COUNTERS {
        let mut answers: Vec<(Answer, u64)> =
            history.done.iter().filter(|(n, _)| **n % COUNTERS == counter).map(|(n, a)| (*a, *n)).collect();
        answers.sort_by_key(|(answer, _)| answer.value);
        let value = counters.get(counter as usize).copied().unwrap_or(-1);
        if value != answers.len() as i64 {
            found.push(format!("counter {counter} is {value} after {} pieces of work", answers.len()));
        }
        for (expected, (answer, number)) in (1..).zip(&answers) {
            if answer.value != expected {
                found.push(format!("work {number} left counter {counter} at {}, not at {expected}", answer.value));
                break;
            }
        }
        if let Some(pair) = answers.windows(2).find(|pair| pair[0].0.at >= pair[1].0.at) {
            found.push(format!("the commits of counter {counter} are out of order: {pair:?}"));
        }
    }
    found
}

impl Workload for Keyed {
    fn load(&self, db: Db) -> BoxFuture<'static, Result<(), Error>> {
        Box::pin(async move { Keyed::load_tables(&db).await.map_err(explained) })
    }

    fn tasks(&self, db: &Db) -> Vec<BoxFuture<'static, ()>> {
        let mut tasks: Vec<BoxFuture<'static, ()>> = Vec::new();
        for _ in 0..CLIENTS {
            let (clients, db) = (self.clone(), db.clone());
            tasks.push(Box::pin(async move { clients.work_on_and_on(&db).await }));
        }
        let (clients, db) = (self.clone(), db.clone());
        tasks.push(Box::pin(async move {
            let collector = open(&db).key_collector();
            clients.collect_on_and_on(&db, collector).await
        }));
        tasks
    }

    /// Between the counters, or between the keys.
    fn split(&self, db: Db, dice: u64) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            // Under faults it may fail; the next one may not.
            if dice & 1 == 0 {
                let _ = db.split(&Key(vec![keyspace::IDEMPOTENCY, (dice >> 8) as u8])).await;
                return;
            }
            let text = format!("ALTER TABLE counters SPLIT AT VALUES ({})", (dice >> 8) % COUNTERS);
            let _ = sql_bank::run(&mut sql_bank::session(&open(&db)), &text, &[]).await;
        })
    }

    fn stop(&self) {
        *self.stopped.lock().expect("no holder of this lock panics") = true;
    }

    fn finish(&self, db: Db) -> BoxFuture<'static, Result<(), Error>> {
        let clients = self.clone();
        Box::pin(async move { clients.settle(&db).await.map_err(explained) })
    }

    /// Nothing of this rests on clocks, so nothing depends on whether they kept their bounds.
    fn judge(&self, _real_time: bool) -> Vec<String> {
        self.with(|h| violations(h))
    }

    fn agenda(&self) -> &Agenda {
        &self.agenda
    }

    fn tally(&self) -> Tally {
        self.with(|h| Tally { committed: h.done.len(), unknown: h.unknown, audits: h.replays, retries: h.retries })
    }
}

fn explained(error: sql::Error) -> Error {
    sql_bank::cause(&error).unwrap_or_else(|| Error::Corrupt(format!("{} {}", error.sqlstate, error.message)))
}
