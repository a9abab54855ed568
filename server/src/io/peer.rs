//! The incoming side of the streams between nodes, and the questions that nodes ask each other before there are any.

use std::sync::{Arc, OnceLock};

use proto::v1::peer_server::Peer;
use proto::v1::{PeerAck, PeerFrame, PeerReply, PeerRequest};
use proto::{ClusterId, NodeId};
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::transport::Transport;

/// Answers the questions of [`Peer::call`].
#[async_trait]
pub trait PeerCalls: Send + Sync {
    async fn answer(&self, payload: &[u8]) -> Result<Vec<u8>, String>;
}

/// Who may stream to this node, and to whom it goes. Set when the node is part of a cluster.
pub struct Membership {
    pub cluster: ClusterId,
    pub members: Vec<NodeId>,
    pub transport: Arc<Transport>,
}

/// The service.
#[derive(Clone)]
pub struct PeerService {
    calls: Arc<dyn PeerCalls>,
    membership: Arc<OnceLock<Membership>>,
}

impl PeerService {
    pub fn new(calls: Arc<dyn PeerCalls>, membership: Arc<OnceLock<Membership>>) -> PeerService {
        PeerService { calls, membership }
    }

    fn admit(&self, frame: &PeerFrame) -> Result<Arc<Transport>, Status> {
        let Some(membership) = self.membership.get() else {
            return Err(Status::unavailable("this node is not part of a cluster yet"));
        };
        let Some(hello) = &frame.hello else {
            return Err(Status::invalid_argument("a stream begins with a hello"));
        };
        if hello.cluster_id != membership.cluster.0.to_be_bytes() {
            return Err(Status::permission_denied(format!("this node belongs to cluster {}", membership.cluster)));
        }
        if !membership.members.contains(&NodeId(hello.node_id)) {
            return Err(Status::permission_denied(format!("node {} is no member of this cluster", hello.node_id)));
        }
        Ok(membership.transport.clone())
    }
}

#[async_trait]
impl Peer for PeerService {
    async fn stream(&self, request: Request<Streaming<PeerFrame>>) -> Result<Response<PeerAck>, Status> {
        let mut frames = request.into_inner();
        let Some(first) = frames.message().await? else { return Ok(Response::new(PeerAck {})) };
        let transport = self.admit(&first)?;
        while let Some(frame) = frames.message().await? {
            for message in &frame.messages {
                transport.receive(message);
            }
        }
        Ok(Response::new(PeerAck {}))
    }

    async fn call(&self, request: Request<PeerRequest>) -> Result<Response<PeerReply>, Status> {
        let payload = self.calls.answer(&request.into_inner().payload).await.map_err(Status::failed_precondition)?;
        Ok(Response::new(PeerReply { payload }))
    }
}
