//! The `KeyRange` service: transactions over an application's own keys.
//!
//! The application's keys live under a prefix of their own, which is put before every key that comes in and cut from
//! every key that goes out, so that no key can reach the tables of SQL.

use std::sync::Arc;
use std::time::Duration;

use proto::v1::key_range_server::KeyRange;
use proto::{Key, Span, Timestamp, Value, keyspace, v1};
use tonic::{Request, Response, Status};

use super::handles::Handles;
use super::status::kv_status;
use crate::kv::{self, BeginOptions, Isolation, Kv, Lock, ScanOptions, ScanPage, Transaction};

/// Attempts at a transaction of a single call before its conflict is reported.
const ATTEMPTS_MAX: u32 = 64;

/// Rows of one answer.
const ROWS_MAX: usize = 10_000;

/// Keys, or rows, of one request.
const KEYS_MAX: usize = 10_000;

/// What a call does in its transaction.
enum Work {
    Get {
        keys: Vec<Key>,
        lock: Lock,
    },
    Scan {
        span: Span,
        options: ScanOptions,
    },
    /// A key without a value is deleted.
    Write(Vec<(Key, Option<Value>)>),
}

/// What it gave.
enum Outcome {
    Values(Vec<Option<Value>>),
    Page(ScanPage),
    Written,
}

impl Work {
    fn is_read(&self) -> bool {
        !matches!(self, Work::Write(_))
    }

    async fn run(&self, transaction: &mut dyn Transaction) -> Result<Outcome, kv::Error> {
        match self {
            Work::Get { keys, lock } => transaction.get(keys, *lock).await.map(Outcome::Values),
            Work::Scan { span, .. } if span.is_empty() => Ok(Outcome::Page(ScanPage::default())),
            Work::Scan { span, options } => transaction.scan(span, *options).await.map(Outcome::Page),
            Work::Write(rows) => {
                for (key, value) in rows {
                    match value {
                        Some(value) => transaction.put(key.clone(), value.clone())?,
                        None => transaction.delete(key.clone())?,
                    }
                }
                Ok(Outcome::Written)
            }
        }
    }
}

/// The service.
pub struct KeyRangeService {
    kv: Arc<dyn Kv>,
    handles: Arc<Handles>,
}

impl KeyRangeService {
    pub fn new(kv: Arc<dyn Kv>, handles: Arc<Handles>) -> KeyRangeService {
        KeyRangeService { kv, handles }
    }

    /// Does some work in the transaction of a handle, or without one in a transaction of its own, whose commit
    /// timestamp is returned.
    async fn work(&self, handle: &[u8], work: Work) -> Result<(Outcome, Timestamp), Status> {
        if handle.is_empty() {
            return self.autocommit(work).await;
        }
        let mut slot = self.handles.get(handle).await?;
        let transaction = open(&mut slot)?;
        let outcome = work.run(transaction).await.map_err(kv_status)?;
        if work.is_read() {
            transaction.reveal().await.map_err(kv_status)?;
        }
        Ok((outcome, Timestamp::ZERO))
    }

    /// Runs a transaction of a single call until it commits.
    async fn autocommit(&self, work: Work) -> Result<(Outcome, Timestamp), Status> {
        // Even a locking read changes nothing, and its lock would be gone at once.
        let mut options = BeginOptions { read_only: work.is_read(), ..BeginOptions::default() };
        for attempt in 1.. {
            let mut transaction = self.kv.begin(options.clone()).await.map_err(kv_status)?;
            let result = match work.run(transaction.as_mut()).await {
                Ok(outcome) => transaction.commit().await.map(|committed| (outcome, committed.timestamp)),
                Err(error) => {
                    transaction.rollback().await;
                    Err(error)
                }
            };
            match result {
                Ok(done) => return Ok(done),
                Err(error) if error.is_retryable() && attempt < ATTEMPTS_MAX => {
                    options.priority.get_or_insert(transaction.priority());
                    self.kv.sleep(Duration::from_millis(1 << attempt.min(7))).await;
                }
                Err(error) => return Err(kv_status(error)),
            }
        }
        unreachable!("the last attempt returns")
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
        let options = BeginOptions { isolation, read_only: request.read_only, priority };
        let transaction = self.kv.begin(options).await.map_err(kv_status)?;
        let (read_timestamp, priority) = (transaction.read_timestamp().0, transaction.priority().0);
        let handle = self.handles.insert(transaction)?;
        Ok(Response::new(v1::BeginResponse { handle, read_timestamp, priority }))
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::GetResponse>, Status> {
        let request = request.into_inner();
        check_count(request.keys.len())?;
        let lock = if request.for_update && !request.handle.is_empty() { Lock::Exclusive } else { Lock::None };
        let keys = request.keys.iter().map(|bytes| key(bytes)).collect();
        let (outcome, _) = self.work(&request.handle, Work::Get { keys, lock }).await?;
        let values = if let Outcome::Values(values) = outcome { values } else { Vec::new() };
        let values = values.into_iter().map(|value| v1::MaybeValue { value }).collect();
        Ok(Response::new(v1::GetResponse { values }))
    }

    async fn scan(&self, request: Request<v1::ScanRequest>) -> Result<Response<v1::ScanResponse>, Status> {
        let request = request.into_inner();
        let span = span(&request.start, &request.end);
        let rows_max = if request.limit == 0 { ROWS_MAX } else { ROWS_MAX.min(request.limit as usize) };
        let options = ScanOptions { rows_max, reverse: request.reverse, ..ScanOptions::default() };
        let (outcome, _) = self.work(&request.handle, Work::Scan { span, options }).await?;
        let page = if let Outcome::Page(page) = outcome { page } else { ScanPage::default() };
        Ok(Response::new(scan_response(page)))
    }

    async fn put(&self, request: Request<v1::PutRequest>) -> Result<Response<v1::PutResponse>, Status> {
        let request = request.into_inner();
        check_count(request.rows.len())?;
        let rows = request.rows.into_iter().map(|row| (key(&row.key), Some(row.value))).collect();
        let (_, committed) = self.work(&request.handle, Work::Write(rows)).await?;
        Ok(Response::new(v1::PutResponse { commit_timestamp: committed.0 }))
    }

    async fn delete(&self, request: Request<v1::DeleteRequest>) -> Result<Response<v1::DeleteResponse>, Status> {
        let request = request.into_inner();
        check_count(request.keys.len())?;
        let rows = request.keys.iter().map(|bytes| (key(bytes), None)).collect();
        let (_, committed) = self.work(&request.handle, Work::Write(rows)).await?;
        Ok(Response::new(v1::DeleteResponse { commit_timestamp: committed.0 }))
    }

    async fn commit(&self, request: Request<v1::CommitRequest>) -> Result<Response<v1::CommitResponse>, Status> {
        let mut transaction = self.handles.take(&request.into_inner().handle).await?;
        let committed = transaction.commit().await.map_err(kv_status)?;
        Ok(Response::new(v1::CommitResponse { commit_timestamp: committed.timestamp.0 }))
    }

    async fn rollback(&self, request: Request<v1::RollbackRequest>) -> Result<Response<v1::RollbackResponse>, Status> {
        let mut transaction = self.handles.take(&request.into_inner().handle).await?;
        transaction.rollback().await;
        Ok(Response::new(v1::RollbackResponse {}))
    }
}

/// The transaction in a slot that [`Handles::get`] has found to be open.
fn open(slot: &mut super::handles::Slot) -> Result<&mut dyn Transaction, Status> {
    match slot {
        Some(transaction) => Ok(transaction.as_mut()),
        None => Err(Status::not_found("the transaction has ended")),
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
