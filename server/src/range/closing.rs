//! Closed timestamps: below them nothing is written any more, and so any replica may be read (I14).
//!
//! A leader *closes* a timestamp `c` by a command that carries it. Before that it raises its timestamp cache to `c`, so that whoever writes
//! afterwards is pushed above (I2). `c` trails the clock by a lag, is at most the fence, and lies below every command in flight.
//!
//! What a replica knows that has applied such an entry: in its log, everything after it lies above `c`, but for what settles an intent that lay
//! at or below `c` before. For the leader's later commands this is its timestamp cache. A later leader has the entry in its log, and applies it before it
//! serves; its cache begins at or above `c`: as low-water mark, since that is above every earlier fence; as a hand-over's summary, or a split's floor, since
//! those are made from the cache that was raised. It is raised here once more, so that this rests on the log alone.
//!
//! A merged range has closed what both had: the lesser of two timestamps. Later leaders are bound by the greater one, through its floor.
//!
//! So of a key that holds no intent at or below `r ≤ c` the versions up to `r` stay what they are for good, wherever they are read ([`super::past`]), and
//! whatever becomes of the range. The intents that there are have to be settled, as always, at their record.
//!
//! Closing costs next to nothing: a command that is proposed anyway carries it. An entry of its own is proposed only where the range is asked things
//! and nothing was written for a while, and once more before it falls quiet: then up to where it was asked last, as it has been idle since. While the range changes itself (a split, a merge, a change of members,
//! a hand-over) or is frozen, nothing is closed: what those commands say of reads was true when they were evaluated, and has to stay so until they are applied.
//!
//! A commit in several ranges that one of them pushes above what it has closed is tried again at the later timestamp, which by then another of them may
//! have closed. Where the lag is longer than such a round trip that ends at the second try. For any lag, a leader that has to push a transaction that tries
//! again *holds* for a while, closing nothing, and longer each time: in the end all ranges of the transaction hold at once, and it commits.

use std::time::Duration;

use proto::request::Operation;
use proto::transaction::Intent;
use proto::{Key, Timestamp, codec};
use txn::engine::{Engine, EngineError, EngineWrite, Space, WriteBatch};
use txn::{keys, mvcc};

use super::command::Command;
use super::replica::{Leading, Replica, Surroundings};
use crate::probe::Path;

/// What a leader has closed in its term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closing {
    /// The greatest timestamp that is closed by an entry, perhaps not applied yet.
    pub closed: Timestamp,
    /// When the last one was proposed, on the monotonic clock.
    pub at: Duration,
    /// When the range was asked something last; and the last time as of which that was so when it closed before falling quiet.
    pub asked: Duration,
    pub rested: Duration,
    /// How long it held last, and until when, because it had to push somebody who tried again.
    hold: Duration,
    held_until: Duration,
}

/// The first time it holds, and the longest.
const HOLD_MIN: Duration = Duration::from_millis(50);
const HOLD_MAX: Duration = Duration::from_secs(4);

impl Closing {
    /// Of a leader that begins now.
    pub fn new(now: Duration) -> Closing {
        let (hold, held_until) = (Duration::ZERO, Duration::ZERO);
        Closing { closed: Timestamp::ZERO, at: now, asked: now, rested: now, hold, held_until }
    }

    /// An entry that closes this is on its way.
    pub(super) fn proposed(&mut self, now: Duration, closed: Timestamp) {
        self.closed = closed;
        self.at = now;
    }

    /// Holds: twice as long as the last time if that was not enough.
    fn hold(&mut self, now: Duration) {
        let again = now < self.held_until + self.hold;
        self.hold = if again { (self.hold * 2).min(HOLD_MAX) } else { HOLD_MIN };
        self.held_until = now + self.hold;
    }
}

impl Leading {
    /// Holds if what is closed pushes a transaction that was pushed before.
    pub(super) fn hold_closing_for(&mut self, now: Duration, operation: &Operation) -> bool {
        let (again, at) = match operation {
            Operation::Prepare(prepare) => (prepare.txn.attempt > 1, prepare.timestamp),
            Operation::CommitOne(commit) => (commit.timestamp > commit.read, commit.timestamp),
            _ => return false,
        };
        let holds = again && self.reads.is_raised_past(at);
        if holds {
            self.closing.hold(now);
        }
        holds
    }
}

impl Replica {
    /// A leader begins to serve: all entries of earlier ones are applied, and what they have closed binds it.
    pub(super) fn respect_closed(&mut self) {
        if let Some(leading) = &mut self.leading {
            leading.reads.raise(self.state.closed);
            leading.closing.closed = self.state.closed;
        }
    }

    /// What a command that is about to be proposed closes beside what it does, if it is time to. It writes nothing below `timestamp`.
    pub(super) fn close_along(&mut self, cx: &Surroundings<'_>, timestamp: Timestamp) -> Option<Timestamp> {
        let last = self.leading.as_ref()?.closing.at;
        (cx.now >= last + cx.knobs.close_every / 4)
            .then(|| self.close_below(cx, cx.knobs.close_lag, timestamp))
            .flatten()
    }

    /// The timestamp that can be closed now, below everything in flight and one more command. From here on everything up to it counts as read.
    fn close_below(&mut self, cx: &Surroundings<'_>, lag: Duration, timestamp: Timestamp) -> Option<Timestamp> {
        let serves = self.is_serving() && self.state.frozen.is_none();
        let leading = self.leading.as_mut().filter(|leading| serves && leading.reshaping.is_none())?;
        if cx.now < leading.closing.held_until {
            return None;
        }
        let in_flight = leading.latches.least_in_flight().min(timestamp);
        let trailing = cx.clock.reading().minus(lag);
        let closed = trailing.min(leading.fence).min(in_flight.prev());
        if closed <= leading.closing.closed {
            return None;
        }
        leading.reads.raise(closed);
        Some(closed)
    }

    /// Closes by an entry of its own, where the range was asked something since it last closed and nothing was written.
    pub fn tick_closing(&mut self, cx: &mut Surroundings<'_>) {
        let due = |last: Duration| self.stirred > last && cx.now >= last + cx.knobs.close_alone_every();
        if self.is_serving() && self.leading.as_ref().is_some_and(|leading| due(leading.closing.at)) {
            self.close_alone(cx, cx.knobs.close_lag);
        }
    }

    /// Closes before the range falls quiet: whatever was written in it so far, for nobody has asked it anything since. Says whether there is
    /// something to be done yet.
    pub(super) fn close_before_rest(&mut self, cx: &mut Surroundings<'_>) -> bool {
        if self.leading.as_ref().is_none_or(|leading| leading.closing.asked <= leading.closing.rested) {
            return false;
        }
        let closes = self.close_alone(cx, cx.knobs.close_lag.min(cx.knobs.quiet_after));
        if let Some(leading) = self.leading.as_mut().filter(|leading| leading.closing.at == cx.now) {
            leading.closing.rested = leading.closing.asked;
        }
        closes
    }

    /// Proposes an entry that closes what can be. Says whether there is something to be done yet.
    fn close_alone(&mut self, cx: &mut Surroundings<'_>, lag: Duration) -> bool {
        let Some(leading) = self.leading.as_ref() else { return false };
        if leading.fence < cx.clock.reading().minus(lag) {
            // It has been idle for longer than that, and was woken.
            self.ask_for_fence(cx);
            return true;
        }
        let Some(closed) = self.close_below(cx, lag, Timestamp::MAX) else { return false };
        let Some(leading) = self.leading.as_mut() else { return false };
        let (term, proposal) = (leading.term, leading.next_id());
        let (batch, trigger) = (WriteBatch::default(), None);
        let command = codec::encode(&Command { term, proposal, batch, trigger, closed: Some(closed) });
        // One that is not accepted is tried again.
        if self.group.propose(command).is_ok() {
            cx.knobs.probe.took(Path::ClosedAlone);
            leading.closing.proposed(cx.now, closed);
            self.dirty = true;
        }
        true
    }

    /// An entry that closes a timestamp is applied.
    pub(super) fn apply_closed(&mut self, cx: &Surroundings<'_>, closed: Timestamp) {
        assert!(closed > self.state.closed, "I14: a range closes one timestamp after the other");
        if let Some(leading) = self.leading.as_ref().filter(|leading| leading.serving) {
            assert!(leading.reads.low_water() >= closed, "I14: what is closed counts as read");
        }
        cx.knobs.probe.took(Path::Closed);
        // The whole state is not written for that: it goes with what is applied.
        self.applied.closed = closed;
        self.state.closed = closed;
    }

    /// Where a command writes below what is closed, in words. `earlier` is what goes into the engine before it.
    ///
    /// # Errors
    /// When the engine fails.
    pub(super) fn written_below(
        &self,
        engine: &dyn Engine,
        earlier: &WriteBatch,
        writes: &[EngineWrite],
    ) -> Result<Option<String>, EngineError> {
        // Contents that were given may show this entry already.
        if self.applied.whole_at.is_some() {
            return Ok(None);
        }
        for write in writes {
            let Some(value) = &write.value else { continue };
            let (key, at, by) = match write.space {
                Space::Versions => {
                    let (key, at) = keys::parse_version(&write.key)?;
                    (key, at, mvcc::decode_version(value)?.0)
                }
                Space::Intents => {
                    let intent: Intent = codec::decode("an intent", value)?;
                    (Key::from(write.key.as_slice()), intent.timestamp, intent.txn.id)
                }
                Space::Local | Space::Applied => continue,
            };
            let closed = self.state.closed;
            let settles = |intent: Intent| intent.txn.id == by && intent.timestamp <= at;
            if at <= closed && !intent_before(engine, earlier, &key)?.is_some_and(settles) {
                return Ok(Some(format!("I14: {by} writes {key} at {at}, and {closed} is closed")));
            }
        }
        Ok(None)
    }
}

/// The intent on a key, as it is once `earlier` has been written.
fn intent_before(engine: &dyn Engine, earlier: &WriteBatch, key: &Key) -> Result<Option<Intent>, EngineError> {
    let last =
        earlier.writes.iter().rfind(|write| write.space == Space::Intents && write.key.as_slice() == key.as_bytes());
    match last {
        Some(write) => Ok(write.value.as_ref().map(|bytes| codec::decode("an intent", bytes)).transpose()?),
        None => mvcc::intent(engine, key),
    }
}
