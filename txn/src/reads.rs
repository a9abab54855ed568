//! What a range's leader remembers of reads: the timestamp cache.
//!
//! A leader never writes at or below a timestamp at which another transaction read the key (I2). The cache remembers the
//! greatest such timestamp for each key and span, and for everything else a *low-water mark*: the whole range counts
//! as read at it. A new leader begins with its low-water mark above whatever an earlier leader may have served. Memory
//! is bounded by forgetting the older half into the low-water mark; forgetting costs retries, never correctness.
//!
//! What is forgotten still knows whose it was, if it was one transaction's. Else a transaction that validates more than the cache holds would
//! push itself, validate anew, push itself again, and never commit.

use std::collections::BTreeMap;

use proto::{Key, Span, Timestamp, TxnId};

/// A read: when, and by whom if by one transaction only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mark {
    timestamp: Timestamp,
    reader: Option<TxnId>,
}

impl Mark {
    fn merge(&mut self, other: Mark) {
        if other.timestamp > self.timestamp {
            *self = other;
        } else if other.timestamp == self.timestamp && other.reader != self.reader {
            self.reader = None;
        }
    }

    /// What it means to a writer. At its own timestamp a transaction may write; a read by another at the same one forbids it.
    fn stands_against(&self, writer: TxnId) -> Timestamp {
        if self.reader == Some(writer) { self.timestamp.prev() } else { self.timestamp }
    }
}

/// Reads of one period.
#[derive(Debug, Default)]
struct Generation {
    keys: BTreeMap<Key, Mark>,
    spans: BTreeMap<(Key, Key), Mark>,
    /// The latest read of all.
    newest: Mark,
}

impl Generation {
    /// The latest read of a key by anyone but `reader`.
    fn latest(&self, key: &Key, reader: TxnId) -> Timestamp {
        let mut latest = Timestamp::ZERO;
        let mut consider = |mark: &Mark| latest = latest.max(mark.stands_against(reader));
        if let Some(mark) = self.keys.get(key) {
            consider(mark);
        }
        for ((start, end), mark) in &self.spans {
            if start > key {
                break;
            }
            if key < end {
                consider(mark);
            }
        }
        latest
    }
}

/// The timestamp cache of one range's leader.
#[derive(Debug)]
pub struct ReadMarks {
    low_water: Mark,
    /// What the low-water mark was raised to last from outside.
    raised: Timestamp,
    current: Generation,
    previous: Generation,
    keys_max: usize,
    spans_max: usize,
}

impl ReadMarks {
    /// A cache for which everything was read at `low_water`, and which remembers up to so many keys and spans per half.
    pub fn new(low_water: Timestamp, keys_max: usize, spans_max: usize) -> ReadMarks {
        let low_water = Mark { timestamp: low_water, reader: None };
        let (raised, current, previous) = Default::default();
        ReadMarks { low_water, raised, current, previous, keys_max, spans_max }
    }

    pub fn low_water(&self) -> Timestamp {
        self.low_water.timestamp
    }

    /// Everything counts as read up to here, by nobody in particular.
    pub fn raise(&mut self, to: Timestamp) {
        self.low_water.merge(Mark { timestamp: to, reader: None });
        self.raised = self.raised.max(to);
    }

    /// Whether a timestamp lies where everything counts as read, though nobody may have read it.
    pub fn is_raised_past(&self, timestamp: Timestamp) -> bool {
        timestamp <= self.raised
    }

    /// Remembers a read of a span. A read by one transaction does not stand in that transaction's own way, as long as the
    /// remembered read is at or below the timestamp at which it writes.
    pub fn record(&mut self, span: &Span, timestamp: Timestamp, reader: TxnId) {
        if span.is_empty() {
            return;
        }
        let mark = Mark { timestamp, reader: (reader != TxnId::default()).then_some(reader) };
        if timestamp <= self.low_water.timestamp {
            // At the mark itself there may now be two readers.
            return self.low_water.merge(mark);
        }
        let generation = &mut self.current;
        generation.newest.merge(mark);
        if span.is_point() {
            generation.keys.entry(span.start.clone()).and_modify(|m| m.merge(mark)).or_insert(mark);
        } else {
            let bounds = (span.start.clone(), span.end.clone());
            generation.spans.entry(bounds).and_modify(|m| m.merge(mark)).or_insert(mark);
        }
        if generation.keys.len() > self.keys_max || generation.spans.len() > self.spans_max {
            self.forget_older_half();
        }
    }

    fn forget_older_half(&mut self) {
        let current = std::mem::take(&mut self.current);
        let forgotten = std::mem::replace(&mut self.previous, current);
        self.low_water.merge(forgotten.newest);
    }

    /// The timestamp above which `writer` must write this key.
    pub fn latest(&self, key: &Key, writer: TxnId) -> Timestamp {
        self.latest_forgotten(writer).max(self.latest_remembered(key, writer))
    }

    /// The low-water mark, as far as it stands in a writer's way.
    pub fn latest_forgotten(&self, writer: TxnId) -> Timestamp {
        self.low_water.stands_against(writer)
    }

    /// As [`ReadMarks::latest`], without what was forgotten.
    pub fn latest_remembered(&self, key: &Key, writer: TxnId) -> Timestamp {
        self.current.latest(key, writer).max(self.previous.latest(key, writer))
    }

    /// A timestamp at or above every read remembered, whoever read.
    pub fn summary(&self) -> Timestamp {
        self.low_water.timestamp.max(self.current.newest.timestamp).max(self.previous.newest.timestamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T1: TxnId = TxnId(1);
    const T2: TxnId = TxnId(2);

    fn ts(n: u64) -> Timestamp {
        Timestamp(n)
    }

    #[test]
    fn own_reads_do_not_push_a_writer_but_anothers_do() {
        let mut marks = ReadMarks::new(ts(5), 10, 10);
        let a = Key::from("a");
        marks.record(&Span::point(&a), ts(10), T1);
        assert_eq!(marks.latest(&a, T1), ts(9));
        assert_eq!(marks.latest(&a, T2), ts(10));
        marks.record(&Span::new("", "b"), ts(10), T2);
        assert_eq!(marks.latest(&a, T1), ts(10));
        assert_eq!(marks.latest(&Key::from("b"), T1), ts(5));
    }

    #[test]
    fn two_readers_at_one_timestamp_stand_in_each_others_way() {
        let mut marks = ReadMarks::new(ts(0), 10, 10);
        let a = Key::from("a");
        marks.record(&Span::point(&a), ts(10), T1);
        marks.record(&Span::point(&a), ts(10), T2);
        assert_eq!(marks.latest(&a, T1), ts(10));
        assert_eq!(marks.latest(&a, T2), ts(10));
    }

    /// Found by thought: a later read by oneself must not hide an earlier one by another.
    #[test]
    fn an_own_later_read_hides_no_foreign_one_below_it() {
        let mut marks = ReadMarks::new(ts(0), 10, 10);
        let a = Key::from("a");
        marks.record(&Span::point(&a), ts(10), T2);
        marks.record(&Span::point(&a), ts(20), T1);
        // T1 reads and so writes at 20 or above, and below 20 counts as read by another.
        assert_eq!(marks.latest(&a, T1), ts(19));
    }

    /// Found by simulation: a commit staged one attempt after the other for ever.
    #[test]
    fn a_transaction_that_validates_more_than_is_remembered_does_not_push_itself() {
        let mut marks = ReadMarks::new(ts(5), 2, 2);
        let mut validate = |at, by| (1..=20).for_each(|n| marks.record(&Span::point(&Key(vec![n])), ts(at), by));
        validate(10, T2);
        validate(20, T1);
        assert_eq!(marks.latest(&Key(vec![1]), T1), ts(19));
        assert_eq!(marks.latest(&Key(vec![1]), T2), ts(20));
    }

    /// A read at the very mark by another counts, though it is not remembered by its key.
    #[test]
    fn a_read_at_the_low_water_mark_makes_it_everybodys() {
        let mut marks = ReadMarks::new(ts(5), 2, 2);
        (1..=9).for_each(|n| marks.record(&Span::point(&Key(vec![n])), ts(20), T1));
        assert_eq!(marks.latest(&Key(vec![1]), T1), ts(19));
        marks.record(&Span::point(&Key(vec![1])), ts(20), T2);
        assert_eq!(marks.latest(&Key(vec![1]), T1), ts(20));
    }

    #[test]
    fn a_raised_mark_is_everybodys_and_never_sinks() {
        let mut marks = ReadMarks::new(ts(5), 2, 2);
        marks.raise(ts(20));
        marks.raise(ts(10));
        assert_eq!((marks.low_water(), marks.summary()), (ts(20), ts(20)));
        assert_eq!(marks.latest(&Key(vec![1]), T1), ts(20));
        (1..=9).for_each(|n| marks.record(&Span::point(&Key(vec![n])), ts(30), T1));
        marks.raise(ts(30));
        assert_eq!(marks.latest(&Key(vec![1]), T1), ts(30), "its own forgotten reads protect nobody else's");
    }

    #[test]
    fn what_is_forgotten_counts_as_read() {
        let mut marks = ReadMarks::new(ts(0), 2, 2);
        for n in 1..=9 {
            marks.record(&Span::point(&Key(vec![n])), ts(n.into()), T1);
        }
        for n in 1..=9 {
            assert!(marks.latest(&Key(vec![n]), T2) >= ts(n.into()));
        }
    }
}
