//! The encoding of internal messages and disk records: CBOR with numbered fields.
//!
//! Every encoded type derives [`minicbor::Encode`] and [`minicbor::Decode`] and numbers its fields and
//! variants. The rules of change: a number is never reused, a removed field leaves a gap, and a new field
//! is an `Option`, so that old bytes decode in new code and new bytes in old code.

use std::fmt;

use minicbor::{Decode, Encode};

/// Bytes that are not what they should be. On disk this means corruption, on the wire a broken peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// What was to be decoded.
    pub what: &'static str,
    pub detail: String,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot be decoded: {}", self.what, self.detail)
    }
}

impl std::error::Error for DecodeError {}

/// Encodes a value. Encoding into memory cannot fail.
pub fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    minicbor::to_vec(value).expect("encoding into memory cannot fail")
}

/// Decodes a value.
///
/// # Errors
/// When the bytes are not an encoded `T`.
pub fn decode<'b, T: Decode<'b, ()>>(what: &'static str, bytes: &'b [u8]) -> Result<T, DecodeError> {
    minicbor::decode(bytes).map_err(|e| DecodeError { what, detail: e.to_string() })
}
