//! Makes a failing run small: fewer faults, fewer fault points, less time, fewer nodes, fewer operations.
//!
//! Whatever is left out changes all that comes after it, so a smaller run fails by another path, or not at all; it counts if it fails in the same
//! [way](Failure). What is cheapest to leave out, and shortens the run most, goes first.

use std::collections::BTreeSet;

use server::probe::Point;

use crate::scenario::{Failure, Run, attempt};
use crate::script::Script;
use crate::shrink::shrink;

/// Runs that may be tried.
pub const TRIES: usize = 600;

const SECOND: u64 = 1_000_000_000;

struct Reducer<R> {
    script: Script,
    failure: Failure,
    tries: usize,
    run: R,
}

/// The smallest script found that fails in the same way within so many tries. `run` runs one.
pub fn reduce(script: Script, failure: Failure, tries: usize, run: impl FnMut(&Script) -> Run) -> Script {
    let mut reducer = Reducer { script, failure, tries, run };
    reducer.faults();
    reducer.time();
    reducer.sooner();
    reducer.minority();
    reducer.points();
    reducer.nodes();
    reducer.operations();
    reducer.faults();
    reducer.time();
    reducer.script
}

/// Runs a script as it stands.
pub fn run(script: &Script) -> Run {
    attempt(script.work, script.options())
}

impl<R: FnMut(&Script) -> Run> Reducer<R> {
    fn fails(&mut self, script: &Script) -> bool {
        if self.tries == 0 {
            return false;
        }
        self.tries -= 1;
        (self.run)(script).verdict.failure == Some(self.failure)
    }

    /// Takes a candidate if it fails. Says whether it did.
    fn take(&mut self, candidate: Script) -> bool {
        let fails = self.fails(&candidate);
        if fails {
            self.script = candidate;
        }
        fails
    }

    fn faults(&mut self) {
        let script = self.script.clone();
        let faults =
            shrink(script.faults.clone(), |faults| self.fails(&Script { faults: faults.to_vec(), ..script.clone() }));
        self.script.faults = faults;
    }

    fn time(&mut self) {
        let last = self.script.faults.iter().map(|(at, _)| *at).max().unwrap_or(0);
        for after in [SECOND / 10, SECOND / 2, SECOND, 2 * SECOND, 4 * SECOND, 8 * SECOND] {
            let unquiet_ns = last + after;
            if unquiet_ns < self.script.unquiet_ns && self.take(Script { unquiet_ns, ..self.script.clone() }) {
                return;
            }
        }
    }

    /// Lets the faults strike sooner. A client does one thing after the other, so whatever it does before the first fault is needed only to
    /// be as late as that.
    fn sooner(&mut self) {
        const PARTS: u64 = 8;
        let first = self.script.faults.iter().map(|(at, _)| *at).min().unwrap_or(0);
        for part in (1..=PARTS).rev() {
            let by = first / PARTS * part;
            let faults = self.script.faults.iter().map(|(at, fault)| (at - by, fault.clone())).collect();
            let unquiet_ns = self.script.unquiet_ns.saturating_sub(by);
            if by > 0 && self.take(Script { faults, unquiet_ns, ..self.script.clone() }) {
                return;
            }
        }
    }

    fn minority(&mut self) {
        if self.script.abandon.is_some() {
            self.take(Script { abandon: None, ..self.script.clone() });
        }
    }

    fn points(&mut self) {
        let script = self.script.clone();
        let points: Vec<(Point, u64)> = script.points.clone().into_iter().collect();
        let points =
            shrink(points, |points| self.fails(&Script { points: points.iter().copied().collect(), ..script.clone() }));
        self.script.points = points.into_iter().collect();
    }

    fn nodes(&mut self) {
        while self.script.nodes > 3 {
            let nodes = self.script.nodes - 1;
            let fits = self.script.faults.iter().all(|(_, fault)| fault.greatest_node() < nodes);
            if !fits || self.script.abandon.is_some() || !self.take(Script { nodes, ..self.script.clone() }) {
                return;
            }
        }
    }

    fn operations(&mut self) {
        if self.script.operations.is_none() {
            let begun = (self.run)(&self.script).begun;
            if !self.take(Script { operations: Some(begun), ..self.script.clone() }) {
                return;
            }
        }
        let script = self.script.clone();
        let operations = script.operations.clone().unwrap_or_default();
        // Whole clients first.
        let clients: BTreeSet<usize> = operations.iter().map(|operation| operation.client).collect();
        let of = |clients: &[usize]| -> Vec<_> {
            operations.iter().filter(|operation| clients.contains(&operation.client)).cloned().collect()
        };
        let clients = shrink(clients.into_iter().collect(), |clients| {
            self.fails(&Script { operations: Some(of(clients)), ..script.clone() })
        });
        let operations = shrink(of(&clients), |operations| {
            self.fails(&Script { operations: Some(operations.to_vec()), ..script.clone() })
        });
        self.script.operations = Some(operations);
    }
}
