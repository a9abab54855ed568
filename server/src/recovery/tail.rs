//! Where a replica's log leads: what it would be if it applied all of it.

use proto::range::Frozen;
use proto::transaction::Intent;
use proto::{Key, RangeDescriptor, RangeId, Span, Timestamp, codec};
use txn::engine::{self, Engine, EngineError, Space};
use txn::{keys, mvcc};

use crate::raft::RecoveredGroup;
use crate::raft::members::decode_change;
use crate::raft::record::{LogEntry, LogPosition};
use crate::range::command::{Command, Merge, Trigger};
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
    /// The ranges that it takes in by merges that are not applied yet.
    pub takes: Vec<RangeId>,
    /// The last entry before a merge whose other half is not in the store: the replica can apply its log only up to there.
    pub cut: Option<LogPosition>,
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

/// Where a log leads from an applied state. `is_here` says whether what a merge takes in is in the same store.
///
/// # Errors
/// When entries are damaged.
pub fn follow(
    state: &RangeState,
    applied: Applied,
    log: &RecoveredGroup,
    is_here: impl Fn(&Merge) -> bool,
) -> Result<Tail, EngineError> {
    let mut tail = Tail {
        state: state.clone(),
        steps: vec![state.descriptor.clone()],
        births: Vec::new(),
        takes: Vec::new(),
        cut: None,
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
        if let Some(Trigger::Merge(merge)) = &command.trigger
            && !is_here(merge)
        {
            let index = entry.index - 1;
            tail.cut = Some(LogPosition { index, term: term_of(log, index) });
            break;
        }
        if !tail.take(command.trigger, entry) {
            continue;
        }
        if entry.index <= log.hard_state.commit {
            tail.steps.clear();
        }
        tail.steps.push(tail.state.descriptor.clone());
    }
    Ok(tail)
}

fn term_of(log: &RecoveredGroup, index: u64) -> u64 {
    log.entries.iter().find(|entry| entry.index == index).map_or(log.truncated.term, |entry| entry.term)
}

impl Tail {
    /// Takes in what a command does to the range itself. Says whether that is anything that its descriptor shows.
    fn take(&mut self, trigger: Option<Trigger>, entry: &LogEntry) -> bool {
        let settled = |state: &RangeState, epoch| if state.is_settled() { epoch } else { state.settled };
        match trigger {
            Some(Trigger::Split { left, right, read_floor, pinned }) => {
                let (settled, receipt_floor) = (settled(&self.state, left.epoch), self.state.receipt_floor);
                self.births.push(RangeState { receipt_floor, settled, pinned, ..RangeState::new(right, read_floor) });
                self.state.settled = settled;
                self.state.descriptor = left;
            }
            Some(Trigger::Members { descriptor }) => self.state.descriptor = descriptor,
            Some(Trigger::Advance { descriptor }) => {
                self.state.settled = settled(&self.state, descriptor.epoch);
                self.state.descriptor = descriptor;
            }
            Some(Trigger::Merge(merge)) => {
                self.takes.push(merge.right.id);
                self.state.descriptor = merge.merged;
            }
            Some(Trigger::Settled { epoch }) => self.state.settled = epoch,
            Some(Trigger::Freeze { left, left_start, left_epoch, read_summary }) => {
                let (index, term) = (entry.index, entry.term);
                self.state.frozen = Some(Frozen { left, left_start, left_epoch, read_summary, index, term });
                return false;
            }
            Some(Trigger::Thaw { frozen_at }) => {
                self.state.frozen.take_if(|frozen| frozen.index == frozen_at);
                return false;
            }
            Some(Trigger::Pin(pinned)) => {
                self.state.pinned = pinned;
                return false;
            }
            Some(Trigger::HandOver { .. }) | None => return false,
        }
        true
    }
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
    use proto::{Epoch, NodeId, ReplicaDescriptor, ReplicaId};
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
        Command { term, proposal: 1, batch, trigger, closed: None }
    }

    fn split(left: RangeDescriptor, right: RangeDescriptor) -> Option<Trigger> {
        Some(Trigger::Split { left, right, read_floor: Timestamp(9), pinned: false })
    }

    #[test]
    fn a_split_in_the_log_is_followed_unless_it_was_evaluated_in_another_term() {
        let state = RangeState::new(range(1, "a", "z", 4), Timestamp(1));
        let dead = of(6, WriteBatch::default(), split(range(1, "a", "c", 5), range(8, "c", "z", 5)));
        let live = of(7, WriteBatch::default(), split(range(1, "a", "m", 5), range(9, "m", "z", 5)));
        let log = RecoveredGroup {
            hard_state: HardState { term: 7, vote: 0, commit: 6 },
            entries: vec![entry(6, 7, dead), entry(7, 7, live)],
            ..RecoveredGroup::default()
        };
        let tail = follow(&state, Applied { index: 5, term: 5, ..Applied::default() }, &log, |_| true).unwrap();
        assert_eq!(tail.state.descriptor, range(1, "a", "m", 5));
        assert_eq!(tail.births.iter().map(|born| born.descriptor.id).collect::<Vec<_>>(), [RangeId(9)]);
        assert_eq!(tail.steps, [range(1, "a", "z", 4), range(1, "a", "m", 5)], "not known to be committed");
        assert!(tail.state.is_settled());
    }

    #[test]
    fn a_merge_is_followed_where_its_other_half_is_and_else_ends_the_log() {
        let frozen = Frozen {
            left: RangeId(1),
            left_start: Key::from("a"),
            left_epoch: Epoch(4),
            read_summary: Timestamp(9),
            index: 8,
            term: 7,
        };
        let (merged, right) = (range(1, "a", "z", 8), range(9, "m", "z", 7));
        let merge =
            Merge { merged: merged.clone(), right, frozen, receipt_floor: Timestamp(1), closed: Timestamp::ZERO };
        let log = RecoveredGroup {
            entries: vec![
                entry(6, 7, of(7, WriteBatch::default(), None)),
                entry(7, 7, of(7, WriteBatch::default(), Some(Trigger::Merge(Box::new(merge))))),
                entry(8, 7, of(7, WriteBatch::default(), Some(Trigger::Settled { epoch: Epoch(8) }))),
            ],
            ..RecoveredGroup::default()
        };
        let state = RangeState::new(range(1, "a", "m", 4), Timestamp(1));
        let applied = Applied { index: 5, term: 5, ..Applied::default() };
        let here = follow(&state, applied, &log, |merge| merge.right.id == RangeId(9)).unwrap();
        assert_eq!((here.state.descriptor, here.takes, here.cut), (merged, vec![RangeId(9)], None));
        assert_eq!(here.state.settled, Epoch(8));
        let gone = follow(&state, applied, &log, |_| false).unwrap();
        assert_eq!((gone.state, gone.cut), (state, Some(LogPosition { index: 6, term: 7 })));
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
        let applied = Applied { index: 5, term: 5, ..Applied::default() };
        let found = rows(&engine, applied, &log, &Span::new("a", "z")).unwrap();
        assert_eq!(found, [(a, b"new".to_vec())]);
        let state = RangeState::new(range(1, "a", "z", 4), Timestamp(1));
        assert_eq!(follow(&state, applied, &log, |_| true).unwrap().newest, Timestamp(6));
    }
}
