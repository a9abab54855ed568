//! What clients are to do: data, drawn before the run, each client's from a stream of its own.
//!
//! So operations can be left out one by one until only those are left that a failure needs, and written down a line each.

use std::fmt;
use std::sync::{Arc, Mutex};

use crate::sim::rng::Rng;

/// Clients of each node.
pub const CLIENTS: usize = 3;
/// Operations of each client: more than it comes to.
const OPERATIONS: usize = 2500;
/// Parts of a transaction on lists or registers.
const PARTS_MAX: u64 = 4;
/// Places that such a part may be about.
pub const PLACES: u64 = 6;
/// How far back they look at most: often about where timestamps are just being closed.
const BACK_US_MAX: [u64; 4] = [30_000, 150_000, 1_000_000, 5_000_000];
/// Accounts of the bank.
pub const ACCOUNTS: u64 = 12;

/// What the clients of a run do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    Bank,
    Append,
    Register,
    /// Under idempotency keys. Its clients draw their work as they go.
    Keyed,
}

impl Work {
    pub const ALL: [Work; 4] = [Work::Bank, Work::Append, Work::Register, Work::Keyed];

    pub fn name(self) -> &'static str {
        match self {
            Work::Bank => "bank",
            Work::Append => "append",
            Work::Register => "register",
            Work::Keyed => "keyed",
        }
    }

    pub fn named(name: &str) -> Option<Work> {
        Work::ALL.into_iter().find(|work| work.name() == name)
    }
}

/// A part of a transaction on lists or registers, which lie in numbered places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub place: u64,
    pub writes: bool,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Moves money between two accounts.
    Transfer { from: u64, to: u64, amount: u64, lock: bool },
    /// Looks at everything.
    Scan,
    /// Looks at everything as it was so long ago.
    ScanPast { back_us: u64 },
    /// Reads and writes some places.
    Transact { lock: bool, parts: Vec<Part> },
}

/// One operation of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// By node: the first [`CLIENTS`] are the first node's.
    pub client: usize,
    pub action: Action,
    /// How long the client rests afterwards.
    pub rest_us: u64,
}

/// Draws the operations of all clients of a run.
pub fn draw(work: Work, seed: u64, nodes: usize) -> Vec<Operation> {
    if work == Work::Keyed {
        return Vec::new();
    }
    (0..nodes * CLIENTS).flat_map(|client| draw_client(work, seed, client)).collect()
}

fn draw_client(work: Work, seed: u64, client: usize) -> Vec<Operation> {
    let mut rng = Rng::new(seed, &format!("client {client}"));
    // The last client of each node looks at everything, again and again.
    let scans = client % CLIENTS == CLIENTS - 1;
    // With registers, one client of each node does single operations.
    let parts_max = if work == Work::Register && client.is_multiple_of(CLIENTS) { 1 } else { PARTS_MAX };
    let mut draw = |_| {
        let action = match work {
            _ if scans && rng.one_in(2) => {
                let longest = *rng.pick(&BACK_US_MAX);
                Action::ScanPast { back_us: rng.below(longest) }
            }
            _ if scans => Action::Scan,
            Work::Bank => {
                let from = rng.below(ACCOUNTS);
                let to = (from + 1 + rng.below(ACCOUNTS - 1)) % ACCOUNTS;
                Action::Transfer { from, to, amount: rng.between(1, 10), lock: rng.one_in(2) }
            }
            Work::Append | Work::Register | Work::Keyed => {
                let parts = (0..rng.between(1, parts_max))
                    .map(|_| Part { place: rng.below(PLACES), writes: rng.one_in(2) })
                    .collect();
                Action::Transact { lock: rng.one_in(2), parts }
            }
        };
        let rest_us = if scans { rng.between(5_000, 55_000) } else { rng.below(20_000) };
        Operation { client, action, rest_us }
    };
    (0..OPERATIONS).map(&mut draw).collect()
}

impl Operation {
    /// Reads what [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Operation> {
        let mut words = text.split_whitespace();
        let client = words.next()?.parse().ok()?;
        let rest_us = words.next()?.parse().ok()?;
        let name = words.next()?;
        let rest: Vec<&str> = words.collect();
        let lock = rest.last() == Some(&"lock");
        let rest = &rest[..rest.len() - usize::from(lock)];
        let action = match (name, rest) {
            ("scan", []) => Action::Scan,
            ("past", [back]) => Action::ScanPast { back_us: back.parse().ok()? },
            ("transfer", [from, to, amount]) => {
                let number = |word: &str| word.parse().ok();
                Action::Transfer { from: number(from)?, to: number(to)?, amount: number(amount)?, lock }
            }
            ("transact", parts) => {
                Action::Transact { lock, parts: parts.iter().map(|part| Part::parse(part)).collect::<Option<_>>()? }
            }
            _ => return None,
        };
        Some(Operation { client, action, rest_us })
    }
}

impl Part {
    fn parse(text: &str) -> Option<Part> {
        let (what, place) = text.split_at_checked(1)?;
        let writes = match what {
            "w" => true,
            "r" => false,
            _ => return None,
        };
        Some(Part { place: place.parse().ok()?, writes })
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.client, self.rest_us)?;
        let lock = match &self.action {
            Action::Scan => return f.write_str("scan"),
            Action::ScanPast { back_us } => return write!(f, "past {back_us}"),
            Action::Transfer { from, to, amount, lock } => {
                write!(f, "transfer {from} {to} {amount}")?;
                lock
            }
            Action::Transact { lock, parts } => {
                f.write_str("transact")?;
                for part in parts {
                    write!(f, " {}{}", if part.writes { "w" } else { "r" }, part.place)?;
                }
                lock
            }
        };
        f.write_str(if *lock { " lock" } else { "" })
    }
}

/// The operations of a run, and how far each client has come. Clones share this; it outlives the clients' nodes.
#[derive(Clone, Debug, Default)]
pub struct Agenda {
    by_client: Arc<Vec<Vec<Operation>>>,
    begun: Arc<Mutex<Vec<usize>>>,
}

impl Agenda {
    pub fn new(operations: &[Operation]) -> Agenda {
        let mut by_client: Vec<Vec<Operation>> = Vec::new();
        for operation in operations {
            if by_client.len() <= operation.client {
                by_client.resize(operation.client + 1, Vec::new());
            }
            by_client[operation.client].push(operation.clone());
        }
        let begun = Arc::new(Mutex::new(vec![0; by_client.len()]));
        Agenda { by_client: Arc::new(by_client), begun }
    }

    /// What a client does next, if anything.
    pub fn next(&self, client: usize) -> Option<Operation> {
        let mut begun = self.begun.lock().expect("no holder of this lock panics");
        let next = begun.get_mut(client)?;
        let operation = self.by_client.get(client)?.get(*next)?.clone();
        *next += 1;
        Some(operation)
    }

    /// The operations that clients have come to, client by client.
    pub fn begun(&self) -> Vec<Operation> {
        let begun = self.begun.lock().expect("no holder of this lock panics");
        self.by_client.iter().zip(begun.iter()).flat_map(|(all, begun)| all[..*begun].iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_come_back_from_text() {
        for work in Work::ALL {
            for operation in draw(work, 3, 1).chunks(OPERATIONS).flat_map(|client| &client[..20]) {
                assert_eq!(Operation::parse(&operation.to_string()).as_ref(), Some(operation));
            }
            assert_eq!(Work::named(work.name()), Some(work));
        }
        assert_eq!(Operation::parse("0 1 transact x4"), None);
        assert_eq!(Operation::parse("0 1 transfer 1"), None);
    }

    #[test]
    fn each_client_goes_through_its_own() {
        let operations: Vec<Operation> =
            [0, 2, 0].map(|client| Operation { client, action: Action::Scan, rest_us: client as u64 }).into();
        let agenda = Agenda::new(&operations);
        assert!(agenda.next(0).is_some() && agenda.next(1).is_none() && agenda.next(7).is_none());
        assert_eq!(agenda.begun(), operations[..1]);
        assert!(agenda.next(0).is_some() && agenda.next(0).is_none());
    }
}
