//! Transactions that append to lists and read them, through the driver.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use client::driver::{Client, Error};
use cluster_tests::check;
use cluster_tests::check::history::{Found, History, Kind, Micro};
use futures::future::BoxFuture;
use proto::Timestamp;

use super::clients::{Failure, Verdict, connect, insist};
use super::misfortune::Dice;

const CLIENTS: u64 = 5;
/// Lists in use at a time, and appends after which one is exchanged for a fresh one.
const ACTIVE: usize = 6;
const APPENDS: u64 = 40;
/// Lists that there are: enough for a long run.
const LISTS: u64 = 20_000;

#[derive(Default)]
struct Record {
    history: History,
    /// Lists in use, and how often each was appended to.
    active: Vec<(u64, u64)>,
    next_list: u64,
    next_value: u64,
    next_process: u64,
    surprises: Vec<String>,
}

/// The clients, and what they remember.
#[derive(Clone)]
pub struct Lists {
    addresses: Vec<String>,
    began: Instant,
    record: Arc<Mutex<Record>>,
    stopped: Arc<AtomicBool>,
}

/// A transaction's reads and appends, and its timestamp.
type Done = (Vec<Micro>, Timestamp);

impl Lists {
    pub async fn open(addresses: &[String]) -> Lists {
        let client = connect(addresses).await;
        insist(&client, "CREATE TABLE IF NOT EXISTS lists (k INT8 PRIMARY KEY, v TEXT NOT NULL)").await;
        Lists { addresses: addresses.to_vec(), began: Instant::now(), record: Arc::default(), stopped: Arc::default() }
    }

    pub fn clients(&self) -> Vec<BoxFuture<'static, ()>> {
        (0..CLIENTS)
            .map(|number| -> BoxFuture<'static, ()> {
                let lists = self.clone();
                Box::pin(async move { lists.work(number).await })
            })
            .collect()
    }

    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Transactions that were acknowledged so far.
    pub fn committed(&self) -> usize {
        self.with(|record| record.history.events.iter().filter(|event| event.kind == Kind::Ok).count())
    }

    fn with<T>(&self, f: impl FnOnce(&mut Record) -> T) -> T {
        f(&mut self.record.lock().expect("no client panics"))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).expect("tests are short")
    }

    /// Draws a transaction of one to four reads and appends.
    fn draw(&self, dice: &mut Dice) -> Vec<Micro> {
        self.with(|record| {
            let mut micros = Vec::new();
            for _ in 0..=dice.below(3) {
                while record.active.len() < ACTIVE {
                    record.active.push((record.next_list % LISTS, 0));
                    record.next_list += 1;
                }
                let place = usize::try_from(dice.below(ACTIVE as u64)).expect("it is small");
                let (key, appends) = record.active[place];
                if dice.below(2) == 0 {
                    micros.push(Micro::Read { key, found: Found::Nil });
                    continue;
                }
                record.next_value += 1;
                micros.push(Micro::Append { key, value: record.next_value });
                record.active[place].1 += 1;
                if appends + 1 >= APPENDS {
                    record.active.remove(place);
                }
            }
            micros
        })
    }

    async fn work(self, number: u64) {
        let client = connect(&self.addresses).await;
        let mut dice = Dice::new(number + 200);
        let fresh = |record: &mut Record| {
            record.next_process += 1;
            record.next_process
        };
        let mut process = self.with(fresh);
        while !self.stopped.load(Ordering::Relaxed) {
            let micros = self.draw(&mut dice);
            let now = self.now();
            self.with(|record| record.history.record(Kind::Invoke, process, now, micros.clone()).index);
            let (kind, done) = loop {
                match Lists::attempt(&client, &micros).await {
                    Ok(done) => break (Kind::Ok, done),
                    Err((error, committing)) => match Failure::of(&error, committing) {
                        Failure::None if error.retryable() && !self.stopped.load(Ordering::Relaxed) => {
                            tokio::time::sleep(Duration::from_millis(dice.below(50))).await;
                        }
                        Failure::None => break (Kind::Fail, (micros.clone(), Timestamp::ZERO)),
                        Failure::Unknown => break (Kind::Info, (micros.clone(), Timestamp::ZERO)),
                        Failure::Surprise => {
                            self.with(|record| record.surprises.push(format!("{error:?}")));
                            break (Kind::Fail, (micros.clone(), Timestamp::ZERO));
                        }
                    },
                }
            };
            let now = self.now();
            process = self.with(|record| {
                let event = record.history.record(kind, process, now, done.0);
                event.timestamp = (kind == Kind::Ok && done.1 > Timestamp::ZERO).then_some(done.1);
                if kind == Kind::Info { fresh(record) } else { process }
            });
        }
    }

    /// One try. With an error goes whether a commit had been sent.
    async fn attempt(client: &Client, micros: &[Micro]) -> Result<Done, (Error, bool)> {
        let early = |error| (error, false);
        let mut txn = client.begin().await.map_err(early)?;
        let mut seen = Vec::new();
        for micro in micros {
            seen.push(match micro {
                Micro::Append { key, value } => {
                    let key = i64::try_from(*key).expect("keys are small");
                    let there = "INSERT INTO lists VALUES ($1, '') ON CONFLICT DO NOTHING";
                    txn.execute(there, &[&key]).await.map_err(early)?;
                    let append = "UPDATE lists SET v = v || $2 WHERE k = $1";
                    txn.execute(append, &[&key, &format!(" {value}")]).await.map_err(early)?;
                    micro.clone()
                }
                Micro::Read { key, .. } => {
                    let number = i64::try_from(*key).expect("keys are small");
                    let rows = txn.query("SELECT v FROM lists WHERE k = $1", &[&number]).await.map_err(early)?;
                    let found = match rows.first() {
                        None => Found::Nil,
                        Some(row) => Found::List(values(&row.get::<String>(0).map_err(early)?)),
                    };
                    Micro::Read { key: *key, found }
                }
                Micro::Write { .. } => unreachable!("lists are not registers"),
            });
        }
        let committed = txn.commit().await.map_err(|error| (error, true))?;
        Ok((seen, Timestamp(committed.timestamp)))
    }

    /// Reads everything from the healed cluster, and judges.
    pub async fn judge(&self) -> Verdict {
        let client = connect(&self.addresses).await;
        let (lists, process) = self.with(|record| (record.next_list.min(LISTS), record.next_process + 1));
        let micros: Vec<Micro> = (0..lists).map(|key| Micro::Read { key, found: Found::Nil }).collect();
        let now = self.now();
        self.with(|record| record.history.record(Kind::Invoke, process, now, micros).index);
        let rows = client.query("SELECT k, v FROM lists", &[]).await.expect("the healed cluster answers");
        let mut found: Vec<Micro> = (0..lists).map(|key| Micro::Read { key, found: Found::Nil }).collect();
        for row in &rows {
            let key = row.get::<i64>(0).expect("a key").unsigned_abs();
            let list = Found::List(values(&row.get::<String>(1).expect("a list")));
            found[usize::try_from(key).expect("keys are small")] = Micro::Read { key, found: list };
        }
        let now = self.now();
        self.with(|record| {
            record.history.record(Kind::Ok, process, now, found);
            let count = |kind| record.history.events.iter().filter(|event| event.kind == kind).count();
            let judged = check::append::judge(&record.history);
            let order = check::commit_order::judge(&judged);
            let surprises = record.surprises.iter().map(|s| format!("an error that no misfortune explains: {s}"));
            let found = surprises
                .chain(judged.anomalies.iter().map(ToString::to_string))
                .chain(order.iter().map(ToString::to_string))
                .collect();
            Verdict { name: "lists", committed: count(Kind::Ok), unknown: count(Kind::Info), found }
        })
    }
}

fn values(text: &str) -> Vec<u64> {
    text.split_ascii_whitespace().map(|value| value.parse().expect("numbers were appended")).collect()
}
