//! The range map: descriptors in key order, as far as they are known.
//!
//! A map may be out of date, but it is never inconsistent: descriptors in it do not overlap. A newer one (by epoch) replaces the
//! parts of older ones that it overlaps; what it leaves of them stays, under the old epoch, until somebody learns better.

use std::collections::BTreeMap;

use proto::{Key, RangeDescriptor, Span};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct RangeMap {
    by_start: BTreeMap<Key, RangeDescriptor>,
}

impl RangeMap {
    /// The descriptor of the range that holds a key.
    pub fn lookup(&self, key: &Key) -> Option<&RangeDescriptor> {
        self.by_start.range(..=key.clone()).next_back().map(|(_, range)| range).filter(|range| range.contains(key))
    }

    /// The range that holds a key; the last one for a key beyond all.
    pub fn lookup_or_last(&self, key: &Key) -> Option<&RangeDescriptor> {
        self.lookup(key).or_else(|| self.by_start.last_key_value().map(|(_, range)| range))
    }

    /// The ranges that overlap a span, in key order.
    pub fn overlapping<'a>(&'a self, span: &'a Span) -> impl Iterator<Item = &'a RangeDescriptor> {
        let first = self.lookup(&span.start).map_or_else(|| span.start.clone(), |range| range.start.clone());
        self.by_start.range(first..).map(|(_, range)| range).take_while(|range| range.start < span.end)
    }

    /// Learns a descriptor, unless something newer is known about one of its keys. Says whether it was news.
    pub fn insert(&mut self, range: RangeDescriptor) -> bool {
        let span = range.span();
        if span.is_empty() {
            return false;
        }
        let old: Vec<RangeDescriptor> = self.overlapping(&span).cloned().collect();
        if old.iter().any(|other| other.epoch > range.epoch || *other == range) {
            return false;
        }
        for other in old {
            self.by_start.remove(&other.start);
            if other.start < range.start {
                let left = RangeDescriptor { end: range.start.clone(), ..other.clone() };
                self.by_start.insert(left.start.clone(), left);
            }
            if other.end > range.end {
                let right = RangeDescriptor { start: range.end.clone(), ..other };
                self.by_start.insert(right.start.clone(), right);
            }
        }
        self.by_start.insert(range.start.clone(), range);
        true
    }

    /// All descriptors, in key order.
    pub fn iter(&self) -> impl Iterator<Item = &RangeDescriptor> {
        self.by_start.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proto::{Epoch, RangeId};

    fn range(id: u64, start: &str, end: &str, epoch: u64) -> RangeDescriptor {
        let span = Span { start: Key::from(start), end: Key::from(end) };
        RangeDescriptor::new(RangeId(id), span, Epoch(epoch), Vec::new())
    }

    #[test]
    fn a_split_is_learned_half_by_half() {
        let mut map = RangeMap::default();
        assert!(map.insert(range(1, "a", "z", 1)));
        assert!(map.insert(range(2, "m", "z", 2)));
        assert_eq!(map.lookup(&Key::from("b")).unwrap().end, Key::from("m"));
        assert_eq!(map.lookup(&Key::from("m")).unwrap().id, RangeId(2));
        assert!(map.insert(range(1, "a", "m", 2)));
        assert!(!map.insert(range(1, "a", "z", 1)), "the old descriptor is no news");
        assert_eq!(map.iter().count(), 2);
    }

    proptest! {
        #[test]
        fn descriptors_never_overlap(inserts in prop::collection::vec((0u8..20, 1u8..20, 1u64..6), 1..40)) {
            let mut map = RangeMap::default();
            for (n, (start, len, epoch)) in inserts.into_iter().enumerate() {
                let span = Span { start: Key(vec![start]), end: Key(vec![start + len]) };
                let descriptor = RangeDescriptor::new(RangeId(n as u64), span, Epoch(epoch), Vec::new());
                map.insert(descriptor);
                let all: Vec<_> = map.iter().collect();
                for pair in all.windows(2) {
                    prop_assert!(pair[0].end <= pair[1].start);
                }
                prop_assert!(all.iter().all(|r| r.start < r.end));
            }
        }
    }
}
