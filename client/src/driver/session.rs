//! One SQL session: a gRPC stream to one node.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use proto::v1;
use proto::v1::session_request::Request;
use proto::v1::session_response::Response;
use proto::v1::sql_client::SqlClient;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use super::error::{Error, Result, describe_status};
use super::nodes::{MESSAGE_BYTES_MAX, is_departure};
use super::rows::{Completion, Row, Rows, TransactionStatus};
use super::{Column, Config, DataType, ToValue};

/// Requests on their way to the server, before a sender has to wait. One statement at a time and its cancellation.
const REQUESTS_QUEUED_MAX: usize = 4;

/// A SQL session on one node. Dropping it ends it: the server rolls back an open transaction.
pub struct Session {
    requests: mpsc::Sender<v1::SessionRequest>,
    responses: Streaming<v1::SessionResponse>,
    id_last: u64,
    /// The request whose last answer has not been read; 0 if there is none. Shared with cancellers.
    current: Arc<AtomicU64>,
    status: TransactionStatus,
    /// Of the transaction that was open when the last statement ended, if it had written.
    transaction_id: Option<String>,
    /// The connection is gone, or cannot be trusted any more.
    broken: bool,
    statement_timeout: Option<Duration>,
    address: String,
    node_id: u64,
    version: String,
}

/// What the session remembers of a statement in progress.
pub(super) struct Statement {
    id: u64,
    deadline: Option<Instant>,
    /// What to call it if the connection is lost while it may be taking effect.
    effect: Option<String>,
}

/// What a statement may bring along.
#[derive(Clone, Copy, Default)]
pub(super) struct Extras<'a> {
    /// The idempotency key of its transaction.
    pub key: Option<&'a str>,
    /// It opens a transaction block.
    pub begin: bool,
}

/// What a statement takes and returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The types of `$1`, `$2`, ...
    pub parameters: Vec<DataType>,
    /// Empty for a statement that returns no rows.
    pub columns: Vec<Column>,
}

impl Session {
    /// Opens a session over a connection.
    pub(super) async fn open(address: &str, channel: Channel, config: &Config) -> Result<Session> {
        let (requests, queue) = mpsc::channel(REQUESTS_QUEUED_MAX);
        let start = v1::Start {
            user: config.user.clone(),
            database: config.database.clone(),
            application_name: config.application_name.clone(),
        };
        let first = v1::SessionRequest { id: 0, request: Some(Request::Start(start)) };
        requests.try_send(first).expect("a new queue has room for one request");
        let lost = |status: tonic::Status| match is_departure(&status) {
            true => Error::from_status(&status),
            false => Error::connection(describe_status(&status)),
        };
        let mut responses = SqlClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .session(ReceiverStream::new(queue))
            .await
            .map_err(lost)?
            .into_inner();
        let answer = responses.message().await.map_err(lost)?.and_then(|m| m.response);
        match answer {
            Some(Response::Started(started)) => Ok(Session {
                requests,
                responses,
                id_last: 0,
                current: Arc::new(AtomicU64::new(0)),
                status: TransactionStatus::Idle,
                transaction_id: None,
                broken: false,
                statement_timeout: config.statement_timeout,
                address: address.to_string(),
                node_id: started.node_id,
                version: started.version,
            }),
            Some(Response::Failure(failure)) => Err(Error::from_failure(failure)),
            _ => Err(Error::protocol("the server did not open the session")),
        }
    }

    /// Runs a statement; its rows arrive as they are read.
    ///
    /// # Errors
    /// Whatever the server refuses the statement for, and the loss of the connection.
    pub async fn stream(&mut self, sql: &str, params: &[&dyn ToValue]) -> Result<Rows<'_>> {
        self.stream_with(sql, params, Extras::default()).await
    }

    /// [`Session::stream`], with what a statement may bring along.
    pub(super) async fn stream_with(
        &mut self,
        sql: &str,
        params: &[&dyn ToValue],
        extras: Extras<'_>,
    ) -> Result<Rows<'_>> {
        let execute = v1::Execute {
            sql: sql.to_string(),
            params: params.iter().map(|p| p.to_value().into_wire()).collect(),
            batch_rows_max: 0,
            idempotency_key: extras.key.unwrap_or_default().to_string(),
            begin: extras.begin,
        };
        let effect = if extras.begin { None } else { effect_of(sql, self.status) };
        let statement = self.send(effect, Request::Execute(execute)).await?;
        Rows::start(self, statement).await
    }

    /// Runs a statement and gathers its rows.
    pub async fn query(&mut self, sql: &str, params: &[&dyn ToValue]) -> Result<(Vec<Row>, Completion)> {
        self.stream(sql, params).await?.collect().await
    }

    /// Runs a statement whose rows, if any, do not matter.
    pub async fn execute(&mut self, sql: &str, params: &[&dyn ToValue]) -> Result<Completion> {
        self.stream(sql, params).await?.finish().await
    }

    /// Asks what a statement takes and returns, without running it.
    pub async fn describe(&mut self, sql: &str) -> Result<Description> {
        let statement = self.send(None, Request::Prepare(v1::Prepare { sql: sql.to_string() })).await?;
        match self.receive(&statement).await? {
            Response::Described(described) => Ok(Description {
                parameters: described.parameters.into_iter().map(|t| DataType::from_wire(Some(t))).collect(),
                columns: described.columns.into_iter().map(Column::from_wire).collect(),
            }),
            Response::Failure(failure) => Err(Error::from_failure(failure)),
            _ => Err(self.broken_protocol("something else than a description")),
        }
    }

    /// A way to stop the running statement from elsewhere.
    pub fn canceller(&self) -> Canceller {
        Canceller { requests: self.requests.clone(), current: self.current.clone() }
    }

    /// The id of the open transaction, as of the last statement that ended: what [`Client::outcome`](super::Client::outcome) needs. `None` as long as
    /// it has written nothing.
    pub fn transaction_id(&self) -> Option<&str> {
        self.transaction_id.as_deref()
    }

    pub fn transaction_status(&self) -> TransactionStatus {
        self.status
    }

    /// Whether the connection is lost; every further statement will fail.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// The address of the node that serves the session.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The node that serves the session.
    pub fn node_id(&self) -> u64 {
        self.node_id
    }

    /// The version of the server.
    pub fn server_version(&self) -> &str {
        &self.version
    }

    /// Whether another user may take the session over: nothing runs, no transaction is open, and the connection
    /// has not ended meanwhile.
    pub(super) fn is_reusable(&mut self) -> bool {
        if self.broken || self.current() != 0 || self.status != TransactionStatus::Idle {
            return false;
        }
        self.broken = self.responses.message().now_or_never().is_some();
        !self.broken
    }

    fn current(&self) -> u64 {
        self.current.load(Ordering::Relaxed)
    }

    async fn send(&mut self, effect: Option<String>, request: Request) -> Result<Statement> {
        self.settle().await?;
        let Ok(permit) = self.requests.reserve().await else {
            self.broken = true;
            return Err(self.lost(None, "the session has ended"));
        };
        // From here on nothing is awaited, so a caller that goes away leaves a request that was sent, or none.
        self.id_last += 1;
        let id = self.id_last;
        permit.send(v1::SessionRequest { id, request: Some(request) });
        self.current.store(id, Ordering::Relaxed);
        let deadline = self.statement_timeout.map(|timeout| Instant::now() + timeout);
        Ok(Statement { id, deadline, effect })
    }

    /// Deals with a statement whose rows were not read to their end.
    async fn settle(&mut self) -> Result<()> {
        if self.broken {
            return Err(self.lost(None, "the session has ended"));
        }
        let id = self.current();
        if id == 0 {
            return Ok(());
        }
        if self.status == TransactionStatus::Idle {
            self.canceller().cancel().await;
        }
        let deadline = self.statement_timeout.map(|timeout| Instant::now() + timeout);
        let statement = Statement { id, deadline, effect: None };
        while self.current() == id {
            self.receive(&statement).await?;
        }
        Ok(())
    }

    /// The next answer to a statement. Its last answer ends it.
    pub(super) async fn receive(&mut self, statement: &Statement) -> Result<Response> {
        let message = match statement.deadline {
            None => self.responses.message().await,
            Some(deadline) => match tokio::time::timeout_at(deadline, self.responses.message()).await {
                Ok(message) => message,
                Err(_) => return Err(self.timed_out(statement)),
            },
        };
        let message = match message {
            Ok(Some(message)) => message,
            Ok(None) => return Err(self.lost(statement.effect.as_deref(), "the server has ended the session")),
            // The node says that it has carried out nothing that it has not answered.
            Err(status) if is_departure(&status) => {
                self.broken = true;
                return Err(Error::from_status(&status));
            }
            Err(status) => return Err(self.lost(statement.effect.as_deref(), &describe_status(&status))),
        };
        if message.id != statement.id {
            return Err(self.broken_protocol("an answer to another request"));
        }
        let Some(response) = message.response else {
            return Err(self.broken_protocol("an answer that this driver does not know"));
        };
        match &response {
            Response::Complete(complete) => {
                self.transaction_id = Some(complete.transaction_id.clone()).filter(|id| !id.is_empty());
                self.end_statement(Some(complete.transaction_status()));
            }
            Response::Failure(failure) => self.end_statement(Some(failure.transaction_status())),
            Response::Described(_) => self.end_statement(None),
            _ => {}
        }
        Ok(response)
    }

    fn end_statement(&mut self, status: Option<v1::TransactionStatus>) {
        self.current.store(0, Ordering::Relaxed);
        if let Some(status) = status {
            self.status = TransactionStatus::from_wire(status);
        }
    }

    pub(super) fn broken_protocol(&mut self, what: &str) -> Error {
        self.broken = true;
        Error::protocol(format!("{} sent {what}", self.address))
    }

    fn lost(&mut self, effect: Option<&str>, why: &str) -> Error {
        self.broken = true;
        let loss = Error::connection(format!("the connection to {} was lost: {why}", self.address));
        match effect {
            None => loss,
            Some(what) => Error::outcome_unknown(what, loss).of_transaction(self.transaction_id.clone()),
        }
    }

    /// Ends the session, so that the server stops the statement and rolls back.
    fn timed_out(&mut self, statement: &Statement) -> Error {
        self.broken = true;
        let timeout = self.statement_timeout.unwrap_or_default();
        let late = Error::new(
            super::ErrorKind::Deadline,
            "57014",
            format!("no answer from {} within the statement timeout of {timeout:?}", self.address),
        );
        match &statement.effect {
            None => late.with_reason("deadline"),
            Some(what) => Error::outcome_unknown(what, late).of_transaction(self.transaction_id.clone()),
        }
    }
}

/// Stops whatever statement its session is running.
#[derive(Clone)]
pub struct Canceller {
    requests: mpsc::Sender<v1::SessionRequest>,
    current: Arc<AtomicU64>,
}

impl Canceller {
    /// Asks the server to stop the running statement, which then fails with SQLSTATE 57014, unless it ends first.
    pub async fn cancel(&self) {
        let id = self.current.load(Ordering::Relaxed);
        if id != 0 {
            let cancel = v1::SessionRequest { id: 0, request: Some(Request::Cancel(v1::Cancel { id })) };
            // A session that has ended has nothing left to stop.
            let _ = self.requests.send(cancel).await;
        }
    }
}

/// What to call a statement that may be taking effect while its answer is awaited: a commit, or one that writes in
/// a transaction of its own. `None` for those that have no effect without a later commit, and those that can as well be run twice: splitting
/// a table where it is split already changes nothing.
fn effect_of(sql: &str, status: TransactionStatus) -> Option<String> {
    const REPEATABLE: [&str; 14] = [
        "SELECT", "SHOW", "VALUES", "TABLE", "BEGIN", "START", "SET", "RESET", "DISCARD", "ROLLBACK", "ABORT",
        "EXPLAIN", "DESCRIBE", "ALTER",
    ];
    let word = first_word(sql);
    let commits = matches!(word.as_str(), "COMMIT" | "END");
    let effective = match status {
        TransactionStatus::Idle => !commits && !REPEATABLE.contains(&word.as_str()),
        TransactionStatus::InTransaction => commits || word.is_empty(),
        TransactionStatus::Failed => false,
    };
    let name = if word.is_empty() { "the statement".into() } else { word };
    effective.then_some(name)
}

/// Whether a statement writes, or may, and can be run in a transaction block.
pub(super) fn may_write(sql: &str) -> bool {
    const WRITING: [&str; 7] = ["INSERT", "UPDATE", "DELETE", "TRUNCATE", "CREATE", "DROP", "WITH"];
    WRITING.contains(&first_word(sql).as_str())
}

/// The first word of a statement, in capitals; empty if it begins with something else. Comments before it are passed over.
fn first_word(sql: &str) -> String {
    let mut rest = sql.trim_start();
    loop {
        let after = if let Some(comment) = rest.strip_prefix("--") {
            comment.split_once('\n').map(|(_, after)| after)
        } else if let Some(comment) = rest.strip_prefix("/*") {
            comment.split_once("*/").map(|(_, after)| after)
        } else {
            break;
        };
        rest = after.unwrap_or_default().trim_start();
    }
    let word: String = rest.chars().take_while(char::is_ascii_alphabetic).collect();
    word.to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_statement_that_may_have_taken_effect_has_an_unknown_outcome() {
        use TransactionStatus::*;
        assert_eq!(effect_of("INSERT INTO t VALUES (1)", Idle).as_deref(), Some("INSERT"));
        assert_eq!(effect_of(" with x as (delete from t) select 1", Idle).as_deref(), Some("WITH"));
        assert_eq!(effect_of("-- hidden\nCOMMIT", InTransaction).as_deref(), Some("COMMIT"));
        assert_eq!(effect_of("/* a */ -- b\n /**/ end", InTransaction).as_deref(), Some("END"));
        assert_eq!(effect_of("/* /* */ COMMIT */ ...", InTransaction).as_deref(), Some("COMMIT"));
        assert_eq!(effect_of("/* never ends", InTransaction).as_deref(), Some("the statement"));
        assert_eq!(effect_of("alter table t split at values (1)", Idle), None);
        assert_eq!(effect_of("commit", InTransaction).as_deref(), Some("COMMIT"));
        assert_eq!(effect_of("INSERT INTO t VALUES (1)", InTransaction), None);
        assert_eq!(effect_of("select 1", Idle), None);
        assert_eq!(effect_of("COMMIT", Failed), None);
    }

    #[test]
    fn what_writes_is_known_by_its_first_word() {
        assert!(may_write("insert into t values (1)") && may_write("-- why\nUPDATE t SET a = 1"));
        assert!(!may_write("SELECT 1") && !may_write("ALTER TABLE t SPLIT AT VALUES (1)") && !may_write(""));
    }
}
