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
//!
//! How far contents have come is written down with every piece ([`Intake`]), so that after a crash the transfer goes on where the engine has it; if the
//! version can still be had, that is: whoever gives it keeps the log for it for a while only.

use std::time::Duration;

use proto::message::ContentsMessage;
use proto::{NodeId, ReplicaId, Span, codec};
use raft::eraftpb::{Message, Snapshot};
use txn::WriteBatch;
use txn::engine::EngineError;

use super::replica::{Replica, Surroundings};
use super::snapshot::{self, Manifest, Piece, Version, Word};
use super::state::{self, Applied, Intake, Position};
use crate::probe::Path;
use crate::raft::group::{decode_message, encode_message};

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
    heard: Option<Duration>,
    /// The last entry that any piece shows.
    as_of: u64,
}

impl Incoming {
    /// From the beginning.
    fn new(from: (NodeId, ReplicaId), offer: &Message) -> Result<Incoming, EngineError> {
        let manifest = manifest(offer)?;
        let (space, start, _) = snapshot::bounds(&manifest.state.descriptor.span())[0].clone();
        let next = Position { space, key: start.into() };
        let snapshot = offer.get_snapshot().clone();
        Ok(Incoming { manifest, snapshot, offer: offer.clone(), from, next, asked: None, heard: None, as_of: 0 })
    }

    /// From where a crash left it.
    ///
    /// # Errors
    /// [`EngineError::Corrupt`] if what was written down makes no sense.
    pub fn resumed(intake: &Intake) -> Result<Incoming, EngineError> {
        let offer = decode_message(&intake.offer).map_err(EngineError::Corrupt)?;
        let (next, as_of) = (intake.next.clone(), intake.as_of);
        Ok(Incoming { next, as_of, ..Incoming::new(intake.from, &offer)? })
    }

    fn intake(&self, replica: ReplicaId) -> Intake {
        let mut offer = self.offer.clone();
        offer.snapshot = Some(self.snapshot.clone());
        let (next, as_of) = (self.next.clone(), self.as_of);
        Intake { replica, offer: encode_message(&offer).into(), from: self.from, next, as_of }
    }

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
        if let Some(incoming) = &mut self.incoming {
            incoming.offer = offer.clone();
            // Whoever offers now may be asked for what is still missing.
            if incoming.from != from {
                incoming.from = from;
                incoming.asked = None;
            }
            return;
        }
        match Incoming::new(from, offer).and_then(|incoming| self.hollow_out(cx, &incoming).map(|()| incoming)) {
            Ok(incoming) => self.incoming = Some(incoming),
            Err(error) => return self.stop(cx, &error),
        }
        cx.knobs.probe.took(Path::ContentsAsked);
        self.tick_incoming(cx);
    }

    /// From here on the engine holds nothing that counts, but what comes in.
    fn hollow_out(&mut self, cx: &mut Surroundings<'_>, incoming: &Incoming) -> Result<(), EngineError> {
        self.lose_contents(cx)?;
        let mut batch = WriteBatch::default();
        snapshot::clear(&mut batch, &incoming.span());
        state::put_intake(&mut batch, self.state.descriptor.id, &incoming.intake(self.me.id));
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
        let mut batch: WriteBatch = codec::decode("rows of a Raft snapshot", &piece.rows)?;
        incoming.heard = Some(cx.now);
        incoming.asked = None;
        incoming.as_of = incoming.as_of.max(piece.as_of);
        // After the last one it is Raft's turn. If that comes to nothing, for there was a crash, the last one is asked for again.
        let is_last = piece.next.is_none();
        if let Some(next) = piece.next {
            incoming.next = next;
            state::put_intake(&mut batch, self.state.descriptor.id, &incoming.intake(self.me.id));
        }
        cx.engine.write(batch)?;
        cx.receive(piece.rows.len());
        match is_last {
            true => self.complete(),
            false => self.tick_incoming(cx),
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
        if self.incoming.take_if(|incoming| incoming.version() == version).is_none() {
            return;
        }
        cx.knobs.probe.took(Path::TransferGivenUp);
        let mut batch = WriteBatch::default();
        state::remove_intake(&mut batch, self.state.descriptor.id);
        if let Err(error) = cx.engine.write(batch) {
            self.stop(cx, &error);
        }
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
        let heard = *incoming.heard.get_or_insert(cx.now);
        if cx.now >= heard + cx.knobs.snapshot_patience {
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
        state::remove_intake(&mut batch, self.state.descriptor.id);
        cx.engine.write(batch)?;
        cx.knobs.probe.took(Path::SnapshotInstalled);
        self.dirty = true;
        Ok(())
    }
}
