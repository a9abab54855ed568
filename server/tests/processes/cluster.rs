//! Clusters of real processes on one machine, in temporary directories.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use client::driver::Client;

/// A directory that goes away with the test.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Scratch {
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

pub fn meridian() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meridian"));
    command.stdin(Stdio::null());
    command
}

pub fn free_addresses(count: usize) -> Vec<String> {
    let listeners: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|l| l.local_addr().unwrap().to_string()).collect()
}

/// A running node; killed when the test ends.
pub struct Process(pub Child);

impl Process {
    /// Starts a node and waits until it listens.
    pub fn start(store: &Path, listen: &str, join: &[String]) -> Process {
        Process::start_with(store, listen, join, &[])
    }

    /// The same, with further flags.
    pub fn start_with(store: &Path, listen: &str, join: &[String], flags: &[&str]) -> Process {
        let mut child = meridian()
            .args(["start", "--store", store.to_str().unwrap(), "--listen", listen, "--join", &join.join(",")])
            .args(["--locality", "region=eu,zone=b"])
            .args(flags)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("listening on "), "{line:?}");
        Process(child)
    }

    pub fn kill_9(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    pub fn signal(&self, signal: &str) {
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

pub struct Cluster {
    pub scratch: Scratch,
    pub addresses: Vec<String>,
    pub nodes: Vec<Process>,
    flags: Vec<&'static str>,
}

impl Cluster {
    pub fn start(name: &str) -> Cluster {
        Cluster::start_with(name, &[])
    }

    /// The same; all nodes have further flags.
    pub fn start_with(name: &str, flags: &[&'static str]) -> Cluster {
        let scratch = Scratch::new(name);
        let addresses = free_addresses(3);
        let mut cluster = Cluster { scratch, addresses, nodes: Vec::new(), flags: flags.to_vec() };
        for number in 0..3 {
            let node = cluster.start_node(number);
            cluster.nodes.push(node);
        }
        let init = meridian().args(["init", "--addr", &cluster.addresses[1]]).output().unwrap();
        assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
        cluster
    }

    pub fn store(&self, number: usize) -> PathBuf {
        self.scratch.0.join(format!("node{number}"))
    }

    pub fn start_node(&self, number: usize) -> Process {
        Process::start_with(&self.store(number), &self.addresses[number], &self.addresses, &self.flags)
    }

    /// Starts one more node, which joins.
    pub fn add_node(&mut self) {
        let number = self.addresses.len();
        let address = free_addresses(1).remove(0);
        let node = Process::start_with(&self.store(number), &address, &self.addresses, &self.flags);
        self.addresses.push(address);
        self.nodes.push(node);
    }

    pub async fn client(&self, nodes: &[usize]) -> Client {
        let addresses: Vec<&str> = nodes.iter().map(|n| self.addresses[*n].as_str()).collect();
        Client::connect(&addresses.join(",")).await.unwrap()
    }
}

pub const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a statement until it succeeds; panics after `patience`.
pub async fn eventually(client: &Client, sql: &str, patience: Duration) -> Duration {
    let began = Instant::now();
    loop {
        match client.execute(sql, &[]).await {
            Ok(_) => return began.elapsed(),
            Err(error) if began.elapsed() > patience => panic!("{sql}: {error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Waits for a process that should end by itself, and checks that it says one line and fails.
pub fn one_line(output: Output, words: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "it should have failed: {text}");
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    assert!(text.contains(words), "{words:?} is not in {text:?}");
}

pub fn start_expecting_failure(store: &Path, listen: &str, join: &str) -> Output {
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
