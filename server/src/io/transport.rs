//! Messages between nodes: one long-lived gRPC stream for each direction of each pair, batched.
//!
//! Sending never blocks and may lose messages: when the other side is away or slow, its queue overflows and what does not fit is
//! dropped. Whoever needs an answer asks again.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock, RwLock};
use std::time::Duration;

use bytes::Bytes;
use proto::message::{Body, Envelope};
use proto::v1::peer_client::PeerClient;
use proto::v1::{PeerFrame, PeerHello};
use proto::{ClusterId, NodeId, NodeRun, codec};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;

use super::event_loop::Input;
use crate::env::{Clock, Outbox};
use crate::kv::Db;
use crate::store::Event;

/// Messages waiting for one node past which more are dropped.
const QUEUE_MAX: usize = 16_384;
/// Messages, and bytes, of one frame.
const FRAME_MESSAGES_MAX: usize = 512;
const FRAME_BYTES_MAX: usize = 4 << 20;
/// A Raft snapshot is one message.
pub const MESSAGE_BYTES_MAX: usize = 1 << 30;
/// How long to wait before a broken stream is opened again.
const RECONNECT: Duration = Duration::from_millis(100);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// In the details of a refusal: the node that was refused is no member any more, or not the one it takes itself for.
pub const DISMISSED: &[u8] = b"dismissed";

/// What a transport is made with.
pub struct TransportConfig {
    pub me: NodeId,
    pub cluster: ClusterId,
    /// What the others call this node.
    pub address: String,
    pub run: NodeRun,
    pub clock: Arc<dyn Clock>,
    pub store: Sender<Input>,
    /// Ends all streams.
    pub stopped: CancellationToken,
    /// Told, in words, when another node says that this one is no member.
    pub dismissed: mpsc::UnboundedSender<String>,
}

/// The outgoing side of one node.
pub struct Transport {
    config: TransportConfig,
    /// Set once the gateway exists: it sends through here, and answers to it come back here.
    db: OnceLock<Db>,
    peers: RwLock<BTreeMap<NodeId, Peer>>,
}

/// Another node, and the stream to it.
struct Peer {
    address: String,
    queue: mpsc::Sender<Vec<u8>>,
    /// Ends the stream.
    _ends: DropGuard,
}

impl Transport {
    /// A transport without streams.
    pub fn new(config: TransportConfig) -> Arc<Transport> {
        Arc::new(Transport { config, db: OnceLock::new(), peers: RwLock::default() })
    }

    /// Keeps streams open to these nodes, this one excepted, and to no others.
    pub fn set_peers(self: &Arc<Self>, addresses: &BTreeMap<NodeId, String>) {
        self.peers.write().expect("no holder of this lock panics").retain(|node, _| addresses.contains_key(node));
        for (node, address) in addresses {
            self.meet(*node, address);
        }
    }

    /// Keeps a stream open to a node at this address. One to another address is ended.
    pub fn meet(self: &Arc<Self>, node: NodeId, address: &str) {
        let mut peers = self.peers.write().expect("no holder of this lock panics");
        if node == self.config.me || peers.get(&node).is_some_and(|peer| peer.address == address) {
            return;
        }
        let (queue, receiver) = mpsc::channel(QUEUE_MAX);
        let ended = self.config.stopped.child_token();
        let task = keep_stream(self.clone(), node, address.to_string(), receiver);
        let end = ended.clone();
        tokio::spawn(async move { end.run_until_cancelled(task).await });
        peers.insert(node, Peer { address: address.to_string(), queue, _ends: ended.drop_guard() });
    }

    pub fn me(&self) -> NodeId {
        self.config.me
    }

    /// The gateway to which answers go.
    pub fn attach(&self, db: Db) {
        // Attached once, by the node that made both.
        let _ = self.db.set(db);
    }

    /// A message has arrived from another node.
    pub fn receive(&self, bytes: &[u8]) {
        let Ok(envelope) = codec::decode::<Envelope>("an envelope", bytes) else { return };
        let Some(db) = self.db.get() else { return };
        db.heard_of(envelope.from);
        if let Body::ReportWanted(meta) = &envelope.body {
            db.report_wanted(meta);
        }
        match envelope.body {
            Body::Response { id, response } => {
                // Refused whole, like any message from a clock beyond the bound.
                if self.config.clock.adopt(envelope.hlc).is_ok() {
                    db.deliver(id, response);
                }
            }
            Body::Report(report) => {
                if self.config.clock.adopt(envelope.hlc).is_ok() {
                    db.hear_report(envelope.from, report);
                }
            }
            body => {
                let event = Event::Message(Envelope { body, ..envelope });
                let _ = self.config.store.send(Input::Event(event));
            }
        }
    }
}

impl Outbox for Transport {
    fn send(&self, to: NodeId, body: Body) {
        if to == self.config.me {
            match (body, self.db.get()) {
                (Body::Response { id, response }, Some(db)) => db.deliver(id, response),
                (Body::Report(report), Some(db)) => db.hear_report(self.me(), report),
                (body, _) => {
                    let envelope = Envelope { from: self.config.me, hlc: self.config.clock.reading(), body };
                    let _ = self.config.store.send(Input::Event(Event::Message(envelope)));
                }
            }
            return;
        }
        if let Some(peer) = self.peers.read().expect("no holder of this lock panics").get(&to) {
            let envelope = Envelope { from: self.config.me, hlc: self.config.clock.reading(), body };
            // A full queue drops: see the module.
            let _ = peer.queue.try_send(codec::encode(&envelope));
        }
    }
}

/// Sends a peer what is queued for it, over one stream after another.
async fn keep_stream(transport: Arc<Transport>, node: NodeId, address: String, mut queue: mpsc::Receiver<Vec<u8>>) {
    loop {
        if let Err(status) = stream_once(&transport, node, &address, &mut queue).await {
            tracing::debug!(peer = %node, address, error = status.message(), "the stream to a node broke");
            if status.details() == DISMISSED {
                // Nobody listens any more once the node is stopping.
                let _ = transport.config.dismissed.send(format!("{node} says: {}", status.message()));
            }
        }
        if let Some(db) = transport.db.get() {
            db.lost(node);
        }
        // What waited for a node that is away is old news to it.
        while queue.try_recv().is_ok() {}
        tokio::time::sleep(RECONNECT).await;
    }
}

async fn stream_once(
    transport: &Transport,
    node: NodeId,
    address: &str,
    queue: &mut mpsc::Receiver<Vec<u8>>,
) -> Result<(), Status> {
    let unavailable = |e: tonic::transport::Error| Status::unavailable(e.to_string());
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}"))
        .map_err(unavailable)?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(2))
        .keep_alive_timeout(Duration::from_secs(4))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(16 << 20)
        .connect()
        .await
        .map_err(unavailable)?;
    let mut client = PeerClient::new(channel).max_encoding_message_size(MESSAGE_BYTES_MAX);
    let (frames, receiver) = mpsc::channel(4);
    let TransportConfig { me, cluster, run, address, .. } = &transport.config;
    let hello = PeerHello {
        cluster_id: cluster.0.to_be_bytes().to_vec(),
        node_id: me.0,
        version: env!("CARGO_PKG_VERSION").into(),
        to_node_id: node.0,
        address: address.clone(),
        starts: run.starts,
        run: run.token,
    };
    let first = PeerFrame { messages: Vec::new(), hello: Some(hello) };
    frames.send(first).await.map_err(|_| Status::internal("the stream ended before it began"))?;
    let forward = async {
        while let Some(first) = queue.recv().await {
            let mut bytes = first.len();
            let mut messages = vec![Bytes::from(first)];
            while messages.len() < FRAME_MESSAGES_MAX && bytes < FRAME_BYTES_MAX {
                let Ok(message) = queue.try_recv() else { break };
                bytes += message.len();
                messages.push(message.into());
            }
            if frames.send(PeerFrame { messages, hello: None }).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        biased;
        ended = client.stream(ReceiverStream::new(receiver)) => ended.map(drop),
        () = forward => Ok(()),
    }
}
