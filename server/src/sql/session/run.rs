//! Running one statement: in which transaction, how often, and what leaves when.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::{Either, select};
use proto::Datum;

use super::super::error::{Error, Result, state};
use super::super::exec::{self, Context, Row, ddl, show, write};
use super::super::expr::EvalContext;
use super::super::parser::Statement;
use super::super::plan::{Node, Plan, Planned, Show, TransactionModes};
use super::super::variables::{IDEMPOTENCY_KEY, isolation_name};
use super::keyed::Request;
use super::past;
use super::rows::{Outcome, Stream};
use super::transaction::{Active, Attempts, Extent, explain_conflict};
use super::{CommitWatch, Completion, Prepared, Rows, Session, State};
use crate::kv::{self, BeginOptions, Committed, Kv};

impl Session {
    /// Runs a statement.
    ///
    /// # Errors
    /// What the statement meets. A transaction has failed then.
    pub async fn execute(&mut self, prepared: &Prepared, params: Vec<Datum>) -> Result<Rows<'_>> {
        self.execute_with_key(prepared, params, "").await
    }

    /// Opens a transaction block with the session's defaults.
    ///
    /// # Errors
    /// `25001` inside of one, which has failed then; those of the key-value layer.
    pub async fn begin(&mut self) -> Result<()> {
        self.settle();
        if !matches!(self.state, State::Idle) {
            self.fail();
            return Err(Error::new(state::ACTIVE_TRANSACTION, "there is already a transaction in progress"));
        }
        self.begin_explicit(TransactionModes::default()).await.map(drop)
    }

    /// Runs a statement; outside of a transaction, in one of the given extent.
    pub(super) async fn execute_as(
        &mut self,
        prepared: &Prepared,
        params: Vec<Datum>,
        extent: Extent,
    ) -> Result<Outcome> {
        self.settle();
        self.running = true;
        let limit = TimeLimit::of(self);
        let outcome = limit.keep(Box::pin(self.run(prepared, params, extent))).await;
        self.running = false;
        match outcome {
            Ok(outcome) => Ok(outcome),
            Err(error) => Err(self.fail_with(error, extent).await),
        }
    }

    /// Fails the transaction after an error, which is made fit to leave.
    async fn fail_with(&mut self, error: Error, extent: Extent) -> Error {
        let mut error = explain_conflict(error, &self.sql.catalog);
        // Nearly every error tells something of the rows that it came from, so the reply rule holds for all.
        if matches!(error.cause, None | Some(kv::Error::KeyReused(_) | kv::Error::Limit(_)))
            && let State::Open(active) = &mut self.state
            && active.has_run
            && let Err(worse) = active.txn.reveal().await
        {
            error = explain_conflict(worse.into(), &self.sql.catalog);
        }
        // A block decides for itself whether it runs again.
        let keep = extent == Extent::Block && error.conflict().is_some() && !self.is_explicit();
        if !keep {
            self.fail();
        }
        error
    }

    pub(super) fn is_explicit(&self) -> bool {
        matches!(&self.state, State::Open(active) if active.is_explicit())
    }

    async fn run(&mut self, prepared: &Prepared, params: Vec<Datum>, extent: Extent) -> Result<Outcome> {
        if matches!(self.state, State::Failed) && !matches!(prepared.planned.plan, Plan::Commit | Plan::Rollback) {
            return Err(Error::new(
                state::FAILED_TRANSACTION,
                "current transaction is aborted, commands ignored until end of transaction block",
            ));
        }
        self.enter_past(&prepared.statement, &prepared.planned.plan, extent).await?;
        let planned = self.current_plan(prepared).await?;
        let params = Session::bind_parameters(&planned, params)?;
        if let Plan::Show(show) = &planned.plan
            && let Some(rows) = show::of_node(show, &*self.sql.kv)
        {
            return Ok(Outcome::rows(rows, Completion { tag: "SHOW".to_string(), ..Completion::default() }));
        }
        match &planned.plan {
            Plan::Query(_)
            | Plan::Insert(_)
            | Plan::Update(_)
            | Plan::Delete(_)
            | Plan::CreateTable { .. }
            | Plan::DropTables { .. }
            | Plan::Truncate(_)
            | Plan::Place { .. }
            | Plan::Show(_) => {
                let request = Request { prepared, params: &params };
                self.run_in_transaction(planned, request, extent).await
            }
            Plan::SplitAt { .. } | Plan::Unsplit { .. } => self.reshape(&planned.plan, &params).await,
            _ => self.run_control(&planned.plan, &prepared.statement).await,
        }
    }

    /// Makes or gives up boundaries of ranges, which is no transaction.
    async fn reshape(&mut self, plan: &Plan, params: &[Datum]) -> Result<Outcome> {
        if self.is_explicit() {
            let message = "ALTER TABLE ... SPLIT AT and UNSPLIT cannot run inside a transaction block";
            return Err(Error::new(state::ACTIVE_TRANSACTION, message));
        }
        let kv = self.sql.kv.clone();
        let eval = EvalContext { params, now: 0, session: Some(&self.info), kv: Some(&*kv) };
        match plan {
            Plan::SplitAt { table, rows } => ddl::split(&*kv, table, rows, &eval).await?,
            Plan::Unsplit { table, rows } => ddl::unsplit(&*kv, table, rows.as_deref(), &eval).await?,
            _ => return Err(Error::new(state::INTERNAL, "this statement changes no boundaries")),
        }
        Ok(Outcome::done(plan.tag()))
    }

    /// The prepared plan, or a new one if the catalog has changed since.
    async fn current_plan(&mut self, prepared: &Prepared) -> Result<Arc<Planned>> {
        if self.is_current(&prepared.planned).await? {
            return Ok(prepared.planned.clone());
        }
        let planned = self.plan(&prepared.statement, &prepared.hints).await?;
        if planned.columns != prepared.columns || planned.parameters != prepared.parameters {
            return Err(Error::new(state::FEATURE_NOT_SUPPORTED, "cached plan must not change result type")
                .hint("Prepare the statement again."));
        }
        Ok(planned)
    }

    async fn run_control(&mut self, plan: &Plan, statement: &Statement) -> Result<Outcome> {
        let tag = plan.tag();
        match plan {
            Plan::Explain(lines) => {
                let rows: Vec<Row> = lines.iter().map(|line| vec![Datum::Text(line.clone())]).collect();
                return Ok(Outcome::rows(rows, Completion { tag: tag.to_string(), ..Completion::default() }));
            }
            Plan::Begin(modes) => return self.begin_explicit(self.modes_at(*modes, statement)?).await,
            Plan::Commit => return self.commit_explicit().await,
            Plan::Rollback => return Ok(self.rollback_explicit().await),
            Plan::SetTransaction(modes) => self.set_transaction(self.modes_at(*modes, statement)?).await?,
            Plan::SetSessionTransaction(modes) => {
                if let Some(isolation) = modes.isolation {
                    self.info.variables.set("default_transaction_isolation", isolation_name(isolation))?;
                }
                if let Some(read_only) = modes.read_only {
                    let value = if read_only { "on" } else { "off" };
                    self.info.variables.set("default_transaction_read_only", value)?;
                }
            }
            Plan::Set { name, value, local } => return self.set(name, value.as_deref(), *local),
            Plan::ResetAll => self.info.variables.reset_all(),
            Plan::DiscardAll => {
                if self.is_explicit() {
                    let message = "DISCARD ALL cannot run inside a transaction block";
                    return Err(Error::new(state::ACTIVE_TRANSACTION, message));
                }
                self.info.variables.reset_all();
            }
            _ => {}
        }
        Ok(Outcome::done(tag))
    }

    pub(super) fn default_options(&self) -> BeginOptions {
        BeginOptions {
            isolation: self.info.variables.default_isolation(),
            read_only: self.info.variables.default_read_only(),
            priority: None,
            at: None,
        }
    }

    async fn begin_explicit(&mut self, modes: TransactionModes) -> Result<Outcome> {
        let mut outcome = Outcome::done("BEGIN");
        match &mut self.state {
            State::Open(active) if active.is_explicit() => {
                outcome.completion.notices.push("there is already a transaction in progress".to_string());
            }
            State::Open(active) if modes.at != active.options.at => return Err(past::mixed(active.options.at)),
            // The statements of the block before it become a part of the transaction.
            State::Open(active) => active.extent = Extent::Explicit,
            State::Idle | State::Failed => {
                let options = modes.apply(self.default_options());
                let active = Active::begin(&*self.sql.kv, Extent::Explicit, options).await?;
                self.state = State::Open(Box::new(active));
            }
        }
        if let Some(key) = self.request_key.take() {
            self.set_local(IDEMPOTENCY_KEY, Some(key.as_str()))?;
        }
        Ok(outcome)
    }

    async fn set_transaction(&mut self, modes: TransactionModes) -> Result<()> {
        let State::Open(active) = &mut self.state else {
            return Err(Error::new(
                state::NO_ACTIVE_TRANSACTION,
                "SET TRANSACTION can only be used in transaction blocks",
            ));
        };
        if active.has_run {
            let message = "SET TRANSACTION must be called before any query";
            return Err(Error::new(state::ACTIVE_TRANSACTION, message));
        }
        let options = modes.apply(active.options.clone());
        active.txn.rollback().await;
        **active = Active::begin(&*self.sql.kv, active.extent, options).await?;
        Ok(())
    }

    async fn commit_explicit(&mut self) -> Result<Outcome> {
        let ended = std::mem::replace(&mut self.state, State::Idle);
        self.end_local_settings();
        match ended {
            State::Idle => {
                let mut outcome = Outcome::done("COMMIT");
                outcome.completion.notices.push("there is no transaction in progress".to_string());
                Ok(outcome)
            }
            State::Failed => Ok(Outcome::done("ROLLBACK")),
            State::Open(active) => {
                let mut outcome = Outcome::done("COMMIT");
                outcome.completion.replayed = active.is_replay();
                let committed = self.commit(*active).await?;
                set_committed(&mut outcome.completion, Some(committed));
                Ok(outcome)
            }
        }
    }

    async fn rollback_explicit(&mut self) -> Outcome {
        let mut outcome = Outcome::done("ROLLBACK");
        let ended = std::mem::replace(&mut self.state, State::Idle);
        self.end_local_settings();
        match ended {
            State::Open(mut active) => active.txn.rollback().await,
            State::Failed => {}
            State::Idle => outcome.completion.notices.push("there is no transaction in progress".to_string()),
        }
        outcome
    }

    /// Runs a statement that reads or writes, again as long as it has to and may.
    async fn run_in_transaction(
        &mut self,
        planned: Arc<Planned>,
        request: Request<'_>,
        extent: Extent,
    ) -> Result<Outcome> {
        let sql = self.sql.clone();
        let mut attempts = Attempts::default();
        let mut options = self.default_options();
        loop {
            if matches!(self.state, State::Idle) {
                let active = Active::begin(&*sql.kv, extent, options.clone()).await?;
                self.state = State::Open(Box::new(active));
            }
            let State::Open(active) = &self.state else {
                return Err(Error::new(state::INTERNAL, "there is no transaction to run in"));
            };
            let (priority, extent_now, may_retry) =
                (active.txn.priority(), active.extent, !active.has_answered && active.extent != Extent::Block);
            options = BeginOptions { priority: Some(priority), ..active.options.clone() };
            let error = match self.attempt(&planned, &request).await {
                Ok(mut outcome) => {
                    outcome.completion.retries = attempts.reasons();
                    return Ok(outcome);
                }
                Err(error) => error,
            };
            let Some(conflict) = error.conflict() else { return Err(error) };
            if !may_retry || !attempts.again(conflict, &*sql.kv, &sql.limits).await {
                return Err(error);
            }
            // A commit that failed has consumed the transaction; an explicit one is still there.
            if let State::Open(mut old) = std::mem::replace(&mut self.state, State::Idle) {
                old.txn.rollback().await;
            }
            let again = Active::begin(&*sql.kv, extent_now, options.clone()).await?;
            self.state = State::Open(Box::new(again));
        }
    }

    async fn attempt(&mut self, planned: &Arc<Planned>, request: &Request<'_>) -> Result<Outcome> {
        let mut outcome = match self.replay(request, &planned.plan).await? {
            Some(replayed) => replayed,
            None => {
                let mut outcome = self.run_plan(planned, request.params).await?;
                self.keep(request, &planned.plan, &mut outcome).await?;
                outcome
            }
        };
        self.answer(&mut outcome).await?;
        Ok(outcome)
    }

    async fn run_plan(&mut self, planned: &Arc<Planned>, params: &[Datum]) -> Result<Outcome> {
        let sql = self.sql.clone();
        let State::Open(active) = &mut self.state else {
            return Err(Error::new(state::INTERNAL, "there is no transaction to run in"));
        };
        if planned.plan.writes() && active.options.read_only {
            let message = format!("cannot execute {} in a read-only transaction", planned.plan.tag());
            return Err(Error::new(state::READ_ONLY_TRANSACTION, message));
        }
        active.has_run |= !matches!(planned.plan, Plan::Show(_));
        let eval = EvalContext { params, now: active.now, session: Some(&self.info), kv: Some(&*sql.kv) };
        match &planned.plan {
            Plan::Query(node) => {
                let mut cx = Context { txn: &mut *active.txn, eval, limits: &sql.limits };
                first_rows(node, planned, params, &mut cx).await
            }
            Plan::Show(show) => {
                let rows = match show {
                    Show::Variable("transaction_isolation") => {
                        vec![vec![Datum::Text(isolation_name(active.options.isolation).to_string())]]
                    }
                    Show::Variable("transaction_read_only") => {
                        let value = if active.options.read_only { "on" } else { "off" };
                        vec![vec![Datum::Text(value.to_string())]]
                    }
                    Show::TransactionId if active.is_replay() => {
                        vec![vec![active.address().map_or(Datum::Null, |a| Datum::Text(a.to_string()))]]
                    }
                    _ => show::run(show, &*sql.kv, &mut *active.txn, &self.info, &eval).await?,
                };
                Ok(Outcome::rows(rows, Completion { tag: "SHOW".to_string(), ..Completion::default() }))
            }
            plan => change(plan, active, eval, &sql.limits).await,
        }
    }

    /// Before results leave: a statement's own transaction commits if the statement is finished; otherwise what was
    /// read is revealed.
    async fn answer(&mut self, outcome: &mut Outcome) -> Result<()> {
        let State::Open(active) = &mut self.state else { return Ok(()) };
        if outcome.stream.is_none() && active.extent == Extent::Statement {
            let committed = self.end_own_transaction().await?;
            set_committed(&mut outcome.completion, committed);
            return Ok(());
        }
        if active.is_explicit() {
            outcome.completion.transaction = active.address();
        }
        if active.extent != Extent::Block {
            active.txn.reveal().await?;
            active.has_answered = true;
        }
        Ok(())
    }

    /// Commits. From here on no timeout may cut in, as the outcome would not be known.
    pub(super) async fn commit(&mut self, mut active: Active) -> Result<Committed> {
        let sql = self.sql.clone();
        let key = active.guard.as_ref().map(|guard| guard.key().clone());
        self.commits.fetch_add(1, Ordering::Relaxed);
        let ended = match &mut active.guard {
            Some(guard) => guard.end(&mut *active.txn, &*sql.kv).await.map_err(Error::from),
            None => Ok(None),
        };
        let committed = match ended {
            Ok(None) => active.commit(&*sql.kv, &sql.catalog, &sql.limits).await,
            Ok(Some(first)) => Ok(first),
            Err(error) => Err(error),
        };
        self.commits.fetch_add(1, Ordering::Relaxed);
        if let (Some(key), Ok(_)) = (key, &committed) {
            self.use_up(&key);
        }
        committed
    }

    async fn end_own_transaction(&mut self) -> Result<Option<Committed>> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Open(active) if active.extent == Extent::Statement => self.commit(*active).await.map(Some),
            other => {
                self.state = other;
                Ok(None)
            }
        }
    }

    /// The next batch of a query that has answered already.
    pub(super) async fn pull_stream(&mut self, stream: &mut Stream) -> Result<Option<Vec<Row>>> {
        self.running = true;
        let limit = TimeLimit::of(self);
        let result = limit.keep(Box::pin(self.pull_once(stream))).await;
        self.running = false;
        match result {
            Ok(batch) => Ok(batch),
            Err(error) => Err(self.fail_with(error, Extent::Statement).await),
        }
    }

    async fn pull_once(&mut self, stream: &mut Stream) -> Result<Option<Vec<Row>>> {
        let sql = self.sql.clone();
        match (&mut self.state, &stream.planned.plan) {
            (State::Open(active), Plan::Query(node)) => {
                let eval = EvalContext {
                    params: &stream.params,
                    now: active.now,
                    session: Some(&self.info),
                    kv: Some(&*sql.kv),
                };
                let mut cx = Context { txn: &mut *active.txn, eval, limits: &sql.limits };
                let batch = exec::pull(node, &mut stream.state, &mut cx, sql.limits.batch_rows_max).await;
                match batch {
                    Ok(Some(rows)) => active.txn.reveal().await.map(|()| Some(rows)).map_err(Error::from),
                    other => other,
                }
            }
            _ => Err(Error::new(state::INTERNAL, "a result outlived its transaction")),
        }
    }

    /// The end of a streamed query.
    pub(super) async fn end_statement(&mut self) -> Result<Option<Committed>> {
        match self.end_own_transaction().await {
            Ok(committed) => Ok(committed),
            Err(error) => Err(self.fail_with(error, Extent::Statement).await),
        }
    }
}

/// `statement_timeout`: for a statement up to its first batch of rows, and for each further batch.
struct TimeLimit {
    kv: Arc<dyn Kv>,
    timeout: Option<Duration>,
    commit: CommitWatch,
}

impl TimeLimit {
    fn of(session: &Session) -> TimeLimit {
        let timeout = session.info.variables.statement_timeout();
        TimeLimit { kv: session.sql.kv.clone(), timeout, commit: session.commit_watch() }
    }

    /// Gives up work that takes too long, unless it is committing already.
    async fn keep<T>(self, work: impl Future<Output = Result<T>> + Send + Unpin) -> Result<T> {
        let Some(timeout) = self.timeout else { return work.await };
        match select(work, self.kv.sleep(timeout)).await {
            Either::Left((result, _)) => result,
            Either::Right((_, work)) if self.commit.is_committing() => work.await,
            Either::Right(_) => Err(Error::new(state::QUERY_CANCELED, "canceling statement due to statement timeout")),
        }
    }
}

fn set_committed(completion: &mut Completion, committed: Option<Committed>) {
    completion.timings = committed.map(|c| c.timings);
    completion.commit_timestamp = committed.map(|c| c.timestamp);
}

/// The first batch of a query, and a second one to see whether that was all.
async fn first_rows(node: &Node, planned: &Arc<Planned>, params: &[Datum], cx: &mut Context<'_>) -> Result<Outcome> {
    let goal = cx.limits.batch_rows_max;
    let mut state = exec::State::new(node);
    let mut ready = VecDeque::new();
    let mut count = 0;
    for _ in 0..2 {
        match exec::pull(node, &mut state, cx, goal).await? {
            Some(rows) => {
                count += rows.len();
                ready.push_back(rows);
            }
            None => {
                let completion = Completion { tag: format!("SELECT {count}"), ..Completion::default() };
                return Ok(Outcome { ready, stream: None, completion });
            }
        }
    }
    let stream = Stream { planned: planned.clone(), params: params.to_vec(), state };
    Ok(Outcome { ready, stream: Some(stream), completion: Completion::default() })
}

/// Runs a statement that changes rows or tables.
async fn change(plan: &Plan, active: &mut Active, eval: EvalContext<'_>, limits: &super::Limits) -> Result<Outcome> {
    let mut completion = Completion { tag: plan.tag().to_string(), ..Completion::default() };
    let changed = match plan {
        Plan::Insert(insert) => {
            active.written.insert(insert.table.id(), insert.table.clone());
            write::insert(insert, &mut Context { txn: &mut *active.txn, eval, limits }).await?
        }
        Plan::Update(update) => {
            active.written.insert(update.table.id(), update.table.clone());
            write::update(update, &mut Context { txn: &mut *active.txn, eval, limits }).await?
        }
        Plan::Delete(delete) => {
            active.written.insert(delete.table.id(), delete.table.clone());
            write::delete(delete, &mut Context { txn: &mut *active.txn, eval, limits }).await?
        }
        Plan::Truncate(tables) => {
            for table in tables {
                active.written.insert(table.id(), table.clone());
                write::truncate(table, &mut Context { txn: &mut *active.txn, eval, limits }).await?;
            }
            return Ok(Outcome::rows(Vec::new(), completion));
        }
        _ => {
            define(plan, active, &mut completion).await?;
            return Ok(Outcome::rows(Vec::new(), completion));
        }
    };
    let zero = if matches!(plan, Plan::Insert(_)) { " 0" } else { "" };
    completion.tag = format!("{}{zero} {}", plan.tag(), changed.count);
    Ok(Outcome::rows(changed.rows, completion))
}

/// Creates, changes or drops tables. The transaction sees its own definitions from here on.
async fn define(plan: &Plan, active: &mut Active, completion: &mut Completion) -> Result<()> {
    match plan {
        Plan::CreateTable { descriptor, if_not_exists } => {
            let name = descriptor.name.clone();
            match ddl::create(&mut *active.txn, descriptor, *if_not_exists).await? {
                Some(table) => {
                    active.own_tables.insert(name, Some(table));
                }
                None => completion.notices.push(format!("relation \"{name}\" already exists, skipping")),
            }
        }
        Plan::Place { table, changes } => {
            let placed = ddl::place(&mut *active.txn, table, changes).await?;
            active.own_tables.insert(placed.name().to_string(), Some(placed));
        }
        Plan::DropTables { names, if_exists } => {
            for name in names {
                match ddl::drop_one(&mut *active.txn, name, *if_exists).await? {
                    Some(table) => {
                        active.dropped.push(table.id());
                        active.written.remove(&table.id());
                        active.own_tables.insert(name.clone(), None);
                    }
                    None => completion.notices.push(format!("table \"{name}\" does not exist, skipping")),
                }
            }
        }
        _ => return Err(Error::new(state::INTERNAL, "this plan defines nothing")),
    }
    Ok(())
}
