//! Judges commit timestamps: do they keep real time, and what transactions saw of each other?
//!
//! External consistency: what was acknowledged before another began has the smaller timestamp. A transaction that only reads may
//! have the timestamp of a writer, whose writes it then sees.

use std::fmt;

use proto::Timestamp;

use super::anomaly::Judged;
use super::graph::Kind;
use super::history::Operation;

/// A transaction as far as its place in time goes. Times are nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timed {
    pub name: String,
    pub started_ns: u64,
    /// None if it was never acknowledged.
    pub ended_ns: Option<u64>,
    pub timestamp: Timestamp,
    /// Whether it wrote anything.
    pub writes: bool,
}

impl Timed {
    fn of(operation: &Operation) -> Option<Timed> {
        Some(Timed {
            name: format!("T{}", operation.began),
            started_ns: operation.started_ns,
            ended_ns: operation.ended_ns,
            timestamp: operation.timestamp?,
            writes: operation.writes().next().is_some(),
        })
    }
}

/// Why two timestamps have to be in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    RealTime,
    /// What the one wrote or read, the other overwrote or read.
    Data {
        kind: Kind,
        key: u64,
    },
}

/// Two timestamps out of order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub before: Timed,
    pub after: Timed,
    pub reason: Reason,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, after) = (&self.before, &self.after);
        match self.reason {
            Reason::RealTime => write!(f, "{} ended before {} began", before.name, after.name)?,
            Reason::Data { kind: Kind::Wr, key } => {
                write!(f, "{} read what {} wrote to key {key}", after.name, before.name)?
            }
            Reason::Data { kind: Kind::Rw, key } => {
                write!(f, "{} did not see {}'s write to key {key}", before.name, after.name)?
            }
            Reason::Data { key, .. } => write!(f, "{} overwrote {}'s write to key {key}", after.name, before.name)?,
        }
        match self.reason {
            Reason::RealTime => write!(f, ", but has timestamp {} against {}", before.timestamp, after.timestamp),
            Reason::Data { .. } => {
                let (b, a) = (before.timestamp, after.timestamp);
                write!(f, ", but {} has timestamp {a} and {} {b}", after.name, before.name)
            }
        }
    }
}

/// Transactions whose timestamps contradict real time, each with the worst of those before it. Only writers have to be kept behind.
/// Time O(n log n).
pub fn real_time(transactions: &[Timed]) -> Vec<Violation> {
    let mut by_start: Vec<&Timed> = transactions.iter().collect();
    by_start.sort_by_key(|timed| timed.started_ns);
    let mut by_end: Vec<(u64, &Timed)> =
        transactions.iter().filter(|t| t.writes).filter_map(|timed| Some((timed.ended_ns?, timed))).collect();
    by_end.sort_by_key(|(ended, _)| *ended);
    let mut ended = by_end.into_iter().peekable();
    let mut newest: Option<&Timed> = None;
    let mut found = Vec::new();
    for after in by_start {
        while let Some((_, before)) = ended.next_if(|(ended, _)| *ended < after.started_ns) {
            if newest.is_none_or(|newest| newest.timestamp < before.timestamp) {
                newest = Some(before);
            }
        }
        // A reader at the writer's own timestamp sees it.
        let late = |before: &Timed| {
            before.timestamp > after.timestamp || (after.writes && before.timestamp == after.timestamp)
        };
        if let Some(before) = newest.filter(|before| late(before)) {
            found.push(Violation { before: before.clone(), after: after.clone(), reason: Reason::RealTime });
        }
    }
    found
}

/// All that is wrong with the timestamps of a judged history: against real time, and against what follows from its data. Operations without a
/// timestamp are left out.
///
/// An overwrite has a greater timestamp than what it replaces, and than whoever read that. A read has no smaller one than what it saw.
pub fn judge(judged: &Judged) -> Vec<Violation> {
    let timed: Vec<Option<Timed>> = judged.committed.iter().map(Timed::of).collect();
    let mut found = real_time(&timed.iter().flatten().cloned().collect::<Vec<_>>());
    for step in judged.graph.steps() {
        let (Some(before), Some(after)) = (&timed[step.from], &timed[step.to]) else { continue };
        let in_order = match step.edge.kind {
            Kind::Ww | Kind::Rw => before.timestamp < after.timestamp,
            Kind::Wr => before.timestamp <= after.timestamp,
            Kind::Process | Kind::RealTime => continue,
        };
        if !in_order {
            let reason = Reason::Data { kind: step.edge.kind, key: step.edge.key };
            found.push(Violation { before: before.clone(), after: after.clone(), reason });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{append, testing};
    use crate::sim::rng::Rng;

    fn timed(started_ns: u64, ended_ns: u64, timestamp: u64, writes: bool) -> Timed {
        let name = format!("T{started_ns}");
        Timed { name, started_ns, ended_ns: Some(ended_ns), timestamp: Timestamp(timestamp), writes }
    }

    #[test]
    fn only_what_ended_before_counts() {
        let writer = timed(0, 10, 5, true);
        assert_eq!(real_time(&[writer.clone(), timed(10, 20, 1, true)]), []);
        assert_eq!(real_time(&[writer.clone(), timed(11, 20, 6, true), timed(11, 20, 5, false)]), []);
        let mut unacknowledged = writer.clone();
        unacknowledged.ended_ns = None;
        assert_eq!(real_time(&[unacknowledged, timed(11, 20, 1, true)]), []);
        // Readers keep nobody behind.
        assert_eq!(real_time(&[timed(0, 1, 9, false), timed(2, 3, 1, true)]), []);
        for late in [timed(11, 20, 5, true), timed(11, 20, 4, false)] {
            let found = real_time(&[late, writer.clone()]);
            assert_eq!(found.len(), 1);
            assert!(found[0].to_string().starts_with("T0 ended before T11 began, but has timestamp"));
        }
    }

    #[test]
    fn dependencies_order_timestamps() {
        let judged = |timestamps: [u64; 3]| {
            let mut history = testing::concurrent("ok a1=1 | ok r1=[1] a2=1 | ok a1=2 r1=[1,2]");
            let ends = history.events.iter_mut().skip(3);
            ends.zip(timestamps).for_each(|(event, at)| event.timestamp = Some(Timestamp(at)));
            judge(&append::judge(&history)).iter().map(Violation::to_string).collect::<Vec<_>>()
        };
        assert_eq!(judged([1, 1, 2]), Vec::<String>::new());
        assert!(judged([2, 1, 3])[0].starts_with("T1 read what T0 wrote to key 1"));
        assert!(judged([2, 2, 2]).iter().any(|v| v.starts_with("T2 overwrote T0's write to key 1")));
        assert!(judged([1, 3, 2])[0].starts_with("T1 did not see T2's write to key 1"));
    }

    #[test]
    fn serial_histories_pass_and_a_planted_timestamp_is_found() {
        for seed in 0..50 {
            let mut rng = Rng::new(seed, "commit order");
            let mut history = testing::random_lists(&mut rng, 150, 4);
            assert_eq!(judge(&append::judge(&history)), [], "seed {seed}");
            let late = history.events.iter_mut().rfind(|event| event.timestamp.is_some()).expect("one committed");
            late.timestamp = Some(Timestamp(1));
            assert_ne!(judge(&append::judge(&history)), [], "seed {seed}");
        }
    }
}
