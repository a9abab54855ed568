//! `meridian recover verify`: whether all is well, and what is not.

use std::path::Path;
use std::process::ExitCode;

use client::driver::{Client, Error};

use super::args::ClusterArgs;
use super::fail;
use crate::node::recovery::read_plan;
use crate::recovery::Plan;

pub async fn run(plan: Option<&Path>, cluster: &ClusterArgs) -> ExitCode {
    let plan = match plan.map(read_plan).transpose() {
        Ok(plan) => plan,
        Err(why) => return fail(&why),
    };
    let client = match Client::connect(&cluster.addr).await {
        Ok(client) => client,
        Err(error) => return fail(&error.to_string()),
    };
    match look(&client, plan.as_ref()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("meridian: {}", error.message());
            ExitCode::from(1)
        }
    }
}

/// Prints how the cluster stands; says whether all is well.
async fn look(client: &Client, plan: Option<&Plan>) -> Result<bool, Error> {
    let admin = client.admin();
    let checkup = admin.check().await?;
    let mut faults = checkup.faults;
    let nodes = admin.nodes().await?;
    for dead in plan.iter().flat_map(|plan| &plan.dead) {
        let node = nodes.iter().find(|node| node.id == dead.node);
        if node.is_none_or(|node| node.state != "decommissioned") {
            faults.push(format!(
                "n{} was given up and is not barred yet: the survivors see to it when they have started, if the plan was applied on each of them",
                dead.node
            ));
        }
    }
    for (_, status) in admin.statuses().await {
        let Ok(status) = status else { continue };
        if let Some(plan) = plan.filter(|plan| plan.cluster != status.cluster_id) {
            faults.push(format!("the plan is for cluster {}, and this is {}", plan.cluster, status.cluster_id));
        }
    }
    let told = |what: &str, words: &[String]| {
        if !words.is_empty() {
            println!("{what}");
            words.iter().for_each(|words| println!("  {words}"));
        }
    };
    println!("{} ranges, {} nodes", checkup.ranges, nodes.iter().filter(|node| node.state != "decommissioned").count());
    told("Wrong:", &faults);
    told(
        "Fewer replicas than there should be (new nodes that join are given some by themselves; SHOW REFUSALS says what stands in the way):",
        &checkup.lacking,
    );
    let well = faults.is_empty() && checkup.lacking.is_empty();
    println!("{}", if well { "All is well." } else { "Not all is well yet." });
    Ok(well)
}
