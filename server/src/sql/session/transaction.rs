//! A session's open transaction: beginning, committing, and saying why it has to run again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proto::transaction::TxnAddress;

use super::super::catalog::{self, Catalog};
use super::super::error::{Error, Result, conflict_sentence, state};
use super::super::limits::Limits;
use super::super::schema::Table;
use crate::kv::idempotency::Guard;
use crate::kv::{BeginOptions, Committed, Conflict, Kv, RetryReason, Transaction};

/// How far a transaction reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// One statement.
    Statement,
    /// The statements of one query string.
    Block,
    /// From `BEGIN` to `COMMIT`.
    Explicit,
}

/// An open transaction.
pub struct Active {
    pub txn: Box<dyn Transaction>,
    pub extent: Extent,
    /// How it was begun, for another attempt.
    pub options: BeginOptions,
    /// `now()`, in microseconds since the Unix epoch.
    pub now: i64,
    /// Whether a result has left the server, or may have.
    pub has_answered: bool,
    /// Whether a statement has run, after which the isolation level is settled.
    pub has_run: bool,
    /// Tables that it has defined (or dropped) itself.
    pub own_tables: BTreeMap<String, Option<Arc<Table>>>,
    pub dropped: Vec<u64>,
    /// Tables that it has written to.
    pub written: BTreeMap<u64, Arc<Table>>,
    /// Whether it is settled under which idempotency key it runs, if any.
    pub key_is_settled: bool,
    pub guard: Option<Guard>,
    begun: Duration,
}

impl Active {
    /// Begins a transaction.
    ///
    /// # Errors
    /// Those of the key-value layer.
    pub async fn begin(kv: &dyn Kv, extent: Extent, options: BeginOptions) -> Result<Active> {
        let begun = kv.monotonic();
        let txn = kv.begin(options.clone()).await?;
        let now = i64::try_from(txn.read_timestamp().micros()).unwrap_or(i64::MAX);
        Ok(Active {
            txn,
            extent,
            options,
            now,
            has_answered: false,
            has_run: false,
            own_tables: BTreeMap::new(),
            dropped: Vec::new(),
            written: BTreeMap::new(),
            key_is_settled: false,
            guard: None,
            begun,
        })
    }

    pub fn is_explicit(&self) -> bool {
        self.extent == Extent::Explicit
    }

    /// Whether it is an earlier transaction's repetition, which runs nothing.
    pub fn is_replay(&self) -> bool {
        self.guard.as_ref().is_some_and(|guard| guard.first().is_some())
    }

    /// Where its outcome is kept, or that of the transaction which it repeats; `None` as long as nothing is written.
    pub fn address(&self) -> Option<TxnAddress> {
        self.guard.as_ref().and_then(Guard::first).or_else(|| self.txn.address())
    }

    /// Commits, and carries out what follows from it.
    ///
    /// # Errors
    /// Those of the key-value layer; `40001` when a table was changed under a long transaction.
    pub async fn commit(mut self, kv: &dyn Kv, catalog: &Catalog, limits: &Limits) -> Result<Committed> {
        if kv.monotonic().saturating_sub(self.begun) >= limits.catalog_lease {
            self.check_tables().await?;
        }
        let committed = self.txn.commit().await?;
        for name in self.own_tables.keys() {
            catalog.forget(name);
        }
        for id in self.dropped {
            // The drop itself has been committed. Rows that cannot be deleted now are deleted when a node starts.
            let _ = catalog.finish_drop(id).await;
        }
        Ok(committed)
    }

    /// After the lease of the descriptors: have the tables that were written to stayed what they were?
    async fn check_tables(&mut self) -> Result<()> {
        for table in self.written.values() {
            let now = catalog::read(&mut *self.txn, table.name()).await?;
            if now.is_none_or(|n| n.id() != table.id() || n.version() != table.version()) {
                let message = format!("table \"{}\" was changed or dropped during the transaction", table.name());
                return Err(Error::new(state::SERIALIZATION_FAILURE, message).hint("Run the transaction again."));
            }
        }
        Ok(())
    }
}

/// Counts attempts, and what was wrong with them.
#[derive(Debug, Default)]
pub struct Attempts {
    made: u32,
    reasons: BTreeMap<RetryReason, u32>,
}

impl Attempts {
    /// Takes note of a conflict and waits as long as is due; false when no further attempt may be made.
    pub async fn again(&mut self, conflict: &Conflict, kv: &dyn Kv, limits: &Limits) -> bool {
        self.made += 1;
        *self.reasons.entry(conflict.reason).or_insert(0) += 1;
        if self.made >= limits.attempts_max {
            return false;
        }
        if let Some(doublings) = self.made.checked_sub(limits.attempts_at_once) {
            let full = Duration::from_millis(1).saturating_mul(1 << doublings.min(16)).min(limits.backoff_max);
            // Between half of the pause and all of it, so that those that collided part.
            let part = u32::try_from(kv.random() >> 116).unwrap_or(0);
            kv.sleep(full / 2 + full / 2 * part / 4096).await;
        }
        true
    }

    pub fn reasons(&self) -> Vec<(RetryReason, u32)> {
        self.reasons.iter().map(|(reason, count)| (*reason, *count)).collect()
    }
}

/// `40001` in words: who, which row, when, and why.
pub fn explain_conflict(mut error: Error, catalog: &Catalog) -> Error {
    let Some(conflict) = error.conflict() else { return error };
    let row = conflict.key.as_ref().map(|key| catalog.describe_key(key));
    let message = format!("could not serialize access: {}", conflict_sentence(conflict, row.as_deref()));
    let detail = format!("Reason: {}.", conflict.reason.name());
    error.message = message;
    error.detail(detail).hint("Run the transaction again.")
}
