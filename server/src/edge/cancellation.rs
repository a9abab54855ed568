//! Statements that a client cancels.
//!
//! Cancelling drops the statement's future, which rolls its transaction back. A `COMMIT` is not cancelled: whoever asked
//! for it wants to know how it went. A statement that commits by itself may be dropped while it does, which
//! nobody can see from here; the error then says so instead of denying that anything happened.

use crate::sql::error::state;
use crate::sql::{Error, Status};

/// Statements that change nothing by themselves.
const HARMLESS: [&str; 8] = ["SELECT", "SHOW", "VALUES", "EXPLAIN", "BEGIN", "START", "SET", "ROLLBACK"];

/// Whether a statement is one that commits, and nothing else.
pub fn is_commit(text: &str) -> bool {
    matches!(first_word(text).as_str(), "COMMIT" | "END")
}

/// The error for a statement that was cancelled, given where the session stood before it.
pub fn error(text: &str, before: Status) -> Error {
    let error = Error::new(state::QUERY_CANCELED, "canceling statement due to user request");
    if before != Status::Idle || HARMLESS.contains(&first_word(text).as_str()) {
        return error;
    }
    error.detail("If the statement had begun to commit, it may have taken effect.")
}

fn first_word(text: &str) -> String {
    text.trim_start().chars().take_while(char::is_ascii_alphabetic).collect::<String>().to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_have_committed_is_denied() {
        assert_eq!(error("select 1", Status::Idle).detail, None);
        assert_eq!(error("UPDATE t SET a = 1", Status::InTransaction).detail, None);
        assert!(error(" update t SET a = 1", Status::Idle).detail.is_some());
        assert!(is_commit("\n commit;") && is_commit("END") && !is_commit("COMMITTED_ROWS"));
    }
}
