//! Asks the leaders of many ranges how these stand.
//!
//! So many are asked at a time, each for so long, and all together for so long: a range that nobody leads costs a survey its patience,
//! and nothing else. A range that was split meanwhile is looked at again in its parts.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, stream};
use proto::range::{RangeOperation, RangeStatus};
use proto::request::{Operation, ReplyBody};
use proto::{RangeDescriptor, RangeId, Span};

use super::api::RangeSurvey;
use super::db::Db;
use super::error::Error;
use super::router::Failure;

/// Ranges that are asked at a time.
const IN_FLIGHT_MAX: usize = 32;
/// How long one range is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long all are.
const PATIENCE_IN_ALL: Duration = Duration::from_secs(5);
/// Looks at ranges that change meanwhile.
const ROUNDS_MAX: usize = 4;

/// What a range answered.
enum Answer {
    Stands(Box<RangeStatus>),
    /// It is another one by now.
    Changed,
    Nothing,
}

impl Db {
    /// See [`super::Kv::survey`].
    ///
    /// # Errors
    /// When the meta range does not answer.
    pub(super) async fn survey_ranges(&self, span: &Span) -> Result<Vec<RangeSurvey>, Error> {
        self.refresh_ranges(span).await?;
        let until = self.shared.env.clock().monotonic() + PATIENCE_IN_ALL;
        let mut known: BTreeMap<RangeId, RangeSurvey> = BTreeMap::new();
        for _ in 0..ROUNDS_MAX {
            let ranges = self.known_ranges(span);
            let is_known =
                |range: &RangeDescriptor| known.get(&range.id).is_some_and(|k| k.descriptor.epoch >= range.epoch);
            let unknown: Vec<RangeDescriptor> = ranges.into_iter().filter(|range| !is_known(range)).collect();
            let calls = unknown.into_iter().map(|range| async move {
                let answer = self.ask_how_it_stands(&range, until).await;
                (range, answer)
            });
            let answers: Vec<(RangeDescriptor, Answer)> = stream::iter(calls).buffered(IN_FLIGHT_MAX).collect().await;
            let mut changed = false;
            for (range, answer) in answers {
                let survey = match answer {
                    Answer::Stands(status) => {
                        RangeSurvey { descriptor: status.descriptor.clone(), status: Some(*status) }
                    }
                    Answer::Nothing => RangeSurvey { descriptor: range, status: None },
                    Answer::Changed => {
                        changed = true;
                        continue;
                    }
                };
                known.insert(survey.descriptor.id, survey);
            }
            if !changed {
                break;
            }
        }
        let shown = |range: RangeDescriptor| match known.remove(&range.id) {
            Some(survey) if survey.descriptor.epoch >= range.epoch => survey,
            _ => RangeSurvey { descriptor: range, status: None },
        };
        Ok(self.known_ranges(span).into_iter().map(shown).collect())
    }

    async fn ask_how_it_stands(&self, range: &RangeDescriptor, until: Duration) -> Answer {
        let left = until.saturating_sub(self.shared.env.clock().monotonic());
        if left.is_zero() {
            return Answer::Nothing;
        }
        let inspect = Operation::Range(RangeOperation::Inspect);
        match self.shared.router.call(range, inspect, left.min(PATIENCE)).await {
            Ok(reply) => match reply.body {
                ReplyBody::Status(status) => Answer::Stands(status),
                _ => Answer::Nothing,
            },
            Err(Failure::Repartition { .. }) => Answer::Changed,
            Err(_) => Answer::Nothing,
        }
    }
}
