//! What the row of a key holds, and how another request differs from it.

use std::fmt;

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use proto::transaction::TxnAddress;
use proto::{Key, Timestamp, TxnId, codec};

use super::super::error::Error;
use super::fingerprint::Fingerprint;
use super::key::IdempotencyKey;

/// One request of the transaction, and what it was answered.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Step {
    #[n(0)]
    pub request: Fingerprint,
    /// As the layer that answered encodes it.
    #[n(1)]
    pub answer: ByteVec,
}

/// A transaction that committed under a key.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Record {
    #[n(0)]
    pub txn: TxnId,
    #[n(1)]
    pub start: Timestamp,
    #[n(2)]
    pub anchor: Key,
    /// When its commit began, by its gateway's clock: from here on it is kept for the configured time.
    #[n(3)]
    pub made: Timestamp,
    #[n(4)]
    pub steps: Vec<Step>,
}

impl Record {
    pub fn address(&self) -> TxnAddress {
        TxnAddress { id: self.txn, start: self.start, anchor: self.anchor.clone() }
    }

    pub fn decode(bytes: &[u8]) -> Result<Record, Error> {
        codec::decode("the row of an idempotency key", bytes).map_err(|e| Error::Corrupt(e.to_string()))
    }
}

/// Where a request departs from the one that its key belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The request of this number, counted from one, is another one.
    Other(usize),
    /// The first run had only so many.
    More(usize),
    /// The first run had so many, of which only so many were repeated.
    Fewer { had: usize, given: usize },
}

/// A key was given to another request than the one that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reuse {
    pub key: IdempotencyKey,
    /// The transaction that committed under the key.
    pub first: TxnAddress,
    pub made: Timestamp,
    pub how: Difference,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Other(number) => {
                write!(f, "Number {number} of its statements is not the one that came now, or had other parameters.")
            }
            Difference::More(had) => write!(f, "It had {had} statements, and one more came now."),
            Difference::Fewer { had, given } => {
                write!(f, "It had {had} statements, of which only {given} came before the commit.")
            }
        }
    }
}

impl fmt::Display for Reuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "idempotency key \"{}\" belongs to another request, of transaction {}", self.key, self.first.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What lies on disk is read by later versions.
    #[test]
    fn a_record_lies_on_disk_as_it_always_has() {
        let step = Step { request: Fingerprint::of(&[b"SELECT 1"]), answer: ByteVec::from(vec![7]) };
        let record = Record {
            txn: TxnId(1),
            start: Timestamp(2),
            anchor: Key::from("k"),
            made: Timestamp(3),
            steps: vec![step],
        };
        let bytes = codec::encode(&record);
        let shown: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            shown,
            "85500000000000000000000000000000000102416b038182582081d68d7230ba0d375d2ce10a1112fbfc3163c0fe113b46413d9319771de0d1cf4107"
        );
        assert_eq!(Record::decode(&bytes), Ok(record));
        assert!(matches!(Record::decode(&bytes[1..]), Err(Error::Corrupt(_))));
    }
}
