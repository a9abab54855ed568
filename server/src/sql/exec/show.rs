//! What `SHOW` shows.

use std::sync::Arc;

use proto::transaction::{TxnAddress, TxnOutcome};
use proto::{Datum, Span, Timestamp};

use super::super::catalog;
use super::super::error::{Result, conflict_sentence};
use super::super::expr::EvalContext;
use super::super::plan::Show;
use super::super::schema::Table;
use super::super::variables::SessionInfo;
use super::place::place;
use super::system::{number, text};
use super::{Row, ddl, system};
use crate::kv::{Conflict, Kv, Transaction};

/// The rows of a `SHOW`.
///
/// # Errors
/// Those of the key-value layer.
pub async fn run(
    show: &Show,
    kv: &dyn Kv,
    txn: &mut dyn Transaction,
    session: &SessionInfo,
    eval: &EvalContext<'_>,
) -> Result<Vec<Row>> {
    Ok(match show {
        Show::Variable(name) => vec![vec![text(session.variables.get(name)?)]],
        Show::AllVariables => {
            session.variables.all().into_iter().map(|(name, value)| vec![text(name), text(value)]).collect()
        }
        Show::Ranges(table) => {
            let span = table.as_ref().map_or_else(Span::all, |table| table.span());
            system::ranges(&span, kv, &catalog::list(txn).await?).await?
        }
        Show::RangeOfRow(table, row) => {
            let key = ddl::key_of(table, row, eval)?;
            system::ranges(&Span::point(&key), kv, &catalog::list(txn).await?).await?
        }
        Show::Placement(table) => placement(table.as_deref(), txn).await?,
        Show::Jobs(limit) => {
            let max = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
            system::decisions(max, kv, &catalog::list(txn).await?).await?
        }
        Show::Refusals => system::refusals(kv).await?,
        Show::Columns(table) => columns(table),
        Show::Clock | Show::Nodes => of_node(show, kv).unwrap_or_default(),
        Show::Retries => retries(kv, &catalog::list(txn).await?),
        Show::Databases => vec![vec![text(session.database.clone())]],
        Show::Tables => catalog::list(txn).await?.iter().map(|t| vec![text(t.name())]).collect(),
        // With where its outcome will be kept, as soon as that is settled.
        Show::TransactionId => vec![vec![text(txn.address().map_or_else(|| txn.id().to_string(), |a| a.to_string()))]],
        Show::Transaction(address) => vec![outcome(address, kv).await?],
    })
}

/// What is wished for one table, or for all for which something is.
async fn placement(table: Option<&Table>, txn: &mut dyn Transaction) -> Result<Vec<Row>> {
    let tables = match table {
        // As it is now, and not as this node remembers it.
        Some(table) => catalog::read(txn, table.name()).await?.into_iter().collect(),
        None => catalog::list(txn).await?,
    };
    let row = |t: &Arc<Table>| match &t.descriptor().placement {
        Some(rules) => Some(vec![text(t.name()), text(rules.to_string())]),
        None => table.map(|_| vec![text(t.name()), Datum::Null]),
    };
    Ok(tables.iter().filter_map(row).collect())
}

async fn outcome(address: &TxnAddress, kv: &dyn Kv) -> Result<Row> {
    let (status, at) = match kv.outcome(address).await? {
        TxnOutcome::Committed(at) => ("committed", Some(at)),
        TxnOutcome::Aborted => ("aborted", None),
    };
    let micros = at.and_then(|at| i64::try_from(at.micros()).ok());
    Ok(vec![
        text(address.to_string()),
        text(status),
        micros.map_or(Datum::Null, Datum::TimestampTz),
        at.map_or(Datum::Null, |at| text(at.to_string())),
    ])
}

fn columns(table: &Table) -> Vec<Row> {
    let shown = table.columns().iter().enumerate().filter(|(_, c)| !c.hidden);
    let row = |(ordinal, column): (usize, &super::super::schema::Column)| {
        let place = table.key_ordinals().iter().position(|o| *o == ordinal);
        vec![
            text(column.name.clone()),
            text(column.data_type.to_string()),
            Datum::Bool(column.nullable),
            column.default.clone().map_or(Datum::Null, Datum::Text),
            place.map_or(Datum::Null, |p| number(u64::try_from(p + 1).unwrap_or(0))),
        ]
    };
    shown.map(row).collect()
}

/// What a node knows of itself: it can be asked without any transaction, also of one that serves none.
pub fn of_node(show: &Show, kv: &dyn Kv) -> Option<Vec<Row>> {
    match show {
        Show::Clock => Some(vec![clock(kv)]),
        Show::Nodes => Some(system::nodes(kv)),
        _ => None,
    }
}

fn clock(kv: &dyn Kv) -> Row {
    let clock = kv.clock();
    let moment = |ts: proto::Timestamp| i64::try_from(ts.micros()).map_or(Datum::Null, Datum::TimestampTz);
    vec![
        text(clock.source),
        clock.max_error.map_or(Datum::Null, |e| number(u64::try_from(e.as_micros()).unwrap_or(u64::MAX))),
        moment(clock.earliest),
        moment(clock.latest),
        text(clock.hlc.to_string()),
        text(clock.standing),
    ]
}

/// One conflict a row, the newest first.
fn retries(kv: &dyn Kv, tables: &[Arc<Table>]) -> Vec<Row> {
    let row = |(time, conflict): (Timestamp, Conflict)| {
        let place = conflict.key.as_ref().map(|key| place(key, tables));
        vec![
            i64::try_from(time.micros()).map_or(Datum::Null, Datum::TimestampTz),
            text(conflict.reason.name()),
            text(conflict.txn.to_string()),
            text(conflict.read.to_string()),
            conflict.other.map_or(Datum::Null, |id| text(id.to_string())),
            place.clone().map_or(Datum::Null, text),
            text(conflict.at.to_string()),
            text(conflict_sentence(&conflict, place.as_deref())),
        ]
    };
    kv.recent_conflicts().into_iter().map(row).collect()
}
