//! The bank through SQL: the same transfers and audits, as sessions of a node run them.

use std::sync::Arc;

use proto::{Datum, Timestamp};
use server::kv;
use server::kv::Db;
use server::sql::{Completion, Error, Limits, Session, SessionOptions, Sql};

use super::bank::{BALANCE, Found, RECENT_MAX};
use super::operation::ACCOUNTS;

/// The SQL layer of a node.
pub fn open(db: &Db) -> Arc<Sql> {
    Sql::new(Arc::new(db.clone()), Limits::default())
}

/// A session as a client has it.
pub fn session(sql: &Arc<Sql>) -> Session {
    sql.session(SessionOptions { user: "bank".into(), database: "bank".into(), application_name: "simulation".into() })
}

/// Runs one statement to its end.
///
/// # Errors
/// Whatever the database says.
pub async fn run(session: &mut Session, text: &str, params: &[i64]) -> Result<(Vec<Vec<Datum>>, Completion), Error> {
    let statement = session.parse(text)?.into_iter().next().expect("there is a statement");
    let prepared = session.prepare(&statement, &[]).await?;
    let params = params.iter().map(|p| Datum::Int8(*p)).collect();
    session.execute(&prepared, params).await?.collect().await
}

/// Creates the tables and writes the accounts' first balances. Safe to repeat.
///
/// # Errors
/// Whatever the database says.
pub async fn load(sql: &Arc<Sql>) -> Result<(), Error> {
    let mut session = session(sql);
    for text in [
        "CREATE TABLE IF NOT EXISTS accounts (id INT8 PRIMARY KEY, balance INT8 NOT NULL)",
        "CREATE TABLE IF NOT EXISTS ledger (id INT8 PRIMARY KEY, amount INT8 NOT NULL)",
    ] {
        run(&mut session, text, &[]).await?;
    }
    let rows: Vec<String> = (0..ACCOUNTS).map(|account| format!("({account}, {BALANCE})")).collect();
    let text = format!("INSERT INTO accounts VALUES {} ON CONFLICT DO NOTHING", rows.join(", "));
    run(&mut session, &text, &[]).await.map(drop)
}

/// One try at a transfer.
///
/// # Errors
/// Whatever the database says.
pub async fn transfer(
    session: &mut Session,
    transfer: u64,
    (from, to, amount): (u64, u64, i64),
    lock: bool,
) -> Result<Timestamp, Error> {
    run(session, "BEGIN", &[]).await?;
    let select = if lock {
        "SELECT balance FROM accounts WHERE id = $1 FOR UPDATE"
    } else {
        "SELECT balance FROM accounts WHERE id = $1"
    };
    for account in [from, to] {
        let (rows, _) = run(session, select, &[account as i64]).await?;
        assert_eq!(rows.len(), 1, "account {account} has one row");
    }
    run(session, "UPDATE accounts SET balance = balance - $1 WHERE id = $2", &[amount, from as i64]).await?;
    run(session, "UPDATE accounts SET balance = balance + $1 WHERE id = $2", &[amount, to as i64]).await?;
    run(session, "INSERT INTO ledger VALUES ($1, $2)", &[transfer as i64, amount]).await?;
    let (_, completion) = run(session, "COMMIT", &[]).await?;
    Ok(completion.commit_timestamp.expect("a transaction that wrote has a commit timestamp"))
}

/// Adds up the accounts, and looks at the end of the ledger, in one transaction: now, or as they were, when there may have been no such tables.
///
/// # Errors
/// Whatever the database says.
pub async fn audit(session: &mut Session, at: Option<Timestamp>) -> Result<Found, Error> {
    let begin = at.map_or("BEGIN READ ONLY".into(), |at| format!("BEGIN AS OF SYSTEM TIME '{at}'"));
    run(session, &begin, &[]).await?;
    match audit_in(session).await {
        Err(error) if at.is_some() && error.sqlstate == "42P01" => {
            Ok(Found { timestamp: at.unwrap_or_default(), accounts: 0, total: 0, recent: Vec::new() })
        }
        result => result,
    }
}

async fn audit_in(session: &mut Session) -> Result<Found, Error> {
    let (rows, _) = run(session, "SELECT count(*), sum(balance) FROM accounts", &[]).await?;
    let count = rows[0][0].as_int().unwrap_or(-1);
    let total = match &rows[0][1] {
        Datum::Numeric(total) => total.to_string().parse().unwrap_or(i64::MIN),
        // Of no rows there is no sum.
        Datum::Null => 0,
        other => other.as_int().unwrap_or(i64::MIN),
    };
    let text = format!("SELECT id FROM ledger ORDER BY id DESC LIMIT {RECENT_MAX}");
    let (recent, _) = run(session, &text, &[]).await?;
    let (_, completion) = run(session, "COMMIT", &[]).await?;
    Ok(Found {
        timestamp: completion.commit_timestamp.unwrap_or(Timestamp::MAX),
        accounts: u64::try_from(count).unwrap_or(0),
        total,
        recent: recent.iter().filter_map(|row| row[0].as_int()).filter_map(|id| u64::try_from(id).ok()).collect(),
    })
}

/// The numbers of all transfers in the ledger.
///
/// # Errors
/// Whatever the database says.
pub async fn ledger(session: &mut Session) -> Result<Vec<u64>, Error> {
    let (rows, _) = run(session, "SELECT id FROM ledger ORDER BY id", &[]).await?;
    Ok(rows.iter().filter_map(|row| row[0].as_int()).filter_map(|id| u64::try_from(id).ok()).collect())
}

/// What an error means to a client: the key-value layer's error that caused it, as far as it is one that a fault explains.
pub fn cause(error: &Error) -> Option<kv::Error> {
    match error.cause.clone()? {
        cause @ (kv::Error::Retry(_) | kv::Error::Unavailable(_) | kv::Error::OutcomeUnknown { .. }) => Some(cause),
        _ => None,
    }
}
