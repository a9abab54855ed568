//! Judges an MVCC store by its timestamps: was everything that transactions read what the store held at that moment?
//!
//! Commit timestamps say what the store held at each moment, so each read can be looked up: single keys, and whole spans, in which a row
//! that should be there and is not (or the reverse: a phantom) shows. A serializable transaction's reads must still hold at its commit
//! timestamp.
//!
//! Reads are to be recorded as the store answered them, without the transaction's own buffered writes; the part of a scan that was not
//! covered (for a limit) is to be left out of its span. What a transaction of unknown outcome wrote may be seen or not, in any order, so
//! reads of such keys are judged less strictly.

use std::collections::BTreeMap;
use std::fmt;

use proto::{Key, Span, Timestamp, Value};

/// What a transaction read, and when the store was like that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    Point {
        key: Key,
        found: Option<Value>,
    },
    /// All rows of the span, in key order.
    Scan {
        span: Span,
        rows: Vec<(Key, Value)>,
    },
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Committed(Timestamp),
    Failed,
    Unknown,
}

/// A transaction, as its client remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    pub name: String,
    pub ending: Ending,
    /// Whether its reads have to hold at its commit timestamp.
    pub serializable: bool,
    /// By key; none is a deletion.
    pub writes: BTreeMap<Key, Option<Value>>,
    /// Each with the timestamp of its MVCC snapshot.
    pub reads: Vec<(Timestamp, Read)>,
}

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Two writes of a key with one timestamp.
    SameTimestamp,
    /// A read found a value that the key did not have then.
    WrongValue,
    /// A read did not find a row that was there.
    Missing,
    /// A read found a row that was not there.
    Phantom,
    /// A scan gave rows out of order, twice, or outside its span.
    Disorder,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub class: Class,
    pub transaction: String,
    pub key: Key,
    pub at: Timestamp,
    /// The read was right at its MVCC snapshot, but not at the commit timestamp.
    pub at_commit: bool,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { transaction, key, at, .. } = self;
        match self.class {
            Class::SameTimestamp => write!(f, "{transaction} and another wrote key {key} at {at}")?,
            Class::WrongValue => write!(f, "{transaction} read a value of key {key} that it did not have at {at}")?,
            Class::Missing => write!(f, "{transaction} did not find key {key}, which was there at {at}")?,
            Class::Phantom => write!(f, "{transaction} found key {key}, which was not there at {at}")?,
            Class::Disorder => write!(f, "{transaction} scanned at {at}, and got key {key} out of place")?,
        }
        f.write_str(if self.at_commit { ", its commit timestamp" } else { "" })
    }
}

/// A committed version: when, by which transaction, and what.
type Version<'a> = (Timestamp, usize, Option<&'a Value>);

/// Every version of every key.
#[derive(Default)]
struct Store<'a> {
    versions: BTreeMap<&'a Key, Vec<Version<'a>>>,
    /// What transactions of unknown outcome may have written.
    possible: BTreeMap<&'a Key, Vec<(usize, Option<&'a Value>)>>,
}

/// Judges transactions. Takes time O(n log n) in their reads and writes, where a scan counts for as many as its span has keys, deleted
/// ones too.
pub fn judge(transactions: &[Transaction]) -> Vec<Violation> {
    let mut store = Store::default();
    for (number, transaction) in transactions.iter().enumerate() {
        for (key, value) in &transaction.writes {
            match transaction.ending {
                Ending::Committed(at) => store.versions.entry(key).or_default().push((at, number, value.as_ref())),
                Ending::Unknown => store.possible.entry(key).or_default().push((number, value.as_ref())),
                Ending::Failed => {}
            }
        }
    }
    let mut found = Vec::new();
    for (key, versions) in &mut store.versions {
        versions.sort_by_key(|(at, number, _)| (*at, *number));
        for pair in versions.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
            let transaction = transactions[pair[1].1].name.clone();
            let (class, at) = (Class::SameTimestamp, pair[1].0);
            found.push(Violation { class, transaction, key: (*key).clone(), at, at_commit: false });
        }
    }
    for (number, transaction) in transactions.iter().enumerate() {
        for (at, read) in &transaction.reads {
            let before = found.len();
            store.judge_read(transaction, number, *at, read, &mut found);
            // What was wrong at the MVCC snapshot already need not be told again.
            if let Ending::Committed(commit) = transaction.ending
                && transaction.serializable
                && commit != *at
                && found.len() == before
            {
                store.judge_read(transaction, number, commit, read, &mut found);
                found[before..].iter_mut().for_each(|violation| violation.at_commit = true);
            }
        }
    }
    found
}

impl<'a> Store<'a> {
    /// What a key held at a timestamp, without what this transaction wrote.
    fn at(&self, key: &Key, at: Timestamp, without: usize) -> Option<&'a Value> {
        let versions = self.versions.get(key)?;
        let until = versions.partition_point(|(written, ..)| *written <= at);
        versions[..until].iter().rev().find(|(_, writer, _)| *writer != without).and_then(|(.., value)| *value)
    }

    /// What is wrong with finding this in a key.
    fn wrong(&self, key: &Key, at: Timestamp, reader: usize, found: Option<&Value>) -> Option<Class> {
        let expected = self.at(key, at, reader);
        let mut possible = self.possible.get(key).into_iter().flatten().filter(|(writer, _)| *writer != reader);
        if expected == found || possible.any(|(_, value)| *value == found) {
            return None;
        }
        Some(match (expected, found) {
            (Some(_), None) => Class::Missing,
            (None, Some(_)) => Class::Phantom,
            _ => Class::WrongValue,
        })
    }

    fn judge_read(
        &self,
        transaction: &Transaction,
        number: usize,
        at: Timestamp,
        read: &Read,
        found: &mut Vec<Violation>,
    ) {
        let mut report = |class, key: &Key| {
            let (transaction, key) = (transaction.name.clone(), key.clone());
            found.push(Violation { class, transaction, key, at, at_commit: false });
        };
        let (span, rows) = match read {
            Read::Point { key, found } => {
                if let Some(class) = self.wrong(key, at, number, found.as_ref()) {
                    report(class, key);
                }
                return;
            }
            Read::Scan { span, rows } => (span, rows),
        };
        let outside = |key: &Key| *key < span.start || *key >= span.end;
        let unordered = rows.windows(2).filter(|pair| pair[0].0 >= pair[1].0).map(|pair| &pair[1].0);
        for key in unordered.chain(rows.iter().map(|(key, _)| key).filter(|key| outside(key))) {
            report(Class::Disorder, key);
        }
        let rows: BTreeMap<&Key, &Value> = rows.iter().map(|(key, value)| (key, value)).collect();
        for (key, value) in &rows {
            if let Some(class) = self.wrong(key, at, number, Some(value)) {
                report(class, key);
            }
        }
        if span.start < span.end {
            for (key, _) in
                self.versions.range::<&Key, _>(&span.start..&span.end).filter(|(key, _)| !rows.contains_key(*key))
            {
                if let Some(class) = self.wrong(key, at, number, None) {
                    report(class, key);
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "mvcc_tests.rs"]
mod tests;
