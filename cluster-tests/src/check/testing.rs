//! Histories for the tests of the checkers: written by hand in few letters, or drawn at random.

use std::collections::{BTreeMap, BTreeSet};

use proto::Timestamp;

use super::history::{Event, Found, History, Kind, Micro, Operation, Outcome};
use crate::sim::rng::Rng;

/// An operation in a few letters: its outcome, then `a1=2` (append 2 to key 1), `w1=2`, `r1=2`, `r1=[1,2]` and `r1=-` (nil). A leading
/// `p7` names the process.
fn parse(line: &str, number: u64) -> (u64, Kind, Vec<Micro>) {
    let (mut process, mut kind, mut value) = (number, Kind::Ok, Vec::new());
    for word in line.split_whitespace() {
        match (word, word.split_once('=')) {
            ("ok", _) => kind = Kind::Ok,
            ("fail", _) => kind = Kind::Fail,
            ("info", _) => kind = Kind::Info,
            (_, None) => process = 1000 + word[1..].parse::<u64>().expect("a process has a number"),
            (_, Some((what, result))) => {
                let key = what[1..].parse().expect("a key is a number");
                let numbers = |text: &str| text.split(',').filter_map(|n| n.parse().ok()).collect::<Vec<u64>>();
                value.push(match &what[..1] {
                    "a" => Micro::Append { key, value: numbers(result)[0] },
                    "w" => Micro::Write { key, value: numbers(result)[0] },
                    _ => {
                        let found = match result.strip_prefix('[') {
                            Some(list) => Found::List(numbers(list.trim_end_matches(']'))),
                            None => numbers(result).first().map_or(Found::Nil, |value| Found::One(*value)),
                        };
                        Micro::Read { key, found }
                    }
                });
            }
        }
    }
    (process, kind, value)
}

fn asked(value: &[Micro]) -> Vec<Micro> {
    let forget = |micro: &Micro| match micro {
        Micro::Read { key, .. } => Micro::Read { key: *key, found: Found::Nil },
        other => other.clone(),
    };
    value.iter().map(forget).collect()
}

/// Operations, separated by bars, one after the other.
pub fn serial(text: &str) -> History {
    let mut history = History::default();
    for (number, line) in (0..).zip(text.split('|')) {
        let (process, kind, value) = parse(line, number);
        history.record(Kind::Invoke, process, 2 * number, asked(&value));
        history.record(kind, process, 2 * number + 1, value);
    }
    history
}

/// Operations, separated by bars, that all overlap.
pub fn concurrent(text: &str) -> History {
    let mut history = History::default();
    let parsed: Vec<_> = (0..).zip(text.split('|')).map(|(number, line)| parse(line, number)).collect();
    for (process, _, value) in &parsed {
        history.record(Kind::Invoke, *process, 0, asked(value));
    }
    for (process, kind, value) in parsed {
        history.record(kind, process, 1, value);
    }
    history
}

/// A history of transactions of up to four appends and reads, which overlap but are serial in truth. Some fail, of some the outcome is unknown.
pub fn random_lists(rng: &mut Rng, operations: u64, keys: u64) -> History {
    random(rng, operations, keys, 4, true)
}

/// The same with writes and reads of registers, and up to so many of them in a transaction.
pub fn random_registers(rng: &mut Rng, operations: u64, keys: u64, micros_max: u64) -> History {
    random(rng, operations, keys, micros_max, false)
}

fn random(rng: &mut Rng, operations: u64, keys: u64, micros_max: u64, lists: bool) -> History {
    let mut state: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut events: BTreeMap<(u64, u64), (Kind, Vec<Micro>)> = BTreeMap::new();
    for number in 1..=operations {
        let kind = match rng.below(12) {
            0 => Kind::Fail,
            1 => Kind::Info,
            _ => Kind::Ok,
        };
        let mut after = state.clone();
        let mut value = Vec::new();
        for micro in 0..rng.between(1, micros_max) {
            let key = rng.below(keys);
            let list = after.entry(key).or_default();
            let written = number * 10 + micro;
            value.push(match (rng.one_in(2), lists) {
                (true, true) => Micro::Read { key, found: Found::List(list.clone()) },
                (true, false) => Micro::Read { key, found: list.last().map_or(Found::Nil, |last| Found::One(*last)) },
                (false, lists) => {
                    list.push(written);
                    if lists { Micro::Append { key, value: written } } else { Micro::Write { key, value: written } }
                }
            });
        }
        if kind == Kind::Ok || (kind == Kind::Info && rng.one_in(2)) {
            state = after;
        }
        let commit = 100 + number * 10;
        events.insert((commit - 1 - rng.below(40), number), (Kind::Invoke, asked(&value)));
        let value = if kind == Kind::Ok { value } else { asked(&value) };
        events.insert((commit + rng.below(40), number), (kind, value));
    }
    hand_out(events)
}

/// Gives the operations of events by time and operation to processes.
fn hand_out(events: BTreeMap<(u64, u64), (Kind, Vec<Micro>)>) -> History {
    let mut history = History::default();
    let (mut free, mut busy, mut next) = (BTreeSet::new(), BTreeMap::new(), 0);
    for ((time, number), (kind, value)) in events {
        if kind == Kind::Invoke {
            let process = free.pop_first().unwrap_or_else(|| {
                next += 1;
                next
            });
            busy.insert(number, process);
            history.record(kind, process, time, value);
            continue;
        }
        let process = busy.remove(&number).expect("it was invoked");
        let event = history.record(kind, process, time, value);
        if kind == Kind::Ok {
            event.timestamp = Some(Timestamp(100 + number * 10));
        }
        if kind != Kind::Info {
            free.insert(process);
        }
    }
    history
}

/// The operation that an acknowledgement belongs to, by its index.
fn by_end(history: &History) -> BTreeMap<u64, Operation> {
    let operations = history.operations().expect("well-formed");
    operations.into_iter().filter_map(|operation| Some((operation.ended?, operation))).collect()
}

/// Makes one read of a register find a value that was overwritten before it began. Returns whether there was such a read.
pub fn plant_stale_register(history: &mut History, rng: &mut Rng) -> bool {
    let operations = by_end(history);
    let committed: Vec<&Operation> = operations.values().filter(|o| o.outcome == Outcome::Committed).collect();
    let mut places = Vec::new();
    for reader in &committed {
        let Some(Micro::Read { key, .. }) = reader.value.first() else { continue };
        let wrote = |operation: &Operation| operation.writes().filter(|(k, _)| k == key).last();
        let before = |a: &Operation, b: &Operation| a.ended.is_some_and(|ended| ended < b.began);
        let over = committed.iter().filter(|o| before(o, reader) && wrote(o).is_some());
        let stale = over.clone().find(|old| over.clone().any(|new| before(old, new)));
        places.extend(stale.and_then(|old| Some((reader.ended?, *key, wrote(old)?.1))));
    }
    if places.is_empty() {
        return false;
    }
    let (index, key, value) = *rng.pick(&places);
    history.events[index as usize].value[0] = Micro::Read { key, found: Found::One(value) };
    true
}

/// A read of a list: the place of its event and of the micro-operation, and what it found.
type ListRead = (usize, usize, u64, Vec<u64>);

fn list_reads(history: &History) -> Vec<ListRead> {
    let mut reads = Vec::new();
    for (place, Event { value, .. }) in history.events.iter().enumerate() {
        for (part, micro) in value.iter().enumerate() {
            if let Micro::Read { key, found: Found::List(list) } = micro {
                reads.push((place, part, *key, list.clone()));
            }
        }
    }
    reads
}

/// Plants one error of a random kind in a history of lists. Returns what it is, if there was a place for it.
pub fn plant_in_lists(history: &mut History, rng: &mut Rng) -> Option<&'static str> {
    let reads = list_reads(history);
    let (what, places): (_, Vec<ListRead>) = match rng.below(5) {
        0 => ("a stale read", stale(history, &reads)),
        1 => ("another order", swapped(&reads)),
        2 => ("a failed append that shows", dirty(history, &reads)),
        3 => ("a value from nowhere", changed(&reads, |list| list.push(7_777_777))),
        _ => ("a duplicate", changed(&reads, |list| list.extend(list.first().copied()))),
    };
    if places.is_empty() {
        return None;
    }
    let (place, part, key, list) = rng.pick(&places).clone();
    history.events[place].value[part] = Micro::Read { key, found: Found::List(list) };
    Some(what)
}

fn changed(reads: &[ListRead], change: impl Fn(&mut Vec<u64>)) -> Vec<ListRead> {
    let change = |read: &ListRead| {
        let mut read = read.clone();
        change(&mut read.3);
        read
    };
    reads.iter().filter(|read| !read.3.is_empty()).map(change).collect()
}

/// Reads without their last value, though it was acknowledged before they began.
fn stale(history: &History, reads: &[ListRead]) -> Vec<ListRead> {
    let operations = by_end(history);
    let mut acknowledged = BTreeMap::new();
    for (ended, operation) in operations.iter().filter(|(_, o)| o.outcome == Outcome::Committed) {
        acknowledged.extend(operation.writes().map(|write| (write, *ended)));
    }
    let seen_late = |(place, _, key, list): &&ListRead| {
        let began = operations[&(*place as u64)].began;
        list.last().and_then(|last| acknowledged.get(&(*key, *last))).is_some_and(|ended| *ended < began)
    };
    let late: Vec<ListRead> = reads.iter().filter(seen_late).cloned().collect();
    changed(&late, |list| list.truncate(list.len() - 1))
}

/// Reads with their first two values swapped, where another transaction read both.
fn swapped(reads: &[ListRead]) -> Vec<ListRead> {
    let others = |read: &&ListRead| {
        read.3.len() > 1 && reads.iter().any(|other| other.0 != read.0 && other.2 == read.2 && other.3.len() > 1)
    };
    let shared: Vec<ListRead> = reads.iter().filter(others).cloned().collect();
    changed(&shared, |list| list.swap(0, 1))
}

/// Reads with a value more that a failed transaction appended.
fn dirty(history: &History, reads: &[ListRead]) -> Vec<ListRead> {
    let operations = by_end(history);
    let failed = operations.values().filter(|operation| operation.outcome == Outcome::Failed);
    let lost: BTreeMap<u64, u64> = failed.flat_map(|operation| operation.writes().collect::<Vec<_>>()).collect();
    let mut places = Vec::new();
    for (place, part, key, list) in reads {
        if let Some(value) = lost.get(key) {
            places.push((*place, *part, *key, [list.as_slice(), &[*value]].concat()));
        }
    }
    places
}
