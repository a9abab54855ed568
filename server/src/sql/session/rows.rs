//! The result of a statement, pulled batch by batch.

use std::collections::VecDeque;
use std::sync::Arc;

use proto::Datum;

use super::super::error::Result;
use super::super::exec::{self, Row};
use super::super::plan::{Plan, Planned};
use super::{Completion, Session};

/// The rows of a result, and how it ended. Dropping it before the end cancels the statement.
pub struct Rows<'a> {
    session: &'a mut Session,
    ready: VecDeque<Vec<Row>>,
    /// What is still to be pulled; `None` when the statement is finished.
    stream: Option<Stream>,
    count: u64,
    completion: Completion,
}

/// A query of which rows have left, or may leave.
pub(super) struct Stream {
    pub planned: Arc<Planned>,
    pub params: Vec<Datum>,
    pub state: exec::State,
}

/// What running a statement gave.
pub(super) struct Outcome {
    pub ready: VecDeque<Vec<Row>>,
    pub stream: Option<Stream>,
    pub completion: Completion,
}

impl Outcome {
    /// A statement without rows.
    pub fn done(tag: impl Into<String>) -> Outcome {
        Outcome::rows(Vec::new(), Completion { tag: tag.into(), ..Completion::default() })
    }

    /// A statement that is finished.
    pub fn rows(rows: Vec<Row>, completion: Completion) -> Outcome {
        let ready = if rows.is_empty() { VecDeque::new() } else { VecDeque::from([rows]) };
        Outcome { ready, stream: None, completion }
    }
}

impl<'a> Rows<'a> {
    pub(super) fn new(session: &'a mut Session, outcome: Outcome) -> Rows<'a> {
        let Outcome { ready, stream, completion } = outcome;
        Rows { session, ready, stream, count: 0, completion }
    }

    /// The next batch of rows, never empty; `None` at the end.
    ///
    /// # Errors
    /// What the statement meets. A transaction has failed then.
    pub async fn next(&mut self) -> Result<Option<Vec<Row>>> {
        if let Some(batch) = self.ready.pop_front() {
            self.count += u64::try_from(batch.len()).unwrap_or(0);
            return Ok(Some(batch));
        }
        let Some(mut stream) = self.stream.take() else { return Ok(None) };
        match self.session.pull_stream(&mut stream).await {
            Ok(Some(batch)) => {
                self.stream = Some(stream);
                self.count += u64::try_from(batch.len()).unwrap_or(0);
                Ok(Some(batch))
            }
            Ok(None) => {
                let committed = self.session.end_statement().await?;
                self.completion.timings = committed.map(|c| c.timings);
                self.completion.commit_timestamp = committed.map(|c| c.timestamp);
                self.completion.tag = format!("{} {}", tag_of(&stream), self.count);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// How the statement ended. To be called after [`Rows::next`] has returned `None`.
    pub fn completion(&self) -> &Completion {
        &self.completion
    }

    /// Pulls everything.
    ///
    /// # Errors
    /// As [`Rows::next`].
    pub async fn collect(mut self) -> Result<(Vec<Row>, Completion)> {
        let mut rows = Vec::new();
        while let Some(batch) = self.next().await? {
            rows.extend(batch);
        }
        Ok((rows, self.completion.clone()))
    }
}

fn tag_of(stream: &Stream) -> &'static str {
    match &stream.planned.plan {
        Plan::Query(_) => "SELECT",
        other => other.tag(),
    }
}

impl Drop for Rows<'_> {
    fn drop(&mut self) {
        if self.stream.is_some() {
            self.session.fail();
        }
    }
}
