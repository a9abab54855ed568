//! The layout of the one key space: which prefix belongs to whom.

use crate::Key;

/// Range descriptors, by the start key of the range. An ordinary replicated range, the *meta range*.
pub const META: u8 = 0x01;
/// Counters and settings of the key-value layer.
pub const SYSTEM: u8 = 0x02;
/// The SQL catalog.
pub const CATALOG: u8 = 0x03;
/// Rows of SQL tables: the prefix, then the table's id as 8 bytes big-endian, then the encoded primary key.
pub const TABLES: u8 = 0x04;
/// Keys of applications that use the key-range API: the prefix, then the application's key.
pub const APPLICATION: u8 = 0x05;
/// Rows of applications' idempotency keys: the prefix, then two bytes of the key's hash, then the key.
pub const IDEMPOTENCY: u8 = 0x06;

/// The first key of a part of the key space.
pub fn start_of(prefix: u8) -> Key {
    Key(vec![prefix])
}
