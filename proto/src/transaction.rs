//! Transactions as the key space stores them: intents and records.

use std::fmt;
use std::str::FromStr;

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

/// A transaction's id together with where its outcome is kept: what its client needs to ask how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnAddress {
    pub id: TxnId,
    /// The read timestamp with which it began.
    pub start: Timestamp,
    pub anchor: Key,
}

impl TxnAddress {
    /// What a participant must know to answer the question. The attempt is the first: a later one is found in the record.
    pub fn to_meta(&self) -> TxnMeta {
        TxnMeta { id: self.id, attempt: 1, anchor: self.anchor.clone(), priority: self.start, start: self.start }
    }
}

/// `2b8c1d9e-...-0006517c5d2f3000-0578797a`: the id, the start and the anchor, the latter two in hexadecimal digits.
impl fmt::Display for TxnAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016x}-", self.id, self.start.0)?;
        self.anchor.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The text is no transaction's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoAddress;

impl FromStr for TxnAddress {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<TxnAddress, NoAddress> {
        const ID_CHARS: usize = 36;
        const START_CHARS: usize = 16;
        let (id, rest) = text.split_at_checked(ID_CHARS).ok_or(NoAddress)?;
        let rest = rest.strip_prefix('-').ok_or(NoAddress)?;
        let (start, rest) = rest.split_at_checked(START_CHARS).ok_or(NoAddress)?;
        let anchor = rest.strip_prefix('-').ok_or(NoAddress)?.as_bytes();
        if anchor.is_empty() || !anchor.len().is_multiple_of(2) {
            return Err(NoAddress);
        }
        let digit = |byte: u8| (byte as char).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let byte = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(pair[1])?);
        Ok(TxnAddress {
            id: id.parse().map_err(|_| NoAddress)?,
            start: Timestamp(u64::from_str_radix(start, 16).map_err(|_| NoAddress)?),
            anchor: Key(anchor.chunks_exact(2).map(byte).collect::<Option<_>>().ok_or(NoAddress)?),
        })
    }
}

/// How a transaction ended. Final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxnOutcome {
    Committed(Timestamp),
    Aborted,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_back_and_nonsense_is_not() {
        let address = TxnAddress { id: TxnId(77), start: Timestamp(1 << 60), anchor: Key(vec![0, 255, 16]) };
        let text = address.to_string();
        assert_eq!(text.parse(), Ok(address));
        for cut in 0..text.len() {
            let whole = text.len() - 6;
            // Cut inside the anchor at a whole byte it is the address of another transaction.
            if cut <= whole || cut % 2 != whole % 2 {
                assert_eq!(text[..cut].parse::<TxnAddress>(), Err(NoAddress), "{}", &text[..cut]);
            }
        }
        assert_eq!(text.replace("00ff10", "00fg10").parse::<TxnAddress>(), Err(NoAddress));
        assert_eq!("\u{e4}".repeat(40).parse::<TxnAddress>(), Err(NoAddress));
    }
}
