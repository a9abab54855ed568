//! A statement's answer, as it is kept under an idempotency key.

use minicbor::{Decode, Encode};
use proto::{DataType, Datum, codec};

use super::super::error::{Error, Result, state};
use super::super::exec::Row;
use super::super::plan::Column;
use super::Completion;
use super::rows::Outcome;

/// What the client is told of a statement. Timings and retries are those of each run.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub(super) struct Answer {
    #[n(0)]
    tag: String,
    #[n(1)]
    notices: Vec<String>,
    /// Names and types of the columns; none for statements without rows.
    #[n(2)]
    columns: Vec<(String, DataType)>,
    #[n(3)]
    rows: Vec<Vec<Datum>>,
}

fn named(columns: &[Column]) -> Vec<(String, DataType)> {
    columns.iter().map(|c| (c.name.clone(), c.data_type)).collect()
}

impl Answer {
    /// The bytes of a finished statement's answer.
    pub fn encode(outcome: &Outcome, columns: &[Column]) -> Vec<u8> {
        codec::encode(&Answer {
            tag: outcome.completion.tag.clone(),
            notices: outcome.completion.notices.clone(),
            columns: named(columns),
            rows: outcome.ready.iter().flatten().cloned().collect(),
        })
    }

    /// The answer of an earlier run to a statement that now has these columns.
    ///
    /// # Errors
    /// `XX001` for damaged bytes; `0A000` if the columns are others now, as those of a table that was dropped and created anew.
    pub fn decode(bytes: &[u8], columns: &[Column]) -> Result<Outcome> {
        let answer: Answer = codec::decode("a kept answer", bytes).map_err(|e| Error::corrupt(e.to_string()))?;
        if answer.columns != named(columns) {
            let message = "the columns of this statement have changed since it was run under its idempotency key";
            return Err(Error::new(state::FEATURE_NOT_SUPPORTED, message)
                .hint("Its first run has committed. What it returned then cannot be shown any more."));
        }
        let rows: Vec<Row> = answer.rows;
        let completion =
            Completion { tag: answer.tag, notices: answer.notices, replayed: true, ..Completion::default() };
        Ok(Outcome::rows(rows, completion))
    }
}
