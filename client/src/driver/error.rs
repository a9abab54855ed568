//! The driver's one error type, by what the caller can do about it.

use std::fmt;

use proto::v1;
use tonic_types::StatusExt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller can do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The server refused the statement; sent again, it will be refused again.
    Refused,
    /// Nothing of the transaction has taken effect; run it again from its start.
    Retry,
    /// A commit was sent and its answer was lost: it may or may not have taken effect. Look before running it again.
    OutcomeUnknown,
    /// No node could be reached, or the connection was lost, before the statement could have had an effect.
    Unavailable,
    /// The statement took longer than [`Config::statement_timeout`](super::Config::statement_timeout) allows.
    Deadline,
    /// A value is not of the type that was asked for.
    Conversion,
    /// The driver was called wrongly.
    Usage,
    /// An error of the application's own, carried through a transaction's body.
    Application,
}

/// Something went wrong.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    sqlstate: String,
    message: String,
    detail: String,
    hint: String,
    position: u32,
    reason: String,
    constraint: String,
    table: String,
    column: String,
    transaction_id: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// PostgreSQL's five-character code; errors of the driver itself have one too.
    pub fn sqlstate(&self) -> &str {
        &self.0.sqlstate
    }

    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Whether the transaction, run again from its start, may succeed, and cannot have taken effect so far.
    pub fn retryable(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Retry | ErrorKind::Unavailable)
    }

    /// Why, in a word for programs and statistics.
    pub fn reason(&self) -> Option<&str> {
        non_empty(&self.0.reason)
    }

    /// Of a commit whose outcome is unknown: what to ask [`Client::outcome`](super::Client::outcome) with. `None` if the server had not told
    /// yet, as for a single statement that committed by itself.
    pub fn transaction_id(&self) -> Option<&str> {
        self.0.transaction_id.as_deref()
    }

    /// More about what happened.
    pub fn detail(&self) -> Option<&str> {
        non_empty(&self.0.detail)
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        non_empty(&self.0.hint)
    }

    /// Where in the statement, in characters from 1.
    pub fn position(&self) -> Option<u32> {
        Some(self.0.position).filter(|&p| p > 0)
    }

    /// The constraint at fault.
    pub fn constraint(&self) -> Option<&str> {
        non_empty(&self.0.constraint)
    }

    /// The table at fault.
    pub fn table(&self) -> Option<&str> {
        non_empty(&self.0.table)
    }

    /// The column at fault.
    pub fn column(&self) -> Option<&str> {
        non_empty(&self.0.column)
    }

    /// Wraps an error of the application's own, so that a transaction's body can return it: the transaction is
    /// rolled back. It is not retried, unless it has an error of the driver among its sources that is retryable.
    /// [`std::error::Error::source`] gives it back.
    pub fn application(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        let source = error.into();
        let mut error = match retryable_source(source.as_ref()) {
            Some(cause) => Error::new(cause.kind(), cause.sqlstate(), source.to_string()).with_reason(&cause.0.reason),
            None => Error::new(ErrorKind::Application, "P0001", source.to_string()),
        };
        error.0.source = Some(source);
        error
    }

    pub(super) fn new(kind: ErrorKind, sqlstate: &str, message: impl Into<String>) -> Error {
        Error(Box::new(Inner {
            kind,
            sqlstate: sqlstate.to_string(),
            message: message.into(),
            detail: String::new(),
            hint: String::new(),
            position: 0,
            reason: String::new(),
            constraint: String::new(),
            table: String::new(),
            column: String::new(),
            transaction_id: None,
            source: None,
        }))
    }

    pub(crate) fn usage(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Usage, "0A000", message)
    }

    pub(super) fn conversion(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Conversion, "42804", message)
    }

    pub(super) fn protocol(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Unavailable, "08P01", message).with_reason("protocol")
    }

    pub(super) fn connection(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Unavailable, "08006", message).with_reason("connection_lost")
    }

    /// The same loss, after something was sent whose effect now nobody here can know.
    pub(super) fn outcome_unknown(what: &str, cause: Error) -> Error {
        let message = format!("the outcome of {what} is not known: {}", cause.message());
        let mut error = Error::new(ErrorKind::OutcomeUnknown, "08007", message).with_reason("outcome_unknown");
        error.0.hint = "Read what it would have changed before running it again.".into();
        error
    }

    /// Of a commit whose outcome is unknown: whose it is.
    pub(super) fn of_transaction(mut self, id: Option<String>) -> Error {
        if self.0.kind == ErrorKind::OutcomeUnknown {
            self.0.transaction_id = id;
        }
        self
    }

    pub(super) fn with_reason(mut self, reason: &str) -> Error {
        self.0.reason = reason.to_string();
        self
    }

    pub(super) fn in_column(mut self, column: &str) -> Error {
        self.0.message = format!("column {column:?}: {}", self.0.message);
        self
    }

    pub(super) fn with_hint(mut self, hint: impl Into<String>) -> Error {
        self.0.hint = hint.into();
        self
    }

    /// The error of a statement on a session.
    pub(super) fn from_failure(failure: v1::Failure) -> Error {
        let mut error = Error::new(kind_of(&failure.sqlstate, failure.retryable), &failure.sqlstate, failure.message);
        error.0.detail = failure.detail;
        error.0.hint = failure.hint;
        error.0.position = failure.position;
        error.0.reason = failure.reason;
        error.0.constraint = failure.constraint;
        error.0.table = failure.table;
        error.0.column = failure.column;
        error
    }

    /// The error of a unary call: what the server said in the details, or what the status code says.
    pub(super) fn from_status(status: &tonic::Status) -> Error {
        let Some(info) = status.get_details_error_info().filter(|info| info.domain == "meridian") else {
            return Error::from_bare_status(status);
        };
        let get = |name: &str| info.metadata.get(name).cloned().unwrap_or_default();
        Error::from_failure(v1::Failure {
            sqlstate: Some(get("sqlstate")).filter(|s| !s.is_empty()).unwrap_or_else(|| "XX000".into()),
            message: status.message().to_string(),
            detail: get("detail"),
            hint: get("hint"),
            position: get("position").parse().unwrap_or(0),
            retryable: get("retryable") == "true",
            reason: info.reason.clone(),
            transaction_status: 0,
            constraint: get("constraint"),
            table: get("table"),
            column: get("column"),
        })
    }

    fn from_bare_status(status: &tonic::Status) -> Error {
        use tonic::Code;
        let message = describe_status(status);
        match status.code() {
            Code::Aborted => Error::new(ErrorKind::Retry, "40001", message),
            Code::InvalidArgument => Error::new(ErrorKind::Refused, "22023", message),
            Code::NotFound => Error::new(ErrorKind::Refused, "42704", message),
            Code::AlreadyExists => Error::new(ErrorKind::Refused, "42710", message),
            Code::FailedPrecondition => Error::new(ErrorKind::Refused, "55000", message),
            Code::ResourceExhausted => Error::new(ErrorKind::Refused, "54000", message),
            Code::Unimplemented => Error::new(ErrorKind::Refused, "0A000", message),
            Code::Internal | Code::DataLoss => Error::new(ErrorKind::Refused, "XX000", message),
            Code::DeadlineExceeded => Error::new(ErrorKind::Deadline, "57014", message),
            _ => Error::connection(message),
        }
    }
}

/// A status in words. A connection that was refused, or broke, has the telling part deep among its sources.
pub(super) fn describe_status(status: &tonic::Status) -> String {
    match root_cause(status) {
        Some(cause) => cause,
        None if status.message().is_empty() => status.code().description().to_string(),
        None => status.message().to_string(),
    }
}

/// The innermost source of an error, in words.
pub(super) fn root_cause(error: &dyn std::error::Error) -> Option<String> {
    let mut source = error.source()?;
    while let Some(inner) = source.source() {
        source = inner;
    }
    Some(source.to_string())
}

fn retryable_source<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e Error> {
    let mut error = Some(error);
    while let Some(current) = error {
        if let Some(found) = current.downcast_ref::<Error>().filter(|e| e.retryable()) {
            return Some(found);
        }
        error = current.source();
    }
    None
}

fn kind_of(sqlstate: &str, retryable: bool) -> ErrorKind {
    match sqlstate {
        _ if retryable => ErrorKind::Retry,
        "08007" | "40003" => ErrorKind::OutcomeUnknown,
        _ => ErrorKind::Refused,
    }
}

fn non_empty(text: &str) -> Option<&str> {
    Some(text).filter(|t| !t.is_empty())
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.0.message, self.0.sqlstate)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)?;
        for (name, text) in [("detail", &self.0.detail), ("hint", &self.0.hint), ("reason", &self.0.reason)] {
            if !text.is_empty() {
                write!(f, "; {name}: {text}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|e| e as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the seat cannot be booked")]
    struct Booking(#[source] Error);

    #[test]
    fn only_what_had_no_effect_is_retryable() {
        assert!(Error::from_failure(v1::Failure { retryable: true, ..Default::default() }).retryable());
        assert!(Error::connection("gone").retryable());
        assert!(!Error::outcome_unknown("COMMIT", Error::connection("gone")).retryable());
        assert!(!Error::from_failure(v1::Failure { sqlstate: "23505".into(), ..Default::default() }).retryable());
        assert!(!Error::application("no money").retryable());
    }

    #[test]
    fn an_application_error_comes_back_as_it_went_in() {
        let error = Error::application(std::io::Error::other("no money"));
        let source = std::error::Error::source(&error).unwrap();
        assert!(source.downcast_ref::<std::io::Error>().is_some());
    }

    #[test]
    fn an_application_error_hides_no_retry() {
        let cause =
            Error::from_failure(v1::Failure { retryable: true, reason: "wounded".into(), ..Default::default() });
        let error = Error::application(Booking(cause));
        assert!(error.retryable());
        assert_eq!(error.reason(), Some("wounded"));
    }
}
