//! Transactions on lists or registers, and the record of what their clients asked and saw.
//!
//! The objects lie in a few *places*; one that has been written to often enough is retired, and a new one takes its place. A list is a value that
//! is read, extended and put back; a register is overwritten unseen. What was asked and seen is recorded twice: as a history, and by
//! timestamps for [`mvcc`].
//!
//! A client whose transaction has an unknown outcome goes on as a new process; so does one whose node has died and come back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto::{Key, Span, Timestamp, Value, codec, keyspace};
use server::kv::{BeginOptions, Db, Error, Kv, Lock, Transaction};

use super::operation::{PLACES, Part};
use super::{Tally, ago, scan_all};
use crate::check;
use crate::check::anomaly::{Anomaly, Judged};
use crate::check::commit_order::Reason;
use crate::check::graph::Order;
use crate::check::history::{Found, History, Kind, Micro};
use crate::check::mvcc::{self, Ending, Read};

/// Objects that one transaction reads in the end.
const FINAL_OBJECTS: usize = 8;

/// What the objects are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    List,
    Register,
}

/// Objects of one kind.
#[derive(Clone, Copy, Debug)]
pub struct Objects {
    pub shape: Shape,
    /// Where they lie among the keys.
    pub prefix: &'static str,
    /// Writes after which one is retired.
    pub writes_max: u64,
}

impl Objects {
    pub fn key(&self, object: u64) -> Key {
        Key([&[keyspace::APPLICATION], self.prefix.as_bytes(), &object.to_be_bytes()].concat())
    }

    fn found(&self, value: Option<&Value>) -> Result<Found, Error> {
        let Some(value) = value else {
            return Ok(if self.shape == Shape::List { Found::List(Vec::new()) } else { Found::Nil });
        };
        let found = match self.shape {
            Shape::List => codec::decode("a list", value).map(Found::List),
            Shape::Register => codec::decode("a register", value).map(Found::One),
        };
        found.map_err(|error| Error::Corrupt(error.to_string()))
    }
}

/// Everything that the clients remember; outlives their nodes.
#[derive(Debug, Default)]
pub struct Record {
    pub history: History,
    /// What ended, with its reads and writes by timestamp.
    transactions: Vec<mvcc::Transaction>,
    /// Commits under way, by process: if their client dies, their outcome is unknown.
    open: BTreeMap<u64, mvcc::Transaction>,
    /// The objects in use, with the writes asked for so far.
    objects: Vec<(u64, u64)>,
    next_object: u64,
    next_value: u64,
    next_process: u64,
    scans: usize,
    retries: u64,
    /// Errors that no fault explains.
    pub surprises: Vec<String>,
}

impl Record {
    fn process(&mut self) -> u64 {
        self.next_process += 1;
        self.next_process
    }

    /// The objects in use; refilled where one was retired.
    fn objects(&mut self, writes_max: u64) -> &mut Vec<(u64, u64)> {
        self.objects.retain(|(_, writes)| *writes < writes_max);
        while self.objects.len() < PLACES as usize {
            self.objects.push((self.next_object, 0));
            self.next_object += 1;
        }
        &mut self.objects
    }

    /// Says which objects a transaction is about, and what it writes.
    fn micros(&mut self, objects: &Objects, parts: &[Part]) -> Vec<Micro> {
        let mut micros = Vec::new();
        for part in parts {
            let place = part.place as usize % PLACES as usize;
            if part.writes {
                self.next_value += 1;
                let value = self.next_value;
                let (key, writes) = &mut self.objects(objects.writes_max)[place];
                *writes += 1;
                let key = *key;
                micros.push(match objects.shape {
                    Shape::List => Micro::Append { key, value },
                    Shape::Register => Micro::Write { key, value },
                });
            } else {
                let key = self.objects(objects.writes_max)[place].0;
                micros.push(Micro::Read { key, found: Found::Nil });
            }
        }
        micros
    }
}

/// How a transaction goes about its reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Key by key, with or without a place in the queue.
    Keys(Lock),
    /// A scan of all objects from the first to the last that it is to read. It writes nothing.
    Scan,
}

/// What an attempt saw.
struct Seen {
    value: Vec<Micro>,
    timestamp: Timestamp,
}

/// See the module. A clone is another handle to the same record.
#[derive(Clone)]
pub struct Recorder {
    pub objects: Objects,
    record: Arc<Mutex<Record>>,
}

impl Recorder {
    pub fn new(objects: Objects) -> Recorder {
        Recorder { objects, record: Arc::default() }
    }

    pub fn with<T>(&self, f: impl FnOnce(&mut Record) -> T) -> T {
        f(&mut self.record.lock().expect("no holder of this lock panics"))
    }

    /// A client begins.
    pub fn process(&self) -> u64 {
        self.with(Record::process)
    }

    /// The key of some object in use.
    pub fn some_key(&self, dice: u64) -> Key {
        let object = self.with(|record| record.objects(self.objects.writes_max)[(dice % PLACES) as usize].0);
        self.objects.key(object)
    }

    /// Runs a transaction of a process.
    pub async fn transact(&self, db: &Db, process: &mut u64, parts: &[Part], lock: bool) {
        let micros = self.with(|record| record.micros(&self.objects, parts));
        let lock = if lock { Lock::Exclusive } else { Lock::None };
        let _ = self.operate(db, process, micros, Manner::Keys(lock)).await;
    }

    /// Scans all objects in use.
    pub async fn scan(&self, db: &Db, process: &mut u64) {
        let objects = self.with(|record| record.objects(self.objects.writes_max).clone());
        let micros = objects.into_iter().map(|(key, _)| Micro::Read { key, found: Found::Nil }).collect();
        if self.operate(db, process, micros, Manner::Scan).await.is_ok() {
            self.with(|record| record.scans += 1);
        }
    }

    /// Scans all objects in use as they were. That has a place in the order of timestamps only.
    pub async fn scan_past(&self, db: &Db, back: Duration) {
        let objects = self.with(|record| record.objects(self.objects.writes_max).clone());
        let micros: Vec<Micro> = objects.into_iter().map(|(key, _)| Micro::Read { key, found: Found::Nil }).collect();
        let at = ago(db, back);
        let result = self.try_past(db, &micros, at).await;
        self.with(|record| match result {
            Ok(reads) => {
                let name = format!("P{}", record.transactions.len());
                let reads = reads.into_iter().map(|read| (at, read)).collect();
                let (ending, writes) = (Ending::Committed(at), BTreeMap::new());
                record.transactions.push(mvcc::Transaction { name, ending, serializable: true, writes, reads });
            }
            Err(Error::Unavailable(_) | Error::Retry(_)) => {}
            Err(error) => record.surprises.push(error.to_string()),
        });
    }

    async fn try_past(&self, db: &Db, micros: &[Micro], at: Timestamp) -> Result<Vec<Read>, Error> {
        let mut txn = db.begin(BeginOptions { at: Some(at), ..BeginOptions::default() }).await?;
        let (_, reads, _) = self.by_scan(txn.as_mut(), micros).await?;
        txn.commit().await?;
        Ok(reads)
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
            Manner::Keys(lock) => self.by_keys(txn.as_mut(), micros, lock).await?,
            Manner::Scan => self.by_scan(txn.as_mut(), micros).await?,
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

    async fn by_keys(&self, txn: &mut dyn Transaction, micros: &[Micro], lock: Lock) -> Result<Work, Error> {
        let (mut seen, mut reads, mut writes) = (Vec::new(), Vec::new(), BTreeMap::new());
        for micro in micros {
            let object = object_of(micro);
            let key = self.objects.key(object);
            if let (Shape::Register, Some((_, value))) = (self.objects.shape, micro.written()) {
                let encoded = codec::encode(&value);
                txn.put(key.clone(), encoded.clone())?;
                writes.insert(key, Some(encoded));
                seen.push(micro.clone());
                continue;
            }
            let found = txn.get(std::slice::from_ref(&key), lock).await?.pop().flatten();
            let decoded = self.objects.found(found.as_ref())?;
            if !writes.contains_key(&key) {
                reads.push(Read::Point { key: key.clone(), found });
            }
            seen.push(match (micro.written(), decoded) {
                (Some((_, value)), Found::List(mut values)) => {
                    values.push(value);
                    let encoded = codec::encode(&values);
                    txn.put(key.clone(), encoded.clone())?;
                    writes.insert(key, Some(encoded));
                    micro.clone()
                }
                (_, found) => Micro::Read { key: object, found },
            });
        }
        Ok((seen, reads, writes))
    }

    async fn by_scan(&self, txn: &mut dyn Transaction, micros: &[Micro]) -> Result<Work, Error> {
        let objects = || micros.iter().map(object_of);
        let (first, last) = (objects().min().unwrap_or(0), objects().max().unwrap_or(0));
        let span = Span { start: self.objects.key(first), end: self.objects.key(last + 1) };
        let rows = scan_all(txn, span.clone(), 3).await?;
        let by_key: BTreeMap<&Key, &Value> = rows.iter().map(|(key, value)| (key, value)).collect();
        let mut seen = Vec::new();
        for object in objects() {
            let found = self.objects.found(by_key.get(&self.objects.key(object)).copied())?;
            seen.push(Micro::Read { key: object, found });
        }
        Ok((seen, vec![Read::Scan { span, rows }], BTreeMap::new()))
    }

    /// Reads every object that there ever was, as the last operations of the history; so many in one transaction.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn read_everything(&self, db: &Db) -> Result<(), Error> {
        let mut process = self.process();
        let objects: Vec<u64> = (0..self.with(|record| record.next_object)).collect();
        for objects in objects.chunks(FINAL_OBJECTS) {
            let micros = objects.iter().map(|key| Micro::Read { key: *key, found: Found::Nil }).collect();
            self.operate(db, &mut process, micros, Manner::Scan).await?;
        }
        Ok(())
    }

    pub fn history(&self) -> History {
        self.with(|record| record.history.clone())
    }

    /// What is wrong with single reads, by timestamp; and errors that nothing explains.
    pub fn judge_reads(&self) -> Vec<String> {
        let mut transactions = self.with(|record| {
            let open = record.open.values().cloned();
            record.transactions.iter().cloned().chain(open).collect::<Vec<_>>()
        });
        transactions.sort_by(|a, b| a.name.cmp(&b.name));
        let surprises = self.with(|record| record.surprises.clone());
        let mut found: Vec<String> =
            surprises.iter().map(|s| format!("an error that no fault explains: {s}")).collect();
        found.extend(brief(&mvcc::judge(&transactions)));
        found
    }

    pub fn tally(&self) -> Tally {
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

fn object_of(micro: &Micro) -> u64 {
    let (Micro::Append { key, .. } | Micro::Write { key, .. } | Micro::Read { key, .. }) = micro;
    *key
}

/// What the parts of a transaction saw, what the store answered, and what is to be written.
type Work = (Vec<Micro>, Vec<Read>, BTreeMap<Key, Option<Value>>);

/// What is wrong with the order of transactions. Real-time order is only asked for where clocks are trusted.
pub fn judge_order(judged: &Judged, real_time: bool) -> Vec<String> {
    let asked = |a: &&Anomaly| real_time || a.cycle.as_ref().is_none_or(|cycle| cycle.order != Order::RealTime);
    let mut found = brief(&judged.anomalies.iter().filter(asked).collect::<Vec<_>>());
    let mut out_of_order = check::commit_order::judge(judged);
    out_of_order.retain(|violation| real_time || violation.reason != Reason::RealTime);
    found.extend(brief(&out_of_order));
    found
}

/// The first of many complaints in words, and how many more there are.
pub fn brief(complaints: &[impl ToString]) -> Vec<String> {
    const TOLD_MAX: usize = 10;
    let mut told: Vec<String> = complaints.iter().take(TOLD_MAX).map(ToString::to_string).collect();
    if complaints.len() > TOLD_MAX {
        told.push(format!("and {} more like this", complaints.len() - TOLD_MAX));
    }
    told
}
