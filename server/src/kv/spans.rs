//! The spans that a transaction has read, kept small.

use std::collections::BTreeSet;

use proto::{Key, Span};

/// A set of spans whose memory is bounded: past the limit neighbours are merged, which makes it cover more than was
/// added, never less.
#[derive(Clone, Debug, Default)]
pub struct SpanSet {
    spans: BTreeSet<Span>,
    bytes: usize,
}

/// Bytes of keys past which spans are merged.
const BYTES_MAX: usize = 256 << 10;

impl SpanSet {
    pub fn add(&mut self, span: Span) {
        if span.is_empty() || self.spans.contains(&span) {
            return;
        }
        self.bytes += span.start.0.len() + span.end.0.len();
        self.spans.insert(span);
        if self.bytes > BYTES_MAX {
            self.merge();
        }
    }

    pub fn add_key(&mut self, key: &Key) {
        self.add(Span::point(key));
    }

    /// Halves the number of spans by merging pairs of neighbours.
    fn merge(&mut self) {
        let spans: Vec<Span> = std::mem::take(&mut self.spans).into_iter().collect();
        for pair in spans.chunks(2) {
            let end = pair.iter().map(|s| s.end.clone()).max().unwrap_or_default();
            self.spans.insert(Span { start: pair[0].start.clone(), end });
        }
        self.bytes = self.spans.iter().map(|s| s.start.0.len() + s.end.0.len()).sum();
    }

    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Span> {
        self.spans.iter()
    }

    pub fn to_vec(&self) -> Vec<Span> {
        self.spans.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_was_added_stays_covered() {
        let mut set = SpanSet::default();
        let keys: Vec<Key> = (0..40_000u32).map(|n| Key(n.to_be_bytes().to_vec())).collect();
        for key in &keys {
            set.add_key(key);
        }
        assert!(set.bytes <= BYTES_MAX);
        for key in keys.iter().step_by(97) {
            assert!(set.iter().any(|span| span.contains(key)));
        }
    }
}
