//! Judges single operations on registers: is each key linearizable?
//!
//! Every operation writes or reads one key, and must seem to happen at one moment between its invocation and its acknowledgement. Keys
//! are judged one by one, because a system is linearizable exactly if each of its objects is. The search tries orders, each operation as
//! early as it can go, and remembers which sets of operations with which value in the register it has seen to lead nowhere. It may take
//! exponential time, so it has a bound and may end undecided.
//!
//! Sources: Herlihy and Wing, "Linearizability: A Correctness Condition for Concurrent Objects", 1990; Wing and Gong, "Testing and
//! Verifying Concurrent Objects", 1993; Lowe, "Testing for Linearizability", 2017.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::history::{Found, History, Micro, Operation, Outcome};

/// What a search comes to, for one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// No order of the operations explains what they saw.
    Violated {
        key: u64,
        /// The most operations that could be put in order.
        explained: usize,
        /// An operation that never fitted behind so many.
        stuck: String,
    },
    /// The search was given up after this many steps.
    Undecided { key: u64, steps: u64 },
    /// The history makes no sense, or is not one of single operations on registers.
    Malformed { why: String },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Violated { key, explained, stuck } => {
                write!(f, "key {key} is not linearizable: after {explained} operations nothing explains {stuck}")
            }
            Finding::Undecided { key, steps } => {
                write!(f, "whether key {key} is linearizable is undecided after {steps} steps")
            }
            Finding::Malformed { why } => f.write_str(why),
        }
    }
}

/// What is wrong or undecided, by key; nothing if all keys are linearizable. Each key's search takes at most `steps_max` steps, and
/// memory in proportion.
///
/// Failed operations, and reads of unknown outcome, say nothing and are left out.
pub fn judge(history: &History, steps_max: u64) -> Vec<Finding> {
    let operations = match history.operations() {
        Ok(operations) => operations,
        Err(why) => return vec![Finding::Malformed { why: why.to_string() }],
    };
    let mut keys: BTreeMap<u64, Vec<Call>> = BTreeMap::new();
    for operation in operations.iter().filter(|operation| operation.outcome != Outcome::Failed) {
        match Call::of(operation) {
            Some((key, call)) => keys.entry(key).or_default().push(call),
            None => return vec![Finding::Malformed { why: format!("{operation} is not one operation on a register") }],
        }
    }
    let mut findings = Vec::new();
    for (key, mut calls) in keys {
        calls.retain(|call| call.ended.is_some() || matches!(call.action, Action::Write(_)));
        findings.extend(Search::new(&calls).run(key, &calls, steps_max));
    }
    findings
}

enum Action {
    Write(u64),
    Read(Option<u64>),
}

struct Call {
    began: u64,
    ended: Option<u64>,
    action: Action,
    name: String,
}

impl Call {
    fn of(operation: &Operation) -> Option<(u64, Call)> {
        let [micro] = operation.value.as_slice() else { return None };
        let (key, action) = match micro {
            Micro::Write { key, value } => (*key, Action::Write(*value)),
            Micro::Read { key, found: Found::Nil } => (*key, Action::Read(None)),
            Micro::Read { key, found: Found::One(value) } => (*key, Action::Read(Some(*value))),
            Micro::Append { .. } | Micro::Read { .. } => return None,
        };
        let Operation { began, ended, .. } = *operation;
        Some((key, Call { began, ended, action, name: operation.to_string() }))
    }

    /// What the register holds after it, if it can happen when the register holds this.
    fn apply(&self, register: Option<u64>) -> Option<Option<u64>> {
        match self.action {
            Action::Write(value) => Some(Some(value)),
            Action::Read(found) => (found == register).then_some(register),
        }
    }
}

/// An invocation or an acknowledgement: a link of the list of events that are not in order yet.
struct Link {
    call: usize,
    begins: bool,
    before: usize,
    after: usize,
}

/// The search's state. Link 0 is the head of the list.
struct Search {
    links: Vec<Link>,
    /// The acknowledgement of each call; none for a call that nobody acknowledged, which may happen at any later time or never.
    end_of: Vec<Option<usize>>,
    /// The calls put in order so far: their links, and what the register held before.
    path: Vec<(usize, Option<u64>)>,
    register: Option<u64>,
    done: Vec<u64>,
    seen: BTreeSet<(Vec<u64>, Option<u64>)>,
    /// Acknowledged calls that are not in order yet.
    left: usize,
}

impl Search {
    fn new(calls: &[Call]) -> Search {
        let mut events: BTreeMap<u64, (usize, bool)> = BTreeMap::new();
        for (number, call) in calls.iter().enumerate() {
            events.insert(call.began, (number, true));
            events.extend(call.ended.map(|ended| (ended, (number, false))));
        }
        let last = events.len();
        let mut links = vec![Link { call: usize::MAX, begins: false, before: last, after: 1 % (last + 1) }];
        let mut end_of = vec![None; calls.len()];
        for (call, begins) in events.into_values() {
            let here = links.len();
            if !begins {
                end_of[call] = Some(here);
            }
            links.push(Link { call, begins, before: here - 1, after: (here + 1) % (last + 1) });
        }
        Search {
            links,
            left: end_of.iter().flatten().count(),
            end_of,
            path: Vec::new(),
            register: None,
            done: vec![0; calls.len().div_ceil(64)],
            seen: BTreeSet::new(),
        }
    }

    fn run(mut self, key: u64, calls: &[Call], steps_max: u64) -> Option<Finding> {
        let mut at = self.links[0].after;
        let mut furthest = (0, String::new());
        let mut steps = 0;
        while self.left > 0 {
            steps += 1;
            if steps > steps_max {
                return Some(Finding::Undecided { key, steps: steps_max });
            }
            let Link { call, begins, after, .. } = self.links[at];
            if begins {
                at = if self.take(at, &calls[call]) { self.links[0].after } else { after };
                continue;
            }
            // An acknowledgement of what could not be put in order: something before it has to go elsewhere.
            if furthest.1.is_empty() || self.path.len() > furthest.0 {
                furthest = (self.path.len(), calls[call].name.clone());
            }
            match self.take_back() {
                Some(after) => at = after,
                None => return Some(Finding::Violated { key, explained: furthest.0, stuck: furthest.1 }),
            }
        }
        None
    }

    /// Puts a call next in order if that fits and leads to something new.
    fn take(&mut self, link: usize, call: &Call) -> bool {
        let Some(register) = call.apply(self.register) else { return false };
        let number = self.links[link].call;
        self.done[number / 64] ^= 1 << (number % 64);
        if !self.seen.insert((self.done.clone(), register)) {
            self.done[number / 64] ^= 1 << (number % 64);
            return false;
        }
        self.path.push((link, self.register));
        self.register = register;
        self.unlink(link);
        if let Some(end) = self.end_of[number] {
            self.unlink(end);
            self.left -= 1;
        }
        true
    }

    /// Takes the last call out of the order. Returns the link behind it.
    fn take_back(&mut self) -> Option<usize> {
        let (link, register) = self.path.pop()?;
        let number = self.links[link].call;
        self.register = register;
        self.done[number / 64] ^= 1 << (number % 64);
        if let Some(end) = self.end_of[number] {
            self.relink(end);
            self.left += 1;
        }
        self.relink(link);
        Some(self.links[link].after)
    }

    fn unlink(&mut self, link: usize) {
        let Link { before, after, .. } = self.links[link];
        self.links[before].after = after;
        self.links[after].before = before;
    }

    fn relink(&mut self, link: usize) {
        let Link { before, after, .. } = self.links[link];
        self.links[before].after = link;
        self.links[after].before = link;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing;
    use crate::sim::rng::Rng;

    const STEPS: u64 = 1_000_000;

    fn violated(history: &History) -> bool {
        matches!(judge(history, STEPS)[..], [Finding::Violated { .. }])
    }

    #[test]
    fn what_can_be_put_in_order_is_passed() {
        let good = [
            testing::serial("ok w1=1 | ok r1=1 | fail w1=2 | ok r1=1 | ok w2=7 | ok r2=7"),
            testing::concurrent("ok w1=1 | ok w1=2 | ok r1=1 | ok r1=2 | ok r1=-"),
            testing::serial("info w1=1 | ok r1=- | ok r1=1"),
            testing::serial("info w1=1 | ok r1=- | info r1=- | ok r1=-"),
        ];
        for history in good {
            assert_eq!(judge(&history, STEPS), []);
        }
    }

    #[test]
    fn what_cannot_is_found() {
        let bad = [
            ("a stale read", testing::serial("ok w1=1 | ok w1=2 | ok r1=1")),
            ("a lost write", testing::serial("ok w1=1 | ok r1=-")),
            ("a failed write that shows", testing::serial("fail w1=1 | ok r1=1")),
            ("a write that vanishes", testing::serial("info w1=1 | ok r1=1 | ok r1=-")),
            ("a value from nowhere", testing::serial("ok r1=5")),
        ];
        for (what, history) in bad {
            assert!(violated(&history), "{what}");
        }
    }

    #[test]
    fn hard_histories_are_undecided_and_others_refused() {
        let many: Vec<String> = (1..40).map(|n| format!("ok w1={n}")).collect();
        let hard = testing::concurrent(&format!("{} | ok r1=77", many.join(" | ")));
        assert_eq!(judge(&hard, 10_000), [Finding::Undecided { key: 1, steps: 10_000 }]);
        for other in ["ok w1=1 w2=1", "ok a1=1", "ok r1=[1]"] {
            assert!(matches!(judge(&testing::serial(other), STEPS)[..], [Finding::Malformed { .. }]), "{other}");
        }
    }

    #[test]
    fn serial_histories_pass_and_a_planted_stale_read_is_found() {
        let mut planted = 0;
        for seed in 0..100 {
            let mut rng = Rng::new(seed, "linearizable");
            let mut history = testing::random_registers(&mut rng, 120, 3, 1);
            assert_eq!(judge(&history, STEPS), [], "seed {seed}");
            if testing::plant_stale_register(&mut history, &mut rng) {
                planted += 1;
                assert!(violated(&history), "seed {seed}");
            }
        }
        assert!(planted > 50, "only {planted}");
    }
}
