//! Several statements of one query string, as one transaction.
//!
//! PostgreSQL runs the statements of a simple query as one transaction unless they say otherwise: `COMMIT` ends it, and
//! the next statement begins another one; `BEGIN` turns it into a transaction that goes on after the string. The
//! results of a block are kept until its transaction has ended, so that it can be run again from its first
//! statement; they leave together.

use super::super::error::{Error, Result};
use super::super::exec::{Row, check_memory, row_memory};
use super::super::parser::Statement;
use super::super::plan::{Column, Plan};
use super::transaction::{Active, Attempts, Extent, explain_conflict};
use super::{Completion, Session, State};
use crate::kv::BeginOptions;

/// The result of one statement of a block.
#[derive(Clone, Debug)]
pub struct BlockResult {
    pub columns: Vec<Column>,
    pub rows: Vec<Row>,
    pub completion: Completion,
}

/// The results of the statements up to the first error, and that error.
#[derive(Debug, Default)]
pub struct BlockOutcome {
    pub results: Vec<BlockResult>,
    pub error: Option<Error>,
}

impl Session {
    /// Runs the statements of one query string.
    pub async fn execute_block(&mut self, statements: &[Statement]) -> BlockOutcome {
        self.request_key = None;
        let mut outcome = BlockOutcome::default();
        let mut attempts = Attempts::default();
        // Where the transaction that is open now began.
        let mut first = 0;
        let mut next = 0;
        let mut bytes = 0;
        loop {
            let result = match statements.get(next) {
                Some(statement) => self.run_one(statement, &mut outcome, &mut bytes).await,
                None => self.end_block(&mut outcome).await,
            };
            match result {
                Ok(()) if next >= statements.len() => break,
                Ok(()) => {
                    next += 1;
                    if !matches!(self.state, State::Open(_)) {
                        first = next;
                    }
                }
                Err(error) => {
                    let again = match error.conflict() {
                        Some(conflict) if !self.is_explicit() && !matches!(self.state, State::Failed) => {
                            let sql = self.sql.clone();
                            attempts.again(conflict, &*sql.kv, &sql.limits).await
                        }
                        _ => false,
                    };
                    if !again {
                        self.fail();
                        // What was not committed has not happened, so its results are not shown.
                        outcome.results.truncate(first);
                        outcome.error = Some(explain_conflict(error, &self.sql.catalog));
                        break;
                    }
                    if let Err(error) = self.restart_block().await {
                        outcome.error = Some(error);
                        break;
                    }
                    outcome.results.truncate(first);
                    next = first;
                }
            }
        }
        if let Some(last) = outcome.results.last_mut() {
            last.completion.retries = attempts.reasons();
        }
        outcome
    }

    async fn run_one(&mut self, statement: &Statement, outcome: &mut BlockOutcome, bytes: &mut usize) -> Result<()> {
        let prepared = self.prepare(statement, &[]).await?;
        // A statement that answers later than the transaction does would be run again with it.
        if matches!(prepared.planned.plan, Plan::Begin(_)) {
            self.reveal_block().await?;
        }
        let run = self.execute_as(&prepared, Vec::new(), Extent::Block).await?;
        let mut rows: Vec<Row> = run.ready.into_iter().flatten().collect();
        let mut completion = run.completion;
        if let Some(mut stream) = run.stream {
            while let Some(batch) = self.pull_stream(&mut stream).await? {
                *bytes += batch.iter().map(|r| row_memory(r)).sum::<usize>();
                check_memory(*bytes, &self.sql.limits, "the results of a block of statements")?;
                rows.extend(batch);
            }
            completion.tag = format!("SELECT {}", rows.len());
        }
        outcome.results.push(BlockResult { columns: prepared.columns.clone(), rows, completion });
        Ok(())
    }

    /// Before a block goes over into an explicit transaction its results have to be fit to leave.
    async fn reveal_block(&mut self) -> Result<()> {
        if let State::Open(active) = &mut self.state {
            active.txn.reveal().await?;
            active.has_answered = true;
        }
        Ok(())
    }

    /// Commits the block's own transaction, if one is open.
    async fn end_block(&mut self, outcome: &mut BlockOutcome) -> Result<()> {
        let active = match std::mem::replace(&mut self.state, State::Idle) {
            State::Open(active) if active.extent == Extent::Block => active,
            other => {
                self.state = other;
                return Ok(());
            }
        };
        let committed = self.commit(*active).await?;
        if let Some(last) = outcome.results.last_mut() {
            last.completion.timings = Some(committed.timings);
            last.completion.commit_timestamp = Some(committed.timestamp);
        }
        Ok(())
    }

    /// Begins the block's transaction again, with the age that it had.
    async fn restart_block(&mut self) -> Result<()> {
        if let State::Open(mut old) = std::mem::replace(&mut self.state, State::Idle) {
            let options = BeginOptions { priority: Some(old.txn.priority()), ..old.options.clone() };
            old.txn.rollback().await;
            let again = Active::begin(&*self.sql.kv, Extent::Block, options).await?;
            self.state = State::Open(Box::new(again));
        }
        Ok(())
    }
}
