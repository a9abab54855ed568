//! Latches: which keys have a command in flight, and who waits for them.
//!
//! A command latches the keys that it writes from evaluation until its entry is applied or provably dead (I3), with the
//! timestamp of its writes. Two things follow.
//!
//! * A *write* waits for every command in flight on its keys, and behind every write that waits already for one of them,
//!   so that nobody starves.
//! * A *read* at `r` waits only for commands in flight at or below `r`. New ones lie above the present and so above
//!   most readers; a reader holds up nobody, however much it scans.

use std::collections::BTreeMap;

use proto::{Key, Span, Timestamp};

/// Identifies a command in flight or a request that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LatchId(pub u64);

#[derive(Debug)]
struct Held {
    spans: Vec<Span>,
    timestamp: Timestamp,
}

/// The latches of one range's leader.
#[derive(Debug, Default)]
pub struct Latches {
    /// Commands in flight on single keys.
    keys: BTreeMap<Key, (LatchId, Timestamp)>,
    /// Commands in flight on longer spans: splits and such.
    spans: BTreeMap<LatchId, Held>,
    /// What each command in flight holds of `keys`.
    held: BTreeMap<LatchId, Vec<Key>>,
    /// Waiting writes, in order of arrival, with their spans.
    waiting: BTreeMap<LatchId, Vec<Span>>,
}

impl Latches {
    /// Whether a write to these spans must wait. `me` is its place if it waits already: only earlier ones count.
    pub fn write_blocked(&self, spans: &[Span], me: Option<LatchId>) -> bool {
        spans.iter().any(|span| self.held_in(span, Timestamp::MAX))
            || self
                .waiting
                .iter()
                .take_while(|(id, _)| me.is_none_or(|me| **id < me))
                .any(|(_, theirs)| theirs.iter().any(|t| spans.iter().any(|s| s.overlaps(t))))
    }

    /// Whether a read of these spans at a timestamp must wait.
    pub fn read_blocked(&self, spans: &[Span], at: Timestamp) -> bool {
        spans.iter().any(|span| self.held_in(span, at))
    }

    fn held_in(&self, span: &Span, at: Timestamp) -> bool {
        if span.is_empty() {
            return false;
        }
        self.keys.range(span.start.clone()..span.end.clone()).any(|(_, (_, timestamp))| *timestamp <= at)
            || self.spans.values().any(|held| held.timestamp <= at && held.spans.iter().any(|s| s.overlaps(span)))
    }

    /// The least timestamp at which a command in flight writes; [`Timestamp::MAX`] if there is none.
    pub fn least_in_flight(&self) -> Timestamp {
        let keys = self.keys.values().map(|(_, timestamp)| *timestamp);
        keys.chain(self.spans.values().map(|held| held.timestamp)).min().unwrap_or(Timestamp::MAX)
    }

    /// Latches the spans of an evaluated command, whose writes have this timestamp. They must be free.
    pub fn acquire(&mut self, id: LatchId, spans: Vec<Span>, timestamp: Timestamp) {
        assert!(!self.held.contains_key(&id) && !self.spans.contains_key(&id), "a command latches once");
        self.waiting.remove(&id);
        let (points, longer): (Vec<Span>, Vec<Span>) = spans.into_iter().partition(Span::is_point);
        let mut keys = Vec::with_capacity(points.len());
        for point in points {
            // A command may name a key twice.
            match self.keys.insert(point.start.clone(), (id, timestamp)) {
                None => keys.push(point.start),
                Some((other, _)) => assert!(other == id, "a latched key was latched again"),
            }
        }
        if !longer.is_empty() {
            self.spans.insert(id, Held { spans: longer, timestamp });
        }
        self.held.insert(id, keys);
    }

    /// Lets a write wait; its place is its id.
    pub fn wait(&mut self, id: LatchId, spans: Vec<Span>) {
        self.waiting.entry(id).or_insert(spans);
    }

    /// Gives up a waiting write's place.
    pub fn stop_waiting(&mut self, id: LatchId) {
        self.waiting.remove(&id);
    }

    /// The command was applied or is dead.
    pub fn release(&mut self, id: LatchId) {
        for key in self.held.remove(&id).unwrap_or_default() {
            self.keys.remove(&key);
        }
        self.spans.remove(&id);
    }

    /// Gives up the memory that is kept for more, where there is nothing.
    pub fn shrink(&mut self) {
        if self.is_idle() && self.waiting.is_empty() {
            *self = Latches::default();
        }
    }

    /// Whether nothing is in flight.
    pub fn is_idle(&self) -> bool {
        self.held.is_empty() && self.spans.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(key: &str) -> Vec<Span> {
        vec![Span::point(&Key::from(key))]
    }

    #[test]
    fn a_read_waits_only_for_commands_at_or_below_it() {
        let mut latches = Latches::default();
        latches.acquire(LatchId(1), point("a"), Timestamp(10));
        assert!(latches.read_blocked(&[Span::new("", "z")], Timestamp(10)));
        assert!(!latches.read_blocked(&[Span::new("", "z")], Timestamp(9)));
        assert!(!latches.read_blocked(&point("b"), Timestamp(99)));
        latches.release(LatchId(1));
        assert!(!latches.read_blocked(&point("a"), Timestamp(99)) && latches.is_idle());
    }

    #[test]
    fn writes_queue_in_order_of_arrival() {
        let mut latches = Latches::default();
        latches.acquire(LatchId(1), point("a"), Timestamp(10));
        assert!(latches.write_blocked(&point("a"), None));
        let both = vec![Span::point(&Key::from("a")), Span::point(&Key::from("b"))];
        latches.wait(LatchId(2), both.clone());
        // b is free, but the second command is before us.
        assert!(latches.write_blocked(&point("b"), None));
        latches.release(LatchId(1));
        assert!(!latches.write_blocked(&both, Some(LatchId(2))));
        latches.acquire(LatchId(2), both, Timestamp(11));
        assert!(latches.write_blocked(&point("b"), None));
        latches.release(LatchId(2));
        assert!(!latches.write_blocked(&point("b"), None));
    }
}
