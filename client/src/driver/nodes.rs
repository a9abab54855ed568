//! The nodes that a client knows, and which of them to try next.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tonic::transport::{Channel, Endpoint};
use tonic::{Code, ConnectError, Status};
use tonic_types::StatusExt;

use super::Config;
use super::error::{Error, Result, describe_status};

/// The greatest message that the driver takes from a server: a batch of rows, of which one may be large.
pub(super) const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// What may be on its way on one session, and on one connection, before the receiver has read on.
const SESSION_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// One connection to each node, made when first needed and made again by itself after a loss.
pub(super) struct Nodes {
    nodes: Vec<Node>,
    turn: AtomicUsize,
    pause: Duration,
}

struct Node {
    address: String,
    channel: Channel,
    /// Until when the node is tried only after the others.
    down_until: Mutex<Option<Instant>>,
}

impl Nodes {
    pub fn new(config: &Config) -> Result<Nodes> {
        let nodes = config.addresses.iter().map(|address| Node::new(address, config)).collect::<Result<_>>()?;
        Ok(Nodes { nodes, turn: AtomicUsize::new(0), pause: config.node_pause })
    }

    /// Every node once: those believed to be up first, beginning with another one at each call.
    pub fn in_turn(&self) -> Vec<usize> {
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let rotated = (0..self.nodes.len()).map(|i| (first + i) % self.nodes.len());
        let (up, down): (Vec<_>, Vec<_>) = rotated.partition(|&i| self.nodes[i].is_up(now));
        up.into_iter().chain(down).collect()
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn address(&self, node: usize) -> &str {
        &self.nodes[node].address
    }

    pub fn channel(&self, node: usize) -> Channel {
        self.nodes[node].channel.clone()
    }

    pub fn mark_down(&self, node: usize) {
        *self.nodes[node].lock() = Some(Instant::now() + self.pause);
    }

    pub fn mark_up(&self, node: usize) {
        *self.nodes[node].lock() = None;
    }

    /// Makes a unary call to one node after another until one answers. A call that may have had an effect before
    /// the connection was lost is not made again.
    pub async fn call<T, F>(&self, what: &str, mut call: impl FnMut(Channel) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let mut failures = Vec::new();
        for node in self.in_turn() {
            match call(self.channel(node)).await {
                Ok(answer) => {
                    self.mark_up(node);
                    return Ok(answer);
                }
                Err(status) if is_departure(&status) => {
                    self.mark_down(node);
                    failures.push((node, status.message().to_string()));
                }
                Err(status) if !is_connection_loss(&status) => return Err(Error::from_status(&status)),
                Err(status) => {
                    self.mark_down(node);
                    if !was_never_sent(&status) {
                        return Err(Error::outcome_unknown(what, Error::connection(describe_status(&status))));
                    }
                    failures.push((node, describe_status(&status)));
                }
            }
        }
        Err(self.unreachable(&failures))
    }

    /// The error when every node has been tried in vain.
    pub fn unreachable(&self, failures: &[(usize, String)]) -> Error {
        let each: Vec<String> = failures.iter().map(|(node, why)| format!("{}: {why}", self.address(*node))).collect();
        let message = format!("no node can be reached ({})", each.join("; "));
        Error::new(super::ErrorKind::Unavailable, "08001", message).with_reason("unreachable")
    }
}

impl Node {
    fn new(address: &str, config: &Config) -> Result<Node> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|e| Error::usage(format!("{address:?} is not an address: {e}")))?
            .connect_timeout(config.connect_timeout)
            .http2_keep_alive_interval(config.keepalive)
            .keep_alive_timeout(config.keepalive)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(SESSION_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        let channel = endpoint.connect_lazy();
        Ok(Node { address: address.to_string(), channel, down_until: Mutex::new(None) })
    }

    fn is_up(&self, now: Instant) -> bool {
        self.lock().is_none_or(|until| until <= now)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.down_until.lock().expect("no one panics while holding this lock")
    }
}

/// Whether a call failed for want of a connection, and not by the server's word.
pub(super) fn is_connection_loss(status: &Status) -> bool {
    let from_meridian = status.get_details_error_info().is_some_and(|info| info.domain == "meridian");
    !from_meridian && matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal)
}

/// Whether the node refused, as it is about to stop: what it was asked has had no effect.
pub(super) fn is_departure(status: &Status) -> bool {
    /// PostgreSQL's `admin_shutdown`.
    const ADMIN_SHUTDOWN: &str = "57P01";
    let info = status.get_details_error_info().filter(|info| info.domain == "meridian");
    info.is_some_and(|info| info.metadata.get("sqlstate").is_some_and(|state| state == ADMIN_SHUTDOWN))
}

/// Whether a call failed before anything of it was sent.
fn was_never_sent(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nodes_take_turns_and_one_that_is_down_comes_last() {
        let nodes = Nodes::new(&Config::new("a:1,b:1,c:1").unwrap()).unwrap();
        assert_eq!(nodes.in_turn(), [0, 1, 2]);
        assert_eq!(nodes.in_turn(), [1, 2, 0]);
        nodes.mark_down(2);
        assert_eq!(nodes.in_turn(), [0, 1, 2]);
        assert_eq!(nodes.in_turn(), [0, 1, 2]);
        nodes.mark_up(2);
        assert_eq!(nodes.in_turn(), [1, 2, 0]);
    }

    #[tokio::test]
    async fn a_call_that_was_never_sent_goes_to_the_next_node() {
        use proto::v1::admin_client::AdminClient;
        let nodes = Nodes::new(&Config::new("127.0.0.1:1,127.0.0.1:2").unwrap()).unwrap();
        let call = async |channel| AdminClient::new(channel).status(proto::v1::StatusRequest {}).await;
        let error = nodes.call("Status", call).await.unwrap_err();
        assert_eq!(error.sqlstate(), "08001");
        assert!(error.message().contains("127.0.0.1:1: ") && error.message().contains("127.0.0.1:2: "), "{error}");
    }
}
