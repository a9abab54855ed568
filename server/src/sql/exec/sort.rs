//! Sorting and `DISTINCT`, in memory up to a limit.

use std::cmp::Ordering;
use std::collections::{BTreeSet, VecDeque};

use proto::Datum;

use super::super::error::Result;
use super::super::expr::aggregate::Sorted;
use super::super::plan::{Node, SortKey};
use super::{Context, Own, Row, State, check_memory, pull, row_memory};

/// All rows of the input, sorted; rows with equal keys stay in their order.
///
/// # Errors
/// Those of the input and of evaluation; `53200`.
pub async fn run<'b>(input: &Node, keys: &[SortKey], below: &mut State, cx: &mut Context<'b>) -> Result<VecDeque<Row>> {
    let mut rows: Vec<(Row, Row)> = Vec::new();
    let mut bytes = 0;
    let goal = cx.limits.batch_rows_max;
    while let Some(batch) = pull(input, below, cx, goal).await? {
        for row in batch {
            let values: Row = keys.iter().map(|k| k.expr.eval(&row, &cx.eval)).collect::<Result<_>>()?;
            bytes += row_memory(&row) + row_memory(&values);
            check_memory(bytes, cx.limits, "a sort")?;
            rows.push((values, row));
        }
    }
    rows.sort_by(|(a, _), (b, _)| compare(keys, a, b));
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

fn compare(keys: &[SortKey], a: &[Datum], b: &[Datum]) -> Ordering {
    for (key, (a, b)) in keys.iter().zip(a.iter().zip(b)) {
        let order = match (a.is_null(), b.is_null()) {
            (false, false) if key.descending => b.sort_order(a),
            (false, false) => a.sort_order(b),
            (x, y) if key.nulls_first => y.cmp(&x),
            (x, y) => x.cmp(&y),
        };
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

/// The next rows that have not been seen before. NULLs are alike.
///
/// # Errors
/// Those of the input; `53200`.
pub(super) async fn distinct<'b>(
    input: &Node,
    own: &mut Own,
    below: &mut State,
    cx: &mut Context<'b>,
    goal: usize,
) -> Result<Option<Vec<Row>>> {
    if !matches!(own, Own::Distinct { .. }) {
        *own = Own::Distinct { seen: BTreeSet::new(), bytes: 0 };
    }
    let Own::Distinct { seen, bytes } = own else { return Ok(None) };
    loop {
        let Some(rows) = pull(input, below, cx, goal).await? else { return Ok(None) };
        let mut fresh = Vec::with_capacity(rows.len());
        for row in rows {
            let key: Vec<Sorted> = row.iter().cloned().map(Sorted).collect();
            if seen.insert(key) {
                *bytes += row_memory(&row);
                check_memory(*bytes, cx.limits, "DISTINCT")?;
                fresh.push(row);
            }
        }
        if !fresh.is_empty() {
            return Ok(Some(fresh));
        }
    }
}
