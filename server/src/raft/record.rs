//! What the Raft log of a store looks like on disk.
//!
//! The log is a sequence of [`LogFrame`]s. A frame holds whatever became ready in all groups of the store while the last
//! frame was being synced: that is group commit. Reading all frames in order into a [`RecoveredLog`] gives the state of
//! each group; later records of a group override earlier ones from their first entry on, as in Raft itself.

use std::collections::BTreeMap;

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use proto::{RangeId, Timestamp};

/// One append, synced as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct LogFrame {
    #[n(0)]
    pub groups: Vec<GroupRecord>,
    /// A new ceiling of the hybrid logical clock.
    #[n(1)]
    pub ceiling: Option<Timestamp>,
}

impl LogFrame {
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.ceiling.is_none()
    }
}

/// What one frame adds to one group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct GroupRecord {
    #[n(0)]
    pub range: RangeId,
    /// Everything up to here is in the engine, durably, or came with a Raft snapshot: entries up to it are forgotten.
    #[n(1)]
    pub truncated: Option<LogPosition>,
    /// The log before this frame is void: a Raft snapshot up to `truncated` replaces it.
    #[n(2)]
    pub reset: bool,
    #[n(3)]
    pub hard_state: Option<HardState>,
    /// Consecutive. They replace entries of the same and higher indexes.
    #[n(4)]
    pub entries: Vec<LogEntry>,
    /// The replica is gone from this store: nothing of the group before this frame matters any more.
    #[n(5)]
    #[cbor(default)]
    pub removed: bool,
    /// Whose log it is, of the range's replicas that were on this store one after another.
    #[n(6)]
    #[cbor(default)]
    pub replica: u64,
}

/// An entry's place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct LogPosition {
    #[n(0)]
    pub index: u64,
    #[n(1)]
    pub term: u64,
}

/// What Raft must remember of its votes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct HardState {
    #[n(0)]
    pub term: u64,
    #[n(1)]
    pub vote: u64,
    #[n(2)]
    pub commit: u64,
}

/// A Raft entry.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LogEntry {
    #[n(0)]
    pub index: u64,
    #[n(1)]
    pub term: u64,
    /// The library's entry type: 0 for commands.
    #[n(2)]
    pub kind: u32,
    #[n(3)]
    pub data: ByteVec,
}

/// One group as its records left it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveredGroup {
    pub truncated: LogPosition,
    pub hard_state: HardState,
    pub entries: Vec<LogEntry>,
    /// Whose log it is; 0 if it has never been said.
    pub replica: u64,
}

/// A store's log as its frames left it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveredLog {
    pub groups: BTreeMap<RangeId, RecoveredGroup>,
    pub ceiling: Timestamp,
}

impl RecoveredLog {
    /// Takes in the next frame.
    ///
    /// # Errors
    /// A sentence, if the frame cannot follow what came before.
    pub fn add(&mut self, frame: LogFrame) -> Result<(), String> {
        if let Some(ceiling) = frame.ceiling {
            self.ceiling = self.ceiling.max(ceiling);
        }
        for record in frame.groups {
            if record.removed {
                self.groups.remove(&record.range);
            } else {
                self.groups.entry(record.range).or_default().add(record)?;
            }
        }
        Ok(())
    }
}

impl RecoveredLog {
    /// All frames are in.
    ///
    /// # Errors
    /// A sentence, if a group lacks entries between what is truncated and what is there.
    pub fn finish(self) -> Result<RecoveredLog, String> {
        for (range, group) in &self.groups {
            let first = group.entries.first().map_or(group.truncated.index + 1, |entry| entry.index);
            if first != group.truncated.index + 1 {
                let expected = group.truncated.index + 1;
                return Err(format!("{range}: the log begins with entry {first}, but entry {expected} is needed"));
            }
        }
        Ok(self)
    }
}

impl RecoveredGroup {
    fn add(&mut self, record: GroupRecord) -> Result<(), String> {
        self.replica = self.replica.max(record.replica);
        if record.reset {
            self.entries.clear();
            self.truncated = LogPosition::default();
        }
        if let Some(position) = record.truncated.filter(|p| p.index > self.truncated.index) {
            self.entries.retain(|entry| entry.index > position.index);
            self.truncated = position;
        }
        if let Some(hard_state) = record.hard_state {
            self.hard_state = hard_state;
        }
        let fresh = record.entries.into_iter().filter(|entry| entry.index > self.truncated.index);
        for (n, entry) in fresh.enumerate() {
            if n == 0 {
                self.entries.retain(|old| old.index < entry.index);
            }
            // Where nothing is held, anything may follow: a truncation further on may tell why. See `RecoveredLog::finish`.
            if let Some(last) = self.entries.last()
                && entry.index != last.index + 1
            {
                return Err(format!("{}: entry {} follows entry {}", record.range, entry.index, last.index));
            }
            self.entries.push(entry);
        }
        Ok(())
    }

    /// What the engine holds durably counts as truncated where the log does not reach or disagrees: a Raft snapshot, or the first
    /// contents of a range, became durable before a crash kept the log from saying so.
    pub fn catch_up_with(&mut self, applied: LogPosition) {
        let held = |entry: &LogEntry| entry.index == applied.index && entry.term == applied.term;
        if applied == self.truncated || self.entries.iter().any(held) {
            return;
        }
        // A log that was truncated further than the engine has come is damaged; opening the group says so.
        if applied.index > self.truncated.index {
            self.entries.clear();
            self.truncated = applied;
        }
        self.hard_state.term = self.hard_state.term.max(applied.term);
        self.hard_state.commit = self.hard_state.commit.max(applied.index);
    }

    /// The group's whole state as one record, for the head of a new segment.
    pub fn to_record(&self, range: RangeId) -> GroupRecord {
        GroupRecord {
            range,
            truncated: Some(self.truncated),
            reset: false,
            hard_state: Some(self.hard_state),
            entries: Vec::new(),
            removed: false,
            replica: self.replica,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, term: u64) -> LogEntry {
        LogEntry { index, term, kind: 0, data: ByteVec::from(vec![]) }
    }

    fn frame(record: GroupRecord) -> LogFrame {
        LogFrame { groups: vec![GroupRecord { range: RangeId(1), ..record }], ceiling: None }
    }

    #[test]
    fn later_entries_replace_earlier_ones_from_their_first_on() {
        let mut log = RecoveredLog::default();
        let position = LogPosition { index: 5, term: 5 };
        log.add(frame(GroupRecord { truncated: Some(position), ..Default::default() })).unwrap();
        log.add(frame(GroupRecord { entries: vec![entry(6, 6), entry(7, 6), entry(8, 6)], ..Default::default() }))
            .unwrap();
        log.add(frame(GroupRecord { entries: vec![entry(7, 7)], ..Default::default() })).unwrap();
        assert_eq!(log.groups[&RangeId(1)].entries, vec![entry(6, 6), entry(7, 7)]);
        assert!(log.add(frame(GroupRecord { entries: vec![entry(9, 7)], ..Default::default() })).is_err());
    }

    /// Segments go from the front, and what remains may begin with entries that were truncated later.
    #[test]
    fn a_log_may_begin_with_entries_that_a_later_record_truncates() {
        let mut log = RecoveredLog::default();
        log.add(frame(GroupRecord { entries: vec![entry(36, 1), entry(37, 1)], ..Default::default() })).unwrap();
        assert!(log.clone().finish().is_err());
        let position = LogPosition { index: 36, term: 1 };
        log.add(frame(GroupRecord { truncated: Some(position), ..Default::default() })).unwrap();
        assert_eq!(log.finish().unwrap().groups[&RangeId(1)].entries, vec![entry(37, 1)]);
    }

    #[test]
    fn truncation_and_reset_forget() {
        let mut log = RecoveredLog::default();
        log.add(frame(GroupRecord { entries: vec![entry(1, 1), entry(2, 1), entry(3, 1)], ..Default::default() }))
            .unwrap();
        let position = LogPosition { index: 2, term: 1 };
        log.add(frame(GroupRecord { truncated: Some(position), ..Default::default() })).unwrap();
        assert_eq!(log.groups[&RangeId(1)].entries, vec![entry(3, 1)]);
        let position = LogPosition { index: 9, term: 4 };
        log.add(frame(GroupRecord { truncated: Some(position), reset: true, ..Default::default() })).unwrap();
        assert_eq!(log.groups[&RangeId(1)].entries, vec![]);
        assert_eq!(log.groups[&RangeId(1)].truncated, position);
    }
}
