//! The incoming side of the streams between nodes, and the questions that nodes ask each other before there are any.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use proto::v1::peer_server::Peer;
use proto::v1::{PeerAck, PeerFrame, PeerReply, PeerRequest};
use proto::{ClusterId, NodeId, NodeRun};
use tonic::{Code, Request, Response, Status, Streaming, async_trait};

use super::transport::{DISMISSED, Transport};
use crate::kv::Db;
use crate::kv::registry::{Admission, Introduction};

/// Answers the questions of [`Peer::call`].
#[async_trait]
pub trait PeerCalls: Send + Sync {
    async fn answer(&self, payload: &[u8]) -> Result<Vec<u8>, String>;
}

/// Who may stream to this node, and to whom it goes. Set when the node is part of a cluster.
pub struct Membership {
    pub cluster: ClusterId,
    pub db: Db,
    pub transport: Arc<Transport>,
}

impl Membership {
    /// Whether a node's messages are taken.
    fn admit(&self, who: &Introduction) -> Result<(), Status> {
        match self.db.admit(who) {
            Admission::Welcome => Ok(()),
            Admission::Unknown => Err(Status::unavailable(format!("{} is not known here yet", who.node))),
            Admission::Dismissed(why) => {
                Err(Status::with_details(Code::PermissionDenied, why, Bytes::from_static(DISMISSED)))
            }
        }
    }
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

    /// Who opens a stream, and where its messages go.
    fn greet(&self, frame: &PeerFrame) -> Result<(&Membership, Introduction), Status> {
        let Some(membership) = self.membership.get() else {
            return Err(Status::unavailable("this node is not part of a cluster yet"));
        };
        let Some(hello) = &frame.hello else {
            return Err(Status::invalid_argument("a stream begins with a hello"));
        };
        if hello.cluster_id != membership.cluster.0.to_be_bytes() {
            return Err(Status::permission_denied(format!("this node belongs to cluster {}", membership.cluster)));
        }
        let me = membership.transport.me();
        if hello.to_node_id != 0 && hello.to_node_id != me.0 {
            return Err(Status::failed_precondition(format!("this is {me}, not {}", NodeId(hello.to_node_id))));
        }
        let run = NodeRun { starts: hello.starts, token: hello.run };
        let who = Introduction { node: NodeId(hello.node_id), run, address: hello.address.clone() };
        membership.admit(&who)?;
        // It may have come back at another address, to which answers have to go.
        if !who.address.is_empty() {
            membership.transport.meet(who.node, &who.address);
        }
        Ok((membership, who))
    }
}

#[async_trait]
impl Peer for PeerService {
    async fn stream(&self, request: Request<Streaming<PeerFrame>>) -> Result<Response<PeerAck>, Status> {
        let mut frames = request.into_inner();
        let Some(first) = frames.message().await? else { return Ok(Response::new(PeerAck {})) };
        let (membership, who) = self.greet(&first)?;
        while let Some(frame) = frames.message().await? {
            // It may have been decommissioned meanwhile, or have been started again.
            membership.admit(&who)?;
            for message in &frame.messages {
                membership.transport.receive(message);
            }
        }
        Ok(Response::new(PeerAck {}))
    }

    async fn call(&self, request: Request<PeerRequest>) -> Result<Response<PeerReply>, Status> {
        let payload = self.calls.answer(&request.into_inner().payload).await.map_err(Status::failed_precondition)?;
        Ok(Response::new(PeerReply { payload }))
    }
}
