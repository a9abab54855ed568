//! Who wrote what, and which operations took effect.

use std::collections::{BTreeMap, BTreeSet};

use super::anomaly::{Anomaly, Class};
use super::history::{Found, History, Micro, Operation, Outcome};

/// One write of a value to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// The invocation of its operation.
    pub began: u64,
    /// The place of its operation among the committed ones, if it took effect.
    pub node: Option<usize>,
    /// Its operation certainly had no effect.
    pub failed: bool,
    /// Its operation wrote nothing more to the key.
    pub last: bool,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Writes {
    /// The operations that took effect, in the order of their invocations.
    pub committed: Vec<Operation>,
    /// By key and value.
    pub by_value: BTreeMap<(u64, u64), Write>,
}

impl Writes {
    /// Sorts out a history. An operation of unknown outcome took effect if anyone read something that it wrote.
    ///
    /// # Errors
    /// An [`Anomaly`] if the history is malformed or a value is written to a key more than once.
    pub fn of(history: &History) -> Result<Writes, Anomaly> {
        let malformed = |what: String| Anomaly::new(Class::Malformed, what);
        let operations = history.operations().map_err(|why| malformed(why.to_string()))?;
        let seen = seen(&operations);
        let mut writes = Writes::default();
        for operation in operations {
            let failed = operation.outcome == Outcome::Failed;
            let took_effect = match operation.outcome {
                Outcome::Committed => true,
                Outcome::Failed => false,
                Outcome::Unknown => operation.writes().any(|write| seen.contains(&write)),
            };
            let node = took_effect.then_some(writes.committed.len());
            let last: BTreeMap<u64, u64> = operation.writes().collect();
            for (key, value) in operation.writes() {
                let last = last.get(&key) == Some(&value);
                let write = Write { began: operation.began, node, failed, last };
                if let Some(other) = writes.by_value.insert((key, value), write) {
                    let (a, b) = (other.began, operation.began);
                    return Err(malformed(format!("{value} is written to key {key} twice, in T{a} and T{b}")));
                }
            }
            if took_effect {
                writes.committed.push(operation);
            }
        }
        Ok(writes)
    }
}

/// Keys and values that committed operations read.
fn seen(operations: &[Operation]) -> BTreeSet<(u64, u64)> {
    let mut seen = BTreeSet::new();
    for operation in operations.iter().filter(|operation| operation.outcome == Outcome::Committed) {
        for micro in &operation.value {
            match micro {
                Micro::Read { key, found: Found::One(value) } => drop(seen.insert((*key, *value))),
                Micro::Read { key, found: Found::List(list) } => seen.extend(list.iter().map(|value| (*key, *value))),
                _ => {}
            }
        }
    }
    seen
}
