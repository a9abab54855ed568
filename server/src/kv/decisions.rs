//! What was decided about ranges, and what could not be: rows of the system key space, so that every node can show them.
//!
//! ```text
//!   0x02 "decision/" time, number  →  Decision     the latest so many
//!   0x02 "refusals"                →  Vec<String>  what stands in the driver's way now
//! ```

use minicbor::{Decode, Encode};
use proto::{Key, NodeId, RangeId, Span, Timestamp, codec, keyspace};

use super::api::{BeginOptions, Kv, ScanOptions};
use super::db::Db;
use super::error::Error;

/// Decisions that are kept; the older ones go.
pub const KEPT: usize = 1000;
/// How many more may pile up before they do.
const SLACK: usize = 200;

/// Something that was done about a range, or tried.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Decision {
    #[n(0)]
    pub at: Timestamp,
    /// Who decided.
    #[n(1)]
    pub node: NodeId,
    #[n(2)]
    pub range: RangeId,
    /// In words: `replace n3 by n4`.
    #[n(3)]
    pub what: String,
    #[n(4)]
    pub why: String,
    /// `done`, or why not.
    #[n(5)]
    pub outcome: String,
}

fn span() -> Span {
    Span::prefix(&Key([&[keyspace::SYSTEM], b"decision/".as_slice()].concat()))
}

fn refusals_key() -> Key {
    Key([&[keyspace::SYSTEM], b"refusals".as_slice()].concat())
}

impl Db {
    /// Writes a decision down.
    ///
    /// # Errors
    /// When its range does not answer.
    pub async fn note_decision(&self, decision: &Decision) -> Result<(), Error> {
        let number = self.env().random();
        let key = [span().start.0.as_slice(), &decision.at.0.to_be_bytes(), &number.to_be_bytes()].concat();
        let mut txn = self.begin(BeginOptions::default()).await?;
        txn.put(Key(key), codec::encode(decision))?;
        txn.commit().await.map(drop)
    }

    /// The decisions that are kept, the newest first; at most so many.
    ///
    /// # Errors
    /// When their range does not answer.
    pub async fn decisions(&self, max: usize) -> Result<Vec<Decision>, Error> {
        let mut txn = self.begin(BeginOptions { read_only: true, ..BeginOptions::default() }).await?;
        let options = ScanOptions { rows_max: max, reverse: true, ..ScanOptions::default() };
        let page = txn.scan(&span(), options).await?;
        let decode = |bytes: &[u8]| codec::decode("a decision", bytes).map_err(|e| Error::Corrupt(e.to_string()));
        page.rows.iter().map(|(_, bytes)| decode(bytes)).collect()
    }

    /// Deletes the decisions that are too many.
    ///
    /// # Errors
    /// When their range does not answer.
    pub async fn trim_decisions(&self) -> Result<(), Error> {
        let mut txn = self.begin(BeginOptions::default()).await?;
        let page = txn.scan(&span(), ScanOptions { rows_max: KEPT + SLACK + 1, ..ScanOptions::default() }).await?;
        if page.rows.len() > KEPT + SLACK {
            for (key, _) in page.rows.into_iter().take(SLACK) {
                txn.delete(key)?;
            }
        }
        txn.commit().await.map(drop)
    }

    /// Replaces what stands in the driver's way.
    ///
    /// # Errors
    /// When its range does not answer.
    pub async fn note_refusals(&self, refusals: &[String]) -> Result<(), Error> {
        let mut txn = self.begin(BeginOptions::default()).await?;
        txn.put(refusals_key(), codec::encode(&refusals.to_vec()))?;
        txn.commit().await.map(drop)
    }

    /// What stands in the driver's way.
    ///
    /// # Errors
    /// When its range does not answer.
    pub async fn refusals(&self) -> Result<Vec<String>, Error> {
        let mut txn = self.begin(BeginOptions { read_only: true, ..BeginOptions::default() }).await?;
        let found = txn.get(&[refusals_key()], super::api::Lock::None).await?.pop().flatten();
        let found = found.map(|bytes| codec::decode("refusals", &bytes)).transpose();
        Ok(found.map_err(|e| Error::Corrupt(e.to_string()))?.unwrap_or_default())
    }
}
