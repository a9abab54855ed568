//! Transactions under an idempotency key: see [`crate::kv::idempotency`].
//!
//! A session has a key from `SET idempotency_key`, or for one statement from [`Session::execute_with_key`]. The first statement of a transaction that
//! reads or writes settles whether the transaction has one; then it is too late to give it another. A key that was set outside of a transaction
//! is for the next one that commits, and is used up by that: it must not slip into a transaction that it was not meant for. If
//! the transaction fails, the key stays for its next run. One that was set inside of a transaction ends with it.
//!
//! Under a key a query does not stream: its rows are gathered, within the limit for what is kept, before any of them leaves.
//!
//! `SHOW` and what plans nothing on rows (`SET`, `EXPLAIN`) is not a part of the request: it is neither kept nor compared. Nor is
//! `ALTER TABLE ... SPLIT AT` or `UNSPLIT`, which is no transaction, and can be repeated as it is.

use proto::{Datum, codec};

use super::super::error::{Error, Result, state};
use super::super::exec::{self, Context, row_memory};
use super::super::expr::EvalContext;
use super::super::plan::Plan;
use super::super::variables::IDEMPOTENCY_KEY;
use super::answer::Answer;
use super::rows::Outcome;
use super::transaction::Extent;
use super::{Prepared, Rows, Session, State};
use crate::kv::idempotency::guard::too_large;
use crate::kv::idempotency::{Fingerprint, Guard, IdempotencyKey};

/// How much more room a value may take in memory than where it is kept: the smallest one takes a byte there.
const MEMORY_FACTOR: usize = 64;

/// A statement with the values of its parameters.
pub(super) struct Request<'a> {
    pub prepared: &'a Prepared,
    pub params: &'a [Datum],
}

impl Request<'_> {
    fn fingerprint(&self) -> Fingerprint {
        let params: Vec<Vec<u8>> = self.params.iter().map(codec::encode).collect();
        let mut parts = vec![self.prepared.statement.text().as_bytes()];
        parts.extend(params.iter().map(Vec::as_slice));
        Fingerprint::of(&parts)
    }
}

/// Whether a statement is a part of what a key stands for.
fn counts(plan: &Plan) -> bool {
    !matches!(plan, Plan::Show(_))
}

impl Session {
    /// Runs a statement under an idempotency key: the key of its own transaction, or with `BEGIN`, or the first statement of a block, that of the block.
    /// An empty key is none.
    ///
    /// # Errors
    /// As [`Session::execute`]; `22023` for a key that is too long, `25001` for one that comes too late.
    pub async fn execute_with_key(&mut self, prepared: &Prepared, params: Vec<Datum>, key: &str) -> Result<Rows<'_>> {
        self.settle();
        // A statement that was cancelled has left its own.
        self.request_key = None;
        if !key.is_empty()
            && let Err(error) = self.take_key(key)
        {
            self.fail();
            return Err(error);
        }
        let outcome = self.execute_as(prepared, params, Extent::Statement).await;
        self.request_key = None;
        let outcome = outcome?;
        Ok(Rows::new(self, outcome))
    }

    fn take_key(&mut self, key: &str) -> Result<()> {
        if self.is_explicit() {
            return self.set_local(IDEMPOTENCY_KEY, Some(key));
        }
        self.request_key = Some(IdempotencyKey::new(key)?);
        Ok(())
    }

    /// After this the transaction has the key that it has, or none.
    ///
    /// # Errors
    /// `25001`.
    pub(super) fn check_key_can_be_set(&self) -> Result<()> {
        match &self.state {
            State::Open(active) if active.key_is_settled => {
                let message = "the idempotency key must be set before the first statement that reads or writes";
                Err(Error::new(state::ACTIVE_TRANSACTION, message).hint("Set it right after BEGIN."))
            }
            _ => Ok(()),
        }
    }

    /// Settles whether the open transaction has a key, and looks whether that is known.
    async fn open_guard(&mut self) -> Result<()> {
        let State::Open(active) = &mut self.state else { return Ok(()) };
        if std::mem::replace(&mut active.key_is_settled, true) {
            return Ok(());
        }
        let key = match (&self.request_key, self.info.variables.idempotency_key()) {
            (Some(key), _) => key.clone(),
            (None, Some(text)) => IdempotencyKey::new(text)?,
            (None, None) => return Ok(()),
        };
        if active.options.read_only {
            let message = format!("a read-only transaction cannot have an idempotency key, and has \"{key}\"");
            return Err(Error::new(state::READ_ONLY_TRANSACTION, message)
                .hint("Its results could not be kept. Begin it READ WRITE, or RESET idempotency_key."));
        }
        active.has_run = true;
        active.guard = Some(Guard::open(&mut *active.txn, key).await?);
        Ok(())
    }

    /// The answer that a statement had in an earlier run of its transaction; `None` if it has to be run.
    pub(super) async fn replay(&mut self, request: &Request<'_>, plan: &Plan) -> Result<Option<Outcome>> {
        if !counts(plan) {
            return Ok(None);
        }
        self.open_guard().await?;
        let State::Open(active) = &mut self.state else { return Ok(None) };
        let Some(guard) = &mut active.guard else { return Ok(None) };
        match guard.replay(&request.fingerprint())? {
            Some(bytes) => Answer::decode(&bytes, &request.prepared.columns).map(Some),
            None => Ok(None),
        }
    }

    /// Under a key, keeps what a statement was answered, all of it.
    pub(super) async fn keep(&mut self, request: &Request<'_>, plan: &Plan, outcome: &mut Outcome) -> Result<()> {
        let sql = self.sql.clone();
        let bytes_max = sql.limits.idempotency_bytes_max;
        let State::Open(active) = &mut self.state else { return Ok(()) };
        let (Some(guard), true) = (&mut active.guard, counts(plan)) else { return Ok(()) };
        let mut bytes: usize = outcome.ready.iter().flatten().map(|row| row_memory(row)).sum();
        while let Some(stream) = &mut outcome.stream {
            // More than enough in memory is more than enough on disk.
            if bytes > bytes_max.saturating_mul(MEMORY_FACTOR) {
                return Err(too_large(guard.key(), bytes_max).into());
            }
            let Plan::Query(node) = &stream.planned.plan else { break };
            let eval =
                EvalContext { params: &stream.params, now: active.now, session: Some(&self.info), kv: Some(&*sql.kv) };
            let mut cx = Context { txn: &mut *active.txn, eval, limits: &sql.limits };
            match exec::pull(node, &mut stream.state, &mut cx, sql.limits.batch_rows_max).await? {
                Some(rows) => {
                    bytes += rows.iter().map(|row| row_memory(row)).sum::<usize>();
                    outcome.ready.push_back(rows);
                }
                None => {
                    outcome.stream = None;
                    let count: usize = outcome.ready.iter().map(Vec::len).sum();
                    outcome.completion.tag = format!("SELECT {count}");
                }
            }
        }
        let answer = Answer::encode(outcome, &request.prepared.columns);
        Ok(guard.record(request.fingerprint(), answer, bytes_max)?)
    }

    /// A transaction has committed under a key, which is used up.
    pub(super) fn use_up(&mut self, key: &IdempotencyKey) {
        if self.info.variables.get(IDEMPOTENCY_KEY).is_ok_and(|value| value == key.as_str()) {
            // The variable exists.
            let _ = self.info.variables.reset(IDEMPOTENCY_KEY);
        }
    }
}
