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
use crate::range::merge::{Contents, Subsume};
use crate::range::replica::{Bootstrap, Effects, FRESH_APPLIED, Replica, Resting, Surroundings};
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

    /// Applies all of a replica's log, as if it were committed; up to a merge, if what that takes in is not here.
    fn apply_log(
        &self,
        range: RangeId,
        engine: &mut dyn Engine,
        log: &RecoveredLog,
        clock: &dyn Clock,
    ) -> Result<(), String> {
        let mut applying = Applying { node: self.node, engine, log, clock, knobs: Knobs::default() };
        let mut replica = applying.open(range)?;
        let last = replica.group.last_index();
        applying.up_to(&mut replica, last)
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
        // What was coming in is asked for anew.
        for (range, _) in state::all_intakes(engine)? {
            state::remove_intake(&mut batch, range);
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
        // Also where nothing of them is: a split that a range here has yet to apply would bring a replica into being that is none any more.
        let elsewhere = self.plan.ranges.iter().filter(|plan| plan.becomes.is_some());
        let elsewhere = elsewhere.map(|plan| (RangeId(plan.range), None));
        for (range, descriptor) in elsewhere.chain(hollow).chain(gone) {
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
        // Whoever was to take it in, if anybody, has lost its majority as well: it serves again.
        let state = match found {
            Some((state, _)) => RangeState {
                receipt_floor: state.receipt_floor,
                pinned: state.pinned && state.descriptor.start == target.descriptor.start,
                closed: state.closed,
                ..RangeState::new(target.descriptor.clone(), state.read_floor.max(state.closed).max(floor))
            },
            None => RangeState { receipt_floor: floor, ..RangeState::new(target.descriptor.clone(), floor) },
        };
        let applied = match (found, target.plan.action) {
            // There is no later entry that would make it whole.
            (Some((_, applied)), Action::Rebuild) => Applied { whole_at: None, ..*applied },
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

/// Replicas of a store that stands still apply their logs.
struct Applying<'a> {
    node: NodeId,
    engine: &'a mut dyn Engine,
    log: &'a RecoveredLog,
    clock: &'a dyn Clock,
    knobs: Knobs,
}

impl Applying<'_> {
    /// A replica all of whose log counts as committed.
    fn open(&self, range: RangeId) -> Result<Replica, String> {
        let states = state::load_all(self.engine).map_err(|e| e.to_string())?;
        let Some((state, applied)) = states.into_iter().find(|(state, _)| state.descriptor.id == range) else {
            return Err(format!("{range} is not here: was something changed in the store?"));
        };
        let mut log = self.log.groups.get(&range).cloned().unwrap_or_default();
        log.catch_up_with(LogPosition { index: applied.index, term: applied.term });
        log.hard_state.commit = log.entries.last().map_or(log.truncated.index, |entry| entry.index);
        Replica::new(self.node, Bootstrap { state, applied, log }, &self.knobs, 0, &crate::raft::logger())
    }

    /// Lets a replica do something; returns the merges that it has come to.
    fn step(
        &mut self,
        replica: &mut Replica,
        step: impl FnOnce(&mut Replica, &mut Surroundings<'_>),
    ) -> Result<Vec<Subsume>, String> {
        let (mut effects, mut receiving) = (Effects::default(), Duration::ZERO);
        let mut cx = Surroundings {
            now: Duration::ZERO,
            clock: self.clock,
            knobs: &self.knobs,
            disk_stalls: false,
            answering: &BTreeSet::new(),
            lost: &BTreeSet::new(),
            resting: Resting { members: &BTreeSet::new(), leaving: &BTreeSet::new() },
            engine: &mut *self.engine,
            receiving: &mut receiving,
            effects: &mut effects,
            neighbour: None,
        };
        step(replica, &mut cx);
        match &replica.stopped {
            Some(why) => Err(format!("the log of {} cannot be applied: {why}", replica.descriptor().id)),
            None => Ok(effects.subsumes),
        }
    }

    fn up_to(&mut self, replica: &mut Replica, last: u64) -> Result<(), String> {
        /// Entries whose writes make up one batch.
        const AT_ONCE: u64 = 256;
        let mut first = replica.applied.index + 1;
        while first <= last {
            let next = last.min(first + AT_ONCE - 1);
            let entries: Option<Vec<_>> = (first..=next).map(|index| replica.group.entry(index)).collect();
            let entries = entries.ok_or_else(|| format!("{} lacks an entry of its log", replica.descriptor().id))?;
            let mut merges = self.step(replica, |replica, cx| replica.apply(cx, &entries))?;
            while let Some(merge) = merges.pop() {
                let Some(contents) = self.taken_in(&merge)? else { return Ok(()) };
                merges = self.step(replica, |replica, cx| replica.go_on(cx, Some(contents)))?;
            }
            first = next + 1;
        }
        Ok(())
    }

    /// What a merge takes in, once that has applied its log up to where it was frozen.
    fn taken_in(&mut self, merge: &Subsume) -> Result<Option<Contents>, String> {
        let states = state::load_all(self.engine).map_err(|e| e.to_string())?;
        if !states.iter().any(|(state, _)| state.descriptor.id == merge.right) {
            return Ok(None);
        }
        let mut right = self.open(merge.right)?;
        if right.group.holds(merge.index, merge.term) {
            self.up_to(&mut right, merge.index)?;
        }
        Ok(right.frozen_contents(merge.index))
    }
}

fn all_without(span: &Span, held: &[Span]) -> Vec<Span> {
    let mut rest = vec![span.clone()];
    for taken in held {
        rest = rest.iter().flat_map(|part| without(part, taken)).collect();
    }
    rest
}

#[cfg(test)]
mod tests {
    use proto::{ClusterId, Epoch, Key, Locality, NodeDescriptor, NodeRecord, ReplicaDescriptor, StoreId, codec};
    use txn::clock::{Agreement, Reading, Timekeeper, Trust};
    use txn::{MemoryEngine, mvcc};

    use super::super::findings::{Store, examine};
    use super::super::planner::{self, Request};
    use super::*;
    use crate::env::{ClockSource, NodeClock};
    use crate::raft::record::LogEntry;
    use crate::range::command::{Command, Trigger};

    struct Still;

    impl ClockSource for Still {
        fn read(&self) -> Reading {
            Reading { monotonic: Duration::ZERO, wall: Timestamp::ZERO, error: Duration::ZERO }
        }

        fn name(&self) -> &'static str {
            "still"
        }
    }

    fn clock() -> NodeClock<Still> {
        let alone = Agreement::new([], Duration::MAX);
        NodeClock::new(Still, Timekeeper::new(Trust::Untrusted, alone, Timestamp::ZERO, 0))
    }

    fn range(id: u64, start: Key, end: Key, epoch: u64) -> RangeDescriptor {
        let replicas = (1..=3).map(|n| ReplicaDescriptor::voter(NodeId(n), ReplicaId(n))).collect();
        RangeDescriptor::new(RangeId(id), Span { start, end }, Epoch(epoch), replicas)
    }

    fn entry(index: u64, batch: WriteBatch, trigger: Option<Trigger>) -> LogEntry {
        let command = Command { term: 6, proposal: index, batch, trigger, closed: None };
        LogEntry { index, term: 6, kind: 0, data: codec::encode(&command).into() }
    }

    fn written(key: &str) -> WriteBatch {
        let mut batch = WriteBatch::default();
        mvcc::put_version(&mut batch, &Key::from(key), Timestamp(9), mvcc::NOBODY, Some(key.as_bytes()));
        batch
    }

    /// A store with one range of all keys, in whose log a write and a split at `m` are not known to be committed; and the hollow remains of
    /// another replica.
    fn store() -> (MemoryEngine, RecoveredLog) {
        let mut engine = MemoryEngine::default();
        let descriptor = range(1, Key::MIN, Key::max(), 1);
        let mut batch = written("old");
        state::put_state(&mut batch, &RangeState::new(descriptor, Timestamp(1)));
        state::put_applied(&mut batch, RangeId(1), FRESH_APPLIED);
        engine.write(batch).unwrap();
        engine.flush();
        let (left, right) = (range(1, Key::MIN, Key::from("m"), 2), range(9, Key::from("m"), Key::max(), 2));
        let split = Trigger::Split { left, right, read_floor: Timestamp(8), pinned: false };
        let group = RecoveredGroup {
            truncated: LogPosition { index: 5, term: 5 },
            hard_state: HardState { term: 7, vote: 2, commit: 5 },
            entries: vec![entry(6, written("new"), None), entry(7, WriteBatch::default(), Some(split))],
            replica: 1,
        };
        let hollow = RecoveredGroup { replica: 4, ..RecoveredGroup::default() };
        let groups = BTreeMap::from([(RangeId(1), group), (RangeId(5), hollow)]);
        (engine, RecoveredLog { groups, ceiling: Timestamp(100) })
    }

    fn findings(engine: &MemoryEngine, log: &RecoveredLog) -> Findings {
        let member = |id: u64| {
            let (address, boot_id) = (format!("host:{id}"), "boot".to_string());
            NodeRecord::founding(NodeDescriptor { id: NodeId(id), address, boot_id, locality: Locality::default() })
        };
        let members = (1..=3).map(member).collect();
        let store =
            Store { cluster: ClusterId(7), node: NodeId(1), store: StoreId(1), starts: 3, members, begun: None };
        examine(store, engine, log).unwrap()
    }

    fn plan_for(engine: &MemoryEngine, log: &RecoveredLog) -> Plan {
        let request = Request { dead: BTreeSet::from([NodeId(2), NodeId(3)]), accept_lost_keys: false };
        planner::plan(&[findings(engine, log)], &request).unwrap()
    }

    #[test]
    fn a_log_is_applied_as_a_whole_and_what_comes_of_it_has_one_voter() {
        let (mut engine, log) = store();
        let plan = plan_for(&engine, &log);
        assert_eq!(check(&plan, &findings(&engine, &log)), Ok(()));
        let share = Share::new(&plan, NodeId(1)).unwrap();
        let frame = share.carry_out(&mut engine, &log, &clock()).unwrap();
        let states = state::load_all(&engine).unwrap();
        let spans: Vec<Span> = states.iter().map(|(state, _)| state.descriptor.span()).collect();
        assert_eq!(spans, [Span::new("", "m"), Span { start: Key::from("m"), end: Key::max() }]);
        for (state, _) in &states {
            assert_eq!(state.descriptor.voters().count(), 1);
            assert!(state.is_settled() && state.descriptor.has_removed(ReplicaId(2)));
            assert_eq!(state.read_floor, Timestamp(plan.read_floor));
        }
        for key in ["old", "new"] {
            assert!(mvcc::newest(&engine, &Key::from(key)).unwrap().is_some(), "{key}");
        }
        // The log begins where the engine is, and what was hollow is forgotten.
        let mut after = log.clone();
        after.add(frame).unwrap();
        let after = after.finish().unwrap();
        let ends: Vec<(RangeId, u64, usize)> =
            after.groups.iter().map(|(range, group)| (*range, group.truncated.index, group.entries.len())).collect();
        assert_eq!(ends, [(RangeId(1), 7, 0), (RangeId(9), 5, 0)]);
        assert!(after.groups[&RangeId(1)].hard_state.term >= 7 && after.groups[&RangeId(1)].hard_state.vote == 0);
        for (state, applied) in states {
            let log = after.groups[&state.descriptor.id].clone();
            let bootstrap = Bootstrap { state, applied, log };
            assert!(Replica::new(NodeId(1), bootstrap, &Knobs::default(), 1, &crate::raft::logger()).is_ok());
        }
    }

    #[test]
    fn what_a_crash_cut_short_is_done_again_with_the_same_result() {
        let (mut engine, log) = store();
        let plan = plan_for(&engine, &log);
        let share = Share::new(&plan, NodeId(1)).unwrap();
        let frame = share.carry_out(&mut engine, &log, &clock()).unwrap();
        let states = state::load_all(&engine).unwrap();
        // Nothing was durable.
        engine.crash();
        share.apply_log(RangeId(1), &mut engine, &log, &clock()).unwrap();
        // The log was applied, and the batch not written.
        engine.flush();
        assert_eq!(share.carry_out(&mut engine, &log, &clock()).unwrap(), frame);
        // The engine was flushed, and the log not written; and then it was.
        engine.flush();
        assert_eq!(share.carry_out(&mut engine, &log, &clock()).unwrap(), frame);
        let mut after = log.clone();
        after.add(frame.clone()).unwrap();
        let again = share.carry_out(&mut engine, &after, &clock()).unwrap();
        after.add(again).unwrap();
        assert_eq!(after.groups.len(), 2);
        assert_eq!(state::load_all(&engine).unwrap(), states);
    }

    #[test]
    fn a_store_that_is_not_what_it_was_is_refused() {
        let (mut engine, log) = store();
        let plan = plan_for(&engine, &log);
        let refused = |findings: &Findings, words: &str| {
            let why = check(&plan, findings).unwrap_err();
            assert!(why.contains(words), "{why}");
        };
        let now = || findings(&engine, &log);
        refused(&Findings { store: Store { starts: 4, ..now().store }, ..now() }, "was started since");
        refused(&Findings { store: Store { cluster: ClusterId(8), ..now().store }, ..now() }, "is for cluster");
        refused(&Findings { store: Store { store: StoreId(8), ..now().store }, ..now() }, "another store");
        refused(&Findings { store: Store { node: NodeId(2), ..now().store }, ..now() }, "gives n2 up");
        refused(&Findings { store: Store { node: NodeId(4), ..now().store }, ..now() }, "does not know of n4");
        let mut shorter = log.clone();
        shorter.groups.get_mut(&RangeId(1)).unwrap().entries.pop();
        refused(&findings(&engine, &shorter), "are not what they were");
        let share = Share::new(&plan, NodeId(1)).unwrap();
        share.carry_out(&mut engine, &log, &clock()).unwrap();
    }
}
