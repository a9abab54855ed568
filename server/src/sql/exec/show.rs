//! What `SHOW` shows.

use std::fmt::Write;
use std::sync::Arc;

use proto::transaction::{TxnAddress, TxnOutcome};
use proto::{Datum, Key, Span, Timestamp, keyspace};

use super::super::catalog;
use super::super::encoding::key as key_encoding;
use super::super::error::{Result, conflict_sentence};
use super::super::expr::show::literal;
use super::super::plan::Show;
use super::super::schema::{Table, split_row_key};
use super::super::variables::SessionInfo;
use super::Row;
use crate::kv::{Conflict, Kv, Transaction};

/// The rows of a `SHOW`.
///
/// # Errors
/// Those of the key-value layer.
pub async fn run(show: &Show, kv: &dyn Kv, txn: &mut dyn Transaction, session: &SessionInfo) -> Result<Vec<Row>> {
    Ok(match show {
        Show::Variable(name) => vec![vec![text(session.variables.get(name)?)]],
        Show::AllVariables => {
            session.variables.all().into_iter().map(|(name, value)| vec![text(name), text(value)]).collect()
        }
        Show::Ranges(table) => ranges(table.as_deref(), kv, txn).await?,
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

fn text(value: impl Into<String>) -> Datum {
    Datum::Text(value.into())
}

fn number(value: u64) -> Datum {
    Datum::Int8(i64::try_from(value).unwrap_or(i64::MAX))
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
        Show::Nodes => Some(nodes(kv)),
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
        let place = conflict.key.as_ref().map(|key| bound(key, tables));
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

fn nodes(kv: &dyn Kv) -> Vec<Row> {
    let row = |node: crate::kv::NodeInfo| {
        let (id, address, locality) = (node.descriptor.id, node.descriptor.address, node.descriptor.locality);
        let state = text(node.state.name());
        vec![number(id.0), text(address), text(locality.to_string()), state, Datum::Bool(node.live)]
    };
    kv.nodes().into_iter().map(row).collect()
}

async fn ranges(table: Option<&Table>, kv: &dyn Kv, txn: &mut dyn Transaction) -> Result<Vec<Row>> {
    let tables = catalog::list(txn).await?;
    let span = table.map_or_else(Span::all, Table::span);
    let ranges = kv.ranges(&span).await?;
    let row = |range: crate::kv::RangeInfo| {
        let replicas: Vec<String> = range.descriptor.replicas.iter().map(|r| r.node.0.to_string()).collect();
        vec![
            number(range.descriptor.id.0),
            text(bound(&range.descriptor.start, &tables)),
            text(bound(&range.descriptor.end, &tables)),
            range.leader.map_or(Datum::Null, |n| number(n.0)),
            text(replicas.join(",")),
            number(range.descriptor.epoch.0),
        ]
    };
    Ok(ranges.into_iter().map(row).collect())
}

/// A key in SQL terms: `accounts (5)`, or the part of the key space that it lies in.
fn bound(key: &Key, tables: &[Arc<Table>]) -> String {
    if *key == Key::MIN {
        return "<start>".to_string();
    }
    if *key >= Key::max() {
        return "<end>".to_string();
    }
    if let Some((id, primary_key)) = split_row_key(key) {
        let Some(table) = tables.iter().find(|t| t.id() == id) else { return format!("<table {id}>") };
        if primary_key.is_empty() {
            return table.name().to_string();
        }
        if let Ok(datums) = key_encoding::decode_prefix(table.key_types(), primary_key) {
            let values: Vec<String> = datums.iter().map(literal).collect();
            return format!("{} ({})", table.name(), values.join(", "));
        }
        return format!("{} at {key}", table.name());
    }
    part_of_key_space(key)
}

fn part_of_key_space(key: &Key) -> String {
    let (name, rest) = match key.as_bytes() {
        [keyspace::META, rest @ ..] => ("meta", rest),
        [keyspace::SYSTEM, rest @ ..] => ("system", rest),
        [keyspace::CATALOG, rest @ ..] => ("catalog", rest),
        [keyspace::TABLES, rest @ ..] => ("tables", rest),
        [keyspace::APPLICATION, rest @ ..] => ("application", rest),
        [keyspace::IDEMPOTENCY, rest @ ..] => ("idempotency keys", rest),
        rest => ("unassigned", rest),
    };
    let mut out = format!("<{name}>");
    if !rest.is_empty() {
        let _ = write!(out, " {}", Key(rest.to_vec()));
    }
    out
}
