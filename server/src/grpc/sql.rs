//! The `Sql` service: sessions, and single statements.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use proto::v1;
use proto::v1::execute_response::Response as ExecuteAnswer;
use proto::v1::session_response::Response as Answer;
use proto::v1::sql_server::Sql as SqlApi;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::admin::AdminBackend;
use super::session::{Outlet, Session, Statement};
use super::status::status;
use crate::edge::departure::{self, Departure};
use crate::kv::Kv;
use crate::sql::{SessionOptions, Sql};

/// Answers that wait for a client to read them, batches of rows among them.
const ANSWERS_QUEUED_MAX: usize = 8;

/// The user and the database of those who do not say.
const DEFAULT_NAME: &str = "meridian";

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service.
pub struct SqlService {
    sql: Arc<Sql>,
    kv: Arc<dyn Kv>,
    backend: Arc<dyn AdminBackend>,
    departure: Departure,
}

impl SqlService {
    pub fn new(sql: Arc<Sql>, kv: Arc<dyn Kv>, backend: Arc<dyn AdminBackend>, departure: Departure) -> SqlService {
        SqlService { sql, kv, backend, departure }
    }
}

/// What a session is opened with; empty names are the default ones.
pub fn session_options(user: String, database: String, application_name: String) -> SessionOptions {
    let or_default = |name: String| if name.is_empty() { DEFAULT_NAME.to_string() } else { name };
    SessionOptions { user: or_default(user), database: or_default(database), application_name }
}

#[tonic::async_trait]
impl SqlApi for SqlService {
    type SessionStream = Answers<v1::SessionResponse>;
    type ExecuteStream = Answers<v1::ExecuteResponse>;

    async fn session(
        &self,
        request: Request<Streaming<v1::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (answers, receiver) = mpsc::channel(ANSWERS_QUEUED_MAX);
        let node = self.backend.status();
        let started = v1::Started { node_id: node.node_id.map_or(0, |id| id.0), version: node.version };
        let (sql, kv, departure) = (self.sql.clone(), self.kv.clone(), self.departure.clone());
        let session = Session::new(sql, kv, departure, request.into_inner(), answers);
        tokio::spawn(session.run(started));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn execute(&self, request: Request<v1::ExecuteRequest>) -> Result<Response<Self::ExecuteStream>, Status> {
        let stay = self.departure.enter().map_err(|error| status(&error))?;
        let request = request.into_inner();
        let (answers, receiver) = mpsc::channel(ANSWERS_QUEUED_MAX);
        let (sql, kv, departure) = (self.sql.clone(), self.kv.clone(), self.departure.clone());
        tokio::spawn(async move {
            let gone = answers.clone();
            tokio::select! {
                () = execute_once(sql, kv, &departure, request, answers) => {}
                // Dropping the session rolls the statement back.
                () = gone.closed() => {}
            }
            drop(stay);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// Runs a statement on a session of its own.
async fn execute_once(
    sql: Arc<Sql>,
    kv: Arc<dyn Kv>,
    departure: &Departure,
    request: v1::ExecuteRequest,
    answers: mpsc::Sender<Result<v1::ExecuteResponse, Status>>,
) {
    let mut session = sql.session(session_options(request.user, request.database, String::new()));
    let execute = v1::Execute {
        sql: request.sql,
        params: request.params,
        batch_rows_max: 0,
        idempotency_key: request.idempotency_key,
        begin: false,
    };
    let statement = Statement { execute, started: kv.monotonic() };
    let outlet = Outlet { answers, wrap: execute_response };
    let commit = session.commit_watch();
    let result = tokio::select! {
        biased;
        result = statement.run(&mut session, kv.as_ref(), &outlet) => result,
        () = departure.ending_unless(&commit) => Err(departure::error()),
    };
    session.close().await;
    if let Err(error) = result {
        // A client that has gone needs no answer.
        let _ = outlet.answers.send(Err(status(&error))).await;
    }
}

fn execute_response(answer: Answer) -> Option<v1::ExecuteResponse> {
    let response = match answer {
        Answer::RowDescription(description) => ExecuteAnswer::RowDescription(description),
        Answer::RowBatch(batch) => ExecuteAnswer::RowBatch(batch),
        Answer::Complete(complete) => ExecuteAnswer::Complete(complete),
        Answer::Started(_) | Answer::Described(_) | Answer::Failure(_) => return None,
    };
    Some(v1::ExecuteResponse { response: Some(response) })
}
