//! The name that an application gives to a transaction.

use std::fmt;

use proto::{Key, Span, keyspace};

use super::super::error::Error;
use super::fingerprint::Fingerprint;

/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 255;

/// Bytes of the key's hash in front of it. They spread keys; they need not tell them apart.
const HASH_BYTES: usize = 2;

/// A key: neither empty nor too long. Keys of all applications of a cluster are one space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// # Errors
    /// [`Error::Invalid`].
    pub fn new(text: &str) -> Result<IdempotencyKey, Error> {
        match text.len() {
            0 => Err(Error::Invalid("an idempotency key cannot be empty".into())),
            bytes if bytes > KEY_BYTES_MAX => Err(Error::Invalid(format!(
                "the idempotency key has {bytes} bytes, more than the limit of {KEY_BYTES_MAX}: give a digest of it instead"
            ))),
            _ => Ok(IdempotencyKey(text.to_string())),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where its row lies.
    pub fn row(&self) -> Key {
        let hash = Fingerprint::of(&[self.0.as_bytes()]);
        Key([&[keyspace::IDEMPOTENCY], &hash.as_bytes()[..HASH_BYTES], self.0.as_bytes()].concat())
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where all rows lie.
pub fn rows() -> Span {
    Span::prefix(&keyspace::start_of(keyspace::IDEMPOTENCY))
}

/// The key of a row, in words.
pub fn shown(row: &Key) -> String {
    String::from_utf8_lossy(row.as_bytes().get(1 + HASH_BYTES..).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_a_length() {
        assert!(IdempotencyKey::new("").is_err());
        assert!(IdempotencyKey::new(&"x".repeat(KEY_BYTES_MAX)).is_ok());
        assert!(IdempotencyKey::new(&"x".repeat(KEY_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn rows_lie_in_their_part_of_the_key_space_spread_and_stay_where_they_are() {
        let row = |text: &str| IdempotencyKey::new(text).unwrap().row();
        assert!(rows().contains(&row("order-17")) && rows().contains(&row("\u{10ffff}")));
        assert_eq!(shown(&row("order-17")), "order-17");
        // The layout of rows on disk.
        assert_eq!(row("order-17").0, [b"\x06\xe9\xa9".as_slice(), b"order-17"].concat());
        assert_ne!(row("order-17").0[1..3], row("order-18").0[1..3]);
    }
}
