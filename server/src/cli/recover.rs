//! `meridian recover`: losing a majority for good.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use proto::NodeId;

use super::args::RecoverArgs;
use super::{fail, verify};
use crate::node::recovery::{self, Applied};
use crate::recovery::plan::Action;
use crate::recovery::planner::{self, Request};
use crate::recovery::{Findings, Plan};

pub async fn run(args: RecoverArgs) -> ExitCode {
    let result = match args {
        RecoverArgs::Collect { store, out } => collect(&store, &out),
        RecoverArgs::Plan { dead, accept_lost_keys, out, stores } => {
            let dead: BTreeSet<NodeId> = dead.into_iter().map(NodeId).collect();
            plan(&Request { dead, accept_lost_keys }, &out, &stores)
        }
        RecoverArgs::Apply { store, plan } => apply(&store, &plan),
        RecoverArgs::Verify { plan, cluster } => return verify::run(plan.as_deref(), &cluster).await,
    };
    match result {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(why) => fail(&why),
    }
}

fn collect(store: &Path, out: &Path) -> Result<String, String> {
    let findings = recovery::collect(store)?;
    recovery::save(&findings, out)?;
    let (node, replicas) = (findings.store.node, findings.replicas.len());
    Ok(format!("{}: what {node} holds, {replicas} replicas. Give it to `meridian recover plan`", out.display()))
}

fn plan(request: &Request, out: &Path, stores: &[PathBuf]) -> Result<String, String> {
    if out.exists() {
        return Err(format!("{} is there already: give the plan another name", out.display()));
    }
    let findings: Vec<Findings> = stores.iter().map(|path| recovery::load(path)).collect::<Result<_, _>>()?;
    let plan = planner::plan(&findings, request).map_err(|complaints| match complaints.as_slice() {
        [one] => one.clone(),
        several => format!("no plan can be made:\n  {}", several.join("\n  ")),
    })?;
    recovery::write_plan(&plan, out)?;
    Ok(told(&plan, out))
}

/// A plan in words.
fn told(plan: &Plan, out: &Path) -> String {
    let mut text = format!("plan {} for cluster {}\n", plan.plan, plan.cluster);
    let dead: Vec<String> = plan.dead.iter().map(|dead| format!("n{} ({})", dead.node, dead.address)).collect();
    let dead = if dead.is_empty() { "nobody".into() } else { dead.join(", ") };
    let _ = writeln!(text, "given up for good, and barred: {dead}");
    let counts: Vec<String> = planner::count(plan).into_iter().map(|(what, n)| format!("{n} {what}")).collect();
    let _ = writeln!(text, "of {} ranges {}", plan.ranges.len(), counts.join(", "));
    for range in plan.ranges.iter().filter(|range| range.action != Action::Keep) {
        let _ = writeln!(text, "\nr{} ({}): {}", range.range, range.keys, range.why);
        if !range.tables.is_empty() {
            let _ = writeln!(text, "  tables: {}", range.tables.join(", "));
        }
        let _ = writeln!(text, "  replicas: {}", range.replicas.join(", "));
        if let Some(loss) = &range.loss {
            let _ = writeln!(text, "  {loss}");
        }
    }
    if !plan.losses.is_empty() {
        let _ = writeln!(text, "\nIn any case:");
        for loss in &plan.losses {
            let _ = writeln!(text, "  {loss}");
        }
    }
    let _ = writeln!(text, "\nNothing is changed yet. Keep every survivor stopped, and run on each of them:");
    for store in &plan.stores {
        let at = format!("n{} ({})", store.node, store.address);
        let _ = writeln!(text, "  {at}: meridian recover apply --store DIR {}", out.display());
    }
    text += "Then start them all, and run `meridian recover verify`. Never start those who were given up.";
    text
}

fn apply(store: &Path, plan: &Path) -> Result<String, String> {
    let plan = recovery::read_plan(plan)?;
    Ok(match recovery::apply(store, &plan)? {
        Applied::Now => format!("plan {} is applied: the node can be started once it is applied everywhere", plan.plan),
        Applied::Before => format!("plan {} had been applied here before: nothing is left to do", plan.plan),
    })
}
