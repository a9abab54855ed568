//! Nodes in processes of their own, for benchmarks that look at them from outside.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use client::driver::{Client, Config};

use crate::cli::scratch::Scratch;

/// How long a cluster may take to answer its first statement, or a node to stop.
const PATIENCE: Duration = Duration::from_secs(120);

/// A node's process, killed when it is dropped.
struct Process(Child);

/// What the operating system says of processes, in all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub cpu: Duration,
    /// Bytes.
    pub resident: u64,
}

/// What nodes count, in all, by the names that their metrics have.
pub type Counters = BTreeMap<String, u64>;

/// A cluster of new nodes.
pub struct Fleet {
    folder: PathBuf,
    addresses: Vec<String>,
    nodes: Vec<Process>,
}

impl Fleet {
    /// Starts nodes in folders of their own, and makes a cluster of them.
    pub async fn start(scratch: &Scratch, name: &str, count: usize) -> Result<Fleet, String> {
        let reserve = || TcpListener::bind("127.0.0.1:0").map_err(|e| format!("no free port: {e}"));
        // Reserved together, so that each node knows the others before it listens.
        let reserved = (0..count).map(|_| reserve()).collect::<Result<Vec<_>, _>>()?;
        let addresses = reserved.iter().map(|listener| listener.local_addr().map(|address| address.to_string()));
        let addresses = addresses.collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
        drop(reserved);
        let mut fleet = Fleet { folder: scratch.path().join(name), addresses, nodes: Vec::new() };
        fleet.launch()?;
        let client = fleet.client().await?;
        client.admin().init().await.map_err(|e| format!("no cluster was made: {e}"))?;
        fleet.wait_until_served().await?;
        Ok(fleet)
    }

    pub fn addresses(&self) -> String {
        self.addresses.join(",")
    }

    /// Starts all nodes, and waits until they listen.
    fn launch(&mut self) -> Result<(), String> {
        for (number, address) in self.addresses.iter().enumerate() {
            self.nodes.push(Process::start(&self.store(number), address, &self.addresses)?);
        }
        Ok(())
    }

    /// Stops all nodes, starts them again, and waits for the first answer. Says how long it took from the start of their processes.
    pub async fn restart(&mut self) -> Result<Duration, String> {
        self.nodes.drain(..).try_for_each(Process::stop)?;
        let started = Instant::now();
        self.launch()?;
        self.wait_until_served().await?;
        Ok(started.elapsed())
    }

    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    pub fn address(&self, node: usize) -> &str {
        &self.addresses[node]
    }

    /// Stops one node and starts it again while the others run. Says how long it took to stop, and to start until it listened.
    pub async fn restart_one(&mut self, node: usize) -> Result<(Duration, Duration), String> {
        let process = self.nodes.remove(node);
        let (store, address, join) = (self.store(node), self.addresses[node].clone(), self.addresses.clone());
        let again = move || {
            let began = Instant::now();
            process.stop()?;
            let stopped = began.elapsed();
            let process = Process::start(&store, &address, &join)?;
            Ok::<_, String>((process, stopped, began.elapsed() - stopped))
        };
        // Waiting for a process blocks.
        let (process, stop, start) = tokio::task::spawn_blocking(again).await.map_err(|e| e.to_string())??;
        self.nodes.insert(node, process);
        Ok((stop, start))
    }

    fn store(&self, node: usize) -> PathBuf {
        self.folder.join(format!("node{}", node + 1))
    }

    pub async fn client(&self) -> Result<Client, String> {
        let mut config = Config::new(&self.addresses()).map_err(|e| e.to_string())?;
        config.sessions_max = 64;
        Client::with_config(config).await.map_err(|e| e.to_string())
    }

    async fn wait_until_served(&self) -> Result<(), String> {
        let until = Instant::now() + PATIENCE;
        let client = self.client().await?;
        loop {
            match client.query("SELECT count(*) FROM meridian.nodes", &[]).await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= until => return Err(format!("the cluster does not answer: {error}")),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// What the nodes have counted so far.
    pub async fn counters(&self) -> Result<Counters, String> {
        let mut sum = Counters::new();
        for (node, counters) in self.client().await?.admin().stats().await {
            for (name, count) in counters.map_err(|e| format!("node {node} does not say what it counts: {e}"))? {
                *sum.entry(name).or_default() += count;
            }
        }
        Ok(sum)
    }

    /// What the nodes have used so far, and hold.
    pub fn usage(&self) -> Result<Usage, String> {
        let mut sum = Usage::default();
        for node in &self.nodes {
            let one = usage_of(node.0.id()).ok_or("/proc does not tell what a process uses, or it has ended")?;
            sum = Usage { cpu: sum.cpu + one.cpu, resident: sum.resident + one.resident };
        }
        Ok(sum)
    }
}

impl Process {
    fn start(store: &Path, listen: &str, join: &[String]) -> Result<Process, String> {
        let program = std::env::current_exe().map_err(|e| format!("this program cannot be found: {e}"))?;
        let child = Command::new(program)
            .args(["--log", "error", "start"])
            .arg("--store")
            .arg(store)
            .args(["--listen", listen, "--join", &join.join(",")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("no node can be started: {e}"))?;
        let mut process = Process(child);
        let mut line = String::new();
        let stdout = process.0.stdout.take().ok_or("a node has no output")?;
        BufReader::new(stdout).read_line(&mut line).map_err(|e| e.to_string())?;
        let listens = line.starts_with("listening on ");
        listens.then_some(process).ok_or_else(|| "a node did not start; it has said why".to_string())
    }

    /// Tells it to stop, and waits for that.
    fn stop(mut self) -> Result<(), String> {
        let pid = self.0.id().to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status().map_err(|e| format!("kill: {e}"))?;
        let until = Instant::now() + PATIENCE;
        while told.success() && Instant::now() < until {
            if self.0.try_wait().map_err(|e| e.to_string())?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err("a node does not stop".into())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// From Linux's `/proc`.
fn usage_of(pid: u32) -> Option<Usage> {
    /// Of `utime` and `stime`, fixed in the kernel's interface.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = resident.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(Usage { cpu: Duration::from_secs_f64(ticks as f64 / TICKS_PER_SECOND), resident: kilobytes << 10 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_can_be_looked_at() {
        if cfg!(target_os = "linux") {
            assert!(usage_of(std::process::id()).unwrap().resident > 1 << 20);
        }
    }
}
