//! Transactions under an idempotency key.

use super::error::Result;
use super::lent::Lent;
use super::rows::{Completion, Row};
use super::single::Single;
use super::transaction::exactly_one;
use super::{Client, ToValue, Transacted, Transaction, TransactionOptions};

/// What is run through this takes effect once for each key, however often, from wherever and by whomever it is run.
///
/// The database keeps the key with the results of the transaction's statements, in the same commit. Whoever runs the same statements with the same parameters under the same key
/// later gets those results: a program that has crashed just does its work again. So
///
/// * the key must say which piece of work it is, and only that: an order's number, not the time of day;
/// * what the body of a transaction sends must follow from the key and from what the database answers, and from nothing else. Other statements are refused with
///   SQLSTATE `55000` ([`Error::reason`](super::Error::reason) `idempotency_key_reused`);
/// * the results of the statements must be small (64 KiB in all);
/// * keys are forgotten after a time, a day unless the database is configured otherwise: `SHOW idempotency_retention`.
pub struct Keyed<'c> {
    client: &'c Client,
    key: String,
}

impl<'c> Keyed<'c> {
    pub(super) fn new(client: &'c Client, key: String) -> Keyed<'c> {
        Keyed { client, key }
    }

    /// See [`Client::execute`].
    pub async fn execute(&self, sql: &str, params: &[&dyn ToValue]) -> Result<u64> {
        self.run(sql, params).await.map(|completion| completion.rows)
    }

    /// See [`Client::run`]. [`Completion::replayed`] tells whether this was not the first run.
    pub async fn run(&self, sql: &str, params: &[&dyn ToValue]) -> Result<Completion> {
        self.query_completed(sql, params).await.map(|(_, completion)| completion)
    }

    /// See [`Client::query`].
    pub async fn query(&self, sql: &str, params: &[&dyn ToValue]) -> Result<Vec<Row>> {
        self.query_completed(sql, params).await.map(|(rows, _)| rows)
    }

    /// See [`Client::query_one`].
    pub async fn query_one(&self, sql: &str, params: &[&dyn ToValue]) -> Result<Row> {
        exactly_one(self.query(sql, params).await?)
    }

    /// See [`Client::transact`].
    pub async fn transact<T, F>(&self, work: impl FnMut(Lent<Transaction>) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        self.transact_with(TransactionOptions::default(), work).await.map(|done| done.value)
    }

    /// See [`Client::transact_with`]. [`Committed::replayed`](super::Committed::replayed) tells whether this was not the first run.
    pub async fn transact_with<T, F>(
        &self,
        options: TransactionOptions,
        work: impl FnMut(Lent<Transaction>) -> F,
    ) -> Result<Transacted<T>>
    where
        F: Future<Output = Result<T>>,
    {
        self.client.transact_keyed(options, Some(&self.key), work).await
    }

    /// See [`Client::begin_with`].
    pub async fn begin_with(&self, options: TransactionOptions) -> Result<Transaction> {
        self.client.begin_keyed(options, Some(&self.key)).await
    }

    async fn query_completed(&self, sql: &str, params: &[&dyn ToValue]) -> Result<(Vec<Row>, Completion)> {
        Single { sql, params, key: Some(&self.key) }.run(self.client.pool()).await
    }
}
