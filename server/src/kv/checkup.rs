//! Whether all is well with the ranges: for whoever has recovered a cluster, and for anybody else who wonders.

use std::collections::BTreeMap;

use proto::{Key, NodeId, RangeDescriptor, ReplicaRole, Span};

use super::api::{BeginOptions, RangeSurvey};
use super::db::Db;
use super::error::Error;
use super::meta::meta_span;
use super::registry::{decode, scan_all};
use super::wishes;

/// What is said, and of which range.
type Word = (Option<RangeDescriptor>, String);

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkup {
    pub faults: Vec<Word>,
    /// Ranges that have not as many live voters as they should have.
    pub lacking: Vec<Word>,
    pub ranges: u64,
}

/// Voters of a range that nobody has wished anything for.
const VOTERS: u32 = 3;

impl Db {
    /// See [`super::Kv::check`].
    ///
    /// # Errors
    /// When the meta range does not answer.
    pub(super) async fn check_all(&self) -> Result<Checkup, Error> {
        let mut checkup = Checkup::default();
        let options = BeginOptions { read_only: true, ..BeginOptions::default() };
        let rows = self.transact_with(options, |txn| Box::pin(scan_all(txn, meta_span()))).await?;
        let rows = rows.iter().map(|bytes| decode("a range descriptor", bytes)).collect::<Result<Vec<_>, _>>()?;
        checkup.faults.extend(seams(&rows));
        let members: BTreeMap<NodeId, bool> = self.live_members();
        let silent = members.iter().filter(|(_, live)| !**live);
        checkup.faults.extend(silent.map(|(node, _)| (None, format!("{node} is a member and does not answer"))));
        let wished = wishes::all(self).await?;
        for RangeSurvey { descriptor, status } in self.survey_ranges(&Span::all()).await? {
            checkup.ranges += 1;
            let covers = |wish: &&wishes::Wish| wish.span.covers(&descriptor.span());
            let wanted = wished.iter().find(covers).and_then(|wish| wish.rules.replicas).unwrap_or(VOTERS);
            let lacks = lacking(&descriptor, wanted, &members);
            match status {
                None => checkup.faults.push((Some(descriptor), "has no leader that answers".into())),
                Some(_) => checkup.lacking.extend(lacks.map(|words| (Some(descriptor), words))),
            }
        }
        Ok(checkup)
    }

    fn live_members(&self) -> BTreeMap<NodeId, bool> {
        let nodes = super::Kv::nodes(self);
        nodes.into_iter().filter(|node| node.state.is_member()).map(|node| (node.descriptor.id, node.live)).collect()
    }
}

/// Where the map of the ranges has a gap, or two ranges hold the same keys.
fn seams(rows: &[RangeDescriptor]) -> Vec<Word> {
    let mut faults = Vec::new();
    let mut end = Key::MIN;
    for row in rows {
        if end < row.start {
            faults.push((None, format!("the map of the ranges has no range for {}", span(&end, &row.start))));
        }
        if row.start < end {
            let both = span(&row.start, &end.clone().min(row.end.clone()));
            faults.push((Some(row.clone()), format!("and the range before it both hold {both}, as the map has them")));
        }
        end = end.max(row.end.clone());
    }
    if end < Key::max() {
        faults.push((None, format!("the map of the ranges has no range for {}", span(&end, &Key::max()))));
    }
    faults
}

fn span(start: &Key, end: &Key) -> Span {
    Span { start: start.clone(), end: end.clone() }
}

/// What a range lacks: voters on members that answer.
fn lacking(range: &RangeDescriptor, wanted: u32, members: &BTreeMap<NodeId, bool>) -> Option<String> {
    let voters = range.replicas.iter().filter(|r| matches!(r.role, ReplicaRole::Voter | ReplicaRole::Incoming));
    let (there, gone): (Vec<NodeId>, Vec<NodeId>) =
        voters.map(|voter| voter.node).partition(|node| members.get(node) == Some(&true));
    let enough = there.len() >= wanted as usize && gone.is_empty();
    let names = |nodes: &[NodeId]| nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let on = format!("has {} of {wanted} voters, on {}", there.len(), names(&there));
    let lost = if gone.is_empty() { String::new() } else { format!("; the one on {} is to be replaced", names(&gone)) };
    (!enough).then(|| on + &lost)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::{Epoch, RangeId, ReplicaDescriptor, ReplicaId};

    fn range(id: u64, start: &str, end: Key, nodes: &[u64]) -> RangeDescriptor {
        let replicas = nodes.iter().map(|n| ReplicaDescriptor::voter(NodeId(*n), ReplicaId(*n))).collect();
        RangeDescriptor::new(RangeId(id), Span { start: Key::from(start), end }, Epoch(1), replicas)
    }

    #[test]
    fn gaps_and_overlaps_are_found() {
        let whole = [range(1, "", Key::from("m"), &[]), range(2, "m", Key::max(), &[])];
        assert_eq!(seams(&whole), []);
        let words = |rows: &[RangeDescriptor]| seams(rows).into_iter().map(|(_, words)| words).collect::<Vec<_>>();
        assert!(words(&whole[1..])[0].contains("no range for [, m)"));
        assert!(words(&whole[..1])[0].contains("no range for [m, "));
        let wide = [range(1, "", Key::from("p"), &[]), range(2, "m", Key::max(), &[])];
        assert!(words(&wide)[0].contains("both hold [m, p)"), "{:?}", words(&wide));
    }

    #[test]
    fn a_range_lacks_voters_on_nodes_that_answer() {
        let members = BTreeMap::from([(NodeId(1), true), (NodeId(2), true), (NodeId(3), false)]);
        let of = |nodes: &[u64], wanted| lacking(&range(1, "", Key::max(), nodes), wanted, &members);
        assert_eq!(of(&[1, 2], 2), None);
        assert_eq!(of(&[1], 3).unwrap(), "has 1 of 3 voters, on n1");
        assert!(of(&[1, 2, 3], 3).unwrap().contains("the one on n3 is to be replaced"));
        assert!(of(&[1, 2, 9], 2).is_some(), "on a node that is no member");
    }
}
