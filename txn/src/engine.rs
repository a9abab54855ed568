//! The storage port: an ordered map of byte strings, in four spaces.
//!
//! An engine applies a [`WriteBatch`] atomically and in order, and makes it durable *later*: after a crash it holds
//! some prefix of the batches it was given, at least up to the last completed flush. The Raft log replays the rest, so an
//! engine needs no log of its own. Production uses RocksDB, the simulator and the tests [`crate::MemoryEngine`].

use std::fmt;
use std::ops::Range;

use minicbor::{Decode, Encode};

/// A part of the engine with an order of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Space {
    #[n(0)]
    /// Committed versions: encoded key and timestamp → value or deletion.
    Versions,
    #[n(1)]
    /// Provisional writes: key → [`proto::transaction::Intent`].
    Intents,
    #[n(2)]
    /// Per range: its state; per anchor key: transaction records.
    Local,
    #[n(3)]
    /// Per range: how much of its log the other spaces show. Written with every batch, and read when a store starts.
    Applied,
}

impl Space {
    pub const ALL: [Space; 4] = [Space::Versions, Space::Intents, Space::Local, Space::Applied];
}

/// Writes that take effect together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct WriteBatch {
    #[n(0)]
    pub writes: Vec<EngineWrite>,
}

/// One write of a batch; later ones win.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct EngineWrite {
    #[n(0)]
    pub space: Space,
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub key: Vec<u8>,
    /// `None` removes the key.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub value: Option<Vec<u8>>,
    /// If given, everything from the key up to here, exclusive, is removed instead.
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    pub clear_to: Option<Vec<u8>>,
}

impl WriteBatch {
    pub fn put(&mut self, space: Space, key: Vec<u8>, value: Vec<u8>) {
        self.writes.push(EngineWrite { space, key, value: Some(value), clear_to: None });
    }

    pub fn remove(&mut self, space: Space, key: Vec<u8>) {
        self.writes.push(EngineWrite { space, key, value: None, clear_to: None });
    }

    /// Removes everything from `start` to `end`, exclusive.
    pub fn clear(&mut self, space: Space, start: Vec<u8>, end: Vec<u8>) {
        self.writes.push(EngineWrite { space, key: start, value: None, clear_to: Some(end) });
    }

    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

/// The engine failed. None of these is recoverable by trying again: the store stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineError {
    Io(String),
    Corrupt(String),
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EngineError::Io(detail) => write!(f, "the storage engine failed: {detail}"),
            EngineError::Corrupt(detail) => write!(f, "stored data is damaged: {detail}"),
        }
    }
}

impl std::error::Error for EngineError {}

impl From<proto::codec::DecodeError> for EngineError {
    fn from(e: proto::codec::DecodeError) -> Self {
        EngineError::Corrupt(e.to_string())
    }
}

/// A position in a part of one space, over a view that does not change while the cursor lives.
pub trait Cursor {
    /// Moves to the first key at or after `key`.
    fn seek(&mut self, key: &[u8]) -> Result<(), EngineError>;
    /// Moves to the last key before `key`.
    fn seek_before(&mut self, key: &[u8]) -> Result<(), EngineError>;
    fn next(&mut self) -> Result<(), EngineError>;
    /// The current key and value, or `None` past either end of the part.
    fn item(&self) -> Option<(&[u8], &[u8])>;
}

/// The port.
pub trait Engine: Send {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError>;
    /// A cursor over the keys in `part`. What was removed is remembered for a while: a cursor does not look for what is left any further than this.
    fn cursor(&self, space: Space, part: Range<&[u8]>) -> Box<dyn Cursor + '_>;
    fn write(&mut self, batch: WriteBatch) -> Result<(), EngineError>;
}

/// The entries of a space from `start` to `end` (exclusive), in order, until `visit` says stop.
pub fn visit(
    engine: &dyn Engine,
    space: Space,
    start: &[u8],
    end: &[u8],
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool, EngineError>,
) -> Result<(), EngineError> {
    let mut cursor = engine.cursor(space, start..end);
    cursor.seek(start)?;
    while let Some((key, value)) = cursor.item() {
        if !visit(key, value)? {
            return Ok(());
        }
        cursor.next()?;
    }
    Ok(())
}
