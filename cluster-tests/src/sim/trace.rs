//! What happened, as a hash: two runs of a seed must agree in every event.
//!
//! The hash is kept every so many events (the *ladder*), so that the first event in which two runs differ is found without keeping them all: the
//! first rung that differs says where to look, and runs that tell of that window show it.

use std::ops::Range;

/// Events from one rung of the ladder to the next.
pub const RUNG: u64 = 1000;

/// A hash over everything that happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    pub hash: u64,
    pub events: u64,
    /// The hash after each [`RUNG`] events.
    pub ladder: Vec<u64>,
    /// Events that are kept in words.
    pub window: Range<u64>,
    pub words: Vec<String>,
}

/// Words of eight bytes, folded. Not FNV over bytes, which would be slow on messages.
pub fn fold(mut hash: u64, part: u64) -> u64 {
    hash = (hash ^ part).wrapping_mul(0x0100_0000_01b3);
    hash.rotate_left(23)
}

/// The same over a message.
pub fn fold_bytes(bytes: &[u8]) -> u64 {
    let mut chunks = bytes.chunks_exact(8);
    let mut hash = bytes.len() as u64;
    for chunk in chunks.by_ref() {
        hash = fold(hash, u64::from_le_bytes(chunk.try_into().expect("eight bytes")));
    }
    chunks.remainder().iter().fold(hash, |hash, byte| fold(hash, u64::from(*byte)))
}

impl Trace {
    pub fn add(&mut self, what: &str, parts: &[u64]) {
        if self.window.contains(&self.events) {
            self.words.push(format!("{} {what} {parts:?}", self.events));
        }
        self.events += 1;
        self.hash = parts.iter().fold(fold(self.hash, what.len() as u64), |hash, part| fold(hash, *part));
        if self.events.is_multiple_of(RUNG) {
            self.ladder.push(self.hash);
        }
    }
}

/// Between which events two runs with these ladders come apart for the first time; none if they agree as far as both go.
pub fn parting(left: &[u64], right: &[u64]) -> Option<Range<u64>> {
    let rung = left.iter().zip(right).position(|(left, right)| left != right)? as u64;
    Some(rung * RUNG..(rung + 1) * RUNG)
}

/// The first pair of events in words that differ.
pub fn first_difference(left: &[String], right: &[String]) -> Option<String> {
    let ended = "(the run ended)".to_string();
    let length = left.len().max(right.len());
    let pair = |at: usize| (left.get(at).unwrap_or(&ended), right.get(at).unwrap_or(&ended));
    (0..length).map(pair).find(|(left, right)| left != right).map(|(left, right)| format!("{left}  against  {right}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_event_that_differs_is_found() {
        let run = |window: Range<u64>, odd: u64| {
            let mut trace = Trace { window, ..Trace::default() };
            (0..5000).for_each(|event| trace.add("event", &[if event == odd { 1 } else { 0 }]));
            trace
        };
        let (left, right) = (run(0..0, 3456), run(0..0, 9999));
        let window = parting(&left.ladder, &right.ladder).expect("they differ");
        assert_eq!(window, 3000..4000);
        let (left, right) = (run(window.clone(), 3456), run(window, 9999));
        let difference = first_difference(&left.words, &right.words).expect("they differ");
        assert_eq!(difference, "3456 event [1]  against  3456 event [0]");
        assert_eq!(parting(&left.ladder, &left.ladder), None);
    }
}
