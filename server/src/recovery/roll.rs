//! Whether everybody is accounted for: each member's store is here, or the member is given up.
//!
//! A store that was forgotten would be given up with all that it alone holds. So nothing is taken for dead that was not named.

use std::collections::{BTreeMap, BTreeSet};

use proto::{NodeId, NodeRecord};

use super::findings::Findings;
use super::plan::Dead;

/// The members as the survivors know them together, in order.
pub fn members(findings: &[Findings]) -> BTreeMap<NodeId, NodeRecord> {
    let mut members: BTreeMap<NodeId, NodeRecord> = BTreeMap::new();
    for record in findings.iter().flat_map(|found| &found.store.members) {
        let known = members.entry(record.descriptor.id).or_insert_with(|| record.clone());
        // Whoever is no member any more is none for good.
        match (known.state.is_member(), record.state.is_member()) {
            (true, false) => known.clone_from(record),
            (true, true) if record.run > known.run => known.clone_from(record),
            _ => {}
        }
    }
    members
}

/// Those who are given up.
///
/// # Errors
/// What is wrong, in sentences.
pub fn call(findings: &[Findings], dead: &BTreeSet<NodeId>) -> Result<Vec<Dead>, Vec<String>> {
    let Some(first) = findings.first() else { return Err(vec!["no store was given".into()]) };
    let mut complaints = Vec::new();
    let mut here = BTreeSet::new();
    for Findings { store, .. } in findings {
        if store.cluster != first.store.cluster {
            let (ours, theirs) = (first.store.cluster, store.cluster);
            complaints.push(format!("{} belongs to cluster {theirs}, and {} to {ours}", store.node, first.store.node));
        }
        if !here.insert(store.node) {
            complaints.push(format!("the store of {} was given twice, or there are two copies of it", store.node));
        }
        if let Some(plan) = &store.begun {
            let node = store.node;
            complaints.push(format!("plan {plan} was begun on {node} and not finished: apply it there again first"));
        }
    }
    let members = members(findings);
    let address = |node: &NodeId| members.get(node).map(|record| record.descriptor.address.clone()).unwrap_or_default();
    let holders = findings.iter().flat_map(|found| &found.replicas).flat_map(|found| &found.state.descriptor.replicas);
    let holders: BTreeSet<NodeId> = holders.map(|replica| replica.node).filter(|n| !members.contains_key(n)).collect();
    for record in members.values() {
        let node = record.descriptor.id;
        match (record.state.is_member(), here.contains(&node)) {
            (true, false) if !dead.contains(&node) => complaints.push(format!(
                "{node} ({}) is a member, and its store is not here: give its directory or what `recover collect` has made \
                 of it, or give it up for good with --dead {}",
                record.descriptor.address, node.0
            )),
            (false, true) => complaints.push(format!("{node} is no member of the cluster any more: leave its store out")),
            _ => {}
        }
    }
    for node in &holders {
        if !here.contains(node) && !dead.contains(node) {
            complaints.push(format!(
                "{node} holds replicas, and its store is not here: give it, or give it up for good with --dead {}",
                node.0
            ));
        }
    }
    for node in dead {
        if here.contains(node) {
            complaints.push(format!("{node} is given up, and yet its store is here: it is one or the other"));
        } else if !members.contains_key(node) && !holders.contains(node) {
            complaints.push(format!("{node} is given up, and nobody knows it"));
        }
    }
    if !complaints.is_empty() {
        return Err(complaints);
    }
    Ok(dead.iter().map(|node| Dead { node: node.0, address: address(node) }).collect())
}
