//! `meridian node`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use client::driver::{Admin, Client, Error, NodeChange, NodeSummary, RangeScope};

use super::args::{ClusterArgs, NodeArgs, NodeId};
use super::fail;

pub async fn run(args: NodeArgs) -> ExitCode {
    let (cluster, change) = match args {
        NodeArgs::List { cluster } => (cluster, None),
        NodeArgs::Drain(NodeId { id, cluster }) => (cluster, Some((id, NodeChange::Drain))),
        NodeArgs::Undrain(NodeId { id, cluster }) => (cluster, Some((id, NodeChange::Undrain))),
        NodeArgs::Decommission { node: NodeId { id, cluster }, finish: false } => {
            (cluster, Some((id, NodeChange::Decommission)))
        }
        NodeArgs::Decommission { node: NodeId { id, cluster }, finish: true } => {
            (cluster, Some((id, NodeChange::Finish)))
        }
    };
    let client = match connect(&cluster).await {
        Ok(client) => client,
        Err(error) => return fail(&error.to_string()),
    };
    let admin = client.admin();
    let result = match change {
        None => list(&admin).await,
        Some((id, change)) => admin.change_node(id, change).await.map(|node| told(&node)),
    };
    match result {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("meridian: {}", error.message());
            ExitCode::from(1)
        }
    }
}

async fn connect(cluster: &ClusterArgs) -> Result<Client, Error> {
    Client::connect(&cluster.addr).await
}

/// What to say of a node that was changed, and what comes next.
fn told(node: &NodeSummary) -> String {
    let next = match node.state.as_str() {
        "draining" => ": it hands its ranges over, and leads none from then on",
        "decommissioning" => ": once it holds no replicas any more, end its membership with --finish",
        "decommissioned" => ": it can be stopped, and its store directory deleted",
        _ => "",
    };
    format!("node {} is {}{next}", node.id, node.state)
}

/// A line a node. What ranges they hold stays out where it cannot be learned.
async fn list(admin: &Admin) -> Result<String, Error> {
    let nodes = admin.nodes().await?;
    let ranges = admin.ranges(RangeScope::All).await.ok();
    let mut held: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for range in ranges.iter().flatten() {
        for node in &range.replica_nodes {
            held.entry(*node).or_default().0 += 1;
        }
        if let Some(leader) = range.leader {
            held.entry(leader).or_default().1 += 1;
        }
    }
    let mut table = vec![["id", "address", "locality", "state", "live", "replicas", "leads"].map(String::from)];
    for node in nodes {
        let (replicas, leads) = held.get(&node.id).copied().unwrap_or_default();
        let count = |n: u64| if ranges.is_some() { n.to_string() } else { "?".into() };
        let live = if node.live { "yes" } else { "no" };
        table.push([
            node.id.to_string(),
            node.address,
            if node.locality.is_empty() { "-".into() } else { node.locality },
            node.state,
            live.into(),
            count(replicas),
            count(leads),
        ]);
    }
    Ok(aligned(&table))
}

fn aligned<const N: usize>(table: &[[String; N]]) -> String {
    let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_string()
    };
    table.iter().map(line).collect::<Vec<_>>().join("\n")
}
