//! What can be typed after `meridian`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use client::shell::{Format, ShellOptions};
use proto::Locality;

use txn::clock::Trust;

use super::placement_args::PlacementArgs;
use crate::node::{ClockChoice, ClockConfig};
use crate::telemetry::LogFormat;

/// An open, strictly serializable, range-sharded SQL database.
#[derive(Debug, Parser)]
#[command(name = "meridian", version, arg_required_else_help = true)]
pub struct Args {
    /// What to log: a level (error, warn, info, debug, trace) or directives as in "info,server::raft=debug".
    #[arg(long, global = true, env = "MERIDIAN_LOG", default_value = "warn")]
    pub log: String,
    /// How to log.
    #[arg(long, global = true, env = "MERIDIAN_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a node.
    Start(StartArgs),
    /// Make a cluster of nodes that were started. Once, on any of them.
    Init {
        /// A node of the cluster to be.
        #[arg(long, default_value = DEFAULT_ADDRESS, value_name = "HOST:PORT")]
        addr: String,
    },
    /// Look after the nodes of a cluster.
    #[command(subcommand)]
    Node(NodeArgs),
    /// Get a cluster to run again that has lost a majority of its nodes for good.
    #[command(subcommand)]
    Recover(RecoverArgs),
    /// Run a whole cluster in this process, in a temporary directory, and open the SQL shell on it.
    Demo(DemoArgs),
    /// Talk SQL to a cluster.
    Sql(SqlArgs),
    /// Measure a cluster.
    #[command(subcommand)]
    Bench(BenchArgs),
}

pub const DEFAULT_ADDRESS: &str = "127.0.0.1:7250";

#[derive(Debug, clap::Args)]
pub struct StartArgs {
    /// The node's store directory; created if it is not there.
    #[arg(long, value_name = "DIR")]
    pub store: PathBuf,
    /// Where to listen for nodes and gRPC clients.
    #[arg(long, default_value = DEFAULT_ADDRESS, value_name = "HOST:PORT")]
    pub listen: String,
    /// What the other nodes call this one, if not by the address that it listens on.
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// Nodes of the cluster, as they call each other: all of them, where it is to be made by `init`; some of those that run, where this one is to join.
    #[arg(long, value_delimiter = ',', value_name = "HOST:PORT,...")]
    pub join: Vec<String>,
    /// Where to listen for PostgreSQL clients.
    #[arg(long, value_name = "HOST:PORT")]
    pub pg_listen: Option<String>,
    /// Where to serve /healthz, /readyz and /metrics.
    #[arg(long, value_name = "HOST:PORT")]
    pub http_listen: Option<String>,
    /// The failure domains that the node belongs to, the widest first, such as region=eu,zone=b,host=h7.
    #[arg(long, default_value = "", value_name = "TIER=VALUE,...")]
    pub locality: Locality,
    /// Which clock to read: `same-host` is one that all nodes of a host share and that nobody can step; `kernel` takes the error from
    /// what synchronises the machine's clock; `fixed:BOUND`, such as fixed:1ms, declares it; `auto` is `same-host` for a cluster
    /// founded on one host, and else `fixed` with --clock-max-error. The same on all nodes.
    #[arg(long, default_value = "auto", value_name = "SOURCE", value_parser = parse_clock_source)]
    pub clock_source: ClockChoice,
    /// The greatest error of this machine's wall clock, where the source does not tell: an unsynchronised kernel, or nodes of a host that
    /// have not all met since it was booted.
    #[arg(long, default_value = "250ms", value_name = "DURATION", value_parser = parse_duration)]
    pub clock_max_error: Duration,
    /// Whether clocks are believed to keep their bounds. With `untrusted` nothing is refused on account of a clock and nobody waits: transactions
    /// stay serializable, but one may not see what another client was told a moment before. The same on all nodes.
    #[arg(long, default_value = "bounded", value_name = "TRUST", value_parser = parse_trust)]
    pub clocks: Trust,
    /// How long idempotency keys are kept, with the results of their transactions. The same on all nodes: any of them may collect what is older.
    #[arg(long, default_value = "24h", value_name = "DURATION", value_parser = parse_duration)]
    pub idempotency_retention: Duration,
    #[command(flatten)]
    pub placement: PlacementArgs,
}

impl StartArgs {
    pub fn clock(&self) -> ClockConfig {
        ClockConfig { source: self.clock_source, max_error: self.clock_max_error, trust: self.clocks }
    }
}

#[derive(Debug, Subcommand)]
pub enum NodeArgs {
    /// Show the nodes, what they are called, and what they hold.
    List {
        #[command(flatten)]
        cluster: ClusterArgs,
    },
    /// Have a node give away all its leadership and take none. It stays up, holds its replicas and serves its clients.
    Drain(NodeId),
    /// Let a node lead again; also one that was to be decommissioned.
    Undrain(NodeId),
    /// Have a node lose its replicas, wait until it has none, and end its membership for good. May be interrupted and given again.
    Decommission {
        #[command(flatten)]
        node: NodeId,
        /// Do not wait: its replicas move away all the same, and the command given again ends its membership.
        #[arg(long)]
        no_wait: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum RecoverArgs {
    /// Write down what the store of a stopped node holds, for a plan that is made on another machine. Changes nothing.
    Collect {
        /// The node's store directory.
        #[arg(long, value_name = "DIR")]
        store: PathBuf,
        /// Where to write it.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Find out what each range can be rebuilt from, say what that may lose, and write a plan. Changes nothing.
    Plan {
        /// The nodes that are lost for good, such as 3,4. They are barred: their stores must never be started again.
        #[arg(long, value_delimiter = ',', value_name = "ID,...", value_parser = parse_node_id)]
        dead: Vec<u64>,
        /// Give up keys of which nothing survives: ranges without contents take their place.
        #[arg(long)]
        accept_lost_keys: bool,
        /// Where to write the plan.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Of every survivor, its store directory or what `collect` wrote.
        #[arg(required = true, value_name = "DIR|FILE")]
        stores: Vec<PathBuf>,
    },
    /// Carry a plan out in the store of a stopped survivor. Once on each; again is harmless.
    Apply {
        /// The node's store directory.
        #[arg(long, value_name = "DIR")]
        store: PathBuf,
        #[arg(value_name = "PLAN")]
        plan: PathBuf,
    },
    /// Tell whether all is well in the running cluster, and what is not. Ends with 0 only if it is.
    Verify {
        /// The plan: whether those whom it gave up are barred is looked at as well.
        #[arg(value_name = "PLAN")]
        plan: Option<PathBuf>,
        #[command(flatten)]
        cluster: ClusterArgs,
    },
}

#[derive(Debug, clap::Args)]
pub struct NodeId {
    /// The node's id, such as 4.
    #[arg(value_name = "ID", value_parser = parse_node_id)]
    pub id: u64,
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

#[derive(Debug, clap::Args)]
pub struct ClusterArgs {
    /// Nodes of the cluster; another is tried when one is down.
    #[arg(long, default_value = DEFAULT_ADDRESS, value_name = "HOST:PORT,...", env = "MERIDIAN_ADDR")]
    pub addr: String,
}

#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub nodes: u16,
    /// First load a bank and run the bank benchmark for this long, and print its report.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub bench: Option<Duration>,
    /// Where the first node listens for PostgreSQL clients.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "HOST:PORT")]
    pub pg_listen: String,
}

#[derive(Debug, clap::Args)]
pub struct SqlArgs {
    /// Nodes of the cluster; another is tried when one is down.
    #[arg(long, default_value = DEFAULT_ADDRESS, value_name = "HOST:PORT,...", env = "MERIDIAN_ADDR")]
    pub addr: String,
    /// Run these statements and end. May be given several times.
    #[arg(short = 'e', long = "execute", value_name = "SQL")]
    pub execute: Vec<String>,
    /// Run the statements of a file and end.
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub file: Vec<PathBuf>,
    /// How to print results: table, csv, tsv, json or vertical.
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Print each statement before its result.
    #[arg(long)]
    pub echo: bool,
}

#[derive(Debug, Subcommand)]
pub enum BenchArgs {
    /// Transfers between accounts, with an auditor that adds them up all along.
    Bank(BankArgs),
    /// What idle ranges cost: one node with few, and one with many, beside each other in processes of their own in a temporary directory.
    Idle(IdleArgs),
    /// The bank over few and over many ranges, in turn, on clusters in processes of their own in a temporary directory.
    Spread(SpreadArgs),
    /// What a split costs the transfers under way: the bank on a cluster in processes of its own in a temporary directory, looked at when ranges
    /// are split and when nothing happens, in turn.
    Split(SplitArgs),
    /// What a rolling restart costs the transfers under way: the bank on a cluster in processes of its own in a temporary directory, looked at when
    /// a node is stopped and started again, and when nothing happens, in turn.
    Restart(RestartArgs),
}

#[derive(Debug, clap::Args)]
pub struct RestartArgs {
    /// How many nodes, restarted one after the other.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=64))]
    pub nodes: u8,
    /// How often each node is restarted.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// From a node's answer after its restart until the next one stops; before it, nothing happens for as long.
    #[arg(long, default_value = "5s", value_name = "DURATION", value_parser = parse_duration)]
    pub pause: Duration,
    /// Drain each node before it is stopped, as an operator would who takes the time.
    #[arg(long)]
    pub drain: bool,
    #[arg(long, default_value_t = 1_000)]
    pub accounts: u64,
    #[arg(long, default_value_t = 16)]
    pub clients: usize,
    /// How many ranges the accounts are spread over.
    #[arg(long, default_value_t = 8)]
    pub ranges: u64,
    /// Ranges besides, which nobody asks anything.
    #[arg(long, default_value_t = 200, value_name = "COUNT")]
    pub idle_ranges: u64,
}

#[derive(Debug, clap::Args)]
pub struct SplitArgs {
    /// How many splits; as often nothing happens.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub splits: u32,
    /// From one moment that is looked at to the next.
    #[arg(long, default_value = "3s", value_name = "DURATION", value_parser = parse_duration)]
    pub every: Duration,
    #[arg(long, default_value_t = 10_000)]
    pub accounts: u64,
    #[arg(long, default_value_t = 64)]
    pub clients: usize,
    /// How many ranges the accounts are spread over to begin with.
    #[arg(long, default_value_t = 4)]
    pub ranges: u64,
}

#[derive(Debug, clap::Args)]
pub struct IdleArgs {
    /// How many ranges the nodes have, the fewest first.
    #[arg(long, value_delimiter = ',', default_value = "10,10000", value_name = "COUNT,...")]
    pub ranges: Vec<u64>,
    /// How long they are looked at.
    #[arg(long, default_value = "60s", value_name = "DURATION", value_parser = parse_duration)]
    pub duration: Duration,
}

#[derive(Debug, clap::Args)]
pub struct SpreadArgs {
    /// How many ranges the accounts are spread over, the fewest first.
    #[arg(long, value_delimiter = ',', default_value = "10,1000", value_name = "COUNT,...")]
    pub ranges: Vec<u64>,
    #[arg(long, default_value_t = 10_000)]
    pub accounts: u64,
    #[arg(long, default_value_t = 64)]
    pub clients: usize,
    /// Nodes of each cluster.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub nodes: u16,
    /// How long each run is.
    #[arg(long, default_value = "10s", value_name = "DURATION", value_parser = parse_duration)]
    pub duration: Duration,
    /// How often each number of ranges has its turn.
    #[arg(long, default_value_t = 5)]
    pub rounds: u32,
    /// Between two audits. An audit asks all ranges, and would be the load if it went on all the time.
    #[arg(long, default_value = "5s", value_name = "DURATION", value_parser = parse_duration)]
    pub audit_pause: Duration,
}

#[derive(Debug, clap::Args)]
pub struct BankArgs {
    /// Nodes of the cluster; the clients are spread over them.
    #[arg(long, default_value = DEFAULT_ADDRESS, value_name = "HOST:PORT,...", env = "MERIDIAN_ADDR")]
    pub addr: String,
    #[arg(long, default_value_t = 1000)]
    pub accounts: u64,
    #[arg(long, default_value_t = 64)]
    pub clients: usize,
    /// How long to run, such as 30s or 2m.
    #[arg(long, default_value = "10s", value_name = "DURATION", value_parser = parse_duration)]
    pub duration: Duration,
    /// How many ranges the accounts are spread over.
    #[arg(long, default_value_t = 8)]
    pub ranges: u64,
    /// Zipf's exponent of the choice of accounts: 0 is uniform, 1 heavily skewed.
    #[arg(long, default_value_t = 0.0, value_name = "THETA")]
    pub skew: f64,
    /// Write the report there as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// A duration as people write it: a number and us, ms, s, m or h.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("{text:?} is not a duration: write a number and us, ms, s, m or h, such as 30s")),
    };
    let number: f64 = number.parse().map_err(|_| format!("{text:?} is not a duration: {number:?} is not a number"))?;
    Duration::try_from_secs_f64(number * seconds).map_err(|e| format!("{text:?} is not a duration: {e}"))
}

/// A node's id as people write it: `4` or `n4`.
fn parse_node_id(text: &str) -> Result<u64, String> {
    let id = text.strip_prefix('n').unwrap_or(text).parse();
    id.map_err(|_| format!("{text:?} is no node's id: write a number, such as 4"))
}

fn parse_clock_source(text: &str) -> Result<ClockChoice, String> {
    match text.split_once(':') {
        None if text == "auto" => Ok(ClockChoice::Auto),
        None if text == "kernel" => Ok(ClockChoice::Kernel),
        None if text == "same-host" => Ok(ClockChoice::SameHost),
        Some(("fixed", bound)) => parse_duration(bound).map(ClockChoice::Fixed),
        _ => Err(format!("{text:?} is no source: write auto, same-host, kernel, or fixed:BOUND such as fixed:1ms")),
    }
}

fn parse_trust(text: &str) -> Result<Trust, String> {
    match text {
        "bounded" => Ok(Trust::Bounded),
        "untrusted" => Ok(Trust::Untrusted),
        _ => Err(format!("{text:?} is not known: write bounded or untrusted")),
    }
}

impl SqlArgs {
    pub fn into_options(self) -> ShellOptions {
        ShellOptions {
            execute: self.execute,
            files: self.file,
            format: self.format,
            echo: self.echo,
            ..ShellOptions::new(self.addr)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(parse_duration("250us"), Ok(Duration::from_micros(250)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_clock_source("fixed:2ms"), Ok(ClockChoice::Fixed(Duration::from_millis(2))));
        assert_eq!(parse_clock_source("same-host"), Ok(ClockChoice::SameHost));
        assert!(parse_clock_source("fixed").is_err() && parse_clock_source("fixed:").is_err());
        for wrong in ["", "5", "5 days", "s", "-1s", "1e99h"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}
