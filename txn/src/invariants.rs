//! The invariants that one evaluated command can break, checked on what it is about to write.
//!
//! Evaluation is written so that they hold; this says so a second time, in other words, and looks at nothing but the state before, the reads
//! that the leader remembers, and the batch. Run in builds with debug assertions, which includes all simulations of the test suite: a look
//! at the state for each key written is too much for production.
//!
//! What spans commands or replicas (latches, terms, fences, the log) is asserted where it happens.

use proto::transaction::{Intent, TxnRecord, TxnStatus};
use proto::{Key, Timestamp, TxnId, codec};

use crate::engine::{EngineError, EngineWrite, Space};
use crate::participant::{Context, outcome_is_final};
use crate::reads::ReadMarks;
use crate::{keys, mvcc};

/// A transaction that writes rows of its own, where others may have read (I2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writer {
    txn: TxnId,
    low_water: Timestamp,
}

impl Writer {
    /// To be made before the command is evaluated: remembering its own reads may forget others.
    pub fn new(txn: TxnId, reads: &ReadMarks) -> Writer {
        Writer { txn, low_water: reads.latest_forgotten(txn) }
    }
}

/// The first invariant that a batch breaks, in words. A command that only settles transactions has no writer.
///
/// # Errors
/// When the engine fails.
pub fn broken(cx: &Context<'_>, writer: Option<Writer>, writes: &[EngineWrite]) -> Result<Option<String>, EngineError> {
    for write in writes {
        let Some(value) = &write.value else { continue };
        let wrong = match write.space {
            Space::Versions => wrong_version(cx, writer, &write.key, value)?,
            Space::Intents => wrong_intent(cx, writer, &write.key, value)?,
            Space::Local => wrong_record(cx, &write.key, value)?,
            Space::Applied => None,
        };
        if wrong.is_some() {
            return Ok(wrong);
        }
    }
    Ok(None)
}

fn wrong_version(
    cx: &Context<'_>,
    writer: Option<Writer>,
    key: &[u8],
    value: &[u8],
) -> Result<Option<String>, EngineError> {
    let (key, at) = keys::parse_version(key)?;
    let (by, _) = mvcc::decode_version(value)?;
    if let Some(newest) = mvcc::newest(cx.engine, &key)?
        && newest.timestamp >= at
    {
        return Ok(Some(format!("I1: {by} writes {key} at {at}, and it has a version at {}", newest.timestamp)));
    }
    match mvcc::intent(cx.engine, &key)? {
        Some(intent) if intent.txn.id != by => {
            return Ok(Some(format!("I5: {by} writes {key} past the intent of {}", intent.txn.id)));
        }
        // Its intent has held its place: whoever read above it has pushed it, or waits.
        Some(intent) if intent.timestamp > at => {
            return Ok(Some(format!("I9: the intent of {by} on {key} lies above its commit at {at}")));
        }
        Some(_) => return Ok(None),
        None => {}
    }
    Ok(read_above(cx, writer, &key, at))
}

fn wrong_intent(
    cx: &Context<'_>,
    writer: Option<Writer>,
    key: &[u8],
    value: &[u8],
) -> Result<Option<String>, EngineError> {
    let key = Key::from(key);
    let intent: Intent = codec::decode("an intent", value)?;
    let by = intent.txn.id;
    match mvcc::intent(cx.engine, &key)? {
        Some(before) if before.txn.id != by => {
            return Ok(Some(format!("I5: the intent of {by} on {key} replaces one of {}", before.txn.id)));
        }
        Some(before) if before.timestamp > intent.timestamp || before.txn.attempt > intent.txn.attempt => {
            return Ok(Some(format!("I5: the intent of {by} on {key} moves down")));
        }
        _ => {}
    }
    if let Some(newest) = mvcc::newest(cx.engine, &key)?
        && newest.timestamp >= intent.timestamp
    {
        return Ok(Some(format!("I2: the intent of {by} on {key} lies at or below a version")));
    }
    // Pushing an intent up for a reader needs no leave of other readers: it only ever moves away from them.
    Ok(read_above(cx, writer, &key, intent.timestamp))
}

fn read_above(cx: &Context<'_>, writer: Option<Writer>, key: &Key, at: Timestamp) -> Option<String> {
    let Writer { txn: writer, low_water } = writer?;
    let read = cx.reads.latest_remembered(key, writer).max(low_water);
    (read >= at).then(|| format!("I2: {writer} writes {key} at {at}, which was read at {read}"))
}

fn wrong_record(cx: &Context<'_>, key: &[u8], value: &[u8]) -> Result<Option<String>, EngineError> {
    let Some(bytes) = cx.engine.get(Space::Local, key)? else { return Ok(None) };
    let before: TxnRecord = codec::decode("a transaction record", &bytes)?;
    let after: TxnRecord = codec::decode("a transaction record", value)?;
    let id = before.id;
    if outcome_is_final(&before) && after != before {
        return Ok(Some(format!("I8: the final record of {id} changes")));
    }
    if after.attempt < before.attempt {
        return Ok(Some(format!("I7: the record of {id} goes back to attempt {}", after.attempt)));
    }
    let same_attempt = after.attempt == before.attempt && before.status == TxnStatus::Staging;
    let live = matches!(after.status, TxnStatus::Staging | TxnStatus::Committed);
    if same_attempt && live && after.timestamp != before.timestamp {
        return Ok(Some(format!("I7: the staged attempt {} of {id} moves", after.attempt)));
    }
    if before.status == TxnStatus::Staging && after.status == TxnStatus::Pending && same_attempt {
        return Ok(Some(format!("I6: the staged attempt {} of {id} is unsaid", after.attempt)));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proto::Span;
    use proto::transaction::TxnMeta;

    use super::*;
    use crate::engine::{Engine, WriteBatch};
    use crate::{MemoryEngine, record};

    fn ts(n: u64) -> Timestamp {
        Timestamp::from_micros(n)
    }

    fn txn(id: u128, attempt: u32) -> TxnMeta {
        TxnMeta { id: TxnId(id), attempt, anchor: Key::from("k"), priority: ts(1), start: ts(1) }
    }

    fn intent(id: u128, attempt: u32, at: u64) -> WriteBatch {
        let mut batch = WriteBatch::default();
        let value = Some(b"v".to_vec().into());
        mvcc::put_intent(&mut batch, &Key::from("k"), &Intent { txn: txn(id, attempt), timestamp: ts(at), value });
        batch
    }

    fn version(id: u128, at: u64) -> WriteBatch {
        let mut batch = WriteBatch::default();
        mvcc::put_version(&mut batch, &Key::from("k"), ts(at), TxnId(id), Some(b"v"));
        batch
    }

    fn record(status: TxnStatus, attempt: u32, at: u64) -> WriteBatch {
        let mut batch = WriteBatch::default();
        let record = TxnRecord { status, ..record::receipt(&txn(1, attempt), ts(at), ts(1)) };
        record::store(&mut batch, &Key::from("k"), &record);
        batch
    }

    /// What is said of a batch that follows others, where `k` was read at 10 by transaction 9.
    fn said(before: &[WriteBatch], writer: Option<u128>, batch: &WriteBatch) -> String {
        let mut engine = MemoryEngine::default();
        for earlier in before {
            engine.write(earlier.clone()).expect("memory does not fail");
        }
        let mut reads = ReadMarks::new(ts(5), 10, 10);
        reads.record(&Span::point(&Key::from("k")), ts(10), TxnId(9));
        let cx = Context {
            engine: &engine,
            reads: &mut reads,
            now: ts(50),
            fence: ts(100),
            receipt_floor: ts(0),
            expiry: Duration::from_secs(1),
        };
        let writer = writer.map(|id| Writer::new(TxnId(id), cx.reads));
        broken(&cx, writer, &batch.writes).expect("memory does not fail").unwrap_or_default()
    }

    #[test]
    fn what_is_right_is_passed() {
        assert_eq!(said(&[], Some(1), &version(1, 11)), "");
        assert_eq!(said(&[], Some(9), &version(9, 10)), "", "nobody else read it");
        assert_eq!(said(&[intent(1, 1, 12)], None, &version(1, 12)), "");
        assert_eq!(said(&[intent(1, 1, 12)], Some(1), &intent(1, 2, 13)), "");
        assert_eq!(said(&[record(TxnStatus::Staging, 1, 12)], None, &record(TxnStatus::Committed, 1, 12)), "");
        assert_eq!(said(&[record(TxnStatus::Staging, 1, 12)], None, &record(TxnStatus::Staging, 2, 14)), "");
        assert_eq!(said(&[record(TxnStatus::Staging, 1, 12)], None, &record(TxnStatus::Aborted, 1, 12)), "");
    }

    #[test]
    fn each_broken_invariant_is_named() {
        let names = |before: &[WriteBatch], writer, batch: WriteBatch, invariant: &str| {
            let said = said(before, writer, &batch);
            assert!(said.starts_with(&format!("{invariant}:")), "{invariant}: {said:?}");
        };
        names(&[version(2, 20)], Some(1), version(1, 20), "I1");
        names(&[version(2, 20)], Some(1), version(1, 15), "I1");
        names(&[], Some(1), version(1, 10), "I2");
        names(&[], Some(1), intent(1, 1, 10), "I2");
        names(&[], Some(9), version(9, 5), "I2");
        names(&[version(2, 20)], Some(1), intent(1, 1, 15), "I2");
        names(&[intent(2, 1, 12)], Some(1), version(1, 13), "I5");
        names(&[intent(2, 1, 12)], Some(1), intent(1, 1, 13), "I5");
        names(&[intent(1, 1, 12)], Some(1), intent(1, 1, 11), "I5");
        names(&[intent(1, 2, 12)], Some(1), intent(1, 1, 13), "I5");
        names(&[intent(1, 1, 14)], None, version(1, 13), "I9");
        names(&[record(TxnStatus::Staging, 1, 12)], None, record(TxnStatus::Pending, 1, 12), "I6");
        names(&[record(TxnStatus::Staging, 1, 12)], None, record(TxnStatus::Committed, 1, 13), "I7");
        names(&[record(TxnStatus::Staging, 2, 12)], None, record(TxnStatus::Staging, 1, 12), "I7");
        names(&[record(TxnStatus::Committed, 1, 12)], None, record(TxnStatus::Aborted, 1, 12), "I8");
        names(&[record(TxnStatus::Aborted, 1, 12)], None, record(TxnStatus::Committed, 1, 12), "I8");
    }
}
