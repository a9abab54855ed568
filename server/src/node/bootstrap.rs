//! How fresh nodes become a cluster.
//!
//! `init` is sent to one node. It asks all nodes of its join list who they are, draws up a plan (the cluster's id, each member's
//! number, the first ranges) and has each of them write its identity down. Asked again after a failure it finishes what was
//! begun: a node that has an identity already answers with it, and the plan is then that cluster's.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use minicbor::{Decode, Encode};
use proto::v1::PeerRequest;
use proto::v1::peer_client::PeerClient;
use proto::{ClusterId, Locality, NodeDescriptor, NodeId, NodeRecord, codec};
use tokio::sync::{Mutex, watch};
use tonic::async_trait;

use super::folder::{FORMAT, Folder, Identity};
use super::join::Sponsor;
use crate::io::peer::PeerCalls;
use crate::kv::registry::Candidate;
use crate::store::recover::initial_ranges;

/// What nodes ask each other.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) enum Question {
    #[n(0)]
    Who,
    /// This is who you are.
    #[n(1)]
    Be(#[n(0)] Identity),
    /// May I join?
    #[n(2)]
    Join(#[n(0)] Candidate),
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) enum Answer {
    #[n(0)]
    Me {
        #[n(0)]
        address: String,
        #[n(1)]
        boot_id: String,
        #[n(2)]
        identity: Option<Identity>,
        #[n(3)]
        locality: Option<Locality>,
    },
    /// Written down.
    #[n(1)]
    Done,
    /// This is who you are, and whom you should know.
    #[n(2)]
    Welcome {
        #[n(0)]
        identity: Identity,
        #[n(1)]
        members: Vec<NodeRecord>,
        /// Of the clock that all members keep, if it is that of their host.
        #[n(2)]
        offset: Option<u64>,
    },
    /// Ask again later: why.
    #[n(3)]
    NotYet(#[n(0)] String),
    /// No: why, and what to do.
    #[n(4)]
    Refused(#[n(0)] String),
}

/// Replicas of the first ranges.
const REPLICAS: usize = 3;

/// A node that may not be part of a cluster yet.
pub struct Bootstrap {
    pub folder: Arc<Folder>,
    /// The node as it introduces itself.
    pub(super) own: Candidate,
    join: Vec<String>,
    /// Set when the node can let others in.
    pub(super) sponsor: OnceLock<Sponsor>,
    /// Told when the node has an identity.
    identity: watch::Sender<Option<Identity>>,
    /// One plan at a time.
    planning: Mutex<()>,
}

impl Bootstrap {
    pub fn new(folder: Arc<Folder>, own: Candidate, join: Vec<String>, identity: Option<Identity>) -> Bootstrap {
        let identity = watch::Sender::new(identity);
        Bootstrap { folder, own, join, sponsor: OnceLock::new(), identity, planning: Mutex::default() }
    }

    /// What others call this node.
    pub fn address(&self) -> &str {
        &self.own.address
    }

    /// The other nodes of the join list.
    pub(super) fn others(&self) -> impl Iterator<Item = &String> {
        self.join.iter().filter(|address| **address != self.own.address)
    }

    pub fn identity(&self) -> Option<Identity> {
        self.identity.borrow().clone()
    }

    /// Waits until the node is part of a cluster.
    pub async fn joined(&self) -> Identity {
        let mut changes = self.identity.subscribe();
        let identity = changes.wait_for(Option::is_some).await.expect("the sender lives as long as self");
        identity.clone().expect("waited for")
    }

    /// Becomes who it is to be, unless it is somebody already.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn adopt(&self, identity: Identity) -> Result<(), String> {
        let mut result = Ok(());
        // Under the channel's lock: it may be told by init and be let in at the same moment.
        self.identity.send_if_modified(|current| {
            result = match &*current {
                Some(own) if *own == identity => return false,
                Some(own) => Err(format!("this node is {} of cluster {} already", own.node, own.cluster)),
                None => self.folder.set_identity(&identity),
            };
            if result.is_ok() {
                *current = Some(identity);
            }
            result.is_ok()
        });
        result
    }

    /// Makes a cluster of the join list.
    ///
    /// # Errors
    /// A sentence, when a node does not answer or belongs to another cluster.
    pub async fn init(&self) -> Result<ClusterId, String> {
        let _one = self.planning.lock().await;
        let mut addresses: BTreeSet<String> = self.join.iter().cloned().collect();
        addresses.insert(self.own.address.clone());
        // In the order of the join list, so that numbers are what an operator expects; itself first if it is not on it.
        let mut order: Vec<String> = Vec::new();
        for address in std::iter::once(&self.own.address).filter(|a| !self.join.contains(a)).chain(&self.join) {
            if addresses.remove(address) {
                order.push(address.clone());
            }
        }
        let mut nodes: Vec<(NodeDescriptor, Option<Identity>)> = Vec::new();
        for (address, id) in order.iter().zip(1..) {
            let Answer::Me { address: own, boot_id, identity, locality } = self.ask(address, &Question::Who).await?
            else {
                return Err(format!("{address} answered something else than it was asked"));
            };
            let locality = locality.unwrap_or_default();
            nodes.push((NodeDescriptor { id: NodeId(id), address: own, boot_id, locality }, identity));
        }
        let begun = nodes.iter().find_map(|(_, identity)| identity.clone());
        let (cluster, members, ranges) = match begun {
            Some(identity) => (identity.cluster, identity.members, identity.ranges),
            None => {
                let members: Vec<NodeDescriptor> = nodes.iter().map(|(node, _)| node.clone()).collect();
                let ids: Vec<NodeId> = members.iter().take(REPLICAS).map(|m| m.id).collect();
                let cluster = ClusterId(uuid::Uuid::new_v4().as_u128());
                (cluster, members, initial_ranges(&ids))
            }
        };
        for (NodeDescriptor { address, .. }, _) in &nodes {
            let member = members.iter().find(|m| m.address == *address);
            let member =
                member.ok_or_else(|| format!("{address} is no member of the cluster {cluster} that was begun"))?;
            let identity = Identity {
                cluster,
                node: member.id,
                members: members.clone(),
                ranges: ranges.clone(),
                format: FORMAT,
                same_host: None,
            };
            self.ask(address, &Question::Be(identity)).await?;
        }
        Ok(cluster)
    }

    /// Asks the nodes of the join list, until each has answered, who they are. Those of this node's cluster are told to `meet`, for they may have come
    /// back at other addresses; a node that is in none yet says nothing. Returns what is wrong as soon as one is of another cluster.
    pub async fn look_around(&self, meet: impl Fn(NodeId, &str)) -> Option<String> {
        const PAUSE: Duration = Duration::from_secs(2);
        let own = self.identity()?;
        let mut unasked: Vec<&String> = self.others().collect();
        while !unasked.is_empty() {
            let mut silent = Vec::new();
            for address in unasked {
                match self.ask(address, &Question::Who).await {
                    Ok(Answer::Me { identity: Some(theirs), .. }) if theirs.cluster != own.cluster => {
                        return Some(format!(
                            "the store directory belongs to {} of cluster {}, but the node at {address} is {} of cluster {}: \
                             give this node its own directory, or correct --join",
                            own.node, own.cluster, theirs.node, theirs.cluster
                        ));
                    }
                    Ok(Answer::Me { identity: Some(theirs), address, .. }) => meet(theirs.node, &address),
                    Ok(_) => {}
                    Err(_) => silent.push(address),
                }
            }
            unasked = silent;
            if !unasked.is_empty() {
                tokio::time::sleep(PAUSE).await;
            }
        }
        None
    }

    pub(super) async fn ask(&self, address: &str, question: &Question) -> Result<Answer, String> {
        let payload = codec::encode(question);
        let reply =
            if address == self.own.address { self.answer(&payload).await? } else { call(address, payload).await? };
        codec::decode("an answer", &reply).map_err(|e| format!("{address}: {e}"))
    }
}

async fn call(address: &str, payload: Vec<u8>) -> Result<Vec<u8>, String> {
    const TIMEOUT: Duration = Duration::from_secs(5);
    let fail = |e: &dyn std::fmt::Display| format!("node {address} does not answer: {e}");
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).map_err(|e| fail(&e))?;
    let channel = endpoint.connect_timeout(TIMEOUT).timeout(TIMEOUT).connect().await.map_err(|e| {
        let cause = std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string);
        fail(&cause)
    })?;
    let reply = PeerClient::new(channel).call(PeerRequest { payload }).await;
    Ok(reply.map_err(|status| fail(&status.message()))?.into_inner().payload)
}

#[async_trait]
impl PeerCalls for Bootstrap {
    async fn answer(&self, payload: &[u8]) -> Result<Vec<u8>, String> {
        let question: Question = codec::decode("a question", payload).map_err(|e| e.to_string())?;
        let answer = match question {
            Question::Who => Answer::Me {
                address: self.own.address.clone(),
                boot_id: self.own.boot_id.clone(),
                identity: self.identity(),
                locality: Some(self.own.locality.clone()),
            },
            Question::Be(identity) => {
                self.adopt(identity)?;
                Answer::Done
            }
            Question::Join(candidate) => self.answer_join(&candidate).await,
        };
        Ok(codec::encode(&answer))
    }
}
