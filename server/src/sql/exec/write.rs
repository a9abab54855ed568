//! `INSERT`, `UPDATE`, `DELETE` and `TRUNCATE`.
//!
//! Writes are buffered in the transaction and become visible to its own later reads. Uniqueness is checked with one
//! `get` for all new keys of a statement. An `UPDATE` that moves rows first reads all of them, so that it
//! never meets a row that it has moved itself.

use std::collections::BTreeSet;

use proto::{Datum, Key};

use super::super::encoding::{key, row};
use super::super::error::Result;
use super::super::expr::Expr;
use super::super::plan::{Delete, Insert, Node, Update};
use super::super::schema::Table;
use super::{Context, Row, State, check_memory, project, pull, row_memory};
use crate::kv::{Lock, ScanOptions};

/// What a statement has changed.
#[derive(Debug, Default)]
pub struct Changed {
    pub count: u64,
    /// The rows of `RETURNING`.
    pub rows: Vec<Row>,
    bytes: usize,
}

impl Changed {
    fn add(&mut self, returning: Option<&[Expr]>, row: &[Datum], cx: &Context<'_>) -> Result<()> {
        self.count += 1;
        if let Some(exprs) = returning {
            let out = project(exprs, row, &cx.eval)?;
            self.bytes += row_memory(&out);
            check_memory(self.bytes, cx.limits, "RETURNING")?;
            self.rows.push(out);
        }
        Ok(())
    }
}

fn check_not_null(table: &Table, row: &[Datum]) -> Result<()> {
    match table.columns().iter().zip(row).position(|(c, d)| !c.nullable && d.is_null()) {
        Some(ordinal) => Err(table.null_in(ordinal, row)),
        None => Ok(()),
    }
}

async fn all_rows<'b>(source: &Node, cx: &mut Context<'b>, what: &str) -> Result<Vec<Row>> {
    let mut state = State::new(source);
    let mut rows = Vec::new();
    let mut bytes = 0;
    let goal = cx.limits.batch_rows_max;
    while let Some(batch) = pull(source, &mut state, cx, goal).await? {
        bytes += batch.iter().map(|r| row_memory(r)).sum::<usize>();
        check_memory(bytes, cx.limits, what)?;
        rows.extend(batch);
    }
    Ok(rows)
}

/// Runs an `INSERT`.
///
/// # Errors
/// `23505`, `23502`, those of the source.
pub async fn insert<'b>(plan: &Insert, cx: &mut Context<'b>) -> Result<Changed> {
    let table = &plan.table;
    let rows = all_rows(&plan.source, cx, "INSERT").await?;
    insert_rows(table, rows, plan.skip_conflicts, plan.returning.as_deref(), cx).await
}

/// Checks that the keys are free and writes the rows.
async fn insert_rows(
    table: &Table,
    rows: Vec<Row>,
    skip_conflicts: bool,
    returning: Option<&[Expr]>,
    cx: &mut Context<'_>,
) -> Result<Changed> {
    let mut changed = Changed::default();
    for row in &rows {
        check_not_null(table, row)?;
    }
    let keys: Vec<Key> = rows.iter().map(|r| key::row_key(table, r)).collect();
    if keys.is_empty() {
        return Ok(changed);
    }
    let found = cx.txn.get(&keys, Lock::None).await?;
    let mut fresh: BTreeSet<Key> = BTreeSet::new();
    let several = rows.len() > 1;
    for ((row, key), existing) in rows.into_iter().zip(keys).zip(found) {
        let taken = existing.is_some() || (several && !fresh.insert(key.clone()));
        if taken && skip_conflicts {
            continue;
        }
        if taken {
            return Err(table.duplicate_key(&row));
        }
        let value = row::encode(table, &row);
        cx.txn.put(key, value)?;
        changed.add(returning, &row, cx)?;
    }
    Ok(changed)
}

/// Runs an `UPDATE`.
///
/// # Errors
/// `23505`, `23502`, those of the source and of the assignments.
pub async fn update<'b>(plan: &Update, cx: &mut Context<'b>) -> Result<Changed> {
    let table = &plan.table;
    let returning = plan.returning.as_deref();
    if plan.changes_key() {
        return move_rows(plan, cx).await;
    }
    let mut changed = Changed::default();
    let mut state = State::new(&plan.source);
    let goal = cx.limits.batch_rows_max;
    while let Some(rows) = pull(&plan.source, &mut state, cx, goal).await? {
        for old in rows {
            let new = assign(plan, old, cx)?;
            cx.txn.put(key::row_key(table, &new), row::encode(table, &new))?;
            changed.add(returning, &new, cx)?;
        }
    }
    Ok(changed)
}

/// The new row. All values are computed on the old one.
fn assign(plan: &Update, mut row: Row, cx: &Context<'_>) -> Result<Row> {
    let values: Vec<Datum> =
        plan.assignments.iter().map(|(_, expr)| expr.eval(&row, &cx.eval)).collect::<Result<_>>()?;
    for ((ordinal, _), value) in plan.assignments.iter().zip(values) {
        row[*ordinal] = value;
    }
    check_not_null(&plan.table, &row)?;
    Ok(row)
}

/// An `UPDATE` of key columns: deletes the old rows, then inserts the new ones.
async fn move_rows<'b>(plan: &Update, cx: &mut Context<'b>) -> Result<Changed> {
    let old = all_rows(&plan.source, cx, "UPDATE of a primary key").await?;
    for row in &old {
        cx.txn.delete(key::row_key(&plan.table, row))?;
    }
    let new = old.into_iter().map(|row| assign(plan, row, cx)).collect::<Result<Vec<Row>>>()?;
    insert_rows(&plan.table, new, false, plan.returning.as_deref(), cx).await
}

/// Runs a `DELETE`.
///
/// # Errors
/// Those of the source.
pub async fn delete<'b>(plan: &Delete, cx: &mut Context<'b>) -> Result<Changed> {
    let mut changed = Changed::default();
    let mut state = State::new(&plan.source);
    let goal = cx.limits.batch_rows_max;
    while let Some(rows) = pull(&plan.source, &mut state, cx, goal).await? {
        for row in rows {
            cx.txn.delete(key::row_key(&plan.table, &row))?;
            changed.add(plan.returning.as_deref(), &row, cx)?;
        }
    }
    Ok(changed)
}

/// Deletes all rows of a table within the transaction, whose buffer limits how many there can be.
///
/// # Errors
/// `54000` for tables that are too large for one transaction.
pub async fn truncate(table: &Table, cx: &mut Context<'_>) -> Result<()> {
    let mut rest = Some(table.span());
    while let Some(span) = rest {
        let page = cx.txn.scan(&span, ScanOptions::default()).await?;
        for (key, _) in page.rows {
            cx.txn.delete(key)?;
        }
        rest = page.resume;
    }
    Ok(())
}
