//! Ranges that look after themselves: nodes are added, lost for good and decommissioned, under load.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use client::driver::{Client, RangeScope};

use super::cluster::{Cluster, PATIENCE, eventually};
use super::membership::{Bank, node_command};

const LONG: Duration = Duration::from_secs(90);

/// How many replicas each node holds, and whether each range has three.
async fn replicas(address: &str) -> Option<(BTreeMap<u64, usize>, bool)> {
    let client = Client::connect(address).await.ok()?;
    let ranges = client.admin().ranges(RangeScope::All).await.ok()?;
    let mut held = BTreeMap::new();
    for node in ranges.iter().flat_map(|range| &range.replica_nodes) {
        *held.entry(*node).or_default() += 1;
    }
    Some((held, ranges.iter().all(|range| range.replica_nodes.len() == 3)))
}

/// What the cluster has to say of it.
async fn told(address: &str) -> String {
    let mut told = String::new();
    for statement in ["SHOW RANGES", "SHOW NODES", "SHOW REFUSALS", "SHOW JOBS"] {
        let args = ["sql", "--addr", address, "--format", "csv", "-e", statement];
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_meridian")).args(args).output();
        let output = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
        told += &format!("{statement}\n{}\n", String::from_utf8_lossy(&output));
    }
    told
}

async fn until(address: &str, what: &str, right: impl Fn(&BTreeMap<u64, usize>, bool) -> bool) {
    let began = Instant::now();
    loop {
        let seen = replicas(address).await;
        if seen.as_ref().is_some_and(|(held, three)| right(held, *three)) {
            return;
        }
        if began.elapsed() >= LONG {
            panic!("not so after {LONG:?}: {what}; {seen:?}\n{}", told(address).await);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_look_after_themselves_while_nodes_come_and_go() {
    // The bank goes on while ranges merge: no load of it is to be enough for two of them.
    let flags = ["--replace-after", "6s", "--merge-after", "2s", "--range-load-max", "1000000"];
    let mut cluster = Cluster::start_with("placement", &flags);
    let bank = Bank::open(&cluster.addresses[..2]).await;
    let client = cluster.client(&[0, 1]).await;
    for at in 1..8 {
        eventually(&client, &format!("ALTER TABLE accounts SPLIT AT VALUES ({})", at * 2), PATIENCE).await;
    }
    let at = cluster.addresses[0].clone();
    let refused = node_command(&["decommission", "3"], &at).unwrap_err();
    assert!(refused.contains("add a node first"), "{refused}");

    cluster.add_node();
    until(&at, "the fourth node takes its share", |held, three| {
        three && held.get(&4).is_some_and(|replicas| *replicas >= 4)
    })
    .await;
    bank.go_on(20).await;

    // One is lost for good: the others replace its replicas.
    cluster.nodes[2].kill_9();
    until(&at, "the third node is replaced", |held, three| three && !held.contains_key(&3)).await;
    bank.go_on(20).await;

    // One more, so that another can go.
    cluster.add_node();
    let gone = tokio::task::spawn_blocking({
        let at = at.clone();
        move || node_command(&["decommission", "4"], &at)
    });
    let said = gone.await.unwrap().unwrap();
    assert!(said.contains("node 4 is decommissioned"), "{said}");
    until(&at, "nothing is left on the fourth node", |held, three| three && !held.contains_key(&4)).await;
    bank.go_on(20).await;

    // Nobody asks for the boundaries any more: the ranges become one again, wherever their replicas stand.
    eventually(&client, "ALTER TABLE accounts UNSPLIT ALL", PATIENCE).await;
    until(&at, "the ranges are merged", |held, three| three && held.values().sum::<usize>() <= 3 * 2).await;
    bank.go_on(20).await;
    bank.close().await;
}
