//! One request, evaluated at the leader of the range that it is for.
//!
//! [`evaluate`] looks at the applied state and says what to answer and, if something is to be written, with which batch. It is
//! called under the request's latches ([`access`] says which), so that no command in flight can change what it looked at.
//! The batch is then replicated; every replica applies it blindly.
//!
//! What the caller guarantees: the request is for this range and epoch, the replica leads and has applied an entry of
//! its own term, and no read above the fence is evaluated. What evaluation guarantees: I1 and I2 (a write lies above every
//! other transaction's read and every version of its key), I5 (validation is a read) and the record's compare-and-set (I7).

use std::time::Duration;

use proto::range::RangeOperation;
use proto::request::{
    CommitOne, IntentInTheWay, LockingRead, Operation, Outcome, Prepare, Push, QueryIntents, Read, Refusal, ReplyBody,
    Resolve, Target, Validate,
};
use proto::transaction::{Intent, TxnMeta, TxnRecord, TxnStatus, Write};
use proto::{Key, Span, Timestamp, TxnId, codec};

use crate::engine::{Engine, EngineError, WriteBatch};
use crate::invariants::{self, Writer};
use crate::keys;
use crate::mvcc::{self, Found, ScanLimits};
use crate::reads::ReadMarks;
use crate::record::{self, Stageable, Transition};

/// What evaluation may look at.
pub struct Context<'a> {
    pub engine: &'a dyn Engine,
    pub reads: &'a mut ReadMarks,
    /// The leader's hybrid logical clock.
    pub now: Timestamp,
    /// No read is served above this.
    pub fence: Timestamp,
    /// Receipts of transactions that started at or below this may be gone.
    pub receipt_floor: Timestamp,
    /// How long a pending transaction may be silent.
    pub expiry: Duration,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evaluation {
    /// Answer now; nothing changes.
    Answer(ReplyBody),
    /// Refuse now; nothing changes.
    Refuse(Refusal),
    /// Other transactions' intents must go first.
    Blocked(Vec<IntentInTheWay>),
    /// Part of it is a read at this timestamp, which lies above the fence.
    BeyondFence(Timestamp),
    /// Replicate the batch, then answer. All its writes lie at or above the timestamp.
    Write { batch: WriteBatch, timestamp: Timestamp, reply: ReplyBody },
}

/// What a request touches, for its latches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Read at a timestamp.
    pub reads: Vec<Span>,
    pub at: Timestamp,
    /// Written, or read together with a write.
    pub writes: Vec<Span>,
}

/// The latch that guards a transaction's record: beyond every user key.
fn record_latch(txn: &TxnMeta) -> Span {
    Span::point(&Key([&[0xfe], keys::record(&txn.anchor, txn.id).as_slice()].concat()))
}

fn points<'a>(keys: impl Iterator<Item = &'a Key>) -> Vec<Span> {
    keys.map(Span::point).collect()
}

/// What a request will touch.
pub fn access(operation: &Operation) -> Access {
    let reads = |spans, at| Access { reads: spans, at, writes: Vec::new() };
    let writes = |spans| Access { reads: Vec::new(), at: Timestamp::ZERO, writes: spans };
    match operation {
        Operation::Read(read) | Operation::ReadPast(read) => match &read.target {
            Target::Keys(keys) => reads(points(keys.iter()), read.timestamp),
            Target::Span { span, .. } => reads(vec![span.clone()], read.timestamp),
        },
        // It reads whatever is newest, so it meets every command in flight.
        Operation::LockingRead(read) => reads(points(read.keys.iter()), Timestamp::MAX),
        Operation::Validate(validate) => reads(validate.spans.clone(), validate.to),
        Operation::QueryIntents(query) => reads(points(query.keys.iter()), query.timestamp),
        Operation::CommitOne(commit) => {
            let mut spans = points(commit.writes.iter().map(|w| &w.key));
            spans.push(record_latch(&commit.txn));
            // Where its validation ends is known only when it is evaluated.
            Access { reads: commit.validate.clone(), at: Timestamp::MAX, writes: spans }
        }
        Operation::Prepare(prepare) => {
            let mut spans = points(prepare.writes.iter().map(|w| &w.key));
            if prepare.record.is_some() {
                spans.push(record_latch(&prepare.txn));
            }
            writes(spans)
        }
        Operation::CommitRecord(commit) => {
            let mut spans = points(commit.keys.iter());
            spans.push(record_latch(&commit.txn));
            writes(spans)
        }
        Operation::AbortRecord(abort) => writes(vec![record_latch(&abort.txn)]),
        Operation::Recover(recover) => writes(vec![record_latch(&recover.txn)]),
        Operation::Heartbeat(heartbeat) => writes(vec![record_latch(&heartbeat.txn)]),
        Operation::Push(push) => writes(vec![record_latch(&push.txn)]),
        Operation::Resolve(resolve) => writes(points(resolve.keys.iter())),
        Operation::Locks(_) => Access::default(),
        Operation::Range(RangeOperation::Split(_) | RangeOperation::Freeze(_)) => {
            writes(vec![Span { start: Key::MIN, end: Key(vec![0xff; 16]) }])
        }
        Operation::Range(_) => Access::default(),
    }
}

/// The keys of the range that a request names, to be checked against its bounds; spans too.
pub fn named(operation: &Operation) -> Vec<Span> {
    match operation {
        Operation::CommitOne(commit) => {
            let mut spans = points(commit.writes.iter().map(|w| &w.key));
            spans.push(Span::point(&commit.txn.anchor));
            spans.extend(commit.validate.iter().cloned());
            spans
        }
        Operation::Prepare(prepare) => {
            let mut spans = points(prepare.writes.iter().map(|w| &w.key));
            if prepare.record.is_some() {
                spans.push(Span::point(&prepare.txn.anchor));
            }
            spans
        }
        Operation::CommitRecord(commit) => {
            let mut spans = points(commit.keys.iter());
            spans.push(Span::point(&commit.txn.anchor));
            spans
        }
        Operation::AbortRecord(abort) => vec![Span::point(&abort.txn.anchor)],
        Operation::Recover(recover) => vec![Span::point(&recover.txn.anchor)],
        Operation::Heartbeat(heartbeat) => vec![Span::point(&heartbeat.txn.anchor)],
        Operation::Push(push) => vec![Span::point(&push.txn.anchor)],
        Operation::Range(RangeOperation::Split(split)) => vec![Span::point(&split.key)],
        Operation::Locks(_) | Operation::Range(_) => Vec::new(),
        other => {
            let Access { reads, writes, .. } = access(other);
            if reads.is_empty() { writes } else { reads }
        }
    }
}

/// Evaluates a request. Locks and splits are the replica's own business and not evaluated here.
///
/// # Errors
/// When the engine fails or holds damaged data.
pub fn evaluate(cx: &mut Context<'_>, operation: &Operation) -> Result<Evaluation, EngineError> {
    let writer = match operation {
        Operation::CommitOne(commit) => Some(Writer::new(commit.txn.id, cx.reads)),
        Operation::Prepare(prepare) => Some(Writer::new(prepare.txn.id, cx.reads)),
        _ => None,
    };
    let evaluation = evaluate_any(cx, operation)?;
    if cfg!(debug_assertions)
        && let Evaluation::Write { batch, .. } = &evaluation
    {
        let broken = invariants::broken(cx, writer, &batch.writes)?;
        assert!(broken.is_none(), "{}", broken.unwrap_or_default());
    }
    Ok(evaluation)
}

fn evaluate_any(cx: &mut Context<'_>, operation: &Operation) -> Result<Evaluation, EngineError> {
    match operation {
        Operation::Read(read) => evaluate_read(cx, read),
        Operation::LockingRead(read) => evaluate_locking_read(cx, read),
        Operation::Validate(validate) => evaluate_validate(cx, validate),
        Operation::CommitOne(commit) => evaluate_commit_one(cx, commit),
        Operation::Prepare(prepare) => evaluate_prepare(cx, prepare),
        Operation::CommitRecord(commit) => {
            let found = record::load(cx.engine, &commit.txn.anchor, commit.txn.id)?;
            match record::commit(found, &commit.txn, commit.timestamp) {
                Err(refusal) => Ok(Evaluation::Refuse(refusal)),
                Ok(Transition::Keep(record) | Transition::Recover(record, _)) => {
                    Ok(Evaluation::Answer(ReplyBody::Record(record)))
                }
                Ok(Transition::Become(record)) => {
                    let mut batch = WriteBatch::default();
                    record::store(&mut batch, &commit.txn.anchor, &record);
                    let outcome = Outcome::Committed { attempt: record.attempt, timestamp: record.timestamp };
                    resolve_into(cx, &mut batch, commit.txn.id, outcome, &commit.keys)?;
                    Ok(Evaluation::Write { batch, timestamp: record.timestamp, reply: ReplyBody::Record(record) })
                }
            }
        }
        Operation::AbortRecord(abort) => {
            let found = record::load(cx.engine, &abort.txn.anchor, abort.txn.id)?;
            Ok(carry_out(&abort.txn.anchor, record::abort(found, &abort.txn, abort.pushed, cx.now)))
        }
        Operation::QueryIntents(query) => evaluate_query(cx, query),
        Operation::Recover(recover) => {
            let found = record::load(cx.engine, &recover.txn.anchor, recover.txn.id)?;
            let transition =
                record::recover(found, &recover.txn, recover.timestamp, (recover.commit, recover.by.clone()), cx.now);
            Ok(carry_out(&recover.txn.anchor, transition))
        }
        Operation::Heartbeat(heartbeat) => {
            let found = record::load(cx.engine, &heartbeat.txn.anchor, heartbeat.txn.id)?;
            match record::heartbeat(found, cx.now) {
                Err(refusal) => Ok(Evaluation::Refuse(refusal)),
                Ok(transition) => Ok(carry_out(&heartbeat.txn.anchor, transition)),
            }
        }
        Operation::Push(push) => evaluate_push(cx, push),
        Operation::Resolve(resolve) => evaluate_resolve(cx, resolve),
        Operation::ReadPast(_) | Operation::Locks(_) | Operation::Range(_) => {
            Ok(Evaluation::Refuse(Refusal::Invalid("not evaluated by a participant".into())))
        }
    }
}

fn carry_out(anchor: &Key, transition: Transition) -> Evaluation {
    match transition {
        Transition::Keep(record) => Evaluation::Answer(ReplyBody::Record(record)),
        Transition::Recover(record, by) => Evaluation::Answer(ReplyBody::ToRecover { record: Box::new(record), by }),
        Transition::Become(record) => {
            let mut batch = WriteBatch::default();
            record::store(&mut batch, anchor, &record);
            Evaluation::Write { batch, timestamp: record.timestamp, reply: ReplyBody::Record(record) }
        }
    }
}

fn evaluate_read(cx: &mut Context<'_>, read: &Read) -> Result<Evaluation, EngineError> {
    if read.timestamp > cx.fence {
        return Ok(Evaluation::BeyondFence(read.timestamp));
    }
    let body = match read_at(cx.engine, read)? {
        Found::InTheWay(intents) => return Ok(Evaluation::Blocked(intents)),
        Found::Data(body) => body,
    };
    let covered = match (&read.target, &body) {
        (Target::Keys(keys), _) => points(keys.iter()),
        (Target::Span { span, reverse, .. }, ReplyBody::Rows { resume, .. }) => {
            vec![mvcc::covered_by(span, resume.as_ref(), *reverse)]
        }
        (Target::Span { span, .. }, _) => vec![span.clone()],
    };
    remember(cx, &covered, read.timestamp, read.txn);
    Ok(Evaluation::Answer(body))
}

fn remember(cx: &mut Context<'_>, spans: &[Span], at: Timestamp, txn: TxnId) {
    spans.iter().for_each(|span| cx.reads.record(span, at, txn));
}

/// What a read finds in an engine. Nobody remembers it: that is enough for whoever knows that nothing is written at or below its timestamp
/// any more, but by settling the intents that are there already.
///
/// # Errors
/// When the engine fails or holds damaged data.
pub fn read_at(engine: &dyn Engine, read: &Read) -> Result<Found<ReplyBody>, EngineError> {
    match &read.target {
        Target::Keys(keys) => keys_at(engine, keys, read.timestamp, read.txn),
        Target::Span { span, rows_max, bytes_max, reverse } => {
            let limits = ScanLimits { rows_max: *rows_max, bytes_max: *bytes_max, reverse: *reverse };
            Ok(match mvcc::scan(engine, span, read.timestamp, read.txn, limits)? {
                Found::InTheWay(intents) => Found::InTheWay(intents),
                Found::Data(page) => {
                    Found::Data(ReplyBody::Rows { rows: page.rows, newest: page.newest, resume: page.resume })
                }
            })
        }
    }
}

fn keys_at(engine: &dyn Engine, keys: &[Key], at: Timestamp, txn: TxnId) -> Result<Found<ReplyBody>, EngineError> {
    let mut values = Vec::with_capacity(keys.len());
    let mut newest = Timestamp::ZERO;
    let mut in_the_way = Vec::new();
    for key in keys {
        match mvcc::get(engine, key, at, txn)? {
            Found::InTheWay(intents) => in_the_way.extend(intents),
            Found::Data(None) => values.push(None),
            Found::Data(Some(version)) => {
                newest = newest.max(version.timestamp);
                values.push(version.value.map(Into::into));
            }
        }
    }
    if !in_the_way.is_empty() {
        return Ok(Found::InTheWay(in_the_way));
    }
    Ok(Found::Data(ReplyBody::Values { values, newest, at }))
}

/// Reads the newest of each key: at the timestamp asked for if nothing newer is there, else at the present.
fn evaluate_locking_read(cx: &mut Context<'_>, read: &LockingRead) -> Result<Evaluation, EngineError> {
    let mut at = read.timestamp;
    for key in &read.keys {
        if let Some(version) = mvcc::newest(cx.engine, key)?
            && version.timestamp > at
        {
            at = version.timestamp.max(cx.now);
        }
    }
    if at > cx.fence {
        return Ok(Evaluation::BeyondFence(at));
    }
    let mut in_the_way = Vec::new();
    for key in &read.keys {
        // An intent above the read would change the row under the lock: it goes first too.
        if let Some(intent) = mvcc::intent(cx.engine, key)?
            && intent.txn.id != read.txn
        {
            in_the_way.push(IntentInTheWay::new(key.clone(), &intent));
        }
    }
    if !in_the_way.is_empty() {
        return Ok(Evaluation::Blocked(in_the_way));
    }
    match keys_at(cx.engine, &read.keys, at, read.txn)? {
        Found::InTheWay(intents) => Ok(Evaluation::Blocked(intents)),
        Found::Data(values) => {
            remember(cx, &points(read.keys.iter()), at, read.txn);
            Ok(Evaluation::Answer(values))
        }
    }
}

/// How many intents a blocked validation reports at once.
const INTENTS_REPORTED_MAX: usize = 16;

/// Whether nothing changed in the spans; `None` if so. Remembers the spans as read at `to` (I5).
fn validate(
    cx: &mut Context<'_>,
    spans: &[Span],
    from: Timestamp,
    to: Timestamp,
    txn: TxnId,
) -> Result<Option<Evaluation>, EngineError> {
    if to <= from || spans.is_empty() {
        return Ok(None);
    }
    if to > cx.fence {
        return Ok(Some(Evaluation::BeyondFence(to)));
    }
    for span in spans {
        let intents = mvcc::intents_in(cx.engine, span, to, txn, INTENTS_REPORTED_MAX)?;
        if !intents.is_empty() {
            return Ok(Some(Evaluation::Blocked(intents)));
        }
        if let Some(changed) = mvcc::changed(cx.engine, span, from, to, txn)? {
            return Ok(Some(Evaluation::Refuse(Refusal::Changed(changed))));
        }
    }
    for span in spans {
        cx.reads.record(span, to, txn);
    }
    Ok(None)
}

fn evaluate_validate(cx: &mut Context<'_>, request: &Validate) -> Result<Evaluation, EngineError> {
    let refused = validate(cx, &request.spans, request.from, request.to, request.txn)?;
    Ok(refused.unwrap_or(Evaluation::Answer(ReplyBody::Ok)))
}

/// The least timestamp at or above `at` at which a transaction may write a key (I1, I2).
fn writable_at(cx: &Context<'_>, key: &Key, at: Timestamp, txn: TxnId) -> Result<Timestamp, EngineError> {
    // That mark rises all the time. Just above it, a transaction whose attempts take longer than its next step would be pushed for ever.
    let floor = if cx.reads.is_raised_past(at) { cx.now } else { at };
    let mut at = floor.max(cx.reads.latest(key, txn).next());
    if let Some(version) = mvcc::newest(cx.engine, key)? {
        at = at.max(version.timestamp.next());
    }
    Ok(at)
}

fn evaluate_commit_one(cx: &mut Context<'_>, commit: &CommitOne) -> Result<Evaluation, EngineError> {
    if let Some(found) = record::load(cx.engine, &commit.txn.anchor, commit.txn.id)? {
        return Ok(answer_from_receipt(&found));
    }
    if commit.txn.start <= cx.receipt_floor {
        return Ok(Evaluation::Refuse(Refusal::TooOld));
    }
    let mut timestamp = commit.timestamp.max(commit.read);
    let mut in_the_way = Vec::new();
    for write in &commit.writes {
        match mvcc::intent(cx.engine, &write.key)? {
            Some(intent) if intent.txn.id != commit.txn.id => {
                in_the_way.push(IntentInTheWay::new(write.key.clone(), &intent));
            }
            _ => timestamp = writable_at(cx, &write.key, timestamp, commit.txn.id)?,
        }
    }
    if !in_the_way.is_empty() {
        return Ok(Evaluation::Blocked(in_the_way));
    }
    if timestamp > commit.timestamp.max(commit.read) && !commit.complete {
        return Ok(Evaluation::Refuse(Refusal::Pushed(timestamp)));
    }
    // What other ranges hold was validated up to `commit.timestamp`; what this one holds is validated here.
    if let Some(refused) = validate(cx, &commit.validate, commit.read, timestamp, commit.txn.id)? {
        return Ok(refused);
    }
    let mut batch = WriteBatch::default();
    for write in &commit.writes {
        let value = write.value.as_deref().map(Vec::as_slice);
        mvcc::put_version(&mut batch, &write.key, timestamp, commit.txn.id, value);
    }
    record::store(&mut batch, &commit.txn.anchor, &record::receipt(&commit.txn, timestamp, cx.now));
    Ok(Evaluation::Write { batch, timestamp, reply: ReplyBody::At(timestamp) })
}

fn answer_from_receipt(found: &TxnRecord) -> Evaluation {
    match found.status {
        TxnStatus::Committed => Evaluation::Answer(ReplyBody::At(found.timestamp)),
        TxnStatus::Aborted => Evaluation::Refuse(Refusal::Aborted(found.ousted.clone())),
        TxnStatus::Pending | TxnStatus::Staging => {
            Evaluation::Refuse(Refusal::Invalid("the transaction is being committed in several ranges".into()))
        }
    }
}

fn evaluate_prepare(cx: &mut Context<'_>, prepare: &Prepare) -> Result<Evaluation, EngineError> {
    let txn = &prepare.txn;
    if txn.start <= cx.receipt_floor {
        return Ok(Evaluation::Refuse(Refusal::TooOld));
    }
    let mut timestamp = prepare.timestamp;
    let found = match &prepare.record {
        Some(_) => record::load(cx.engine, &txn.anchor, txn.id)?,
        None => None,
    };
    if prepare.record.is_some() {
        match record::stageable(found.as_ref(), txn, timestamp) {
            Err(refusal) => return Ok(Evaluation::Refuse(refusal)),
            Ok(Stageable::At(at)) => timestamp = at,
            Ok(Stageable::Past) => {
                let record = found.expect("a transaction that has come further has a record");
                return Ok(Evaluation::Answer(ReplyBody::Record(record)));
            }
        }
    }
    let written = match place_intents(cx, prepare, &mut timestamp)? {
        Found::InTheWay(intents) => return Ok(Evaluation::Blocked(intents)),
        Found::Data(written) => written,
    };
    let mut batch = WriteBatch::default();
    for write in written {
        let intent = Intent { txn: txn.clone(), timestamp, value: write.value.clone() };
        mvcc::put_intent(&mut batch, &write.key, &intent);
    }
    if let Some(keys) = &prepare.record {
        let staged = record::stage(found.as_ref(), txn, (prepare.timestamp, timestamp), cx.now, keys.clone());
        // A copy of the request is no news, and not worth an entry for its heartbeat.
        if found.is_none_or(|found| found != TxnRecord { heartbeat: found.heartbeat, ..staged.clone() }) {
            record::store(&mut batch, &txn.anchor, &staged);
        }
    }
    if batch.is_empty() {
        return Ok(Evaluation::Answer(ReplyBody::At(timestamp)));
    }
    Ok(Evaluation::Write { batch, timestamp, reply: ReplyBody::At(timestamp) })
}

/// Which writes of a prepare request need an intent yet; raises `timestamp` to where they may be written.
fn place_intents<'a>(
    cx: &Context<'_>,
    prepare: &'a Prepare,
    timestamp: &mut Timestamp,
) -> Result<Found<Vec<&'a Write>>, EngineError> {
    let txn = &prepare.txn;
    let mut in_the_way = Vec::new();
    let mut written = Vec::with_capacity(prepare.writes.len());
    for write in &prepare.writes {
        match mvcc::intent(cx.engine, &write.key)? {
            Some(intent) if intent.txn.id != txn.id => {
                in_the_way.push(IntentInTheWay::new(write.key.clone(), &intent));
            }
            // The same request again: the intent stays where it is (I7).
            Some(intent) if intent.txn.attempt >= txn.attempt => *timestamp = (*timestamp).max(intent.timestamp),
            // An older attempt's intent keeps readers away from above it, but not those who looked for this attempt's and prevented it.
            Some(intent) => {
                *timestamp = writable_at(cx, &write.key, (*timestamp).max(intent.timestamp), txn.id)?;
                written.push(write);
            }
            None => {
                *timestamp = writable_at(cx, &write.key, *timestamp, txn.id)?;
                written.push(write);
            }
        }
    }
    Ok(if in_the_way.is_empty() { Found::Data(written) } else { Found::InTheWay(in_the_way) })
}

/// Looks for a staged attempt's intents. The look is a read at the attempt's timestamp by nobody: what is missing can be
/// written only above it afterwards, by its own transaction too.
fn evaluate_query(cx: &mut Context<'_>, query: &QueryIntents) -> Result<Evaluation, EngineError> {
    if query.timestamp > cx.fence {
        return Ok(Evaluation::BeyondFence(query.timestamp));
    }
    let mut all = true;
    for key in &query.keys {
        let intent = mvcc::intent(cx.engine, key)?;
        let there = intent.is_some_and(|intent| {
            (intent.txn.id, intent.txn.attempt) == (query.txn.id, query.txn.attempt)
                && intent.timestamp <= query.timestamp
        });
        if !there {
            all = false;
            cx.reads.record(&Span::point(key), query.timestamp, TxnId::default());
        }
    }
    Ok(Evaluation::Answer(ReplyBody::Present(all)))
}

fn evaluate_push(cx: &mut Context<'_>, push: &Push) -> Result<Evaluation, EngineError> {
    let found = record::load(cx.engine, &push.txn.anchor, push.txn.id)?;
    if found.is_none() && push.txn.start <= cx.receipt_floor {
        // Collected, so settled, and a committed transaction's intents were all resolved before: this one is a late
        // copy. An aborted record keeps that answer true, and cannot be resurrected below the floor.
        let aborted = record::abort(None, &push.txn, false, cx.now);
        return Ok(carry_out(&push.txn.anchor, aborted));
    }
    Ok(carry_out(&push.txn.anchor, record::push(found, push, cx.now, cx.expiry)))
}

fn evaluate_resolve(cx: &mut Context<'_>, resolve: &Resolve) -> Result<Evaluation, EngineError> {
    let mut batch = WriteBatch::default();
    let least = resolve_into(cx, &mut batch, resolve.txn, resolve.outcome, &resolve.keys)?;
    match least {
        None => Ok(Evaluation::Answer(ReplyBody::Ok)),
        Some(timestamp) => Ok(Evaluation::Write { batch, timestamp, reply: ReplyBody::Ok }),
    }
}

/// Adds what a transaction's outcome makes of its intents (I9); returns the least timestamp touched, if any.
fn resolve_into(
    cx: &Context<'_>,
    batch: &mut WriteBatch,
    txn: TxnId,
    outcome: Outcome,
    keys: &[Key],
) -> Result<Option<Timestamp>, EngineError> {
    let mut least: Option<Timestamp> = None;
    for key in keys {
        let Some(mut intent) = mvcc::intent(cx.engine, key)?.filter(|intent| intent.txn.id == txn) else { continue };
        match outcome {
            Outcome::Committed { attempt, timestamp } => {
                if intent.txn.attempt == attempt && intent.timestamp <= timestamp {
                    let value = intent.value.as_deref().map(Vec::as_slice);
                    mvcc::put_version(batch, key, timestamp, intent.txn.id, value);
                }
                mvcc::remove_intent(batch, key);
            }
            Outcome::Aborted => mvcc::remove_intent(batch, key),
            Outcome::Pushed(timestamp) if timestamp > intent.timestamp => {
                let before = intent.timestamp;
                intent.timestamp = timestamp;
                mvcc::put_intent(batch, key, &intent);
                intent.timestamp = before;
            }
            Outcome::Pushed(_) => continue,
        }
        least = Some(least.map_or(intent.timestamp, |l| l.min(intent.timestamp)));
    }
    Ok(least)
}

/// The bytes of a batch, as they go into a Raft entry.
pub fn encoded_len(batch: &WriteBatch) -> usize {
    batch.writes.iter().map(|w| w.key.len() + w.value.as_ref().map_or(0, Vec::len) + 8).sum()
}

/// What a record means for its transaction's intents; `None` while only the intents themselves could tell.
pub fn outcome_of(record: &TxnRecord) -> Option<Outcome> {
    match record.status {
        TxnStatus::Committed => Some(Outcome::Committed { attempt: record.attempt, timestamp: record.timestamp }),
        TxnStatus::Aborted => Some(Outcome::Aborted),
        TxnStatus::Pending => Some(Outcome::Pushed(record.timestamp)),
        TxnStatus::Staging => None,
    }
}

/// Whether nothing can change it any more.
pub fn outcome_is_final(record: &TxnRecord) -> bool {
    matches!(record.status, TxnStatus::Committed | TxnStatus::Aborted)
}

/// Decodes an intent for tools and tests.
pub fn decode_intent(bytes: &[u8]) -> Result<Intent, EngineError> {
    Ok(codec::decode("an intent", bytes)?)
}
