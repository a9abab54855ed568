//! The descriptors of all ranges, in the meta range.
//!
//! A range's leader publishes its descriptor there whenever it starts to lead and whenever the descriptor has changed: an
//! ordinary transaction that replaces what is there if it is older. The meta range therefore lags a little; what a
//! gateway learns from it, and from redirects, is always only a hint that the range itself confirms or corrects.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use futures::future;
use proto::range::{RangeOperation, Split};
use proto::request::{Locks, Operation, ReplyBody};
use proto::{Key, RangeDescriptor, RangeId, Span, Timestamp, TxnId, codec, keyspace};

use super::api::{BeginOptions, Kv, Lock, ScanOptions, Transaction};
use super::db::Db;
use super::error::Error;
use super::router::Failure;
use super::transaction::KvTransaction;
use crate::store::recover::{FIRST_FREE_RANGE, meta_key};

/// The counter of range ids.
pub(super) fn range_counter() -> Key {
    Key([&[keyspace::SYSTEM], b"range-id".as_slice()].concat())
}

pub(super) fn meta_span() -> Span {
    Span::prefix(&keyspace::start_of(keyspace::META))
}

impl Db {
    /// Learns all descriptors in a span from the meta range.
    pub async fn refresh_ranges(&self, span: &Span) -> Result<(), Error> {
        let first = self.shared.router.range_of(&span.start).start;
        let mut rest = Some(Span { start: meta_key(&first), end: meta_key(&span.end) });
        let mut txn = self.begin(BeginOptions { read_only: true, ..BeginOptions::default() }).await?;
        while let Some(span) = rest {
            let page = txn.scan(&span, ScanOptions::default()).await?;
            let descriptors = page.rows.iter().filter_map(|(_, value)| codec::decode("a range descriptor", value).ok());
            self.shared.router.learn(descriptors);
            rest = page.resume;
        }
        Ok(())
    }

    /// Finds out who leads the ranges in a span now. Of those that do not answer soon, the last known leader stays.
    pub(super) async fn find_leaders(&self, span: &Span) {
        const PATIENCE: Duration = Duration::from_millis(500);
        let ranges = self.shared.router.ranges_in(span);
        // A word about the locks of nobody: it changes nothing, and only a leader takes it.
        let ask = Operation::Locks(Locks { txn: TxnId::default(), keep: true });
        let calls = ranges.iter().map(|(range, _)| self.shared.router.call(range, ask.clone(), PATIENCE));
        future::join_all(calls).await;
    }

    /// Of these descriptors, those that the meta range lacks, or has older ones of: one scan, where there are many.
    ///
    /// # Errors
    /// When the meta range does not answer.
    pub async fn unpublished(&self, wanted: Vec<RangeDescriptor>) -> Result<Vec<RangeDescriptor>, Error> {
        let bounds = wanted.iter().map(|descriptor| meta_key(&descriptor.start));
        let (Some(first), Some(last)) = (bounds.clone().min(), bounds.max()) else { return Ok(wanted) };
        let mut found = BTreeMap::new();
        let mut rest = Some(Span { start: first, end: last.next() });
        let mut txn = self.begin(BeginOptions { read_only: true, ..BeginOptions::default() }).await?;
        while let Some(span) = rest {
            let page = txn.scan(&span, ScanOptions::default()).await?;
            let rows = page.rows.iter();
            let known =
                rows.filter_map(|(_, value)| codec::decode::<RangeDescriptor>("a range descriptor", value).ok());
            found.extend(known.map(|descriptor| (descriptor.start, descriptor.epoch)));
            rest = page.resume;
        }
        let lacks = |wanted: &RangeDescriptor| found.get(&wanted.start).is_none_or(|epoch| *epoch < wanted.epoch);
        Ok(wanted.into_iter().filter(lacks).collect())
    }

    /// Puts a range's descriptor into the meta range, unless something newer is there about any of its keys; what is older goes, ranges that were
    /// merged into this one among it.
    ///
    /// # Errors
    /// When the meta range does not answer; the next leader tries again.
    pub async fn publish(&self, descriptor: &RangeDescriptor) -> Result<(), Error> {
        self.shared.router.learn([descriptor.clone()]);
        self.repeat(&mut Publish { descriptor }).await
    }

    async fn allocate_range(&self) -> Result<RangeId, Error> {
        let mut allocation = Allocate { allocated: FIRST_FREE_RANGE };
        self.repeat(&mut allocation).await?;
        Ok(RangeId(allocation.allocated))
    }

    pub(super) async fn split_at(&self, key: &Key) -> Result<(), Error> {
        if *key <= keyspace::start_of(keyspace::CATALOG) || *key >= Key::max() {
            return Err(Error::Invalid(format!("no range can begin at key {key}")));
        }
        let mut tries = 0;
        loop {
            let range = self.shared.router.range_of(key);
            let done = match range.start == *key {
                true => self.pin(&range, true).await?,
                false => self.split_as(&range, key, true).await?,
            };
            if done {
                return Ok(());
            }
            self.repartition(key, &mut tries).await.map_err(Error::from_failure)?;
        }
    }

    /// Gives up a boundary that was asked for: the range that begins there may be merged with what lies left of it.
    pub(super) async fn unsplit_at(&self, key: &Key) -> Result<(), Error> {
        let mut tries = 0;
        loop {
            // What is known here may have been split or merged since.
            let range = self.inspect(key).await?.descriptor;
            if range.start != *key {
                return Err(Error::Invalid(format!("no range begins at key {key}")));
            }
            if self.pin(&range, false).await? {
                return Ok(());
            }
            self.repartition(key, &mut tries).await.map_err(Error::from_failure)?;
        }
    }

    /// Says of a range that is still as described whether its first key is a boundary that stays. Says whether it was.
    async fn pin(&self, range: &RangeDescriptor, pinned: bool) -> Result<bool, Error> {
        let pin = Operation::Range(RangeOperation::Pin(pinned));
        match self.shared.router.call(range, pin, self.shared.knobs.request_deadline).await {
            Err(Failure::Repartition { .. }) => Ok(false),
            reply => reply.map(|_| true).map_err(Error::from_failure),
        }
    }

    /// Splits a range that is still as described. Says whether it was.
    ///
    /// # Errors
    /// When it does not answer, or refuses.
    pub async fn split_range(&self, range: &RangeDescriptor, key: &Key) -> Result<bool, Error> {
        self.split_as(range, key, false).await
    }

    /// A range's id is used once: it is asked for together with an epoch, which a split raises, and never again under another one. (What was
    /// split may be merged again, and a late copy of the request would split it anew.)
    async fn split_as(&self, range: &RangeDescriptor, key: &Key, pinned: bool) -> Result<bool, Error> {
        let right = self.allocate_range().await?;
        let split = Operation::Range(RangeOperation::Split(Split { key: key.clone(), right, pinned }));
        let reply = match self.shared.router.call(range, split, self.shared.knobs.request_deadline).await {
            Err(Failure::Repartition { .. }) => return Ok(false),
            reply => reply.map_err(Error::from_failure)?,
        };
        if let ReplyBody::Ranges(descriptors) = reply.body {
            self.shared.router.learn(descriptors.iter().cloned());
            for descriptor in &descriptors {
                self.publish(descriptor).await?;
            }
        }
        Ok(true)
    }

    /// Carries out a transaction, again as long as others come in its way.
    async fn repeat(&self, work: &mut impl Work) -> Result<(), Error> {
        /// Conflicts in a row past which something is wrong.
        const TRIES_MAX: u32 = 100;
        let mut options = BeginOptions::default();
        let mut attempt = 0;
        loop {
            let read: Timestamp = self.start_timestamp().await?;
            let mut txn = KvTransaction::new(self.clone(), read, options.clone());
            options.priority = Some(txn.priority());
            let result = work.once(&mut txn).await;
            match result {
                Err(error) if error.is_retryable() && attempt < TRIES_MAX => {
                    attempt += 1;
                    self.shared.env.sleep(Duration::from_millis(2 + self.shared.env.random() % 8)).await;
                }
                other => return other,
            }
        }
    }
}

/// What a transaction does, as often as it has to be begun.
#[async_trait]
trait Work: Send {
    async fn once(&mut self, txn: &mut KvTransaction) -> Result<(), Error>;
}

struct Publish<'a> {
    descriptor: &'a RangeDescriptor,
}

#[async_trait]
impl Work for Publish<'_> {
    async fn once(&mut self, txn: &mut KvTransaction) -> Result<(), Error> {
        let descriptor = self.descriptor;
        let key = meta_key(&descriptor.start);
        let before = Span { start: meta_span().start, end: key.next() };
        let last = ScanOptions { rows_max: 1, reverse: true, ..ScanOptions::default() };
        let mut rows = txn.scan(&before, last).await?.rows;
        let mut rest = Some(Span { start: key.next(), end: meta_key(&descriptor.end) }).filter(|span| !span.is_empty());
        while let Some(span) = rest {
            let page = txn.scan(&span, ScanOptions::default()).await?;
            rows.extend(page.rows);
            rest = page.resume;
        }
        for (found_at, value) in rows {
            let found: RangeDescriptor =
                codec::decode("a range descriptor", &value).map_err(|e| Error::Corrupt(e.to_string()))?;
            if !found.span().overlaps(&descriptor.span()) {
                continue;
            }
            if found.epoch >= descriptor.epoch {
                return Ok(());
            }
            if found_at > key {
                txn.delete(found_at)?;
            }
        }
        txn.put(key, codec::encode(descriptor))?;
        txn.commit().await.map(drop)
    }
}

struct Allocate {
    allocated: u64,
}

#[async_trait]
impl Work for Allocate {
    async fn once(&mut self, txn: &mut KvTransaction) -> Result<(), Error> {
        let key = range_counter();
        let found = txn.get(std::slice::from_ref(&key), Lock::Exclusive).await?.pop().flatten();
        if let Some(bytes) = found {
            self.allocated = codec::decode("a counter", &bytes).map_err(|e| Error::Corrupt(e.to_string()))?;
        }
        txn.put(key, codec::encode(&(self.allocated + 1)))?;
        txn.commit().await.map(drop)
    }
}
