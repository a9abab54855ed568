//! Statements that a client cancels.
//!
//! Cancelling drops the statement's future, which rolls its transaction back. Once a commit is under way
//! ([`CommitWatch`](crate::sql::CommitWatch)) it is too late: dropping it then would leave nobody who knows how it ended.

use crate::sql::Error;
use crate::sql::error::state;

/// The error for a statement that was cancelled.
pub fn error() -> Error {
    Error::new(state::QUERY_CANCELED, "canceling statement due to user request")
}
