//! One SQL session over one stream.
//!
//! Requests are carried out one after the other, in order. While one runs, those behind it are read and wait in a
//! bounded queue, so that a `Cancel` is seen: it drops the running statement, or marks a waiting one. A client
//! that ends its side of the stream still gets its answers; when the whole stream breaks, whatever runs is dropped. In
//! the end an open transaction is rolled back.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use proto::v1;
use proto::v1::session_request::Request;
use proto::v1::session_response::Response;
use proto::{DataType, Datum};
use tokio::sync::mpsc;
use tonic::Streaming;

use super::convert::{data_type, parameters, value};
use super::sql::session_options;
use super::status::{failure, status};
use crate::edge::cancellation;
use crate::edge::departure::{self, Departure};
use crate::kv::Kv;
use crate::sql::error::state;
use crate::sql::{Column, CommitWatch, Completion, Error, Prepared, Sql, Status};

/// Requests that wait while one is carried out. When there are more, the client's stream is not read on, and a `Cancel`
/// behind them has to wait too.
const REQUESTS_QUEUED_MAX: usize = 1024;

/// A batch of rows is cut when it has grown to about this.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// A session and its stream.
pub struct Session {
    sql: Arc<Sql>,
    kv: Arc<dyn Kv>,
    departure: Departure,
    requests: Streaming<v1::SessionRequest>,
    answers: mpsc::Sender<Result<v1::SessionResponse, tonic::Status>>,
    waiting: VecDeque<v1::SessionRequest>,
    /// Waiting requests that are not to be carried out.
    cancelled: BTreeSet<u64>,
    /// The client has ended its side of the stream, and waits for the answers.
    has_said_all: bool,
}

/// The client has gone, or is not worth talking to; in the latter case it has been told.
struct Over;

/// How waiting for a request to be carried out ended.
enum Ended<T> {
    Done(T),
    /// The work was dropped, for this reason.
    Dropped(Error),
}

impl Session {
    pub fn new(
        sql: Arc<Sql>,
        kv: Arc<dyn Kv>,
        departure: Departure,
        requests: Streaming<v1::SessionRequest>,
        answers: mpsc::Sender<Result<v1::SessionResponse, tonic::Status>>,
    ) -> Session {
        Session {
            sql,
            kv,
            departure,
            requests,
            answers,
            waiting: VecDeque::new(),
            cancelled: BTreeSet::new(),
            has_said_all: false,
        }
    }

    /// Carries out requests until the stream ends.
    pub async fn run(mut self, started: v1::Started) {
        let Ok(start) = self.start().await else { return };
        let departure = self.departure.clone();
        let Ok(_stay) = departure.enter() else { return self.part().await };
        let options = session_options(start.user, start.database, start.application_name);
        let mut session = self.sql.session(options);
        if self.answer(0, Response::Started(started)).await.is_ok() {
            loop {
                let request = tokio::select! {
                    biased;
                    () = departure.leaving(), if session.status() == Status::Idle => break,
                    () = departure.ending() => break,
                    request = self.next_request() => request,
                };
                let Ok(request) = request else { return session.close().await };
                if self.carry_out(&mut session, request).await.is_err() {
                    return session.close().await;
                }
            }
        }
        session.close().await;
        self.part().await;
    }

    /// Tells the client that the node is about to stop, and that requests without an answer were not carried out.
    async fn part(self) {
        // A client that has gone needs no answer.
        let _ = self.answers.send(Err(status(&departure::error()))).await;
        // If the requests were dropped before that is on its way, the stream would be reset, and nothing told.
        self.answers.closed().await;
    }

    async fn start(&mut self) -> Result<v1::Start, Over> {
        match self.requests.message().await {
            Ok(Some(v1::SessionRequest { request: Some(Request::Start(start)), .. })) => Ok(start),
            Ok(Some(_)) => Err(self.refuse("a session begins with Start").await),
            Ok(None) | Err(_) => Err(Over),
        }
    }

    async fn next_request(&mut self) -> Result<v1::SessionRequest, Over> {
        loop {
            let request = match self.waiting.pop_front() {
                Some(request) => request,
                None if self.has_said_all => return Err(Over),
                None => self.requests.message().await.ok().flatten().ok_or(Over)?,
            };
            // A Cancel that comes when nothing runs comes too late.
            if !matches!(request.request, Some(Request::Cancel(_))) {
                return Ok(request);
            }
        }
    }

    async fn carry_out(&mut self, session: &mut crate::sql::Session, message: v1::SessionRequest) -> Result<(), Over> {
        let id = message.id;
        let commit = session.commit_watch();
        if self.cancelled.remove(&id) {
            session.fail();
            return self.answer_failure(id, session.status(), &cancellation::error()).await;
        }
        let (answers, kv) = (self.answers.clone(), self.kv.clone());
        let result = match message.request {
            Some(Request::Execute(execute)) => {
                let statement = Statement { execute, started: kv.monotonic() };
                let outlet = Outlet { answers, wrap: move |answer| Some(response(id, answer)) };
                self.watch(id, commit, statement.run(session, kv.as_ref(), &outlet)).await?
            }
            Some(Request::Prepare(prepare)) => {
                let work = async {
                    let prepared = prepare_one(session, &prepare.sql, &[]).await?;
                    drop(answers.send(Ok(response(id, Response::Described(described(&prepared))))).await);
                    Ok(())
                };
                self.watch(id, commit, work).await?
            }
            Some(Request::Start(_)) => return Err(self.refuse("the session has been started already").await),
            Some(Request::Cancel(_)) => Ended::Done(Ok(())),
            None => return Err(self.refuse("a request of a kind that this server does not know").await),
        };
        let error = match result {
            Ended::Done(Ok(())) => return Ok(()),
            Ended::Done(Err(error)) | Ended::Dropped(error) => error,
        };
        // An error that the session has not met itself fails its transaction, too.
        session.fail();
        self.answer_failure(id, session.status(), &error).await
    }

    /// Waits for some work, reading requests meanwhile. A commit is waited for even if the client goes.
    async fn watch<T>(
        &mut self,
        id: u64,
        commit: CommitWatch,
        work: impl Future<Output = T>,
    ) -> Result<Ended<T>, Over> {
        tokio::pin!(work);
        let departure = self.departure.clone();
        loop {
            let reads = !self.has_said_all && self.waiting.len() < REQUESTS_QUEUED_MAX;
            let message = tokio::select! {
                biased;
                done = &mut work => return Ok(Ended::Done(done)),
                () = self.answers.closed() => Err(Over),
                () = departure.ending_unless(&commit) => return Ok(Ended::Dropped(departure::error())),
                message = self.requests.message(), if reads => message.map_err(|_| Over),
            };
            match message {
                Err(Over) if commit.is_committing() => return Ok(Ended::Done(work.await)),
                Err(Over) => return Err(Over),
                Ok(None) => self.has_said_all = true,
                Ok(Some(message)) => match message.request {
                    Some(Request::Cancel(cancel)) if cancel.id == id => {
                        if !commit.is_committing() {
                            return Ok(Ended::Dropped(cancellation::error()));
                        }
                    }
                    Some(Request::Cancel(cancel)) => self.cancel_waiting(cancel.id),
                    _ => self.waiting.push_back(message),
                },
            }
        }
    }

    fn cancel_waiting(&mut self, id: u64) {
        if self.waiting.iter().any(|request| request.id == id) {
            self.cancelled.insert(id);
        }
    }

    async fn answer(&self, id: u64, answer: Response) -> Result<(), Over> {
        self.answers.send(Ok(response(id, answer))).await.map_err(|_| Over)
    }

    async fn answer_failure(&self, id: u64, status: Status, error: &Error) -> Result<(), Over> {
        let mut failure = failure(error);
        failure.set_transaction_status(transaction_status(status));
        self.answer(id, Response::Failure(failure)).await
    }

    async fn refuse(&self, message: &str) -> Over {
        // A client that has gone needs no answer.
        let _ = self.answers.send(Err(tonic::Status::invalid_argument(message))).await;
        Over
    }
}

/// Where a statement's answers go, in the form of the call that it came with.
pub struct Outlet<T, F> {
    pub answers: mpsc::Sender<Result<T, tonic::Status>>,
    /// `None` for answers that the call has no place for.
    pub wrap: F,
}

impl<T, F: Fn(Response) -> Option<T>> Outlet<T, F> {
    /// Waits for room. If the client has gone, that will end the statement elsewhere.
    async fn send(&self, answer: Response) {
        if let Some(answer) = (self.wrap)(answer) {
            let _ = self.answers.send(Ok(answer)).await;
        }
    }
}

/// A statement to be run.
pub struct Statement {
    pub execute: v1::Execute,
    /// When it arrived, by [`Kv::monotonic`].
    pub started: Duration,
}

impl Statement {
    /// Runs the statement and sends what it returns, up to and including its completion.
    ///
    /// # Errors
    /// When it fails, possibly after some rows.
    pub async fn run<T>(
        self,
        session: &mut crate::sql::Session,
        kv: &dyn Kv,
        outlet: &Outlet<T, impl Fn(Response) -> Option<T>>,
    ) -> Result<(), Error> {
        let prepared = prepare_one(session, &self.execute.sql, &[]).await?;
        if self.execute.begin {
            session.begin().await?;
        }
        let params = parameters(self.execute.params, &prepared.parameters)?;
        let has_rows = !prepared.columns.is_empty();
        let batch_rows_max = match self.execute.batch_rows_max {
            0 => usize::MAX,
            n => n as usize,
        };
        let mut described = false;
        let completion = {
            let mut rows = session.execute_with_key(&prepared, params, &self.execute.idempotency_key).await?;
            while let Some(batch) = rows.next().await? {
                // Not before the first rows: until then the statement may fail, or run again.
                if !std::mem::replace(&mut described, true) {
                    outlet.send(row_description(&prepared.columns)).await;
                }
                for part in cut(batch, batch_rows_max) {
                    outlet.send(Response::RowBatch(v1::RowBatch { rows: part.into_iter().map(row).collect() })).await;
                }
            }
            rows.completion().clone()
        };
        if has_rows && !described {
            outlet.send(row_description(&prepared.columns)).await;
        }
        let total = kv.monotonic().saturating_sub(self.started);
        outlet.send(Response::Complete(complete(completion, session.status(), total))).await;
        Ok(())
    }
}

async fn prepare_one(
    session: &mut crate::sql::Session,
    text: &str,
    hints: &[Option<DataType>],
) -> Result<Arc<Prepared>, Error> {
    let statements = session.parse(text)?;
    match statements.as_slice() {
        [one] => session.prepare(one, hints).await,
        [] => Err(Error::new(state::SYNTAX_ERROR, "there is no statement")),
        _ => Err(Error::new(state::SYNTAX_ERROR, "there is more than one statement").hint("Send them one by one.")),
    }
}

fn response(id: u64, response: Response) -> v1::SessionResponse {
    v1::SessionResponse { id, response: Some(response) }
}

/// Cuts a batch of rows so that no part has too many rows or bytes; a single row may be larger.
fn cut(batch: Vec<Vec<Datum>>, rows_max: usize) -> Vec<Vec<Vec<Datum>>> {
    let (mut parts, mut part, mut bytes) = (Vec::new(), Vec::new(), 0);
    for row in batch {
        let row_bytes: usize = row.iter().map(Datum::memory).sum();
        if !part.is_empty() && (part.len() == rows_max || bytes + row_bytes > BATCH_BYTES_MAX) {
            parts.push(std::mem::take(&mut part));
            bytes = 0;
        }
        bytes += row_bytes;
        part.push(row);
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

fn row(values: Vec<Datum>) -> v1::Row {
    v1::Row { values: values.into_iter().map(value).collect() }
}

fn column(column: &Column) -> v1::Column {
    v1::Column { name: column.name.clone(), r#type: Some(data_type(column.data_type)) }
}

fn row_description(columns: &[Column]) -> Response {
    Response::RowDescription(v1::RowDescription { columns: columns.iter().map(column).collect() })
}

fn described(prepared: &Prepared) -> v1::Described {
    v1::Described {
        parameters: prepared.parameters.iter().map(|&t| data_type(t)).collect(),
        columns: prepared.columns.iter().map(column).collect(),
    }
}

fn transaction_status(status: Status) -> v1::TransactionStatus {
    match status {
        Status::Idle => v1::TransactionStatus::Idle,
        Status::InTransaction => v1::TransactionStatus::InTransaction,
        Status::Failed => v1::TransactionStatus::Failed,
    }
}

fn complete(completion: Completion, status: Status, total: Duration) -> v1::Complete {
    let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let commit = completion.timings.unwrap_or_default();
    let notice = |message: String| v1::Notice { severity: "NOTICE".into(), sqlstate: "00000".into(), message };
    let mut complete = v1::Complete {
        rows: completion.tag.rsplit(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0),
        tag: completion.tag,
        notices: completion.notices.into_iter().map(notice).collect(),
        commit_timestamp: completion.commit_timestamp.map_or(0, |t| t.0),
        timings: Some(v1::Timings {
            queue_us: micros(commit.queue),
            replication_us: micros(commit.replication),
            clock_wait_us: micros(commit.clock_wait),
            total_us: micros(total),
        }),
        retries: completion.retries.into_iter().map(|(reason, count)| (reason.name().to_string(), count)).collect(),
        transaction_status: 0,
        transaction_id: completion.transaction.map(|txn| txn.to_string()).unwrap_or_default(),
        replayed: completion.replayed,
    };
    complete.set_transaction_status(transaction_status(status));
    complete
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_cut_by_rows_and_by_bytes() {
        let rows = |count: usize, bytes: usize| vec![vec![Datum::Bytea(vec![0; bytes])]; count];
        let sizes = |parts: Vec<Vec<Vec<Datum>>>| parts.iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(cut(rows(5, 1), 2)), [2, 2, 1]);
        assert_eq!(sizes(cut(rows(3, BATCH_BYTES_MAX / 2), usize::MAX)), [1, 1, 1]);
        assert_eq!(sizes(cut(rows(1, BATCH_BYTES_MAX * 2), usize::MAX)), [1]);
        assert!(cut(Vec::new(), 10).is_empty());
    }

    #[test]
    fn a_completion_counts_rows_as_its_tag_does() {
        let rows = |tag: &str| {
            let completion = Completion { tag: tag.into(), ..Completion::default() };
            complete(completion, Status::Idle, Duration::ZERO).rows
        };
        assert_eq!((rows("SELECT 3"), rows("INSERT 0 2"), rows("BEGIN")), (3, 2, 0));
    }
}
