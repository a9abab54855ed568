//! How fresh nodes become a cluster.
//!
//! `init` is sent to one node. It asks all nodes of its join list who they are, draws up a plan (the cluster's id, each member's
//! number, the first ranges) and has each of them write its identity down. Asked again after a failure it finishes what was
//! begun: a node that has an identity already answers with it, and the plan is then that cluster's.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use minicbor::{Decode, Encode};
use proto::v1::PeerRequest;
use proto::v1::peer_client::PeerClient;
use proto::{ClusterId, Locality, NodeDescriptor, NodeId, codec};
use tokio::sync::{Mutex, watch};
use tonic::async_trait;

use super::folder::{FORMAT, Folder, Identity};
use crate::io::clock::boot_name;
use crate::io::peer::PeerCalls;
use crate::store::recover::initial_ranges;

/// What nodes ask each other.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
enum Question {
    #[n(0)]
    Who,
    /// This is who you are.
    #[n(1)]
    Be(#[n(0)] Identity),
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
enum Answer {
    #[n(0)]
    Me {
        #[n(0)]
        address: String,
        #[n(1)]
        boot_id: String,
        #[n(2)]
        identity: Option<Identity>,
    },
    /// Written down.
    #[n(1)]
    Done,
}

/// Replicas of the first ranges.
const REPLICAS: usize = 3;
const REPLICAS_OF_LARGER_CLUSTERS: usize = 5;

/// A node that may not be part of a cluster yet.
pub struct Bootstrap {
    pub folder: Arc<Folder>,
    address: String,
    join: Vec<String>,
    boot_id: String,
    /// Told when the node has an identity.
    identity: watch::Sender<Option<Identity>>,
    /// One plan at a time.
    planning: Mutex<()>,
}

impl Bootstrap {
    pub fn new(folder: Arc<Folder>, address: String, join: Vec<String>, identity: Option<Identity>) -> Bootstrap {
        let boot_id = boot_name();
        Bootstrap { folder, address, join, boot_id, identity: watch::Sender::new(identity), planning: Mutex::default() }
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

    fn adopt(&self, identity: Identity) -> Result<(), String> {
        match self.identity() {
            Some(own) if own == identity => Ok(()),
            Some(own) => Err(format!("this node is {} of cluster {} already", own.node, own.cluster)),
            None => {
                self.folder.set_identity(&identity)?;
                self.identity.send_replace(Some(identity));
                Ok(())
            }
        }
    }

    /// Makes a cluster of the join list.
    ///
    /// # Errors
    /// A sentence, when a node does not answer or belongs to another cluster.
    pub async fn init(&self) -> Result<ClusterId, String> {
        let _one = self.planning.lock().await;
        let mut addresses: BTreeSet<String> = self.join.iter().cloned().collect();
        addresses.insert(self.address.clone());
        // In the order of the join list, so that numbers are what an operator expects; itself first if it is not on it.
        let mut order: Vec<String> = Vec::new();
        for address in std::iter::once(&self.address).filter(|a| !self.join.contains(a)).chain(&self.join) {
            if addresses.remove(address) {
                order.push(address.clone());
            }
        }
        let mut nodes: Vec<(String, String, Option<Identity>)> = Vec::new();
        for address in &order {
            let Answer::Me { address: own, boot_id, identity } = self.ask(address, &Question::Who).await? else {
                return Err(format!("{address} answered something else than it was asked"));
            };
            nodes.push((own, boot_id, identity));
        }
        let begun = nodes.iter().find_map(|(_, _, identity)| identity.clone());
        let (cluster, members, ranges) = match begun {
            Some(identity) => (identity.cluster, identity.members, identity.ranges),
            None => {
                let members: Vec<NodeDescriptor> = nodes
                    .iter()
                    .zip(1..)
                    .map(|((address, boot_id, _), id)| NodeDescriptor {
                        id: NodeId(id),
                        address: address.clone(),
                        boot_id: boot_id.clone(),
                        locality: Locality::default(),
                    })
                    .collect();
                let replicas =
                    if members.len() >= REPLICAS_OF_LARGER_CLUSTERS { REPLICAS_OF_LARGER_CLUSTERS } else { REPLICAS };
                let ids: Vec<NodeId> = members.iter().take(replicas).map(|m| m.id).collect();
                let cluster = ClusterId(uuid::Uuid::new_v4().as_u128());
                (cluster, members, initial_ranges(&ids))
            }
        };
        for (address, _, _) in &nodes {
            let member = members.iter().find(|m| m.address == *address);
            let member =
                member.ok_or_else(|| format!("{address} is no member of the cluster {cluster} that was begun"))?;
            let identity =
                Identity { cluster, node: member.id, members: members.clone(), ranges: ranges.clone(), format: FORMAT };
            self.ask(address, &Question::Be(identity)).await?;
        }
        Ok(cluster)
    }

    /// Asks the nodes of the join list, until each has answered, whether they belong to this node's cluster. Returns what is
    /// wrong as soon as one does not; a node that is in none yet says nothing.
    pub async fn find_strangers(&self) -> Option<String> {
        const PAUSE: Duration = Duration::from_secs(2);
        let own = self.identity()?;
        let mut unasked: Vec<&String> = self.join.iter().filter(|address| **address != self.address).collect();
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

    async fn ask(&self, address: &str, question: &Question) -> Result<Answer, String> {
        let payload = codec::encode(question);
        let reply = if address == self.address { self.answer(&payload).await? } else { call(address, payload).await? };
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
            Question::Who => {
                Answer::Me { address: self.address.clone(), boot_id: self.boot_id.clone(), identity: self.identity() }
            }
            Question::Be(identity) => {
                self.adopt(identity)?;
                Answer::Done
            }
        };
        Ok(codec::encode(&answer))
    }
}
