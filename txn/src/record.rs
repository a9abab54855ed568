//! The transaction record: where a fate is decided, once.
//!
//! ```text
//!               stage (nothing pushes)              commit, recover (all intents there)
//!   (absent) ───────────────────────────▶ STAGING ─────────────────────────────────────▶ COMMITTED
//!     │  │                     stage ▲ │     │ ▲                                          (receipt)
//!     │  │ stage (pushed), push      │ │     │ └─ heartbeat; stage: a later attempt
//!     │  └───────────────────▶ PENDING ◀─────┤ stage (pushed)
//!     │                         │  ▲         │
//!     │ abort                   │  └─ heartbeat; push: timestamp up
//!     │                         │            │ recover (an intent is missing); abort, if the attempt was pushed
//!     ▼                         ▼            │
//!   ABORTED ◀───────────────────┴────────────┘
//!   (receipt)       abort; push by an older writer; expiry
//! ```
//!
//! A STAGING record is committed *implicitly*, without anyone writing so, once each of its keys holds this attempt's intent at or
//! below its timestamp (I6). Attempts are numbered; the coordinator begins a new one only after some range has pushed the one before for
//! good, so an older staged attempt never counts (I7). Nobody aborts a staging transaction at sight: it may be committed. An older
//! writer, or anyone once its coordinator has been silent for the expiry, recovers it instead.
//!
//! Every transition is a compare-and-set: these functions say what the record becomes, the caller replicates it
//! under the record's latch. A final state never changes (I8). An absent record can be aborted, so that whoever asks for
//! an outcome gets one that stays true; the coordinator then finds its commit refused.

use std::time::Duration;

use proto::request::{Push, PushKind, Refusal};
use proto::transaction::{Ousting, TxnMeta, TxnRecord, TxnStatus};
use proto::{Key, Timestamp, TxnId, codec};

use crate::engine::{Engine, EngineError, Space, WriteBatch};
use crate::keys;

/// What an operation makes of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transition {
    /// It is staged, and whoever asks may not wait: only its keys tell what it is.
    Recover(TxnRecord, Ousting),
    /// It stays as it is.
    Keep(TxnRecord),
    /// It is to be replaced by this.
    Become(TxnRecord),
}

/// Reads a record.
pub fn load(engine: &dyn Engine, anchor: &Key, txn: TxnId) -> Result<Option<TxnRecord>, EngineError> {
    match engine.get(Space::Local, &keys::record(anchor, txn))? {
        Some(bytes) => Ok(Some(codec::decode("a transaction record", &bytes)?)),
        None => Ok(None),
    }
}

/// Writes a record.
pub fn store(batch: &mut WriteBatch, anchor: &Key, record: &TxnRecord) {
    batch.put(Space::Local, keys::record(anchor, record.id), codec::encode(record));
}

/// A record in some state, with nothing written yet.
fn fresh(txn: &TxnMeta, status: TxnStatus, timestamp: Timestamp, heartbeat: Timestamp) -> TxnRecord {
    TxnRecord {
        id: txn.id,
        attempt: txn.attempt,
        status,
        timestamp,
        heartbeat,
        priority: txn.priority,
        start: txn.start,
        keys: Vec::new(),
        ousted: None,
    }
}

/// The receipt of a transaction that commits without having been pending.
pub fn receipt(txn: &TxnMeta, timestamp: Timestamp, now: Timestamp) -> TxnRecord {
    fresh(txn, TxnStatus::Committed, timestamp, now)
}

/// What stands in the way of staging an attempt.
///
/// # Errors
/// [`Refusal::Aborted`] if somebody has aborted it already.
pub fn stageable(found: Option<&TxnRecord>, txn: &TxnMeta, timestamp: Timestamp) -> Result<Stageable, Refusal> {
    let Some(record) = found else { return Ok(Stageable::At(timestamp)) };
    match record.status {
        // A reader's push may have come first.
        TxnStatus::Pending if record.attempt <= txn.attempt => Ok(Stageable::At(record.timestamp.max(timestamp))),
        TxnStatus::Staging if record.attempt <= txn.attempt => Ok(Stageable::At(timestamp)),
        // A late copy of a request, or somebody has recovered the transaction.
        TxnStatus::Pending | TxnStatus::Staging | TxnStatus::Committed => Ok(Stageable::Past),
        TxnStatus::Aborted => Err(Refusal::Aborted(record.ousted.clone())),
    }
}

/// See [`stageable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stageable {
    /// The attempt may be staged at this timestamp, which lies above the one asked for if the record was pushed.
    At(Timestamp),
    /// The transaction has come further than this attempt.
    Past,
}

/// The coordinator stages an attempt: `at` is the timestamp that the anchor's range allows. If that is not the one asked for, the
/// reads must be validated first, so the record stays pending until the next attempt; or staged, if this attempt is already. (Ranges
/// that it was sent to apart may have merged, after one of them staged it and another pushed it.)
pub fn stage(
    found: Option<&TxnRecord>,
    txn: &TxnMeta,
    (asked, at): (Timestamp, Timestamp),
    now: Timestamp,
    keys: Vec<Key>,
) -> TxnRecord {
    let heartbeat = found.map_or(now, |record| record.heartbeat.max(now));
    if let Some(staged) = found.filter(|record| is_staged(record, txn, asked)) {
        return TxnRecord { keys, heartbeat, ..staged.clone() };
    }
    let status = if at == asked { TxnStatus::Staging } else { TxnStatus::Pending };
    TxnRecord { keys, ..fresh(txn, status, at, heartbeat) }
}

/// The coordinator knows that the staged attempt is committed, and says so.
///
/// # Errors
/// [`Refusal::Aborted`] if the record says something else or is gone: then the coordinator was wrong, or somebody has
/// settled it and collected the receipt since.
pub fn commit(found: Option<TxnRecord>, txn: &TxnMeta, timestamp: Timestamp) -> Result<Transition, Refusal> {
    match found {
        Some(record) if record.status == TxnStatus::Committed => Ok(Transition::Keep(record)),
        Some(record) if is_staged(&record, txn, timestamp) => {
            Ok(Transition::Become(TxnRecord { status: TxnStatus::Committed, ..record }))
        }
        other => Err(Refusal::Aborted(other.and_then(|record| record.ousted))),
    }
}

fn is_staged(record: &TxnRecord, txn: &TxnMeta, timestamp: Timestamp) -> bool {
    record.status == TxnStatus::Staging && record.attempt == txn.attempt && record.timestamp == timestamp
}

/// Somebody has looked at all keys of a staged attempt. A record that has gone on since stays as it is.
pub fn recover(
    found: Option<TxnRecord>,
    txn: &TxnMeta,
    timestamp: Timestamp,
    (commit, by): (bool, Option<Ousting>),
    now: Timestamp,
) -> Transition {
    match found {
        Some(record) if is_staged(&record, txn, timestamp) => {
            let status = if commit { TxnStatus::Committed } else { TxnStatus::Aborted };
            let ousted = by.filter(|_| !commit);
            Transition::Become(TxnRecord { status, ousted, ..record })
        }
        Some(record) => Transition::Keep(record),
        None => Transition::Become(fresh(txn, TxnStatus::Aborted, txn.start, now)),
    }
}

/// The coordinator, or whoever must know the outcome, aborts what is not committed. A staged attempt stays, unless it is
/// known to have been pushed: its keys must be asked.
pub fn abort(found: Option<TxnRecord>, txn: &TxnMeta, pushed: bool, now: Timestamp) -> Transition {
    match found {
        None => Transition::Become(fresh(txn, TxnStatus::Aborted, txn.start, now)),
        Some(record) => {
            let dead = match record.status {
                TxnStatus::Pending => true,
                // A later attempt is begun only when the earlier ones were pushed.
                TxnStatus::Staging => record.attempt < txn.attempt || (pushed && record.attempt == txn.attempt),
                TxnStatus::Committed | TxnStatus::Aborted => false,
            };
            if dead {
                Transition::Become(TxnRecord { status: TxnStatus::Aborted, ..record })
            } else {
                Transition::Keep(record)
            }
        }
    }
}

/// The coordinator lives.
///
/// # Errors
/// [`Refusal::Aborted`] if there is nothing left to keep alive.
pub fn heartbeat(found: Option<TxnRecord>, now: Timestamp) -> Result<Transition, Refusal> {
    match found {
        Some(record) if matches!(record.status, TxnStatus::Pending | TxnStatus::Staging) => {
            Ok(Transition::Become(TxnRecord { heartbeat: record.heartbeat.max(now), ..record }))
        }
        Some(record) if record.status == TxnStatus::Committed => Ok(Transition::Keep(record)),
        other => Err(Refusal::Aborted(other.and_then(|record| record.ousted))),
    }
}

/// Somebody met an intent of the transaction. What becomes of it:
///
/// * final: it stays;
/// * staging: it stays, but is to be recovered where a pending one would be aborted, and by an older commit that validates;
/// * silent for longer than `expiry`: it is aborted;
/// * a reader's push moves its timestamp up;
/// * a writer's push aborts it if the writer is older.
pub fn push(found: Option<TxnRecord>, push: &Push, now: Timestamp, expiry: Duration) -> Transition {
    let existed = found.is_some();
    let record = found.unwrap_or_else(|| {
        // The coordinator's own record is still on its way, or its coordinator died before it was sent.
        // A long transaction may have begun, and read, long ago: its expiry runs from now.
        fresh(&push.txn, TxnStatus::Pending, push.intent, now)
    });
    let expired = record.heartbeat.plus(expiry) < now;
    let older = (push.priority, push.pusher) < (record.priority, record.id);
    let wounds = push.kind == PushKind::Abort && older;
    // Whoever only reads holds nothing that others wait for.
    let reads_only = matches!(push.kind, PushKind::Above(_));
    let ousting = Ousting { by: push.pusher, key: push.key.clone(), silent: expired };
    match record.status {
        TxnStatus::Pending => {}
        TxnStatus::Staging if expired || (older && !reads_only) => return Transition::Recover(record, ousting),
        TxnStatus::Staging | TxnStatus::Committed | TxnStatus::Aborted => return Transition::Keep(record),
    }
    if expired || wounds {
        return Transition::Become(TxnRecord { status: TxnStatus::Aborted, ousted: Some(ousting), ..record });
    }
    match push.kind {
        PushKind::Above(reader) | PushKind::Validate(reader) if record.timestamp <= reader => {
            Transition::Become(TxnRecord { timestamp: reader.next(), ..record })
        }
        _ if !existed => Transition::Become(record),
        _ => Transition::Keep(record),
    }
}
