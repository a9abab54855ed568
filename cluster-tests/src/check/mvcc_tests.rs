//! The judge of MVCC reads, fed with a correct store and with errors of each class.

use super::*;
use crate::sim::rng::Rng;

fn key(name: &str) -> Key {
    Key(name.as_bytes().to_vec())
}

fn span(start: &str, end: &str) -> Span {
    Span { start: key(start), end: key(end) }
}

fn rows(text: &[(&str, &str)]) -> Vec<(Key, Value)> {
    text.iter().map(|(name, value)| (key(name), value.as_bytes().to_vec())).collect()
}

fn point(name: &str, found: Option<&str>) -> Read {
    Read::Point { key: key(name), found: found.map(|value| value.as_bytes().to_vec()) }
}

fn transaction(name: &str, ending: Ending, writes: &[(&str, Option<&str>)], reads: Vec<(u64, Read)>) -> Transaction {
    Transaction {
        name: name.into(),
        ending,
        serializable: true,
        writes: writes.iter().map(|(name, v)| (key(name), v.map(|v| v.as_bytes().to_vec()))).collect(),
        reads: reads.into_iter().map(|(at, read)| (Timestamp(at), read)).collect(),
    }
}

fn committed(at: u64, writes: &[(&str, Option<&str>)], reads: Vec<(u64, Read)>) -> Transaction {
    transaction(&format!("T{at}"), Ending::Committed(Timestamp(at)), writes, reads)
}

/// a = 1 at 10, b = 1 at 20, a = 2 at 30, b deleted at 40.
fn store() -> Vec<Transaction> {
    vec![
        committed(10, &[("a", Some("1"))], vec![]),
        committed(20, &[("b", Some("1"))], vec![]),
        committed(30, &[("a", Some("2"))], vec![]),
        committed(40, &[("b", None)], vec![]),
    ]
}

/// What is wrong when this transaction is added.
fn found(added: Transaction) -> Vec<Class> {
    let mut all = store();
    all.push(added);
    judge(&all).iter().map(|violation| violation.class).collect()
}

fn reads(at: u64, read: Read) -> Vec<Class> {
    let failed = found(transaction("reader", Ending::Failed, &[], vec![(at, read.clone())]));
    assert_eq!(found(committed(at, &[], vec![(at, read)])), failed);
    failed
}

#[test]
fn right_reads_are_passed() {
    assert_eq!(reads(9, point("a", None)), []);
    assert_eq!(reads(10, point("a", Some("1"))), []);
    assert_eq!(reads(39, point("b", Some("1"))), []);
    assert_eq!(reads(40, point("b", None)), []);
    let whole = |found: &[(&str, &str)]| Read::Scan { span: span("a", "z"), rows: rows(found) };
    assert_eq!(reads(5, whole(&[])), []);
    assert_eq!(reads(25, whole(&[("a", "1"), ("b", "1")])), []);
    assert_eq!(reads(45, whole(&[("a", "2")])), []);
    assert_eq!(reads(25, Read::Scan { span: span("a", "b"), rows: rows(&[("a", "1")]) }), []);
    assert_eq!(reads(25, Read::Scan { span: span("z", "a"), rows: vec![] }), []);
}

#[test]
fn each_wrong_read_has_its_class() {
    assert_eq!(reads(29, point("a", Some("2"))), [Class::WrongValue]);
    assert_eq!(reads(10, point("a", None)), [Class::Missing]);
    assert_eq!(reads(9, point("a", Some("1"))), [Class::Phantom]);
    assert_eq!(reads(40, point("b", Some("1"))), [Class::Phantom]);
    let whole = |found: &[(&str, &str)]| Read::Scan { span: span("a", "z"), rows: rows(found) };
    assert_eq!(reads(25, whole(&[("a", "1")])), [Class::Missing]);
    assert_eq!(reads(45, whole(&[("a", "2"), ("b", "1")])), [Class::Phantom]);
    assert_eq!(reads(45, whole(&[("a", "1")])), [Class::WrongValue]);
    assert_eq!(reads(25, whole(&[("b", "1"), ("a", "1")])), [Class::Disorder]);
    assert_eq!(
        reads(25, Read::Scan { span: span("b", "z"), rows: rows(&[("a", "1"), ("b", "1")]) }),
        [Class::Disorder]
    );
    assert_eq!(found(committed(30, &[("a", Some("3"))], vec![])), [Class::SameTimestamp]);
}

#[test]
fn serializable_reads_hold_at_the_commit_timestamp() {
    let empty = || vec![(15, Read::Scan { span: span("b", "z"), rows: vec![] })];
    assert_eq!(found(committed(19, &[], empty())), []);
    // A row has come into the span since: a phantom, which points would not show.
    let mut all = store();
    all.push(committed(25, &[("c", Some("1"))], empty()));
    let violations = judge(&all);
    assert!(violations[0].at_commit && violations[0].to_string().ends_with("its commit timestamp"), "{violations:?}");
    all[4].serializable = false;
    assert_eq!(judge(&all), []);
    // Its own write is no change.
    assert_eq!(found(committed(45, &[("c", Some("1"))], vec![(41, point("c", None))])), []);
}

#[test]
fn what_may_have_been_written_may_be_seen() {
    let mut all = store();
    all.push(transaction("unknown", Ending::Unknown, &[("a", Some("9")), ("d", Some("9"))], vec![]));
    all.push(committed(50, &[], vec![(50, point("a", Some("9"))), (50, point("d", None))]));
    all.push(committed(51, &[], vec![(51, point("a", Some("2"))), (51, point("d", Some("9")))]));
    assert_eq!(judge(&all), []);
    all.push(transaction("failed", Ending::Failed, &[("d", Some("8"))], vec![]));
    all.push(committed(52, &[], vec![(52, point("d", Some("8")))]));
    assert_eq!(judge(&all)[0].class, Class::Phantom);
}

/// A serial history in which transactions read at their commit timestamps.
fn random(rng: &mut Rng) -> Vec<Transaction> {
    let names = ["a", "b", "c", "d", "e", "f"];
    let mut state: BTreeMap<Key, Value> = BTreeMap::new();
    let mut transactions = Vec::new();
    for at in 1..120 {
        let mut reads = Vec::new();
        for _ in 0..rng.below(3) {
            let (from, to) = (rng.below(6) as usize, rng.below(6) as usize);
            let read = if rng.one_in(2) {
                Read::Point { key: key(names[from]), found: state.get(&key(names[from])).cloned() }
            } else {
                let span = span(names[from.min(to)], names[from.max(to)]);
                let rows = state.range(&span.start..&span.end).map(|(k, v)| (k.clone(), v.clone())).collect();
                Read::Scan { span, rows }
            };
            reads.push((at, read));
        }
        let value = format!("{at}");
        let deletes = rng.one_in(4);
        let name = *rng.pick(&names);
        let writes: &[_] = if rng.one_in(3) { &[] } else { &[(name, Some(&*value).filter(|_| !deletes))] };
        let one = committed(at, writes, reads);
        for (key, value) in &one.writes {
            match value {
                Some(value) => drop(state.insert(key.clone(), value.clone())),
                None => drop(state.remove(key)),
            }
        }
        transactions.push(one);
    }
    transactions
}

#[test]
fn serial_histories_pass_and_one_planted_error_is_found() {
    for seed in 0..100 {
        let mut rng = Rng::new(seed, "mvcc");
        let mut transactions = random(&mut rng);
        assert_eq!(judge(&transactions), [], "seed {seed}");
        let reads: Vec<&mut Read> =
            transactions.iter_mut().flat_map(|t| t.reads.iter_mut().map(|(_, read)| read)).collect();
        let scans = reads.into_iter().filter_map(|read| match read {
            Read::Scan { rows, .. } if !rows.is_empty() => Some(rows),
            _ => None,
        });
        let mut scans: Vec<_> = scans.collect();
        let chosen = rng.below(scans.len() as u64) as usize;
        match rng.below(2) {
            0 => drop(scans[chosen].pop()),
            _ => scans[chosen][0].1 = b"other".to_vec(),
        }
        assert_ne!(judge(&transactions), [], "seed {seed}");
    }
}
