//! Cycles in a graph of transactions, by class.
//!
//! Each class of Adya's is a shape of cycles. They are looked for from the narrowest to the widest, first with dependencies on data
//! alone, then with the order of each process, then with real time; a component in which a cycle was found already is left alone by
//! the wider searches, so that one mistake is reported once and under its worst name.
//!
//! Source: Kingsbury and Alvaro, "Elle: Inferring Isolation Anomalies from Experimental Observations", VLDB 2020.

use std::collections::BTreeSet;
use std::fmt::{self, Write};

use super::anomaly::{Anomaly, Class};
use super::graph::{Edge, Graph, Kind, Order, Shape, Step};
use super::history::Operation;

/// Edges that the search for short cycles may look at in one graph. Past this cycles may be longer than they need be, and be
/// reported under a wider class; none is missed altogether, because the first search of the widest class always has its turn.
const WORK_MAX: u64 = 20_000_000;

/// A cycle: each transaction must come before the next, and the last before the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cycle {
    pub class: Class,
    /// The widest promise that one of its edges rests on.
    pub order: Order,
    /// From operation to operation, which are numbered as in `operations`.
    pub steps: Vec<Step>,
    /// The short name and the content of each transaction, in the order of the steps' tails.
    pub operations: Vec<(String, String)>,
}

/// All cycles that break serializability, one a component at most, or the real-time order. Nodes of the graph are places in `operations`.
pub fn anomalies(graph: &Graph, operations: &[Operation]) -> Vec<Anomaly> {
    const CLASSES: [Class; 5] = [Class::G0, Class::G1c, Class::GSingle, Class::GNonadjacent, Class::G2Item];
    let mut told: BTreeSet<usize> = BTreeSet::new();
    let mut found = Vec::new();
    let mut work = WORK_MAX;
    for order in [Order::Data, Order::Process, Order::RealTime] {
        for class in CLASSES {
            let shape = ClassShape { class, order };
            for component in graph.components(|edge| shape.counts(edge)) {
                if component.iter().any(|node| told.contains(node)) {
                    continue;
                }
                let last = class == Class::G2Item;
                let mut reserve = if last { u64::MAX } else { 0 };
                let work = if last && work == 0 { &mut reserve } else { &mut work };
                if let Some(steps) = graph.shortest_cycle(&component, &shape, work) {
                    let steps = shortcut(&steps, order, operations);
                    told.extend(steps.iter().map(|step| step.from));
                    found.push(Cycle::new(class, steps, operations).into_anomaly());
                }
            }
        }
    }
    found
}

/// Leads a cycle from one operation straight to another where the order of a process or real time allows it; the graph has only the edges
/// from which that order follows. The first step, and each rw, stays: they make the class.
fn shortcut(steps: &[Step], order: Order, operations: &[Operation]) -> Vec<Step> {
    let straight = |from: usize, to: usize| {
        let (a, b) = (&operations[from], &operations[to]);
        let in_time = a.ended.is_some_and(|ended| ended < b.began);
        let (kind, needs, key) = match order {
            Order::Process | Order::RealTime if in_time && a.process == b.process => {
                (Kind::Process, Order::Process, a.process)
            }
            Order::RealTime if in_time => (Kind::RealTime, Order::RealTime, 0),
            _ => return None,
        };
        Some(Step { from, to, edge: Edge { kind, needs, key, before: None, after: None } })
    };
    let mut short = vec![steps[0]];
    let mut at = 1;
    while at < steps.len() {
        let run = steps[at..].iter().take_while(|step| step.edge.kind != Kind::Rw).count();
        let jump = (at + 1..at + run).rev().find_map(|end| Some((end, straight(steps[at].from, steps[end].to)?)));
        let (end, step) = jump.unwrap_or((at, steps[at]));
        short.push(step);
        at = end + 1;
    }
    short
}

/// The cycles of one class, with the help of an order.
struct ClassShape {
    class: Class,
    order: Order,
}

impl ClassShape {
    fn counts(&self, edge: &Edge) -> bool {
        let kind = match edge.kind {
            Kind::Ww | Kind::Process | Kind::RealTime => true,
            Kind::Wr => self.class >= Class::G1c,
            Kind::Rw => self.class >= Class::GSingle,
        };
        kind && edge.needs <= self.order
    }
}

/// States of the automaton: whether the last edge was rw, and whether there was an rw after the first edge.
const LAST: u8 = 1;
const ANOTHER: u8 = 2;

impl Shape for ClassShape {
    fn first(&self, edge: &Edge) -> Option<u8> {
        let needed = match self.class {
            Class::G0 => Kind::Ww,
            Class::G1c => Kind::Wr,
            _ => Kind::Rw,
        };
        let starts = edge.kind == needed && self.counts(edge);
        starts.then_some(if needed == Kind::Rw { LAST } else { 0 })
    }

    fn next(&self, state: u8, edge: &Edge) -> Option<u8> {
        if !self.counts(edge) {
            return None;
        }
        if edge.kind != Kind::Rw {
            return Some(state & ANOTHER);
        }
        let fits = match self.class {
            Class::GNonadjacent => state & LAST == 0,
            Class::G2Item => true,
            _ => false,
        };
        fits.then_some(LAST | ANOTHER)
    }

    fn closes(&self, state: u8) -> bool {
        match self.class {
            Class::GNonadjacent => state == ANOTHER,
            Class::G2Item => state & ANOTHER != 0,
            _ => true,
        }
    }
}

impl Cycle {
    fn new(class: Class, steps: Vec<Step>, operations: &[Operation]) -> Cycle {
        let order = steps.iter().map(|step| step.edge.needs).max().unwrap_or(Order::Data);
        let describe = |step: &Step| {
            let operation = &operations[step.from];
            (format!("T{}", operation.began), operation.to_string())
        };
        Cycle { class, order, operations: steps.iter().map(describe).collect(), steps }
    }

    fn into_anomaly(self) -> Anomaly {
        Anomaly { class: self.class, what: self.to_string(), cycle: Some(self) }
    }

    /// The names of a step's ends.
    fn ends(&self, number: usize) -> (&str, &str) {
        (&self.operations[number].0, &self.operations[(number + 1) % self.operations.len()].0)
    }

    /// The cycle as a graph in the language of Graphviz.
    pub fn dot(&self) -> String {
        let mut out = String::from("digraph cycle {\n");
        for (name, content) in &self.operations {
            let _ = writeln!(out, "  {name} [label={content:?}];");
        }
        for (number, step) in self.steps.iter().enumerate() {
            let (from, to) = self.ends(number);
            let reason = reason(&step.edge, from, to);
            let _ = writeln!(out, "  {from} -> {to} [label={reason:?}];");
        }
        out + "}\n"
    }
}

/// Why one transaction comes before another.
fn reason(edge: &Edge, from: &str, to: &str) -> String {
    let Edge { key, before, after, .. } = edge;
    let version = |value: &Option<u64>| value.map_or("the initial state".to_string(), |value| format!("{value}"));
    let (before, after) = (version(before), version(after));
    let inferred = match edge.needs {
        Order::RealTime if edge.kind != Kind::RealTime => " (their order is inferred from real time)",
        _ => "",
    };
    match edge.kind {
        Kind::Ww => format!("{to} wrote {after} to key {key} over {from}'s {before}{inferred} (ww)"),
        Kind::Wr => format!("{to} read {before} of key {key}, which {from} wrote (wr)"),
        Kind::Rw => format!("{from} read {before} of key {key}, and {to} wrote {after} over it{inferred} (rw)"),
        Kind::Process => format!("process {key} did {from} before {to}"),
        Kind::RealTime => format!("{from} was acknowledged before {to} began"),
    }
}

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = match self.order {
            Order::Data => "",
            Order::Process => " with the order of processes",
            Order::RealTime => " with real time",
        };
        write!(f, "a cycle of {} transactions{whose}.", self.operations.len())?;
        for (_, content) in &self.operations {
            write!(f, "\n  {content}")?;
        }
        for (number, step) in self.steps.iter().enumerate() {
            let (from, to) = self.ends(number);
            write!(f, "\n  {from} comes before {to}: {}.", reason(&step.edge, from, to))?;
        }
        Ok(())
    }
}
