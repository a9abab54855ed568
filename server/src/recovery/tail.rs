//! Where a replica's log leads: what it would be if it applied all of it.

use proto::transaction::Intent;
use proto::{Key, RangeDescriptor, Span, Timestamp, codec};
use txn::engine::{self, Engine, EngineError, Space};
use txn::{keys, mvcc};

use crate::raft::RecoveredGroup;
use crate::raft::members::decode_change;
use crate::raft::record::LogEntry;
use crate::range::command::{Command, Trigger};
use crate::range::state::{Applied, RangeState};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The replica's state after its last entry.
    pub state: RangeState,
    /// The descriptor that is known to be committed, and those that follow from entries after that.
    pub steps: Vec<RangeDescriptor>,
    /// The right-hand sides of splits that are not applied yet.
    pub births: Vec<RangeState>,
    /// The newest timestamp that the log writes at; zero if it holds nothing that tells.
    pub newest: Timestamp,
}

/// The command in an entry; none in the empty one that a leader begins with.
fn command(entry: &LogEntry) -> Result<Option<Command>, EngineError> {
    if entry.data.is_empty() {
        return Ok(None);
    }
    let command: Command = match entry.kind {
        0 => codec::decode("a command", &entry.data)?,
        _ => codec::decode("a command", &decode_change(&entry.data).map_err(EngineError::Corrupt)?.1)?,
    };
    // As in applying: evaluated in one term, appended in another (I4).
    Ok(Some(command).filter(|command| command.term == entry.term))
}

/// Where a log leads from an applied state.
///
/// # Errors
/// When entries are damaged.
pub fn follow(state: &RangeState, applied: Applied, log: &RecoveredGroup) -> Result<Tail, EngineError> {
    let mut tail = Tail {
        state: state.clone(),
        steps: vec![state.descriptor.clone()],
        births: Vec::new(),
        newest: Timestamp::ZERO,
    };
    for entry in &log.entries {
        let Some(command) = command(entry)? else { continue };
        for write in &command.batch.writes {
            tail.newest = tail.newest.max(written_at(write)?);
        }
        if entry.index <= applied.index {
            continue;
        }
        match command.trigger {
            Some(Trigger::Split { left, right, read_floor }) => {
                let settled = if tail.state.is_settled() { left.epoch } else { tail.state.settled };
                let receipt_floor = tail.state.receipt_floor;
                tail.births.push(RangeState { descriptor: right, read_floor, receipt_floor, settled });
                tail.state = RangeState { descriptor: left, settled, ..tail.state };
            }
            Some(Trigger::Members { descriptor }) => tail.state.descriptor = descriptor,
            Some(Trigger::Settled { epoch }) => tail.state.settled = epoch,
            Some(Trigger::HandOver { .. }) | None => continue,
        }
        if entry.index <= log.hard_state.commit {
            tail.steps.clear();
        }
        tail.steps.push(tail.state.descriptor.clone());
    }
    Ok(tail)
}

/// The timestamp of a version or an intent that is written; zero for anything else.
fn written_at(write: &engine::EngineWrite) -> Result<Timestamp, EngineError> {
    match (write.space, &write.value) {
        (Space::Versions, Some(_)) => keys::parse_version(&write.key).map(|(_, timestamp)| timestamp),
        (Space::Intents, Some(value)) => Ok(codec::decode::<Intent>("an intent", value)?.timestamp),
        _ => Ok(Timestamp::ZERO),
    }
}

/// The newest values of the keys in a span, as they would be once all of a log is applied.
///
/// # Errors
/// When entries or rows are damaged.
pub fn rows(
    engine: &dyn Engine,
    applied: Applied,
    log: &RecoveredGroup,
    span: &Span,
) -> Result<Vec<(Key, Vec<u8>)>, EngineError> {
    let (start, end) = (keys::versions_of(&span.start), keys::versions_of(&span.end));
    let mut versions = std::collections::BTreeMap::new();
    engine::visit(engine, Space::Versions, &start, &end, |key, value| {
        versions.insert(key.to_vec(), value.to_vec());
        Ok(true)
    })?;
    for entry in log.entries.iter().filter(|entry| entry.index > applied.index) {
        let writes = command(entry)?.map(|command| command.batch.writes).unwrap_or_default();
        let within = |key: &[u8]| key >= start.as_slice() && key < end.as_slice();
        for write in writes.into_iter().filter(|write| write.space == Space::Versions && within(&write.key)) {
            match (write.value, write.clear_to) {
                (Some(value), _) => drop(versions.insert(write.key, value)),
                (None, None) => drop(versions.remove(&write.key)),
                (None, Some(to)) => versions.retain(|key, _| *key < write.key || *key >= to),
            }
        }
    }
    let mut rows: Vec<(Key, Vec<u8>)> = Vec::new();
    let mut last = None;
    for (key, value) in &versions {
        let (key, _) = keys::parse_version(key)?;
        // The newest version of a key comes first.
        if last.as_ref() == Some(&key) {
            continue;
        }
        if let (_, Some(value)) = mvcc::decode_version(value)? {
            rows.push((key.clone(), value));
        }
        last = Some(key);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use proto::{Epoch, NodeId, RangeId, ReplicaDescriptor, ReplicaId};
    use txn::{MemoryEngine, WriteBatch};

    use super::*;
    use crate::raft::record::HardState;

    fn range(id: u64, start: &str, end: &str, epoch: u64) -> RangeDescriptor {
        let replicas = (1..=3).map(|n| ReplicaDescriptor::voter(NodeId(n), ReplicaId(n))).collect();
        RangeDescriptor::new(RangeId(id), Span::new(start, end), Epoch(epoch), replicas)
    }

    fn entry(index: u64, term: u64, of: Command) -> LogEntry {
        LogEntry { index, term, kind: 0, data: codec::encode(&of).into() }
    }

    fn of(term: u64, batch: WriteBatch, trigger: Option<Trigger>) -> Command {
        Command { term, proposal: 1, batch, trigger }
    }

    fn split(left: RangeDescriptor, right: RangeDescriptor) -> Option<Trigger> {
        Some(Trigger::Split { left, right, read_floor: Timestamp(9) })
    }

    #[test]
    fn a_split_in_the_log_is_followed_unless_it_was_evaluated_in_another_term() {
        let state = RangeState {
            descriptor: range(1, "a", "z", 4),
            read_floor: Timestamp(1),
            receipt_floor: Timestamp(2),
            settled: Epoch(4),
        };
        let dead = of(6, WriteBatch::default(), split(range(1, "a", "c", 5), range(8, "c", "z", 5)));
        let live = of(7, WriteBatch::default(), split(range(1, "a", "m", 5), range(9, "m", "z", 5)));
        let log = RecoveredGroup {
            hard_state: HardState { term: 7, vote: 0, commit: 6 },
            entries: vec![entry(6, 7, dead), entry(7, 7, live)],
            ..RecoveredGroup::default()
        };
        let tail = follow(&state, Applied { index: 5, term: 5, bytes: 0 }, &log).unwrap();
        assert_eq!(tail.state.descriptor, range(1, "a", "m", 5));
        assert_eq!(tail.births.iter().map(|born| born.descriptor.id).collect::<Vec<_>>(), [RangeId(9)]);
        assert_eq!(tail.steps, [range(1, "a", "z", 4), range(1, "a", "m", 5)], "not known to be committed");
        assert!(tail.state.is_settled());
    }

    #[test]
    fn rows_are_those_after_the_log() {
        let mut engine = MemoryEngine::default();
        let mut batch = WriteBatch::default();
        let (a, b) = (Key::from("a"), Key::from("b"));
        mvcc::put_version(&mut batch, &a, Timestamp(1), mvcc::NOBODY, Some(b"old"));
        mvcc::put_version(&mut batch, &b, Timestamp(1), mvcc::NOBODY, Some(b"gone"));
        engine.write(batch).unwrap();
        let mut batch = WriteBatch::default();
        mvcc::put_version(&mut batch, &a, Timestamp(5), mvcc::NOBODY, Some(b"new"));
        mvcc::put_version(&mut batch, &b, Timestamp(6), mvcc::NOBODY, None);
        let log = RecoveredGroup { entries: vec![entry(6, 7, of(7, batch, None))], ..RecoveredGroup::default() };
        let applied = Applied { index: 5, term: 5, bytes: 0 };
        let found = rows(&engine, applied, &log, &Span::new("a", "z")).unwrap();
        assert_eq!(found, [(a, b"new".to_vec())]);
        let state = RangeState {
            descriptor: range(1, "a", "z", 4),
            read_floor: Timestamp(1),
            receipt_floor: Timestamp(2),
            settled: Epoch(4),
        };
        assert_eq!(follow(&state, applied, &log).unwrap().newest, Timestamp(6));
    }
}
