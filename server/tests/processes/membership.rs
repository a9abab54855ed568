//! Nodes that join, come back elsewhere, drain and go.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use client::driver::{Client, Config};

use super::cluster::{
    Cluster, PATIENCE, Process, Scratch, eventually, free_addresses, meridian, one_line, start_expecting_failure,
};

const ACCOUNTS: i64 = 20;

/// Runs `meridian node ...`; returns what it says.
pub fn node_command(args: &[&str], addr: &str) -> Result<String, String> {
    let output = meridian().arg("node").args(args).args(["--addr", addr]).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// The nodes as a node shows them: id, address, state, live.
async fn nodes_at(address: &str) -> Vec<(i64, String, String, bool)> {
    let client = Client::connect(address).await.unwrap();
    let rows = client.query("SHOW NODES", &[]).await.unwrap_or_default();
    let get = |row: &client::driver::Row| {
        (row.get("node_id").unwrap(), row.get("address").unwrap(), row.get("state").unwrap(), row.get("live").unwrap())
    };
    rows.iter().map(get).collect()
}

/// Waits until a node shows the nodes as they should be.
async fn until_nodes_at(address: &str, what: &str, right: impl Fn(&[(i64, String, String, bool)]) -> bool) {
    let began = Instant::now();
    loop {
        let nodes = nodes_at(address).await;
        if right(&nodes) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{what}: {nodes:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Clients that move money until they are stopped. Conflicts are the driver's to settle; whatever else goes wrong is counted.
pub struct Bank {
    stopped: Arc<AtomicBool>,
    moved: Arc<AtomicU64>,
    clients: Vec<tokio::task::JoinHandle<Vec<String>>>,
    addresses: Vec<String>,
}

impl Bank {
    pub async fn open(addresses: &[String]) -> Bank {
        let client = Client::connect(&addresses.join(",")).await.unwrap();
        eventually(&client, "CREATE TABLE accounts (id INT8 PRIMARY KEY, balance INT8)", PATIENCE).await;
        let rows: Vec<String> = (0..ACCOUNTS).map(|id| format!("({id}, 100)")).collect();
        eventually(&client, &format!("INSERT INTO accounts VALUES {}", rows.join(", ")), PATIENCE).await;
        eventually(&client, "ALTER TABLE accounts SPLIT AT VALUES (10)", PATIENCE).await;
        let mut bank =
            Bank { stopped: Arc::default(), moved: Arc::default(), clients: Vec::new(), addresses: addresses.to_vec() };
        for (number, address) in addresses.iter().cycle().take(6).enumerate() {
            let (stopped, moved, address) = (bank.stopped.clone(), bank.moved.clone(), address.clone());
            bank.clients.push(tokio::spawn(move_money(number as i64, address, stopped, moved)));
        }
        bank
    }

    /// Waits until the clients have moved money so many times more.
    pub async fn go_on(&self, times: u64) {
        let (began, until) = (Instant::now(), self.moved.load(Ordering::Relaxed) + times);
        while self.moved.load(Ordering::Relaxed) < until {
            assert!(began.elapsed() < PATIENCE, "the bank stands still");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops the clients and checks that no transaction failed and no money was lost.
    pub async fn close(self) {
        self.stopped.store(true, Ordering::Relaxed);
        for client in self.clients {
            assert_eq!(client.await.unwrap(), Vec::<String>::new(), "no transaction fails");
        }
        let client = Client::connect(&self.addresses.join(",")).await.unwrap();
        let rows = client.query("SELECT CAST(sum(balance) AS INT8) FROM accounts", &[]).await.unwrap();
        assert_eq!(rows[0].get::<i64>(0).unwrap(), ACCOUNTS * 100);
    }
}

async fn move_money(number: i64, address: String, stopped: Arc<AtomicBool>, moved: Arc<AtomicU64>) -> Vec<String> {
    let client = Client::with_config(Config::new(&address).unwrap()).await.unwrap();
    let mut failures = Vec::new();
    let mut turn = number;
    while !stopped.load(Ordering::Relaxed) {
        turn += 7;
        let (from, to) = (turn % ACCOUNTS, (turn * 3 + 11) % ACCOUNTS);
        let result = client
            .transact(async |mut tx| {
                tx.execute("UPDATE accounts SET balance = balance - 1 WHERE id = $1", &[&from]).await?;
                tx.execute("UPDATE accounts SET balance = balance + 1 WHERE id = $1", &[&to]).await?;
                Ok(())
            })
            .await;
        match result {
            Ok(()) => drop(moved.fetch_add(1, Ordering::Relaxed)),
            Err(error) => failures.push(error.to_string()),
        }
    }
    failures
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fourth_node_joins_under_load_and_everybody_learns_of_it() {
    let cluster = Cluster::start("join");
    let bank = Bank::open(&cluster.addresses).await;
    let address = free_addresses(1).remove(0);
    let fourth = Process::start(&cluster.store(3), &address, &cluster.addresses[2..]);
    let joined = |nodes: &[(i64, String, String, bool)]| {
        nodes.len() == 4 && nodes.iter().all(|(_, _, state, live)| state == "active" && *live)
    };
    for at in cluster.addresses.iter().chain([&address]) {
        until_nodes_at(at, "the fourth node is known", joined).await;
    }
    // It serves clients like any other, and shares the clock of the host with them.
    let client = Client::connect(&address).await.unwrap();
    eventually(&client, "UPDATE accounts SET balance = balance WHERE id = 3", PATIENCE).await;
    let clock = client.query("SHOW CLOCK", &[]).await.unwrap();
    assert_eq!(clock[0].get::<String>("source").unwrap(), "same host");
    let list = node_command(&["list"], &address).unwrap();
    assert!(list.lines().count() == 5 && list.contains("region=eu,zone=b"), "{list}");
    bank.go_on(20).await;
    bank.close().await;
    // It comes back as the same node, with nobody to ask but what it remembers.
    drop(fourth);
    let _fourth = Process::start(&cluster.store(3), &address, &[]);
    until_nodes_at(&address, "it is itself again", |nodes| joined(nodes) && nodes[3].1 == address).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_grows_to_two() {
    let scratch = Scratch::new("grow");
    let addresses = free_addresses(2);
    let _first = Process::start(&scratch.0.join("node0"), &addresses[0], &[]);
    // The second one waits until there is a cluster to join.
    let _second = Process::start(&scratch.0.join("node1"), &addresses[1], &addresses);
    assert!(meridian().args(["init", "--addr", &addresses[0]]).output().unwrap().status.success());
    let client = Client::connect(&addresses[1]).await.unwrap();
    eventually(&client, "CREATE TABLE t (id INT8 PRIMARY KEY)", PATIENCE).await;
    until_nodes_at(&addresses[0], "both are there", |nodes| nodes.len() == 2 && nodes.iter().all(|n| n.3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_comes_back_at_another_address() {
    let mut cluster = Cluster::start("move");
    let client = cluster.client(&[1, 2]).await;
    eventually(&client, "CREATE TABLE t (id INT8 PRIMARY KEY)", PATIENCE).await;
    cluster.nodes[0].kill_9();
    cluster.addresses[0] = free_addresses(1).remove(0);
    // It is told of no other node: it finds them by what it remembers.
    cluster.nodes[0] = Process::start(&cluster.store(0), &cluster.addresses[0], &[]);
    let moved = cluster.addresses[0].clone();
    for at in &cluster.addresses {
        let there = |nodes: &[(i64, String, String, bool)]| nodes.iter().all(|n| n.3) && nodes[0].1 == moved;
        until_nodes_at(at, "its address is known", there).await;
    }
    // It makes up the quorum with one of the others.
    cluster.nodes[1].kill_9();
    let client = cluster.client(&[0]).await;
    eventually(&client, "INSERT INTO t VALUES (1)", PATIENCE).await;
    // All of them at new addresses: they are found with --join.
    cluster.nodes[0].kill_9();
    cluster.nodes[2].kill_9();
    cluster.addresses = free_addresses(3);
    for number in 0..3 {
        cluster.nodes[number] = cluster.start_node(number);
    }
    let client = cluster.client(&[0, 1, 2]).await;
    eventually(&client, "INSERT INTO t VALUES (2)", PATIENCE).await;
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-r").args([from, to]).status().unwrap();
    assert!(status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_are_not_what_they_were_are_refused() {
    let mut cluster = Cluster::start("refused");
    let address = free_addresses(1).remove(0);
    let (old, old_copy) = (cluster.store(3), cluster.scratch.0.join("copy"));
    let mut fourth = Process::start(&old, &address, &cluster.addresses);
    let is = |state: &'static str| move |nodes: &[(i64, String, String, bool)]| nodes.len() == 4 && nodes[3].2 == state;
    until_nodes_at(&cluster.addresses[0], "it has joined", is("active")).await;
    fourth.kill_9();
    copy(&old, &old_copy);
    // The copy is older than a later start of the store.
    let mut fourth = Process::start(&old, &address, &cluster.addresses);
    until_nodes_at(&address, "it is back", is("active")).await;
    let live = |nodes: &[(i64, String, String, bool)]| nodes.iter().all(|n| n.3);
    until_nodes_at(&cluster.addresses[0], "it is back", live).await;
    fourth.kill_9();
    one_line(start_expecting_failure(&old_copy, &address, &cluster.addresses.join(",")), "old copy of n4's");

    // Too few would remain, until the fourth node is there.
    let at = cluster.addresses[1].clone();
    assert!(node_command(&["decommission", "4", "--no-wait"], &at).unwrap().contains("decommissioning"));
    assert!(node_command(&["decommission", "1"], &at).unwrap_err().contains("add a node first"));
    assert!(node_command(&["decommission", "4"], &at).unwrap().contains("decommissioned"));
    assert!(node_command(&["undrain", "n4"], &at).unwrap_err().contains("for good"));
    one_line(start_expecting_failure(&old, &address, &cluster.addresses.join(",")), "n4 was decommissioned");

    // A store that has lost its data.
    cluster.nodes[2].kill_9();
    let store = cluster.store(2);
    std::fs::rename(store.join("data"), store.join("lost")).unwrap();
    std::fs::create_dir(store.join("data")).unwrap();
    one_line(start_expecting_failure(&store, &cluster.addresses[2], ""), "data is empty");
    std::fs::remove_dir_all(store.join("data")).unwrap();
    copy(&old.join("data"), &store.join("data"));
    one_line(start_expecting_failure(&store, &cluster.addresses[2], ""), "data belongs to another store");
    std::fs::remove_dir_all(store.join("data")).unwrap();
    std::fs::rename(store.join("lost"), store.join("data")).unwrap();
    // One that has lost the file with its name is not taken for a new one.
    std::fs::rename(store.join("identity"), store.join("lost")).unwrap();
    let refused = start_expecting_failure(&store, &cluster.addresses[2], &cluster.addresses.join(","));
    one_line(refused, "this store has been n3 already");
    std::fs::rename(store.join("lost"), store.join("identity")).unwrap();
    cluster.nodes[2] = cluster.start_node(2);
    until_nodes_at(&cluster.addresses[2], "mended, it is back", |nodes| nodes.iter().take(3).all(|n| n.3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_drained_under_load_and_no_transaction_fails() {
    let cluster = Cluster::start("drain");
    let bank = Bank::open(&cluster.addresses).await;
    let at = cluster.addresses[2].clone();
    for number in ["1", "2", "3"] {
        bank.go_on(20).await;
        node_command(&["drain", number], &at).unwrap();
        let began = Instant::now();
        loop {
            let list = node_command(&["list"], &at).unwrap();
            let line = list.lines().find(|line| line.starts_with(number)).unwrap().to_string();
            if line.contains("draining") && line.ends_with(" 0") {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "{list}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // Sessions on it are served as before.
        let client = Client::connect(&cluster.addresses[0]).await.unwrap();
        client.query("SELECT count(*) FROM accounts", &[]).await.unwrap();
        bank.go_on(20).await;
        node_command(&["undrain", number], &at).unwrap();
    }
    bank.close().await;
}
