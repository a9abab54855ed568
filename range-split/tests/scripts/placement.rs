//! A cluster that is planned for, round by round.
//!
//! ```text
//! settings dead_after=300 moves_max=32    seconds, and counts
//! node 1 locality="zone=a" disk=1000      MiB; of several nodes alike: node 1 2 3
//! live 1 | silent 1 | dead 1 | drain 1 | serve 1 | decommission 1 | decommissioned 1
//! range 1 1 2 3 bytes=64 load=10 rules="replicas = 5" count=10
//!                                         its voters, the first of which leads; and nine more like it
//! rules 1 "replicas = 5"                  of one range
//! role 1 4 learner                        what a replica is; "gone" removes it
//! lag 1 2                                 a replica falls behind
//! busy 1 | idle 1                         whether a change of the range is under way
//! pin 2 | unpin 2                         whether its first key is a boundary that is wished for
//! load 1 20                               what it bears
//! freeze | thaw                           whether learners catch up
//! forget                                  the planner loses its memory
//! plan max=5                              plans, and shows it
//! apply                                   carries the last plan out
//! pass 300                                lets time pass
//! converge                                plans and carries out until there is nothing to do
//! check 3 4                               whether nodes can be decommissioned
//! progress | state
//! ```

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use goldenscript::{Command, Runner};
use proto::{NodeId, RangeId, ReplicaDescriptor, ReplicaRole};
use range_split::placement::{Memory, Node, NodeIntent, NodeStatus, Plan, Progress, decommission_check, progress};

use super::cluster::{Cluster, range};
use super::words::{Args, Output, number};

const MIB: u64 = 1 << 20;

#[derive(Default)]
pub struct PlacementRunner {
    cluster: Cluster,
    last: Option<Plan>,
}

fn show(plan: &Plan) -> String {
    let operations = plan.operations.iter().map(|operation| format!("→ {operation}\n"));
    let refusals = plan.refusals.iter().map(|refusal| format!("✗ {refusal}\n"));
    let all: String = operations.chain(refusals).collect();
    if all.is_empty() { "nothing to do\n".into() } else { all }
}

impl PlacementRunner {
    fn settings(&mut self, args: &Args<'_>) -> Output {
        let settings = &mut self.cluster.picture.settings;
        args.set("replicas", &mut settings.replicas)?;
        args.set("moves_max", &mut settings.moves_max)?;
        args.set("moves_per_node_max", &mut settings.moves_per_node_max)?;
        args.set("bytes_margin", &mut settings.bytes_margin)?;
        args.set("merges_max", &mut settings.merges_max)?;
        if let Some(seconds) = args.named("dead_after")? {
            settings.dead_after = Duration::from_secs(seconds);
        }
        Ok(String::new())
    }

    fn add_nodes(&mut self, args: &Args<'_>) -> Output {
        for word in &args.words {
            let mut node = Node { locality: args.named("locality")?.unwrap_or_default(), ..Node::default() };
            node.bytes_capacity = args.named("disk")?.unwrap_or(0) * MIB;
            node.bytes_used = args.named("used")?.unwrap_or(0) * MIB;
            self.cluster.picture.nodes.insert(NodeId(number(word)?), node);
        }
        Ok(String::new())
    }

    fn change_nodes(&mut self, args: &Args<'_>, change: &str) -> Output {
        let since = self.cluster.picture.now;
        for word in &args.words {
            let node = self.cluster.picture.nodes.get_mut(&NodeId(number(word)?)).ok_or("no such node")?;
            match change {
                "live" => node.status = NodeStatus::Live,
                "silent" => node.status = NodeStatus::Suspect { since },
                "dead" => node.status = NodeStatus::Dead { since },
                "serve" => node.intent = NodeIntent::Serve,
                "drain" => node.intent = NodeIntent::Drain,
                "decommission" => node.intent = NodeIntent::Decommission,
                _ => node.intent = NodeIntent::Decommissioned,
            }
        }
        self.cluster.elect();
        Ok(String::new())
    }

    fn add_ranges(&mut self, args: &Args<'_>) -> Output {
        let (first, count) = (args.number(0)?, args.named("count")?.unwrap_or(1));
        let voters: Vec<u64> = args.words[1..].iter().map(|w| number(w)).collect::<Result<_, _>>()?;
        for id in first..first + count {
            let (bytes, load) = (args.named("bytes")?.unwrap_or(64) * MIB, args.named("load")?.unwrap_or(0));
            let mut range = range(id, &voters, bytes, load);
            range.rules = Arc::new(args.named("rules")?.unwrap_or_default());
            self.cluster.picture.ranges.insert(RangeId(id), range);
        }
        Ok(String::new())
    }

    fn change_range(&mut self, args: &Args<'_>, change: &str) -> Output {
        let id = RangeId(args.number(0)?);
        let range = self.cluster.picture.ranges.get_mut(&id).ok_or("no such range")?;
        match change {
            "rules" => range.rules = Arc::new(args.words.get(1).ok_or("rules are missing")?.parse()?),
            "busy" => range.in_flight = true,
            "idle" => range.in_flight = false,
            "pin" => range.pinned = true,
            "unpin" => range.pinned = false,
            "load" => range.load = args.number(1)?,
            "lag" => drop(range.progress.insert(NodeId(args.number(1)?), Progress::Lagging).map(|p| vec![p])),
            _ => {
                let (node, id) = (NodeId(args.number(1)?), range.descriptor.next_replica);
                range.descriptor.replicas.retain(|r| r.node != node);
                let role = match args.words.get(2).copied().unwrap_or_default() {
                    "gone" => return Ok(String::new()),
                    "voter" => ReplicaRole::Voter,
                    "learner" => ReplicaRole::Learner,
                    "non-voter" => ReplicaRole::NonVoter,
                    "incoming" => ReplicaRole::Incoming,
                    "outgoing" => ReplicaRole::Outgoing,
                    other => return Err(format!("{other} is no role").into()),
                };
                range.descriptor.next_replica.0 += 1;
                range.descriptor.replicas.push(ReplicaDescriptor { node, id, role });
                range.progress.insert(node, Progress::CaughtUp);
            }
        }
        Ok(String::new())
    }

    fn plan(&mut self, args: &Args<'_>) -> Output {
        let plan = self.cluster.plan(args.named("max")?.unwrap_or(usize::MAX));
        let shown = show(&plan);
        self.last = Some(plan);
        Ok(shown)
    }

    fn apply(&mut self) -> Output {
        let plan = self.last.take().ok_or("nothing was planned")?;
        plan.operations.iter().for_each(|operation| self.cluster.apply(operation));
        self.cluster.memory = plan.memory;
        self.cluster.pass(Duration::from_secs(1));
        Ok(String::new())
    }

    /// Shows each round, or only the first so many operations of it.
    fn converge(&mut self, args: &Args<'_>) -> Output {
        let shown_max = args.named("shown")?.unwrap_or(usize::MAX);
        let mut out = String::new();
        for round in 1..200 {
            let plan = self.cluster.round(usize::MAX, Duration::from_secs(1));
            if plan.operations.is_empty() {
                writeln!(out, "at rest after {} rounds", round - 1)?;
                plan.refusals.iter().try_for_each(|refusal| writeln!(out, "✗ {refusal}"))?;
                return Ok(out);
            }
            writeln!(out, "round {round}: {} operations", plan.operations.len())?;
            plan.operations.iter().take(shown_max).try_for_each(|operation| writeln!(out, "→ {operation}"))?;
        }
        Err("no rest".into())
    }

    fn check(&self, args: &Args<'_>) -> Output {
        let nodes = args.words.iter().map(|w| number(w).map(NodeId)).collect::<Result<_, _>>()?;
        Ok(match decommission_check(&self.cluster.picture, &nodes) {
            Ok(()) => "possible".into(),
            Err(refusals) => refusals.iter().map(|refusal| format!("✗ {refusal}\n")).collect(),
        })
    }

    fn state(&self) -> Output {
        let mut out = String::new();
        let picture = &self.cluster.picture;
        for node in picture.nodes.keys() {
            let held = picture.ranges.values().filter(|r| r.descriptor.replica_on(*node).is_some());
            let (replicas, bytes) = held.fold((0, 0), |(n, bytes), r| (n + 1, bytes + r.bytes / MIB));
            let led = picture.ranges.values().filter(|r| r.leader == Some(*node));
            let (leaders, load) = led.fold((0, 0), |(n, load), r| (n + 1, load + r.load));
            writeln!(out, "{node}: {replicas} replicas, {bytes} MiB, {leaders} leaders, load {load}")?;
        }
        for (id, range) in picture.ranges.iter().take(3) {
            write!(out, "{id}:")?;
            for replica in &range.descriptor.replicas {
                let role = match replica.role {
                    ReplicaRole::Voter if range.leader == Some(replica.node) => " leads".into(),
                    ReplicaRole::Voter => String::new(),
                    other => format!(" {other:?}"),
                };
                write!(out, " {}{role},", replica.node)?;
            }
            writeln!(out)?;
        }
        Ok(out.replace(",\n", "\n"))
    }
}

impl Runner for PlacementRunner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &goldenscript::Context) -> Output {
        let args = Args::of(command);
        match command.name.as_str() {
            "settings" => self.settings(&args),
            "node" => self.add_nodes(&args),
            name @ ("live" | "silent" | "dead" | "serve" | "drain" | "decommission" | "decommissioned") => {
                self.change_nodes(&args, name)
            }
            "range" => self.add_ranges(&args),
            name @ ("rules" | "role" | "lag" | "busy" | "idle" | "pin" | "unpin" | "load") => {
                self.change_range(&args, name)
            }
            "freeze" => {
                self.cluster.frozen = true;
                Ok(String::new())
            }
            "thaw" => {
                self.cluster.frozen = false;
                Ok(String::new())
            }
            "forget" => {
                self.cluster.memory = Memory::default();
                Ok(String::new())
            }
            "plan" => self.plan(&args),
            "apply" => self.apply(),
            "pass" => {
                self.cluster.pass(Duration::from_secs(args.number(0)?));
                Ok(String::new())
            }
            "converge" => self.converge(&args),
            "check" => self.check(&args),
            "progress" => {
                let all = progress(&self.cluster.picture);
                let show = |(node, r): (&NodeId, &range_split::placement::Remaining)| {
                    format!("{node}: {} replicas, {} leaders, {} MiB left\n", r.replicas, r.leaders, r.bytes / MIB)
                };
                Ok(all.iter().map(show).collect())
            }
            "state" => self.state(),
            other => Err(format!("there is no command {other}").into()),
        }
    }
}
