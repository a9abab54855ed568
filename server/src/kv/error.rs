//! Errors of the transactional key-value layer, by what the caller can do.

use proto::{Key, Timestamp, TxnId};

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

    /// Not served within the deadline, and without effect. Trying later may help.
    #[error("{0}")]
    Unavailable(String),

    /// The commit was sent and its outcome could not be learned within the deadline.
    #[error("the outcome of transaction {txn} is not known yet: {detail}")]
    OutcomeUnknown { txn: TxnId, detail: String },

    /// The request makes no sense to the key-value layer (an empty key, a split at an impossible place).
    #[error("{0}")]
    Invalid(String),

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
