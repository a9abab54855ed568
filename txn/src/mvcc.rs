//! Versions and intents: reading at a timestamp, and the writes that make them.
//!
//! A read at `ts` sees, of each key, the newest version at or below `ts`. An intent of another transaction at or below
//! `ts` is in the way: it may yet commit at or below `ts`, so nobody can say what the read should see. An intent above
//! `ts` is not, for it will never commit at or below (intents never move down, I5).

use proto::request::{Changed, IntentInTheWay, Row};
use proto::transaction::Intent;
use proto::{Key, Span, Timestamp, TxnId, Value, codec};

use crate::engine::{Engine, EngineError, Space, WriteBatch};
use crate::keys;

// A version's value: one of these tags, the id of the transaction that wrote it (for whoever has to give way to it), and the row's value.
const DELETION: u8 = 0;
const PRESENT: u8 = 1;

/// Bytes of a transaction's id.
const ID_BYTES: usize = 16;

/// A committed version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub timestamp: Timestamp,
    /// `None` is a deletion.
    pub value: Option<Value>,
}

/// What a read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<T> {
    Data(T),
    /// These intents must be settled first. Never empty.
    InTheWay(Vec<IntentInTheWay>),
}

/// A page of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub rows: Vec<Row>,
    /// The newest version looked at, deletions included.
    pub newest: Timestamp,
    /// What was not scanned.
    pub resume: Option<Span>,
}

fn split_value(bytes: &[u8]) -> Option<(u8, TxnId, &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (id, value) = rest.split_first_chunk::<ID_BYTES>()?;
    Some((*tag, TxnId(u128::from_be_bytes(*id)), value))
}

fn decode_value(bytes: &[u8]) -> Result<Option<Value>, EngineError> {
    decode_version(bytes).map(|(_, value)| value)
}

/// What the engine holds of a version: who wrote it, and the row's value; `None` is a deletion.
///
/// # Errors
/// When the bytes are damaged.
pub fn decode_version(bytes: &[u8]) -> Result<(TxnId, Option<Value>), EngineError> {
    match split_value(bytes) {
        Some((DELETION, by, [])) => Ok((by, None)),
        Some((PRESENT, by, value)) => Ok((by, Some(value.to_vec()))),
        _ => Err(EngineError::Corrupt("a version's value has no valid tag".into())),
    }
}

/// The transaction that wrote a version, unless it was there from the beginning.
fn writer(bytes: &[u8]) -> Option<TxnId> {
    split_value(bytes).map(|(_, id, _)| id).filter(|id| *id != NOBODY)
}

/// The writer of what a cluster begins with.
pub const NOBODY: TxnId = TxnId(0);

/// The intent on a key.
pub fn intent(engine: &dyn Engine, key: &Key) -> Result<Option<Intent>, EngineError> {
    match engine.get(Space::Intents, &key.0)? {
        Some(bytes) => Ok(Some(codec::decode("an intent", &bytes)?)),
        None => Ok(None),
    }
}

/// The newest version of a key at or below a timestamp.
pub fn version_at(engine: &dyn Engine, key: &Key, at: Timestamp) -> Result<Option<Version>, EngineError> {
    let (from, end) = (keys::version(key, at), keys::versions_of(&key.next()));
    let mut cursor = engine.cursor(Space::Versions, &from..&end);
    cursor.seek(&from)?;
    let Some((found, value)) = cursor.item() else { return Ok(None) };
    let (_, timestamp) = keys::parse_version(found)?;
    Ok(Some(Version { timestamp, value: decode_value(value)? }))
}

/// The newest version of a key.
pub fn newest(engine: &dyn Engine, key: &Key) -> Result<Option<Version>, EngineError> {
    version_at(engine, key, Timestamp::MAX)
}

/// Reads a key at a timestamp.
pub fn get(engine: &dyn Engine, key: &Key, at: Timestamp, txn: TxnId) -> Result<Found<Option<Version>>, EngineError> {
    if let Some(intent) = intent(engine, key)?
        && intent.txn.id != txn
        && intent.timestamp <= at
    {
        return Ok(Found::InTheWay(vec![IntentInTheWay::new(key.clone(), &intent)]));
    }
    Ok(Found::Data(version_at(engine, key, at)?))
}

/// The other transactions' intents in a span at or below a timestamp; at most `limit`.
pub fn intents_in(
    engine: &dyn Engine,
    span: &Span,
    at: Timestamp,
    txn: TxnId,
    limit: usize,
) -> Result<Vec<IntentInTheWay>, EngineError> {
    let mut found = Vec::new();
    crate::engine::visit(engine, Space::Intents, &span.start.0, &span.end.0, |key, value| {
        let intent: Intent = codec::decode("an intent", value)?;
        if intent.txn.id != txn && intent.timestamp <= at {
            found.push(IntentInTheWay::new(Key::from(key), &intent));
        }
        Ok(found.len() < limit)
    })?;
    Ok(found)
}

/// Limits of a scan.
#[derive(Clone, Copy, Debug)]
pub struct ScanLimits {
    pub rows_max: u64,
    pub bytes_max: u64,
    pub reverse: bool,
}

/// How many intents a blocked scan reports at once.
const INTENTS_REPORTED_MAX: usize = 64;

/// Reads a page of a span at a timestamp.
///
/// The page ends after `rows_max` rows or with the row that reaches `bytes_max`. Intents are looked for only in the part
/// that the page covers.
pub fn scan(
    engine: &dyn Engine,
    span: &Span,
    at: Timestamp,
    txn: TxnId,
    limits: ScanLimits,
) -> Result<Found<Page>, EngineError> {
    let page = if limits.reverse { scan_back(engine, span, at, limits)? } else { scan_on(engine, span, at, limits)? };
    let covered = covered_by(span, page.resume.as_ref(), limits.reverse);
    let in_the_way = intents_in(engine, &covered, at, txn, INTENTS_REPORTED_MAX)?;
    if in_the_way.is_empty() { Ok(Found::Data(page)) } else { Ok(Found::InTheWay(in_the_way)) }
}

/// The part of a span that a page covers, given what it left.
pub fn covered_by(span: &Span, resume: Option<&Span>, reverse: bool) -> Span {
    match resume {
        None => span.clone(),
        Some(rest) if reverse => Span { start: rest.end.clone(), end: span.end.clone() },
        Some(rest) => Span { start: span.start.clone(), end: rest.start.clone() },
    }
}

struct PageBuilder {
    page: Page,
    bytes: u64,
    limits: ScanLimits,
}

impl PageBuilder {
    fn new(limits: ScanLimits) -> PageBuilder {
        PageBuilder { page: Page::default(), bytes: 0, limits }
    }

    /// Adds what a key showed; says whether the page is full.
    fn add(&mut self, key: Key, version: Version) -> bool {
        self.page.newest = self.page.newest.max(version.timestamp);
        let Some(value) = version.value else { return false };
        self.bytes += (key.0.len() + value.len()) as u64;
        self.page.rows.push(Row { key, value: value.into() });
        self.page.rows.len() as u64 >= self.limits.rows_max || self.bytes >= self.limits.bytes_max
    }
}

fn scan_on(engine: &dyn Engine, span: &Span, at: Timestamp, limits: ScanLimits) -> Result<Page, EngineError> {
    let mut builder = PageBuilder::new(limits);
    if span.is_empty() {
        return Ok(builder.page);
    }
    let (from, end) = (keys::versions_of(&span.start), keys::versions_of(&span.end));
    let mut cursor = engine.cursor(Space::Versions, &from..&end);
    cursor.seek(&from)?;
    while let Some((found, value)) = cursor.item() {
        let (key, timestamp) = keys::parse_version(found)?;
        if timestamp > at {
            cursor.seek(&keys::version(&key, at))?;
            continue;
        }
        let version = Version { timestamp, value: decode_value(value)? };
        let after = key.next();
        if builder.add(key, version) && after < span.end {
            builder.page.resume = Some(Span { start: after, end: span.end.clone() });
            break;
        }
        cursor.seek(&keys::versions_of(&after))?;
    }
    Ok(builder.page)
}

fn scan_back(engine: &dyn Engine, span: &Span, at: Timestamp, limits: ScanLimits) -> Result<Page, EngineError> {
    let mut builder = PageBuilder::new(limits);
    let (start, stop) = (keys::versions_of(&span.start), keys::versions_of(&span.end));
    let mut cursor = engine.cursor(Space::Versions, &start..&stop);
    let mut end = span.end.clone();
    while span.start < end {
        cursor.seek_before(&keys::versions_of(&end))?;
        let Some((found, _)) = cursor.item() else { break };
        let key = keys::parse_version(found)?.0;
        end = key.clone();
        if let Some(version) = version_at(engine, &key, at)?
            && builder.add(key, version)
            && span.start < end
        {
            builder.page.resume = Some(Span { start: span.start.clone(), end });
            break;
        }
    }
    Ok(builder.page)
}

/// The first sign that something in a span changed after `from` and up to `to`: a version in between, or another
/// transaction's intent at or below `to`.
pub fn changed(
    engine: &dyn Engine,
    span: &Span,
    from: Timestamp,
    to: Timestamp,
    txn: TxnId,
) -> Result<Option<Changed>, EngineError> {
    if let Some(intent) = intents_in(engine, span, to, txn, 1)?.into_iter().next() {
        return Ok(Some(Changed { key: intent.key, at: intent.timestamp, other: Some(intent.txn.id) }));
    }
    let (start, end) = (keys::versions_of(&span.start), keys::versions_of(&span.end));
    let mut cursor = engine.cursor(Space::Versions, &start..&end);
    cursor.seek(&start)?;
    while let Some((found, value)) = cursor.item() {
        let (key, timestamp) = keys::parse_version(found)?;
        if timestamp > to {
            cursor.seek(&keys::version(&key, to))?;
        } else if timestamp > from {
            return Ok(Some(Changed { key, at: timestamp, other: writer(value) }));
        } else {
            cursor.seek(&keys::versions_of(&key.next()))?;
        }
    }
    Ok(None)
}

/// Adds a committed version.
pub fn put_version(batch: &mut WriteBatch, key: &Key, timestamp: Timestamp, by: TxnId, value: Option<&[u8]>) {
    let tag = if value.is_some() { PRESENT } else { DELETION };
    let bytes = [&[tag], by.0.to_be_bytes().as_slice(), value.unwrap_or_default()].concat();
    batch.put(Space::Versions, keys::version(key, timestamp), bytes);
}

/// Sets the intent on a key.
pub fn put_intent(batch: &mut WriteBatch, key: &Key, intent: &Intent) {
    batch.put(Space::Intents, key.0.clone(), codec::encode(intent));
}

/// Removes the intent on a key.
pub fn remove_intent(batch: &mut WriteBatch, key: &Key) {
    batch.remove(Space::Intents, key.0.clone());
}
