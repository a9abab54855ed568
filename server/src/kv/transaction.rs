//! One transaction at its gateway: reads, the write buffer, locks, and the movement of its read timestamp.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use proto::request::{LockingRead, Locks, Operation, PushKind, Read, ReplyBody, Target, Validate};
use proto::transaction::TxnAddress;
use proto::{Key, RangeDescriptor, RangeId, Span, Timestamp, TxnId, Value};

use super::api::{BeginOptions, CommitTimings, Committed, Isolation, Lock, ScanOptions, ScanPage, Transaction};
use super::db::Db;
use super::error::Error;
use super::router::Failure;
use super::settle::Pusher;
use super::spans::SpanSet;
use crate::probe::Path;

/// See the module.
pub struct KvTransaction {
    pub(super) db: Db,
    pub(super) id: TxnId,
    pub(super) priority: Timestamp,
    /// The read timestamp with which it began.
    pub(super) start: Timestamp,
    /// The MVCC snapshot that it reads.
    pub(super) read: Timestamp,
    pub(super) isolation: Isolation,
    read_only: bool,
    /// It reads in the past: any replica may know.
    past: bool,
    pub(super) writes: BTreeMap<Key, Option<Value>>,
    write_bytes: usize,
    /// The key that it wrote first: its record lies in that key's range.
    anchor: Option<Key>,
    pub(super) reads: SpanSet,
    /// The rows that it has locked, with what it read there. As long as its reads hold, so does this.
    pub(super) locked: BTreeMap<Key, Option<Value>>,
    locked_bytes: usize,
    /// Where it may hold places in lock tables.
    pub(super) keeper: Option<Arc<Keeper>>,
    /// The newest version that it has read.
    newest: Timestamp,
    finished: bool,
}

/// Keeps a transaction's locks alive from the background until it has finished.
pub(super) struct Keeper {
    pub ranges: Mutex<BTreeMap<RangeId, RangeDescriptor>>,
    pub finished: AtomicBool,
}

impl KvTransaction {
    /// A transaction that begins now.
    pub(super) fn new(db: Db, now: Timestamp, options: BeginOptions) -> KvTransaction {
        let id = db.random_id();
        let read = options.at.unwrap_or(now);
        KvTransaction {
            db,
            id,
            // A read in the past is no reason to give way to whoever reads.
            priority: options.priority.unwrap_or(now),
            start: read,
            read,
            isolation: options.isolation,
            read_only: options.read_only || options.at.is_some(),
            past: options.at.is_some(),
            writes: BTreeMap::new(),
            write_bytes: 0,
            anchor: None,
            reads: SpanSet::default(),
            locked: BTreeMap::new(),
            locked_bytes: 0,
            keeper: None,
            newest: Timestamp::ZERO,
            finished: false,
        }
    }

    fn pusher(&self, kind: PushKind) -> Pusher {
        Pusher { txn: self.id, priority: self.priority, kind }
    }

    /// The request for a read at its snapshot.
    fn reading(&self, target: Target) -> Operation {
        let read = Read { txn: self.id, timestamp: self.read, target, priority: self.priority };
        if self.past { Operation::ReadPast(read) } else { Operation::Read(read) }
    }

    pub(super) fn failed(&self, failure: Failure) -> Error {
        let error = Error::from_transaction(failure, self.id, self.read);
        self.db.take_note_of(&error);
        error
    }

    /// Reads keys that are not in the buffer, without locks.
    async fn read_keys(&mut self, keys: Vec<Key>) -> Result<BTreeMap<Key, Option<Value>>, Error> {
        let timestamp = self.read;
        let make = |keys| self.reading(Target::Keys(keys));
        let pusher = self.pusher(PushKind::Above(timestamp));
        let parts = self.db.scatter(keys, |key| key, make, Some(pusher)).await.map_err(|f| self.failed(f))?;
        let mut found = BTreeMap::new();
        for (keys, reply) in parts {
            let ReplyBody::Values { values, newest, .. } = reply.body else { return Err(Error::unexpected_reply()) };
            self.newest = self.newest.max(newest);
            for (key, value) in keys.into_iter().zip(values) {
                self.reads.add_key(&key);
                found.insert(key, value.map(Value::from));
            }
        }
        Ok(found)
    }

    /// Queues for keys and reads them, moving the read timestamp forward where somebody wrote in the meantime.
    async fn lock_keys(&mut self, keys: Vec<Key>) -> Result<BTreeMap<Key, Option<Value>>, Error> {
        self.remember_locks(&keys);
        let (txn, timestamp, priority) = (self.id, self.read, self.priority);
        let make = |keys| Operation::LockingRead(LockingRead { txn, priority, timestamp, keys });
        let pusher = self.pusher(PushKind::Abort);
        let parts = self.db.scatter(keys.clone(), |key| key, make, Some(pusher)).await;
        // The request may have been led to other ranges than those that were known before: a lock there must be kept, and given up, there.
        self.remember_locks(&keys);
        let parts = parts.map_err(|f| self.failed(f))?;
        let mut found = BTreeMap::new();
        let mut read_at = Vec::new();
        let mut latest = self.read;
        for (keys, reply) in parts {
            let ReplyBody::Values { values, newest, at } = reply.body else { return Err(Error::unexpected_reply()) };
            self.newest = self.newest.max(newest);
            latest = latest.max(at);
            for (key, value) in keys.into_iter().zip(values) {
                read_at.push((key.clone(), at));
                found.insert(key, value.map(Value::from));
            }
        }
        if latest > self.read {
            self.move_read(latest, &read_at).await?;
        }
        for (key, value) in &found {
            self.reads.add_key(key);
            self.locked_bytes += key.0.len() + value.as_ref().map_or(0, Vec::len);
            self.locked.insert(key.clone(), value.clone());
        }
        let limit = self.db.shared.knobs.txn_bytes_max;
        if self.locked_bytes > limit {
            return Err(Error::Limit(format!(
                "the rows that the transaction has locked exceed {limit} bytes: split the work into several transactions"
            )));
        }
        Ok(found)
    }

    /// Moves the read timestamp forward: everything read before must still hold there, at every isolation level.
    async fn move_read(&mut self, to: Timestamp, fresh: &[(Key, Timestamp)]) -> Result<(), Error> {
        self.validate(self.reads.to_vec(), self.read, to).await?;
        for (key, at) in fresh.iter().filter(|(_, at)| *at < to) {
            self.validate(vec![Span::point(key)], *at, to).await?;
        }
        self.read = to;
        self.db.probe().took(Path::ReadMoved);
        Ok(())
    }

    async fn validate(&self, spans: Vec<Span>, from: Timestamp, to: Timestamp) -> Result<(), Error> {
        let txn = self.id;
        let make = |spans| Operation::Validate(Validate { txn, from, to, spans });
        let pusher = self.pusher(PushKind::Above(to));
        self.db.scatter_spans(spans, make, Some(pusher)).await.map_err(|f| self.failed(f))
    }

    /// Sees to it that locks on these keys are kept until the transaction has finished.
    fn remember_locks(&mut self, keys: &[Key]) {
        let keeper = match &self.keeper {
            Some(keeper) => keeper.clone(),
            None => {
                let keeper = Arc::new(Keeper { ranges: Mutex::default(), finished: AtomicBool::new(false) });
                self.keeper = Some(keeper.clone());
                let (db, txn) = (self.db.clone(), self.id);
                let kept = keeper.clone();
                self.db.env().spawn(Box::pin(async move { kept.run(db, txn).await }));
                keeper
            }
        };
        let mut ranges = keeper.ranges.lock().expect("no holder of this lock panics");
        for key in keys {
            let range = self.db.shared.router.range_of(key);
            ranges.insert(range.id, range);
        }
    }

    /// Gives up all places in lock tables, in the background.
    pub(super) fn release_locks(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.finished.store(true, Ordering::Relaxed);
            if keeper.ranges.lock().expect("no holder of this lock panics").is_empty() {
                return;
            }
            let (db, txn) = (self.db.clone(), self.id);
            self.db.owe(async move { keeper.tell(&db, txn, false).await });
        }
    }

    /// The commit's own commands give up the locks on what was written: those ranges need no further word.
    fn forget_locks_of_written(&mut self, written: &[Key]) {
        if let Some(keeper) = &self.keeper {
            let mut ranges = keeper.ranges.lock().expect("no holder of this lock panics");
            ranges.retain(|_, range| !written.iter().any(|key| range.contains(key)));
        }
    }

    pub(super) fn finish(&mut self) {
        self.finished = true;
        self.release_locks();
    }
}

impl Keeper {
    async fn run(&self, db: Db, txn: TxnId) {
        /// A third of the time after which locks of a silent transaction expire.
        const SHARE: u32 = 3;
        let interval = db.shared.knobs.locks.expire_after / SHARE;
        loop {
            db.shared.env.sleep(interval).await;
            if self.finished.load(Ordering::Relaxed) {
                return;
            }
            self.tell(&db, txn, true).await;
        }
    }

    async fn tell(&self, db: &Db, txn: TxnId, keep: bool) {
        /// A lost word costs nothing but a little patience of others: locks expire.
        const DEADLINE: Duration = Duration::from_secs(2);
        let ranges: Vec<RangeDescriptor> =
            self.ranges.lock().expect("no holder of this lock panics").values().cloned().collect();
        for range in ranges {
            let operation = Operation::Locks(Locks { txn, keep });
            let _ = db.shared.router.call(&range, operation, DEADLINE).await;
        }
    }
}

#[async_trait]
impl Transaction for KvTransaction {
    fn id(&self) -> TxnId {
        self.id
    }

    fn address(&self) -> Option<TxnAddress> {
        let anchor = self.anchor.clone()?;
        Some(TxnAddress { id: self.id, start: self.start, anchor })
    }

    fn read_timestamp(&self) -> Timestamp {
        self.read
    }

    fn priority(&self) -> Timestamp {
        self.priority
    }

    async fn get(&mut self, keys: &[Key], lock: Lock) -> Result<Vec<Option<Value>>, Error> {
        if self.past && lock == Lock::Exclusive {
            return Err(Error::ReadOnly);
        }
        let wanted: BTreeSet<Key> = keys
            .iter()
            .filter(|key| match lock {
                Lock::None => !self.writes.contains_key(key) && !self.locked.contains_key(key),
                Lock::Exclusive => !self.locked.contains_key(key),
            })
            .cloned()
            .collect();
        let wanted: Vec<Key> = wanted.into_iter().collect();
        let found = match lock {
            _ if wanted.is_empty() => BTreeMap::new(),
            Lock::None => self.read_keys(wanted).await?,
            Lock::Exclusive => self.lock_keys(wanted).await?,
        };
        let value = |key: &Key| match self.writes.get(key) {
            Some(buffered) => buffered.clone(),
            None => found.get(key).or_else(|| self.locked.get(key)).cloned().flatten(),
        };
        Ok(keys.iter().map(value).collect())
    }

    async fn scan(&mut self, span: &Span, options: ScanOptions) -> Result<ScanPage, Error> {
        if span.is_empty() {
            return Ok(ScanPage::default());
        }
        let stored = self.scan_stored(span, options).await?;
        Ok(self.merge_buffer(span, options, stored))
    }

    fn put(&mut self, key: Key, value: Value) -> Result<(), Error> {
        self.buffer(key, Some(value))
    }

    fn delete(&mut self, key: Key) -> Result<(), Error> {
        self.buffer(key, None)
    }

    async fn reveal(&mut self) -> Result<(), Error> {
        self.db.wait_until_past(self.newest).await;
        Ok(())
    }

    async fn commit(&mut self) -> Result<Committed, Error> {
        if self.writes.is_empty() {
            let clock_wait = self.db.wait_until_past(self.newest).await;
            self.finish();
            let timings = CommitTimings { clock_wait, total: clock_wait, ..CommitTimings::default() };
            return Ok(Committed { timestamp: self.read, timings });
        }
        let written: Vec<Key> = self.writes.keys().cloned().collect();
        let result = super::commit::run(self).await;
        if result.is_ok() {
            self.forget_locks_of_written(&written);
        }
        self.finish();
        let committed = result.inspect_err(|error| self.db.take_note_of(error))?;
        let waited = self.db.wait_until_past(committed.timestamp.max(self.newest)).await;
        let timings =
            CommitTimings { clock_wait: waited, total: committed.timings.total + waited, ..committed.timings };
        let committed = Committed { timings, ..committed };
        self.db.shared.counters.committed(&committed);
        Ok(committed)
    }

    async fn rollback(&mut self) {
        self.writes.clear();
        self.finish();
        self.db.wait_until_past(self.newest).await;
    }
}

impl KvTransaction {
    fn buffer(&mut self, key: Key, value: Option<Value>) -> Result<(), Error> {
        if self.read_only {
            return Err(Error::ReadOnly);
        }
        if key.0.is_empty() {
            return Err(Error::Invalid("a key cannot be empty".into()));
        }
        let size = |value: &Option<Value>| value.as_ref().map_or(0, Vec::len);
        let key_len = key.0.len();
        let added = key_len + size(&value);
        let limit = self.db.shared.knobs.txn_bytes_max;
        if self.write_bytes + added > limit {
            return Err(Error::Limit(format!(
                "the transaction's writes exceed {limit} bytes: split the work into several transactions"
            )));
        }
        self.anchor.get_or_insert_with(|| key.clone());
        if let Some(old) = self.writes.insert(key, value) {
            self.write_bytes -= key_len + size(&old);
        }
        self.write_bytes += added;
        Ok(())
    }

    /// A page of what is stored, from the range at which the span begins (or ends, in reverse).
    async fn scan_stored(&mut self, span: &Span, options: ScanOptions) -> Result<ScanPage, Error> {
        let pusher = self.pusher(PushKind::Above(self.read));
        let mut tries = 0;
        loop {
            let (range, piece, rest) = self.first_piece(span, options.reverse);
            let target = Target::Span {
                span: piece.clone(),
                rows_max: options.rows_max as u64,
                bytes_max: options.bytes_max as u64,
                reverse: options.reverse,
            };
            let operation = self.reading(target);
            let reply = match self.db.call_settling(&range, &operation, Some(pusher)).await {
                Err(Failure::Repartition { .. }) => {
                    self.db.repartition(&piece.start, &mut tries).await.map_err(|f| self.failed(f))?;
                    continue;
                }
                reply => reply.map_err(|f| self.failed(f))?,
            };
            let ReplyBody::Rows { rows, newest, resume } = reply.body else { return Err(Error::unexpected_reply()) };
            self.newest = self.newest.max(newest);
            self.reads.add(txn::mvcc::covered_by(&piece, resume.as_ref(), options.reverse));
            let resume = match (resume, rest) {
                (Some(left), Some(rest)) if options.reverse => Some(Span { start: rest.start, end: left.end }),
                (Some(left), Some(rest)) => Some(Span { start: left.start, end: rest.end }),
                (left, rest) => left.or(rest),
            };
            let rows = rows.into_iter().map(|row| (row.key, Value::from(row.value))).collect();
            return Ok(ScanPage { rows, resume });
        }
    }

    /// The range to scan first, the part of the span that it holds, and what is left.
    fn first_piece(&self, span: &Span, reverse: bool) -> (RangeDescriptor, Span, Option<Span>) {
        let router = &self.db.shared.router;
        let range = if reverse {
            router.ranges_in(span).pop().map_or_else(|| router.range_of(&span.start), |(range, _)| range)
        } else {
            router.range_of(&span.start)
        };
        let piece = span.intersect(&range.span());
        let rest = if reverse {
            Span { start: span.start.clone(), end: piece.start.clone() }
        } else {
            Span { start: piece.end.clone(), end: span.end.clone() }
        };
        (range, piece, Some(rest).filter(|rest| !rest.is_empty()))
    }

    /// Lays the transaction's own writes over a page of what is stored.
    fn merge_buffer(&self, span: &Span, options: ScanOptions, stored: ScanPage) -> ScanPage {
        let covered = txn::mvcc::covered_by(span, stored.resume.as_ref(), options.reverse);
        let mut own = self.writes.range(covered.start.clone()..covered.end.clone()).peekable();
        if covered.is_empty() || own.peek().is_none() {
            return stored;
        }
        let mut rows: BTreeMap<Key, Value> = stored.rows.into_iter().collect();
        for (key, value) in own {
            match value {
                Some(value) => rows.insert(key.clone(), value.clone()),
                None => rows.remove(key),
            };
        }
        let mut rows: Vec<(Key, Value)> = rows.into_iter().collect();
        if options.reverse {
            rows.reverse();
        }
        let mut resume = stored.resume;
        // Own rows may make the page longer than asked for: the surplus is for the next page.
        if rows.len() > options.rows_max.max(1) {
            rows.truncate(options.rows_max.max(1));
            let last = rows.last().map(|(key, _)| key.clone()).unwrap_or_default();
            resume = Some(if options.reverse {
                Span { start: span.start.clone(), end: last }
            } else {
                Span { start: last.next(), end: span.end.clone() }
            });
        }
        ScanPage { rows, resume }
    }
}

impl Drop for KvTransaction {
    fn drop(&mut self) {
        if !self.finished {
            self.finish();
        }
    }
}
