//! The store directories of stopped nodes, when a majority is lost: looked at, and changed by plan. See [`crate::recovery`].

use std::path::Path;
use std::time::Duration;

use proto::{NodeRecord, NodeState, RangeDescriptor, Timestamp, keyspace};
use txn::clock::{Agreement, Timekeeper, Trust};
use txn::engine::EngineError;

use super::core::acquaintances;
use super::folder::{Acquaintances, FINDINGS_MAGIC, Folder, Identity, Recovery, unseal, write_sealed};
use crate::env::NodeClock;
use crate::io::clock::FixedSource;
use crate::io::engine::RocksEngine;
use crate::io::log::LogFiles;
use crate::io::small_file;
use crate::kv::aftermath::Aftermath;
use crate::recovery::apply::{Share, check};
use crate::recovery::findings::examine;
use crate::recovery::{Findings, Plan, Store};

/// The directory of a node that does not run, locked, and whose it is.
struct Stopped {
    folder: Folder,
    identity: Identity,
}

impl Stopped {
    fn open(path: &Path) -> Result<Stopped, String> {
        let none = || format!("{} is no store directory of a node that is part of a cluster", path.display());
        // Nothing is to be made where nothing is.
        if !path.join("identity").is_file() {
            return Err(none());
        }
        let folder = Folder::open(path).map_err(|why| match why.contains("in use") {
            true => format!("{why}: stop the node first, and every other survivor too"),
            false => why,
        })?;
        let identity = folder.identity()?.ok_or_else(none)?;
        folder.check_parts(identity.node)?;
        Ok(Stopped { folder, identity })
    }

    fn examine(&self) -> Result<Findings, String> {
        let begun = self.folder.recovery()?.filter(|recovery| !recovery.applied);
        let store = Store {
            cluster: self.identity.cluster,
            node: self.identity.node,
            store: self.folder.store_id()?,
            starts: self.folder.starts()?,
            members: acquaintances(&self.folder, &self.identity)?.members,
            begun: begun.map(|recovery| recovery.aftermath.plan),
        };
        let fail = |e: EngineError| format!("{}: {e}", self.folder.data().display());
        let engine = RocksEngine::open_read_only(&self.folder.data()).map_err(fail)?;
        let log = LogFiles::read(&self.folder.log())?;
        examine(store, &engine, &log).map_err(fail)
    }
}

/// What the stopped node's directory holds. Changes nothing in it.
///
/// # Errors
/// A sentence, when it is in use, is none, or is damaged.
pub fn collect(path: &Path) -> Result<Findings, String> {
    Stopped::open(path)?.examine()
}

/// Writes findings to a file.
///
/// # Errors
/// A sentence.
pub fn save(findings: &Findings, path: &Path) -> Result<(), String> {
    write_sealed(path, FINDINGS_MAGIC, findings)
}

/// What a store holds: from its directory, or from the file that [`save`] has written.
///
/// # Errors
/// A sentence.
pub fn load(path: &Path) -> Result<Findings, String> {
    if path.is_dir() {
        return collect(path);
    }
    let bytes = small_file::read(path)?.ok_or_else(|| format!("{} is not there", path.display()))?;
    unseal(&bytes, FINDINGS_MAGIC).map_err(|why| {
        let path = path.display();
        format!("{path} is damaged, or is not what `meridian recover collect` of this version has written: {why}. Collect again, or give the store's directory")
    })
}

/// Reads a plan.
///
/// # Errors
/// A sentence.
pub fn read_plan(path: &Path) -> Result<Plan, String> {
    let bytes = small_file::read(path)?.ok_or_else(|| format!("{} is not there", path.display()))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| format!("{}: it is no recovery plan, or was damaged on its way: it is no text", path.display()))?;
    Plan::from_json(&text).map_err(|why| format!("{}: {why}", path.display()))
}

/// Writes a plan.
///
/// # Errors
/// A sentence.
pub fn write_plan(plan: &Plan, path: &Path) -> Result<(), String> {
    small_file::write(path, plan.to_json().as_bytes())
}

/// What has become of [`apply`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The node can be started.
    Now,
    /// It had been done before.
    Before,
}

/// Carries out a plan's part in a stopped node's directory. May be done again, also after a crash.
///
/// # Errors
/// A sentence: the plan is not for this store, the store has changed since, or the disk fails.
pub fn apply(path: &Path, plan: &Plan) -> Result<Applied, String> {
    let stopped = Stopped::open(path)?;
    let Stopped { folder, identity } = &stopped;
    let share = Share::new(plan, identity.node)?;
    let known = acquaintances(folder, identity)?;
    let mut earlier = None;
    match folder.recovery()? {
        Some(Recovery { applied: true, aftermath }) if aftermath.plan == plan.plan => return Ok(Applied::Before),
        Some(Recovery { applied: false, aftermath }) if aftermath.plan == plan.plan => earlier = Some(aftermath),
        Some(Recovery { applied: false, aftermath }) => {
            return Err(format!("plan {} was begun here and not finished: apply that one again first", aftermath.plan));
        }
        Some(Recovery { applied: true, aftermath }) => {
            check(plan, &stopped.examine()?)?;
            earlier = Some(aftermath);
        }
        None => check(plan, &stopped.examine()?)?,
    }
    let mut aftermath = aftermath(plan, &known.members)?;
    if let Some(earlier) = earlier {
        aftermath.follow(earlier);
    }
    folder.set_recovery(Some(&Recovery { applied: false, aftermath: aftermath.clone() }))?;
    rewrite(folder, &share)?;
    folder.set_acquaintances(&acquainted(known, &aftermath))?;
    folder.set_recovery(Some(&Recovery { applied: true, aftermath }))?;
    Ok(Applied::Now)
}

/// Brings engine and log to what the plan says.
fn rewrite(folder: &Folder, share: &Share<'_>) -> Result<(), String> {
    let fail = |e: EngineError| format!("{}: {e}", folder.data().display());
    let mut engine = RocksEngine::open(&folder.data()).map_err(fail)?;
    let (mut log, recovered) = LogFiles::open(&folder.log())?;
    let keeper = Timekeeper::new(Trust::Untrusted, Agreement::new([], Duration::MAX), Timestamp::ZERO, 0);
    let clock = NodeClock::new(FixedSource { error: Duration::ZERO }, keeper);
    let frame = share.carry_out(&mut engine, &recovered, &clock)?;
    engine.flush().map_err(fail)?;
    log.append(vec![frame]).map_err(|e| format!("{} cannot be written: {e}", folder.log().display()))
}

/// What the plan leaves to the running cluster.
fn aftermath(plan: &Plan, members: &[NodeRecord]) -> Result<Aftermath, String> {
    let dead = plan.dead.iter().map(|dead| {
        let known = members.iter().find(|member| member.descriptor.id.0 == dead.node).cloned();
        known.unwrap_or_else(|| {
            let (id, address) = (proto::NodeId(dead.node), dead.address.clone());
            let (boot_id, locality) = (String::new(), proto::Locality::default());
            NodeRecord::founding(proto::NodeDescriptor { id, address, boot_id, locality })
        })
    });
    let (dead, ranges) = (dead.collect(), plan.descriptors()?);
    Ok(Aftermath { plan: plan.plan.clone(), dead, ranges, next_range: plan.next_range })
}

/// What the node is to know of its cluster when it starts: those who were given up count for nothing from the first moment on.
fn acquainted(mut known: Acquaintances, aftermath: &Aftermath) -> Acquaintances {
    for lost in &aftermath.dead {
        let barred = NodeRecord { state: NodeState::Decommissioned, ..lost.clone() };
        match known.members.iter_mut().find(|member| member.descriptor.id == lost.descriptor.id) {
            Some(member) => member.state = NodeState::Decommissioned,
            None => known.members.push(barred),
        }
    }
    let leads = |range: &&RangeDescriptor| range.start <= keyspace::start_of(keyspace::META);
    for range in aftermath.ranges.iter().filter(leads) {
        known.ranges.retain(|other| !other.span().overlaps(&range.span()));
        known.ranges.push(range.clone());
    }
    known
}
