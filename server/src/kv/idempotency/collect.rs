//! Deleting the rows of keys whose time is over.
//!
//! All nodes take turns at one walk over the rows, a page at a time. Where the walk has come to is a row of its own, which whoever does a page
//! moves on in the same transaction, so two nodes never do the same page, and none has to be there for it to go on. A walk begins a fraction
//! of the retention after the last one ended: each row is looked at a handful of times in its life, and outlives its time by no more
//! than that fraction.
//!
//! Where clocks are not trusted nothing is collected: a clock that is years ahead would make every key an old one, and work that is done again
//! would take effect again.
//!
//! Reading a page is remembered like any read, and pushes transactions that are writing there just then. They validate and commit; that is the price of a page.

use std::sync::Arc;
use std::time::Duration;

use minicbor::{Decode, Encode};
use proto::{Key, Span, Timestamp, codec, keyspace};

use super::super::api::{BeginOptions, Kv, Lock, ScanOptions, Transaction};
use super::super::error::Error;
use super::key;
use super::record::Record;

/// How long rows are kept, and how fast they go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectLimits {
    pub retention: Duration,
    /// Rows of one page, which is one transaction; and its bytes.
    pub page_rows: usize,
    pub page_bytes: usize,
    /// Between two pages of a walk.
    pub pause: Duration,
}

/// Walks begin so many times in a retention.
const WALKS: u32 = 8;

/// How far the walk has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
struct Walk {
    /// The first row that was not looked at; none between two walks.
    #[n(0)]
    next: Option<Key>,
    /// When the last walk ended.
    #[n(1)]
    ended: Timestamp,
}

fn walk_key() -> Key {
    Key([&[keyspace::SYSTEM], b"idempotency-walk".as_slice()].concat())
}

/// See the module.
pub struct Collector {
    kv: Arc<dyn Kv>,
    limits: CollectLimits,
}

impl Collector {
    pub fn new(kv: Arc<dyn Kv>, limits: CollectLimits) -> Collector {
        Collector { kv, limits }
    }

    /// Does a page if one is due. Returns how long to wait before the next call.
    ///
    /// # Errors
    /// Those of the key-value layer, [`Error::Retry`] if another node did the page. [`Error::Corrupt`] for a damaged row, at which the
    /// walk stops: somebody has to look.
    pub async fn step(&self) -> Result<Duration, Error> {
        if self.kv.clock().max_error.is_none() {
            return Ok(self.idle());
        }
        let mut txn = self.kv.begin(BeginOptions::default()).await?;
        let now = txn.read_timestamp();
        let walk = match txn.get(&[walk_key()], Lock::None).await?.pop().flatten() {
            Some(bytes) => {
                codec::decode("the walk over idempotency keys", &bytes).map_err(|e| Error::Corrupt(e.to_string()))?
            }
            None => Walk::default(),
        };
        if walk.next.is_none() && now.since(walk.ended) < self.limits.retention / WALKS {
            txn.rollback().await;
            return Ok(self.idle());
        }
        let next = self.page(&mut *txn, &walk, now).await?;
        let is_over = next.is_none();
        let ended = if is_over { now } else { walk.ended };
        txn.put(walk_key(), codec::encode(&Walk { next, ended }))?;
        txn.commit().await?;
        Ok(if is_over { self.idle() } else { self.limits.pause })
    }

    /// Until somebody should look whether a walk is due, with some chance in it, so that the nodes do not all look at once.
    pub fn idle(&self) -> Duration {
        const LONGEST: Duration = Duration::from_secs(600);
        let full = (self.limits.retention / (2 * WALKS)).min(LONGEST).max(self.limits.pause);
        let part = u32::try_from(self.kv.random() >> 116).unwrap_or(0);
        full / 2 + full / 2 * part / 4096
    }

    /// Deletes what is old in the next page. Returns where the one after it begins.
    async fn page(&self, txn: &mut dyn Transaction, walk: &Walk, now: Timestamp) -> Result<Option<Key>, Error> {
        let all = key::rows();
        let span = Span { start: walk.next.clone().unwrap_or(all.start), end: all.end };
        let options =
            ScanOptions { rows_max: self.limits.page_rows, bytes_max: self.limits.page_bytes, reverse: false };
        let page = txn.scan(&span, options).await?;
        for (row, value) in page.rows {
            let record = Record::decode(&value)
                .map_err(|e| Error::Corrupt(format!("idempotency key \"{}\": {e}", key::shown(&row))))?;
            if now.since(record.made) >= self.limits.retention {
                txn.delete(row)?;
            }
        }
        Ok(page.resume.map(|rest| rest.start))
    }
}
