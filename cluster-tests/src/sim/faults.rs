//! What goes wrong, and when: data, drawn before the run, and written down a line each.

use std::fmt;

use super::rng::Rng;

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The node loses power, and what was not synced, and starts again later.
    Crash { node: usize, down_ns: u64 },
    /// The same, and a write that was under way is torn.
    Tear { node: usize, down_ns: u64 },
    /// The process dies; the operating system keeps what it has written.
    Kill { node: usize, down_ns: u64 },
    /// All nodes lose power at once.
    Blackout { down_ns: u64 },
    /// No message passes between the node and the others.
    Isolate { node: usize, for_ns: u64 },
    /// No message passes between the nodes of a set (by bits) and the others.
    Partition { set: u64, for_ns: u64 },
    /// Nothing passes from one node to another; the other direction works.
    OneWay { from: usize, to: usize, for_ns: u64 },
    /// A link is cut and restored, so many times.
    Flap { from: usize, to: usize, times: u64, each_ns: u64 },
    /// The nodes of a set are isolated one after the other, and come back in another order.
    Swizzle { set: u64, order: u64, for_ns: u64 },
    /// The process does nothing for a while and then goes on where it was.
    Pause { node: usize, for_ns: u64 },
    /// All that a node sends, takes in and syncs takes so many times longer.
    Slow { node: usize, factor: u64, for_ns: u64 },
    /// The disk syncs nothing for a while.
    DiskStall { node: usize, for_ns: u64 },
    /// Nothing more fits on the disk for a while.
    DiskFull { node: usize, for_ns: u64 },
    /// The disk refuses the next write: to the engine, or to the log.
    DiskError { node: usize, engine: u64, down_ns: u64 },
    /// A bit of the log flips that was synced. The node is not expected to come back from it.
    RotLog { node: usize, dice: u64 },
    /// A block of the engine rots. The replicas that read it are not expected to come back.
    RotEngine { node: usize, dice: u64 },
    /// The wall clock jumps to another error inside the bound.
    ClockJump { node: usize, to_ppm_of_bound: i64 },
    /// The wall clock leaves its bound, by so many milliseconds, and comes back later.
    ClockAstray { node: usize, by_ms: i64, for_ns: u64 },
    /// The first range with a boundary to spare is split.
    Split { key: u64 },
    /// The engine is flushed and the log cut.
    Flush { node: usize },
    /// The node hands the leadership of one of its ranges to another.
    Transfer { node: usize, dice: u64 },
    /// A replica of some range moves to a node that has none of it.
    Move { dice: u64 },
    /// The node is to lead nothing for a while.
    Drain { node: usize, for_ns: u64 },
    /// The node is to lose its replicas, until it is called back.
    Retire { node: usize, for_ns: u64 },
    /// Some range is brought together with the one on its left, and merged into it.
    Merge { dice: u64 },
}

/// The kinds of faults, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    pub name: &'static str,
    pub what: &'static str,
}

const fn kind(name: &'static str, what: &'static str) -> Kind {
    Kind { name, what }
}

impl Kind {
    pub const ALL: [Kind; 25] = [
        kind("crash", "a node loses power and what it has not synced"),
        kind("tear", "the same, and a write under way is torn"),
        kind("kill", "a process dies"),
        kind("blackout", "all nodes lose power at once"),
        kind("isolate", "a node is cut off"),
        kind("partition", "some nodes are cut off from the others"),
        kind("one-way", "nothing passes in one direction"),
        kind("flap", "a link comes and goes"),
        kind("swizzle", "nodes are cut off one by one, and come back in another order"),
        kind("pause", "a process stands still"),
        kind("slow", "a node takes many times longer for everything"),
        kind("disk-stall", "a disk syncs nothing for a while"),
        kind("disk-full", "nothing more fits on a disk for a while"),
        kind("disk-error", "a disk refuses a write"),
        kind("rot-log", "a bit of a synced log flips"),
        kind("rot-engine", "a block of an engine rots"),
        kind("clock-jump", "a clock jumps inside its bound"),
        kind("clock-astray", "a clock leaves its bound: with --clocks astray or untrusted only"),
        kind("split", "a range is split"),
        kind("flush", "an engine is flushed and its logs are cut"),
        kind("transfer", "a leader hands over"),
        kind("move", "a replica moves to another node, where there is one to spare"),
        kind("merge", "a range is merged into the one on its left"),
        kind("drain", "a node is drained for a while: with --moves only"),
        kind("retire", "a node is decommissioned, and called back before it is gone: with --moves only"),
    ];

    pub fn named(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name == name)
    }
}

/// Faults by the time at which they strike, in nanoseconds since they were unleashed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultPlan(pub Vec<(u64, Fault)>);

const SECOND: u64 = 1_000_000_000;

/// What faults are drawn from.
struct Deck<'a> {
    rng: &'a mut Rng,
    nodes: usize,
    /// Those whose disks may rot: so few that the others are a majority.
    expendable: &'a [usize],
}

impl FaultPlan {
    /// Draws a plan. Each seed has its own mix: some kinds of fault may be missing altogether. Only disks of `expendable` nodes rot.
    pub fn draw(rng: &mut Rng, nodes: usize, expendable: &[usize], from_ns: u64, to_ns: u64) -> FaultPlan {
        // Some seeds have many kinds, some few, so that each meets the others and has the time to itself.
        let among_4 = rng.between(1, 3);
        let drawn = Kind::ALL.iter().filter(|kind| !matches!(kind.name, "drain" | "retire"));
        let kinds: Vec<&str> = drawn.filter(|_| rng.below(4) < among_4).map(|kind| kind.name).collect();
        let mut plan = Vec::new();
        let mut at = from_ns;
        let gap_max = rng.between(1, 4) * SECOND;
        while !kinds.is_empty() {
            at += rng.between(SECOND / 10, gap_max);
            if at >= to_ns {
                break;
            }
            let name = *rng.pick(&kinds);
            plan.extend(Deck { rng, nodes, expendable }.draw(name).map(|fault| (at, fault)));
        }
        FaultPlan(plan)
    }

    /// Whether nodes drain or are decommissioned.
    pub fn changes_members(&self) -> bool {
        self.0.iter().any(|(_, fault)| matches!(fault, Fault::Drain { .. } | Fault::Retire { .. }))
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

/// Adds moves of replicas, all the time.
pub fn keep_moving(plan: &mut FaultPlan, rng: &mut Rng, to_ns: u64) {
    let mut at = 0;
    let gap_max = rng.between(2, 15) * SECOND / 10;
    loop {
        at += rng.between(SECOND / 50, gap_max);
        if at >= to_ns {
            break;
        }
        plan.0.push((at, Fault::Move { dice: rng.next() }));
    }
    plan.0.sort_by_key(|(at, _)| *at);
}

/// Adds nodes that drain, or are decommissioned, and are called back: one after the other.
pub fn keep_members_changing(plan: &mut FaultPlan, rng: &mut Rng, nodes: usize, to_ns: u64) {
    let mut at = 0;
    loop {
        at += rng.between(SECOND / 10, 3 * SECOND);
        let for_ns = rng.between(SECOND / 5, 5 * SECOND);
        if at + for_ns >= to_ns {
            break;
        }
        let node = rng.below(nodes as u64) as usize;
        let change = if rng.one_in(2) { Fault::Drain { node, for_ns } } else { Fault::Retire { node, for_ns } };
        plan.0.push((at, change));
        at += for_ns;
    }
    plan.0.sort_by_key(|(at, _)| *at);
}

/// Adds splits and merges, all the time. Some merges meet a node that dies or is cut off meanwhile, and comes back.
pub fn keep_reshaping(plan: &mut FaultPlan, rng: &mut Rng, nodes: usize, to_ns: u64) {
    let mut at = 0;
    let gap_max = rng.between(2, 15) * SECOND / 10;
    loop {
        at += rng.between(SECOND / 50, gap_max);
        if at >= to_ns {
            break;
        }
        let dice = rng.next();
        plan.0.push((at, if rng.one_in(2) { Fault::Merge { dice } } else { Fault::Split { key: dice } }));
        if rng.one_in(6) {
            let node = rng.below(nodes as u64) as usize;
            let absence = match rng.one_in(2) {
                true => Fault::Isolate { node, for_ns: rng.between(SECOND / 10, 2 * SECOND) },
                false => Fault::Crash { node, down_ns: rng.between(SECOND / 100, SECOND / 3) },
            };
            plan.0.push((at + rng.below(SECOND / 30), absence));
        }
    }
    plan.0.sort_by_key(|(at, _)| *at);
}

impl Deck<'_> {
    fn draw(&mut self, name: &str) -> Option<Fault> {
        let (rng, nodes) = (&mut *self.rng, self.nodes);
        let node = rng.below(nodes as u64) as usize;
        let for_ns = rng.between(SECOND / 50, 3 * SECOND);
        let to = (node + 1 + rng.below(nodes as u64 - 1) as usize) % nodes;
        // Any set but the empty one and the whole.
        let set = rng.between(1, (1 << nodes) - 2);
        let dice = rng.next();
        let rotten = self.expendable.get(dice as usize % self.expendable.len().max(1)).copied();
        Some(match name {
            "crash" => Fault::Crash { node, down_ns: for_ns },
            "tear" => Fault::Tear { node, down_ns: for_ns },
            "kill" => Fault::Kill { node, down_ns: for_ns },
            "blackout" => Fault::Blackout { down_ns: for_ns / 3 },
            "isolate" => Fault::Isolate { node, for_ns },
            "partition" => Fault::Partition { set, for_ns },
            "one-way" => Fault::OneWay { from: node, to, for_ns },
            "flap" => Fault::Flap { from: node, to, times: rng.between(2, 12), each_ns: for_ns / 10 },
            "swizzle" => Fault::Swizzle { set, order: dice, for_ns },
            "pause" => Fault::Pause { node, for_ns },
            "slow" => Fault::Slow { node, factor: rng.between(3, 60), for_ns: 2 * for_ns },
            "disk-stall" => Fault::DiskStall { node, for_ns },
            "disk-full" => Fault::DiskFull { node, for_ns },
            "disk-error" => Fault::DiskError { node, engine: dice % 2, down_ns: for_ns / 2 },
            "rot-log" => Fault::RotLog { node: rotten?, dice },
            "rot-engine" => Fault::RotEngine { node: rotten?, dice },
            "clock-jump" => Fault::ClockJump { node, to_ppm_of_bound: rng.between(0, 2_000_000) as i64 - 1_000_000 },
            "split" => Fault::Split { key: dice },
            "flush" => Fault::Flush { node },
            "transfer" => Fault::Transfer { node, dice },
            "move" => Fault::Move { dice },
            "merge" => Fault::Merge { dice },
            _ => return None,
        })
    }
}

impl Fault {
    /// The kind's name, and the numbers that make the fault.
    fn parts(&self) -> (&'static str, Vec<u64>) {
        match *self {
            Fault::Crash { node, down_ns } => ("crash", vec![node as u64, down_ns]),
            Fault::Tear { node, down_ns } => ("tear", vec![node as u64, down_ns]),
            Fault::Kill { node, down_ns } => ("kill", vec![node as u64, down_ns]),
            Fault::Blackout { down_ns } => ("blackout", vec![down_ns]),
            Fault::Isolate { node, for_ns } => ("isolate", vec![node as u64, for_ns]),
            Fault::Partition { set, for_ns } => ("partition", vec![set, for_ns]),
            Fault::OneWay { from, to, for_ns } => ("one-way", vec![from as u64, to as u64, for_ns]),
            Fault::Flap { from, to, times, each_ns } => ("flap", vec![from as u64, to as u64, times, each_ns]),
            Fault::Swizzle { set, order, for_ns } => ("swizzle", vec![set, order, for_ns]),
            Fault::Pause { node, for_ns } => ("pause", vec![node as u64, for_ns]),
            Fault::Slow { node, factor, for_ns } => ("slow", vec![node as u64, factor, for_ns]),
            Fault::DiskStall { node, for_ns } => ("disk-stall", vec![node as u64, for_ns]),
            Fault::DiskFull { node, for_ns } => ("disk-full", vec![node as u64, for_ns]),
            Fault::DiskError { node, engine, down_ns } => ("disk-error", vec![node as u64, engine, down_ns]),
            Fault::RotLog { node, dice } => ("rot-log", vec![node as u64, dice]),
            Fault::RotEngine { node, dice } => ("rot-engine", vec![node as u64, dice]),
            // As many above the greatest lag.
            Fault::ClockJump { node, to_ppm_of_bound } => {
                ("clock-jump", vec![node as u64, (to_ppm_of_bound + 1_000_000) as u64])
            }
            // In two's complement.
            Fault::ClockAstray { node, by_ms, for_ns } => {
                ("clock-astray", vec![node as u64, by_ms.cast_unsigned(), for_ns])
            }
            Fault::Split { key } => ("split", vec![key]),
            Fault::Flush { node } => ("flush", vec![node as u64]),
            Fault::Transfer { node, dice } => ("transfer", vec![node as u64, dice]),
            Fault::Move { dice } => ("move", vec![dice]),
            Fault::Merge { dice } => ("merge", vec![dice]),
            Fault::Drain { node, for_ns } => ("drain", vec![node as u64, for_ns]),
            Fault::Retire { node, for_ns } => ("retire", vec![node as u64, for_ns]),
        }
    }

    pub fn kind(&self) -> Kind {
        Kind::named(self.parts().0).expect("every kind is listed")
    }

    /// The greatest number of a node that it is about.
    pub fn greatest_node(&self) -> usize {
        match *self {
            Fault::Partition { set, .. } | Fault::Swizzle { set, .. } => set.checked_ilog2().unwrap_or(0) as usize,
            Fault::OneWay { from, to, .. } | Fault::Flap { from, to, .. } => from.max(to),
            Fault::Blackout { .. } | Fault::Split { .. } | Fault::Move { .. } | Fault::Merge { .. } => 0,
            _ => self.parts().1[0] as usize,
        }
    }

    /// Reads what [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Fault> {
        let mut words = text.split_whitespace();
        let name = words.next()?;
        let numbers: Vec<u64> = words.map(|word| word.parse().ok()).collect::<Option<_>>()?;
        let node = *numbers.first()? as usize;
        let second = numbers.get(1).copied();
        let third = numbers.get(2).copied();
        let to = second.map(|to| to as usize);
        let fault = match name {
            "crash" => Fault::Crash { node, down_ns: second? },
            "tear" => Fault::Tear { node, down_ns: second? },
            "kill" => Fault::Kill { node, down_ns: second? },
            "blackout" => Fault::Blackout { down_ns: numbers[0] },
            "isolate" => Fault::Isolate { node, for_ns: second? },
            "partition" => Fault::Partition { set: numbers[0], for_ns: second? },
            "one-way" => Fault::OneWay { from: node, to: to?, for_ns: third? },
            "flap" => Fault::Flap { from: node, to: to?, times: third?, each_ns: *numbers.get(3)? },
            "swizzle" => Fault::Swizzle { set: numbers[0], order: second?, for_ns: third? },
            "pause" => Fault::Pause { node, for_ns: second? },
            "slow" => Fault::Slow { node, factor: second?, for_ns: third? },
            "disk-stall" => Fault::DiskStall { node, for_ns: second? },
            "disk-full" => Fault::DiskFull { node, for_ns: second? },
            "disk-error" => Fault::DiskError { node, engine: second?, down_ns: third? },
            "rot-log" => Fault::RotLog { node, dice: second? },
            "rot-engine" => Fault::RotEngine { node, dice: second? },
            "clock-jump" => Fault::ClockJump { node, to_ppm_of_bound: i64::try_from(second?).ok()? - 1_000_000 },
            "clock-astray" => Fault::ClockAstray { node, by_ms: second?.cast_signed(), for_ns: third? },
            "split" => Fault::Split { key: numbers[0] },
            "flush" => Fault::Flush { node },
            "transfer" => Fault::Transfer { node, dice: second? },
            "move" => Fault::Move { dice: numbers[0] },
            "merge" => Fault::Merge { dice: numbers[0] },
            "drain" => Fault::Drain { node, for_ns: second? },
            "retire" => Fault::Retire { node, for_ns: second? },
            _ => return None,
        };
        Some(fault)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, numbers) = self.parts();
        f.write_str(name)?;
        numbers.iter().try_for_each(|number| write!(f, " {number}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_drawn_and_comes_back_from_text() {
        let mut rng = Rng::new(1, "test");
        for kind in Kind::ALL {
            let mut deck = Deck { rng: &mut rng, nodes: 3, expendable: &[2] };
            // These strike only where that is asked for.
            let fault = deck.draw(kind.name).unwrap_or(match kind.name {
                "drain" => Fault::Drain { node: 1, for_ns: 5 },
                "retire" => Fault::Retire { node: 1, for_ns: 5 },
                _ => Fault::ClockAstray { node: 1, by_ms: -3, for_ns: 5 },
            });
            assert_eq!(fault.kind(), kind);
            assert_eq!(Fault::parse(&fault.to_string()), Some(fault.clone()));
            assert!(fault.greatest_node() < 3);
        }
        assert_eq!(Fault::parse("rain 1 2"), None);
        assert_eq!(Fault::parse("crash 1"), None);
    }
}
