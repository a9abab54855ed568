//! Judges transactions that write and read registers.
//!
//! Each value is written to a key at most once, so a read says whose write it saw. A register does not show in which order it was
//! written; what can be inferred of it is this. The initial state lies before every write. What a transaction read lies before what it then
//! wrote to the same key. And in real time, what was acknowledged lies before what began later; dependencies from this
//! are used only where real time is promised. Where nothing follows, nothing is reported: lists ([`super::append`]) see more.
//!
//! An operation of unknown outcome counts as committed if anyone read one of its writes.
//!
//! Source: Kingsbury and Alvaro, "Elle: Inferring Isolation Anomalies from Experimental Observations", VLDB 2020.

use std::collections::BTreeMap;

use super::anomaly::{Anomaly, Class, Judged};
use super::cycle;
use super::dependencies::Dependencies;
use super::frontier;
use super::graph::Order;
use super::history::{Found, History, Micro, Operation};
use super::writes::Writes;

/// What a committed transaction did to a key, seen from outside.
#[derive(Clone, Copy, Default)]
struct Access {
    /// What it read before it wrote; the inner none is the initial state.
    read: Option<Option<u64>>,
    /// What it wrote last.
    wrote: Option<u64>,
}

/// Judges a history of writes and reads of registers.
pub fn judge(history: &History) -> Judged {
    let writes = match Writes::of(history) {
        Ok(writes) => writes,
        Err(anomaly) => return Judged { anomalies: vec![anomaly], ..Judged::default() },
    };
    let mut anomalies = Vec::new();
    let mut accesses: BTreeMap<(u64, usize), Access> = BTreeMap::new();
    for (node, operation) in writes.committed.iter().enumerate() {
        for (key, access) in internal(operation, &mut anomalies) {
            single_read(node, key, access, &writes, &mut anomalies);
            accesses.insert((key, node), access);
        }
    }
    lost_updates(&accesses, &writes, &mut anomalies);
    let graph = dependencies(&accesses, &writes).graph(&writes.committed);
    anomalies.extend(cycle::anomalies(&graph, &writes.committed));
    Judged { anomalies, committed: writes.committed, graph }
}

/// Follows a transaction through its own reads and writes. The reads of one whose outcome is unknown are unknown, too.
fn internal(operation: &Operation, anomalies: &mut Vec<Anomaly>) -> BTreeMap<u64, Access> {
    let mut accesses: BTreeMap<u64, Access> = BTreeMap::new();
    for micro in &operation.value {
        let (key, found) = match micro {
            Micro::Write { key, value } => {
                accesses.entry(*key).or_default().wrote = Some(*value);
                continue;
            }
            Micro::Read { .. } if operation.ended.is_none() => continue,
            Micro::Read { key, found: Found::Nil } => (*key, None),
            Micro::Read { key, found: Found::One(value) } => (*key, Some(*value)),
            Micro::Append { .. } | Micro::Read { .. } => {
                anomalies.push(Anomaly::new(Class::Malformed, format!("{operation} is not about registers")));
                continue;
            }
        };
        let access = accesses.entry(key).or_default();
        let expected = access.wrote.map(Some).or(access.read);
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            let words = |value: Option<u64>| value.map_or("nothing".to_string(), |value| value.to_string());
            let (found, expected) = (words(found), words(expected));
            let what = format!("{operation} found {found} in key {key} where it had to find {expected}");
            anomalies.push(Anomaly::new(Class::Internal, what));
        }
        if access.wrote.is_none() {
            access.read.get_or_insert(found);
        }
    }
    accesses
}

/// What a read shows to be wrong by itself.
fn single_read(node: usize, key: u64, access: Access, writes: &Writes, anomalies: &mut Vec<Anomaly>) {
    let Some(value) = access.read.flatten() else { return };
    let operation = &writes.committed[node];
    let mut report = |class, what: String| anomalies.push(Anomaly::new(class, format!("{operation} {what}")));
    match writes.by_value.get(&(key, value)) {
        None => report(Class::Unwritten, format!("read {value} of key {key}, which nobody wrote")),
        Some(write) if write.failed => {
            report(Class::G1a, format!("read {value} of key {key}, which T{} failed to write", write.began));
        }
        Some(write) if write.node == Some(node) => {
            report(Class::Internal, format!("read its own {value} of key {key} before it had written it"));
        }
        Some(write) if !write.last => report(Class::G1b, format!("read key {key} in the middle of T{}", write.began)),
        Some(_) => {}
    }
}

fn lost_updates(accesses: &BTreeMap<(u64, usize), Access>, writes: &Writes, anomalies: &mut Vec<Anomaly>) {
    let mut updates: BTreeMap<(u64, Option<u64>), Vec<usize>> = BTreeMap::new();
    for ((key, node), access) in accesses {
        if let (Some(read), Some(_)) = (access.read, access.wrote) {
            updates.entry((*key, read)).or_default().push(*node);
        }
    }
    for ((key, _), nodes) in updates.iter().filter(|(_, nodes)| nodes.len() > 1) {
        let (a, b) = (&writes.committed[nodes[0]], &writes.committed[nodes[1]]);
        let what = format!("both {a} and {b} overwrote the same version of key {key}");
        anomalies.push(Anomaly::new(Class::LostUpdate, what));
    }
}

fn dependencies(accesses: &BTreeMap<(u64, usize), Access>, writes: &Writes) -> Dependencies {
    let mut dependencies = Dependencies::default();
    let mut writers: BTreeMap<u64, Vec<(usize, u64)>> = BTreeMap::new();
    for ((key, value), write) in &writes.by_value {
        if let Some(node) = write.node {
            dependencies.wrote(node, *key, *value);
        }
    }
    for ((key, node), access) in accesses {
        if let Some(read) = access.read {
            dependencies.read(*node, *key, read);
        }
        if let Some(wrote) = access.wrote {
            writers.entry(*key).or_default().push((*node, wrote));
            dependencies.follows(*key, None, wrote, Order::Data);
            if let Some(read) = access.read {
                dependencies.follows(*key, read, wrote, Order::Data);
            }
        }
    }
    for (key, writers) in writers {
        let span = |(node, _): &(usize, u64)| (writes.committed[*node].began, writes.committed[*node].ended);
        for (before, after) in frontier::pairs(&writers.iter().map(span).collect::<Vec<_>>()) {
            dependencies.follows(key, Some(writers[before].1), writers[after].1, Order::RealTime);
        }
    }
    dependencies
}

#[cfg(test)]
#[path = "register_tests.rs"]
mod tests;
