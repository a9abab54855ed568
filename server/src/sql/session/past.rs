//! Statements and transactions that read in the past: `AS OF SYSTEM TIME`.
//!
//! A `SELECT` with the clause has a transaction of its own at that time; `BEGIN` and `SET TRANSACTION` with it make a whole block read at it. Such a
//! transaction writes nothing, and reads at one time: within a block no statement may name another. The tables are those that there were at that time, as
//! the catalog is read there too.

use std::sync::Arc;

use proto::{DataType, Timestamp};

use super::super::error::{Error, Result, state};
use super::super::expr::EvalContext;
use super::super::expr::bind::{Aggregates, Binder, Parameters, Scope};
use super::super::moment;
use super::super::parser::Statement;
use super::super::plan::statement::{self, Tables};
use super::super::plan::{Plan, Planned, TransactionModes};
use super::transaction::{Active, Extent};
use super::{Session, State};
use crate::kv::BeginOptions;

impl Session {
    /// The time at which a statement wants to read, if it says so.
    ///
    /// # Errors
    /// `22023` for what names no time in the past, and those of evaluating it.
    pub(super) fn time_of(&self, statement: &Statement) -> Result<Option<Timestamp>> {
        let Some(clause) = statement.as_of() else { return Ok(None) };
        let (scope, mut parameters) = (Scope::default(), Parameters::new(&[]));
        let locator = statement.locator();
        let refused = Aggregates::Refused("AS OF SYSTEM TIME");
        let bound = Binder::new(&scope, &mut parameters, locator, &self.sql.limits, refused).bind(clause)?;
        if !parameters.is_empty() {
            return Err(Error::unsupported("a parameter in AS OF SYSTEM TIME").at(bound.position));
        }
        let clock = self.sql.kv.clock();
        let now = clock.latest.max(clock.hlc);
        let micros = i64::try_from(now.micros()).unwrap_or(i64::MAX);
        let eval = EvalContext { params: &[], now: micros, session: Some(&self.info), kv: Some(&*self.sql.kv) };
        let value = bound.expr.eval(&[], &eval)?;
        moment::of(&value, now).map(Some).map_err(|error| error.at(bound.position))
    }

    /// Before a statement runs: one that names its time gets a transaction at that time, or has to agree with the one that is open.
    ///
    /// # Errors
    /// `25001` where it does not; those of [`Session::time_of`] and of beginning.
    pub(super) async fn enter_past(&mut self, statement: &Statement, plan: &Plan, extent: Extent) -> Result<()> {
        if !matches!(plan, Plan::Query(_)) && !plan.writes() {
            return Ok(());
        }
        let asked = self.time_of(statement)?;
        match (&self.state, asked) {
            (State::Idle, Some(at)) => {
                let options = BeginOptions { at: Some(at), read_only: true, ..self.default_options() };
                let active = Active::begin(&*self.sql.kv, extent, options).await?;
                self.state = State::Open(Box::new(active));
                Ok(())
            }
            (State::Open(active), Some(at)) if active.options.at != Some(at) => Err(mixed(active.options.at)),
            // The statements of a block are one transaction, and this one was not asked to read in the past.
            (State::Open(active), None) if active.extent == Extent::Block && active.options.at.is_some() => {
                Err(mixed(active.options.at))
            }
            _ => Ok(()),
        }
    }

    /// Plans a statement with the tables that there were at a time.
    pub(super) async fn plan_at(
        &mut self,
        statement: &Statement,
        hints: &[Option<DataType>],
        at: Timestamp,
    ) -> Result<Arc<Planned>> {
        let sql = self.sql.clone();
        let mut tables = Tables::new();
        let names = statement::tables_of(statement)?;
        let options = BeginOptions { at: Some(at), read_only: true, ..BeginOptions::default() };
        let mut txn = sql.kv.begin(options).await?;
        for name in names {
            let table = sql.catalog.lookup_at(&mut *txn, &name).await?;
            tables.insert(name, table);
        }
        txn.rollback().await;
        let planned = statement::plan(statement, hints, &tables, &sql.limits);
        planned.map(Arc::new).map_err(|error| match error.sqlstate {
            state::UNDEFINED_TABLE => error.detail(format!("The statement reads as of {at}.")),
            _ => error,
        })
    }

    /// What `BEGIN` and `SET TRANSACTION` ask for, with the time that they name.
    pub(super) fn modes_at(&self, modes: TransactionModes, statement: &Statement) -> Result<TransactionModes> {
        let at = self.time_of(statement)?;
        if at.is_some() && modes.read_only == Some(false) {
            return Err(Error::new(state::SYNTAX_ERROR, "AS OF SYSTEM TIME contradicts READ WRITE")
                .hint("Nobody can write in the past. Leave READ WRITE out."));
        }
        Ok(TransactionModes { at, ..modes })
    }
}

impl TransactionModes {
    /// How a transaction begins for which these modes were asked, where `options` are those that it would have without.
    pub(super) fn apply(self, options: BeginOptions) -> BeginOptions {
        let at = self.at.or(options.at);
        BeginOptions {
            isolation: self.isolation.unwrap_or(options.isolation),
            read_only: at.is_some() || self.read_only.unwrap_or(options.read_only),
            at,
            ..options
        }
    }
}

/// `25001` for a statement that would read at another time than its transaction.
pub(super) fn mixed(open: Option<Timestamp>) -> Error {
    let message = match open {
        Some(at) => format!("the transaction reads as of {at}, and this statement would read at another time"),
        None => "AS OF SYSTEM TIME cannot change when an open transaction reads".to_string(),
    };
    Error::new(state::ACTIVE_TRANSACTION, message)
        .hint("Say BEGIN AS OF SYSTEM TIME ..., and leave the clause out of the block's statements.")
}
