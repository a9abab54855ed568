//! Transactions and what puts one before another.
//!
//! Nodes are numbers. An edge says by what its head must follow its tail in every serial order: a dependency on data (ww, wr, rw in
//! the sense of Adya, "Weak Consistency: A Generalized Theory and Optimistic Implementations for Distributed Transactions", 1999), the
//! order of one process, or real time. Whoever looks for a cycle chooses which edges count.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Why one transaction follows another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// It overwrote what the other wrote.
    Ww,
    /// It read what the other wrote.
    Wr,
    /// It overwrote what the other read.
    Rw,
    /// The same process did it later.
    Process,
    /// It began after the other was acknowledged.
    RealTime,
}

/// Which promises beyond serializability an edge rests on. Each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// None: it follows from the data alone.
    Data,
    /// That each process sees its own operations in order (strong session).
    Process,
    /// That what was acknowledged comes before what began later (strict).
    RealTime,
}

/// An edge without its ends. The versions say which data it is about; an order has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    pub kind: Kind,
    pub needs: Order,
    /// The key, or the process.
    pub key: u64,
    /// The earlier version: overwritten or read. None is the initial state.
    pub before: Option<u64>,
    /// The later version, where there is one.
    pub after: Option<u64>,
}

/// A step of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub from: usize,
    pub to: usize,
    pub edge: Edge,
}

/// What a cycle must be like: a small automaton that reads its edges from the first one on.
pub trait Shape {
    /// The state after this edge if a cycle may start with it.
    fn first(&self, edge: &Edge) -> Option<u8>;
    /// The state after one more edge, if there may be one.
    fn next(&self, state: u8, edge: &Edge) -> Option<u8>;
    /// Whether the cycle may close in this state.
    fn closes(&self, state: u8) -> bool;
}

/// Where a search for a cycle is: a node, and the state of the shape.
type Place = (usize, u8);

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    edges: Vec<BTreeMap<usize, Vec<Edge>>>,
}

impl Graph {
    pub fn new(nodes: usize) -> Graph {
        Graph { edges: vec![BTreeMap::new(); nodes] }
    }

    /// Adds an edge. One from a node to itself says nothing and is left out, as is one more of the same kind and need.
    pub fn add(&mut self, from: usize, to: usize, edge: Edge) {
        if from != to {
            let edges = self.edges[from].entry(to).or_default();
            if !edges.iter().any(|other| (other.kind, other.needs) == (edge.kind, edge.needs)) {
                edges.push(edge);
            }
        }
    }

    /// All edges, by tail and head.
    pub fn steps(&self) -> impl Iterator<Item = Step> + '_ {
        (0..self.edges.len()).flat_map(|from| self.steps_from(from))
    }

    fn steps_from(&self, from: usize) -> impl Iterator<Item = Step> + '_ {
        self.edges[from].iter().flat_map(move |(to, edges)| edges.iter().map(move |e| Step { from, to: *to, edge: *e }))
    }

    /// The strongly connected components of more than one node, over the edges that count; each in order. Time O(nodes + edges).
    ///
    /// Source: Tarjan, "Depth-First Search and Linear Graph Algorithms", 1972; with a stack of its own instead of recursion.
    pub fn components(&self, counts: impl Fn(&Edge) -> bool) -> Vec<Vec<usize>> {
        let heads = |node: usize| -> Vec<usize> {
            let counted = self.edges[node].iter().filter(|(_, edges)| edges.iter().any(&counts));
            counted.map(|(to, _)| *to).collect()
        };
        let mut search = Search::new(self.edges.len());
        for root in 0..self.edges.len() {
            if search.number[root].is_none() {
                search.visit(root, &heads);
            }
        }
        search.found
    }

    /// A shortest cycle of this shape inside a set of nodes.
    ///
    /// `work` bounds the number of edges that are looked at, and is reduced by it. When it runs out the best cycle so far is given; so is
    /// none, even if there is one.
    pub fn shortest_cycle(&self, within: &[usize], shape: &dyn Shape, work: &mut u64) -> Option<Vec<Step>> {
        let within: BTreeSet<usize> = within.iter().copied().collect();
        let mut best: Option<Vec<Step>> = None;
        for first in within.iter().flat_map(|node| self.steps_from(*node)) {
            let Some(state) = shape.first(&first.edge).filter(|_| within.contains(&first.to)) else { continue };
            let longest = best.as_ref().map_or(usize::MAX, Vec::len);
            if let Some(cycle) = self.close(&within, shape, first, state, longest, work) {
                best = Some(cycle);
            }
            if *work == 0 || best.as_ref().is_some_and(|best| best.len() == 2) {
                break;
            }
        }
        best
    }

    /// The shortest way back to where a first step began, if the whole is shorter than `longest`.
    fn close(
        &self,
        within: &BTreeSet<usize>,
        shape: &dyn Shape,
        first: Step,
        state: u8,
        longest: usize,
        work: &mut u64,
    ) -> Option<Vec<Step>> {
        let start = (first.to, state);
        let mut came: BTreeMap<Place, Option<(Place, Step)>> = BTreeMap::from([(start, None)]);
        let mut queue = VecDeque::from([(start, 1)]);
        while let Some((here, length)) = queue.pop_front() {
            if here.0 == first.from && shape.closes(here.1) {
                let mut cycle = Vec::new();
                let mut at = here;
                while let Some((before, step)) = came[&at] {
                    cycle.push(step);
                    at = before;
                }
                cycle.push(first);
                cycle.reverse();
                return Some(cycle);
            }
            if length + 1 >= longest {
                continue;
            }
            for step in self.steps_from(here.0).filter(|step| within.contains(&step.to)) {
                *work = work.checked_sub(1)?;
                let Some(state) = shape.next(here.1, &step.edge) else { continue };
                let there = (step.to, state);
                came.entry(there).or_insert_with(|| {
                    queue.push_back((there, length + 1));
                    Some((here, step))
                });
            }
        }
        None
    }
}

/// The state of Tarjan's search.
struct Search {
    next: usize,
    number: Vec<Option<usize>>,
    low: Vec<usize>,
    on_stack: Vec<bool>,
    stack: Vec<usize>,
    found: Vec<Vec<usize>>,
}

impl Search {
    fn new(nodes: usize) -> Search {
        Search {
            next: 0,
            number: vec![None; nodes],
            low: vec![0; nodes],
            on_stack: vec![false; nodes],
            stack: Vec::new(),
            found: Vec::new(),
        }
    }

    fn enter(&mut self, node: usize) {
        (self.number[node], self.low[node]) = (Some(self.next), self.next);
        self.next += 1;
        self.on_stack[node] = true;
        self.stack.push(node);
    }

    fn visit(&mut self, root: usize, heads: &dyn Fn(usize) -> Vec<usize>) {
        self.enter(root);
        let mut path = vec![(root, heads(root).into_iter())];
        while let Some((node, rest)) = path.last_mut() {
            let node = *node;
            if let Some(head) = rest.next() {
                match self.number[head] {
                    None => {
                        self.enter(head);
                        path.push((head, heads(head).into_iter()));
                    }
                    Some(number) if self.on_stack[head] => self.low[node] = self.low[node].min(number),
                    Some(_) => {}
                }
                continue;
            }
            path.pop();
            if let Some((parent, _)) = path.last() {
                self.low[*parent] = self.low[*parent].min(self.low[node]);
            }
            if self.number[node] == Some(self.low[node]) {
                self.leave(node);
            }
        }
    }

    /// A component is complete: everything above its root on the stack.
    fn leave(&mut self, root: usize) {
        let at = self.stack.iter().rposition(|node| *node == root).expect("a root is on the stack");
        let mut component = self.stack.split_off(at);
        for node in &component {
            self.on_stack[*node] = false;
        }
        if component.len() > 1 {
            component.sort_unstable();
            self.found.push(component);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WW: Edge = Edge { kind: Kind::Ww, needs: Order::Data, key: 0, before: None, after: None };

    struct Any;

    impl Shape for Any {
        fn first(&self, _: &Edge) -> Option<u8> {
            Some(0)
        }
        fn next(&self, _: u8, _: &Edge) -> Option<u8> {
            Some(0)
        }
        fn closes(&self, _: u8) -> bool {
            true
        }
    }

    fn graph(nodes: usize, edges: &[(usize, usize)]) -> Graph {
        let mut graph = Graph::new(nodes);
        for (from, to) in edges {
            graph.add(*from, *to, WW);
        }
        graph
    }

    #[test]
    fn components_are_found_and_single_nodes_left_out() {
        let graph = graph(7, &[(0, 1), (1, 2), (2, 0), (2, 3), (3, 4), (4, 3), (5, 6), (6, 6)]);
        let mut found = graph.components(|_| true);
        found.sort();
        assert_eq!(found, [vec![0, 1, 2], vec![3, 4]]);
        assert!(graph.components(|edge| edge.kind == Kind::Rw).is_empty());
    }

    #[test]
    fn a_long_chain_needs_no_deep_stack() {
        let mut edges: Vec<(usize, usize)> = (0..100_000).map(|n| (n, n + 1)).collect();
        edges.push((100_000, 0));
        assert_eq!(graph(100_001, &edges).components(|_| true)[0].len(), 100_001);
    }

    #[test]
    fn the_shortest_cycle_is_found_within_the_work_allowed() {
        let graph = graph(6, &[(0, 1), (1, 2), (2, 3), (3, 0), (2, 4), (4, 1)]);
        let component = &graph.components(|_| true)[0];
        let cycle = graph.shortest_cycle(component, &Any, &mut 1000).expect("there is one");
        assert_eq!(cycle.len(), 3);
        assert!(cycle.iter().zip(cycle.iter().cycle().skip(1)).all(|(a, b)| a.to == b.from));
        assert_eq!(graph.shortest_cycle(component, &Any, &mut 1), None);
    }
}
