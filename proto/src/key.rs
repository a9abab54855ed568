//! Keys, values and spans of keys.

use std::fmt;

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

/// A key of the one ordered key space, compared bytewise.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Key(pub Vec<u8>);

/// The bytes stored under a key at some timestamp.
pub type Value = Vec<u8>;

impl Key {
    /// The first key; also the start of the first range.
    pub const MIN: Key = Key(Vec::new());

    /// After every key that is ever stored: an end bound only.
    pub fn max() -> Key {
        Key(vec![0xff; 4])
    }

    /// The smallest key greater than this one.
    pub fn next(&self) -> Key {
        let mut bytes = Vec::with_capacity(self.0.len() + 1);
        bytes.extend_from_slice(&self.0);
        bytes.push(0);
        Key(bytes)
    }

    /// The smallest key that is greater than every key with this prefix, or [`Key::max`] if there is none.
    pub fn prefix_end(&self) -> Key {
        let mut bytes = self.0.clone();
        while let Some(last) = bytes.pop() {
            if last < 0xff {
                bytes.push(last + 1);
                return Key(bytes);
            }
        }
        Key::max()
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Key {
    fn from(bytes: &[u8]) -> Key {
        Key(bytes.to_vec())
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Key {
        Key(text.as_bytes().to_vec())
    }
}

impl From<Vec<u8>> for Key {
    fn from(bytes: Vec<u8>) -> Key {
        Key(bytes)
    }
}

impl fmt::Display for Key {
    /// Printable ASCII as it is, everything else as `\xNN`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &b in &self.0 {
            match b {
                b'\\' => f.write_str("\\\\")?,
                0x20..=0x7e => write!(f, "{}", b as char)?,
                _ => write!(f, "\\x{b:02x}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl<C> Encode<C> for Key {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Key {
    fn decode(d: &mut minicbor::Decoder<'b>, ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        Ok(Key(ByteVec::decode(d, ctx)?.into()))
    }
}

/// The keys from `start` (inclusive) to `end` (exclusive). A span whose end is not above its start is empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Span {
    #[n(0)]
    pub start: Key,
    #[n(1)]
    pub end: Key,
}

impl Span {
    pub fn new(start: impl Into<Key>, end: impl Into<Key>) -> Span {
        Span { start: start.into(), end: end.into() }
    }

    /// The span that holds this one key.
    pub fn point(key: &Key) -> Span {
        Span { start: key.clone(), end: key.next() }
    }

    /// The span of all keys with a prefix.
    pub fn prefix(prefix: &Key) -> Span {
        Span { start: prefix.clone(), end: prefix.prefix_end() }
    }

    /// Every key.
    pub fn all() -> Span {
        Span { start: Key::MIN, end: Key::max() }
    }

    pub fn is_empty(&self) -> bool {
        self.start >= self.end
    }

    pub fn contains(&self, key: &Key) -> bool {
        self.start <= *key && *key < self.end
    }

    /// Whether every key of `other` lies in this span.
    pub fn covers(&self, other: &Span) -> bool {
        other.is_empty() || (self.start <= other.start && other.end <= self.end)
    }

    pub fn overlaps(&self, other: &Span) -> bool {
        !self.is_empty() && !other.is_empty() && self.start < other.end && other.start < self.end
    }

    /// The keys in both spans; possibly empty.
    pub fn intersect(&self, other: &Span) -> Span {
        Span { start: (&self.start).max(&other.start).clone(), end: (&self.end).min(&other.end).clone() }
    }

    /// Whether this span holds exactly one key.
    pub fn is_point(&self) -> bool {
        self.end.0.len() == self.start.0.len() + 1
            && self.end.0.last() == Some(&0)
            && self.end.0.starts_with(&self.start.0)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_point() { write!(f, "{}", self.start) } else { write!(f, "[{}, {})", self.start, self.end) }
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_end_is_the_least_upper_bound() {
        assert_eq!(Key::from("ab").prefix_end(), Key::from("ac"));
        assert_eq!(Key(vec![1, 0xff]).prefix_end(), Key(vec![2]));
        assert_eq!(Key(vec![0xff]).prefix_end(), Key::max());
    }

    #[test]
    fn a_point_holds_one_key() {
        let a = Key::from("a");
        assert!(Span::point(&a).is_point());
        assert!(Span::point(&a).contains(&a));
        assert!(!Span::point(&a).contains(&a.next()));
        assert!(!Span::new("a", "b").is_point());
    }
}
