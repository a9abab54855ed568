//! A transaction under a key: recording what it does, or replaying what was done.

use minicbor::bytes::ByteVec;
use proto::transaction::{TxnAddress, TxnOutcome};
use proto::{Timestamp, codec};

use super::super::api::{CommitTimings, Committed, Kv, Lock, Transaction};
use super::super::error::Error;
use super::fingerprint::Fingerprint;
use super::key::IdempotencyKey;
use super::record::{Difference, Record, Reuse, Step};

/// See the [module](super), which has its diagram.
#[derive(Debug)]
pub struct Guard {
    key: IdempotencyKey,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// `overflows` says that an answer was too large to be kept.
    Recording {
        steps: Vec<Step>,
        answer_bytes: usize,
        overflows: Option<Error>,
    },
    Replaying {
        first: Record,
        done: usize,
    },
}

impl Guard {
    /// Looks whether the key is known. To be called before the transaction does anything else, as what it has read by then is not replayed.
    ///
    /// # Errors
    /// Those of the read; [`Error::Corrupt`] for a damaged row.
    pub async fn open(txn: &mut dyn Transaction, key: IdempotencyKey) -> Result<Guard, Error> {
        let found = txn.get(&[key.row()], Lock::None).await?.pop().flatten();
        let phase = match found {
            Some(bytes) => Phase::Replaying { first: Record::decode(&bytes)?, done: 0 },
            None => Phase::Recording { steps: Vec::new(), answer_bytes: 0, overflows: None },
        };
        Ok(Guard { key, phase })
    }

    pub fn key(&self) -> &IdempotencyKey {
        &self.key
    }

    /// The transaction that is replayed, if one is.
    pub fn first(&self) -> Option<TxnAddress> {
        match &self.phase {
            Phase::Replaying { first, .. } => Some(first.address()),
            Phase::Recording { .. } => None,
        }
    }

    /// The answer that the request had when it was first made; `None` if it has to be carried out.
    ///
    /// # Errors
    /// [`Error::KeyReused`] if it is not the request that was made then.
    pub fn replay(&mut self, request: &Fingerprint) -> Result<Option<Vec<u8>>, Error> {
        let Phase::Replaying { first, done } = &mut self.phase else { return Ok(None) };
        let how = match first.steps.get(*done) {
            Some(step) if step.request == *request => {
                *done += 1;
                return Ok(Some(step.answer.to_vec()));
            }
            Some(_) => Difference::Other(*done + 1),
            None => Difference::More(first.steps.len()),
        };
        Err(reuse(&self.key, first, how))
    }

    /// Keeps the answer to a request that was carried out.
    ///
    /// # Errors
    /// [`Error::Limit`] when all answers together have more than `bytes_max` bytes.
    pub fn record(&mut self, request: Fingerprint, answer: Vec<u8>, bytes_max: usize) -> Result<(), Error> {
        let Phase::Recording { steps, answer_bytes, overflows } = &mut self.phase else { return Ok(()) };
        *answer_bytes += answer.len();
        if *answer_bytes > bytes_max {
            let error = too_large(&self.key, bytes_max);
            *overflows = Some(error.clone());
            return Err(error);
        }
        steps.push(Step { request, answer: ByteVec::from(answer) });
        Ok(())
    }

    /// Buffers the row, after the transaction's last request and before its commit. `now` is when it is made.
    ///
    /// # Errors
    /// Those of [`Transaction::put`]; [`Error::Limit`] if an answer could not be kept.
    pub fn seal(&mut self, txn: &mut dyn Transaction, now: Timestamp) -> Result<(), Error> {
        let Phase::Recording { steps, overflows, .. } = &mut self.phase else { return Ok(()) };
        if let Some(error) = overflows {
            return Err(error.clone());
        }
        let row = self.key.row();
        // The row names the transaction's anchor, which is the first key that it writes; it may be this one.
        if txn.address().is_none() {
            txn.put(row.clone(), Vec::new())?;
        }
        let Some(TxnAddress { id, start, anchor }) = txn.address() else {
            return Err(Error::Invalid("a transaction that has written has no address".into()));
        };
        let record = Record { txn: id, start, anchor, made: now, steps: std::mem::take(steps) };
        txn.put(row, codec::encode(&record))
    }

    /// Ends the transaction's requests. A recording has its row buffered, and is then to be committed (`None`). A replay is over: it has nothing to
    /// commit, and is answered as its first run was.
    ///
    /// # Errors
    /// [`Error::KeyReused`] if not all requests of the first run were repeated; [`Error::Limit`] if an answer could not be kept; those of
    /// [`Transaction::put`] and [`Kv::outcome`].
    pub async fn end(&mut self, txn: &mut dyn Transaction, kv: &dyn Kv) -> Result<Option<Committed>, Error> {
        let (first, done) = match &self.phase {
            Phase::Recording { .. } => return self.seal(txn, kv.clock().hlc).map(|()| None),
            Phase::Replaying { first, done } => (first, *done),
        };
        // Whatever is said now tells of the row.
        txn.rollback().await;
        if done < first.steps.len() {
            return Err(reuse(&self.key, first, Difference::Fewer { had: first.steps.len(), given: done }));
        }
        match kv.outcome(&first.address()).await? {
            TxnOutcome::Committed(timestamp) => Ok(Some(Committed { timestamp, timings: CommitTimings::default() })),
            TxnOutcome::Aborted => Err(Error::Corrupt(format!(
                "transaction {} is recorded under idempotency key \"{}\", but has not committed",
                first.address(),
                self.key
            ))),
        }
    }
}

fn reuse(key: &IdempotencyKey, first: &Record, how: Difference) -> Error {
    Error::KeyReused(Box::new(Reuse { key: key.clone(), first: first.address(), made: first.made, how }))
}

/// Also for those who see it coming before the answer is complete.
pub fn too_large(key: &IdempotencyKey, bytes_max: usize) -> Error {
    Error::Limit(format!(
        "the results of the transaction under idempotency key \"{key}\" exceed {bytes_max} bytes, and are to be kept for its next run: \
         return fewer rows or columns, or read them in another transaction"
    ))
}
