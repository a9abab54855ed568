//! `meridian demo`: a whole cluster in this process, and a shell on it.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use client::shell::ShellOptions;
use proto::Locality;

use super::args::DemoArgs;
use super::bench::{bank_options, run_bank};
use super::fail;
use super::scratch::Scratch;
use crate::config::Knobs;
use crate::node::{ClockConfig, Node, NodeConfig};

/// A cluster of nodes in this process.
struct Cluster {
    nodes: Vec<Node>,
}

impl Cluster {
    async fn start(folder: &Path, count: u16, pg_listen: &str) -> Result<Cluster, String> {
        // Reserved together, so that each node knows the others before it listens.
        let mut reserved = Vec::new();
        for _ in 0..count {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(|e| format!("no free port: {e}"))?;
            let address = listener.local_addr().map_err(|e| e.to_string())?;
            reserved.push((listener, address.to_string()));
        }
        let join: Vec<String> = reserved.iter().map(|(_, address)| address.clone()).collect();
        drop(reserved);
        let mut nodes = Vec::new();
        for (number, address) in join.iter().enumerate() {
            let config = NodeConfig {
                store: folder.join(format!("node{}", number + 1)),
                listen: address.clone(),
                advertise: None,
                join: join.clone(),
                pg_listen: (number == 0).then(|| pg_listen.to_string()),
                http_listen: (number == 0).then(|| "127.0.0.1:0".to_string()),
                locality: Locality::default(),
                clock: ClockConfig::default(),
                knobs: Knobs::default(),
            };
            nodes.push(Node::start(config).await?);
        }
        let cluster = Cluster { nodes };
        cluster.nodes[0].init().await?;
        Ok(cluster)
    }

    fn addresses(&self) -> String {
        self.nodes.iter().map(|node| node.address.to_string()).collect::<Vec<_>>().join(",")
    }

    async fn stop(self) {
        for node in self.nodes {
            node.stop_now().await;
        }
    }
}

pub async fn run(args: DemoArgs) -> ExitCode {
    let scratch = match Scratch::new("demo") {
        Ok(scratch) => scratch,
        Err(e) => return fail(&format!("no temporary directory: {e}")),
    };
    let cluster = match Cluster::start(scratch.path(), args.nodes, &args.pg_listen).await {
        Ok(cluster) => cluster,
        Err(why) => return fail(&why),
    };
    println!("A cluster of {} nodes runs in {}", args.nodes, scratch.path().display());
    let addresses = cluster.addresses();
    if let Err(error) = wait_until_served(&addresses).await {
        cluster.stop().await;
        return fail(&error);
    }
    let mut code = ExitCode::SUCCESS;
    if let Some(duration) = args.bench {
        code = run_bank(bank_options(addresses.clone(), duration)).await;
    }
    if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        print_hints(&cluster, args.bench.is_some());
        let shell: ExitCode = client::shell::run(ShellOptions::new(addresses)).await.into();
        if args.bench.is_none() {
            code = shell;
        }
    }
    cluster.stop().await;
    drop(scratch);
    code
}

async fn wait_until_served(addresses: &str) -> Result<(), String> {
    const PATIENCE: Duration = Duration::from_secs(30);
    let until = std::time::Instant::now() + PATIENCE;
    loop {
        let answer = match client::driver::Client::connect(addresses).await {
            Ok(client) => client.query("SELECT count(*) FROM meridian_demo_probe", &[]).await.map(drop),
            Err(error) => Err(error),
        };
        match answer {
            Ok(()) => return Ok(()),
            // It answers: there is just no such table.
            Err(error) if error.sqlstate() == "42P01" => return Ok(()),
            Err(error) if std::time::Instant::now() >= until => {
                return Err(format!("the cluster does not answer: {error}"));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

fn print_hints(cluster: &Cluster, bank: bool) {
    println!();
    println!("You are in the SQL shell of {} nodes. Some things to try:", cluster.nodes.len());
    if bank {
        println!("  SELECT count(*), sum(balance) FROM bank_accounts;");
        println!("  SHOW RANGES FROM TABLE bank_accounts;");
    } else {
        println!("  CREATE TABLE t (id INT8 PRIMARY KEY, name TEXT);");
    }
    println!("  SHOW CLOCK;   EXPLAIN SELECT ...;   \\?  for the shell's commands");
    println!("Other programs reach the cluster at {}. Ctrl-D ends it and removes its data.", cluster.addresses());
    println!();
}
