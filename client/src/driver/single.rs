//! A single statement, in a transaction of its own, whose outcome is always learned.
//!
//! A statement that commits by itself has no name: if its answer is lost, nobody can be asked what became of it. So one that may write
//! is sent as the beginning of a transaction block, in one message, and is answered with the transaction's id; then it is
//! committed. If the connection breaks before COMMIT is sent, nothing has taken effect; if it breaks afterwards, any node is asked
//! how the transaction ended. Either way the statement is run again only if it has not taken effect, and never will.
//!
//! That is one more round trip between client and node. [`Config::settle_statements`](super::Config::settle_statements) turns it off; what it costs is
//! measured by the example `statements`.

use std::sync::Arc;

use super::ToValue;
use super::error::{Error, ErrorKind, Result};
use super::outcome;
use super::pool::{Pool, PooledSession};
use super::retry::Attempts;
use super::rows::{Completion, Row, ServerTimings, TransactionStatus};
use super::session::{Extras, may_write};

/// A statement, and the idempotency key that it is run under.
#[derive(Clone, Copy)]
pub(super) struct Single<'a> {
    pub sql: &'a str,
    pub params: &'a [&'a dyn ToValue],
    pub key: Option<&'a str>,
}

impl Single<'_> {
    /// Runs it until it has an answer.
    pub async fn run(self, pool: &Arc<Pool>) -> Result<(Vec<Row>, Completion)> {
        let settles = self.key.is_some() || (pool.config.settle_statements && may_write(self.sql));
        let mut attempts = Attempts::new(pool.config.retry);
        loop {
            let result = match pool.take().await {
                Ok(session) if settles => self.run_settled(session).await,
                Ok(mut session) => session.query(self.sql, self.params).await,
                Err(error) => Err(error),
            };
            match result {
                Ok(done) => return Ok(done),
                Err(error) if error.reason() == Some("unreachable") => return Err(error),
                Err(error) => attempts.after(error).await?,
            }
        }
    }

    /// Runs it once. An error that is retryable means that it has not taken effect, and will not.
    async fn run_settled(self, mut session: PooledSession) -> Result<(Vec<Row>, Completion)> {
        let extras = Extras { key: self.key, begin: true };
        let result = match session.stream_with(self.sql, self.params, extras).await {
            Ok(rows) => rows.collect().await,
            Err(error) => Err(error),
        };
        let (rows, completion) = match result {
            Ok(done) => done,
            Err(error) => {
                if session.transaction_status() != TransactionStatus::Idle {
                    // If this fails the session has ended, and with it the transaction.
                    let _ = session.execute("ROLLBACK", &[]).await;
                }
                return Err(error);
            }
        };
        let has_written = session.transaction_id().is_some();
        let timestamp = match session.execute("COMMIT", &[]).await {
            Ok(done) => {
                let total = completion.timings.total + done.timings.total;
                let done = Completion {
                    commit_timestamp: done.commit_timestamp,
                    timings: ServerTimings { total, ..done.timings },
                    transaction_status: done.transaction_status,
                    ..completion
                };
                return Ok((rows, done));
            }
            Err(error) if error.kind() != ErrorKind::OutcomeUnknown || has_written => {
                outcome::settle(&session.pool(), error).await?
            }
            Err(_) if self.key.is_some() => return Err(not_recorded()),
            // It has changed nothing, so its commit could not either.
            Err(_) => 0,
        };
        let commit_timestamp = Some(timestamp).filter(|&t| t > 0);
        Ok((rows, Completion { commit_timestamp, transaction_status: TransactionStatus::Idle, ..completion }))
    }
}

/// A transaction without writes has no id to ask for; but it can be run again, and is answered as it was if it was recorded.
pub(super) fn not_recorded() -> Error {
    let message = "the answer to the commit was lost, and the transaction has changed nothing";
    Error::new(ErrorKind::Retry, "40001", message).with_reason("commit_lost")
}
