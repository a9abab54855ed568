//! The leaves: points and scans; and locking what a scan has found.

use std::collections::{BTreeSet, VecDeque};

use proto::{Datum, Key, Span};

use super::super::encoding::{key, row};
use super::super::error::Result;
use super::super::expr::{EvalContext, Expr};
use super::super::plan::{Bounds, Node};
use super::super::schema::Table;
use super::{Context, Own, Row, State, pull};
use crate::kv::{Lock, ScanOptions};

/// The rows with the given primary keys, in key order. One `get`.
///
/// # Errors
/// Those of evaluation and of the key-value layer.
pub async fn points(
    table: &Table,
    columns: &[Vec<Expr>],
    lock: bool,
    reverse: bool,
    cx: &mut Context<'_>,
) -> Result<Option<Vec<Row>>> {
    let mut keys = point_keys(table, columns, &cx.eval)?;
    if reverse {
        keys.reverse();
    }
    if keys.is_empty() {
        return Ok(None);
    }
    let found = cx.txn.get(&keys, if lock { Lock::Exclusive } else { Lock::None }).await?;
    let mut rows = Vec::with_capacity(keys.len());
    for (key, value) in keys.iter().zip(found) {
        if let Some(value) = value {
            rows.push(row::decode(table, key, &value)?);
        }
    }
    Ok(if rows.is_empty() { None } else { Some(rows) })
}

/// All combinations of the columns' values, sorted and without duplicates. NULL equals nothing.
fn point_keys(table: &Table, columns: &[Vec<Expr>], eval: &EvalContext<'_>) -> Result<Vec<Key>> {
    let mut keys = vec![table.prefix().0];
    for values in columns {
        let mut longer = Vec::with_capacity(keys.len() * values.len());
        for value in values {
            let datum = value.eval(&[], eval)?;
            if datum.is_null() {
                continue;
            }
            for prefix in &keys {
                let mut bytes = Vec::with_capacity(prefix.len() + 16);
                bytes.extend_from_slice(prefix);
                key::encode(&datum, &mut bytes);
                longer.push(bytes);
            }
        }
        keys = longer;
    }
    if keys.len() <= 1 {
        return Ok(keys.into_iter().map(Key).collect());
    }
    let distinct: BTreeSet<Vec<u8>> = keys.into_iter().collect();
    Ok(distinct.into_iter().map(Key).collect())
}

/// The span of bounds; `None` when a NULL among them excludes everything.
///
/// # Errors
/// Those of evaluation.
pub fn span_of(table: &Table, bounds: &Bounds, eval: &EvalContext<'_>) -> Result<Option<Span>> {
    let mut prefix = table.prefix();
    for value in &bounds.prefix {
        let datum = value.eval(&[], eval)?;
        if datum.is_null() {
            return Ok(None);
        }
        key::encode(&datum, &mut prefix.0);
    }
    let mut span = Span::prefix(&prefix);
    for (bound, is_low) in [(&bounds.low, true), (&bounds.high, false)] {
        let Some((value, inside)) = bound else { continue };
        let datum = value.eval(&[], eval)?;
        if datum.is_null() {
            return Ok(None);
        }
        let mut at = prefix.clone();
        key::encode(&datum, &mut at.0);
        // The keys of rows with this value begin with `at`; they lie inside of a lower bound that includes it.
        match (is_low, *inside) {
            (true, true) => span.start = at,
            (true, false) => span.start = at.prefix_end(),
            (false, true) => span.end = at.prefix_end(),
            (false, false) => span.end = at,
        }
    }
    Ok(if span.is_empty() { None } else { Some(span) })
}

/// The next page of a scan. Pages grow, as a scan that is asked for a second one is likely to go on.
///
/// # Errors
/// Those of evaluation and of the key-value layer.
pub(super) async fn page(
    table: &Table,
    bounds: &Bounds,
    reverse: bool,
    own: &mut Own,
    cx: &mut Context<'_>,
    goal: usize,
) -> Result<Option<Vec<Row>>> {
    let (mut rest, mut size) = match std::mem::replace(own, Own::Done) {
        Own::Scan { rest, page } => (rest, page.max(goal)),
        _ => match span_of(table, bounds, &cx.eval)? {
            Some(span) => (span, goal),
            None => return Ok(None),
        },
    };
    loop {
        size = size.clamp(1, cx.limits.batch_rows_max);
        let options = ScanOptions { rows_max: size, bytes_max: cx.limits.batch_bytes_max, reverse };
        let found = cx.txn.scan(&rest, options).await?;
        let rows =
            found.rows.iter().map(|(key, value)| row::decode(table, key, value)).collect::<Result<Vec<Row>>>()?;
        match found.resume {
            Some(resume) => {
                size = size.saturating_mul(2);
                if !rows.is_empty() {
                    *own = Own::Scan { rest: resume, page: size };
                    return Ok(Some(rows));
                }
                rest = resume;
            }
            None => return Ok(if rows.is_empty() { None } else { Some(rows) }),
        }
    }
}

/// Locks up to `goal` rows, in key order of the batch, reads them again, and drops those that have gone or do not
/// match any more. Rows beyond the goal stay ready, unlocked.
///
/// # Errors
/// Those of evaluation and of the key-value layer.
#[expect(clippy::too_many_arguments, reason = "the parts of one operator, taken apart by its only caller")]
pub(super) async fn lock<'b>(
    table: &Table,
    predicate: Option<&Expr>,
    mut ready: VecDeque<Row>,
    first: Option<Vec<Row>>,
    own: &mut Own,
    cx: &mut Context<'b>,
    (input, below): (&Node, &mut State),
    goal: usize,
) -> Result<Option<Vec<Row>>> {
    ready.extend(first.into_iter().flatten());
    loop {
        if ready.is_empty() {
            match pull(input, below, cx, goal).await? {
                Some(rows) => ready.extend(rows),
                None => {
                    *own = Own::Done;
                    return Ok(None);
                }
            }
        }
        let count = ready.len().min(goal.max(1));
        let keys: Vec<Key> = ready.drain(..count).map(|r| key::row_key(table, &r)).collect();
        let found = cx.txn.get(&keys, Lock::Exclusive).await?;
        let mut rows = Vec::with_capacity(keys.len());
        for (key, value) in keys.iter().zip(found) {
            let Some(value) = value else { continue };
            let row = row::decode(table, key, &value)?;
            if matches(predicate, &row, &cx.eval)? {
                rows.push(row);
            }
        }
        if !rows.is_empty() {
            *own = if ready.is_empty() { Own::Start } else { Own::Ready(ready) };
            return Ok(Some(rows));
        }
    }
}

fn matches(predicate: Option<&Expr>, row: &[Datum], eval: &EvalContext<'_>) -> Result<bool> {
    predicate.map_or(Ok(true), |p| Ok(p.truth(row, eval)? == Some(true)))
}
