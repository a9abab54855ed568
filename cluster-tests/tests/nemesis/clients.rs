//! What the clients of all workloads have in common.

use std::fmt;
use std::time::{Duration, Instant};

use client::driver::{Client, Config, Error, ErrorKind};

/// A client that gives up on a silent node soon.
pub async fn connect(addresses: &[String]) -> Client {
    let mut config = Config::new(&addresses.join(",")).expect("addresses are host and port");
    config.sessions_max = 2;
    config.connect_timeout = Duration::from_secs(1);
    config.keepalive = Duration::from_millis(700);
    config.statement_timeout = Some(Duration::from_secs(20));
    Client::with_config(config).await.expect("the configuration is good")
}

/// Runs a statement until it succeeds.
pub async fn insist(client: &Client, sql: &str) {
    let began = Instant::now();
    while let Err(error) = client.execute(sql, &[]).await {
        assert!(began.elapsed() < Duration::from_secs(30), "{sql}: {error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// How a transaction that failed ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Without effect.
    None,
    Unknown,
    /// Something that no misfortune explains.
    Surprise,
}

impl Failure {
    /// What an error means. `committing` says whether a commit was sent.
    pub fn of(error: &Error, committing: bool) -> Failure {
        match error.kind() {
            ErrorKind::Retry | ErrorKind::Unavailable => Failure::None,
            ErrorKind::OutcomeUnknown => Failure::Unknown,
            ErrorKind::Deadline if committing => Failure::Unknown,
            ErrorKind::Deadline => Failure::None,
            _ => Failure::Surprise,
        }
    }
}

/// What a workload came to.
pub struct Verdict {
    pub name: &'static str,
    pub committed: usize,
    pub unknown: usize,
    pub found: Vec<String>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { name, committed, unknown, found } = self;
        write!(f, "{name}: {committed} committed, {unknown} of unknown outcome, {} things wrong", found.len())
    }
}
