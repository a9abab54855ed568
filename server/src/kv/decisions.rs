//! What was decided about ranges, and what could not be: rows of the system key space, so that every node can show them.
//!
//! ```text
//!   0x02 "decision/" time, number  →  Decision     the latest so many
//!   0x02 "refusals"                →  Vec<String>  what stands in the driver's way now
//! ```

use minicbor::{Decode, Encode};
use proto::{Key, NodeId, RangeId, Span, Timestamp, codec, keyspace};

use super::api::{BeginOptions, Kv, Lock, ScanOptions};
use super::error::Error;

/// Decisions that are kept at least; the older ones go.
pub const KEPT: usize = 1000;
/// How many more may pile up before they do.
pub const SLACK: usize = 200;

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
    /// In words: `replace n3 by n4`. Where it says `split at`, [`Decision::key`] says where.
    #[n(3)]
    pub what: String,
    #[n(4)]
    pub why: String,
    /// `done`, or why not.
    #[n(5)]
    pub outcome: String,
    /// The key that `what` ends with, for those who can say it in the words of a table.
    #[n(6)]
    pub key: Option<Key>,
}

fn span() -> Span {
    Span::prefix(&Key([&[keyspace::SYSTEM], b"decision/".as_slice()].concat()))
}

fn refusals_key() -> Key {
    Key([&[keyspace::SYSTEM], b"refusals".as_slice()].concat())
}

/// Writes a decision down.
///
/// # Errors
/// When its range does not answer.
pub async fn note(kv: &dyn Kv, decision: &Decision) -> Result<(), Error> {
    let key = [span().start.0.as_slice(), &decision.at.0.to_be_bytes(), &kv.random().to_be_bytes()].concat();
    let mut txn = kv.begin(BeginOptions::default()).await?;
    txn.put(Key(key), codec::encode(decision))?;
    txn.commit().await.map(drop)
}

/// The decisions that are kept, the newest first; at most so many.
///
/// # Errors
/// When their range does not answer.
pub async fn latest(kv: &dyn Kv, max: usize) -> Result<Vec<Decision>, Error> {
    let mut txn = kv.begin(BeginOptions { read_only: true, ..BeginOptions::default() }).await?;
    let mut rest = Some(span());
    let mut found = Vec::new();
    while let Some(span) = rest.filter(|_| found.len() < max) {
        let options = ScanOptions { rows_max: max - found.len(), reverse: true, ..ScanOptions::default() };
        let page = txn.scan(&span, options).await?;
        for (_, bytes) in &page.rows {
            found.push(codec::decode("a decision", bytes).map_err(|e| Error::Corrupt(e.to_string()))?);
        }
        rest = page.resume;
    }
    txn.reveal().await?;
    Ok(found)
}

/// Deletes the decisions that are too many.
///
/// # Errors
/// When their range does not answer.
pub async fn trim(kv: &dyn Kv) -> Result<(), Error> {
    let mut txn = kv.begin(BeginOptions::default()).await?;
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
pub async fn note_refusals(kv: &dyn Kv, refusals: &[String]) -> Result<(), Error> {
    let mut txn = kv.begin(BeginOptions::default()).await?;
    txn.put(refusals_key(), codec::encode(&refusals.to_vec()))?;
    txn.commit().await.map(drop)
}

/// What stands in the driver's way.
///
/// # Errors
/// When its range does not answer.
pub async fn refusals(kv: &dyn Kv) -> Result<Vec<String>, Error> {
    let mut txn = kv.begin(BeginOptions { read_only: true, ..BeginOptions::default() }).await?;
    let found = txn.get(&[refusals_key()], Lock::None).await?.pop().flatten();
    txn.reveal().await?;
    let found = found.map(|bytes| codec::decode("refusals", &bytes)).transpose();
    Ok(found.map_err(|e| Error::Corrupt(e.to_string()))?.unwrap_or_default())
}
