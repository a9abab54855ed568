//! How keys lie in the engine's spaces.
//!
//! A version's key is the user key, escaped and terminated so that no key is a prefix of another, then the
//! timestamp's complement: versions of a key stand together, newest first.
//!
//! ```text
//! Versions   escape(key) ++ !timestamp (8 bytes, big-endian)
//! Intents    key
//! Local      1 ++ range id (8 bytes) ++ what          state of a range's replica
//!            2 ++ escape(anchor key) ++ txn id        transaction record
//! ```

use proto::{Key, RangeId, Timestamp, TxnId};

use crate::engine::EngineError;

const ESCAPE: u8 = 0x00;
const ESCAPED_ZERO: u8 = 0xff;
const TERMINATOR: u8 = 0x01;

const LOCAL_RANGE: u8 = 1;
const LOCAL_RECORD: u8 = 2;

fn escape_into(key: &Key, out: &mut Vec<u8>) {
    for &byte in &key.0 {
        out.push(byte);
        if byte == ESCAPE {
            out.push(ESCAPED_ZERO);
        }
    }
    out.extend_from_slice(&[ESCAPE, TERMINATOR]);
}

/// Reads an escaped key from the front; returns it and what follows.
fn unescape(mut bytes: &[u8]) -> Option<(Key, &[u8])> {
    let mut key = Vec::with_capacity(bytes.len());
    loop {
        let (&byte, rest) = bytes.split_first()?;
        if byte != ESCAPE {
            key.push(byte);
            bytes = rest;
            continue;
        }
        let (&mark, rest) = rest.split_first()?;
        bytes = rest;
        match mark {
            ESCAPED_ZERO => key.push(ESCAPE),
            TERMINATOR => return Some((Key(key), bytes)),
            _ => return None,
        }
    }
}

/// Where a key's versions begin: before its newest.
pub fn versions_of(key: &Key) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.0.len() + 12);
    escape_into(key, &mut out);
    out
}

/// Where a version lies. Seeking it finds the newest version at or below the timestamp.
pub fn version(key: &Key, timestamp: Timestamp) -> Vec<u8> {
    let mut out = versions_of(key);
    out.extend_from_slice(&(!timestamp.0).to_be_bytes());
    out
}

/// The user key and timestamp of a version's key.
///
/// # Errors
/// [`EngineError::Corrupt`] if it is none.
pub fn parse_version(bytes: &[u8]) -> Result<(Key, Timestamp), EngineError> {
    let corrupt = || EngineError::Corrupt(format!("not a version's key: {}", Key::from(bytes)));
    let (key, rest) = unescape(bytes).ok_or_else(corrupt)?;
    let complement: [u8; 8] = rest.try_into().map_err(|_| corrupt())?;
    Ok((key, Timestamp(!u64::from_be_bytes(complement))))
}

/// The prefix of everything that the replica of a range keeps for itself.
pub fn range_state(range: RangeId, what: &[u8]) -> Vec<u8> {
    let mut out = vec![LOCAL_RANGE];
    out.extend_from_slice(&range.0.to_be_bytes());
    out.extend_from_slice(what);
    out
}

/// The range and what is kept, from a key of [`range_state`]; `None` for other keys.
pub fn parse_range_state(bytes: &[u8]) -> Option<(RangeId, &[u8])> {
    let rest = bytes.strip_prefix(&[LOCAL_RANGE])?;
    let (id, what) = rest.split_at_checked(8)?;
    Some((RangeId(u64::from_be_bytes(id.try_into().ok()?)), what))
}

/// Where all ranges' states begin and end.
pub fn all_range_states() -> (Vec<u8>, Vec<u8>) {
    (vec![LOCAL_RANGE], vec![LOCAL_RANGE + 1])
}

/// Where a transaction's record lies.
pub fn record(anchor: &Key, txn: TxnId) -> Vec<u8> {
    let mut out = records_of(anchor);
    out.extend_from_slice(&txn.0.to_be_bytes());
    out
}

/// Where the records anchored at or after a key begin.
pub fn records_of(anchor: &Key) -> Vec<u8> {
    let mut out = vec![LOCAL_RECORD];
    escape_into(anchor, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn versions_are_ordered_by_key_then_newest_first(
            a in prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0xff), any::<u8>()], 0..6),
            b in prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0xff), any::<u8>()], 0..6),
            s in any::<u64>(), t in any::<u64>(),
        ) {
            let (a, b, s, t) = (Key(a), Key(b), Timestamp(s), Timestamp(t));
            let expected = a.cmp(&b).then(t.cmp(&s));
            prop_assert_eq!(version(&a, s).cmp(&version(&b, t)), expected);
            prop_assert_eq!(parse_version(&version(&a, s)), Ok((a, s)));
        }
    }

    #[test]
    fn broken_version_keys_are_reported_not_believed() {
        for bytes in [&b""[..], b"abc", b"a\0\x02", b"a\0\x01123"] {
            assert!(matches!(parse_version(bytes), Err(EngineError::Corrupt(_))));
        }
    }
}
