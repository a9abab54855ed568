//! The `KeyRange` service: transactions over an application's own keys.
//!
//! The application's keys live under a prefix of their own, which is put before every key that comes in and cut from
//! every key that goes out, so that no key can reach the tables of SQL.

use std::sync::Arc;
use std::time::Duration;

use proto::v1::key_range_server::KeyRange;
use proto::{Key, Span, Timestamp, keyspace, v1};
use tonic::{Request, Response, Status};

use super::handles::{Handles, Open};
use super::key_work::{Outcome, Work};
use super::status::{kv_status, status};
use crate::edge::departure::Departure;
use crate::kv::idempotency::{Guard, IdempotencyKey};
use crate::kv::{self, BeginOptions, Committed, Isolation, Kv, Lock, ScanOptions, ScanPage};
use crate::sql::Error;

/// Attempts at a transaction of a single call before its conflict is reported.
const ATTEMPTS_MAX: u32 = 64;

/// Rows of one answer.
const ROWS_MAX: usize = 10_000;

/// Keys, or rows, of one request.
const KEYS_MAX: usize = 10_000;

/// The service.
pub struct KeyRangeService {
    kv: Arc<dyn Kv>,
    handles: Arc<Handles>,
    departure: Departure,
    /// Bytes of answers that are kept for a transaction with an idempotency key.
    answer_bytes_max: usize,
}

/// What a call came to.
struct Done {
    outcome: Outcome,
    /// Of a transaction of its own.
    committed: Timestamp,
    /// Of a transaction with a handle that has written.
    transaction_id: String,
}

impl KeyRangeService {
    pub fn new(
        kv: Arc<dyn Kv>,
        handles: Arc<Handles>,
        departure: Departure,
        answer_bytes_max: usize,
    ) -> KeyRangeService {
        KeyRangeService { kv, handles, departure, answer_bytes_max }
    }

    /// Does some work in the transaction of a handle, or without one in a transaction of its own.
    async fn work(&self, handle: &[u8], key: &str, work: Work) -> Result<Done, Status> {
        if handle.is_empty() {
            return self.autocommit(key, work).await;
        }
        if !key.is_empty() {
            return Err(Status::invalid_argument(
                "an idempotency key is given when the transaction begins, not to a call of it",
            ));
        }
        let mut slot = self.handles.get(handle).await?;
        let open = slot.as_mut().ok_or_else(|| Status::not_found("the transaction has ended"))?;
        let result = work.run(open, self.answer_bytes_max).await;
        // A refusal of the key tells of its row.
        if work.is_read() || result.is_err() {
            open.transaction.reveal().await.map_err(kv_status)?;
        }
        let outcome = result.map_err(kv_status)?;
        let first = open.guard.as_ref().and_then(Guard::first);
        let transaction_id = first.or_else(|| open.transaction.address()).map(|address| address.to_string());
        Ok(Done { outcome, committed: Timestamp::ZERO, transaction_id: transaction_id.unwrap_or_default() })
    }

    async fn open(&self, options: BeginOptions, key: &str) -> Result<Open, Error> {
        let key = if key.is_empty() { None } else { Some(IdempotencyKey::new(key)?) };
        if let (Some(key), true) = (&key, options.read_only) {
            let message = format!("a read-only transaction cannot have an idempotency key, and has \"{key}\"");
            return Err(kv::Error::Invalid(message).into());
        }
        let stay = self.departure.enter()?;
        let mut transaction = self.kv.begin(options).await?;
        let guard = match key {
            Some(key) => Some(Guard::open(transaction.as_mut(), key).await?),
            None => None,
        };
        Ok(Open { transaction, guard, _stay: stay })
    }

    /// Runs a transaction of a single call until it commits.
    async fn autocommit(&self, key: &str, work: Work) -> Result<Done, Status> {
        // Even a locking read changes nothing, and its lock would be gone at once.
        let mut options = BeginOptions { read_only: work.is_read(), ..BeginOptions::default() };
        for attempt in 1.. {
            let mut open = self.open(options.clone(), key).await.map_err(|error| status(&error))?;
            let result = match work.run(&mut open, self.answer_bytes_max).await {
                Ok(outcome) => {
                    let committed = self.commit(&mut open).await.map(|committed| committed.timestamp);
                    committed.map(|committed| Done { outcome, committed, transaction_id: String::new() })
                }
                Err(error) => {
                    open.transaction.rollback().await;
                    Err(error)
                }
            };
            match result {
                Ok(done) => return Ok(done),
                Err(error) if error.is_retryable() && attempt < ATTEMPTS_MAX => {
                    options.priority.get_or_insert(open.transaction.priority());
                    self.kv.sleep(Duration::from_millis(1 << attempt.min(7))).await;
                }
                Err(error) => return Err(kv_status(error)),
            }
        }
        unreachable!("the last attempt returns")
    }

    /// Commits, or ends the repetition of a transaction that has committed.
    async fn commit(&self, open: &mut Open) -> Result<Committed, kv::Error> {
        if let Some(guard) = &mut open.guard
            && let Some(first) = guard.end(open.transaction.as_mut(), self.kv.as_ref()).await?
        {
            return Ok(first);
        }
        open.transaction.commit().await
    }
}

#[tonic::async_trait]
impl KeyRange for KeyRangeService {
    async fn begin(&self, request: Request<v1::BeginRequest>) -> Result<Response<v1::BeginResponse>, Status> {
        let request = request.into_inner();
        let isolation = match request.isolation() {
            v1::Isolation::Unspecified | v1::Isolation::Serializable => Isolation::Serializable,
            v1::Isolation::Snapshot => Isolation::Snapshot,
        };
        let priority = Some(Timestamp(request.priority)).filter(|p| *p > Timestamp::ZERO);
        let options = BeginOptions { isolation, read_only: request.read_only, priority, at: None };
        let mut open = self.open(options, &request.idempotency_key).await.map_err(|error| status(&error))?;
        if open.guard.is_some() {
            // What it has read of its key is told with the first answer at the latest.
            open.transaction.reveal().await.map_err(kv_status)?;
        }
        let (read_timestamp, priority) = (open.transaction.read_timestamp().0, open.transaction.priority().0);
        let handle = self.handles.insert(open)?;
        Ok(Response::new(v1::BeginResponse { handle, read_timestamp, priority }))
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::GetResponse>, Status> {
        let request = request.into_inner();
        check_count(request.keys.len())?;
        let lock = if request.for_update && !request.handle.is_empty() { Lock::Exclusive } else { Lock::None };
        let keys = request.keys.iter().map(|bytes| key(bytes)).collect();
        let Done { outcome, .. } = self.work(&request.handle, "", Work::Get { keys, lock }).await?;
        let values = if let Outcome::Values(values) = outcome { values } else { Vec::new() };
        let values = values.into_iter().map(|value| v1::MaybeValue { value }).collect();
        Ok(Response::new(v1::GetResponse { values }))
    }

    async fn scan(&self, request: Request<v1::ScanRequest>) -> Result<Response<v1::ScanResponse>, Status> {
        let request = request.into_inner();
        let span = span(&request.start, &request.end);
        let rows_max = if request.limit == 0 { ROWS_MAX } else { ROWS_MAX.min(request.limit as usize) };
        let options = ScanOptions { rows_max, reverse: request.reverse, ..ScanOptions::default() };
        let Done { outcome, .. } = self.work(&request.handle, "", Work::Scan { span, options }).await?;
        let page = if let Outcome::Page(page) = outcome { page } else { ScanPage::default() };
        Ok(Response::new(scan_response(page)))
    }

    async fn put(&self, request: Request<v1::PutRequest>) -> Result<Response<v1::PutResponse>, Status> {
        let request = request.into_inner();
        check_count(request.rows.len())?;
        let rows = request.rows.into_iter().map(|row| (key(&row.key), Some(row.value))).collect();
        let done = self.work(&request.handle, &request.idempotency_key, Work::Write(rows)).await?;
        let Done { committed, transaction_id, .. } = done;
        Ok(Response::new(v1::PutResponse { commit_timestamp: committed.0, transaction_id }))
    }

    async fn delete(&self, request: Request<v1::DeleteRequest>) -> Result<Response<v1::DeleteResponse>, Status> {
        let request = request.into_inner();
        check_count(request.keys.len())?;
        let rows = request.keys.iter().map(|bytes| (key(bytes), None)).collect();
        let done = self.work(&request.handle, &request.idempotency_key, Work::Write(rows)).await?;
        let Done { committed, transaction_id, .. } = done;
        Ok(Response::new(v1::DeleteResponse { commit_timestamp: committed.0, transaction_id }))
    }

    async fn commit(&self, request: Request<v1::CommitRequest>) -> Result<Response<v1::CommitResponse>, Status> {
        let mut open = self.handles.take(&request.into_inner().handle).await?;
        let replayed = open.guard.as_ref().is_some_and(|guard| guard.first().is_some());
        let committed = self.commit(&mut open).await.map_err(kv_status)?;
        Ok(Response::new(v1::CommitResponse { commit_timestamp: committed.timestamp.0, replayed }))
    }

    async fn rollback(&self, request: Request<v1::RollbackRequest>) -> Result<Response<v1::RollbackResponse>, Status> {
        let mut open = self.handles.take(&request.into_inner().handle).await?;
        open.transaction.rollback().await;
        Ok(Response::new(v1::RollbackResponse {}))
    }
}

/// An application's key in the one key space.
fn key(bytes: &[u8]) -> Key {
    let mut key = keyspace::start_of(keyspace::APPLICATION);
    key.0.extend_from_slice(bytes);
    key
}

fn check_count(count: usize) -> Result<(), Status> {
    if count <= KEYS_MAX {
        return Ok(());
    }
    Err(Status::invalid_argument(format!("the request has {count} keys, more than the limit of {KEYS_MAX}")))
}

/// The span of the application's keys from `start` to `end`, an empty `end` being that of all of them.
fn span(start: &[u8], end: &[u8]) -> Span {
    let end = if end.is_empty() { keyspace::start_of(keyspace::APPLICATION).prefix_end() } else { key(end) };
    Span { start: key(start), end }
}

/// The reverse of [`key`], and of [`span`] for an end.
fn own_bytes(key: Key) -> Vec<u8> {
    match key.0.first() {
        Some(&keyspace::APPLICATION) => key.0[1..].to_vec(),
        _ => Vec::new(),
    }
}

fn scan_response(page: ScanPage) -> v1::ScanResponse {
    v1::ScanResponse {
        rows: page.rows.into_iter().map(|(key, value)| v1::KeyValue { key: own_bytes(key), value }).collect(),
        resume: page.resume.map(|rest| v1::Resume { start: own_bytes(rest.start), end: own_bytes(rest.end) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_cannot_leave_its_part_of_the_key_space() {
        let all = span(b"", b"");
        assert!(all.contains(&key(b"")) && all.contains(&key(&[0xff; 9])));
        assert!(!all.contains(&keyspace::start_of(keyspace::TABLES)));
        assert!(all.covers(&span(b"a", &[0xff; 9])));
        assert_eq!(own_bytes(key(b"abc")), b"abc");
    }

    #[test]
    fn the_rest_of_a_scan_can_be_asked_for_as_it_is_told() {
        let rest = span(b"b", b"");
        let page = ScanPage { rows: vec![(key(b"a"), b"1".to_vec())], resume: Some(rest.clone()) };
        let response = scan_response(page);
        assert_eq!(response.rows[0].key, b"a");
        let resume = response.resume.unwrap();
        assert_eq!(span(&resume.start, &resume.end), rest);
    }
}
