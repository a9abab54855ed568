//! Simple queries: a string with any number of statements, results in text.
//!
//! The statements of one string are one transaction, as far as no transaction block is open or opened by them.

use std::io;

use pgwire::messages::response::EmptyQueryResponse;
use tokio::io::AsyncWrite;

use super::backend::{Backend, Trouble, put_row_description};
use super::errors::Severity;
use super::format::Format;
use crate::sql::error::state;
use crate::sql::{Error, Statement};

impl<W: AsyncWrite + Unpin + Send> Backend<W> {
    /// Runs a query string up to its first error.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn query(&mut self, text: &str) -> io::Result<()> {
        match self.run_all(text).await {
            Ok(()) => {}
            Err(Trouble::Statement(error)) => {
                self.fail(&error, Severity::Error).await?;
            }
            Err(Trouble::Connection(error)) => return Err(error),
        }
        self.ready().await
    }

    async fn run_all(&mut self, text: &str) -> Result<(), Trouble> {
        // A simple query ends what an extended one has left: the transaction, and what has no name.
        self.commit_implicit().await?;
        self.statements.remove("");
        self.portals.remove("");
        let statements = self.session.parse(text)?;
        match statements.as_slice() {
            [] => self.writer.put(&EmptyQueryResponse::new()),
            [one] => self.run_one(one).await?,
            many => self.run_block(many).await?,
        }
        Ok(())
    }

    /// Runs several statements. Their results come when all of them are done, or with the first error.
    async fn run_block(&mut self, statements: &[Statement]) -> Result<(), Trouble> {
        let outcome = self.session.execute_block(statements).await;
        for (statement, result) in statements.iter().zip(outcome.results) {
            let formats = vec![Format::Text; result.columns.len()];
            if !result.columns.is_empty() {
                put_row_description(&mut self.writer, &result.columns, &formats);
            }
            for row in &result.rows {
                self.writer.put_row(row, &formats);
                self.writer.flush_if_full().await?;
            }
            self.forget_statements(statement.text());
            self.put_completion(&result.completion);
        }
        outcome.error.map_or(Ok(()), |error| Err(error.into()))
    }

    async fn run_one(&mut self, statement: &Statement) -> Result<(), Trouble> {
        let prepared = self.session.prepare(statement, &[]).await?;
        if !prepared.parameters.is_empty() {
            return Err(Error::new(state::UNDEFINED_PARAMETER, "there is no parameter $1").into());
        }
        let formats = vec![Format::Text; prepared.columns.len()];
        let completion = self.run(&prepared, Vec::new(), &formats, true).await?;
        self.forget_statements(statement.text());
        self.put_completion(&completion);
        Ok(())
    }
}
