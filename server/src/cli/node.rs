//! `meridian node`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

use client::driver::{Admin, Client, Error, NodeChange, NodeSummary, RangeScope};

use super::args::{ClusterArgs, NodeArgs, NodeId};
use super::fail;

pub async fn run(args: NodeArgs) -> ExitCode {
    let (cluster, change) = match args {
        NodeArgs::List { cluster } => (cluster, None),
        NodeArgs::Drain(NodeId { id, cluster }) => (cluster, Some((id, NodeChange::Drain))),
        NodeArgs::Undrain(NodeId { id, cluster }) => (cluster, Some((id, NodeChange::Undrain))),
        NodeArgs::Decommission { node: NodeId { id, cluster }, no_wait: true } => {
            (cluster, Some((id, NodeChange::Decommission)))
        }
        NodeArgs::Decommission { node: NodeId { id, cluster }, no_wait: false } => {
            return decommission(&cluster, id).await;
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

/// Has a node lose its replicas, tells how far that is, and ends its membership.
async fn decommission(cluster: &ClusterArgs, id: u64) -> ExitCode {
    let client = match connect(cluster).await {
        Ok(client) => client,
        Err(error) => return fail(&error.to_string()),
    };
    match until_empty(&client, id).await {
        Ok(node) => {
            println!("{}", told(&node));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("meridian: {}", error.message());
            ExitCode::from(1)
        }
    }
}

async fn until_empty(client: &Client, id: u64) -> Result<NodeSummary, Error> {
    const LOOK_EVERY: Duration = Duration::from_secs(1);
    let admin = client.admin();
    let node = admin.change_node(id, NodeChange::Decommission).await?;
    if node.state == "decommissioned" {
        return Ok(node);
    }
    let mut said = String::new();
    loop {
        let ranges = admin.ranges(RangeScope::All).await?;
        let left = ranges.iter().filter(|range| range.replica_nodes.contains(&id)).count();
        if left == 0 {
            return admin.change_node(id, NodeChange::Finish).await;
        }
        let mut now = format!("node {id} holds {left} replicas still");
        for refusal in refusals(client).await {
            let _ = write!(now, "\n  {refusal}");
        }
        if now != said {
            println!("{now}");
            said = now;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What stands in the placement driver's way, in its words.
async fn refusals(client: &Client) -> Vec<String> {
    let rows = client.query("SHOW REFUSALS", &[]).await.unwrap_or_default();
    rows.iter().filter_map(|row| row.get::<String>("why").ok()).collect()
}

/// What to say of a node that was changed, and what comes next.
fn told(node: &NodeSummary) -> String {
    let next = match node.state.as_str() {
        "draining" => ": it hands its ranges over, and leads none from then on",
        "decommissioning" => {
            ": its replicas move away; give the command again to wait for that and to end its membership"
        }
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
