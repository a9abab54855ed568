//! Raft snapshots: a replica that the log cannot help gets the range's contents, a piece at a time.
//!
//! What Raft sends as a snapshot is only a [`Manifest`]: the range's state as of an applied entry. The contents follow on demand: the
//! receiver asks for one piece after another (see [`super::incoming`]), at its own pace, and any replica that is as far
//! answers from what its engine holds *at that moment*. So nobody keeps anything for a transfer: it survives lost
//! messages, pauses, and a change of leaders.
//!
//! Pieces taken at different moments do not make up one moment. They need not. Entries are applied blindly: each sets keys to values,
//! whatever was there. A key's copy shows it as of some entry at or after the manifest's; applying all entries after the manifest's
//! to the copies, in order, ends with each key as the last of them left it, which is what the sender has. Until then some keys are ahead of others, and
//! nobody sees it. A leader serves only once it has applied an entry of its own term, and so all that were committed before; and a replica that is read
//! in the past ([`super::past`]) serves only once it has applied the last entry that any piece shows.
//! What this asks for: the sender's log reaches back to the manifest (it is kept while somebody asks), and the range's bounds stay
//! (else the epoch differs, and the transfer begins anew).

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use proto::message::{Body, ContentsMessage};
use proto::{Epoch, NodeId, ReplicaId, Span, codec};
use txn::WriteBatch;
use txn::engine::{self, Engine, EngineError, Space};
use txn::keys;

use super::replica::{Replica, Surroundings};
use super::state::{Applied, Position, RangeState};
use crate::probe::Path;
use crate::raft::Members;

/// What a Raft snapshot says by itself.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Manifest {
    #[n(0)]
    pub state: RangeState,
    #[n(1)]
    pub applied: Applied,
}

impl Manifest {
    /// Tells transfers apart.
    pub fn version(&self) -> Version {
        Version { epoch: self.state.descriptor.epoch, index: self.applied.index }
    }
}

/// Which contents: of a range at an epoch, complete once everything after an entry is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Version {
    #[n(0)]
    pub epoch: Epoch,
    #[n(1)]
    pub index: u64,
}

/// What two replicas say to each other about contents.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Word {
    /// Give me what comes here.
    #[n(0)]
    Ask {
        #[n(0)]
        version: Version,
        #[n(1)]
        at: Position,
        #[n(2)]
        bytes_max: u64,
    },
    #[n(1)]
    Piece(#[n(0)] Piece),
    /// This version cannot be had here.
    #[n(2)]
    Gone(#[n(0)] Version),
}

/// Some rows of the contents.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Piece {
    #[n(0)]
    pub version: Version,
    #[n(1)]
    pub at: Position,
    /// A [`WriteBatch`].
    #[n(2)]
    pub rows: ByteVec,
    /// CRC-32C of `rows`, made where they were read.
    #[n(3)]
    pub sum: u32,
    /// Where the next piece begins; none after the last.
    #[n(4)]
    pub next: Option<Position>,
    /// The entry as of which the rows are what they are.
    #[n(5)]
    pub as_of: u64,
}

/// Where a range's data lies in each space.
pub fn bounds(span: &Span) -> [(Space, Vec<u8>, Vec<u8>); 3] {
    [
        (Space::Versions, keys::versions_of(&span.start), keys::versions_of(&span.end)),
        (Space::Intents, span.start.0.clone(), span.end.0.clone()),
        (Space::Local, keys::records_of(&span.start), keys::records_of(&span.end)),
    ]
}

/// Whether any data lies in a span.
///
/// # Errors
/// When the engine fails.
pub fn holds_any(engine: &dyn Engine, span: &Span) -> Result<bool, EngineError> {
    let mut found = false;
    for (space, start, end) in bounds(span) {
        engine::visit(engine, space, &start, &end, |_, _| {
            found = true;
            Ok(false)
        })?;
    }
    Ok(found)
}

/// Removes a range's data.
pub fn clear(batch: &mut WriteBatch, span: &Span) {
    for (space, start, end) in bounds(span) {
        batch.clear(space, start, end);
    }
}

impl Replica {
    /// Offers a follower what it needs, if one asked.
    pub fn make_snapshot(&mut self, cx: &mut Surroundings<'_>) {
        // Even by a leader that does not serve yet: it may need this very follower for its first entry.
        if self.stopped.is_some() || self.hollow || !self.group.take_snapshot_wanted() {
            return;
        }
        cx.knobs.probe.took(Path::SnapshotMade);
        let manifest = Manifest { state: self.state.clone(), applied: self.applied };
        let members = Members::from(&self.state.descriptor);
        self.group.offer_snapshot(self.applied.index, &members, codec::encode(&manifest));
        self.keep_log(cx, self.applied.index);
        // It is sent when the follower says something next.
        self.group.tell_committed();
        self.dirty = true;
    }

    /// Keeps the log from here on for whoever is given contents as of this entry.
    fn keep_log(&mut self, cx: &Surroundings<'_>, index: u64) {
        let kept = self.log_kept.filter(|(_, until)| *until > cx.now).map_or(index, |(kept, _)| kept.min(index));
        self.log_kept = Some((kept, cx.now + cx.knobs.snapshot_patience));
    }

    /// Sends a replica a word about contents.
    pub(super) fn tell(&self, cx: &mut Surroundings<'_>, to: (NodeId, ReplicaId), word: &Word) {
        let payload = codec::encode(word).into();
        let message = ContentsMessage { range: self.descriptor().id, from: self.me.id, to: to.1, payload };
        cx.effects.messages.push((to.0, Body::Contents(message)));
    }

    /// Answers a replica that asks for a piece.
    pub(super) fn give(
        &mut self,
        cx: &mut Surroundings<'_>,
        to: (NodeId, ReplicaId),
        version: Version,
        at: Position,
        bytes_max: u64,
    ) {
        if self.stopped.is_some() || self.hollow {
            return;
        }
        let has = self.descriptor().epoch == version.epoch
            && self.applied.index >= version.index
            && self.group.truncated_index() <= version.index;
        if !has {
            return self.tell(cx, to, &Word::Gone(version));
        }
        self.keep_log(cx, version.index);
        match self.read_piece(cx.engine, version, at, bytes_max) {
            Ok(piece) => {
                cx.knobs.probe.took(Path::PieceGiven);
                self.tell(cx, to, &Word::Piece(piece));
            }
            Err(error) => self.stop(cx, &error),
        }
    }

    fn read_piece(
        &self,
        engine: &dyn Engine,
        version: Version,
        at: Position,
        bytes_max: u64,
    ) -> Result<Piece, EngineError> {
        let mut rows = WriteBatch::default();
        let mut bytes = 0u64;
        let mut next = None;
        for (space, start, end) in bounds(&self.descriptor().span()) {
            if space < at.space {
                continue;
            }
            let from = if space == at.space { start.max(at.key.to_vec()) } else { start };
            engine::visit(engine, space, &from, &end, |key, value| {
                if bytes >= bytes_max {
                    next = Some(Position { space, key: key.to_vec().into() });
                    return Ok(false);
                }
                bytes += (key.len() + value.len()) as u64;
                rows.put(space, key.to_vec(), value.to_vec());
                Ok(true)
            })?;
            if next.is_some() {
                break;
            }
        }
        let rows = codec::encode(&rows);
        let sum = crc32c::crc32c(&rows);
        // What was given to this replica itself may be of a later moment still.
        let as_of = self.applied.whole_at.unwrap_or(0).max(self.applied.index);
        Ok(Piece { version, at, rows: rows.into(), sum, next, as_of })
    }
}
