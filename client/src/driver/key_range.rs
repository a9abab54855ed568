//! Transactions over ordered keys, below SQL.

use std::sync::Arc;

use proto::v1;
use proto::v1::key_range_client::KeyRangeClient;
use tonic::transport::Channel;

use super::error::{Error, Result, describe_status};
use super::lent::{Lent, lend_to};
use super::nodes::{MESSAGE_BYTES_MAX, is_connection_loss};
use super::outcome;
use super::pool::Pool;
use super::retry::Attempts;
use super::{Isolation, TransactionOptions};

/// A key with its value.
pub type KeyValue = (Vec<u8>, Vec<u8>);

/// A part of a scan's result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanResult {
    /// In key order, or against it if the scan was reversed.
    pub rows: Vec<KeyValue>,
    /// The start and end of what is left to scan; `None` at the end.
    pub resume: Option<(Vec<u8>, Vec<u8>)>,
}

/// The key-range API of a cluster. Its keys are the application's own, apart from those of SQL tables.
#[derive(Clone)]
pub struct KeyRange {
    pool: Arc<Pool>,
    /// Empty if there is none.
    key: String,
}

impl KeyRange {
    pub(super) fn new(pool: Arc<Pool>) -> KeyRange {
        KeyRange { pool, key: String::new() }
    }

    /// The same API for one transaction that is to take effect once, even if it is run again: see [`Keyed`](super::Keyed).
    pub fn with_idempotency_key(&self, key: impl Into<String>) -> KeyRange {
        KeyRange { pool: self.pool.clone(), key: key.into() }
    }

    /// Opens a transaction on the next node in turn that can be reached.
    pub async fn begin(&self, options: TransactionOptions) -> Result<KeyRangeTransaction> {
        self.begin_aged(options, 0).await
    }

    /// Runs a transaction until it commits; see [`Client::transact`](super::Client::transact). Each attempt inherits
    /// the age of the first, so that in the end it wins every conflict.
    pub async fn transact<T, F>(
        &self,
        options: TransactionOptions,
        mut work: impl FnMut(Lent<KeyRangeTransaction>) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        self.transact_until_known(options, &mut work).await.map(|(value, _)| value)
    }

    /// As [`KeyRange::transact`]; also tells when it took effect.
    async fn transact_until_known<T, F>(
        &self,
        options: TransactionOptions,
        mut work: impl FnMut(Lent<KeyRangeTransaction>) -> F,
    ) -> Result<(T, u64)>
    where
        F: Future<Output = Result<T>>,
    {
        let mut attempts = Attempts::new(self.pool.config.retry);
        let mut priority = 0;
        loop {
            let error = match self.begin_aged(options, priority).await {
                Err(error) => error,
                Ok(transaction) => {
                    priority = transaction.priority;
                    let (transaction, result) = lend_to(transaction, &mut work).await?;
                    match result {
                        Ok(value) => match transaction.commit().await {
                            Ok(timestamp) => return Ok((value, timestamp)),
                            Err(error) => error,
                        },
                        Err(error) => {
                            // A handle that cannot be rolled back expires.
                            let _ = transaction.rollback().await;
                            error
                        }
                    }
                }
            };
            attempts.after_known(error, !self.key.is_empty()).await?;
        }
    }

    /// Reads keys in one transaction of their own, in the order asked for.
    pub async fn get(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
        let request = get_request(&[], keys, false);
        let get = |channel| {
            let request = request.clone();
            async move { client(channel).get(request).await }
        };
        self.pool.nodes.call("Get", get).await.map(|r| values(r.into_inner()))
    }

    /// Reads a page of the keys from `start` (inclusive) to `end` (exclusive; empty for all) in a transaction of its own.
    pub async fn scan(&self, start: &[u8], end: &[u8], limit: u32, reverse: bool) -> Result<ScanResult> {
        let request = scan_request(&[], start, end, limit, reverse);
        let scan = |channel| {
            let request = request.clone();
            async move { client(channel).scan(request).await }
        };
        self.pool.nodes.call("Scan", scan).await.map(|r| page(r.into_inner()))
    }

    /// Whether a single call is to be a transaction whose id is known before its commit, so that a lost answer settles.
    fn settles(&self) -> bool {
        self.key.is_empty() && self.pool.config.settle_statements
    }

    /// Writes keys in one transaction of their own. Returns when it took effect.
    pub async fn put(&self, rows: &[(&[u8], &[u8])]) -> Result<u64> {
        if self.settles() {
            let put = async |mut transaction: Lent<KeyRangeTransaction>| transaction.put(rows).await;
            return self.transact_until_known(TransactionOptions::default(), put).await.map(|(_, at)| at);
        }
        let request = v1::PutRequest { idempotency_key: self.key.clone(), ..put_request(&[], rows) };
        let put = |channel| {
            let request = request.clone();
            async move { client(channel).put(request).await }
        };
        self.until_known(async || self.pool.nodes.call("Put", put).await).await.map(|r| r.into_inner().commit_timestamp)
    }

    /// Deletes keys in one transaction of their own. Returns when it took effect.
    pub async fn delete(&self, keys: &[&[u8]]) -> Result<u64> {
        if self.settles() {
            let delete = async |mut transaction: Lent<KeyRangeTransaction>| transaction.delete(keys).await;
            return self.transact_until_known(TransactionOptions::default(), delete).await.map(|(_, at)| at);
        }
        let request = v1::DeleteRequest { idempotency_key: self.key.clone(), ..delete_request(&[], keys) };
        let delete = |channel| {
            let request = request.clone();
            async move { client(channel).delete(request).await }
        };
        let done = self.until_known(async || self.pool.nodes.call("Delete", delete).await).await?;
        Ok(done.into_inner().commit_timestamp)
    }

    /// Makes a call; under a key, again if its answer is lost.
    async fn until_known<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut attempts = Attempts::new(self.pool.config.retry);
        loop {
            match call().await {
                Err(error) if !self.key.is_empty() => attempts.after_known(error, true).await?,
                result => return result,
            }
        }
    }

    async fn begin_aged(&self, options: TransactionOptions, priority: u64) -> Result<KeyRangeTransaction> {
        let isolation = match options.isolation {
            Isolation::Serializable => v1::Isolation::Serializable,
            Isolation::RepeatableRead => v1::Isolation::Snapshot,
        };
        let request = v1::BeginRequest {
            isolation: isolation.into(),
            read_only: options.read_only,
            priority,
            idempotency_key: self.key.clone(),
        };
        let begin = |channel| {
            let request = request.clone();
            async move {
                let mut client = client(channel);
                client.begin(request).await.map(|begun| (client, begun.into_inner()))
            }
        };
        let (client, begun) = self.pool.nodes.call("Begin", begin).await?;
        Ok(KeyRangeTransaction {
            pool: self.pool.clone(),
            transaction_id: String::new(),
            client,
            handle: begun.handle,
            read_timestamp: begun.read_timestamp,
            priority: begun.priority,
        })
    }
}

/// An open transaction over keys. Dropped before its end, it expires on the server after a while.
pub struct KeyRangeTransaction {
    pool: Arc<Pool>,
    /// Empty as long as it has written nothing.
    transaction_id: String,
    client: KeyRangeClient<Channel>,
    handle: Vec<u8>,
    read_timestamp: u64,
    priority: u64,
}

impl KeyRangeTransaction {
    /// What its reads see: a hybrid logical timestamp with microseconds since the Unix epoch in its upper 52 bits.
    pub fn read_timestamp(&self) -> u64 {
        self.read_timestamp
    }

    /// Its id, for [`Client::outcome`](super::Client::outcome); `None` as long as it has written nothing.
    pub fn id(&self) -> Option<&str> {
        Some(self.transaction_id.as_str()).filter(|id| !id.is_empty())
    }

    /// Reads keys in the order asked for; with `for_update` waits for them and holds them until the end.
    pub async fn get(&mut self, keys: &[&[u8]], for_update: bool) -> Result<Vec<Option<Vec<u8>>>> {
        let request = get_request(&self.handle, keys, for_update);
        self.client.get(request).await.map(|r| values(r.into_inner())).map_err(|s| failed(&s))
    }

    /// Reads a page of the keys from `start` (inclusive) to `end` (exclusive; empty for all).
    pub async fn scan(&mut self, start: &[u8], end: &[u8], limit: u32, reverse: bool) -> Result<ScanResult> {
        let request = scan_request(&self.handle, start, end, limit, reverse);
        self.client.scan(request).await.map(|r| page(r.into_inner())).map_err(|s| failed(&s))
    }

    pub async fn put(&mut self, rows: &[(&[u8], &[u8])]) -> Result<()> {
        let put = self.client.put(put_request(&self.handle, rows)).await.map_err(|s| failed(&s))?;
        self.transaction_id = put.into_inner().transaction_id;
        Ok(())
    }

    pub async fn delete(&mut self, keys: &[&[u8]]) -> Result<()> {
        let deleted = self.client.delete(delete_request(&self.handle, keys)).await.map_err(|s| failed(&s))?;
        self.transaction_id = deleted.into_inner().transaction_id;
        Ok(())
    }

    /// Commits. Returns when it took effect.
    ///
    /// # Errors
    /// If the answer is lost, another node is asked how the transaction ended;
    /// [`ErrorKind::OutcomeUnknown`](super::ErrorKind::OutcomeUnknown) only if none answers.
    pub async fn commit(mut self) -> Result<u64> {
        let request = v1::CommitRequest { handle: std::mem::take(&mut self.handle) };
        match self.client.commit(request).await {
            Ok(response) => Ok(response.into_inner().commit_timestamp),
            Err(status) if is_connection_loss(&status) => {
                let lost = Error::outcome_unknown("the commit", Error::connection(describe_status(&status)));
                let id = Some(self.transaction_id).filter(|id| !id.is_empty());
                outcome::settle(&self.pool, lost.of_transaction(id)).await
            }
            Err(status) => Err(Error::from_status(&status)),
        }
    }

    pub async fn rollback(mut self) -> Result<()> {
        let request = v1::RollbackRequest { handle: std::mem::take(&mut self.handle) };
        self.client.rollback(request).await.map(|_| ()).map_err(|s| failed(&s))
    }
}

/// The error of a call inside a transaction. Nothing of it has taken effect, so after a lost connection, or when
/// the node has forgotten the handle, the transaction can run again.
fn failed(status: &tonic::Status) -> Error {
    if is_connection_loss(status) {
        return Error::connection(describe_status(status));
    }
    Error::from_status(status)
}

fn client(channel: Channel) -> KeyRangeClient<Channel> {
    KeyRangeClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

fn get_request(handle: &[u8], keys: &[&[u8]], for_update: bool) -> v1::GetRequest {
    v1::GetRequest { handle: handle.to_vec(), keys: owned(keys), for_update }
}

fn scan_request(handle: &[u8], start: &[u8], end: &[u8], limit: u32, reverse: bool) -> v1::ScanRequest {
    v1::ScanRequest { handle: handle.to_vec(), start: start.to_vec(), end: end.to_vec(), limit, reverse }
}

fn put_request(handle: &[u8], rows: &[(&[u8], &[u8])]) -> v1::PutRequest {
    let rows = rows.iter().map(|(key, value)| v1::KeyValue { key: key.to_vec(), value: value.to_vec() }).collect();
    v1::PutRequest { handle: handle.to_vec(), rows, ..Default::default() }
}

fn delete_request(handle: &[u8], keys: &[&[u8]]) -> v1::DeleteRequest {
    v1::DeleteRequest { handle: handle.to_vec(), keys: owned(keys), ..Default::default() }
}

fn owned(keys: &[&[u8]]) -> Vec<Vec<u8>> {
    keys.iter().map(|key| key.to_vec()).collect()
}

fn values(response: v1::GetResponse) -> Vec<Option<Vec<u8>>> {
    response.values.into_iter().map(|v| v.value).collect()
}

fn page(response: v1::ScanResponse) -> ScanResult {
    ScanResult {
        rows: response.rows.into_iter().map(|row| (row.key, row.value)).collect(),
        resume: response.resume.map(|resume| (resume.start, resume.end)),
    }
}
