//! Errors in the API's words: [`v1::Failure`] on a session, a gRPC status with typed details elsewhere.

use std::collections::HashMap;
use std::time::Duration;

use proto::v1;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::kv;
use crate::sql::Error;
use crate::sql::error::state;

/// The domain of the reasons in `google.rpc.ErrorInfo`.
const DOMAIN: &str = "meridian";

/// How long a client may wait before it sends a refused call again.
const RETRY_DELAY: Duration = Duration::from_millis(5);

/// The error of a statement on a session. The caller adds the session's state.
pub fn failure(error: &Error) -> v1::Failure {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    v1::Failure {
        sqlstate: error.sqlstate.to_string(),
        message: error.message.clone(),
        detail: text(&error.detail),
        hint: text(&error.hint),
        position: error.position.and_then(|p| u32::try_from(p).ok()).unwrap_or(0),
        retryable: is_retryable(error),
        reason: reason(error).to_string(),
        transaction_status: 0,
        constraint: text(&error.constraint),
        table: text(&error.table),
        column: text(&error.column),
    }
}

/// The error of a unary call.
pub fn status(error: &Error) -> Status {
    let failure = failure(error);
    let reason = if failure.reason.is_empty() { failure.sqlstate.clone() } else { failure.reason.to_uppercase() };
    let position = if failure.position > 0 { failure.position.to_string() } else { String::new() };
    let metadata: HashMap<String, String> = [
        ("sqlstate", failure.sqlstate),
        ("retryable", failure.retryable.to_string()),
        ("detail", failure.detail),
        ("hint", failure.hint),
        ("position", position),
        ("constraint", failure.constraint),
        ("table", failure.table),
        ("column", failure.column),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(name, value)| (name.to_string(), value))
    .collect();
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, DOMAIN, metadata);
    if failure.retryable {
        details.set_retry_info(Some(RETRY_DELAY));
    }
    Status::with_error_details(code(error), failure.message, details)
}

/// The error of a call of the key-range API.
pub fn kv_status(error: kv::Error) -> Status {
    status(&Error::from(error))
}

/// Whether nothing of the transaction has taken effect, and running it again may succeed.
fn is_retryable(error: &Error) -> bool {
    matches!(error.cause, Some(kv::Error::Retry(_) | kv::Error::Unavailable(_)))
        || error.sqlstate == state::ADMIN_SHUTDOWN
}

/// The error in a word for programs and statistics; empty where the SQLSTATE says it all.
fn reason(error: &Error) -> &'static str {
    match &error.cause {
        Some(kv::Error::Retry(conflict)) => conflict.reason.name(),
        Some(kv::Error::Unavailable(_)) => "unavailable",
        Some(kv::Error::OutcomeUnknown { .. }) => "outcome_unknown",
        Some(kv::Error::Limit(_)) => "limit",
        Some(kv::Error::Corrupt(_)) => "corrupt",
        Some(kv::Error::KeyReused(_)) => "idempotency_key_reused",
        None if error.sqlstate == state::ADMIN_SHUTDOWN => "node_stopping",
        Some(kv::Error::ReadOnly | kv::Error::Invalid(_) | kv::Error::Future { .. }) | None => "",
    }
}

fn code(error: &Error) -> Code {
    match &error.cause {
        Some(kv::Error::Retry(_)) => return Code::Aborted,
        Some(kv::Error::Unavailable(_)) => return Code::Unavailable,
        // Not UNAVAILABLE, which libraries retry by themselves.
        Some(kv::Error::OutcomeUnknown { .. }) => return Code::Unknown,
        Some(kv::Error::Limit(_)) => return Code::ResourceExhausted,
        Some(kv::Error::Corrupt(_)) => return Code::DataLoss,
        Some(kv::Error::ReadOnly | kv::Error::KeyReused(_)) => return Code::FailedPrecondition,
        Some(kv::Error::Invalid(_) | kv::Error::Future { .. }) => return Code::InvalidArgument,
        None => {}
    }
    match (error.sqlstate, &error.sqlstate[..2]) {
        ("57014", _) => Code::Cancelled,
        ("42704" | "42P01", _) => Code::NotFound,
        ("42P07" | "23505", _) => Code::AlreadyExists,
        ("XX001", _) => Code::DataLoss,
        (_, "0A") => Code::Unimplemented,
        (_, "22" | "42" | "08") => Code::InvalidArgument,
        (_, "21" | "23" | "25" | "55") => Code::FailedPrecondition,
        (_, "53" | "54") => Code::ResourceExhausted,
        (_, "40") => Code::Aborted,
        (_, "57") => Code::Unavailable,
        _ => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use proto::transaction::TxnAddress;
    use proto::{Key, Timestamp, TxnId};

    use super::*;
    use crate::kv::{Conflict, RetryReason};

    #[test]
    fn a_conflict_is_aborted_and_says_when_to_try_again() {
        let conflict = Conflict {
            reason: RetryReason::Wounded,
            txn: TxnId(1),
            other: None,
            key: None,
            read: Timestamp::ZERO,
            at: Timestamp::ZERO,
        };
        let status = kv_status(kv::Error::Retry(conflict));
        assert_eq!(status.code(), Code::Aborted);
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("WOUNDED", "meridian"));
        assert_eq!((info.metadata["sqlstate"].as_str(), info.metadata["retryable"].as_str()), ("40001", "true"));
        assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(RETRY_DELAY));
    }

    #[test]
    fn an_unknown_outcome_is_not_retried_by_libraries() {
        let txn = TxnAddress { id: TxnId(1), start: Timestamp(2), anchor: Key::from("k") };
        let status = kv_status(kv::Error::OutcomeUnknown { txn, detail: "no answer".into() });
        assert_eq!(status.code(), Code::Unknown);
        assert_eq!(status.get_details_error_info().unwrap().metadata["retryable"], "false");
        assert!(status.get_details_retry_info().is_none());
    }

    #[test]
    fn a_statement_error_keeps_its_place() {
        let error = Error::new("42703", "column \"x\" does not exist").hint("Perhaps \"y\".").at(Some(8));
        let status = status(&error);
        assert_eq!(status.code(), Code::InvalidArgument);
        let metadata = status.get_details_error_info().unwrap().metadata;
        assert_eq!((metadata["position"].as_str(), metadata["hint"].as_str()), ("8", "Perhaps \"y\"."));
        assert!(!metadata.contains_key("detail"));
    }
}
