//! The transaction record: where a fate is decided, once.
//!
//! ```text
//!              create                     commit (s ≥ timestamp)
//!   (absent) ─────────────▶ PENDING ────────────────────────────▶ COMMITTED
//!       │                    │  ▲                                  (receipt)
//!       │ abort, push        │  └─ heartbeat; push: timestamp up
//!       │                    │ abort; push by an older writer; expiry
//!       ▼                    ▼
//!    ABORTED ◀───────────────┘
//!    (receipt)
//! ```
//!
//! Every transition is a compare-and-set: these functions say what the record becomes, the caller replicates it
//! under the record's latch. A final state never changes (I8). An absent record can be aborted, so that whoever asks for
//! an outcome gets one that stays true; the coordinator then finds its commit refused.

use std::time::Duration;

use proto::request::{Push, PushKind, Refusal};
use proto::transaction::{TxnMeta, TxnRecord, TxnStatus};
use proto::{Key, Timestamp, TxnId, codec};

use crate::engine::{Engine, EngineError, Space, WriteBatch};
use crate::keys;

/// What an operation makes of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transition {
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
    }
}

/// The receipt of a transaction that commits without having been pending.
pub fn receipt(txn: &TxnMeta, timestamp: Timestamp, now: Timestamp) -> TxnRecord {
    fresh(txn, TxnStatus::Committed, timestamp, now)
}

/// The coordinator prepares: the record that its intents point to.
///
/// # Errors
/// [`Refusal::Aborted`] if somebody has aborted it already.
pub fn create(
    found: Option<TxnRecord>,
    txn: &TxnMeta,
    timestamp: Timestamp,
    now: Timestamp,
    keys: Vec<Key>,
) -> Result<Transition, Refusal> {
    match found {
        None => Ok(Transition::Become(TxnRecord { keys, ..fresh(txn, TxnStatus::Pending, timestamp, now) })),
        // A reader's push may have come first; or this is the same request again.
        Some(record) if record.status == TxnStatus::Pending => {
            let timestamp = record.timestamp.max(timestamp);
            let heartbeat = record.heartbeat.max(now);
            Ok(Transition::Become(TxnRecord { keys, timestamp, heartbeat, attempt: txn.attempt, ..record }))
        }
        Some(record) if record.status == TxnStatus::Committed => Ok(Transition::Keep(record)),
        Some(_) => Err(Refusal::Aborted),
    }
}

/// The coordinator commits at a timestamp.
///
/// # Errors
/// [`Refusal::Pushed`] if a reader has pushed the transaction above it, [`Refusal::Aborted`] if it is aborted. It is taken
/// as aborted if the record is gone: whoever removed it had settled it, and a committed one answers until its
/// coordinator must long have given up.
pub fn commit(found: Option<TxnRecord>, txn: &TxnMeta, timestamp: Timestamp) -> Result<Transition, Refusal> {
    match found {
        Some(record) if record.status == TxnStatus::Committed => Ok(Transition::Keep(record)),
        Some(record) if record.status == TxnStatus::Pending && record.attempt == txn.attempt => {
            if timestamp < record.timestamp {
                return Err(Refusal::Pushed(record.timestamp));
            }
            Ok(Transition::Become(TxnRecord { status: TxnStatus::Committed, timestamp, ..record }))
        }
        _ => Err(Refusal::Aborted),
    }
}

/// The coordinator, or whoever must know the outcome, aborts what is not committed.
pub fn abort(found: Option<TxnRecord>, txn: &TxnMeta, now: Timestamp) -> Transition {
    match found {
        None => Transition::Become(fresh(txn, TxnStatus::Aborted, txn.start, now)),
        Some(record) if record.status == TxnStatus::Pending => {
            Transition::Become(TxnRecord { status: TxnStatus::Aborted, ..record })
        }
        Some(record) => Transition::Keep(record),
    }
}

/// The coordinator lives.
///
/// # Errors
/// [`Refusal::Aborted`] if there is nothing left to keep alive.
pub fn heartbeat(found: Option<TxnRecord>, now: Timestamp) -> Result<Transition, Refusal> {
    match found {
        Some(record) if record.status == TxnStatus::Pending => {
            Ok(Transition::Become(TxnRecord { heartbeat: record.heartbeat.max(now), ..record }))
        }
        Some(record) if record.status == TxnStatus::Committed => Ok(Transition::Keep(record)),
        _ => Err(Refusal::Aborted),
    }
}

/// Somebody met an intent of the transaction. What becomes of it:
///
/// * final: it stays;
/// * silent for longer than `expiry`: it is aborted;
/// * a reader's push moves its timestamp up;
/// * a writer's push aborts it if the writer is older.
pub fn push(found: Option<TxnRecord>, push: &Push, now: Timestamp, expiry: Duration) -> Transition {
    let existed = found.is_some();
    let record = found.unwrap_or_else(|| {
        // The coordinator's own record is still on its way, or its coordinator died before it was sent.
        fresh(&push.txn, TxnStatus::Pending, push.intent, push.txn.start.max(push.intent).min(now))
    });
    if record.status != TxnStatus::Pending {
        return Transition::Keep(record);
    }
    let expired = record.heartbeat.plus(expiry) < now;
    let older = (push.priority, push.pusher) < (record.priority, record.id);
    let wounds = push.kind == PushKind::Abort && older;
    if expired || wounds {
        return Transition::Become(TxnRecord { status: TxnStatus::Aborted, ..record });
    }
    match push.kind {
        PushKind::Above(reader) if record.timestamp <= reader => {
            Transition::Become(TxnRecord { timestamp: reader.next(), ..record })
        }
        _ if !existed => Transition::Become(record),
        _ => Transition::Keep(record),
    }
}
