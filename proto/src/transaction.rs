//! Transactions as the key space stores them: intents and records.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::{Key, Timestamp, TxnId, Value};

/// What a participant must know of a transaction that writes.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TxnMeta {
    #[n(0)]
    pub id: TxnId,
    /// Counts the tries to commit; an intent of an older attempt is never committed.
    #[n(1)]
    pub attempt: u32,
    /// The key whose range holds the transaction record: the first key written.
    #[n(2)]
    pub anchor: Key,
    /// The start timestamp of the work's first try: in a conflict the smaller one (the older) wins.
    #[n(3)]
    pub priority: Timestamp,
    /// The read timestamp with which this transaction began, by which receipts are collected.
    #[n(4)]
    pub start: Timestamp,
}

/// A provisional write: at most one a key.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Intent {
    #[n(0)]
    pub txn: TxnMeta,
    /// The least timestamp at which it may commit. Never moves down.
    #[n(1)]
    pub timestamp: Timestamp,
    /// `None` deletes.
    #[n(2)]
    pub value: Option<ByteVec>,
}

/// The state of a transaction record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum TxnStatus {
    /// Nothing is decided: somebody met an intent before the record was staged, or a push keeps the coordinator from staging it.
    #[n(0)]
    Pending,
    /// Committed at the record's timestamp. Final.
    #[n(1)]
    Committed,
    /// Final.
    #[n(2)]
    Aborted,
    /// Committed at the record's timestamp if each of its keys holds this attempt's intent at or below it (I6). The coordinator is thought
    /// alive until the record's heartbeat is old; then whoever must know looks at the keys.
    #[n(3)]
    Staging,
}

/// The one place where a transaction's fate is decided; afterwards its receipt.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TxnRecord {
    #[n(0)]
    pub id: TxnId,
    #[n(1)]
    pub attempt: u32,
    #[n(2)]
    pub status: TxnStatus,
    /// Pending: the least timestamp at which it may commit. Staging, committed: the commit timestamp.
    #[n(3)]
    pub timestamp: Timestamp,
    /// The HLC reading of the coordinator's last sign of life.
    #[n(4)]
    pub heartbeat: Timestamp,
    #[n(5)]
    pub priority: Timestamp,
    #[n(6)]
    pub start: Timestamp,
    /// Every key that was written, so that whoever settles the transaction can resolve all of it.
    #[n(7)]
    pub keys: Vec<Key>,
}

/// A buffered write on its way to a range.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Write {
    #[n(0)]
    pub key: Key,
    /// `None` deletes.
    #[n(1)]
    pub value: Option<ByteVec>,
}

impl Write {
    pub fn new(key: Key, value: Option<Value>) -> Write {
        Write { key, value: value.map(ByteVec::from) }
    }
}
