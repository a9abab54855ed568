//! A key-value layer in memory that keeps the contract of [`crate::kv`], for tests of SQL.
//!
//! Reads see an MVCC snapshot, writes are buffered, and a commit validates what was read since the snapshot: serializable
//! transactions everything, snapshot transactions what they wrote or locked. Locks are not queued for: a locking
//! read moves the snapshot to now, as one does that had to wait, and whoever commits second runs again.
//! Time passes only by a microsecond an operation and by [`Kv::sleep`], so that every run is the same.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use proto::range::{Note, RangeStatus};
use proto::transaction::{TxnAddress, TxnOutcome};
use proto::{
    Epoch, Key, NodeDescriptor, NodeId, NodeState, RangeDescriptor, RangeId, ReplicaDescriptor, ReplicaId, Span,
};
use proto::{Locality, Timestamp, TxnId, Value};

use crate::kv::{
    BeginOptions, ClockInfo, CommitTimings, Committed, Conflict, Error, Isolation, Kv, Lock, NodeInfo, RangeInfo,
    RangeSurvey, RetryReason, ScanOptions, ScanPage, Transaction,
};

/// 2024-01-01 00:00:00 UTC, when every test begins.
const START_MICROS: u64 = 1_704_067_200_000_000;

/// Writes that a transaction may buffer.
const WRITES_MAX: usize = 100_000;

/// The layer. Clones share their data.
#[derive(Clone, Default)]
pub struct MemoryKv {
    shared: Arc<Mutex<Shared>>,
    /// Conflicts that were reported, and when.
    met: Arc<Mutex<Vec<(Timestamp, Conflict)>>>,
}

#[derive(Default)]
struct Shared {
    /// Versions of each key, oldest first; `None` is a deletion.
    versions: BTreeMap<Key, Vec<Version>>,
    splits: BTreeSet<Key>,
    elapsed_micros: u64,
    drawn: u128,
    /// Conflicts that the next commits report.
    conflicts: VecDeque<RetryReason>,
    /// The transactions that committed.
    committed: BTreeMap<TxnId, Timestamp>,
    /// Calls of the layer, for tests of what a plan costs.
    operations: Vec<&'static str>,
    pinned: BTreeSet<Key>,
    /// What leaders have to say of their ranges, and the ranges that have none.
    notes: BTreeMap<RangeId, Note>,
    unled: BTreeSet<RangeId>,
}

struct Version {
    at: Timestamp,
    writer: TxnId,
    value: Option<Value>,
}

impl Shared {
    fn now(&mut self) -> Timestamp {
        self.elapsed_micros += 1;
        Timestamp::from_micros(START_MICROS + self.elapsed_micros)
    }

    fn draw(&mut self) -> u128 {
        self.drawn += 1;
        // Any fixed scrambling will do: an odd multiplier visits every value.
        self.drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
    }

    fn newest(&self, key: &Key) -> Option<&Version> {
        self.versions.get(key).and_then(|v| v.last())
    }

    fn read(&self, key: &Key, at: Timestamp) -> Option<Value> {
        let versions = self.versions.get(key)?;
        versions.iter().rfind(|v| v.at <= at).and_then(|v| v.value.clone())
    }
}

impl MemoryKv {
    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the next commits that write fail, one for each reason.
    pub fn fail_commits(&self, reasons: impl IntoIterator<Item = RetryReason>) {
        self.shared().conflicts.extend(reasons);
    }

    /// The operations since the last call: `get 2`, `scan`, `commit`.
    pub fn take_operations(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.shared().operations)
    }

    /// Lets a range's leader say something, or be gone.
    pub fn leader_says(&self, range: RangeId, note: Option<Note>) {
        let mut shared = self.shared();
        match note {
            Some(note) => drop(shared.notes.insert(range, note)),
            None => drop(shared.unled.insert(range)),
        }
    }

    /// Lets time pass.
    pub fn advance(&self, duration: Duration) {
        self.shared().elapsed_micros += u64::try_from(duration.as_micros()).unwrap_or(0);
    }

    /// The keys of a span that hold values now.
    pub fn keys(&self, span: &Span) -> Vec<Key> {
        let shared = self.shared();
        let live = |(key, versions): (&Key, &Vec<Version>)| {
            versions.last().is_some_and(|v| v.value.is_some()).then(|| key.clone())
        };
        shared.versions.range(span.start.clone()..).take_while(|(k, _)| span.contains(k)).filter_map(live).collect()
    }
}

#[async_trait]
impl Kv for MemoryKv {
    async fn begin(&self, options: BeginOptions) -> Result<Box<dyn Transaction>, Error> {
        let mut shared = self.shared();
        let now = shared.now();
        if let Some(asked) = options.at.filter(|asked| *asked > now) {
            return Err(Error::Future { asked, now });
        }
        let id = TxnId(shared.draw());
        let priority = options.priority.unwrap_or(now);
        let read = options.at.unwrap_or(now);
        let options = BeginOptions { read_only: options.read_only || options.at.is_some(), ..options };
        Ok(Box::new(MemoryTransaction {
            kv: self.clone(),
            id,
            options,
            priority,
            read,
            reads: Vec::new(),
            locked: Vec::new(),
            writes: BTreeMap::new(),
        }))
    }

    async fn outcome(&self, txn: &TxnAddress) -> Result<TxnOutcome, Error> {
        Ok(self.shared().committed.get(&txn.id).map_or(TxnOutcome::Aborted, |at| TxnOutcome::Committed(*at)))
    }

    async fn ranges(&self, span: &Span) -> Result<Vec<RangeInfo>, Error> {
        let shared = self.shared();
        let bounds: Vec<Key> =
            std::iter::once(Key::MIN).chain(shared.splits.iter().cloned()).chain([Key::max()]).collect();
        let replica = ReplicaDescriptor::voter(NodeId(1), ReplicaId(1));
        let info = |(i, pair): (usize, &[Key])| RangeInfo {
            descriptor: RangeDescriptor::new(
                RangeId(u64::try_from(i).unwrap_or(0) + 1),
                Span { start: pair[0].clone(), end: pair[1].clone() },
                Epoch(1),
                vec![replica],
            ),
            leader: Some(NodeId(1)),
        };
        Ok(bounds.windows(2).enumerate().map(info).filter(|r| r.descriptor.span().overlaps(span)).collect())
    }

    async fn survey(&self, span: &Span) -> Result<Vec<RangeSurvey>, Error> {
        let ranges = self.ranges(span).await?;
        let shared = self.shared();
        let survey = |range: RangeInfo| {
            let descriptor = range.descriptor;
            let versions = shared.versions.range(descriptor.start.clone()..descriptor.end.clone());
            let size = |v: &Version| v.value.as_ref().map_or(0, Vec::len);
            let bytes: usize =
                versions.map(|(key, all)| all.iter().map(|v| key.0.len() + size(v)).sum::<usize>()).sum();
            let status = RangeStatus {
                descriptor: descriptor.clone(),
                replicas: Vec::new(),
                last_index: 0,
                leader: NodeId(1),
                bytes: bytes as u64,
                load: 0,
                note: shared.notes.get(&descriptor.id).cloned(),
                frozen: None,
                pinned: shared.pinned.contains(&descriptor.start),
            };
            let led = !shared.unled.contains(&descriptor.id);
            RangeSurvey { descriptor, status: led.then_some(status) }
        };
        Ok(ranges.into_iter().map(survey).collect())
    }

    async fn split(&self, key: &Key) -> Result<(), Error> {
        let mut shared = self.shared();
        shared.splits.insert(key.clone());
        shared.pinned.insert(key.clone());
        Ok(())
    }

    async fn unsplit(&self, key: &Key) -> Result<(), Error> {
        let mut shared = self.shared();
        shared.pinned.remove(key);
        let begins = shared.splits.contains(key);
        begins.then_some(()).ok_or_else(|| Error::Invalid(format!("no range begins at key {key}")))
    }

    fn recent_conflicts(&self) -> Vec<(Timestamp, Conflict)> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }

    fn nodes(&self) -> Vec<NodeInfo> {
        let address = "127.0.0.1:7001".to_string();
        let descriptor =
            NodeDescriptor { id: NodeId(1), address, boot_id: "test".to_string(), locality: Locality::default() };
        vec![NodeInfo { descriptor, live: true, state: NodeState::Active, holdings: None }]
    }

    fn clock(&self) -> ClockInfo {
        let now = self.shared().now();
        ClockInfo {
            source: "test".to_string(),
            max_error: Some(Duration::ZERO),
            standing: "confirmed".to_string(),
            earliest: now,
            latest: now,
            hlc: now,
        }
    }

    fn follower_lag(&self) -> Duration {
        Duration::from_secs(4)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.shared().elapsed_micros)
    }

    async fn sleep(&self, duration: Duration) {
        // A timeout is a race with a sleep, which must lose against anything that can go on.
        futures::future::poll_fn(yield_once()).await;
        self.advance(duration);
    }

    fn random(&self) -> u128 {
        self.shared().draw()
    }
}

/// Ready when polled for the second time.
fn yield_once() -> impl FnMut(&mut std::task::Context<'_>) -> std::task::Poll<()> {
    let mut polled = false;
    move |cx| {
        if polled {
            return std::task::Poll::Ready(());
        }
        polled = true;
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    }
}

struct MemoryTransaction {
    kv: MemoryKv,
    id: TxnId,
    options: BeginOptions,
    priority: Timestamp,
    read: Timestamp,
    reads: Vec<Span>,
    locked: Vec<Key>,
    writes: BTreeMap<Key, Option<Value>>,
}

impl MemoryTransaction {
    fn conflict(&self, reason: RetryReason, key: Option<Key>, other: Option<TxnId>, at: Timestamp) -> Error {
        let conflict = Conflict { reason, txn: self.id, other, key, read: self.read, at };
        self.kv.met.lock().unwrap_or_else(PoisonError::into_inner).push((at, conflict.clone()));
        Error::Retry(conflict)
    }

    /// Whether the spans that were read are unchanged since the snapshot.
    fn validate_reads(&self, shared: &Shared) -> Result<(), Error> {
        for span in self.reads.iter().filter(|s| !s.is_empty()) {
            for (key, versions) in shared.versions.range(span.start.clone()..span.end.clone()) {
                if let Some(newest) = versions.last().filter(|v| v.at > self.read) {
                    let (key, writer) = (Some(key.clone()), Some(newest.writer));
                    return Err(self.conflict(RetryReason::ReadChanged, key, writer, newest.at));
                }
            }
        }
        Ok(())
    }

    fn validate_writes(&self, shared: &Shared) -> Result<(), Error> {
        for key in self.writes.keys().chain(&self.locked) {
            if let Some(newest) = shared.newest(key).filter(|v| v.at > self.read) {
                let (key, writer) = (Some(key.clone()), Some(newest.writer));
                return Err(self.conflict(RetryReason::WriteConflict, key, writer, newest.at));
            }
        }
        Ok(())
    }

    fn write(&mut self, key: Key, value: Option<Value>) -> Result<(), Error> {
        if self.options.read_only {
            return Err(Error::ReadOnly);
        }
        if self.writes.len() >= WRITES_MAX {
            return Err(Error::Limit(format!("a transaction can write at most {WRITES_MAX} keys")));
        }
        self.writes.insert(key, value);
        Ok(())
    }

    /// The live keys of a span at the snapshot, own writes included, in order.
    fn merged(&self, span: &Span, shared: &Shared) -> Vec<(Key, Value)> {
        if span.is_empty() {
            return Vec::new();
        }
        let range = span.start.clone()..span.end.clone();
        let mut keys: BTreeSet<Key> = shared.versions.range(range.clone()).map(|(k, _)| k.clone()).collect();
        keys.extend(self.writes.range(range).map(|(k, _)| k.clone()));
        let value = |key: &Key| match self.writes.get(key) {
            Some(own) => own.clone(),
            None => shared.read(key, self.read),
        };
        keys.into_iter().filter_map(|key| value(&key).map(|v| (key, v))).collect()
    }
}

#[async_trait]
impl Transaction for MemoryTransaction {
    fn id(&self) -> TxnId {
        self.id
    }

    fn address(&self) -> Option<TxnAddress> {
        let anchor = self.writes.first_key_value()?.0.clone();
        Some(TxnAddress { id: self.id, start: self.read, anchor })
    }

    fn read_timestamp(&self) -> Timestamp {
        self.read
    }

    fn priority(&self) -> Timestamp {
        self.priority
    }

    async fn get(&mut self, keys: &[Key], lock: Lock) -> Result<Vec<Option<Value>>, Error> {
        let kv = self.kv.clone();
        let mut shared = kv.shared();
        shared.operations.push(if lock == Lock::Exclusive { "lock" } else { "get" });
        if lock == Lock::Exclusive {
            if self.options.at.is_some() {
                return Err(Error::ReadOnly);
            }
            self.validate_reads(&shared)?;
            if self.options.isolation == Isolation::Serializable || self.reads.is_empty() {
                self.read = shared.now();
            }
            self.locked.extend_from_slice(keys);
        }
        self.reads.extend(keys.iter().map(Span::point));
        let read = |key: &Key| match self.writes.get(key) {
            Some(own) => own.clone(),
            None => shared.read(key, self.read),
        };
        Ok(keys.iter().map(read).collect())
    }

    async fn scan(&mut self, span: &Span, options: ScanOptions) -> Result<ScanPage, Error> {
        let kv = self.kv.clone();
        let mut shared = kv.shared();
        shared.operations.push("scan");
        self.reads.push(span.clone());
        let mut rows = self.merged(span, &shared);
        if options.reverse {
            rows.reverse();
        }
        let mut bytes = 0;
        let mut count = 0;
        while count < rows.len().min(options.rows_max) && bytes < options.bytes_max {
            bytes += rows[count].0.as_bytes().len() + rows[count].1.len();
            count += 1;
        }
        let cut = count < rows.len();
        rows.truncate(count);
        let resume = match rows.last() {
            Some((last, _)) if cut && options.reverse => Some(Span { start: span.start.clone(), end: last.clone() }),
            Some((last, _)) if cut => Some(Span { start: last.next(), end: span.end.clone() }),
            _ => None,
        };
        Ok(ScanPage { rows, resume })
    }

    fn put(&mut self, key: Key, value: Value) -> Result<(), Error> {
        self.write(key, Some(value))
    }

    fn delete(&mut self, key: Key) -> Result<(), Error> {
        self.write(key, None)
    }

    async fn reveal(&mut self) -> Result<(), Error> {
        Ok(())
    }

    async fn commit(&mut self) -> Result<Committed, Error> {
        let kv = self.kv.clone();
        let mut shared = kv.shared();
        shared.operations.push("commit");
        if self.writes.is_empty() {
            return Ok(Committed { timestamp: self.read, timings: CommitTimings::default() });
        }
        let now = shared.now();
        if let Some(reason) = shared.conflicts.pop_front() {
            let key = self.writes.keys().next().cloned();
            return Err(self.conflict(reason, key, None, now));
        }
        match self.options.isolation {
            Isolation::Serializable => self.validate_reads(&shared)?,
            Isolation::Snapshot => self.validate_writes(&shared)?,
        }
        let writer = self.id;
        shared.committed.insert(writer, now);
        for (key, value) in std::mem::take(&mut self.writes) {
            shared.versions.entry(key).or_default().push(Version { at: now, writer, value });
        }
        Ok(Committed { timestamp: now, timings: CommitTimings::default() })
    }

    async fn rollback(&mut self) {
        self.writes.clear();
    }
}
