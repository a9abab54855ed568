//! What operators wish of the placement of parts of the key space: rows of the system key space, which the placement driver reads.
//!
//! ```text
//!   0x02 "wish/" start of the span  →  Wish
//! ```
//!
//! A wish goes by keys, so the ranges inside its span keep to it when they are split. Whoever owns the span writes the wish in the same
//! transaction that changes what it follows from, such as a table's definition. Spans of wishes do not overlap.

use minicbor::{Decode, Encode};
use proto::{Key, PlacementRules, Span, codec, keyspace};

use super::api::{BeginOptions, Kv, ScanOptions, Transaction};
use super::error::Error;

/// Rules for a part of the key space.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Wish {
    #[n(0)]
    pub span: Span,
    #[n(1)]
    pub rules: PlacementRules,
    /// Whose it is, in words: `table "orders"`.
    #[n(2)]
    pub owner: String,
}

fn wishes() -> Span {
    Span::prefix(&Key([&[keyspace::SYSTEM], b"wish/".as_slice()].concat()))
}

fn key(span: &Span) -> Key {
    Key([wishes().start.as_bytes(), span.start.as_bytes()].concat())
}

/// Buffers the wish of a span. The transaction has to have written something of its own before, where its outcome can be asked for.
///
/// # Errors
/// As [`Transaction::put`].
pub fn put(txn: &mut dyn Transaction, wish: &Wish) -> Result<(), Error> {
    txn.put(key(&wish.span), codec::encode(wish))
}

/// Buffers the removal of the wish of a span, if there is one. As [`put`].
///
/// # Errors
/// As [`Transaction::delete`].
pub fn remove(txn: &mut dyn Transaction, span: &Span) -> Result<(), Error> {
    txn.delete(key(span))
}

/// All wishes, in the order of their spans.
///
/// # Errors
/// When their range does not answer.
pub async fn all(kv: &dyn Kv) -> Result<Vec<Wish>, Error> {
    let mut txn = kv.begin(BeginOptions { read_only: true, ..BeginOptions::default() }).await?;
    let mut rest = Some(wishes());
    let mut found = Vec::new();
    while let Some(span) = rest {
        let page = txn.scan(&span, ScanOptions::default()).await?;
        for (_, bytes) in &page.rows {
            found.push(codec::decode("a wish", bytes).map_err(|e| Error::Corrupt(e.to_string()))?);
        }
        rest = page.resume;
    }
    Ok(found)
}
