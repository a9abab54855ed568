//! The driver's front door.

use std::sync::Arc;

use super::error::Result;
use super::lent::{Lent, lend_to};
use super::outcome::{self, Outcome};
use super::pool::Pool;
use super::retry::Attempts;
use super::rows::{Completion, Row};
use super::single::Single;
use super::transaction::exactly_one;
use super::{Admin, Config, KeyRange, Keyed, Session, ToValue, Transacted, Transaction, TransactionOptions};

/// A client of one cluster. Cheap to clone; clones share their sessions.
#[derive(Clone)]
pub struct Client {
    pool: Arc<Pool>,
}

impl Client {
    /// A client for a cluster some of whose nodes listen at `addresses`: `host:port`, separated by commas. Connections
    /// are made when they are needed, so an unreachable cluster shows at the first statement.
    ///
    /// # Errors
    /// When an address is not `host:port`.
    pub async fn connect(addresses: &str) -> Result<Client> {
        Client::with_config(Config::new(addresses)?).await
    }

    /// A client with settings of its own. Must be called within a tokio runtime, which drives its connections.
    pub async fn with_config(config: Config) -> Result<Client> {
        Ok(Client { pool: Arc::new(Pool::new(config)?) })
    }

    /// Runs a statement in a transaction of its own, and says how many rows it changed (or returned).
    pub async fn execute(&self, sql: &str, params: &[&dyn ToValue]) -> Result<u64> {
        self.run(sql, params).await.map(|completion| completion.rows)
    }

    /// Runs a statement in a transaction of its own, and tells all that the server said at its end.
    pub async fn run(&self, sql: &str, params: &[&dyn ToValue]) -> Result<Completion> {
        self.query_completed(sql, params).await.map(|(_, completion)| completion)
    }

    /// Runs a statement in a transaction of its own, and gathers its rows.
    pub async fn query(&self, sql: &str, params: &[&dyn ToValue]) -> Result<Vec<Row>> {
        self.query_completed(sql, params).await.map(|(rows, _)| rows)
    }

    /// Runs a statement that returns exactly one row.
    ///
    /// # Errors
    /// Also when it returns none, or more.
    pub async fn query_one(&self, sql: &str, params: &[&dyn ToValue]) -> Result<Row> {
        exactly_one(self.query(sql, params).await?)
    }

    /// Runs a transaction until it commits: `work` is called with an open transaction, again after each error that is
    /// retryable, with growing pauses, for as long as [`RetryPolicy`](super::RetryPolicy) says. It must do all its
    /// reading through the transaction, and nothing outside it that must not happen twice.
    ///
    /// An error of `work` that is not retryable rolls back and is returned.
    ///
    /// `work` is written as `async |mut tx| { ... }`. It may borrow from its surroundings, but not change them.
    pub async fn transact<T, F>(&self, work: impl FnMut(Lent<Transaction>) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        self.transact_with(TransactionOptions::default(), work).await.map(|done| done.value)
    }

    /// [`Client::transact`] with options, telling what it took.
    pub async fn transact_with<T, F>(
        &self,
        options: TransactionOptions,
        work: impl FnMut(Lent<Transaction>) -> F,
    ) -> Result<Transacted<T>>
    where
        F: Future<Output = Result<T>>,
    {
        self.transact_keyed(options, None, work).await
    }

    pub(super) async fn transact_keyed<T, F>(
        &self,
        options: TransactionOptions,
        key: Option<&str>,
        mut work: impl FnMut(Lent<Transaction>) -> F,
    ) -> Result<Transacted<T>>
    where
        F: Future<Output = Result<T>>,
    {
        let mut attempts = Attempts::new(self.pool.config.retry);
        loop {
            let error = match self.begin_keyed(options, key).await {
                Err(error) => error,
                Ok(transaction) => {
                    let (transaction, result) = lend_to(transaction, &mut work).await?;
                    match result {
                        Ok(value) => match transaction.commit().await {
                            Ok(committed) => return Ok(Transacted { value, committed, retries: attempts.retries }),
                            Err(error) => error,
                        },
                        Err(error) => {
                            // If this fails the session has ended, and with it the transaction.
                            let _ = transaction.rollback().await;
                            error
                        }
                    }
                }
            };
            attempts.after(error).await?;
        }
    }

    /// Opens a serializable transaction. Running it again when it fails with a retryable error is up to the caller.
    pub async fn begin(&self) -> Result<Transaction> {
        self.begin_with(TransactionOptions::default()).await
    }

    /// Opens a transaction.
    pub async fn begin_with(&self, options: TransactionOptions) -> Result<Transaction> {
        self.begin_keyed(options, None).await
    }

    pub(super) async fn begin_keyed(&self, options: TransactionOptions, key: Option<&str>) -> Result<Transaction> {
        Transaction::begin(self.pool.take().await?, options, key).await
    }

    /// Opens a session of the caller's own, outside the pool, on the next node in turn that can be reached.
    pub async fn session(&self) -> Result<Session> {
        self.pool.open().await
    }

    /// How a transaction ended; one that has not is aborted by the question. Its id comes from [`Transaction::id`] or
    /// [`Error::transaction_id`](super::Error::transaction_id).
    ///
    /// # Errors
    /// When no node answers, or the id is none.
    pub async fn outcome(&self, transaction_id: &str) -> Result<Outcome> {
        outcome::ask(&self.pool, transaction_id).await
    }

    /// Transactions over keys, below SQL.
    pub fn key_range(&self) -> KeyRange {
        KeyRange::new(self.pool.clone())
    }

    /// The cluster as its operators see it.
    pub fn admin(&self) -> Admin {
        Admin::new(self.pool.clone())
    }

    /// The same client for work that is to take effect once, even if it is run again: see [`Keyed`].
    pub fn with_idempotency_key(&self, key: impl Into<String>) -> Keyed<'_> {
        Keyed::new(self, key.into())
    }

    pub(super) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    async fn query_completed(&self, sql: &str, params: &[&dyn ToValue]) -> Result<(Vec<Row>, Completion)> {
        Single { sql, params, key: None }.run(&self.pool).await
    }
}
