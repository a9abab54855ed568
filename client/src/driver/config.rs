//! What a client is told when it is made.

use std::time::Duration;

use super::RetryPolicy;
use super::error::{Error, Result};

/// How a [`Client`](super::Client) connects and how long it waits.
#[derive(Clone, Debug)]
pub struct Config {
    /// `host:port` of some nodes of one cluster; at least one.
    pub addresses: Vec<String>,
    pub user: String,
    pub database: String,
    /// Shown in the server's logs and in its list of sessions.
    pub application_name: String,
    /// At most this many sessions at a time; who needs one more waits for one to come back.
    pub sessions_max: usize,
    /// How long to wait for one node to accept a connection and open a session.
    pub connect_timeout: Duration,
    /// How long one statement may take, waiting for its rows included. None: as long as it takes. A statement that
    /// takes longer ends its session, so that the server gives it up too.
    pub statement_timeout: Option<Duration>,
    /// How long a node that could not be reached is tried only after all others.
    pub node_pause: Duration,
    /// How often to ask an otherwise silent connection for a sign of life. The connection is given up when none
    /// comes within the same time again.
    pub keepalive: Duration,
    /// How to run transactions again.
    pub retry: RetryPolicy,
    /// Whether a single statement that may write is to be settled when its answer is lost, at the price of one more round trip to the node.
    /// Otherwise the loss is reported as [`ErrorKind::OutcomeUnknown`](super::ErrorKind::OutcomeUnknown).
    pub settle_statements: bool,
}

impl Config {
    /// The defaults, for a list of addresses separated by commas.
    ///
    /// # Errors
    /// When an address is not `host:port`.
    pub fn new(addresses: &str) -> Result<Config> {
        let addresses: Vec<String> =
            addresses.split(',').map(str::trim).filter(|a| !a.is_empty()).map(str::to_string).collect();
        if addresses.is_empty() {
            return Err(Error::usage("no address given: expected host:port[,host:port...]"));
        }
        addresses.iter().try_for_each(|address| check_address(address))?;
        Ok(Config {
            addresses,
            user: "meridian".into(),
            database: "meridian".into(),
            application_name: String::new(),
            sessions_max: 16,
            connect_timeout: Duration::from_secs(3),
            statement_timeout: None,
            node_pause: Duration::from_secs(1),
            keepalive: Duration::from_secs(2),
            retry: RetryPolicy::default(),
            settle_statements: true,
        })
    }
}

fn check_address(address: &str) -> Result<()> {
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
    match port.map(str::parse::<u16>) {
        Some(Ok(_)) if !address.contains('/') => Ok(()),
        _ => Err(Error::usage(format!("{address:?} is not an address: expected host:port"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_before_anything_is_sent() {
        let config = Config::new(" 127.0.0.1:7001, [::1]:7002,node3:7003,").unwrap();
        assert_eq!(config.addresses, ["127.0.0.1:7001", "[::1]:7002", "node3:7003"]);
        for wrong in ["", ",", "localhost", "localhost:", ":7001", "localhost:http", "http://localhost:7001"] {
            assert!(Config::new(wrong).is_err(), "{wrong:?} was accepted");
        }
    }
}
