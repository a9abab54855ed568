//! Real processes: what a simulation cannot see of sockets, files and signals.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use client::driver::{Client, Outcome, TransactionOptions};

/// A directory that goes away with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("meridian-test-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn meridian() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meridian"));
    command.stdin(Stdio::null());
    command
}

fn free_addresses(count: usize) -> Vec<String> {
    let listeners: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|l| l.local_addr().unwrap().to_string()).collect()
}

/// A running node; killed when the test ends.
struct Process(Child);

impl Process {
    /// Starts a node and waits until it listens.
    fn start(store: &Path, listen: &str, join: &[String]) -> Process {
        let mut child = meridian()
            .args(["start", "--store", store.to_str().unwrap(), "--listen", listen, "--join", &join.join(",")])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("listening on "), "{line:?}");
        Process(child)
    }

    fn kill_9(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.0.id().to_string()]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Cluster {
    scratch: Scratch,
    addresses: Vec<String>,
    nodes: Vec<Process>,
}

impl Cluster {
    fn start(name: &str) -> Cluster {
        let scratch = Scratch::new(name);
        let addresses = free_addresses(3);
        let mut cluster = Cluster { scratch, addresses, nodes: Vec::new() };
        for number in 0..3 {
            let node = cluster.start_node(number);
            cluster.nodes.push(node);
        }
        let init = meridian().args(["init", "--addr", &cluster.addresses[1]]).output().unwrap();
        assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
        cluster
    }

    fn store(&self, number: usize) -> PathBuf {
        self.scratch.0.join(format!("node{number}"))
    }

    fn start_node(&self, number: usize) -> Process {
        Process::start(&self.store(number), &self.addresses[number], &self.addresses)
    }

    async fn client(&self, nodes: &[usize]) -> Client {
        let addresses: Vec<&str> = nodes.iter().map(|n| self.addresses[*n].as_str()).collect();
        Client::connect(&addresses.join(",")).await.unwrap()
    }
}

/// Runs a statement until it succeeds; panics after `patience`.
async fn eventually(client: &Client, sql: &str, patience: Duration) -> Duration {
    let began = Instant::now();
    loop {
        match client.execute(sql, &[]).await {
            Ok(_) => return began.elapsed(),
            Err(error) if began.elapsed() > patience => panic!("{sql}: {error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn count(client: &Client) -> i64 {
    client.query("SELECT count(*) FROM t", &[]).await.unwrap()[0].get::<i64>(0).unwrap()
}

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_changes_nothing_but_a_pause_and_comes_back_with_its_data() {
    let mut cluster = Cluster::start("kill");
    let client = cluster.client(&[0, 1, 2]).await;
    eventually(&client, "CREATE TABLE t (id INT8 PRIMARY KEY)", PATIENCE).await;
    for id in 0..20 {
        eventually(&client, &format!("INSERT INTO t VALUES ({id})"), PATIENCE).await;
    }
    // How a transaction ended can be asked for by its id, also of one over keys.
    let mut transaction = client.key_range().begin(TransactionOptions::default()).await.unwrap();
    transaction.put(&[(b"key", b"value")]).await.unwrap();
    let id = transaction.id().unwrap().to_string();
    let timestamp = transaction.commit().await.unwrap();
    assert_eq!(client.outcome(&id).await.unwrap(), Outcome::Committed { timestamp });
    assert!(client.key_range().put(&[(b"key", b"other")]).await.unwrap() > timestamp);
    cluster.nodes[0].kill_9();
    let others = cluster.client(&[1, 2]).await;
    eventually(&others, "INSERT INTO t VALUES (100)", PATIENCE).await;
    assert_eq!(count(&others).await, 21);
    cluster.nodes[0] = cluster.start_node(0);
    eventually(&others, "INSERT INTO t VALUES (101)", PATIENCE).await;
    // Any node answers any client; the restarted one must make up the quorum with the third.
    cluster.nodes[1].kill_9();
    let survivors = cluster.client(&[0, 2]).await;
    eventually(&survivors, "INSERT INTO t VALUES (102)", PATIENCE).await;
    assert_eq!(count(&survivors).await, 23);
    // With two of three gone nobody guesses.
    cluster.nodes[2].kill_9();
    let alone = cluster.client(&[0]).await;
    let refused = tokio::time::timeout(Duration::from_secs(40), alone.execute("INSERT INTO t VALUES (103)", &[])).await;
    assert!(!matches!(refused, Ok(Ok(_))), "a minority acknowledged a write");
    cluster.nodes[1] = cluster.start_node(1);
    cluster.nodes[2] = cluster.start_node(2);
    let all = cluster.client(&[0, 1, 2]).await;
    eventually(&all, "INSERT INTO t VALUES (104)", PATIENCE).await;
    // 103 was never acknowledged: it may be there or not.
    let found = count(&all).await;
    assert!((24..=25).contains(&found), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_node_hands_over_and_ends_cleanly() {
    let mut cluster = Cluster::start("stop");
    let client = cluster.client(&[1, 2]).await;
    eventually(&client, "CREATE TABLE t (id INT8 PRIMARY KEY)", PATIENCE).await;
    cluster.nodes[0].signal("-TERM");
    let status = cluster.nodes[0].0.wait().unwrap();
    assert!(status.success(), "{status}");
    eventually(&client, "INSERT INTO t VALUES (1)", PATIENCE).await;
    cluster.nodes[0] = cluster.start_node(0);
    let restarted = cluster.client(&[0]).await;
    eventually(&restarted, "INSERT INTO t VALUES (2)", PATIENCE).await;
    assert_eq!(count(&restarted).await, 2);
}

/// Waits for a process that should end by itself, and checks that it says one line and fails.
fn one_line(output: Output, words: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "it should have failed: {text}");
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    assert!(text.contains(words), "{words:?} is not in {text:?}");
}

fn start_expecting_failure(store: &Path, listen: &str, join: &str) -> Output {
    let mut child = meridian()
        .args(["start", "--store", store.to_str().unwrap(), "--listen", listen, "--join", join])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > PATIENCE {
            let _ = child.kill();
            panic!("the node did not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_at_the_start_is_said_in_one_line_and_damages_nothing() {
    let mut cluster = Cluster::start("wrong");
    let client = cluster.client(&[0, 1, 2]).await;
    eventually(&client, "CREATE TABLE t (id INT8 PRIMARY KEY)", PATIENCE).await;
    eventually(&client, "INSERT INTO t VALUES (1)", PATIENCE).await;

    let elsewhere = cluster.scratch.0.join("elsewhere");
    one_line(start_expecting_failure(&elsewhere, &cluster.addresses[0], ""), "the port is in use");
    let free = free_addresses(1).remove(0);
    one_line(start_expecting_failure(&cluster.store(0), &free, ""), "in use by another process");

    // A directory of another cluster.
    let other = Cluster::start("other");
    let stranger = cluster.store(2);
    cluster.nodes[2].kill_9();
    one_line(start_expecting_failure(&stranger, &cluster.addresses[2], &other.addresses.join(",")), "of cluster");

    // A flipped bit in the identity, and one in the log.
    let identity = cluster.store(2).join("identity");
    let before = std::fs::read(&identity).unwrap();
    let mut damaged = before.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    std::fs::write(&identity, &damaged).unwrap();
    one_line(start_expecting_failure(&cluster.store(2), &free, ""), "identity is damaged");
    assert_eq!(std::fs::read(&identity).unwrap(), damaged, "nothing was changed");
    std::fs::write(&identity, &before).unwrap();

    let log = std::fs::read_dir(cluster.store(2).join("log")).unwrap();
    let segment = log.map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "log")).min().unwrap();
    let good = std::fs::read(&segment).unwrap();
    let mut bad = good.clone();
    bad[30] ^= 1;
    std::fs::write(&segment, &bad).unwrap();
    one_line(start_expecting_failure(&cluster.store(2), &free, ""), "damaged at byte 16");
    std::fs::write(&segment, &good).unwrap();

    // Mended, it comes back with everything.
    cluster.nodes[2] = cluster.start_node(2);
    let restarted = cluster.client(&[2]).await;
    eventually(&restarted, "INSERT INTO t VALUES (2)", PATIENCE).await;
    assert_eq!(count(&restarted).await, 2);
}

#[test]
fn wrong_flags_are_explained() {
    let output = meridian().args(["start", "--store", "/tmp/x", "--clock-max-error", "soon"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is not a duration"));
    let output = meridian().args(["init", "--addr", &free_addresses(1)[0]]).output().unwrap();
    one_line(output, "no node answers at");
    let output = meridian().args(["sql", "--addr", &free_addresses(1)[0], "-e", "SELECT 1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_demo_runs_the_bank_and_ends_by_itself_without_a_terminal() {
    let output = meridian().args(["demo", "--nodes", "3", "--bench", "2s"]).output().unwrap();
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    let _ = (&output.stderr[..]).read_to_string(&mut text);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("p99"), "{text}");
}
