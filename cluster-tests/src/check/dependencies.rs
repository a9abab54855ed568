//! What transactions read and wrote, as the graph of what puts one before another.
//!
//! Whoever knows which version of a key follows which (from lists that show it, or from transactions that read and then write) tells
//! it here, together with who wrote and who read what; the rest is the same for lists and registers.

use std::collections::{BTreeMap, BTreeSet};

use super::frontier;
use super::graph::{Edge, Graph, Kind, Order};
use super::history::Operation;

/// See the module. Transactions are places in a list of committed operations; versions are the values written.
#[derive(Clone, Debug, Default)]
pub struct Dependencies {
    writers: BTreeMap<(u64, u64), usize>,
    /// The versions that follow one (none: the initial state) of a key, directly or not, with the promise by which they do.
    next: BTreeMap<(u64, Option<u64>), BTreeMap<u64, Order>>,
    reads: BTreeSet<(usize, u64, Option<u64>)>,
}

impl Dependencies {
    pub fn wrote(&mut self, transaction: usize, key: u64, value: u64) {
        self.writers.insert((key, value), transaction);
    }

    /// It read this version, which is not its own.
    pub fn read(&mut self, transaction: usize, key: u64, found: Option<u64>) {
        self.reads.insert((transaction, key, found));
    }

    /// In every order that keeps this promise one version of a key lies before another.
    pub fn follows(&mut self, key: u64, before: Option<u64>, after: u64, by: Order) {
        let known = self.next.entry((key, before)).or_default().entry(after).or_insert(by);
        *known = by.min(*known);
    }

    /// The graph of these dependencies, and of the order of processes and real time.
    pub fn graph(&self, operations: &[Operation]) -> Graph {
        let mut graph = Graph::new(operations.len());
        for ((key, before), nexts) in &self.next {
            let from = before.and_then(|before| self.writers.get(&(*key, before)));
            for (after, needs) in nexts {
                if let (Some(from), Some(to)) = (from, self.writers.get(&(*key, *after))) {
                    let edge = Edge { kind: Kind::Ww, needs: *needs, key: *key, before: *before, after: Some(*after) };
                    graph.add(*from, *to, edge);
                }
            }
        }
        for (reader, key, found) in &self.reads {
            let edge = Edge { kind: Kind::Wr, needs: Order::Data, key: *key, before: *found, after: None };
            if let Some(from) = found.and_then(|found| self.writers.get(&(*key, found))) {
                graph.add(*from, *reader, edge);
            }
            for (after, needs) in self.next.get(&(*key, *found)).into_iter().flatten() {
                if let Some(to) = self.writers.get(&(*key, *after)) {
                    graph.add(*reader, *to, Edge { kind: Kind::Rw, needs: *needs, after: Some(*after), ..edge });
                }
            }
        }
        add_orders(&mut graph, operations);
        graph
    }
}

fn add_orders(graph: &mut Graph, operations: &[Operation]) {
    let order = |kind, needs, key| Edge { kind, needs, key, before: None, after: None };
    let mut last: BTreeMap<u64, usize> = BTreeMap::new();
    for (number, operation) in operations.iter().enumerate() {
        if let Some(before) = last.insert(operation.process, number) {
            graph.add(before, number, order(Kind::Process, Order::Process, operation.process));
        }
    }
    let spans: Vec<_> = operations.iter().map(|operation| (operation.began, operation.ended)).collect();
    for (before, after) in frontier::pairs(&spans) {
        graph.add(before, after, order(Kind::RealTime, Order::RealTime, 0));
    }
}
