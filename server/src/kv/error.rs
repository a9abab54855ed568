//! Errors of the transactional key-value layer, by what the caller can do.

use proto::request::Refusal;
use proto::transaction::TxnAddress;
use proto::{Key, Timestamp, TxnId};
use txn::coordinator;

use super::idempotency::Reuse;
use super::router::Failure;

/// Why a transaction has to run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RetryReason {
    /// Something that it read has changed since.
    ReadChanged,
    /// Under snapshot isolation: a row that it wrote or locked has changed since its snapshot.
    WriteConflict,
    /// An older transaction needed its rows.
    Wounded,
    /// It was silent for so long that another transaction gave it up for dead and aborted it.
    Expired,
}

impl RetryReason {
    pub const ALL: [RetryReason; 4] =
        [RetryReason::ReadChanged, RetryReason::WriteConflict, RetryReason::Wounded, RetryReason::Expired];

    /// The name in metrics, reports and error details.
    pub fn name(self) -> &'static str {
        match self {
            RetryReason::ReadChanged => "read_changed",
            RetryReason::WriteConflict => "write_conflict",
            RetryReason::Wounded => "wounded",
            RetryReason::Expired => "expired",
        }
    }
}

/// A conflict, told so that a person can act on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub reason: RetryReason,
    /// The transaction that has to run again.
    pub txn: TxnId,
    /// The transaction that it gave way to, where known.
    pub other: Option<TxnId>,
    /// The row's key, where one row is to blame.
    pub key: Option<Key>,
    /// What this transaction read at.
    pub read: Timestamp,
    /// The timestamp that stood in the way.
    pub at: Timestamp,
}

/// What went wrong, and so what the caller can do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Run the transaction again: nothing of it has taken effect.
    #[error("transaction {} must run again ({})", .0.txn, .0.reason.name())]
    Retry(Conflict),

    /// A limit was reached; `what` names it and what to do.
    #[error("{0}")]
    Limit(String),

    /// The transaction was begun read-only.
    #[error("the transaction is read-only")]
    ReadOnly,

    /// The transaction was to read at a time that has not come yet.
    #[error("{asked} lies in the future: it is {now} now")]
    Future { asked: Timestamp, now: Timestamp },

    /// Not served within the deadline, and without effect. Trying later may help.
    #[error("{0}")]
    Unavailable(String),

    /// The commit was sent and its outcome could not be learned within the deadline. It can be asked for later.
    #[error("the outcome of transaction {txn} is not known yet: {detail}")]
    OutcomeUnknown { txn: TxnAddress, detail: String },

    /// The request makes no sense to the key-value layer (an empty key, a split at an impossible place).
    #[error("{0}")]
    Invalid(String),

    /// The transaction's idempotency key belongs to a request that is not this one. Nothing has taken effect, and nothing will under this key.
    #[error("{0}")]
    KeyReused(Box<Reuse>),

    /// Stored data is damaged. The replica has stopped; a person must look.
    #[error("{0}")]
    Corrupt(String),
}

impl Error {
    /// Whether running the whole transaction again, at once, is the right answer.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Error::Retry(_))
    }
}

impl Error {
    /// What a failed request outside any transaction means.
    pub(super) fn from_failure(failure: Failure) -> Error {
        Error::from_transaction(failure, TxnId::default(), Timestamp::ZERO)
    }

    /// What a failed request means to the transaction that made it, before its commit.
    pub(super) fn from_transaction(failure: Failure, txn: TxnId, read: Timestamp) -> Error {
        let conflict = |reason, other, key, at| Error::Retry(Conflict { reason, txn, other, key, read, at });
        match failure {
            Failure::Deadline { detail, .. } => Error::Unavailable(detail),
            Failure::Repartition { .. } => Error::Unavailable("the ranges of these keys keep changing".into()),
            Failure::Refused(refusal) => match refusal {
                Refusal::Changed(changed) => {
                    conflict(RetryReason::ReadChanged, changed.other, Some(changed.key), changed.at)
                }
                Refusal::Wounded(by) => conflict(RetryReason::Wounded, Some(by.by), Some(by.key), read),
                Refusal::Aborted(Some(by)) => {
                    let reason = if by.silent { RetryReason::Expired } else { RetryReason::Wounded };
                    conflict(reason, Some(by.by), Some(by.key), read)
                }
                Refusal::Aborted(None) | Refusal::TooOld => conflict(RetryReason::Expired, None, None, read),
                Refusal::Corrupt(detail) => Error::Corrupt(detail),
                Refusal::Invalid(detail) => Error::Invalid(detail),
                other => Error::Unavailable(format!("the range refused: {other:?}")),
            },
        }
    }

    /// What a failed commit means.
    pub(super) fn from_coordinator(failure: coordinator::Failure, txn: TxnId, read: Timestamp) -> Error {
        let refusal = match failure {
            coordinator::Failure::Changed(changed) => Refusal::Changed(changed),
            coordinator::Failure::Aborted(by) => Refusal::Aborted(by),
            coordinator::Failure::Wounded(by) => Refusal::Wounded(by),
            coordinator::Failure::TooOld => Refusal::TooOld,
            coordinator::Failure::Refused(detail) => Refusal::Invalid(detail),
            coordinator::Failure::Unavailable(detail) => return Error::Unavailable(detail),
        };
        Error::from_transaction(Failure::Refused(refusal), txn, read)
    }

    pub(super) fn unexpected_reply() -> Error {
        Error::Corrupt("a range answered something else than it was asked".into())
    }
}
