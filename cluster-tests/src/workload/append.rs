//! Lists that transactions append to and read: what the anomaly checkers see most in.
//!
//! Each client runs transactions of a few appends and reads on a few keys; a list is a value that is read, extended and put back. A list that
//! has been appended to often enough is retired and a new one takes its place. One client of each node scans all lists that are in use. What
//! they asked and saw is recorded twice: as a history for [`check::append`], and by timestamps for [`check::mvcc`].
//!
//! A client whose transaction has an unknown outcome goes on as a new process; so does one whose node has died and come back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use proto::{Key, Span, Timestamp, Value, codec, keyspace};
use server::kv::{BeginOptions, Db, Error, Kv, Lock, Transaction};

use super::{Tally, Workload, scan_all};
use crate::check;
use crate::check::anomaly::Anomaly;
use crate::check::commit_order::Reason;
use crate::check::graph::Order;
use crate::check::history::{Found, History, Kind, Micro};
use crate::check::mvcc::{self, Ending, Read};

/// Lists in use at a time, and appends after which one is retired.
const LISTS: usize = 6;
const APPENDS_MAX: u64 = 100;
/// Parts of a transaction.
const MICROS_MAX: u64 = 4;
/// Clients of each node that append, besides the one that scans.
const CLIENTS: usize = 2;
/// Lists that one transaction reads in the end.
const FINAL_LISTS: usize = 8;

fn list_key(list: u64) -> Key {
    Key([&[keyspace::APPLICATION], b"list/".as_slice(), &list.to_be_bytes()].concat())
}

fn decode(value: Option<&Value>) -> Result<Vec<u64>, Error> {
    value.map_or(Ok(Vec::new()), |value| {
        codec::decode("a list", value).map_err(|error| Error::Corrupt(error.to_string()))
    })
}

/// Everything that the clients remember; outlives their nodes.
#[derive(Debug, Default)]
pub struct Record {
    pub history: History,
    /// What ended, with its reads and writes by timestamp.
    transactions: Vec<mvcc::Transaction>,
    /// Commits under way, by process: if their client dies, their outcome is unknown.
    open: BTreeMap<u64, mvcc::Transaction>,
    /// The lists in use, with the appends asked for so far.
    lists: Vec<(u64, u64)>,
    next_list: u64,
    next_value: u64,
    next_process: u64,
    scans: usize,
    retries: u64,
    /// Errors that no fault explains.
    surprises: Vec<String>,
}

impl Record {
    fn process(&mut self) -> u64 {
        self.next_process += 1;
        self.next_process
    }

    /// The lists in use; refilled where one was retired.
    fn lists(&mut self) -> &mut Vec<(u64, u64)> {
        self.lists.retain(|(_, appends)| *appends < APPENDS_MAX);
        while self.lists.len() < LISTS {
            self.lists.push((self.next_list, 0));
            self.next_list += 1;
        }
        &mut self.lists
    }

    /// Draws the parts of a transaction.
    fn draw(&mut self, mut dice: u128) -> Vec<Micro> {
        let mut draw = |below: u64| {
            let drawn = dice as u64 % below;
            dice >>= 10;
            drawn
        };
        let mut micros = Vec::new();
        for _ in 0..=draw(MICROS_MAX) {
            let place = draw(LISTS as u64) as usize;
            if draw(2) == 0 {
                let key = self.lists()[place].0;
                micros.push(Micro::Read { key, found: Found::Nil });
            } else {
                self.next_value += 1;
                let value = self.next_value;
                let (key, appends) = &mut self.lists()[place];
                *appends += 1;
                micros.push(Micro::Append { key: *key, value });
            }
        }
        micros
    }
}

/// The clients.
#[derive(Clone, Default)]
pub struct Lists {
    record: Arc<Mutex<Record>>,
    stopped: Arc<Mutex<bool>>,
}

/// How a transaction goes about its reads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Key by key, with or without a place in the queue.
    Keys(Lock),
    /// A scan of all lists from the first to the last that it is to read. It appends nothing.
    Scan,
}

/// What an attempt saw.
struct Seen {
    value: Vec<Micro>,
    timestamp: Timestamp,
}

impl Lists {
    fn with<T>(&self, f: impl FnOnce(&mut Record) -> T) -> T {
        f(&mut self.record.lock().expect("no holder of this lock panics"))
    }

    fn is_stopped(&self) -> bool {
        *self.stopped.lock().expect("no holder of this lock panics")
    }

    /// The history so far, for other tools: see [`History::to_json_lines`].
    pub fn history(&self) -> History {
        self.with(|record| record.history.clone())
    }

    async fn append_on_and_on(&self, db: &Db) {
        let mut process = self.with(Record::process);
        while !self.is_stopped() {
            let dice = db.random();
            let micros = self.with(|record| record.draw(dice >> 1));
            // Some transactions lock, some rely on validation alone.
            let lock = if dice & 1 == 0 { Lock::Exclusive } else { Lock::None };
            let _ = self.operate(db, &mut process, micros, Manner::Keys(lock)).await;
            db.sleep(Duration::from_micros(db.random() as u64 % 20_000)).await;
        }
    }

    async fn scan_on_and_on(&self, db: &Db) {
        let mut process = self.with(Record::process);
        while !self.is_stopped() {
            let lists = self.with(|record| record.lists().clone());
            let micros = lists.into_iter().map(|(key, _)| Micro::Read { key, found: Found::Nil }).collect();
            if self.operate(db, &mut process, micros, Manner::Scan).await.is_ok() {
                self.with(|record| record.scans += 1);
            }
            db.sleep(Duration::from_micros(5_000 + db.random() as u64 % 50_000)).await;
        }
    }

    /// Runs one operation of a process to its end, and records both. A process that does not learn the outcome gets a new number.
    async fn operate(&self, db: &Db, process: &mut u64, micros: Vec<Micro>, manner: Manner) -> Result<(), Error> {
        let now = || db.monotonic().as_nanos() as u64;
        let began = self.with(|record| record.history.record(Kind::Invoke, *process, now(), micros.clone()).index);
        let mut options = BeginOptions { read_only: manner == Manner::Scan, ..BeginOptions::default() };
        let mut attempt = 1;
        let result = loop {
            match self.attempt(db, (*process, began), &micros, manner, &mut options).await {
                Err(Error::Retry(_)) => {
                    attempt += 1;
                    self.with(|record| record.retries += 1);
                    db.sleep(Duration::from_micros(db.random() as u64 % 5_000)).await;
                }
                result => break result,
            }
        };
        self.with(|record| {
            let open = record.open.remove(process);
            let (kind, value, timestamp) = match &result {
                Ok(seen) => (Kind::Ok, seen.value.clone(), Some(seen.timestamp)),
                Err(Error::OutcomeUnknown { .. }) => (Kind::Info, micros, None),
                Err(_) => (Kind::Fail, micros, None),
            };
            let ending = match kind {
                Kind::Ok => timestamp.map_or(Ending::Unknown, Ending::Committed),
                Kind::Info => Ending::Unknown,
                _ => Ending::Failed,
            };
            record.transactions.extend(open.map(|open| mvcc::Transaction { ending, ..open }));
            let event = record.history.record(kind, *process, now(), value);
            (event.timestamp, event.attempt) = (timestamp, Some(attempt));
            if kind == Kind::Info {
                *process = record.process();
            }
            if let Err(error) = &result
                && !matches!(error, Error::OutcomeUnknown { .. } | Error::Unavailable(_))
            {
                record.surprises.push(error.to_string());
            }
        });
        result.map(drop)
    }

    /// One try at an operation. What it read and is about to write is noted before it commits.
    async fn attempt(
        &self,
        db: &Db,
        (process, began): (u64, u64),
        micros: &[Micro],
        manner: Manner,
        options: &mut BeginOptions,
    ) -> Result<Seen, Error> {
        // The try before has had no effect.
        self.with(|record| record.open.remove(&process));
        let mut txn = db.begin(options.clone()).await?;
        options.priority = Some(txn.priority());
        let (value, reads, writes) = match manner {
            Manner::Keys(lock) => by_keys(txn.as_mut(), micros, lock).await?,
            Manner::Scan => by_scan(txn.as_mut(), micros).await?,
        };
        // Whatever was read before the timestamp moved has been validated up to it.
        let read_at = txn.read_timestamp();
        let open = mvcc::Transaction {
            name: format!("T{began}"),
            ending: Ending::Unknown,
            serializable: true,
            writes,
            reads: reads.into_iter().map(|read| (read_at, read)).collect(),
        };
        self.with(|record| record.open.insert(process, open));
        let timestamp = txn.commit().await?.timestamp;
        Ok(Seen { value, timestamp })
    }

    /// Reads every list that there ever was, as the last operations of the history.
    async fn read_everything(&self, db: &Db) -> Result<(), Error> {
        let mut process = self.with(Record::process);
        let lists: Vec<u64> = (0..self.with(|record| record.next_list)).collect();
        for lists in lists.chunks(FINAL_LISTS) {
            let micros = lists.iter().map(|key| Micro::Read { key: *key, found: Found::Nil }).collect();
            self.operate(db, &mut process, micros, Manner::Scan).await?;
        }
        Ok(())
    }
}

/// What the parts of a transaction saw, what the store answered, and what is to be written.
type Work = (Vec<Micro>, Vec<Read>, BTreeMap<Key, Option<Value>>);

async fn by_keys(txn: &mut dyn Transaction, micros: &[Micro], lock: Lock) -> Result<Work, Error> {
    let (mut seen, mut reads, mut writes) = (Vec::new(), Vec::new(), BTreeMap::new());
    for micro in micros {
        let (Micro::Append { key: list, .. } | Micro::Write { key: list, .. } | Micro::Read { key: list, .. }) = micro;
        let key = list_key(*list);
        let found = txn.get(std::slice::from_ref(&key), lock).await?.pop().flatten();
        let mut values = decode(found.as_ref())?;
        if !writes.contains_key(&key) {
            reads.push(Read::Point { key: key.clone(), found });
        }
        seen.push(match micro.written() {
            None => Micro::Read { key: *list, found: Found::List(values) },
            Some((_, value)) => {
                values.push(value);
                let encoded = codec::encode(&values);
                txn.put(key.clone(), encoded.clone())?;
                writes.insert(key, Some(encoded));
                micro.clone()
            }
        });
    }
    Ok((seen, reads, writes))
}

async fn by_scan(txn: &mut dyn Transaction, micros: &[Micro]) -> Result<Work, Error> {
    let lists = || {
        micros.iter().map(|micro| match micro {
            Micro::Append { key, .. } | Micro::Write { key, .. } | Micro::Read { key, .. } => *key,
        })
    };
    let (first, last) = (lists().min().unwrap_or(0), lists().max().unwrap_or(0));
    let span = Span { start: list_key(first), end: list_key(last + 1) };
    let rows = scan_all(txn, span.clone(), 3).await?;
    let by_key: BTreeMap<&Key, &Value> = rows.iter().map(|(key, value)| (key, value)).collect();
    let mut seen = Vec::new();
    for list in lists() {
        let values = decode(by_key.get(&list_key(list)).copied())?;
        seen.push(Micro::Read { key: list, found: Found::List(values) });
    }
    Ok((seen, vec![Read::Scan { span, rows }], BTreeMap::new()))
}

/// The first of many complaints in words, and how many more there are.
fn brief(complaints: &[impl ToString]) -> Vec<String> {
    const TOLD_MAX: usize = 10;
    let mut told: Vec<String> = complaints.iter().take(TOLD_MAX).map(ToString::to_string).collect();
    if complaints.len() > TOLD_MAX {
        told.push(format!("and {} more like this", complaints.len() - TOLD_MAX));
    }
    told
}

impl Workload for Lists {
    fn load(&self, _: Db) -> BoxFuture<'static, Result<(), Error>> {
        // A list that nobody has appended to is not there.
        Box::pin(async { Ok(()) })
    }

    fn tasks(&self, db: &Db) -> Vec<BoxFuture<'static, ()>> {
        let mut tasks: Vec<BoxFuture<'static, ()>> = Vec::new();
        for _ in 0..CLIENTS {
            let (lists, db) = (self.clone(), db.clone());
            tasks.push(Box::pin(async move { lists.append_on_and_on(&db).await }));
        }
        let (lists, db) = (self.clone(), db.clone());
        tasks.push(Box::pin(async move { lists.scan_on_and_on(&db).await }));
        tasks
    }

    fn split(&self, db: Db, dice: u64) -> BoxFuture<'static, ()> {
        let list = self.with(|record| record.lists()[dice as usize % LISTS].0);
        // Under faults it may fail; the next one may not.
        Box::pin(async move { drop(db.split(&list_key(list)).await) })
    }

    fn stop(&self) {
        *self.stopped.lock().expect("no holder of this lock panics") = true;
    }

    fn finish(&self, db: Db) -> BoxFuture<'static, Result<(), Error>> {
        let lists = self.clone();
        Box::pin(async move { lists.read_everything(&db).await })
    }

    fn judge(&self, real_time: bool) -> Vec<String> {
        let (mut transactions, history) = self.with(|record| {
            let open = record.open.values().cloned();
            (record.transactions.iter().cloned().chain(open).collect::<Vec<_>>(), record.history.clone())
        });
        transactions.sort_by(|a, b| a.name.cmp(&b.name));
        let mut found: Vec<String> = self
            .with(|record| record.surprises.iter().map(|s| format!("an error that no fault explains: {s}")).collect());
        let judged = check::append::judge(&history);
        let asked = |a: &&Anomaly| real_time || a.cycle.as_ref().is_none_or(|cycle| cycle.order != Order::RealTime);
        let anomalies: Vec<_> = judged.anomalies.iter().filter(asked).collect();
        found.extend(brief(&anomalies));
        let in_time = |reason| real_time || reason != Reason::RealTime;
        let out_of_order = check::commit_order::judge(&judged);
        let out_of_order: Vec<_> = out_of_order.iter().filter(|violation| in_time(violation.reason)).collect();
        found.extend(brief(&out_of_order));
        found.extend(brief(&mvcc::judge(&transactions)));
        found
    }

    fn tally(&self) -> Tally {
        self.with(|record| {
            let count = |kind| record.history.events.iter().filter(|event| event.kind == kind).count();
            let committed = count(Kind::Ok);
            Tally {
                committed: committed - record.scans,
                unknown: count(Kind::Invoke) - committed - count(Kind::Fail),
                audits: record.scans,
                retries: record.retries,
            }
        })
    }
}
