//! Three nodes, each a process of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::clients;
use super::proxy::{Links, Processes};
use super::small_disk::SmallDisk;

pub const NODES: usize = 3;
/// The node with the small disk.
pub const SMALL: usize = 2;

/// See the module.
pub struct Cluster {
    scratch: PathBuf,
    listen: Vec<String>,
    advertise: Vec<String>,
    children: Vec<Option<Child>>,
    processes: Processes,
    pub links: Links,
    pub small_disk: SmallDisk,
}

/// The program under test, built beside this test.
fn meridian() -> String {
    let test = std::env::current_exe().expect("a running test has a path");
    let folder = test.parent().and_then(Path::parent).expect("tests lie in target/PROFILE/deps");
    let path = folder.join("meridian");
    assert!(path.exists(), "{} is not built: cargo build -p meridian-server --bin meridian", path.display());
    path.display().to_string()
}

/// The library that fakes the wall clock of one process; `make setup` installs it.
fn faketime() -> String {
    let places = ["/usr/lib", "/usr/local/lib"].into_iter().flat_map(|root| fs::read_dir(root).into_iter().flatten());
    let folders =
        places.flatten().map(|entry| entry.path()).chain([PathBuf::from("/usr/lib"), "/usr/local/lib".into()]);
    let library = folders.map(|folder| folder.join("faketime/libfaketime.so.1")).find(|path| path.exists());
    library.expect("libfaketime is not installed: run `make setup`").display().to_string()
}

fn free_addresses(count: usize) -> Vec<String> {
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("there are free ports")).collect();
    listeners.iter().map(|l| l.local_addr().expect("it is bound").to_string()).collect()
}

impl Cluster {
    /// Starts three nodes and makes a cluster of them.
    pub async fn start() -> Cluster {
        let scratch = std::env::temp_dir().join(format!("meridian-nemesis-{}", std::process::id()));
        let _ = fs::remove_dir_all(&scratch);
        fs::create_dir_all(&scratch).expect("a temporary folder can be made");
        let small_disk = SmallDisk::mount(&scratch.join(format!("node{SMALL}"))).expect("a small disk for one node");
        let processes: Processes = Arc::new(Mutex::new(vec![None; NODES]));
        let links = Links::new(processes.clone());
        let listen = free_addresses(NODES);
        let mut advertise = Vec::new();
        for (node, address) in listen.iter().enumerate() {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("there are free ports");
            advertise.push(listener.local_addr().expect("it is bound").to_string());
            let (links, address) = (links.clone(), address.clone());
            tokio::spawn(async move { links.serve(listener, node, address).await });
        }
        let children = (0..NODES).map(|_| None).collect();
        let mut cluster = Cluster { scratch, listen, advertise, children, processes, links, small_disk };
        for node in 0..NODES {
            cluster.set_clock(node, 0);
            cluster.start_node(node);
        }
        let init = Command::new(meridian()).args(["init", "--addr", &cluster.listen[0]]).output();
        let init = init.expect("the program runs");
        assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
        cluster
    }

    /// Where clients reach the nodes: not through the proxies.
    pub fn addresses(&self) -> Vec<String> {
        self.listen.clone()
    }

    fn clock_file(&self, node: usize) -> PathBuf {
        self.scratch.join(format!("clock{node}"))
    }

    /// Sets a node's wall clock so many seconds off.
    pub fn set_clock(&self, node: usize, seconds: i64) {
        let next = self.scratch.join(format!("clock{node}.next"));
        fs::write(&next, format!("{seconds:+}\n")).expect("the folder can be written");
        fs::rename(next, self.clock_file(node)).expect("the folder can be written");
    }

    pub fn runs(&mut self, node: usize) -> bool {
        let ended = self.children[node].as_mut().is_none_or(|child| child.try_wait().is_ok_and(|s| s.is_some()));
        !ended
    }

    pub fn start_node(&mut self, node: usize) {
        let program = meridian();
        let mut command = if node == SMALL { self.small_disk.command(&program) } else { Command::new(&program) };
        let log = fs::OpenOptions::new().create(true).append(true).open(self.scratch.join(format!("log{node}")));
        let mut child = command
            .args(["--log", "info", "start", "--clock-source", "fixed:20ms"])
            .arg("--store")
            .arg(self.scratch.join(format!("node{node}")))
            .args(["--listen", &self.listen[node], "--advertise", &self.advertise[node]])
            .args(["--join", &self.advertise.join(",")])
            .env("LD_PRELOAD", faketime())
            .env("FAKETIME_TIMESTAMP_FILE", self.clock_file(node))
            .env("FAKETIME_CACHE_DURATION", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log.expect("the folder can be written"))
            .spawn()
            .expect("the program can be started");
        let mut line = String::new();
        let output = child.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut line).expect("the program speaks");
        assert!(line.starts_with("listening on "), "node {node} does not start: {}", self.log(node));
        self.processes.lock().expect("nobody panics")[node] = Some(child.id());
        self.children[node] = Some(child);
    }

    /// The end of what a node has logged.
    pub fn log(&self, node: usize) -> String {
        let text = fs::read_to_string(self.scratch.join(format!("log{node}"))).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    pub fn kill(&mut self, node: usize) {
        if let Some(mut child) = self.children[node].take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.processes.lock().expect("nobody panics")[node] = None;
    }

    /// Sends a signal, such as `STOP`.
    pub fn signal(&self, node: usize, signal: &str) {
        if let Some(child) = &self.children[node] {
            let sent = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
            assert!(sent.is_ok_and(|status| status.success()));
        }
    }

    /// Whether a node's own clock is confirmed, as it says itself.
    pub async fn clock_standing(&self, node: usize) -> String {
        let client = clients::connect(&self.listen[node..=node]).await;
        match client.admin().statuses().await.pop() {
            Some((_, Ok(status))) => status.clock_standing,
            other => format!("no answer: {other:?}"),
        }
    }

    /// Waits until a condition on a node's standing holds.
    pub async fn await_standing(&self, node: usize, wanted: impl Fn(&str) -> bool) -> String {
        let began = Instant::now();
        loop {
            let standing = self.clock_standing(node).await;
            if wanted(&standing) {
                return standing;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "node {node}: {standing}\n{}", self.log(node));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Ends all misfortunes.
    pub async fn heal(&mut self) {
        self.links.heal();
        self.small_disk.empty();
        for node in 0..NODES {
            self.set_clock(node, 0);
            self.signal(node, "CONT");
            if !self.runs(node) {
                self.start_node(node);
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in 0..NODES {
            self.kill(node);
        }
        if std::thread::panicking() {
            println!("what the nodes said is in {}", self.scratch.display());
        } else {
            let _ = fs::remove_dir_all(&self.scratch);
        }
    }
}
