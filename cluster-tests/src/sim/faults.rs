//! What goes wrong, and when: data, drawn before the run.

use super::rng::Rng;

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process dies, losing what was not synced, and starts again later.
    Crash { node: usize, down_ns: u64 },
    /// No message passes between the node and the others.
    Isolate { node: usize, for_ns: u64 },
    /// Nothing passes from one node to another; the other direction works.
    OneWay { from: usize, to: usize, for_ns: u64 },
    /// The process does nothing for a while and then goes on where it was.
    Pause { node: usize, for_ns: u64 },
    /// The disk syncs nothing for a while.
    DiskStall { node: usize, for_ns: u64 },
    /// The wall clock jumps to another error inside the bound.
    ClockJump { node: usize, to_ppm_of_bound: i64 },
    /// The wall clock leaves its bound, by so many milliseconds, and comes back later.
    ClockAstray { node: usize, by_ms: i64, for_ns: u64 },
    /// The first range with a boundary to spare is split.
    Split { key: u64 },
    /// The engine is flushed and the log cut.
    Flush { node: usize },
}

/// Faults by the time at which they strike, in nanoseconds since they were unleashed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultPlan(pub Vec<(u64, Fault)>);

const SECOND: u64 = 1_000_000_000;

impl FaultPlan {
    /// Draws a plan. Each seed has its own mix: some kinds of fault may be missing altogether.
    pub fn draw(rng: &mut Rng, nodes: usize, from_ns: u64, to_ns: u64) -> FaultPlan {
        let kinds: Vec<u64> = (0..8).filter(|_| !rng.one_in(3)).collect();
        let mut plan = Vec::new();
        let mut at = from_ns;
        let gap_max = rng.between(1, 4) * SECOND;
        while !kinds.is_empty() {
            at += rng.between(SECOND / 10, gap_max);
            if at >= to_ns {
                break;
            }
            let node = rng.below(nodes as u64) as usize;
            let for_ns = rng.between(SECOND / 50, 3 * SECOND);
            plan.push((at, Fault::draw(rng, *rng.clone().pick(&kinds), node, nodes, for_ns)));
        }
        FaultPlan(plan)
    }
}

/// Adds clocks that leave their bounds, by anything from a millisecond to years. No more than `at_once` of them at a time.
pub fn lead_clocks_astray(plan: &mut FaultPlan, rng: &mut Rng, nodes: usize, at_once: usize, to_ns: u64) {
    for _ in 0..at_once {
        // One after the other, so that each of these strands leads one clock astray at a time.
        let mut at = 0;
        loop {
            at += rng.between(SECOND / 10, 4 * SECOND);
            let for_ns = rng.between(SECOND / 10, 5 * SECOND);
            if at + for_ns >= to_ns {
                break;
            }
            let magnitude = 1 << rng.between(0, 38);
            let by_ms = if rng.one_in(2) { magnitude } else { -magnitude };
            let node = rng.below(nodes as u64) as usize;
            plan.0.push((at, Fault::ClockAstray { node, by_ms, for_ns }));
            at += for_ns;
        }
    }
    plan.0.sort_by_key(|(at, _)| *at);
}

impl Fault {
    fn draw(rng: &mut Rng, kind: u64, node: usize, nodes: usize, for_ns: u64) -> Fault {
        match kind {
            0 => Fault::Crash { node, down_ns: for_ns },
            1 => Fault::Isolate { node, for_ns },
            2 => {
                let to = (node + 1 + rng.below(nodes as u64 - 1) as usize) % nodes;
                Fault::OneWay { from: node, to, for_ns }
            }
            3 => Fault::Pause { node, for_ns },
            4 => Fault::DiskStall { node, for_ns },
            5 => Fault::ClockJump { node, to_ppm_of_bound: rng.between(0, 2_000_000) as i64 - 1_000_000 },
            6 => Fault::Split { key: rng.next() },
            _ => Fault::Flush { node },
        }
    }
}
