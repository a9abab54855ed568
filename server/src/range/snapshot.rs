//! Raft snapshots: a replica that fell behind the truncated log gets the range's whole state at once.
//!
//! The state travels as one value. That bounds the size of a range that can be caught up in this way by what a message may
//! hold; streaming in chunks belongs to moving replicas.

use minicbor::{Decode, Encode};
use proto::{Span, codec};
use raft::eraftpb::Snapshot;
use txn::WriteBatch;
use txn::engine::{self, Engine, EngineError, EngineWrite, Space};
use txn::keys;

use super::replica::{Replica, Surroundings};
use super::state::{self, Applied, RangeState};
use crate::probe::Path;

/// A range's state as of an applied entry.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
struct Contents {
    #[n(0)]
    state: RangeState,
    #[n(1)]
    applied: Applied,
    #[n(2)]
    data: WriteBatch,
}

/// Where a range's data lies in each space.
fn bounds(span: &Span) -> [(Space, Vec<u8>, Vec<u8>); 3] {
    [
        (Space::Versions, keys::versions_of(&span.start), keys::versions_of(&span.end)),
        (Space::Intents, span.start.0.clone(), span.end.0.clone()),
        (Space::Local, keys::records_of(&span.start), keys::records_of(&span.end)),
    ]
}

impl Replica {
    /// Builds what a follower needs, if one asked.
    pub fn make_snapshot(&mut self, cx: &mut Surroundings<'_>) {
        if self.stopped.is_some() || !self.group.take_snapshot_wanted() {
            return;
        }
        cx.knobs.probe.took(Path::SnapshotMade);
        match self.contents(cx.engine) {
            Ok(contents) => self.group.offer_snapshot(self.applied.index, codec::encode(&contents)),
            Err(error) => self.stop(cx, &error),
        }
    }

    fn contents(&self, engine: &dyn Engine) -> Result<Contents, EngineError> {
        let mut data = WriteBatch::default();
        for (space, start, end) in bounds(&self.state.descriptor.span()) {
            engine::visit(engine, space, &start, &end, |key, value| {
                data.writes.push(EngineWrite { space, key: key.to_vec(), value: Some(value.to_vec()) });
                Ok(true)
            })?;
        }
        Ok(Contents { state: self.state.clone(), applied: self.applied, data })
    }

    /// Replaces everything here by a Raft snapshot.
    pub fn install_snapshot(&mut self, cx: &mut Surroundings<'_>, snapshot: &Snapshot) {
        if let Err(error) = self.try_install(cx, snapshot) {
            self.stop(cx, &error);
        }
    }

    fn try_install(&mut self, cx: &mut Surroundings<'_>, snapshot: &Snapshot) -> Result<(), EngineError> {
        let contents: Contents = codec::decode("a Raft snapshot", &snapshot.data)?;
        let mut batch = WriteBatch::default();
        for span in [self.state.descriptor.span(), contents.state.descriptor.span()] {
            for (space, start, end) in bounds(&span) {
                engine::visit(cx.engine, space, &start, &end, |key, _| {
                    batch.remove(space, key.to_vec());
                    Ok(true)
                })?;
            }
        }
        batch.writes.extend(contents.data.writes);
        self.state = contents.state;
        self.group.set_voters(self.state.descriptor.replicas.iter().map(|r| r.id.0).collect());
        self.applied = contents.applied;
        state::put_state(&mut batch, &self.state);
        state::put_applied(&mut batch, self.state.descriptor.id, self.applied);
        cx.engine.write(batch)?;
        cx.knobs.probe.took(Path::SnapshotInstalled);
        self.dirty = true;
        Ok(())
    }
}
