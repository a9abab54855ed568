//! A stopped store carries out its part of a plan.
//!
//! ```text
//!   (marker: begun) ─▶ logs of sources applied ─▶ one batch: new states, removals ─▶ flush ─▶ one log frame ─▶ (members; marker: applied)
//! ```
//!
//! The marker is written first, and as long as it says `begun` no node starts on the store. Everything after it may be done again from the
//! beginning: applying goes on where the engine is, the batch is all or nothing and recognised by the states that it leaves, and the
//! frame follows from those.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proto::{NodeId, RangeDescriptor, RangeId, ReplicaId, Span, Timestamp};
use txn::WriteBatch;
use txn::engine::{Engine, EngineError};

use super::cover::without;
use super::findings::Findings;
use super::plan::{Action, Plan, RangePlan};
use super::planner::held;
use crate::config::Knobs;
use crate::env::Clock;
use crate::raft::record::{HardState, LogPosition};
use crate::raft::{GroupRecord, LogFrame, RecoveredGroup, RecoveredLog};
use crate::range::replica::{Bootstrap, Effects, FRESH_APPLIED, Replica, Surroundings};
use crate::range::snapshot;
use crate::range::state::{self, Applied, RangeState, Tombstone};

/// What one store makes of the plan.
pub struct Share<'a> {
    plan: &'a Plan,
    node: NodeId,
    /// The ranges whose only replica is to be here.
    targets: BTreeMap<RangeId, Target<'a>>,
    /// Those that are left alone.
    kept: BTreeSet<RangeId>,
}

struct Target<'a> {
    plan: &'a RangePlan,
    descriptor: RangeDescriptor,
}

/// Whether a store is as it was when the plan was made.
///
/// # Errors
/// A sentence, if not.
pub fn check(plan: &Plan, findings: &Findings) -> Result<(), String> {
    let node = findings.store.node;
    if plan.cluster != findings.store.cluster.to_string() {
        let theirs = findings.store.cluster;
        return Err(format!("the plan is for cluster {}, and this is a store of cluster {theirs}", plan.cluster));
    }
    if plan.dead.iter().any(|dead| dead.node == node.0) {
        return Err(format!("the plan gives {node} up: its store must not come back. Delete it"));
    }
    let Some(store) = plan.store(node) else {
        return Err(format!("the plan does not know of {node}: make a new one with its store"));
    };
    if store.store != findings.store.store.to_string() {
        return Err(format!("this is another store of {node} than the one that the plan was made with"));
    }
    // Nothing is written before a start is counted.
    if store.starts != findings.store.starts {
        let (then, now) = (store.starts, findings.store.starts);
        return Err(format!(
            "{node} was started since the plan was made ({now} times by now, {then} times then): stop all survivors and make a new plan"
        ));
    }
    if store.replicas != held(findings) {
        return Err(format!("the replicas on {node} are not what they were when the plan was made: make a new one"));
    }
    Ok(())
}

impl<'a> Share<'a> {
    /// # Errors
    /// A sentence, if the plan contradicts itself.
    pub fn new(plan: &'a Plan, node: NodeId) -> Result<Share<'a>, String> {
        let mut share = Share { plan, node, targets: BTreeMap::new(), kept: BTreeSet::new() };
        for range in &plan.ranges {
            if range.action == Action::Keep {
                share.kept.insert(RangeId(range.range));
            }
            if let Some(descriptor) = range.descriptor()?.filter(|range| range.replica_on(node).is_some()) {
                share.targets.insert(descriptor.id, Target { plan: range, descriptor });
            }
        }
        Ok(share)
    }

    /// Brings the engine to what the plan says, and returns what the log has to say about it. The engine is to be flushed before the frame is
    /// appended.
    ///
    /// # Errors
    /// A sentence, when the store is damaged or its disk fails.
    pub fn carry_out(
        &self,
        engine: &mut dyn Engine,
        log: &RecoveredLog,
        clock: &dyn Clock,
    ) -> Result<LogFrame, String> {
        let fail = |e: EngineError| e.to_string();
        if !self.is_done(engine).map_err(fail)? {
            for range in self.sources() {
                self.apply_log(range, engine, log, clock)?;
            }
            let batch = self.batch(engine, log).map_err(fail)?;
            engine.write(batch).map_err(fail)?;
        }
        self.frame(engine, log).map_err(fail)
    }

    /// Whether the batch is written: it is all or nothing.
    fn is_done(&self, engine: &dyn Engine) -> Result<bool, EngineError> {
        let states = state::load_all(engine)?;
        let is = |target: &Target<'_>| states.iter().any(|(state, _)| state.descriptor == target.descriptor);
        Ok(!self.targets.is_empty() && self.targets.values().all(is))
    }

    /// The ranges whose logs are applied here, each once.
    fn sources(&self) -> BTreeSet<RangeId> {
        let source = |target: &Target<'_>| target.plan.source.map(|s| RangeId(s.born_of.unwrap_or(s.range)));
        self.targets.values().filter_map(source).collect()
    }

    /// Applies all of a replica's log, as if it were committed.
    fn apply_log(
        &self,
        range: RangeId,
        engine: &mut dyn Engine,
        log: &RecoveredLog,
        clock: &dyn Clock,
    ) -> Result<(), String> {
        /// Entries whose writes make up one batch.
        const AT_ONCE: usize = 256;
        let states = state::load_all(engine).map_err(|e| e.to_string())?;
        let Some((state, applied)) = states.into_iter().find(|(state, _)| state.descriptor.id == range) else {
            return Err(format!("{range} is not here: was something changed in the store?"));
        };
        let mut log = log.groups.get(&range).cloned().unwrap_or_default();
        log.catch_up_with(LogPosition { index: applied.index, term: applied.term });
        log.hard_state.commit = log.entries.last().map_or(log.truncated.index, |entry| entry.index);
        let knobs = Knobs::default();
        let bootstrap = Bootstrap { state, applied, log };
        let mut replica = Replica::new(self.node, bootstrap, &knobs, 0, &crate::raft::logger())?;
        let (first, last) = (applied.index + 1, replica.group.last_index());
        let (mut effects, mut receiving) = (Effects::default(), Duration::ZERO);
        let mut cx = Surroundings {
            now: Duration::ZERO,
            clock,
            knobs: &knobs,
            disk_stalls: false,
            answering: &BTreeSet::new(),
            engine,
            receiving: &mut receiving,
            effects: &mut effects,
        };
        let indexes: Vec<u64> = (first..=last).collect();
        for some in indexes.chunks(AT_ONCE) {
            let entries: Option<Vec<_>> = some.iter().map(|index| replica.group.entry(*index)).collect();
            let entries = entries.ok_or_else(|| format!("{range} lacks an entry of its log"))?;
            replica.apply(&mut cx, &entries);
            if let Some(why) = &replica.stopped {
                return Err(format!("the log of {range} cannot be applied: {why}"));
            }
        }
        Ok(())
    }

    /// All changes at once: ranges that are rebuilt here, and replicas that go.
    fn batch(&self, engine: &dyn Engine, log: &RecoveredLog) -> Result<WriteBatch, EngineError> {
        let states = state::load_all(engine)?;
        let mut batch = WriteBatch::default();
        let stays = |state: &RangeState| self.kept.contains(&state.descriptor.id);
        let kept = states.iter().filter(|(state, _)| stays(state)).map(|(state, _)| state.descriptor.span());
        let filled = self.targets.values().filter(|target| target.plan.action != Action::Empty);
        let held: Vec<Span> = kept.chain(filled.map(|target| target.descriptor.span())).collect();
        for (state, _) in states.iter().filter(|(state, _)| !stays(state)) {
            state::remove_state(&mut batch, state.descriptor.id);
            for rest in all_without(&state.descriptor.span(), &held) {
                snapshot::clear(&mut batch, &rest);
            }
        }
        for target in self.targets.values() {
            if target.plan.action == Action::Empty {
                snapshot::clear(&mut batch, &target.descriptor.span());
            }
            let (state, applied) = self.becomes(target, &states);
            state::put_state(&mut batch, &state);
            state::put_applied(&mut batch, target.descriptor.id, applied);
        }
        let gone = states.iter().map(|(state, _)| (state.descriptor.id, Some(&state.descriptor)));
        let hollow = log.groups.keys().map(|range| (*range, None));
        for (range, descriptor) in hollow.chain(gone) {
            if !self.kept.contains(&range) && !self.targets.contains_key(&range) {
                self.bury(&mut batch, range, descriptor)?;
            }
        }
        Ok(batch)
    }

    /// Leaves a tombstone, with what the range is now.
    fn bury(
        &self,
        batch: &mut WriteBatch,
        range: RangeId,
        descriptor: Option<&RangeDescriptor>,
    ) -> Result<(), EngineError> {
        let plan = self.plan.ranges.iter().find(|plan| plan.range == range.0);
        let becomes = plan.map(RangePlan::descriptor).transpose().map_err(EngineError::Corrupt)?.flatten();
        let tombstone = match (becomes, descriptor) {
            (Some(now), _) => Tombstone { next_replica: now.next_replica, descriptor: now },
            // It is no more, nowhere.
            (None, Some(last)) => Tombstone { next_replica: ReplicaId(u64::MAX), descriptor: last.clone() },
            (None, None) => return Ok(()),
        };
        state::put_tombstone(batch, range, &tombstone);
        Ok(())
    }

    /// What a range begins with.
    fn becomes(&self, target: &Target<'_>, states: &[(RangeState, Applied)]) -> (RangeState, Applied) {
        let source = target.plan.source.map(|source| RangeId(source.range));
        let found = states.iter().find(|(state, _)| Some(state.descriptor.id) == source);
        let floor = Timestamp(self.plan.read_floor);
        let state = RangeState {
            descriptor: target.descriptor.clone(),
            read_floor: found.map_or(floor, |(state, _)| state.read_floor.max(floor)),
            receipt_floor: found.map_or(floor, |(state, _)| state.receipt_floor),
            settled: target.descriptor.epoch,
        };
        let applied = match (found, target.plan.action) {
            (Some((_, applied)), Action::Rebuild) => *applied,
            (Some((_, applied)), _) => Applied { bytes: applied.bytes, ..FRESH_APPLIED },
            (None, _) => FRESH_APPLIED,
        };
        (state, applied)
    }

    /// What the log has to say: rebuilt ranges begin where the engine is, and what went is forgotten.
    fn frame(&self, engine: &dyn Engine, log: &RecoveredLog) -> Result<LogFrame, EngineError> {
        let mut frame = LogFrame::default();
        let gone = log.groups.keys().filter(|range| !self.kept.contains(range) && !self.targets.contains_key(range));
        frame.groups.extend(gone.map(|range| GroupRecord { range: *range, removed: true, ..GroupRecord::default() }));
        for (state, applied) in state::load_all(engine)? {
            let range = state.descriptor.id;
            let Some(target) = self.targets.get(&range) else { continue };
            let position = LogPosition { index: applied.index, term: applied.term };
            let heard = log.groups.get(&range).map_or(0, |group: &RecoveredGroup| group.hard_state.term);
            let becomes = target.plan.becomes.map_or(0, |becomes| becomes.term);
            let term = applied.term.max(heard).max(becomes);
            frame.groups.push(GroupRecord {
                range,
                truncated: Some(position),
                reset: true,
                hard_state: Some(HardState { term, vote: 0, commit: applied.index }),
                entries: Vec::new(),
                removed: false,
                replica: target.descriptor.replica_on(self.node).map_or(0, |me| me.id.0),
            });
        }
        Ok(frame)
    }
}

fn all_without(span: &Span, held: &[Span]) -> Vec<Span> {
    let mut rest = vec![span.clone()];
    for taken in held {
        rest = rest.iter().flat_map(|part| without(part, taken)).collect();
    }
    rest
}
