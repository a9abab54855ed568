//! The rows of the tables that the cluster tells of itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::range::Note;
use proto::{Datum, RangeDescriptor, RangeId, ReplicaDescriptor, ReplicaRole, Span, Timestamp};

use super::super::catalog;
use super::super::error::{Error, Result, state};
use super::super::schema::Table;
use super::super::system::SystemTable;
use super::place::place;
use super::{Context, Row};
use crate::kv::decisions::{self, Decision};
use crate::kv::{Kv, NodeInfo, RangeSurvey};

/// More decisions than are ever kept.
const DECISIONS_MAX: usize = 10_000;

pub(super) fn text(value: impl Into<String>) -> Datum {
    Datum::Text(value.into())
}

pub(super) fn number(value: u64) -> Datum {
    Datum::Int8(i64::try_from(value).unwrap_or(i64::MAX))
}

fn moment(time: Timestamp) -> Datum {
    i64::try_from(time.micros()).map_or(Datum::Null, Datum::TimestampTz)
}

/// All rows of a table.
///
/// # Errors
/// Those of the key-value layer.
pub async fn scan(table: SystemTable, cx: &mut Context<'_>) -> Result<Vec<Row>> {
    let kv = cx.eval.kv.ok_or_else(|| Error::new(state::INTERNAL, "tables of the system are read with a gateway"))?;
    match table {
        SystemTable::Ranges => ranges(&Span::all(), kv, &catalog::list(cx.txn).await?).await,
        SystemTable::Nodes => Ok(nodes(kv)),
        SystemTable::Decisions => decisions(usize::MAX, kv, &catalog::list(cx.txn).await?).await,
        SystemTable::Refusals => refusals(kv).await,
    }
}

/// The ranges that overlap a span.
///
/// # Errors
/// When it cannot be found out which there are. Of one that nobody leads, less is told.
pub async fn ranges(span: &Span, kv: &dyn Kv, tables: &[Arc<Table>]) -> Result<Vec<Row>> {
    let surveys = kv.survey(span).await?;
    let mut last: BTreeMap<RangeId, Decision> = BTreeMap::new();
    // How ranges stand is worth telling without them.
    for decision in decisions::latest(kv, DECISIONS_MAX).await.unwrap_or_default() {
        last.entry(decision.range).or_insert(decision);
    }
    let row = |survey: RangeSurvey| range(&survey, last.get(&survey.descriptor.id), tables);
    Ok(surveys.into_iter().map(row).collect())
}

fn range(survey: &RangeSurvey, decision: Option<&Decision>, tables: &[Arc<Table>]) -> Row {
    let (descriptor, status) = (&survey.descriptor, survey.status.as_ref());
    let table = tables.iter().find(|table| table.span().covers(&descriptor.span()));
    let decided = |d: &Decision| text(format!("{}: {}, {}", what(d, tables), d.why, d.outcome));
    vec![
        number(descriptor.id.0),
        table.map_or(Datum::Null, |table| text(table.name())),
        text(place(&descriptor.start, tables)),
        text(place(&descriptor.end, tables)),
        status.map_or(Datum::Null, |s| number(s.bytes)),
        status.map_or(Datum::Null, |s| number(s.load)),
        status.map_or(Datum::Null, |s| number(s.leader.0)),
        text(replicas(descriptor)),
        number(descriptor.epoch.0),
        status.map_or(Datum::Null, |s| Datum::Bool(s.pinned)),
        status.and_then(|s| s.note.as_ref()).map_or(Datum::Null, |note| text(said(note, tables))),
        decision.map_or(Datum::Null, decided),
        decision.map_or(Datum::Null, |d| moment(d.at)),
    ]
}

/// A leader's note, and where in its range it applies.
fn said(note: &Note, tables: &[Arc<Table>]) -> String {
    match &note.key {
        Some(key) => format!("at {}: {}", place(key, tables), note.text),
        None => note.text.clone(),
    }
}

/// The nodes that hold replicas: `1,2,3`, and what those are that are no plain voters: `4:learner`.
fn replicas(descriptor: &RangeDescriptor) -> String {
    let shown = |replica: &ReplicaDescriptor| {
        let node = replica.node.0;
        match replica.role {
            ReplicaRole::Voter => node.to_string(),
            ReplicaRole::Learner => format!("{node}:learner"),
            ReplicaRole::NonVoter => format!("{node}:non-voter"),
            ReplicaRole::Incoming => format!("{node}:incoming"),
            ReplicaRole::Outgoing => format!("{node}:outgoing"),
        }
    };
    descriptor.replicas.iter().map(shown).collect::<Vec<_>>().join(",")
}

/// The nodes, as this one knows them.
pub fn nodes(kv: &dyn Kv) -> Vec<Row> {
    let row = |node: NodeInfo| {
        let (id, address, locality) = (node.descriptor.id, node.descriptor.address, node.descriptor.locality);
        let held = node.holdings;
        vec![
            number(id.0),
            text(address),
            text(locality.to_string()),
            text(node.state.name()),
            Datum::Bool(node.live),
            held.map_or(Datum::Null, |held| number(held.replicas)),
            held.map_or(Datum::Null, |held| number(held.leads)),
            held.map_or(Datum::Null, |held| number(held.bytes)),
        ]
    };
    kv.nodes().into_iter().map(row).collect()
}

/// The latest decisions about ranges, the newest first.
///
/// # Errors
/// Those of the key-value layer.
pub async fn decisions(max: usize, kv: &dyn Kv, tables: &[Arc<Table>]) -> Result<Vec<Row>> {
    let row = |decision: Decision| {
        vec![
            moment(decision.at),
            number(decision.node.0),
            number(decision.range.0),
            text(what(&decision, tables)),
            text(decision.why),
            text(decision.outcome),
        ]
    };
    Ok(decisions::latest(kv, max.min(DECISIONS_MAX)).await?.into_iter().map(row).collect())
}

fn what(decision: &Decision, tables: &[Arc<Table>]) -> String {
    match &decision.key {
        Some(key) => format!("{} {}", decision.what, place(key, tables)),
        None => decision.what.clone(),
    }
}

/// What the placement driver cannot do now, and why.
///
/// # Errors
/// Those of the key-value layer.
pub async fn refusals(kv: &dyn Kv) -> Result<Vec<Row>> {
    Ok(decisions::refusals(kv).await?.into_iter().map(|refusal| vec![text(refusal)]).collect())
}
