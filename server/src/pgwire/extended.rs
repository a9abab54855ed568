//! Extended queries: statements are parsed, bound to parameters as portals, described and executed one message at a
//! time; a Sync ends the sequence, and its transaction.
//!
//! ```text
//!            error                      Sync
//! working ─────────► passing over ─────────────► working
//!         (fail_extended)              (sync)
//! ```

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use pgwire::messages::data::{NoData, ParameterDescription};
use pgwire::messages::extendedquery::{
    Bind, BindComplete, Close, CloseComplete, Describe, Execute, Parse, ParseComplete, PortalSuspended,
    TARGET_TYPE_BYTE_STATEMENT,
};
use pgwire::messages::response::EmptyQueryResponse;
use proto::{DataType, Datum};
use tokio::io::AsyncWrite;

use super::backend::{Backend, Trouble, put_row_description};
use super::errors::Severity;
use super::format::{Format, declared_type, read_parameter};
use crate::edge::parameter::coerce;
use crate::sql::error::state;
use crate::sql::{Completion, Error, Prepared, Status};

/// Memory for the remaining rows of one portal that is read in parts.
pub const SUSPENDED_BYTES_MAX: usize = 64 << 20;

/// Named statements, and portals, of one connection.
const STATEMENTS_MAX: usize = 10_000;
const PORTALS_MAX: usize = 1_000;

/// `invalid_sql_statement_name`, `invalid_cursor_name` and `duplicate_prepared_statement`.
const NO_SUCH_STATEMENT: &str = "26000";
const NO_SUCH_PORTAL: &str = "34000";
const DUPLICATE_STATEMENT: &str = "42P05";
const DUPLICATE_PORTAL: &str = "42P03";
const TOO_MANY: &str = "53400";

/// A statement that waits for parameters.
pub struct PreparedStatement {
    /// `None` for an empty query string.
    prepared: Option<Arc<Prepared>>,
    text: String,
    /// The types that the client declared, by object id; missing ones were left to the statement.
    declared: Vec<u32>,
}

/// A statement with its parameters.
pub struct Portal {
    statement: Arc<PreparedStatement>,
    params: Vec<Datum>,
    formats: Vec<Format>,
    progress: Progress,
}

enum Progress {
    Ready,
    /// Rows that have not been asked for.
    Suspended {
        rows: VecDeque<Vec<Datum>>,
        completion: Box<Completion>,
    },
    Done {
        tag: String,
    },
}

impl PreparedStatement {
    fn parameters(&self) -> &[DataType] {
        self.prepared.as_ref().map_or(&[], |p| &p.parameters)
    }

    fn declared(&self, index: usize) -> u32 {
        self.declared.get(index).copied().unwrap_or(0)
    }
}

impl<W: AsyncWrite + Unpin + Send> Backend<W> {
    pub async fn parse(&mut self, message: Parse) -> io::Result<()> {
        let name = message.name.clone().unwrap_or_default();
        match self.prepare(message).await {
            Ok(statement) => {
                self.statements.insert(name, Arc::new(statement));
                self.writer.put(&ParseComplete::new());
                Ok(())
            }
            Err(error) => self.fail_extended(error).await,
        }
    }

    pub async fn bind(&mut self, message: Bind) -> io::Result<()> {
        let name = message.portal_name.clone().unwrap_or_default();
        match self.make_portal(&name, message) {
            Ok(portal) => {
                self.portals.insert(name, portal);
                self.writer.put(&BindComplete::new());
                Ok(())
            }
            Err(error) => self.fail_extended(error).await,
        }
    }

    pub async fn describe(&mut self, message: Describe) -> io::Result<()> {
        let name = message.name.unwrap_or_default();
        let described = match message.target_type {
            TARGET_TYPE_BYTE_STATEMENT => self.describe_statement(&name),
            _ => self.describe_portal(&name),
        };
        match described {
            Ok(()) => Ok(()),
            Err(error) => self.fail_extended(error).await,
        }
    }

    /// `next_is_sync` tells that nothing else belongs to the transaction.
    pub async fn execute(&mut self, message: Execute, next_is_sync: bool) -> io::Result<()> {
        let name = message.name.unwrap_or_default();
        let rows_max = usize::try_from(message.max_rows).ok().filter(|&n| n > 0).unwrap_or(usize::MAX);
        match self.execute_portal(&name, rows_max, next_is_sync).await {
            Ok(()) => Ok(()),
            Err(Trouble::Statement(error)) => self.fail_extended(error).await,
            Err(Trouble::Connection(error)) => Err(error),
        }
    }

    pub async fn close_named(&mut self, message: Close) -> io::Result<()> {
        let name = message.name.unwrap_or_default();
        match message.target_type {
            TARGET_TYPE_BYTE_STATEMENT => drop(self.statements.remove(&name)),
            _ => drop(self.portals.remove(&name)),
        }
        self.writer.put(&CloseComplete::new());
        Ok(())
    }

    /// Ends the sequence: commits what has succeeded, and reports ready.
    pub async fn sync(&mut self) -> io::Result<()> {
        self.skipping = false;
        if let Err(error) = self.commit_implicit().await {
            self.fail(&error, Severity::Error).await?;
        }
        if self.session.status() == Status::Idle {
            self.portals.clear();
        }
        self.ready().await
    }

    async fn fail_extended(&mut self, error: Error) -> io::Result<()> {
        self.skipping = true;
        self.fail(&error, Severity::Error).await?;
        self.abandon_implicit().await;
        self.flush().await
    }

    async fn prepare(&mut self, message: Parse) -> Result<PreparedStatement, Error> {
        let name = message.name.unwrap_or_default();
        if !name.is_empty() && self.statements.contains_key(&name) {
            return Err(Error::new(DUPLICATE_STATEMENT, format!("prepared statement \"{name}\" already exists")));
        }
        if self.statements.len() >= STATEMENTS_MAX {
            let message = format!("{STATEMENTS_MAX} statements are prepared on this connection, which is the limit");
            return Err(Error::new(TOO_MANY, message).hint("Close or DEALLOCATE some."));
        }
        let declared = message.type_oids;
        let hints = declared.iter().map(|&oid| declared_type(oid)).collect::<Result<Vec<_>, _>>()?;
        let statements = self.session.parse(&message.query)?;
        let prepared = match statements.as_slice() {
            [] => None,
            [one] => Some(self.session.prepare(one, &hints).await?),
            _ => {
                let message = "cannot insert multiple commands into a prepared statement";
                return Err(Error::new(state::SYNTAX_ERROR, message));
            }
        };
        Ok(PreparedStatement { prepared, text: message.query, declared })
    }

    fn make_portal(&mut self, name: &str, message: Bind) -> Result<Portal, Error> {
        let statement = self.statement(&message.statement_name.unwrap_or_default())?;
        if !name.is_empty() && self.portals.contains_key(name) {
            return Err(Error::new(DUPLICATE_PORTAL, format!("portal \"{name}\" already exists")));
        }
        if self.portals.len() >= PORTALS_MAX {
            let message = format!("{PORTALS_MAX} portals are open on this connection, which is the limit");
            return Err(Error::new(TOO_MANY, message).hint("Close some, or end the transaction."));
        }
        let wanted = statement.parameters();
        if message.parameters.len() != wanted.len() {
            let message = format!(
                "bind message supplies {} parameters, but prepared statement requires {}",
                message.parameters.len(),
                wanted.len()
            );
            return Err(Error::new("08P01", message));
        }
        let formats = Format::expand(&message.parameter_format_codes, wanted.len())?;
        let mut params = Vec::with_capacity(wanted.len());
        for (index, bytes) in message.parameters.iter().enumerate() {
            let (wanted, number) = (wanted[index], index + 1);
            let value = match bytes {
                None => Datum::Null,
                Some(bytes) => read_parameter(bytes, formats[index], statement.declared(index), wanted, number)?,
            };
            params.push(coerce(value, wanted, number)?);
        }
        let columns = statement.prepared.as_ref().map_or(0, |p| p.columns.len());
        let formats = Format::expand(&message.result_column_format_codes, columns)?;
        Ok(Portal { statement, params, formats, progress: Progress::Ready })
    }

    fn statement(&self, name: &str) -> Result<Arc<PreparedStatement>, Error> {
        self.statements.get(name).cloned().ok_or_else(|| {
            let message = match name {
                "" => "unnamed prepared statement does not exist".to_string(),
                _ => format!("prepared statement \"{name}\" does not exist"),
            };
            Error::new(NO_SUCH_STATEMENT, message)
        })
    }

    fn describe_statement(&mut self, name: &str) -> Result<(), Error> {
        let statement = self.statement(name)?;
        let oid = |(index, wanted): (usize, &DataType)| match statement.declared(index) {
            0 if *wanted == DataType::Unknown => DataType::Text.oid(),
            0 => wanted.oid(),
            declared => declared,
        };
        let types = statement.parameters().iter().enumerate().map(oid).collect();
        self.writer.put(&ParameterDescription::new(types));
        let formats = vec![Format::Text; statement.prepared.as_ref().map_or(0, |p| p.columns.len())];
        self.put_result_description(&statement, &formats);
        Ok(())
    }

    fn describe_portal(&mut self, name: &str) -> Result<(), Error> {
        let portal = self.portals.get(name).ok_or_else(|| no_such_portal(name))?;
        let (statement, formats) = (portal.statement.clone(), portal.formats.clone());
        self.put_result_description(&statement, &formats);
        Ok(())
    }

    fn put_result_description(&mut self, statement: &PreparedStatement, formats: &[Format]) {
        match &statement.prepared {
            Some(prepared) if !prepared.columns.is_empty() => {
                put_row_description(&mut self.writer, &prepared.columns, formats)
            }
            _ => self.writer.put(&NoData::new()),
        }
    }

    async fn execute_portal(&mut self, name: &str, rows_max: usize, next_is_sync: bool) -> Result<(), Trouble> {
        // Taken out while it works: an error, or a cancellation, leaves no half-read portal behind.
        let mut portal = self.portals.remove(name).ok_or_else(|| no_such_portal(name))?;
        let Some(prepared) = portal.statement.prepared.clone() else {
            self.writer.put(&EmptyQueryResponse::new());
            self.portals.insert(name.to_string(), portal);
            return Ok(());
        };
        portal.progress = match portal.progress {
            Progress::Ready => {
                self.enter_implicit(&portal.statement.text, next_is_sync).await?;
                let params = std::mem::take(&mut portal.params);
                if rows_max == usize::MAX {
                    let completion = self.run(&prepared, params, &portal.formats, false).await?;
                    self.forget_statements(&portal.statement.text);
                    self.put_completion(&completion);
                    Progress::Done { tag: completion.tag }
                } else {
                    let (rows, completion) = self.gather(&prepared, params).await?;
                    self.send_part(rows, completion, rows_max, &portal.formats).await?
                }
            }
            Progress::Suspended { rows, completion } => {
                self.send_part(rows, *completion, rows_max, &portal.formats).await?
            }
            Progress::Done { tag } => {
                let completion = Completion { tag: tag_with_count(&tag, 0), ..Completion::default() };
                self.put_completion(&completion);
                Progress::Done { tag }
            }
        };
        self.portals.insert(name.to_string(), portal);
        Ok(())
    }

    /// Begins an implicit transaction if the statement is not all that belongs to it. The statements that begin and end
    /// transactions themselves are left alone: `BEGIN` makes the implicit transaction an ordinary one.
    async fn enter_implicit(&mut self, text: &str, next_is_sync: bool) -> Result<(), Error> {
        let word: String = text.trim_start().chars().take_while(char::is_ascii_alphabetic).collect();
        match word.to_ascii_uppercase().as_str() {
            "BEGIN" | "START" | "COMMIT" | "END" | "ROLLBACK" | "ABORT" => {
                self.implicit = false;
                Ok(())
            }
            _ if next_is_sync || self.implicit || self.session.status() != Status::Idle => Ok(()),
            _ => self.begin_implicit().await,
        }
    }

    /// Runs a statement to its end and keeps its rows.
    async fn gather(
        &mut self,
        prepared: &Prepared,
        params: Vec<Datum>,
    ) -> Result<(VecDeque<Vec<Datum>>, Completion), Error> {
        let mut rows = self.session.execute(prepared, params).await?;
        let (mut gathered, mut bytes) = (VecDeque::new(), 0);
        while let Some(batch) = rows.next().await? {
            bytes += batch.iter().flatten().map(Datum::memory).sum::<usize>();
            if bytes > SUSPENDED_BYTES_MAX {
                let message = format!("a portal that is read in parts may hold {SUSPENDED_BYTES_MAX} bytes of rows");
                return Err(Error::new(state::PROGRAM_LIMIT_EXCEEDED, message)
                    .hint("Read the result at once, or ask for parts of it with LIMIT and a condition on the key."));
            }
            gathered.extend(batch);
        }
        Ok((gathered, rows.completion().clone()))
    }

    /// Sends at most `rows_max` rows, and the completion if none are left.
    async fn send_part(
        &mut self,
        mut rows: VecDeque<Vec<Datum>>,
        completion: Completion,
        rows_max: usize,
        formats: &[Format],
    ) -> Result<Progress, Trouble> {
        let part = rows.len().min(rows_max);
        for row in rows.drain(..part) {
            self.writer.put_row(&row, formats);
            self.writer.flush_if_full().await?;
        }
        if !rows.is_empty() {
            self.writer.put(&PortalSuspended::new());
            return Ok(Progress::Suspended { rows, completion: Box::new(completion) });
        }
        let tag = tag_with_count(&completion.tag, part);
        self.put_completion(&Completion { tag: tag.clone(), ..completion });
        Ok(Progress::Done { tag })
    }
}

/// Each part of a query's result has a tag with its own count. Tags of other statements stay as they are.
fn tag_with_count(tag: &str, count: usize) -> String {
    if tag.starts_with("SELECT ") { format!("SELECT {count}") } else { tag.to_string() }
}

fn no_such_portal(name: &str) -> Error {
    Error::new(NO_SUCH_PORTAL, format!("portal \"{name}\" does not exist"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_result_counts_its_own_rows() {
        assert_eq!(tag_with_count("SELECT 10", 3), "SELECT 3");
        assert_eq!(tag_with_count("INSERT 0 1", 0), "INSERT 0 1");
    }
}
