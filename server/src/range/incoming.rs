//! A replica takes in a range's contents: the receiving side of [`super::snapshot`].
//!
//! ```text
//!             an offer worth taking                 the last piece            Raft takes the snapshot
//!   whole ───────────────────────────▶ hollow, ────────────────────▶ hollow, ─────────────────────────▶ whole
//!                    ┌────────────────▶ taking in                     complete
//!   hollow ──────────┘                    │ ▲
//!   (new, or what a crash left)           ▼ │ gone, or too long without a word: another offer
//!                                       hollow
//! ```
//!
//! A *hollow* replica has no contents that mean anything: the engine holds no state of it. Its Raft log and its vote are as good as ever: it votes
//! by its log, which may hold entries that others count on. It stands for no election, and entries that are committed are not applied: the
//! contents that come are further.

use std::time::Duration;

use proto::message::ContentsMessage;
use proto::{NodeId, ReplicaId, Span, codec};
use raft::eraftpb::{Message, Snapshot};
use txn::WriteBatch;
use txn::engine::EngineError;

use super::replica::{Replica, Surroundings};
use super::snapshot::{self, Manifest, Piece, Position, Version, Word};
use super::state::{self, Applied};
use crate::probe::Path;

/// Contents on their way in.
#[derive(Clone, Debug)]
pub struct Incoming {
    manifest: Manifest,
    snapshot: Snapshot,
    /// The latest offer, perhaps of another version.
    offer: Message,
    /// Whom to ask.
    from: (NodeId, ReplicaId),
    next: Position,
    /// When a piece was last asked for, and when one last came.
    asked: Option<Duration>,
    heard: Duration,
    /// The last entry that any piece shows.
    as_of: u64,
}

impl Incoming {
    /// What the contents lie in.
    pub fn span(&self) -> Span {
        self.manifest.state.descriptor.span()
    }

    pub fn version(&self) -> Version {
        self.manifest.version()
    }
}

/// The manifest in a message that offers a Raft snapshot.
///
/// # Errors
/// [`EngineError::Corrupt`] if it is none.
pub fn manifest(offer: &Message) -> Result<Manifest, EngineError> {
    Ok(codec::decode("a Raft snapshot", &offer.get_snapshot().data)?)
}

impl Replica {
    /// Whether an offered snapshot asks for contents: else Raft itself knows what to do with it.
    pub fn needs_contents(&self, offer: &Message) -> bool {
        let meta = offer.get_snapshot().get_metadata();
        let news = meta.index > self.group.committed_index() && !self.group.holds(meta.index, meta.term);
        offer.term >= self.group.term() && (self.hollow || news)
    }

    /// Takes an offer. Others of this store hold nothing of its span.
    pub fn take_offer(&mut self, cx: &mut Surroundings<'_>, from: (NodeId, ReplicaId), offer: &Message) {
        let manifest = match manifest(offer) {
            Ok(manifest) => manifest,
            Err(error) => return self.stop(cx, &error),
        };
        if let Some(incoming) = &mut self.incoming {
            incoming.offer = offer.clone();
            // Whoever offers now may be asked for what is still missing.
            if incoming.from != from {
                incoming.from = from;
                incoming.asked = None;
            }
            return;
        }
        if let Err(error) = self.hollow_out(cx, &manifest) {
            return self.stop(cx, &error);
        }
        cx.knobs.probe.took(Path::ContentsAsked);
        let (first, start, _) = snapshot::bounds(&manifest.state.descriptor.span())[0].clone();
        self.incoming = Some(Incoming {
            manifest,
            snapshot: offer.get_snapshot().clone(),
            offer: offer.clone(),
            from,
            next: Position { space: first, key: start.into() },
            asked: None,
            heard: cx.now,
            as_of: 0,
        });
        self.tick_incoming(cx);
    }

    /// From here on the engine holds nothing that counts.
    fn hollow_out(&mut self, cx: &mut Surroundings<'_>, manifest: &Manifest) -> Result<(), EngineError> {
        self.lose_contents(cx)?;
        let mut batch = WriteBatch::default();
        snapshot::clear(&mut batch, &manifest.state.descriptor.span());
        cx.engine.write(batch)
    }

    /// Gives up its contents, which nobody can use: others are to be given to it.
    pub(super) fn lose_contents(&mut self, cx: &mut Surroundings<'_>) -> Result<(), EngineError> {
        if self.hollow {
            return Ok(());
        }
        cx.knobs.probe.took(Path::HollowedOut);
        self.hollow = true;
        self.group.set_hollow(true);
        if self.group.is_leader() {
            self.group.resign();
        }
        self.step_down(cx);
        let mut batch = WriteBatch::default();
        snapshot::clear(&mut batch, &self.state.descriptor.span());
        state::remove_state(&mut batch, self.state.descriptor.id);
        cx.engine.write(batch)
    }

    /// A word about contents has arrived.
    pub fn hear_of_contents(&mut self, cx: &mut Surroundings<'_>, from: NodeId, message: &ContentsMessage) {
        let Ok(word) = codec::decode::<Word>("a word about contents", &message.payload) else { return };
        match word {
            Word::Ask { version, at, bytes_max } => self.give(cx, (from, message.from), version, at, bytes_max),
            Word::Piece(piece) => {
                if let Err(error) = self.take_piece(cx, piece) {
                    self.stop(cx, &error);
                }
            }
            Word::Gone(version) => self.give_up(cx, version),
        }
    }

    fn take_piece(&mut self, cx: &mut Surroundings<'_>, piece: Piece) -> Result<(), EngineError> {
        let Some(incoming) = &mut self.incoming else { return Ok(()) };
        // Late, repeated, or damaged on the way: it is asked for again.
        let expected = incoming.version() == piece.version && incoming.next == piece.at;
        if !expected || crc32c::crc32c(&piece.rows) != piece.sum {
            return Ok(());
        }
        let rows: WriteBatch = codec::decode("rows of a Raft snapshot", &piece.rows)?;
        cx.engine.write(rows)?;
        cx.receive(piece.rows.len());
        incoming.heard = cx.now;
        incoming.asked = None;
        incoming.as_of = incoming.as_of.max(piece.as_of);
        match piece.next {
            Some(next) => {
                incoming.next = next;
                self.tick_incoming(cx);
            }
            None => self.complete(),
        }
        Ok(())
    }

    /// All contents are here: Raft may have its snapshot.
    fn complete(&mut self) {
        let Some(incoming) = self.incoming.take() else { return };
        self.complete = Some((incoming.version(), incoming.as_of));
        let mut offer = incoming.offer;
        offer.snapshot = Some(incoming.snapshot);
        // If it declines, for it has heard of something newer meanwhile, the contents will be offered again.
        let _ = self.group.step(offer);
        self.dirty = true;
    }

    /// What is being taken in cannot be completed.
    fn give_up(&mut self, cx: &mut Surroundings<'_>, version: Version) {
        let Some(incoming) = self.incoming.take_if(|incoming| incoming.version() == version) else { return };
        cx.knobs.probe.took(Path::TransferGivenUp);
        drop(incoming);
    }

    /// A hollow replica whose log goes on is not offered contents by itself. It asks for them when all of its log is committed: the library
    /// takes in nothing further then, and what is not committed yet may need this very replica. Under load that moment has to be made: by turns it
    /// takes entries in, and waits for those that it has.
    pub fn ask_for_contents(&mut self) {
        if !self.hollow || self.incoming.is_some() || self.group.last_index() == 0 {
            return;
        }
        self.hollow_ticks = self.hollow_ticks.wrapping_add(1);
        if self.group.committed_index() == self.group.last_index() {
            self.group.request_snapshot();
            self.dirty = true;
        }
    }

    /// Whether it takes no entries in just now.
    pub fn waits_for_commits(&self) -> bool {
        const TURN: u32 = 10;
        self.hollow && self.incoming.is_none() && (self.hollow_ticks / TURN) % 2 == 1
    }

    /// Asks for the next piece, if it is time to.
    pub fn tick_incoming(&mut self, cx: &mut Surroundings<'_>) {
        let Some(incoming) = &mut self.incoming else { return };
        if cx.now >= incoming.heard + cx.knobs.snapshot_patience {
            let version = incoming.version();
            return self.give_up(cx, version);
        }
        let again = incoming.asked.is_none_or(|asked| cx.now >= asked + cx.knobs.snapshot_ask_again);
        if !again || !cx.may_receive() {
            return;
        }
        incoming.asked = Some(cx.now);
        let word = Word::Ask {
            version: incoming.version(),
            at: incoming.next.clone(),
            bytes_max: cx.knobs.snapshot_piece_bytes,
        };
        let to = incoming.from;
        self.tell(cx, to, &word);
    }

    /// Raft has accepted a snapshot whose contents are here.
    pub fn install_snapshot(&mut self, cx: &mut Surroundings<'_>, snapshot: &Snapshot) {
        if let Err(error) = self.try_install(cx, snapshot) {
            self.stop(cx, &error);
        }
    }

    fn try_install(&mut self, cx: &mut Surroundings<'_>, snapshot: &Snapshot) -> Result<(), EngineError> {
        let manifest: Manifest = codec::decode("a Raft snapshot", &snapshot.data)?;
        let (complete, as_of) = self.complete.take().unzip();
        assert!(self.hollow && complete == Some(manifest.version()), "a Raft snapshot is installed over its contents");
        self.applied = Applied { whole_at: as_of, ..manifest.applied };
        self.set_state(manifest.state);
        self.hollow = false;
        self.group.set_hollow(false);
        let mut batch = WriteBatch::default();
        state::put_state(&mut batch, &self.state);
        state::put_applied(&mut batch, self.state.descriptor.id, self.applied);
        cx.engine.write(batch)?;
        cx.knobs.probe.took(Path::SnapshotInstalled);
        self.dirty = true;
        Ok(())
    }
}
