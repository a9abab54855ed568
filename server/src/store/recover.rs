//! A store comes to life: from an empty engine and a bootstrap plan, or from what a crash left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proto::{Key, NodeId, RangeDescriptor, RangeId, ReplicaDescriptor, ReplicaId, Span, Timestamp, codec, keyspace};
use txn::WriteBatch;
use txn::engine::{Engine, EngineError};
use txn::mvcc;

use super::machine::{Store, StoreConfig};
use crate::env::Clock;
use crate::probe::Path;
use crate::raft::RecoveredLog;
use crate::raft::group::to_entry;
use crate::raft::record::LogPosition;
use crate::range::apply::merge_in;
use crate::range::incoming::Incoming;
use crate::range::replica::{Bootstrap, FRESH_APPLIED};
use crate::range::snapshot;
use crate::range::state::{self, Applied, Intake, RangeState, Tombstone};

/// The range that holds the descriptors of all ranges, and the counters.
pub const META_RANGE: RangeId = RangeId(1);
/// The range that holds everything else at first.
pub const FIRST_RANGE: RangeId = RangeId(2);
/// Range ids from here on are allocated by splits.
pub const FIRST_FREE_RANGE: u64 = 3;

/// Where a range's descriptor lies in the meta range.
pub fn meta_key(start: &Key) -> Key {
    Key([&[keyspace::META], start.0.as_slice()].concat())
}

/// The ranges of a new cluster, replicated on these nodes.
pub fn initial_ranges(nodes: &[NodeId]) -> Vec<RangeDescriptor> {
    let replicas: Vec<ReplicaDescriptor> =
        nodes.iter().zip(1..).map(|(node, id)| ReplicaDescriptor::voter(*node, ReplicaId(id))).collect();
    let boundary = keyspace::start_of(keyspace::CATALOG);
    let range = |id, start, end| RangeDescriptor::new(id, Span { start, end }, proto::Epoch(1), replicas.clone());
    vec![range(META_RANGE, Key::MIN, boundary.clone()), range(FIRST_RANGE, boundary, Key::max())]
}

/// What every replica of the initial ranges starts with, on every node alike.
pub fn initial_contents(ranges: &[RangeDescriptor]) -> WriteBatch {
    let mut batch = WriteBatch::default();
    for descriptor in ranges {
        let state = RangeState::new(descriptor.clone(), Timestamp::BOOTSTRAP);
        state::put_state(&mut batch, &state);
        state::put_applied(&mut batch, descriptor.id, FRESH_APPLIED);
        let value = codec::encode(descriptor);
        mvcc::put_version(&mut batch, &meta_key(&descriptor.start), Timestamp::BOOTSTRAP, mvcc::NOBODY, Some(&value));
    }
    batch
}

impl Store {
    /// A store from what is on disk: the engine's contents, which may lag, and the log, which may not.
    ///
    /// # Errors
    /// When they are damaged or contradict each other.
    pub fn open(
        config: StoreConfig,
        clock: Arc<dyn Clock>,
        mut engine: Box<dyn Engine>,
        mut log: RecoveredLog,
    ) -> Result<Store, EngineError> {
        let (known, coming_in) = tidy_up(engine.as_mut(), config.node, &mut log)?;
        let mut bootstraps = Vec::with_capacity(known.len());
        for (state, applied) in known {
            let mut log = log.groups.remove(&state.descriptor.id).unwrap_or_default();
            let before = log.truncated;
            log.catch_up_with(LogPosition { index: applied.index, term: applied.term });
            if log.truncated != before && before.index > 0 {
                config.knobs.probe.took(Path::LogCaughtUp);
            }
            if log.entries.last().is_some_and(|last| last.index > applied.index) {
                config.knobs.probe.took(Path::EntriesReplayed);
            }
            bootstraps.push(Bootstrap { state, applied, log });
        }
        let forgotten = forget_removed(engine.as_ref(), &mut log)?;
        let mut store = Store::new(config, clock, engine, log.groups);
        store.forgotten = forgotten;
        for bootstrap in bootstraps {
            store.add_replica(bootstrap, false).map_err(EngineError::Corrupt)?;
        }
        for (range, intake) in coming_in {
            store.resume(range, &intake)?;
        }
        Ok(store)
    }

    /// Contents go on coming in where a crash left them.
    fn resume(&mut self, range: RangeId, intake: &Intake) -> Result<(), EngineError> {
        let incoming = Incoming::resumed(intake)?;
        self.add_hollow(range, &incoming.span().start, intake.replica).map_err(EngineError::Corrupt)?;
        if let Some(replica) = self.replicas.get_mut(&range) {
            replica.incoming = Some(incoming);
        }
        self.list(range);
        self.config.knobs.probe.took(Path::ContentsResumed);
        Ok(())
    }
}

/// The replicas that the engine holds, and the contents that were coming in.
type Found = (Vec<(RangeState, Applied)>, Vec<(RangeId, Intake)>);

/// What the engine holds. Deletes what a crash left of a removed replica, and of contents that cannot be completed.
fn tidy_up(engine: &mut dyn Engine, node: NodeId, log: &mut RecoveredLog) -> Result<Found, EngineError> {
    let mut batch = WriteBatch::default();
    let taken_in = taken_in_by_hollow(engine, log)?;
    // One that was removed and is not settled yet goes on voting, by its log.
    let (known, removed): (Vec<_>, Vec<_>) = state::load_all(engine)?.into_iter().partition(|(state, _)| {
        let descriptor = &state.descriptor;
        descriptor.replica_on(node).is_some() || log.groups.get(&descriptor.id).is_some_and(|group| group.replica > 0)
    });
    let (known, merged): (Vec<_>, Vec<_>) =
        known.into_iter().partition(|(state, _)| !taken_in.contains_key(&state.descriptor.id));
    for (RangeState { descriptor, .. }, _) in merged {
        let id = descriptor.id;
        state::remove_state(&mut batch, id);
        state::put_tombstone(&mut batch, id, &Tombstone::subsumed_by(taken_in[&id].clone()));
        log.groups.remove(&id);
    }
    for (RangeState { descriptor, .. }, _) in removed {
        let id = descriptor.id;
        state::remove_state(&mut batch, id);
        state::put_tombstone(&mut batch, id, &Tombstone::on(node, descriptor));
        log.groups.remove(&id);
    }
    let mut held: Vec<Span> = known.iter().map(|(state, _)| state.descriptor.span()).collect();
    let mut coming_in = Vec::new();
    for (range, intake) in state::all_intakes(engine)? {
        let span = Incoming::resumed(&intake)?.span();
        let merged = taken_in.contains_key(&range);
        if !merged && is_wanted(engine, log, range, &intake)? && !held.iter().any(|other| other.overlaps(&span)) {
            held.push(span);
            coming_in.push((range, intake));
        } else {
            state::remove_intake(&mut batch, range);
        }
    }
    held.sort_by(|a, b| a.start.cmp(&b.start));
    held.push(Span { start: Key::max(), end: Key::max() });
    let mut end = Key::MIN;
    for span in held {
        if end < span.start {
            let gap = Span { start: end.clone(), end: span.start.clone() };
            if snapshot::holds_any(engine, &gap)? {
                snapshot::clear(&mut batch, &gap);
            }
        }
        end = end.max(span.end);
    }
    if !batch.is_empty() {
        engine.write(batch)?;
    }
    Ok((known, coming_in))
}

/// Whether a replica that was taking in contents still belongs here, as far as can be known.
fn is_wanted(engine: &dyn Engine, log: &RecoveredLog, range: RangeId, intake: &Intake) -> Result<bool, EngineError> {
    let later = state::tombstone(engine, range)?.is_some_and(|tombstone| intake.replica < tombstone.next_replica);
    let of = log.groups.get(&range).map_or(0, |group| group.replica);
    Ok(!later && (of == 0 || of == intake.replica.0))
}

/// Ranges that were merged into others, as the logs of replicas without contents know and could not apply: see [`crate::range::merge`].
fn taken_in_by_hollow(
    engine: &dyn Engine,
    log: &RecoveredLog,
) -> Result<BTreeMap<RangeId, RangeDescriptor>, EngineError> {
    let held: BTreeSet<RangeId> = state::load_all(engine)?.iter().map(|(state, _)| state.descriptor.id).collect();
    let mut found = BTreeMap::new();
    for (_, group) in log.groups.iter().filter(|(range, _)| !held.contains(range)) {
        for entry in group.entries.iter().filter(|entry| entry.index <= group.hard_state.commit) {
            let merge = merge_in(&to_entry(entry.clone()))?;
            found.extend(merge.map(|merge| (merge.right, merge.merged)));
        }
    }
    Ok(found)
}

/// Logs of replicas that were deleted: the engine knows it, and a crash kept the log from hearing of it.
fn forget_removed(engine: &dyn Engine, log: &mut RecoveredLog) -> Result<Vec<RangeId>, EngineError> {
    let mut forgotten = Vec::new();
    let orphans: Vec<RangeId> = log.groups.keys().copied().collect();
    for range in orphans {
        let of = log.groups.get(&range).map_or(0, |group| group.replica);
        if state::tombstone(engine, range)?.is_some_and(|tombstone| of < tombstone.next_replica.0) {
            log.groups.remove(&range);
            forgotten.push(range);
        }
    }
    Ok(forgotten)
}
