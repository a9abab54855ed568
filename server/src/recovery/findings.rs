//! What a stopped store holds, as far as a plan needs to know.
//!
//! Nothing is changed by looking: the engine shows what was durable, the log what follows, and [`super::tail`] puts the two together.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use proto::{
    ClusterId, Key, NodeId, NodeRecord, RangeDescriptor, RangeId, ReplicaId, Span, StoreId, Timestamp, codec, keyspace,
};
use txn::engine::{Engine, EngineError, Space};
use txn::keys;

use super::tail;
use crate::raft::record::LogPosition;
use crate::raft::{RecoveredGroup, RecoveredLog};
use crate::range::command::Merge;
use crate::range::state::{self, Applied, RangeState, Tombstone};

/// Whose store it is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Store {
    #[n(0)]
    pub cluster: ClusterId,
    #[n(1)]
    pub node: NodeId,
    #[n(2)]
    pub store: StoreId,
    /// How often it has been started.
    #[n(3)]
    pub starts: u64,
    /// The members, as they were known here last.
    #[n(4)]
    pub members: Vec<NodeRecord>,
    /// A plan that was begun here, and whose application was interrupted.
    #[n(5)]
    pub begun: Option<String>,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Findings {
    #[n(0)]
    pub store: Store,
    /// No timestamp above this was ever issued or heard of here.
    #[n(1)]
    pub ceiling: Timestamp,
    #[n(2)]
    pub replicas: Vec<Found>,
    #[n(3)]
    pub hollow: Vec<Hollow>,
    #[n(4)]
    pub graves: Vec<Grave>,
    /// Descriptors of tables, as the catalog here has them.
    #[n(5)]
    pub tables: Vec<ByteVec>,
    /// Descriptors of ranges, as the meta range here has them.
    #[n(6)]
    pub ranges: Vec<RangeDescriptor>,
}

/// A replica with contents.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Found {
    #[n(0)]
    pub replica: ReplicaId,
    /// As of its last entry: see [`tail::Tail`], also for the others.
    #[n(1)]
    pub state: RangeState,
    #[n(2)]
    pub steps: Vec<RangeDescriptor>,
    #[n(3)]
    pub births: Vec<RangeState>,
    #[n(4)]
    pub newest: Timestamp,
    /// How far the engine has come, durably.
    #[n(5)]
    pub applied: LogPosition,
    /// The last entry that is known here to be committed.
    #[n(6)]
    pub committed: u64,
    #[n(7)]
    pub last: LogPosition,
    /// The highest term that it has heard of.
    #[n(8)]
    pub term: u64,
    #[n(9)]
    pub takes: Vec<RangeId>,
    #[n(10)]
    pub cut: Option<LogPosition>,
    /// Its contents were given to it while they changed, and are of one moment only from this entry on, which is beyond its log.
    #[n(11)]
    pub torn: Option<u64>,
}

impl Found {
    pub fn range(&self) -> RangeId {
        self.state.descriptor.id
    }

    /// The last entry that it can apply.
    pub fn reach(&self) -> LogPosition {
        self.cut.unwrap_or(self.last)
    }

    pub fn span(&self) -> Span {
        self.state.descriptor.span()
    }
}

/// A replica whose contents have not come, or not whole: it has a log and a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Hollow {
    #[n(0)]
    pub range: RangeId,
    #[n(1)]
    pub replica: ReplicaId,
    #[n(2)]
    pub last: LogPosition,
}

/// A replica that went, and what it left behind. The tombstone names the range that has taken its own in, if one has.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Grave {
    #[n(0)]
    pub range: RangeId,
    #[n(1)]
    pub tombstone: Tombstone,
}

impl Grave {
    /// Whether a replica of a range is gone from this store.
    pub fn holds(&self, range: RangeId, replica: ReplicaId) -> bool {
        self.range == range && replica < self.tombstone.next_replica
    }

    /// Whether there will never be another replica of the range here.
    pub fn is_final(&self) -> bool {
        self.tombstone.next_replica == ReplicaId(u64::MAX)
    }
}

fn last_of(log: &RecoveredGroup) -> LogPosition {
    log.entries.last().map_or(log.truncated, |entry| LogPosition { index: entry.index, term: entry.term })
}

/// Looks at what a store holds.
///
/// # Errors
/// When it is damaged.
pub fn examine(store: Store, engine: &dyn Engine, log: &RecoveredLog) -> Result<Findings, EngineError> {
    let mut findings = Findings {
        store,
        ceiling: log.ceiling,
        replicas: Vec::new(),
        hollow: Vec::new(),
        graves: graves(engine)?,
        tables: Vec::new(),
        ranges: Vec::new(),
    };
    let mut logs = log.groups.clone();
    let states = state::load_all(engine)?;
    let is_here = |merge: &Merge| is_frozen(merge, &states, log);
    for (state, applied) in states.iter().cloned() {
        let mut log = logs.remove(&state.descriptor.id).unwrap_or_default();
        log.catch_up_with(LogPosition { index: applied.index, term: applied.term });
        let replica = state.descriptor.replica_on(findings.store.node).map_or(ReplicaId(log.replica), |me| me.id);
        // A removed one that is needed no more: what a start would delete.
        if replica == ReplicaId::default() {
            continue;
        }
        findings.read_rows(engine, &state, applied, &log)?;
        findings.replicas.push(found(replica, &state, applied, &log, is_here)?);
    }
    for (range, log) in logs {
        let replica = ReplicaId(log.replica);
        if log.replica > 0 && !findings.graves.iter().any(|grave| grave.holds(range, replica)) {
            findings.hollow.push(Hollow { range, replica, last: last_of(&log) });
        }
    }
    Ok(findings)
}

fn found(
    replica: ReplicaId,
    state: &RangeState,
    applied: Applied,
    log: &RecoveredGroup,
    is_here: impl Fn(&Merge) -> bool,
) -> Result<Found, EngineError> {
    let tail = tail::follow(state, applied, log, is_here)?;
    let last = last_of(log);
    let reach = tail.cut.unwrap_or(last).index;
    Ok(Found {
        replica,
        state: tail.state,
        steps: tail.steps,
        births: tail.births,
        newest: tail.newest,
        applied: LogPosition { index: applied.index, term: applied.term },
        committed: log.hard_state.commit.max(applied.index),
        last,
        term: log.hard_state.term.max(applied.term),
        takes: tail.takes,
        cut: tail.cut,
        torn: applied.whole_at.filter(|whole_at| *whole_at > reach),
    })
}

/// Whether the range that a merge takes in is here, and has applied the freeze or has it in its log.
fn is_frozen(merge: &Merge, states: &[(RangeState, Applied)], log: &RecoveredLog) -> bool {
    let (index, term) = (merge.frozen.index, merge.frozen.term);
    let Some((state, _)) = states.iter().find(|(state, _)| state.descriptor.id == merge.right.id) else { return false };
    let holds = |group: &RecoveredGroup| group.entries.iter().any(|entry| (entry.index, entry.term) == (index, term));
    let applied = state.frozen.as_ref().is_some_and(|frozen| frozen.index == index);
    applied || log.groups.get(&merge.right.id).is_some_and(holds)
}

fn graves(engine: &dyn Engine) -> Result<Vec<Grave>, EngineError> {
    let (start, end) = keys::all_range_states();
    let mut ranges = std::collections::BTreeSet::new();
    txn::engine::visit(engine, Space::Local, &start, &end, |key, _| {
        ranges.extend(keys::parse_range_state(key).map(|(range, _)| range));
        Ok(true)
    })?;
    let grave = |range| {
        let tombstone = state::tombstone(engine, range).transpose()?;
        Some(tombstone.map(|tombstone| Grave { range, tombstone }))
    };
    ranges.into_iter().filter_map(grave).collect()
}

impl Findings {
    /// What the meta range and the catalog have to say, if a replica here holds them.
    fn read_rows(
        &mut self,
        engine: &dyn Engine,
        state: &RangeState,
        applied: Applied,
        log: &RecoveredGroup,
    ) -> Result<(), EngineError> {
        let of = |prefix: &[u8]| Span::prefix(&Key(prefix.to_vec())).intersect(&state.descriptor.span());
        let meta = of(&[keyspace::META]);
        if !meta.is_empty() {
            for (_, value) in tail::rows(engine, applied, log, &meta)? {
                self.ranges.push(codec::decode("a range descriptor", &value)?);
            }
        }
        let catalog = of(crate::sql::catalog::DESCRIPTORS);
        if !catalog.is_empty() {
            let rows = tail::rows(engine, applied, log, &catalog)?;
            self.tables.extend(rows.into_iter().map(|(_, value)| ByteVec::from(value)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proto::{Epoch, ReplicaDescriptor};
    use txn::{MemoryEngine, WriteBatch};

    use super::*;
    use crate::raft::record::LogEntry;

    #[test]
    fn graves_are_those_of_the_ranges_that_went_and_contents_are_torn_short_of_the_entry_that_makes_them_whole() {
        let replicas = vec![ReplicaDescriptor::voter(NodeId(1), ReplicaId(1))];
        let merged = RangeDescriptor::new(RangeId(3), Span::new("a", "z"), Epoch(9), replicas);
        let applied = Applied { index: 20, term: 7, whole_at: Some(22), ..Applied::default() };
        let (mut engine, mut batch) = (MemoryEngine::default(), WriteBatch::default());
        state::put_state(&mut batch, &RangeState::new(merged.clone(), Timestamp(1)));
        state::put_applied(&mut batch, RangeId(3), applied);
        state::put_tombstone(&mut batch, RangeId(4), &Tombstone::subsumed_by(merged));
        engine.write(batch).unwrap();
        let examined = |last: u64| {
            let truncated = LogPosition { index: 20, term: 7 };
            let entries =
                (21..=last).map(|index| LogEntry { index, term: 7, kind: 0, data: Vec::new().into() }).collect();
            let group = RecoveredGroup { replica: 1, truncated, entries, ..RecoveredGroup::default() };
            let log = RecoveredLog { groups: [(RangeId(3), group)].into(), ..RecoveredLog::default() };
            let (cluster, node, store) = (ClusterId(7), NodeId(1), StoreId(1));
            let store = Store { cluster, node, store, starts: 1, members: Vec::new(), begun: None };
            examine(store, &engine, &log).unwrap()
        };
        let (short, long) = (examined(21), examined(22));
        assert_eq!((short.replicas[0].torn, long.replicas[0].torn), (Some(22), None));
        let grave = &short.graves[0];
        assert!(grave.holds(RangeId(4), ReplicaId(1)) && grave.is_final() && !grave.holds(RangeId(3), ReplicaId(1)));
    }
}
