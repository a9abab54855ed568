//! Interactive transactions.

use super::ToValue;
use super::error::{Error, ErrorKind, Result};
use super::outcome;
use super::pool::PooledSession;
use super::rows::{Completion, Row, Rows, ServerTimings};
use super::session::Extras;
use super::single::not_recorded;

/// What a transaction promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Isolation {
    /// It takes effect at one instant between its begin and its commit.
    #[default]
    Serializable,
    /// It reads one snapshot, and fails if a row that it wrote or locked has changed since.
    RepeatableRead,
}

/// How a transaction begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TransactionOptions {
    pub isolation: Isolation,
    /// Writes are refused.
    pub read_only: bool,
}

impl TransactionOptions {
    /// A serializable transaction that only reads.
    pub fn read_only() -> TransactionOptions {
        TransactionOptions { read_only: true, ..Default::default() }
    }

    fn begin_sql(self) -> &'static str {
        match (self.isolation, self.read_only) {
            (Isolation::Serializable, false) => "BEGIN ISOLATION LEVEL SERIALIZABLE",
            (Isolation::Serializable, true) => "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY",
            (Isolation::RepeatableRead, false) => "BEGIN ISOLATION LEVEL REPEATABLE READ",
            (Isolation::RepeatableRead, true) => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        }
    }
}

/// A commit that took effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// A hybrid logical timestamp with microseconds since the Unix epoch in its upper 52 bits. 0 if the
    /// transaction wrote nothing and the server drew no timestamp for it.
    pub timestamp: u64,
    pub timings: ServerTimings,
    /// An earlier run under the same idempotency key had committed, at that timestamp; this one has changed nothing.
    pub replayed: bool,
}

/// An open transaction. Dropped before its end, it is rolled back by ending its session.
pub struct Transaction {
    session: PooledSession,
    has_key: bool,
}

impl Transaction {
    pub(super) async fn begin(
        mut session: PooledSession,
        options: TransactionOptions,
        key: Option<&str>,
    ) -> Result<Transaction> {
        let extras = Extras { key, begin: false };
        session.stream_with(options.begin_sql(), &[], extras).await?.finish().await?;
        Ok(Transaction { session, has_key: key.is_some() })
    }

    /// Runs a statement and says how many rows it changed (or returned).
    pub async fn execute(&mut self, sql: &str, params: &[&dyn ToValue]) -> Result<u64> {
        self.run(sql, params).await.map(|completion| completion.rows)
    }

    /// Runs a statement and tells all that the server said at its end.
    pub async fn run(&mut self, sql: &str, params: &[&dyn ToValue]) -> Result<Completion> {
        self.session.execute(sql, params).await
    }

    /// Runs a statement and gathers its rows.
    pub async fn query(&mut self, sql: &str, params: &[&dyn ToValue]) -> Result<Vec<Row>> {
        self.session.query(sql, params).await.map(|(rows, _)| rows)
    }

    /// Runs a statement that returns exactly one row.
    ///
    /// # Errors
    /// Also when it returns none, or more.
    pub async fn query_one(&mut self, sql: &str, params: &[&dyn ToValue]) -> Result<Row> {
        exactly_one(self.query(sql, params).await?)
    }

    /// Runs a statement; its rows arrive as they are read.
    pub async fn stream(&mut self, sql: &str, params: &[&dyn ToValue]) -> Result<Rows<'_>> {
        self.session.stream(sql, params).await
    }

    /// Commits.
    ///
    /// # Errors
    /// [`ErrorKind::Retry`] and [`ErrorKind::Refused`]: nothing has taken effect. If the answer is lost, another node is asked how the
    /// transaction ended; [`ErrorKind::OutcomeUnknown`] only if none answers.
    pub async fn commit(mut self) -> Result<Committed> {
        let completion = match self.session.execute("COMMIT", &[]).await {
            Ok(completion) => completion,
            Err(error)
                if self.has_key && error.transaction_id().is_none() && error.kind() == ErrorKind::OutcomeUnknown =>
            {
                return Err(not_recorded());
            }
            Err(error) => {
                let timestamp = outcome::settle(&self.session.pool(), error).await?;
                return Ok(Committed { timestamp, ..Committed::default() });
            }
        };
        if completion.tag != "COMMIT" {
            let message = "the transaction had failed before, so COMMIT rolled it back";
            return Err(Error::new(ErrorKind::Refused, "25P02", message));
        }
        Ok(Committed {
            timestamp: completion.commit_timestamp.unwrap_or(0),
            timings: completion.timings,
            replayed: completion.replayed,
        })
    }

    /// Rolls back. To the server an error here means the same.
    pub async fn rollback(mut self) -> Result<()> {
        self.session.execute("ROLLBACK", &[]).await.map(|_| ())
    }

    /// Its id, for [`Client::outcome`](super::Client::outcome); `None` as long as it has written nothing.
    pub fn id(&self) -> Option<&str> {
        self.session.transaction_id()
    }

    /// The address of the node that serves the transaction.
    pub fn address(&self) -> &str {
        self.session.address()
    }
}

pub(super) fn exactly_one(mut rows: Vec<Row>) -> Result<Row> {
    match rows.len() {
        1 => Ok(rows.remove(0)),
        n => Err(Error::usage(format!("expected exactly one row, got {n}"))),
    }
}
