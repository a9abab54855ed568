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
use crate::sql::error::state;
use crate::sql::{Column, Completion, Error, Prepared, Session, SessionStatus};

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
        Backend { session, writer, statements, portals, skipping: false, implicit: false }
    }

    pub fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// Tells the client that it may go on, and in what state the session is.
    pub async fn ready(&mut self) -> io::Result<()> {
        let status = match self.session.status() {
            SessionStatus::Idle => TransactionStatus::Idle,
            SessionStatus::InTransaction => TransactionStatus::Transaction,
            SessionStatus::Failed => TransactionStatus::Error,
        };
        self.writer.put(&ReadyForQuery::new(status));
        self.writer.flush().await
    }

    pub async fn flush(&mut self) -> io::Result<()> {
        self.writer.flush().await
    }

    /// Reports an error.
    pub async fn fail(&mut self, error: &Error, severity: Severity) -> io::Result<()> {
        self.writer.put(&errors::response(error, severity));
        match severity {
            Severity::Error => Ok(()),
            Severity::Fatal => self.writer.flush().await,
        }
    }

    /// To be called after the work on a message was dropped because of a cancel request.
    pub async fn cancelled(&mut self, was_simple_query: bool) -> io::Result<()> {
        let error = Error::new(state::QUERY_CANCELED, "canceling statement due to user request");
        self.fail(&error, Severity::Error).await?;
        self.abandon_implicit().await;
        if was_simple_query {
            return self.ready().await;
        }
        self.skipping = true;
        self.flush().await
    }

    /// Rolls back what is open.
    pub async fn close(&mut self) {
        self.portals.clear();
        self.session.close().await;
    }

    /// Rolls back an implicit transaction after an error in it.
    pub(super) async fn abandon_implicit(&mut self) {
        if std::mem::take(&mut self.implicit) {
            self.session.rollback_implicit().await;
        }
    }

    /// Runs a statement and sends its rows. The caller sends the completion.
    pub(super) async fn run(
        &mut self,
        prepared: &Prepared,
        params: Vec<Datum>,
        formats: &[Format],
    ) -> Result<Completion, Trouble> {
        let mut rows = self.session.execute(prepared, params).await?;
        while let Some(batch) = rows.next().await? {
            for row in &batch {
                self.writer.put_row(row, formats);
                self.writer.flush_if_full().await?;
            }
        }
        Ok(rows.completion())
    }

    /// Sends what the server said at a statement's end.
    pub(super) fn put_completion(&mut self, completion: &Completion) {
        for notice in &completion.notices {
            self.writer.put(&errors::notice("NOTICE", notice.sqlstate, &notice.message));
        }
        self.writer.put(&CommandComplete::new(completion.tag.clone()));
    }

    pub(super) fn put_row_description(&mut self, columns: &[Column], formats: &[Format]) {
        let field = |(column, format): (&Column, &Format)| {
            FieldDescription::new(
                column.name.clone(),
                0,
                0,
                column.data_type.oid(),
                column.data_type.type_len(),
                column.data_type.type_modifier(),
                format.code(),
            )
        };
        self.writer.put(&RowDescription::new(columns.iter().zip(formats).map(field).collect()));
    }

    /// `DEALLOCATE` and `DISCARD ALL` are about statements that are kept here.
    pub(super) fn forget_statements(&mut self, text: &str) {
        let mut words = text.split(|c: char| c.is_whitespace() || c == ';').filter(|word| !word.is_empty());
        let first = words.next().unwrap_or_default();
        let last = words.last().unwrap_or_default();
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
