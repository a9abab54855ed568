//! A group's log in memory, as the Raft library reads it.
//!
//! Everything that is not truncated is here: appended entries at once, so that they can be sent while they are being
//! synced. Truncation keeps this small; it happens behind what the engine has flushed.

use std::cell::Cell;
use std::collections::VecDeque;

use raft::eraftpb::{Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Result, Storage, StorageError};

use super::members::Members;
use super::record::LogPosition;

/// See the module.
pub struct LogStore {
    entries: VecDeque<Entry>,
    truncated: LogPosition,
    hard_state: HardState,
    members: Members,
    bytes: usize,
    /// What a follower that is too far behind gets.
    snapshot: Option<Snapshot>,
    /// Whether one was asked for and was not there.
    snapshot_wanted: Cell<bool>,
}

impl LogStore {
    pub fn new(members: Members, truncated: LogPosition, hard_state: HardState, entries: Vec<Entry>) -> LogStore {
        let bytes = entries.iter().map(|e| e.data.len()).sum();
        LogStore {
            entries: entries.into(),
            truncated,
            hard_state,
            members,
            bytes,
            snapshot: None,
            snapshot_wanted: Cell::new(false),
        }
    }

    pub fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    pub fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(first.index > self.truncated.index, "an appended entry is not truncated already");
        while self.entries.back().is_some_and(|last| last.index >= first.index) {
            self.bytes -= self.entries.pop_back().map_or(0, |e| e.data.len());
        }
        assert_eq!(self.last(), first.index - 1, "an appended entry follows the last one");
        self.bytes += entries.iter().map(|e| e.data.len()).sum::<usize>();
        self.entries.extend(entries.iter().cloned());
    }

    /// Forgets entries up to an index; returns the new position, or `None` if nothing was there to forget.
    pub fn truncate(&mut self, index: u64) -> Option<LogPosition> {
        let index = index.min(self.last());
        if index <= self.truncated.index {
            return None;
        }
        let term = self.term_of(index)?;
        while self.entries.front().is_some_and(|first| first.index <= index) {
            self.bytes -= self.entries.pop_front().map_or(0, |e| e.data.len());
        }
        self.truncated = LogPosition { index, term };
        Some(self.truncated)
    }

    /// A Raft snapshot replaces the log.
    pub fn reset(&mut self, position: LogPosition) {
        self.entries.clear();
        self.bytes = 0;
        self.truncated = position;
        self.hard_state.commit = self.hard_state.commit.max(position.index);
    }

    pub fn last(&self) -> u64 {
        self.entries.back().map_or(self.truncated.index, |e| e.index)
    }

    pub fn truncated(&self) -> LogPosition {
        self.truncated
    }

    /// Bytes of the commands kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn term_of(&self, index: u64) -> Option<u64> {
        if index == self.truncated.index {
            return Some(self.truncated.term);
        }
        let offset = index.checked_sub(self.truncated.index + 1)?;
        self.entries.get(usize::try_from(offset).ok()?).map(|e| e.term)
    }

    /// Whether a Raft snapshot was asked for since the last time this was asked.
    pub fn take_snapshot_wanted(&self) -> bool {
        self.snapshot_wanted.replace(false)
    }

    pub fn offer_snapshot(&mut self, snapshot: Option<Snapshot>) {
        self.snapshot = snapshot;
    }
}

impl Storage for LogStore {
    fn initial_state(&self) -> Result<RaftState> {
        Ok(RaftState { hard_state: self.hard_state.clone(), conf_state: self.members.to_conf_state() })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> Result<Vec<Entry>> {
        if low <= self.truncated.index {
            return Err(Error::Store(StorageError::Compacted));
        }
        if high > self.last() + 1 {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let max_size = max_size.into().unwrap_or(u64::MAX);
        let first = (low - self.truncated.index - 1) as usize;
        let mut size = 0u64;
        let mut entries = Vec::new();
        for entry in self.entries.range(first..first + (high - low) as usize) {
            size += entry.data.len() as u64 + 16;
            if size > max_size && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
        }
        Ok(entries)
    }

    fn term(&self, index: u64) -> Result<u64> {
        if index < self.truncated.index {
            return Err(Error::Store(StorageError::Compacted));
        }
        self.term_of(index).ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.truncated.index + 1)
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, _: u64) -> Result<Snapshot> {
        match &self.snapshot {
            Some(snapshot) if snapshot.get_metadata().index >= request_index.max(self.truncated.index) => {
                Ok(snapshot.clone())
            }
            _ => {
                self.snapshot_wanted.set(true);
                Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
            }
        }
    }
}
