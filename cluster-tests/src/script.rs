//! A run as text: what a failing seed needs, short enough to be read and committed.
//!
//! ```text
//! # any comment
//! workload append
//! nodes 4
//! replicas 3
//! seed 17
//! unquiet 4000000000
//! clocks untrusted
//! minority dead 2
//! point ExtraPush 20
//! fault 1500000000 crash 0 800000000
//! operations
//! 0 1200 transact r1 w4 lock
//! ```
//!
//! Latencies and limits are what the seed says. Without the line `operations` its operations are, too.

use std::fmt;
use std::sync::Arc;

use server::probe::Point;
use txn::clock::Trust;

use crate::scenario::{draw, draw_moving};
use crate::sim::probe::Points;
use crate::sim::{Abandon, Fault, FaultPlan, Options};
use crate::workload::{Operation, Work};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    pub work: Work,
    pub nodes: usize,
    /// Of each range at first; as many as nodes if not told.
    pub replicas: usize,
    pub seed: u64,
    pub unquiet_ns: u64,
    pub trust: Trust,
    pub abandon: Option<Abandon>,
    pub points: Points,
    pub faults: Vec<(u64, Fault)>,
    /// None: what the seed says.
    pub operations: Option<Vec<Operation>>,
}

impl Script {
    /// A run as a script.
    pub fn of(work: Work, options: &Options) -> Script {
        Script {
            work,
            nodes: options.nodes,
            replicas: options.replicas,
            seed: options.seed,
            unquiet_ns: options.unquiet_ns,
            trust: options.trust,
            abandon: options.abandon.clone(),
            points: options.points.clone(),
            faults: options.faults.0.clone(),
            operations: options.operations.as_ref().map(|operations| operations.to_vec()),
        }
    }

    /// What to run.
    pub fn options(&self) -> Options {
        let base = if self.replicas < self.nodes { draw_moving } else { draw };
        Options {
            unquiet_ns: self.unquiet_ns,
            trust: self.trust,
            abandon: self.abandon.clone(),
            points: self.points.clone(),
            faults: FaultPlan(self.faults.clone()),
            operations: self.operations.clone().map(Arc::new),
            ..base(self.seed, self.nodes)
        }
    }

    /// Reads a script.
    ///
    /// # Errors
    /// A sentence that names the line.
    pub fn parse(text: &str) -> Result<Script, String> {
        let mut script = Script {
            work: Work::Bank,
            nodes: 3,
            replicas: 0,
            seed: 0,
            unquiet_ns: Options::calm(0, 3).unquiet_ns,
            trust: Trust::Bounded,
            abandon: None,
            points: Points::new(),
            faults: Vec::new(),
            operations: None,
        };
        for (line, text) in (1..).zip(text.lines()) {
            let text = text.trim();
            if !text.is_empty() && !text.starts_with('#') {
                script.take(text).ok_or_else(|| format!("line {line} makes no sense: {text}"))?;
            }
        }
        if script.replicas == 0 {
            script.replicas = script.nodes;
        }
        let greatest = script.faults.iter().map(|(_, fault)| fault.greatest_node()).max().unwrap_or(0);
        if script.nodes < 3 || ![script.nodes, 3].contains(&script.replicas) || greatest >= script.nodes {
            return Err("there are too few nodes".into());
        }
        Ok(script)
    }

    fn take(&mut self, line: &str) -> Option<()> {
        if let Some(operations) = &mut self.operations {
            operations.push(Operation::parse(line)?);
            return Some(());
        }
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "workload" => self.work = Work::named(rest)?,
            "nodes" => self.nodes = rest.parse().ok()?,
            "replicas" => self.replicas = rest.parse().ok()?,
            "seed" => self.seed = rest.parse().ok()?,
            "unquiet" => self.unquiet_ns = rest.parse().ok()?,
            "clocks" if rest == "untrusted" => self.trust = Trust::Untrusted,
            "minority" => {
                let (how, nodes) = rest.split_once(' ')?;
                let dead = ["dead", "cut"].contains(&how).then_some(how == "dead")?;
                let nodes = nodes.split(' ').map(|node| node.parse().ok()).collect::<Option<_>>()?;
                self.abandon = Some(Abandon { nodes, dead });
            }
            "point" => {
                let (name, once_in) = rest.split_once(' ')?;
                let point = Point::ALL.into_iter().find(|point| format!("{point:?}") == name)?;
                self.points.insert(point, once_in.parse().ok()?);
            }
            "fault" => {
                let (at, fault) = rest.split_once(' ')?;
                self.faults.push((at.parse().ok()?, Fault::parse(fault)?));
            }
            "operations" => self.operations = Some(Vec::new()),
            _ => return None,
        }
        Some(())
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "workload {}\nnodes {}\nseed {}", self.work.name(), self.nodes, self.seed)?;
        if self.replicas < self.nodes {
            writeln!(f, "replicas {}", self.replicas)?;
        }
        writeln!(f, "unquiet {}", self.unquiet_ns)?;
        if self.trust == Trust::Untrusted {
            writeln!(f, "clocks untrusted")?;
        }
        if let Some(Abandon { nodes, dead }) = &self.abandon {
            let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
            writeln!(f, "minority {} {}", if *dead { "dead" } else { "cut" }, nodes.join(" "))?;
        }
        for (point, once_in) in &self.points {
            writeln!(f, "point {point:?} {once_in}")?;
        }
        for (at, fault) in &self.faults {
            writeln!(f, "fault {at} {fault}")?;
        }
        if let Some(operations) = &self.operations {
            writeln!(f, "operations")?;
            operations.iter().try_for_each(|operation| writeln!(f, "{operation}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::operation;

    #[test]
    fn scripts_come_back_from_text() {
        for seed in 0..40 {
            let mut script = Script::of(Work::Append, &draw(seed, 5));
            assert_eq!(Script::parse(&script.to_string()).as_ref(), Ok(&script));
            script.operations = Some(operation::draw(Work::Append, seed, 1));
            assert_eq!(Script::parse(&format!("# found\n\n{script}")).as_ref(), Ok(&script));
        }
        assert!(Script::parse("nodes 3\nfault 1 crash 3 5").is_err());
        assert_eq!(Script::parse("nodes 3\nfault 1 rain"), Err("line 2 makes no sense: fault 1 rain".into()));
    }
}
