//! The servers' own counters, before and after a run.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::driver::{Client, Config};

/// Counters by node address.
pub type Snapshot = BTreeMap<String, BTreeMap<String, u64>>;

/// What the servers counted during a run, on all nodes that answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Counters {
    /// Transactions committed.
    pub commits: u64,
    /// Times that a log was synced to disk. Each node syncs its own.
    pub log_syncs: u64,
    /// `commits / log_syncs`.
    pub commits_per_log_sync: f64,
}

/// The counters of every member of the cluster that answers.
pub async fn collect(client: &Client) -> Snapshot {
    let answers = match everyone(client).await {
        Some(everyone) => everyone.admin().stats().await,
        None => client.admin().stats().await,
    };
    answers.into_iter().filter_map(|(address, counters)| Some((address, counters.ok()?))).collect()
}

/// A client of all members that live, not only of those that the benchmark was told of.
async fn everyone(client: &Client) -> Option<Client> {
    let nodes = client.admin().nodes().await.ok()?;
    let addresses: Vec<String> = nodes.into_iter().filter(|node| node.live).map(|node| node.address).collect();
    Client::with_config(Config::new(&addresses.join(",")).ok()?).await.ok()
}

impl Counters {
    /// What was counted between two moments; `None` if no node told both counters. A node that was restarted between them
    /// counted from 0.
    pub fn between(before: &Snapshot, after: &Snapshot) -> Option<Counters> {
        let commits = grown(before, after, "commits_total")?;
        let log_syncs = grown(before, after, "log_syncs_total")?;
        let commits_per_log_sync = if log_syncs > 0 { commits as f64 / log_syncs as f64 } else { 0.0 };
        Some(Counters { commits, log_syncs, commits_per_log_sync })
    }
}

fn grown(before: &Snapshot, after: &Snapshot, name: &str) -> Option<u64> {
    let each = after.iter().filter_map(|(node, counters)| {
        let after = *counters.get(name)?;
        let before = before.get(node).and_then(|counters| counters.get(name)).copied().unwrap_or(0);
        Some(after.checked_sub(before).unwrap_or(after))
    });
    each.reduce(|a, b| a + b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(nodes: &[(&str, u64, u64)]) -> Snapshot {
        let counters = |commits, syncs| {
            BTreeMap::from([("commits_total".to_string(), commits), ("log_syncs_total".to_string(), syncs)])
        };
        nodes.iter().map(|&(node, commits, syncs)| (node.to_string(), counters(commits, syncs))).collect()
    }

    #[test]
    fn a_restarted_node_counts_from_zero() {
        let before = snapshot(&[("a", 100, 10), ("b", 50, 50), ("c", 7, 7)]);
        let after = snapshot(&[("a", 180, 30), ("b", 20, 20)]);
        let counters = Counters::between(&before, &after).unwrap();
        assert_eq!(counters, Counters { commits: 100, log_syncs: 40, commits_per_log_sync: 2.5 });
        assert_eq!(Counters::between(&before, &Snapshot::new()), None);
    }
}
