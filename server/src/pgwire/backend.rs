//! The state of a connection after its start, and what simple and extended queries share.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use pgwire::messages::data::{FieldDescription, RowDescription};
use pgwire::messages::response::{CommandComplete, ReadyForQuery, TransactionStatus};
use proto::Datum;
use tokio::io::AsyncWrite;

use super::errors::{self, Severity};
use super::extended::{Portal, PreparedStatement};
use super::format::Format;
use super::wire::Writer;
use crate::edge::cancellation;
use crate::sql::{Column, CommitWatch, Completion, Error, Prepared, Session, Status};

/// One connection's session, with what the protocol adds to it.
pub struct Backend<W> {
    pub(super) session: Session,
    pub(super) writer: Writer<W>,
    pub(super) statements: BTreeMap<String, Arc<PreparedStatement>>,
    pub(super) portals: BTreeMap<String, Portal>,
    /// An extended query has failed: messages are passed over until the next Sync.
    pub(super) skipping: bool,
    /// The messages since the last Sync are one transaction, to be committed by the next.
    pub(super) implicit: bool,
    /// The values of variables that the client has been told.
    pub(super) reported: BTreeMap<&'static str, String>,
}

/// Why something did not work.
pub enum Trouble {
    Statement(Error),
    Connection(io::Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        Trouble::Statement(error)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Connection(error)
    }
}

impl<W: AsyncWrite + Unpin + Send> Backend<W> {
    pub fn new(session: Session, writer: Writer<W>) -> Backend<W> {
        let (statements, portals) = (BTreeMap::new(), BTreeMap::new());
        let reported = BTreeMap::new();
        Backend { session, writer, statements, portals, skipping: false, implicit: false, reported }
    }

    pub fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// Whether no transaction is open.
    pub fn is_idle(&self) -> bool {
        !self.implicit && self.session.status() == Status::Idle
    }

    /// Tells the client that it may go on, and in what state the session is.
    pub async fn ready(&mut self) -> io::Result<()> {
        let status = match self.session.status() {
            Status::Idle => TransactionStatus::Idle,
            Status::InTransaction => TransactionStatus::Transaction,
            Status::Failed => TransactionStatus::Error,
        };
        self.writer.put(&ReadyForQuery::new(status));
        self.writer.flush().await
    }

    pub async fn flush(&mut self) -> io::Result<()> {
        self.writer.flush().await
    }

    /// Reports an error. An open transaction has failed with it.
    pub async fn fail(&mut self, error: &Error, severity: Severity) -> io::Result<()> {
        self.session.fail();
        self.writer.put(&errors::response(error, severity));
        match severity {
            Severity::Error => Ok(()),
            Severity::Fatal => self.writer.flush().await,
        }
    }

    /// Tells whether the statement that runs may still be dropped.
    pub fn commit_watch(&self) -> CommitWatch {
        self.session.commit_watch()
    }

    /// To be called after the work on a message was dropped because of a cancel request.
    pub async fn cancelled(&mut self, is_simple: bool) -> io::Result<()> {
        self.fail(&cancellation::error(), Severity::Error).await?;
        self.abandon_implicit().await;
        if is_simple {
            return self.ready().await;
        }
        self.skipping = true;
        self.flush().await
    }

    /// Rolls back what is open.
    pub async fn close(self) {
        self.session.close().await;
    }

    /// Begins a transaction that the next Sync commits.
    pub(super) async fn begin_implicit(&mut self) -> Result<(), Error> {
        self.control("BEGIN").await?;
        self.implicit = true;
        Ok(())
    }

    /// Commits an implicit transaction.
    pub(super) async fn commit_implicit(&mut self) -> Result<(), Error> {
        if std::mem::take(&mut self.implicit) { self.control("COMMIT").await } else { Ok(()) }
    }

    /// Rolls back an implicit transaction after an error in it.
    pub(super) async fn abandon_implicit(&mut self) {
        if std::mem::take(&mut self.implicit)
            && let Err(error) = self.control("ROLLBACK").await
        {
            tracing::debug!(%error, "a failed transaction was not rolled back in order");
        }
    }

    /// A statement of our own.
    async fn control(&mut self, text: &str) -> Result<(), Error> {
        for statement in self.session.parse(text)? {
            let prepared = self.session.prepare(&statement, &[]).await?;
            self.session.execute(&prepared, Vec::new()).await?.collect().await?;
        }
        Ok(())
    }

    /// Runs a statement and sends its rows, after their description if that is asked for. The caller sends the
    /// completion.
    pub(super) async fn run(
        &mut self,
        prepared: &Prepared,
        params: Vec<Datum>,
        formats: &[Format],
        describe: bool,
    ) -> Result<Completion, Trouble> {
        let mut rows = self.session.execute(prepared, params).await?;
        if describe && !prepared.columns.is_empty() {
            put_row_description(&mut self.writer, &prepared.columns, formats);
        }
        while let Some(batch) = rows.next().await? {
            for row in &batch {
                self.writer.put_row(row, formats);
                self.writer.flush_if_full().await?;
            }
        }
        Ok(rows.completion().clone())
    }

    /// Sends what the server said at a statement's end.
    pub(super) fn put_completion(&mut self, completion: &Completion) {
        for notice in &completion.notices {
            self.writer.put(&errors::notice(notice));
        }
        if matches!(completion.tag.as_str(), "SET" | "RESET" | "DISCARD ALL") {
            self.report_variables();
        }
        self.writer.put(&CommandComplete::new(completion.tag.clone()));
    }

    /// `DEALLOCATE` and `DISCARD ALL` are about statements that are kept here.
    pub(super) fn forget_statements(&mut self, text: &str) {
        let mut words = text.split(|c: char| c.is_whitespace() || c == ';').filter(|word| !word.is_empty());
        let first = words.next().unwrap_or_default();
        let last = words.next_back().unwrap_or_default();
        if first.eq_ignore_ascii_case("DISCARD") {
            self.statements.clear();
            self.portals.clear();
        } else if first.eq_ignore_ascii_case("DEALLOCATE") {
            match last {
                _ if last.eq_ignore_ascii_case("ALL") => self.statements.clear(),
                _ if last.starts_with('"') => drop(self.statements.remove(last.trim_matches('"'))),
                _ => drop(self.statements.remove(&last.to_lowercase())),
            }
        }
    }
}

/// Tells the columns of the rows that follow.
pub(super) fn put_row_description<W>(writer: &mut Writer<W>, columns: &[Column], formats: &[Format])
where
    W: AsyncWrite + Unpin,
{
    let field = |(column, format): (&Column, &Format)| {
        let data_type = column.data_type;
        let (oid, length, modifier) = (data_type.oid(), data_type.type_len(), data_type.type_modifier());
        FieldDescription::new(column.name.clone(), 0, 0, oid, length, modifier, format.code())
    };
    writer.put(&RowDescription::new(columns.iter().zip(formats).map(field).collect()));
}
