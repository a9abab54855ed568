//! Statements about sessions and transactions, and what can be shown.

use std::sync::Arc;

use proto::transaction::TxnAddress;
use proto::{DataType, Timestamp, TxnId};
use sqlparser::ast::{self, Statement as Sql};

use super::super::error::{Error, Result, state};
use super::super::expr::Expr;
use super::super::expr::bind::normalize;
use super::super::schema::Table;
use super::super::system::SystemTable;
use super::super::variables::Variables;
use super::{Column, Plan};
use crate::kv::Isolation;

/// What `BEGIN` and `SET TRANSACTION` ask for; `None` leaves the session's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransactionModes {
    pub isolation: Option<Isolation>,
    pub read_only: Option<bool>,
    /// The time in the past at which everything is read.
    pub at: Option<Timestamp>,
}

/// Something that `SHOW` shows.
#[derive(Debug)]
pub enum Show {
    /// A variable, by PostgreSQL's spelling.
    Variable(&'static str),
    AllVariables,
    /// Of all tables, or of one.
    Ranges(Option<Arc<Table>>),
    /// Of the row with this primary key.
    RangeOfRow(Arc<Table>, Vec<Expr>),
    /// Of all tables that have wishes, or of one.
    Placement(Option<Arc<Table>>),
    /// The latest decisions about ranges, at most so many.
    Jobs(Option<u64>),
    Refusals,
    Columns(Arc<Table>),
    Clock,
    /// The latest conflicts of this node's transactions.
    Retries,
    Nodes,
    Databases,
    Tables,
    TransactionId,
    /// How it ended.
    Transaction(TxnAddress),
}

impl Show {
    /// The columns of the result.
    pub fn columns(&self) -> Vec<Column> {
        use DataType::{Bool, Int8, Text, TimestampTz};
        let column = |name: &str, data_type| Column { name: name.to_string(), data_type };
        match self {
            Show::Variable(name) => vec![column(name, Text)],
            Show::AllVariables => vec![column("name", Text), column("setting", Text)],
            Show::Ranges(_) | Show::RangeOfRow(..) => SystemTable::Ranges.columns(),
            Show::Jobs(_) => SystemTable::Decisions.columns(),
            Show::Refusals => SystemTable::Refusals.columns(),
            Show::Nodes => SystemTable::Nodes.columns(),
            Show::Placement(_) => vec![column("table_name", Text), column("placement", Text)],
            Show::Columns(_) => vec![
                column("column_name", Text),
                column("data_type", Text),
                column("is_nullable", Bool),
                column("column_default", Text),
                column("primary_key", Int8),
            ],
            Show::Clock => vec![
                column("source", Text),
                column("max_error_us", Int8),
                column("earliest", TimestampTz),
                column("latest", TimestampTz),
                column("hlc", Text),
                column("standing", Text),
            ],
            Show::Retries => vec![
                column("time", TimestampTz),
                column("reason", Text),
                column("transaction_id", Text),
                column("read_at", Text),
                column("other_id", Text),
                column("row", Text),
                column("conflict_at", Text),
                column("explanation", Text),
            ],
            Show::Databases => vec![column("database_name", Text)],
            Show::Tables => vec![column("table_name", Text)],
            Show::TransactionId => vec![column("transaction_id", Text)],
            Show::Transaction(_) => vec![
                column("transaction_id", Text),
                column("status", Text),
                column("commit_time", TimestampTz),
                column("commit_timestamp", Text),
            ],
        }
    }
}

/// Plans a statement about the session; refuses all that is none.
///
/// # Errors
/// `0A000` by name, `42704` for unknown variables.
pub fn plan(sql: &Sql) -> Result<(Plan, Vec<Column>)> {
    let plan = match sql {
        Sql::StartTransaction { modes, modifier: None, statements, exception: None, .. } if statements.is_empty() => {
            Plan::Begin(transaction_modes(modes)?)
        }
        Sql::Commit { chain: false, modifier: None, .. } => Plan::Commit,
        Sql::Rollback { chain: false, savepoint: None } => Plan::Rollback,
        Sql::Commit { chain: true, .. } | Sql::Rollback { chain: true, .. } => {
            return Err(Error::unsupported("AND CHAIN"));
        }
        Sql::Set(set) => plan_set(set)?,
        Sql::Reset(ast::ResetStatement { reset: ast::Reset::ALL }) => Plan::ResetAll,
        Sql::Reset(ast::ResetStatement { reset: ast::Reset::ConfigurationParameter(name) }) => {
            Plan::Set { name: variable_name(name)?, value: None, local: false }
        }
        Sql::ShowVariable { variable } => {
            let show = show_variable(variable)?;
            let columns = show.columns();
            return Ok((Plan::Show(show), columns));
        }
        Sql::Discard { object_type: ast::DiscardObject::ALL } => Plan::DiscardAll,
        Sql::Deallocate { .. } => Plan::Deallocate,
        other => return Err(refused(other)),
    };
    Ok((plan, Vec::new()))
}

/// Names a statement that does not exist here.
fn refused(sql: &Sql) -> Error {
    let name = match sql {
        Sql::Savepoint { .. } | Sql::ReleaseSavepoint { .. } | Sql::Rollback { .. } => "SAVEPOINT",
        Sql::CreateIndex(_) => "CREATE INDEX",
        Sql::CreateView(_) => "CREATE VIEW",
        Sql::CreateSchema { .. } => "CREATE SCHEMA",
        Sql::CreateDatabase { .. } => "CREATE DATABASE",
        Sql::CreateFunction(_) => "CREATE FUNCTION",
        Sql::CreateTrigger(_) => "CREATE TRIGGER",
        Sql::CreateSequence { .. } => "CREATE SEQUENCE",
        Sql::CreateType { .. } => "CREATE TYPE",
        Sql::CreateRole(_) => "CREATE ROLE",
        Sql::CreateExtension(_) => "CREATE EXTENSION",
        Sql::AlterTable(_) => "ALTER TABLE other than SPLIT AT, UNSPLIT, SET and RESET",
        Sql::Copy { .. } => "COPY",
        Sql::Merge(_) => "MERGE",
        Sql::Grant(_) => "GRANT",
        Sql::Revoke(_) => "REVOKE",
        Sql::Prepare { .. } | Sql::Execute { .. } => "PREPARE as a statement",
        Sql::Declare { .. } | Sql::Fetch { .. } | Sql::Close { .. } => "a cursor",
        Sql::LISTEN { .. } | Sql::NOTIFY { .. } | Sql::UNLISTEN { .. } => "LISTEN and NOTIFY",
        Sql::Vacuum(_) => "VACUUM",
        Sql::Analyze(_) => "ANALYZE",
        Sql::Lock(_) | Sql::LockTables { .. } => "LOCK TABLE",
        Sql::Comment { .. } => "COMMENT",
        Sql::Discard { .. } => "DISCARD other than ALL",
        Sql::Call(_) => "CALL",
        _ => "this kind of statement",
    };
    Error::unsupported(name)
}

fn transaction_modes(modes: &[ast::TransactionMode]) -> Result<TransactionModes> {
    let mut out = TransactionModes::default();
    for mode in modes {
        match mode {
            ast::TransactionMode::AccessMode(mode) => {
                out.read_only = Some(*mode == ast::TransactionAccessMode::ReadOnly);
            }
            ast::TransactionMode::IsolationLevel(level) => {
                out.isolation = Some(match level {
                    // SQL lets a stronger level stand in for a weaker one.
                    ast::TransactionIsolationLevel::ReadUncommitted
                    | ast::TransactionIsolationLevel::ReadCommitted
                    | ast::TransactionIsolationLevel::Serializable => Isolation::Serializable,
                    ast::TransactionIsolationLevel::RepeatableRead => Isolation::Snapshot,
                    ast::TransactionIsolationLevel::Snapshot => {
                        return Err(Error::unsupported("ISOLATION LEVEL SNAPSHOT").hint("Use REPEATABLE READ."));
                    }
                });
            }
        }
    }
    Ok(out)
}

fn plan_set(set: &ast::Set) -> Result<Plan> {
    match set {
        ast::Set::SingleAssignment { scope, hivevar: false, variable, values } => {
            let local = *scope == Some(ast::ContextModifier::Local);
            let name = variable_name(variable)?;
            let values = values.iter().map(set_value).collect::<Result<Vec<_>>>()?;
            let value = match values.as_slice() {
                [None] => None,
                values => Some(values.iter().flatten().map(String::as_str).collect::<Vec<_>>().join(", ")),
            };
            Ok(Plan::Set { name, value, local })
        }
        ast::Set::SetTimeZone { local, value } => {
            Ok(Plan::Set { name: "TimeZone".to_string(), value: set_value(value)?, local: *local })
        }
        ast::Set::SetNames { charset_name, collation_name: None } => {
            Ok(Plan::Set { name: "client_encoding".to_string(), value: Some(charset_name.value.clone()), local: false })
        }
        ast::Set::SetTransaction { modes, snapshot: None, session } => {
            let modes = transaction_modes(modes)?;
            Ok(if *session { Plan::SetSessionTransaction(modes) } else { Plan::SetTransaction(modes) })
        }
        _ => Err(Error::unsupported("this form of SET")),
    }
}

fn variable_name(name: &ast::ObjectName) -> Result<String> {
    match name.0.as_slice() {
        [ast::ObjectNamePart::Identifier(name)] => Ok(Variables::canonical_name(&name.value)?.to_string()),
        _ => Err(Error::new(
            state::UNDEFINED_OBJECT,
            format!("unrecognized configuration parameter \"{}\"", name.to_string().to_lowercase()),
        )),
    }
}

/// The text of a value; `None` for `DEFAULT`.
pub(super) fn set_value(value: &ast::Expr) -> Result<Option<String>> {
    match value {
        ast::Expr::Identifier(name) if name.quote_style.is_none() && name.value.eq_ignore_ascii_case("default") => {
            Ok(None)
        }
        ast::Expr::Identifier(name) => Ok(Some(name.value.clone())),
        ast::Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr } => {
            Ok(set_value(expr)?.map(|text| format!("-{text}")))
        }
        ast::Expr::Value(value) => match &value.value {
            ast::Value::SingleQuotedString(text) => Ok(Some(text.clone())),
            ast::Value::Number(text, _) => Ok(Some(text.clone())),
            ast::Value::Boolean(v) => Ok(Some(v.to_string())),
            _ => Err(Error::new(state::INVALID_PARAMETER, "this is no value for a parameter")),
        },
        _ => Err(Error::new(state::INVALID_PARAMETER, "this is no value for a parameter")),
    }
}

/// Reads the id of `SHOW TRANSACTION 'id'`.
///
/// # Errors
/// `22P02`; for the id of a transaction that had written nothing, with the reason why there is nothing to tell.
pub fn transaction_address(id: &str) -> Result<TxnAddress> {
    if let Ok(address) = id.parse() {
        return Ok(address);
    }
    let error = Error::new(state::INVALID_TEXT, format!("\"{id}\" is not the id of a transaction that has written"));
    Err(if id.parse::<TxnId>().is_ok() {
        error.hint("A transaction that wrote nothing has no outcome to ask for. Take the id after its first write.")
    } else {
        error.hint(
            "SHOW TRANSACTION ID gives a transaction's id, and the error of a commit whose answer was lost names it.",
        )
    })
}

fn show_variable(words: &[ast::Ident]) -> Result<Show> {
    let words: Vec<String> = words.iter().map(normalize).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    Ok(match words.as_slice() {
        ["all"] => Show::AllVariables,
        ["time", "zone"] => Show::Variable("TimeZone"),
        ["transaction", "isolation", "level"] => Show::Variable("transaction_isolation"),
        [name] => Show::Variable(Variables::canonical_name(name)?),
        words => {
            return Err(Error::new(
                state::SYNTAX_ERROR,
                format!("there is no SHOW {}", words.join(" ").to_uppercase()),
            ));
        }
    })
}
