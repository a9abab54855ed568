//! What a replica keeps in the engine about itself.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use proto::range::Frozen;
use proto::{Epoch, NodeId, RangeDescriptor, RangeId, ReplicaId, Timestamp, codec};
use txn::engine::{Engine, EngineError, Space, WriteBatch};
use txn::keys;

const DESCRIPTOR: &[u8] = b"descriptor";
const TOMBSTONE: &[u8] = b"tombstone";
const INTAKE: &[u8] = b"intake";

/// How far the engine has come. Written with every batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Applied {
    #[n(0)]
    pub index: u64,
    #[n(1)]
    pub term: u64,
    /// Of the versions that the replica holds, about: exact as long as the range is not split.
    #[n(2)]
    #[cbor(default)]
    pub bytes: u64,
    /// What an entry closed since the range's state was last written: see [`RangeState::closed`].
    #[n(3)]
    #[cbor(default)]
    pub closed: Timestamp,
    /// The replica was given contents that are of one moment only once this entry is applied; none of which it was not so.
    #[n(10)]
    pub whole_at: Option<u64>,
}

impl Applied {
    /// Whether what the engine holds is of one moment.
    pub fn is_whole(&self) -> bool {
        self.whole_at.is_none_or(|index| index <= self.index)
    }
}

/// What changes seldom.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RangeState {
    #[n(0)]
    pub descriptor: RangeDescriptor,
    /// Everything in the range counts as read up to here, for its first leader.
    #[n(1)]
    pub read_floor: Timestamp,
    /// Receipts of transactions that started at or below this may be gone.
    #[n(2)]
    pub receipt_floor: Timestamp,
    /// Up to which epoch of the descriptor replicas that were removed are not needed any more: see [`super::membership`].
    #[n(3)]
    #[cbor(default)]
    pub settled: Epoch,
    /// It serves nothing, whoever leads: see [`super::merge`].
    #[n(4)]
    pub frozen: Option<Frozen>,
    /// Whether its first key is a boundary that an operator asked for.
    #[n(5)]
    #[cbor(default)]
    pub pinned: bool,
    /// Nothing is written at or below this any more, but by settling intents that are there: see [`super::closing`].
    #[n(10)]
    #[cbor(default)]
    pub closed: Timestamp,
}

impl RangeState {
    /// Of a range that nobody has served yet.
    pub fn new(descriptor: RangeDescriptor, read_floor: Timestamp) -> RangeState {
        let settled = descriptor.epoch;
        let (receipt_floor, closed) = (Timestamp::ZERO, Timestamp::ZERO);
        RangeState { descriptor, read_floor, receipt_floor, settled, frozen: None, pinned: false, closed }
    }

    /// Whether those whom the descriptor counts as removed may be deleted.
    pub fn is_settled(&self) -> bool {
        self.settled == self.descriptor.epoch
    }
}

/// What a replica that was removed leaves behind (I13).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Tombstone {
    /// Replicas with a lower id are gone from this store for good.
    #[n(0)]
    pub next_replica: ReplicaId,
    /// The range as it was last known here, or the one that has taken it in: whoever asks for it here is sent on.
    #[n(1)]
    pub descriptor: RangeDescriptor,
}

impl Tombstone {
    /// Of a node's replica that a descriptor counts as removed.
    pub fn on(node: NodeId, descriptor: RangeDescriptor) -> Tombstone {
        // It may be about to have another one.
        let next_replica = descriptor.replica_on(node).map_or(descriptor.next_replica, |later| later.id);
        Tombstone { next_replica, descriptor }
    }

    /// Of a replica whose range another one has taken in: there will be none of that range any more.
    pub fn subsumed_by(descriptor: RangeDescriptor) -> Tombstone {
        Tombstone { next_replica: ReplicaId(u64::MAX), descriptor }
    }
}

/// How far contents have come in: see [`super::incoming`]. Written with every piece.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Intake {
    /// Which replica takes them in.
    #[n(0)]
    pub replica: ReplicaId,
    /// Raft's message that offered them.
    #[n(1)]
    pub offer: ByteVec,
    /// Whom to ask for more.
    #[n(2)]
    pub from: (NodeId, ReplicaId),
    #[n(3)]
    pub next: Position,
    /// The last entry that any piece shows.
    #[n(4)]
    pub as_of: u64,
}

/// A place in a range's contents: this key or the first one after it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Position {
    #[n(0)]
    pub space: Space,
    #[n(1)]
    pub key: ByteVec,
}

/// The log position at which every replica of a new range begins, so that its first real entry has a predecessor.
pub const INITIAL_POSITION: u64 = 5;

pub fn put_applied(batch: &mut WriteBatch, range: RangeId, applied: Applied) {
    batch.put(Space::Applied, keys::range_state(range, b""), codec::encode(&applied));
}

pub fn put_state(batch: &mut WriteBatch, state: &RangeState) {
    batch.put(Space::Local, keys::range_state(state.descriptor.id, DESCRIPTOR), codec::encode(state));
}

/// The engine holds no replica of the range any more.
pub fn remove_state(batch: &mut WriteBatch, range: RangeId) {
    batch.remove(Space::Applied, keys::range_state(range, b""));
    batch.remove(Space::Local, keys::range_state(range, DESCRIPTOR));
    remove_intake(batch, range);
}

pub fn put_intake(batch: &mut WriteBatch, range: RangeId, intake: &Intake) {
    batch.put(Space::Local, keys::range_state(range, INTAKE), codec::encode(intake));
}

pub fn remove_intake(batch: &mut WriteBatch, range: RangeId) {
    batch.remove(Space::Local, keys::range_state(range, INTAKE));
}

pub fn put_tombstone(batch: &mut WriteBatch, range: RangeId, tombstone: &Tombstone) {
    batch.put(Space::Local, keys::range_state(range, TOMBSTONE), codec::encode(tombstone));
}

/// What a removed replica of a range left here.
///
/// # Errors
/// When the engine fails.
pub fn tombstone(engine: &dyn Engine, range: RangeId) -> Result<Option<Tombstone>, EngineError> {
    let found = engine.get(Space::Local, &keys::range_state(range, TOMBSTONE))?;
    Ok(found.map(|bytes| codec::decode("a tombstone", &bytes)).transpose()?)
}

/// Every replica that the engine knows of, in order of range id.
///
/// # Errors
/// When the engine fails, or what it holds makes no sense.
pub fn load_all(engine: &dyn Engine) -> Result<Vec<(RangeState, Applied)>, EngineError> {
    all_with(engine, DESCRIPTOR)?.into_iter().map(|(id, bytes)| load(engine, id, &bytes)).collect()
}

/// All contents that are on their way in, in order of range id.
///
/// # Errors
/// When the engine fails, or what it holds makes no sense.
pub fn all_intakes(engine: &dyn Engine) -> Result<Vec<(RangeId, Intake)>, EngineError> {
    let found = all_with(engine, INTAKE)?.into_iter();
    found.map(|(id, bytes)| Ok((id, codec::decode("how far contents have come in", &bytes)?))).collect()
}

fn all_with(engine: &dyn Engine, what: &[u8]) -> Result<Vec<(RangeId, Vec<u8>)>, EngineError> {
    let (start, end) = keys::all_range_states();
    let mut found = Vec::new();
    txn::engine::visit(engine, Space::Local, &start, &end, |key, value| {
        let kept = keys::parse_range_state(key).filter(|(_, kept)| *kept == what);
        found.extend(kept.map(|(id, _)| (id, value.to_vec())));
        Ok(true)
    })?;
    Ok(found)
}

fn load(engine: &dyn Engine, id: RangeId, state: &[u8]) -> Result<(RangeState, Applied), EngineError> {
    let applied = engine.get(Space::Applied, &keys::range_state(id, b""))?;
    let applied = applied.ok_or_else(|| EngineError::Corrupt(format!("{id} lacks its applied index")))?;
    let applied: Applied = codec::decode("a range's applied index", &applied)?;
    let mut state: RangeState = codec::decode("a range's state", state)?;
    state.closed = state.closed.max(applied.closed);
    Ok((state, applied))
}
