//! Running plans.
//!
//! Queries are pulled: [`pull`] asks an operator for its next batch of rows, and it asks its input. A plan is shared and
//! never changes; what an execution has reached is in a [`State`] that mirrors the plan's tree. A batch is
//! never empty, and `None` is the end. The goal that goes down with a pull is how many rows the operator above
//! can use, so that `LIMIT` reads little.

pub mod aggregate;
pub mod ddl;
pub mod place;
pub mod scan;
pub mod show;
pub mod sort;
pub mod system;
pub mod write;

use std::collections::{BTreeSet, VecDeque};

use futures::future::BoxFuture;
use proto::{Datum, Span};

use super::error::{Error, Result, state as sqlstate};
use super::expr::aggregate::Sorted;
use super::expr::{EvalContext, Expr};
use super::limits::Limits;
use super::plan::Node;
use crate::kv::Transaction;

/// A row between operators.
pub type Row = Vec<Datum>;

/// What operators work with.
pub struct Context<'a> {
    pub txn: &'a mut dyn Transaction,
    pub eval: EvalContext<'a>,
    pub limits: &'a Limits,
}

/// How far an operator, and its input, have come.
#[derive(Debug)]
pub struct State {
    own: Own,
    input: Option<Box<State>>,
}

#[derive(Debug)]
pub(super) enum Own {
    Start,
    Done,
    /// What is left to scan, and the size of the next page.
    Scan {
        rest: Span,
        page: usize,
    },
    /// Rows that are ready.
    Ready(VecDeque<Row>),
    Limit {
        skip: usize,
        left: usize,
    },
    Distinct {
        seen: BTreeSet<Vec<Sorted>>,
        bytes: usize,
    },
    /// The batch size that a filter asks for.
    Filter {
        page: usize,
    },
}

impl State {
    pub fn new(node: &Node) -> State {
        let input = match node {
            Node::Values(_) | Node::Points { .. } | Node::Scan { .. } | Node::System(_) => None,
            Node::Filter { input, .. }
            | Node::Lock { input, .. }
            | Node::Project { input, .. }
            | Node::Aggregate { input, .. }
            | Node::Sort { input, .. }
            | Node::Distinct { input }
            | Node::Limit { input, .. } => Some(Box::new(State::new(input))),
        };
        State { own: Own::Start, input }
    }
}

/// The next batch of rows.
pub fn pull<'a, 'b: 'a>(
    node: &'a Node,
    state: &'a mut State,
    cx: &'a mut Context<'b>,
    goal: usize,
) -> BoxFuture<'a, Result<Option<Vec<Row>>>> {
    Box::pin(async move {
        if matches!(state.own, Own::Done) {
            return Ok(None);
        }
        let State { own, input } = state;
        match (node, input) {
            (Node::Values(rows), _) => values(rows, own, cx),
            (Node::Points { table, keys, lock, reverse }, _) => {
                *own = Own::Done;
                scan::points(table, keys, *lock, *reverse, cx).await
            }
            (Node::Scan { table, bounds, reverse }, _) => scan::page(table, bounds, *reverse, own, cx, goal).await,
            (Node::System(table), _) => {
                if !matches!(own, Own::Ready(_)) {
                    *own = Own::Ready(system::scan(*table, cx).await?.into());
                }
                Ok(next_ready(own, goal))
            }
            (Node::Filter { input, predicate }, Some(below)) => filter(input, predicate, own, below, cx, goal).await,
            (Node::Lock { input, table, predicate }, Some(below)) => {
                let ready = take_ready(own);
                let (ready, rows) = match ready {
                    Some(ready) => (ready, None),
                    None => (VecDeque::new(), pull(input, below, cx, goal).await?),
                };
                scan::lock(table, predicate.as_ref(), ready, rows, own, cx, (input, below), goal).await
            }
            (Node::Project { input, exprs }, Some(below)) => {
                let Some(rows) = pull(input, below, cx, goal).await? else { return Ok(None) };
                rows.iter().map(|row| project(exprs, row, &cx.eval)).collect::<Result<_>>().map(Some)
            }
            (Node::Aggregate { input, keys, calls }, Some(below)) => {
                if !matches!(own, Own::Ready(_)) {
                    *own = Own::Ready(aggregate::run(input, keys, calls, below, cx).await?);
                }
                Ok(next_ready(own, goal))
            }
            (Node::Sort { input, keys }, Some(below)) => {
                if !matches!(own, Own::Ready(_)) {
                    *own = Own::Ready(sort::run(input, keys, below, cx).await?);
                }
                Ok(next_ready(own, goal))
            }
            (Node::Distinct { input }, Some(below)) => sort::distinct(input, own, below, cx, goal).await,
            (Node::Limit { input, limit, offset }, Some(below)) => {
                bounded(input, limit.as_ref(), offset.as_ref(), own, below, cx, goal).await
            }
            (_, None) => Err(Error::new(sqlstate::INTERNAL, "an operator's state does not fit its plan")),
        }
    })
}

/// Computes the expressions for a row.
///
/// # Errors
/// As evaluation.
pub fn project(exprs: &[Expr], row: &[Datum], eval: &EvalContext<'_>) -> Result<Row> {
    exprs.iter().map(|e| e.eval(row, eval)).collect()
}

fn values(rows: &[Vec<Expr>], own: &mut Own, cx: &Context<'_>) -> Result<Option<Vec<Row>>> {
    *own = Own::Done;
    let rows = rows.iter().map(|row| project(row, &[], &cx.eval)).collect::<Result<Vec<Row>>>()?;
    Ok(if rows.is_empty() { None } else { Some(rows) })
}

fn take_ready(own: &mut Own) -> Option<VecDeque<Row>> {
    match std::mem::replace(own, Own::Start) {
        Own::Ready(rows) => Some(rows),
        _ => None,
    }
}

/// Up to `goal` of the rows that are ready.
fn next_ready(own: &mut Own, goal: usize) -> Option<Vec<Row>> {
    let Own::Ready(rows) = own else { return None };
    let count = rows.len().min(goal.max(1));
    let batch: Vec<Row> = rows.drain(..count).collect();
    if rows.is_empty() {
        *own = Own::Done;
    }
    if batch.is_empty() { None } else { Some(batch) }
}

/// A filter may find few rows, so it asks for ever larger batches.
async fn filter<'b>(
    input: &Node,
    predicate: &Expr,
    own: &mut Own,
    below: &mut State,
    cx: &mut Context<'b>,
    goal: usize,
) -> Result<Option<Vec<Row>>> {
    const FIRST_PAGE: usize = 32;
    loop {
        let page = match own {
            Own::Filter { page } => *page,
            _ => goal.max(FIRST_PAGE),
        };
        *own = Own::Filter { page: page.saturating_mul(2).min(cx.limits.batch_rows_max) };
        let Some(rows) = pull(input, below, cx, page).await? else { return Ok(None) };
        let mut kept = Vec::with_capacity(rows.len());
        for row in rows {
            if predicate.truth(&row, &cx.eval)? == Some(true) {
                kept.push(row);
            }
        }
        if !kept.is_empty() {
            return Ok(Some(kept));
        }
    }
}

async fn bounded<'b>(
    input: &Node,
    limit: Option<&Expr>,
    offset: Option<&Expr>,
    own: &mut Own,
    below: &mut State,
    cx: &mut Context<'b>,
    goal: usize,
) -> Result<Option<Vec<Row>>> {
    let (mut skip, mut left) = match own {
        Own::Limit { skip, left } => (*skip, *left),
        _ => (
            count_of(offset, "OFFSET", &cx.eval)?.unwrap_or(0),
            count_of(limit, "LIMIT", &cx.eval)?.unwrap_or(usize::MAX),
        ),
    };
    loop {
        if left == 0 {
            *own = Own::Done;
            return Ok(None);
        }
        let wanted = skip.saturating_add(left.min(goal)).min(cx.limits.batch_rows_max);
        let Some(mut rows) = pull(input, below, cx, wanted).await? else {
            *own = Own::Done;
            return Ok(None);
        };
        let skipped = skip.min(rows.len());
        rows.drain(..skipped);
        rows.truncate(left);
        skip -= skipped;
        left -= rows.len();
        *own = Own::Limit { skip, left };
        if !rows.is_empty() {
            return Ok(Some(rows));
        }
    }
}

/// The count in `LIMIT` or `OFFSET`; `None` for NULL and for none.
fn count_of(expr: Option<&Expr>, clause: &str, eval: &EvalContext<'_>) -> Result<Option<usize>> {
    let Some(expr) = expr else { return Ok(None) };
    match expr.eval(&[], eval)? {
        Datum::Null => Ok(None),
        value => match usize::try_from(value.as_int().unwrap_or(-1)) {
            Ok(count) => Ok(Some(count)),
            Err(_) => {
                let code = if clause == "LIMIT" { sqlstate::INVALID_LIMIT } else { sqlstate::INVALID_OFFSET };
                Err(Error::new(code, format!("{clause} must not be negative")))
            }
        },
    }
}

/// About how much memory a row takes.
pub fn row_memory(row: &[Datum]) -> usize {
    row.iter().map(Datum::memory).sum::<usize>() + std::mem::size_of::<Row>()
}

/// Checks what an operator keeps in memory.
///
/// # Errors
/// `53200`.
pub fn check_memory(bytes: usize, limits: &Limits, what: &str) -> Result<()> {
    if bytes <= limits.operator_bytes_max {
        return Ok(());
    }
    let message = format!("{what} needs more than the limit of {} bytes of memory", limits.operator_bytes_max);
    Err(Error::new(sqlstate::OUT_OF_MEMORY, message)
        .hint("Restrict the rows further, or order by the primary key, which needs no memory."))
}
