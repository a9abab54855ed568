//! What can be wrong with a history of transactions.

use std::fmt;

use super::cycle::Cycle;
use super::graph::Graph;
use super::history::Operation;

/// The kinds of anomaly. Names with a G are Adya's; G-single and G-nonadjacent are parts of his G2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// The history itself makes no sense, so nothing was judged.
    Malformed,
    /// A transaction contradicts itself: it does not see what it wrote or read before.
    Internal,
    /// A read of what nobody ever wrote.
    Unwritten,
    /// A read of what a failed transaction wrote.
    G1a,
    /// A read of what its writer overwrote in the same transaction.
    G1b,
    /// A committed write on top of one that failed.
    DirtyUpdate,
    /// A value that was appended once and is there twice.
    Duplicate,
    /// Two reads that no single order of the writes explains.
    IncompatibleOrder,
    /// An acknowledged append that a later read misses, and nobody ever saw.
    LostAppend,
    /// Two transactions that read the same version and both overwrote it.
    LostUpdate,
    /// A cycle of ww.
    G0,
    /// A cycle of ww and wr with at least one wr.
    G1c,
    /// A cycle with exactly one rw. Snapshot isolation excludes it.
    GSingle,
    /// A cycle with several rw, no two of them in a row. Snapshot isolation excludes it.
    GNonadjacent,
    /// A cycle with several rw, some of them in a row. Serializability excludes it.
    G2Item,
}

impl Class {
    /// The usual name.
    pub fn name(self) -> &'static str {
        match self {
            Class::Malformed => "malformed history",
            Class::Internal => "internal inconsistency",
            Class::Unwritten => "unwritten read",
            Class::G1a => "G1a (aborted read)",
            Class::G1b => "G1b (intermediate read)",
            Class::DirtyUpdate => "dirty update",
            Class::Duplicate => "duplicated append",
            Class::IncompatibleOrder => "incompatible order",
            Class::LostAppend => "lost append",
            Class::LostUpdate => "lost update",
            Class::G0 => "G0 (write cycle)",
            Class::G1c => "G1c (circular information flow)",
            Class::GSingle => "G-single (read skew)",
            Class::GNonadjacent => "G-nonadjacent",
            Class::G2Item => "G2-item (anti-dependency cycle)",
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anomaly {
    pub class: Class,
    /// What happened, in a sentence.
    pub what: String,
    /// For cycles.
    pub cycle: Option<Cycle>,
}

impl Anomaly {
    pub fn new(class: Class, what: String) -> Anomaly {
        Anomaly { class, what, cycle: None }
    }
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class.name(), self.what)
    }
}

/// What an analysis comes to: anomalies, and the graph for further questions.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    pub anomalies: Vec<Anomaly>,
    /// The operations that took effect, in the order of their invocations.
    pub committed: Vec<Operation>,
    /// What puts one of them before another; nodes are places in `committed`.
    pub graph: Graph,
}
