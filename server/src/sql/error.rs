//! Errors of the SQL layer, as clients see them.
//!
//! An [`Error`] carries what PostgreSQL's error messages carry: a SQLSTATE, a sentence, and where it helps a detail, a
//! hint, the position in the statement and the names of table, column and constraint. An error of the
//! key-value layer keeps its cause, so that a session can decide whether to run the transaction again; what
//! the cause means in SQL terms is said in [`Error::from`].

use std::fmt;
use std::ops::{Deref, DerefMut};

use proto::InputError;

use crate::kv;

/// The SQLSTATEs in use, by PostgreSQL's names.
pub mod state {
    pub const CONNECTION_UNKNOWN_OUTCOME: &str = "08007";
    pub const FEATURE_NOT_SUPPORTED: &str = "0A000";
    pub const CARDINALITY_VIOLATION: &str = "21000";
    pub const STRING_TOO_LONG: &str = "22001";
    pub const OUT_OF_RANGE: &str = "22003";
    pub const DATETIME_OVERFLOW: &str = "22008";
    pub const SUBSTRING_ERROR: &str = "22011";
    pub const DIVISION_BY_ZERO: &str = "22012";
    pub const INVALID_PARAMETER: &str = "22023";
    pub const INVALID_ESCAPE: &str = "22025";
    pub const INVALID_LIMIT: &str = "2201W";
    pub const INVALID_OFFSET: &str = "2201X";
    pub const INVALID_LOG: &str = "2201E";
    pub const INVALID_POWER: &str = "2201F";
    pub const INVALID_TEXT: &str = "22P02";
    pub const NOT_NULL_VIOLATION: &str = "23502";
    pub const UNIQUE_VIOLATION: &str = "23505";
    pub const ACTIVE_TRANSACTION: &str = "25001";
    pub const READ_ONLY_TRANSACTION: &str = "25006";
    pub const NO_ACTIVE_TRANSACTION: &str = "25P01";
    pub const FAILED_TRANSACTION: &str = "25P02";
    pub const SERIALIZATION_FAILURE: &str = "40001";
    pub const SYNTAX_ERROR: &str = "42601";
    pub const DUPLICATE_COLUMN: &str = "42701";
    pub const AMBIGUOUS_COLUMN: &str = "42702";
    pub const UNDEFINED_COLUMN: &str = "42703";
    pub const UNDEFINED_OBJECT: &str = "42704";
    pub const AMBIGUOUS_FUNCTION: &str = "42725";
    pub const GROUPING_ERROR: &str = "42803";
    pub const DATATYPE_MISMATCH: &str = "42804";
    pub const WRONG_OBJECT_TYPE: &str = "42809";
    pub const CANNOT_COERCE: &str = "42846";
    pub const UNDEFINED_FUNCTION: &str = "42883";
    pub const UNDEFINED_TABLE: &str = "42P01";
    pub const UNDEFINED_PARAMETER: &str = "42P02";
    pub const DUPLICATE_TABLE: &str = "42P07";
    pub const INVALID_COLUMN_REFERENCE: &str = "42P10";
    pub const INVALID_TABLE_DEFINITION: &str = "42P16";
    pub const INDETERMINATE_TYPE: &str = "42P18";
    pub const OUT_OF_MEMORY: &str = "53200";
    pub const PROGRAM_LIMIT_EXCEEDED: &str = "54000";
    pub const STATEMENT_TOO_COMPLEX: &str = "54001";
    pub const KEY_REUSED: &str = "55000";
    pub const CANNOT_CONNECT_NOW: &str = "57P03";
    pub const ADMIN_SHUTDOWN: &str = "57P01";
    pub const QUERY_CANCELED: &str = "57014";
    pub const INTERNAL: &str = "XX000";
    pub const DATA_CORRUPTED: &str = "XX001";
}

/// An error as a client sees it. Boxed, because results that carry it are everywhere.
#[derive(Clone, Debug)]
pub struct Error(Box<Report>);

/// What an [`Error`] says.
#[derive(Clone, Debug)]
pub struct Report {
    pub sqlstate: &'static str,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// Where in the statement, in characters, from 1.
    pub position: Option<usize>,
    pub table: Option<String>,
    pub column: Option<String>,
    pub constraint: Option<String>,
    /// The key-value error behind it.
    pub cause: Option<kv::Error>,
}

/// The result of most of this layer.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn new(sqlstate: &'static str, message: impl Into<String>) -> Error {
        Error(Box::new(Report {
            sqlstate,
            message: message.into(),
            detail: None,
            hint: None,
            position: None,
            table: None,
            column: None,
            constraint: None,
            cause: None,
        }))
    }

    /// A feature of PostgreSQL, or of SQL, that does not exist here.
    pub fn unsupported(feature: impl fmt::Display) -> Error {
        Error::new(state::FEATURE_NOT_SUPPORTED, format!("{feature} is not supported"))
    }

    /// Stored bytes that are not what they should be.
    pub fn corrupt(message: impl Into<String>) -> Error {
        Error::new(state::DATA_CORRUPTED, message)
    }

    pub fn detail(mut self, detail: impl Into<String>) -> Error {
        self.detail = Some(detail.into());
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = Some(hint.into());
        self
    }

    /// Sets the position, unless a more precise one is known already.
    pub fn at(mut self, position: Option<usize>) -> Error {
        self.position = self.position.or(position);
        self
    }

    /// The conflict because of which the transaction has to run again, if that is what happened.
    pub fn conflict(&self) -> Option<&kv::Conflict> {
        match &self.cause {
            Some(kv::Error::Retry(conflict)) => Some(conflict),
            _ => None,
        }
    }
}

impl Deref for Error {
    type Target = Report;

    fn deref(&self) -> &Report {
        &self.0
    }
}

impl DerefMut for Error {
    fn deref_mut(&mut self) -> &mut Report {
        &mut self.0
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.sqlstate, self.message)
    }
}

impl std::error::Error for Error {}

impl From<kv::Error> for Error {
    fn from(cause: kv::Error) -> Error {
        let mut error = match &cause {
            kv::Error::Retry(conflict) => Error::new(
                state::SERIALIZATION_FAILURE,
                format!("could not serialize access ({})", conflict.reason.name()),
            ),
            kv::Error::Limit(what) => Error::new(state::PROGRAM_LIMIT_EXCEEDED, what.clone()),
            kv::Error::ReadOnly => Error::new(state::READ_ONLY_TRANSACTION, "cannot write in a read-only transaction"),
            kv::Error::Future { asked, .. } => future(*asked),
            kv::Error::Unavailable(why) => Error::new(state::CANNOT_CONNECT_NOW, why.clone())
                .hint("Nothing of it has taken effect. Trying again later may help."),
            kv::Error::OutcomeUnknown { txn, detail } => {
                let message = format!("the outcome of transaction {} is not known yet", txn.id);
                Error::new(state::CONNECTION_UNKNOWN_OUTCOME, message)
                    .detail(detail.clone())
                    .hint(format!("SHOW TRANSACTION '{txn}' tells how it ended, on any node."))
            }
            kv::Error::Invalid(what) => Error::new(state::INVALID_PARAMETER, what.clone()),
            kv::Error::KeyReused(reuse) => key_reused(reuse),
            kv::Error::Corrupt(what) => Error::corrupt(what.clone()),
        };
        error.cause = Some(cause);
        error
    }
}

/// A read at a time that has not come.
fn future(asked: proto::Timestamp) -> Error {
    let moment = i64::try_from(asked.micros()).map_or(proto::Datum::Null, proto::Datum::TimestampTz);
    Error::new(state::INVALID_PARAMETER, format!("AS OF SYSTEM TIME: {moment} lies in the future"))
        .hint("By this node's clock it has not come yet; SHOW CLOCK tells that.")
}

/// Whose the key is, since when, how this request differs, and what to do.
fn key_reused(reuse: &kv::idempotency::Reuse) -> Error {
    let made = i64::try_from(reuse.made.micros()).map_or(proto::Datum::Null, proto::Datum::TimestampTz);
    Error::new(state::KEY_REUSED, format!("{reuse}, which committed at {made}"))
        .detail(reuse.how.to_string())
        .hint(format!(
            "Repeat that request unchanged for its first outcome, or give new work a new key. SHOW TRANSACTION '{}' tells of its commit.",
            reuse.first
        ))
}

impl From<InputError> for Error {
    fn from(error: InputError) -> Error {
        Error::new(error.sqlstate, error.message)
    }
}

/// A conflict in one sentence: who, which row, when, and by which rule.
pub fn conflict_sentence(conflict: &kv::Conflict, row: Option<&str>) -> String {
    let row = row.unwrap_or("what it read");
    let other = conflict.other.map_or_else(|| "another transaction".to_string(), |id| format!("transaction {id}"));
    let (txn, read, at) = (conflict.txn, conflict.read, conflict.at);
    match conflict.reason {
        kv::RetryReason::ReadChanged => {
            format!("transaction {txn} read {row} at {read}, and {other} changed it at {at}")
        }
        kv::RetryReason::WriteConflict => {
            format!("transaction {txn} changed {row} as of {read}, and {other} had changed it at {at}")
        }
        kv::RetryReason::Wounded => {
            format!("transaction {txn} (reading at {read}) gave way to {other}, which is older and needed {row}")
        }
        kv::RetryReason::Expired => format!(
            "transaction {txn} (reading at {read}) was silent for so long that {other}, needing {row}, took it for dead"
        ),
    }
}

/// The candidate that a person most likely meant by a misspelt name: at most a third of its letters differ.
pub fn similar<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const NAME_CHARS_MAX: usize = 64;
    if name.chars().count() > NAME_CHARS_MAX {
        return None;
    }
    candidates
        .filter(|c| c.chars().count() <= NAME_CHARS_MAX)
        .map(|c| (edit_distance(name, c), c))
        .filter(|(distance, c)| *distance <= name.chars().count().max(c.chars().count()).div_ceil(3))
        .min()
        .map(|(_, c)| c)
}

/// The Levenshtein distance.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_names_the_nearest_candidate_only() {
        let columns = ["id", "balance", "owner"];
        assert_eq!(similar("balnace", columns.into_iter()), Some("balance"));
        assert_eq!(similar("ownr", columns.into_iter()), Some("owner"));
        assert_eq!(similar("created_at", columns.into_iter()), None);
    }
}
