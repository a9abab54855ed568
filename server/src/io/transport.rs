//! Messages between nodes: one long-lived gRPC stream for each direction of each pair, batched.
//!
//! Sending never blocks and may lose messages: when the other side is away or slow, its queue overflows and what does not fit is
//! dropped. Whoever needs an answer asks again.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use proto::message::{Body, Envelope};
use proto::v1::peer_client::PeerClient;
use proto::v1::{PeerFrame, PeerHello};
use proto::{ClusterId, NodeDescriptor, NodeId, codec};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

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

/// The outgoing side of one node.
pub struct Transport {
    me: NodeId,
    clock: Arc<dyn Clock>,
    store: Sender<Input>,
    /// Set once the gateway exists: it sends through here, and answers to it come back here.
    db: OnceLock<Db>,
    peers: BTreeMap<NodeId, mpsc::Sender<Vec<u8>>>,
}

impl Transport {
    /// Opens streams to all other nodes, and keeps them open until the runtime ends or `stopped` is cancelled.
    pub fn start(
        me: NodeId,
        cluster: ClusterId,
        nodes: &[NodeDescriptor],
        clock: Arc<dyn Clock>,
        store: Sender<Input>,
        stopped: &tokio_util::sync::CancellationToken,
    ) -> Arc<Transport> {
        let mut peers = BTreeMap::new();
        let mut receivers = Vec::new();
        for node in nodes.iter().filter(|node| node.id != me) {
            let (sender, receiver) = mpsc::channel(QUEUE_MAX);
            peers.insert(node.id, sender);
            receivers.push((node.clone(), receiver));
        }
        let transport = Arc::new(Transport { me, clock, store, db: OnceLock::new(), peers });
        for (node, receiver) in receivers {
            let task = keep_stream(transport.clone(), node, cluster, receiver);
            let stopped = stopped.clone();
            tokio::spawn(async move { stopped.run_until_cancelled(task).await });
        }
        transport
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
        match envelope.body {
            Body::Response { id, response } => {
                // Refused whole, like any message from a clock beyond the bound.
                if self.clock.adopt(envelope.hlc).is_ok() {
                    db.deliver(id, response);
                }
            }
            body => {
                let event = Event::Message(Envelope { body, ..envelope });
                let _ = self.store.send(Input::Event(event));
            }
        }
    }
}

impl Outbox for Transport {
    fn send(&self, to: NodeId, body: Body) {
        if to == self.me {
            match (body, self.db.get()) {
                (Body::Response { id, response }, Some(db)) => db.deliver(id, response),
                (body, _) => {
                    let envelope = Envelope { from: self.me, hlc: self.clock.reading(), body };
                    let _ = self.store.send(Input::Event(Event::Message(envelope)));
                }
            }
            return;
        }
        if let Some(peer) = self.peers.get(&to) {
            let envelope = Envelope { from: self.me, hlc: self.clock.reading(), body };
            // A full queue drops: see the module.
            let _ = peer.try_send(codec::encode(&envelope));
        }
    }
}

/// Sends a peer what is queued for it, over one stream after another.
async fn keep_stream(
    transport: Arc<Transport>,
    peer: NodeDescriptor,
    cluster: ClusterId,
    mut queue: mpsc::Receiver<Vec<u8>>,
) {
    loop {
        if let Err(error) = stream_once(&peer.address, cluster, transport.me, &mut queue).await {
            tracing::debug!(peer = %peer.address, %error, "the stream to a node broke");
        }
        if let Some(db) = transport.db.get() {
            db.lost(peer.id);
        }
        // What waited for a node that is away is old news to it.
        while queue.try_recv().is_ok() {}
        tokio::time::sleep(RECONNECT).await;
    }
}

async fn stream_once(
    address: &str,
    cluster: ClusterId,
    me: NodeId,
    queue: &mut mpsc::Receiver<Vec<u8>>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(2))
        .keep_alive_timeout(Duration::from_secs(4))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(16 << 20)
        .connect()
        .await?;
    let mut client = PeerClient::new(channel).max_encoding_message_size(MESSAGE_BYTES_MAX);
    let (frames, receiver) = mpsc::channel(4);
    let hello = PeerHello {
        cluster_id: cluster.0.to_be_bytes().to_vec(),
        node_id: me.0,
        version: env!("CARGO_PKG_VERSION").into(),
    };
    frames.send(PeerFrame { messages: Vec::new(), hello: Some(hello) }).await?;
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
        ended = client.stream(ReceiverStream::new(receiver)) => ended.map(drop).map_err(Into::into),
        () = forward => Ok(()),
    }
}
