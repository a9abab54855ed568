//! Sessions: what an edge holds for each connection.
//!
//! ```text
//!             BEGIN                    an error, a cancellation
//!   Idle ─────────────► InTransaction ──────────────────────────► Failed
//!    ▲                    │      COMMIT, ROLLBACK                   │
//!    └────────────────────┴──────────────────────────────────────── ┘  ROLLBACK, COMMIT (which rolls back)
//! ```
//!
//! A statement outside of a transaction runs in one of its own. [`Session::execute`] returns [`Rows`], which are pulled;
//! [`Rows::completion`] then tells the tag and where the time went. What leaves the server has passed the
//! reply rule: writes have been committed, rows have been revealed.
//!
//! **Retries.** When the key-value layer says that a transaction has to run again, and nothing of it has left the server
//! yet, the session runs it again by itself, keeping its priority, at first at once and then after growing
//! random pauses. That is so for statements with a transaction of their own until their first batch of rows
//! leaves, for the first statement of a transaction, and for blocks ([`Session::execute_block`]). Later the
//! client gets `40001`, in words, and the transaction has failed.
//!
//! **Cancellation.** A future that is dropped, or [`Rows`] that are not pulled to their end, leave the session usable: a
//! statement's own transaction is rolled back, and an explicit one has failed.

mod block;
mod keyed;
mod past;
mod answer;
mod settings;
mod rows;
mod run;
mod transaction;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use proto::transaction::TxnAddress;
use proto::{DataType, Datum, Timestamp};

use super::catalog::Catalog;
use super::error::{Error, Result, state};
use super::limits::Limits;
use super::parser::{self, Statement};
use super::plan::statement::{self, Tables};
use super::plan::{Column, Plan, Planned};
use super::plan_cache::PlanCache;
use super::schema::Table;
use super::variables::{SessionInfo, Variables};
use crate::kv::idempotency::{CollectLimits, Collector, IdempotencyKey};
use crate::kv::{CommitTimings, Kv, RetryReason};

pub use block::{BlockOutcome, BlockResult};
pub use rows::Rows;
use transaction::Active;

/// The SQL layer of a node: what its sessions share.
pub struct Sql {
    kv: Arc<dyn Kv>,
    limits: Limits,
    catalog: Catalog,
    plans: PlanCache,
    sessions_begun: AtomicI32,
}

/// Who a session is for.
#[derive(Clone, Debug, Default)]
pub struct SessionOptions {
    pub user: String,
    pub database: String,
    pub application_name: String,
}

impl Sql {
    pub fn new(kv: Arc<dyn Kv>, limits: Limits) -> Arc<Sql> {
        let catalog = Catalog::new(kv.clone(), limits.clone());
        let plans = PlanCache::new(&limits);
        Arc::new(Sql { kv, limits, catalog, plans, sessions_begun: AtomicI32::new(0) })
    }

    /// Opens a session.
    pub fn session(self: &Arc<Sql>, options: SessionOptions) -> Session {
        let mut variables = Variables::of_node(&self.limits);
        // The name is free text, which is always taken.
        let _ = variables.set("application_name", &options.application_name);
        let backend_pid = self.sessions_begun.fetch_add(1, Ordering::Relaxed).wrapping_add(1) & i32::MAX;
        let info = SessionInfo { user: options.user, database: options.database, backend_pid, variables };
        Session {
            sql: self.clone(),
            info,
            state: State::Idle,
            running: false,
            commits: Arc::default(),
            request_key: None,
            before_local: BTreeMap::new(),
        }
    }

    /// What deletes idempotency keys whose time is over. To be stepped for as long as a node runs.
    pub fn key_collector(&self) -> Collector {
        let limits = CollectLimits {
            retention: self.limits.idempotency_retention,
            page_rows: self.limits.idempotency_page_rows,
            page_bytes: self.limits.idempotency_page_bytes,
            pause: self.limits.idempotency_page_pause,
        };
        Collector::new(self.kv.clone(), limits)
    }

    /// Goes on with deletions that a crash has cut short. To be called once when a node starts.
    ///
    /// # Errors
    /// Those of the key-value layer.
    pub async fn clean_up(&self) -> Result<()> {
        self.catalog.finish_drops().await
    }
}

/// Where a session stands, as the wire protocols report it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Idle,
    InTransaction,
    Failed,
}

enum State {
    Idle,
    Open(Box<Active>),
    Failed,
}

/// A connection's state. Statements run one at a time.
pub struct Session {
    sql: Arc<Sql>,
    info: SessionInfo,
    state: State,
    /// Set while a statement runs. Found set by the next one, that statement was cancelled.
    running: bool,
    /// Counts beginnings and ends of commits: odd while one is under way.
    commits: Arc<AtomicU64>,
    /// The idempotency key that came with the statement that runs.
    request_key: Option<IdempotencyKey>,
    /// What `SET LOCAL` has set in the open block, with the values to go back to.
    before_local: BTreeMap<String, String>,
}

/// Knows whether a session is committing. A statement that is dropped then leaves nobody who knows how it ended.
#[derive(Clone, Debug)]
pub struct CommitWatch {
    commits: Arc<AtomicU64>,
    before: u64,
}

impl CommitWatch {
    pub fn is_committing(&self) -> bool {
        self.commits.load(Ordering::Relaxed) % 2 == 1
    }

    /// Whether a commit has begun since the watch was asked for. What is dropped then may have had an effect.
    pub fn has_begun(&self) -> bool {
        self.commits.load(Ordering::Relaxed) != self.before
    }
}

/// A planned statement with its types, to be executed any number of times.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The types of the parameters.
    pub parameters: Vec<DataType>,
    /// The columns of the result; empty for statements without one.
    pub columns: Vec<Column>,
    statement: Statement,
    hints: Vec<Option<DataType>>,
    planned: Arc<Planned>,
}

/// How a statement ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// `SELECT 3`, `INSERT 0 1`, `BEGIN`.
    pub tag: String,
    pub notices: Vec<String>,
    /// Of the commit, if the statement made one.
    pub timings: Option<CommitTimings>,
    pub commit_timestamp: Option<Timestamp>,
    /// Of the open transaction, once it has written: what to ask for its outcome with.
    pub transaction: Option<TxnAddress>,
    /// The statement was not run: this is what it was answered in an earlier run under the same idempotency key.
    pub replayed: bool,
    /// How often the transaction was run again, and why.
    pub retries: Vec<(RetryReason, u32)>,
}

impl Session {
    /// Splits a query string into statements. An empty one gives none.
    ///
    /// # Errors
    /// `42601`, `54000`, `54001`. In a transaction the caller has to report it by [`Session::fail`].
    pub fn parse(&self, text: &str) -> Result<Vec<Statement>> {
        if let Some(known) = self.sql.plans.parsed(text) {
            return Ok(known.to_vec());
        }
        let statements = parser::parse(text, &self.sql.limits)?;
        self.sql.plans.remember_parsed(text, statements.clone().into());
        Ok(statements)
    }

    /// Plans a statement. `hints` are the parameter types that the client has declared.
    ///
    /// # Errors
    /// Everything that can be wrong with a statement before it runs. A transaction has failed then.
    pub async fn prepare(&mut self, statement: &Statement, hints: &[Option<DataType>]) -> Result<Arc<Prepared>> {
        self.settle();
        let result = self.try_prepare(statement, hints).await;
        if result.is_err() {
            self.fail();
        }
        result
    }

    /// Where the session stands.
    pub fn status(&self) -> Status {
        match &self.state {
            State::Idle => Status::Idle,
            State::Open(active) if !active.is_explicit() => Status::Idle,
            State::Open(_) if self.running => Status::Failed,
            State::Open(_) => Status::InTransaction,
            State::Failed => Status::Failed,
        }
    }

    /// A variable's value, for the parameters that a wire protocol reports.
    ///
    /// # Errors
    /// `42704`.
    pub fn variable(&self, name: &str) -> Result<String> {
        self.info.variables.get(name)
    }

    /// Sets a variable, as a client's start-up message does.
    ///
    /// # Errors
    /// As `SET`.
    pub fn set_variable(&mut self, name: &str, value: &str) -> Result<()> {
        self.info.variables.set(name, value)
    }

    /// Tells, while a statement runs, whether it may still be dropped.
    pub fn commit_watch(&self) -> CommitWatch {
        CommitWatch { commits: self.commits.clone(), before: self.commits.load(Ordering::Relaxed) }
    }

    /// The number that names the session to its client.
    pub fn backend_pid(&self) -> i32 {
        self.info.backend_pid
    }

    /// Takes note of an error outside of the session (a syntax error, a protocol error): a transaction has failed.
    pub fn fail(&mut self) {
        self.running = false;
        self.state = match std::mem::replace(&mut self.state, State::Idle) {
            State::Open(active) if active.is_explicit() => State::Failed,
            State::Failed => State::Failed,
            State::Open(_) | State::Idle => State::Idle,
        };
    }

    /// Ends the session; a transaction is rolled back.
    pub async fn close(mut self) {
        if let State::Open(mut active) = std::mem::replace(&mut self.state, State::Idle) {
            active.txn.rollback().await;
        }
    }

    /// Fails a transaction in which a statement was cancelled.
    fn settle(&mut self) {
        if self.running {
            self.fail();
        }
    }

    async fn try_prepare(&mut self, statement: &Statement, hints: &[Option<DataType>]) -> Result<Arc<Prepared>> {
        if hints.len() > self.sql.limits.parameters_max {
            let message = format!("a statement can have at most {} parameters", self.sql.limits.parameters_max);
            return Err(Error::new(state::PROGRAM_LIMIT_EXCEEDED, message));
        }
        let planned = self.plan(statement, hints).await?;
        Ok(Arc::new(Prepared {
            parameters: planned.parameters.clone(),
            columns: planned.columns.clone(),
            statement: statement.clone(),
            hints: hints.to_vec(),
            planned,
        }))
    }

    /// A plan from the cache if the catalog has not changed, or a new one.
    async fn plan(&mut self, statement: &Statement, hints: &[Option<DataType>]) -> Result<Arc<Planned>> {
        if matches!(self.state, State::Idle)
            && let Some(at) = self.time_of(statement)?
        {
            return self.plan_at(statement, hints, at).await;
        }
        if let Some(planned) = self.sql.plans.planned(statement.text(), hints)
            && self.is_current(&planned).await?
        {
            return Ok(planned);
        }
        let mut tables = Tables::new();
        for name in statement::tables_of(statement)? {
            let table = self.table(&name).await?;
            tables.insert(name, table);
        }
        let planned = Arc::new(statement::plan(statement, hints, &tables, &self.sql.limits)?);
        // What a transaction has defined itself is nobody else's yet, and an EXPLAIN says what is true now.
        if !self.has_own_tables() && !matches!(planned.plan, Plan::Explain(_)) {
            self.sql.plans.remember_planned(statement.text(), hints, planned.clone());
        }
        Ok(planned)
    }

    fn own_tables(&self) -> Option<&BTreeMap<String, Option<Arc<Table>>>> {
        match &self.state {
            State::Open(active) => Some(&active.own_tables),
            _ => None,
        }
    }

    fn has_own_tables(&self) -> bool {
        self.own_tables().is_some_and(|own| !own.is_empty())
    }

    /// A table as this session sees it: its own uncommitted definitions first.
    async fn table(&mut self, name: &str) -> Result<Option<Arc<Table>>> {
        if let Some(own) = self.own_tables().and_then(|own| own.get(name)) {
            return Ok(own.clone());
        }
        let sql = self.sql.clone();
        match &mut self.state {
            State::Open(active) if active.options.at.is_some() => sql.catalog.lookup_at(&mut *active.txn, name).await,
            _ => sql.catalog.lookup(name).await,
        }
    }

    /// Whether the tables of a plan are still what they were.
    async fn is_current(&mut self, planned: &Planned) -> Result<bool> {
        for table in &planned.tables {
            let now = self.table(table.name()).await?;
            if now.is_none_or(|n| n.id() != table.id() || n.version() != table.version()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Brings the values of parameters to the types that the plan wants.
    fn bind_parameters(planned: &Planned, params: Vec<Datum>) -> Result<Vec<Datum>> {
        // A plan is shown without them.
        if matches!(planned.plan, Plan::Explain(_)) {
            return Ok(Vec::new());
        }
        if params.len() != planned.parameters.len() {
            let (have, want) = (params.len(), planned.parameters.len());
            return Err(Error::new("08P01", format!("{have} parameters were given, but the statement has {want}")));
        }
        let fit = |(datum, to): (Datum, &DataType)| super::expr::cast::cast(datum, *to, false);
        params.into_iter().zip(&planned.parameters).map(fit).collect()
    }
}
