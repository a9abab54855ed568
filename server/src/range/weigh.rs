//! How large a range is, and how much it is asked; and whether it wants to be split for that.
//!
//! Bytes are counted as they are applied, and every replica keeps the sum. A split halves it, for want of better knowledge; before a leader
//! has its range split for its size it *surveys* the range, a slice a tick, which gives the sum anew and the keys near its middle.
//! What is asked is sampled where it is served. What follows from both is up to [`range_split::policy`].

use std::time::Duration;

use proto::Key;
use proto::range::Note;
use proto::request::Operation;
use range_split::load::{LoadSampler, Touch};
use range_split::policy::{RangeFacts, Split, SplitLimits, split};
use txn::engine::{self, EngineError, Space};
use txn::{WriteBatch, keys, participant};

use super::replica::{Replica, Surroundings};
use crate::env::SplitWish;
use crate::probe::Path;

/// How often a leader judges its range.
const JUDGE_EVERY: Duration = Duration::from_secs(1);
/// How long a leader waits for a split that it asked for before it asks again.
const WISH_AGAIN: Duration = Duration::from_secs(10);
/// Bytes that a survey reads in a tick.
const SURVEY_SLICE: u64 = 1 << 20;
/// Keys that a survey keeps, of those that it passes at equal distances.
const SURVEY_MARKS: u64 = 64;
/// Spans of one request that are counted.
const SPANS_MAX: usize = 16;

/// A row is a key: see the SQL layer's encoding.
fn row_of(key: &Key) -> Key {
    key.clone()
}

/// Bytes that a command adds to the range's versions.
pub fn weight(batch: &WriteBatch) -> u64 {
    let versions = batch.writes.iter().filter(|write| write.space == Space::Versions);
    versions.map(|write| (write.key.len() + write.value.as_ref().map_or(0, Vec::len)) as u64).sum()
}

/// A walk over the range's versions.
#[derive(Clone, Debug)]
struct Survey {
    next: Vec<u8>,
    bytes: u64,
    /// How far apart marks are, and the marks with the bytes before them.
    step: u64,
    marks: Vec<(u64, Key)>,
}

/// What a leader knows of its range's weight.
#[derive(Clone, Debug, Default)]
pub struct Weighing {
    sampler: LoadSampler,
    /// Requests a second, as last judged.
    pub load: u64,
    /// Why the range is not split though it should be.
    pub note: Option<Note>,
    judged: Duration,
    wished: Option<Duration>,
    survey: Option<Survey>,
    /// Keys near the middle, the best first, as a survey found them.
    middle: Vec<Key>,
}

impl Weighing {
    pub fn new(now: Duration) -> Weighing {
        Weighing { sampler: LoadSampler::new(now), judged: now, ..Weighing::default() }
    }

    pub fn is_surveying(&self) -> bool {
        self.survey.is_some()
    }

    /// Counts a request. `number` differs from request to request.
    pub fn count(&mut self, now: Duration, number: u64, operation: &Operation, limits: &SplitLimits) {
        if !self.sampler.pass(now, 1, limits) {
            return;
        }
        // What latches guard besides has keys of its own, at which no range can be split.
        let named = participant::named(operation);
        for (span, nth) in named.iter().take(SPANS_MAX).zip(0..) {
            // A transaction's anchor is among its writes mostly.
            if named[..nth].contains(span) {
                continue;
            }
            // Which of the requests are kept as samples need not be hard to guess.
            let dice = (number ^ ((nth as u64) << 56)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
            self.sampler.touch(Touch { now, span, cost: 1, dice }, row_of, limits);
        }
    }
}

impl Replica {
    /// A leader judges its range now and then, and goes on with a survey.
    pub fn tick_weight(&mut self, cx: &mut Surroundings<'_>) {
        if !self.leading.as_ref().is_some_and(|leading| leading.serving) {
            return;
        }
        if let Err(error) = self.survey(cx) {
            return self.stop(cx, &error);
        }
        self.judge(cx);
    }

    /// Before an idle leader falls quiet. Says whether something is still to be done.
    pub(super) fn judge_before_rest(&mut self, cx: &mut Surroundings<'_>) -> bool {
        if self.leading.as_ref().is_some_and(|leading| leading.weighing.judged < self.stirred) {
            self.judge_now(cx);
        }
        let Some(leading) = &mut self.leading else { return true };
        let weighing = &mut leading.weighing;
        let wishes = weighing.wished.is_some_and(|wished| cx.now < wished + WISH_AGAIN + JUDGE_EVERY);
        // Nobody counts any more.
        weighing.load = 0;
        weighing.is_surveying() || wishes
    }

    fn judge(&mut self, cx: &mut Surroundings<'_>) {
        if self.leading.as_ref().is_some_and(|leading| cx.now >= leading.weighing.judged + JUDGE_EVERY) {
            self.judge_now(cx);
        }
    }

    fn judge_now(&mut self, cx: &mut Surroundings<'_>) {
        let (bytes, descriptor) = (self.applied.bytes, &self.state.descriptor);
        let Some(leading) = &mut self.leading else { return };
        let weighing = &mut leading.weighing;
        let asked = weighing.wished.is_some_and(|wished| cx.now < wished + WISH_AGAIN);
        weighing.judged = cx.now;
        let limits = &cx.knobs.splitting;
        weighing.load = weighing.sampler.rate(cx.now, limits);
        // The first range describes all others, and stays whole.
        let may_split = cx.knobs.split_ranges && descriptor.start != Key::MIN;
        if asked || !may_split || weighing.survey.is_some() {
            return;
        }
        let span = descriptor.span();
        let facts = RangeFacts { span: &span, bytes, middle: &weighing.middle, load: &weighing.sampler };
        weighing.note = None;
        match split(cx.now, &facts, row_of, limits) {
            Split::Nothing => {}
            Split::FindMiddle => {
                let step = (bytes / SURVEY_MARKS).max(1);
                let next = keys::versions_of(&span.start);
                weighing.survey = Some(Survey { next, bytes: 0, step, marks: Vec::new() });
            }
            Split::At { key, reason } => {
                cx.knobs.probe.took(Path::SplitWished);
                weighing.wished = Some(cx.now);
                weighing.middle.clear();
                cx.effects.wishes.push(SplitWish { range: descriptor.clone(), key, reason: reason.to_string() });
            }
            Split::Refused(refusal) => {
                weighing.middle.clear();
                weighing.note = Some(Note { text: refusal.to_string(), key: refusal.key().cloned() });
            }
        }
    }

    fn survey(&mut self, cx: &mut Surroundings<'_>) -> Result<(), EngineError> {
        let end = keys::versions_of(&self.state.descriptor.end);
        let Some(leading) = &mut self.leading else { return Ok(()) };
        let Some(survey) = &mut leading.weighing.survey else { return Ok(()) };
        let until = survey.bytes + SURVEY_SLICE;
        let from = std::mem::take(&mut survey.next);
        let mut stopped_at = None;
        engine::visit(cx.engine, Space::Versions, &from, &end, |key, value| {
            if survey.bytes >= until {
                stopped_at = Some(key.to_vec());
                return Ok(false);
            }
            if survey.bytes >= survey.step * (survey.marks.len() as u64 + 1) {
                survey.marks.push((survey.bytes, keys::parse_version(key)?.0));
            }
            survey.bytes += (key.len() + value.len()) as u64;
            Ok(true)
        })?;
        if let Some(next) = stopped_at {
            survey.next = next;
            return Ok(());
        }
        let Some(Survey { bytes, mut marks, .. }) = leading.weighing.survey.take() else { return Ok(()) };
        self.applied.bytes = bytes;
        marks.sort_by_key(|(before, _)| before.abs_diff(bytes / 2));
        leading.weighing.middle = marks.into_iter().map(|(_, key)| key).collect();
        if leading.weighing.middle.is_empty() {
            // One key holds everything; the policy shall say so.
            leading.weighing.middle.push(self.state.descriptor.start.clone());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proto::request::CommitOne;
    use proto::transaction::{TxnMeta, Write};
    use proto::{Span, Timestamp, TxnId};

    use super::*;

    fn commit(key: &str) -> Operation {
        let (key, start) = (Key::from(key), Timestamp(1));
        let txn = TxnMeta { id: TxnId(7), attempt: 1, anchor: key.clone(), priority: start, start };
        let writes = vec![Write::new(key, Some(Vec::new()))];
        Operation::CommitOne(CommitOne {
            txn,
            read: start,
            timestamp: start,
            writes,
            validate: Vec::new(),
            complete: true,
        })
    }

    #[test]
    fn the_last_range_is_split_where_rows_are_written_and_not_where_their_records_are_guarded() {
        let limits = SplitLimits::default();
        let mut weighing = Weighing::new(Duration::ZERO);
        let mut now = Duration::ZERO;
        for number in 0..100_000u64 {
            now = Duration::from_micros(number * 200);
            let row = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
            weighing.count(now, number, &commit(&format!("k{row:05}")), &limits);
        }
        let span = Span { start: Key::from("a"), end: Key::max() };
        let facts = RangeFacts { span: &span, bytes: 0, middle: &[], load: &weighing.sampler };
        let Split::At { key, .. } = split(now, &facts, row_of, &limits) else { panic!("it bears twice what it may") };
        assert!(key >= Key::from("k1") && key < Key::from("k6"), "{key}");
    }
}
