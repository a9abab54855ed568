//! Judges transactions that append to lists and read them.
//!
//! A list shows the order in which it was written: if each value is appended once, a read of `[3, 1]` says that 3 was appended
//! directly before 1, and that nothing else was. So the order of the versions of a key is that of its longest read, and all
//! dependencies between transactions follow. What contradicts this picture is reported directly; then cycles are looked for.
//!
//! An operation of unknown outcome counts as committed if anyone read one of its appends. A committed append that nobody read can only
//! lie behind the longest read, and is taken to. Predicates and phantoms cannot be seen this way; see [`super::mvcc`].
//!
//! Source: Kingsbury and Alvaro, "Elle: Inferring Isolation Anomalies from Experimental Observations", VLDB 2020.

use std::collections::{BTreeMap, BTreeSet};

use super::anomaly::{Anomaly, Class, Judged};
use super::cycle;
use super::dependencies::Dependencies;
use super::graph::Order;
use super::history::{Found, History, Micro, Operation};
use super::writes::Writes;

/// A read of a key by a committed transaction, without what the transaction had appended itself.
struct Read {
    reader: usize,
    key: u64,
    list: Vec<u64>,
}

/// Judges a history of appends and reads of lists. Takes time in proportion to the sum of the lengths of all lists read.
pub fn judge(history: &History) -> Judged {
    let writes = match Writes::of(history) {
        Ok(writes) => writes,
        Err(anomaly) => return Judged { anomalies: vec![anomaly], ..Judged::default() },
    };
    let mut anomalies = Vec::new();
    let mut reads = Vec::new();
    for (reader, operation) in writes.committed.iter().enumerate() {
        if operation.ended.is_some() {
            internal(reader, operation, &mut reads, &mut anomalies);
        }
    }
    let mut longest: BTreeMap<u64, &Read> = BTreeMap::new();
    for read in &reads {
        let known = longest.entry(read.key).or_insert(read);
        if read.list.len() > known.list.len() {
            *known = read;
        }
    }
    for read in &reads {
        single_read(read, &writes, &mut anomalies);
    }
    incompatible_orders(&reads, &longest, &writes, &mut anomalies);
    for read in longest.values() {
        dirty_updates(read, &writes, &mut anomalies);
    }
    lost_appends(&reads, &longest, &writes, &mut anomalies);
    let graph = dependencies(&reads, &longest, &writes).graph(&writes.committed);
    anomalies.extend(cycle::anomalies(&graph, &writes.committed));
    Judged { anomalies, committed: writes.committed, graph }
}

/// Follows a transaction through its own reads and appends. Collects its reads of what others wrote.
fn internal(reader: usize, operation: &Operation, reads: &mut Vec<Read>, anomalies: &mut Vec<Anomaly>) {
    // What it knows of the list that it found, and what it has appended since.
    let mut known: BTreeMap<u64, (Option<Vec<u64>>, Vec<u64>)> = BTreeMap::new();
    for micro in &operation.value {
        let (key, list) = match micro {
            Micro::Append { key, value } => {
                known.entry(*key).or_default().1.push(*value);
                continue;
            }
            Micro::Read { key, found: Found::Nil } => (*key, &[][..]),
            Micro::Read { key, found: Found::List(list) } => (*key, &list[..]),
            Micro::Write { .. } | Micro::Read { .. } => {
                anomalies.push(Anomaly::new(Class::Malformed, format!("{operation} is not about lists")));
                continue;
            }
        };
        let (found, own) = known.entry(key).or_default();
        let others = list.strip_suffix(own.as_slice());
        if others.is_none() || found.as_deref().is_some_and(|found| others != Some(found)) {
            let expected = match found {
                Some(found) => format!("{:?}", [found.as_slice(), own.as_slice()].concat()),
                None => format!("something that ends in {own:?}"),
            };
            let what = format!("{operation} read {list:?} of key {key} where it had to find {expected}");
            anomalies.push(Anomaly::new(Class::Internal, what));
        }
        if found.is_none() {
            let list = others.unwrap_or(list).to_vec();
            *found = Some(list.clone());
            reads.push(Read { reader, key, list });
        }
    }
}

/// What one read shows to be wrong by itself.
fn single_read(read: &Read, writes: &Writes, anomalies: &mut Vec<Anomaly>) {
    let Read { reader, key, list } = read;
    let operation = &writes.committed[*reader];
    let mut report = |class, what: String| anomalies.push(Anomaly::new(class, format!("{operation} {what}")));
    let mut seen = BTreeSet::new();
    for value in list {
        if !seen.insert(value) {
            report(Class::Duplicate, format!("found {value} more than once in key {key}"));
        }
        match writes.by_value.get(&(*key, *value)) {
            None => report(Class::Unwritten, format!("found {value} in key {key}, which nobody appended")),
            Some(write) if write.failed => {
                report(Class::G1a, format!("found {value} in key {key}, which T{} failed to append", write.began));
            }
            Some(write) if write.node == Some(*reader) => {
                report(Class::Internal, format!("found its own {value} in key {key} before it had appended it"));
            }
            Some(_) => {}
        }
    }
    let last = list.last().and_then(|last| writes.by_value.get(&(*key, *last)));
    if let Some(write) = last.filter(|write| !write.last && write.node != Some(*reader)) {
        report(Class::G1b, format!("read key {key} in the middle of T{}", write.began));
    }
}

/// Reads that are no beginning of the longest read of their key; the first of each key.
fn incompatible_orders(reads: &[Read], longest: &BTreeMap<u64, &Read>, writes: &Writes, anomalies: &mut Vec<Anomaly>) {
    let mut told = BTreeSet::new();
    for Read { reader, key, list } in reads {
        let longest = longest[key];
        if !longest.list.starts_with(list) && told.insert(*key) {
            let (one, other) = (&writes.committed[*reader], &writes.committed[longest.reader]);
            let what = format!("{one} found {list:?} in key {key}, but {other} found {:?}", longest.list);
            anomalies.push(Anomaly::new(Class::IncompatibleOrder, what));
        }
    }
}

/// Committed appends behind failed ones.
fn dirty_updates(read: &Read, writes: &Writes, anomalies: &mut Vec<Anomaly>) {
    let mut failed = None;
    for value in &read.list {
        let Some(write) = writes.by_value.get(&(read.key, *value)) else { continue };
        if write.failed {
            failed = Some((value, write.began));
        } else if let Some((lost, began)) = failed.take() {
            let key = read.key;
            let what =
                format!("T{} appended {value} to key {key} after {lost}, which T{began} failed to append", write.began);
            anomalies.push(Anomaly::new(Class::DirtyUpdate, what));
        }
    }
}

/// Acknowledged appends that nobody saw, although somebody looked later.
fn lost_appends(reads: &[Read], longest: &BTreeMap<u64, &Read>, writes: &Writes, anomalies: &mut Vec<Anomaly>) {
    let mut last: BTreeMap<u64, &Read> = BTreeMap::new();
    for read in reads {
        // Reads come in the order of their invocations.
        last.insert(read.key, read);
    }
    for (key, value, node) in unseen(longest, writes) {
        let (writer, Some(read)) = (&writes.committed[node], last.get(&key)) else { continue };
        let reader = &writes.committed[read.reader];
        if writer.ended.is_some_and(|ended| ended < reader.began) {
            let what =
                format!("{value}, which {writer} appended to key {key}, is missing from {reader}, which began later");
            anomalies.push(Anomaly::new(Class::LostAppend, what));
        }
    }
}

/// Committed appends that are not in the longest read of their key: keys, values and their writers.
fn unseen(longest: &BTreeMap<u64, &Read>, writes: &Writes) -> Vec<(u64, u64, usize)> {
    let seen: BTreeSet<(u64, u64)> =
        longest.iter().flat_map(|(key, read)| read.list.iter().map(|value| (*key, *value))).collect();
    let committed = writes.by_value.iter().filter_map(|((key, value), write)| Some((*key, *value, write.node?)));
    committed.filter(|(key, value, _)| !seen.contains(&(*key, *value))).collect()
}

fn dependencies(reads: &[Read], longest: &BTreeMap<u64, &Read>, writes: &Writes) -> Dependencies {
    let mut dependencies = Dependencies::default();
    let node = |key: u64, value: u64| writes.by_value.get(&(key, value)).and_then(|write| write.node);
    for ((key, value), write) in &writes.by_value {
        if let Some(node) = write.node {
            dependencies.wrote(node, *key, *value);
        }
    }
    let mut ends: BTreeMap<u64, Option<u64>> = BTreeMap::new();
    for (key, read) in longest {
        let mut before = None;
        for value in read.list.iter().filter(|value| node(*key, **value).is_some()) {
            dependencies.follows(*key, before, *value, Order::Data);
            before = Some(*value);
        }
        ends.insert(*key, before);
    }
    for (key, value, _) in unseen(longest, writes) {
        dependencies.follows(key, ends.get(&key).copied().flatten(), value, Order::Data);
    }
    for read in reads {
        let found = read.list.iter().rfind(|value| node(read.key, **value).is_some());
        dependencies.read(read.reader, read.key, found.copied());
    }
    dependencies
}

#[cfg(test)]
#[path = "append_tests.rs"]
mod tests;
