//! Aggregation: one pass over the input, one set of accumulators a group.

use std::collections::{BTreeMap, VecDeque};

use proto::Datum;

use super::super::error::Result;
use super::super::expr::aggregate::{Accumulator, AggregateCall, Sorted};
use super::super::expr::{EvalContext, Expr};
use super::super::plan::Node;
use super::{Context, Row, State, check_memory, pull, row_memory};

/// The groups, in the order of their keys. Without keys there is exactly one.
///
/// # Errors
/// Those of the input and of evaluation; `53200` for too many groups.
pub async fn run<'b>(
    input: &Node,
    keys: &[Expr],
    calls: &[AggregateCall],
    below: &mut State,
    cx: &mut Context<'b>,
) -> Result<VecDeque<Row>> {
    let fresh = || calls.iter().map(Accumulator::new).collect::<Vec<_>>();
    let mut groups: BTreeMap<Vec<Sorted>, Vec<Accumulator>> = BTreeMap::new();
    if keys.is_empty() {
        groups.insert(Vec::new(), fresh());
    }
    let mut bytes = 0;
    let goal = cx.limits.batch_rows_max;
    while let Some(rows) = pull(input, below, cx, goal).await? {
        for row in rows {
            let key = keys.iter().map(|k| Ok(Sorted(k.eval(&row, &cx.eval)?))).collect::<Result<Vec<_>>>()?;
            let accumulators = match groups.get_mut(&key) {
                Some(found) => found,
                None => {
                    let kept: usize = key.iter().map(|k| k.0.memory()).sum();
                    bytes += kept + calls.len() * std::mem::size_of::<Accumulator>();
                    groups.entry(key).or_insert_with(fresh)
                }
            };
            for (call, accumulator) in calls.iter().zip(accumulators) {
                bytes += add(call, accumulator, &row, &cx.eval)?;
            }
            check_memory(bytes, cx.limits, "an aggregation")?;
        }
    }
    let mut out = VecDeque::with_capacity(groups.len());
    for (key, accumulators) in groups {
        let mut row: Row = key.into_iter().map(|k| k.0).collect();
        for accumulator in accumulators {
            row.push(accumulator.finish()?);
        }
        bytes += row_memory(&row);
        check_memory(bytes, cx.limits, "an aggregation")?;
        out.push_back(row);
    }
    Ok(out)
}

fn add(call: &AggregateCall, accumulator: &mut Accumulator, row: &[Datum], eval: &EvalContext<'_>) -> Result<usize> {
    if let Some(filter) = &call.filter
        && filter.truth(row, eval)? != Some(true)
    {
        return Ok(0);
    }
    match &call.arg {
        Some(arg) => accumulator.add(arg.eval(row, eval)?),
        None => {
            accumulator.add_row();
            Ok(0)
        }
    }
}
