//! Results: the rows of a statement as they arrive, and what the server said at its end.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use proto::v1;
use proto::v1::session_response::Response;

use super::error::{Error, Result};
use super::session::{Session, Statement};
use super::{Column, FromValue, Value};

/// One row of a result.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    columns: Arc<[Column]>,
    values: Vec<Value>,
}

impl Row {
    /// The value of a column, by name or by index from 0.
    ///
    /// # Errors
    /// When there is no such column, or its value is not a `T`.
    pub fn get<T: FromValue>(&self, column: impl ColumnIndex) -> Result<T> {
        let index = column.index_in(&self.columns)?;
        T::from_value(&self.values[index]).map_err(|e| e.in_column(&self.columns[index].name))
    }

    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    pub fn values(&self) -> &[Value] {
        &self.values
    }

    #[cfg(test)]
    pub(crate) fn for_tests(columns: &[Column], values: Vec<Value>) -> Row {
        Row { columns: columns.into(), values }
    }

    fn from_wire(columns: &Arc<[Column]>, wire: v1::Row) -> Result<Row> {
        if wire.values.len() != columns.len() {
            let message = format!("the server sent {} values for {} columns", wire.values.len(), columns.len());
            return Err(Error::protocol(message));
        }
        let values = wire.values.into_iter().map(Value::from_wire).collect::<Result<_>>()?;
        Ok(Row { columns: columns.clone(), values })
    }
}

/// What names a column of a row.
pub trait ColumnIndex {
    /// # Errors
    /// When there is no such column.
    fn index_in(&self, columns: &[Column]) -> Result<usize>;
}

impl ColumnIndex for usize {
    fn index_in(&self, columns: &[Column]) -> Result<usize> {
        let out_of_range = || Error::usage(format!("there is no column {self}: the row has {}", columns.len()));
        Some(*self).filter(|&i| i < columns.len()).ok_or_else(out_of_range)
    }
}

impl ColumnIndex for &str {
    fn index_in(&self, columns: &[Column]) -> Result<usize> {
        columns.iter().position(|c| c.name == *self).ok_or_else(|| {
            let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
            Error::usage(format!("there is no column {self:?}: the row has {}", names.join(", ")))
        })
    }
}

/// Whether a session is in a transaction block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TransactionStatus {
    #[default]
    Idle,
    InTransaction,
    /// The block has failed; everything but its end is refused.
    Failed,
}

impl TransactionStatus {
    pub(super) fn from_wire(wire: v1::TransactionStatus) -> TransactionStatus {
        match wire {
            v1::TransactionStatus::Unspecified | v1::TransactionStatus::Idle => TransactionStatus::Idle,
            v1::TransactionStatus::InTransaction => TransactionStatus::InTransaction,
            v1::TransactionStatus::Failed => TransactionStatus::Failed,
        }
    }
}

/// Something that the server wants to be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub severity: String,
    pub sqlstate: String,
    pub message: String,
}

/// Where a statement's time went on the server. The first three are known of commits only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerTimings {
    /// Waiting for other transactions, and being evaluated.
    pub queue: Duration,
    /// Log write, fsync, a quorum of replicas.
    pub replication: Duration,
    /// Until the clock had passed the commit timestamp for certain.
    pub clock_wait: Duration,
    pub total: Duration,
}

/// What the server said at the end of a statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// PostgreSQL's command tag: `INSERT 0 1`.
    pub tag: String,
    /// Rows returned or changed.
    pub rows: u64,
    pub notices: Vec<Notice>,
    /// When the transaction took effect, if the statement committed one: a hybrid logical timestamp with
    /// microseconds since the Unix epoch in its upper 52 bits.
    pub commit_timestamp: Option<u64>,
    pub timings: ServerTimings,
    /// How often the server ran the statement again, by reason.
    pub retries: BTreeMap<String, u32>,
    pub transaction_status: TransactionStatus,
    /// An earlier run under the same idempotency key had committed, and this is what it was answered.
    pub replayed: bool,
}

impl Completion {
    fn from_wire(wire: v1::Complete) -> Completion {
        let transaction_status = TransactionStatus::from_wire(wire.transaction_status());
        let notice = |n: v1::Notice| Notice { severity: n.severity, sqlstate: n.sqlstate, message: n.message };
        let timings = wire.timings.unwrap_or_default();
        Completion {
            tag: wire.tag,
            rows: wire.rows,
            notices: wire.notices.into_iter().map(notice).collect(),
            commit_timestamp: Some(wire.commit_timestamp).filter(|&t| t > 0),
            timings: ServerTimings {
                queue: Duration::from_micros(timings.queue_us),
                replication: Duration::from_micros(timings.replication_us),
                clock_wait: Duration::from_micros(timings.clock_wait_us),
                total: Duration::from_micros(timings.total_us),
            },
            retries: wire.retries,
            transaction_status,
            replayed: wire.replayed,
        }
    }
}

/// The result of a statement that is still running.
///
/// Dropped before its end, it leaves the rest to the next statement on the session: outside a transaction that
/// cancels the old one first, inside it reads the remaining rows past, because a cancelled statement would
/// fail the transaction.
pub struct Rows<'s> {
    session: &'s mut Session,
    statement: Statement,
    columns: Arc<[Column]>,
    batch: VecDeque<v1::Row>,
    completion: Option<Completion>,
}

impl<'s> Rows<'s> {
    /// Waits for the first answer, so that a statement that is refused is an error here.
    pub(super) async fn start(session: &'s mut Session, statement: Statement) -> Result<Rows<'s>> {
        let mut rows = Rows { session, statement, columns: Arc::new([]), batch: VecDeque::new(), completion: None };
        rows.receive().await?;
        Ok(rows)
    }

    /// Empty for a statement that returns no rows.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The next row; `None` at the end.
    ///
    /// # Errors
    /// When the statement fails on the way. Rows seen before are then void.
    pub async fn next(&mut self) -> Result<Option<Row>> {
        loop {
            if let Some(row) = self.batch.pop_front() {
                return Row::from_wire(&self.columns, row).map(Some);
            }
            if self.completion.is_some() {
                return Ok(None);
            }
            self.receive().await?;
        }
    }

    /// All rows that are left.
    pub async fn collect(mut self) -> Result<(Vec<Row>, Completion)> {
        let mut rows = Vec::new();
        while let Some(row) = self.next().await? {
            rows.push(row);
        }
        Ok((rows, self.completion.expect("rows end with a completion")))
    }

    /// Reads past all rows that are left.
    pub async fn finish(mut self) -> Result<Completion> {
        while self.next().await?.is_some() {}
        Ok(self.completion.expect("rows end with a completion"))
    }

    /// What the server said at the end; `None` before.
    pub fn completion(&self) -> Option<&Completion> {
        self.completion.as_ref()
    }

    async fn receive(&mut self) -> Result<()> {
        match self.session.receive(&self.statement).await? {
            Response::RowDescription(description) => {
                self.columns = description.columns.into_iter().map(Column::from_wire).collect();
            }
            Response::RowBatch(batch) => self.batch = batch.rows.into(),
            Response::Complete(complete) => self.completion = Some(Completion::from_wire(complete)),
            Response::Failure(failure) => {
                let id = self.session.transaction_id().map(str::to_string);
                return Err(Error::from_failure(failure).of_transaction(id));
            }
            Response::Started(_) | Response::Described(_) => {
                return Err(self.session.broken_protocol("an answer to something else"));
            }
        }
        Ok(())
    }
}
