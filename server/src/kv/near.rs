//! Reads in the past, asked of a replica that is near.
//!
//! What a range's replicas have applied can be read up to where it is closed ([`crate::range::closing`]), so the nearest one is asked first: this node's own,
//! else the one whose node shares the most tiers of the locality, if that is more than the leader's does. It answers at once or not at all, and is asked once;
//! whatever keeps it from answering, the leader is asked next, as for any other read.

use proto::request::{Operation, Read, Refusal, Reply, Response};
use proto::{Locality, NodeId, RangeDescriptor, ReplicaRole};

use super::db::Db;
use super::router::Failure;
use super::settle::Pusher;
use crate::probe::{Path, Point};

impl Db {
    /// Asks the nearest replica for a read in the past; `None` if the leader is to be asked.
    ///
    /// # Errors
    /// [`Failure::Repartition`] if the range is not what it was believed to be; those of settling intents.
    pub(super) async fn ask_near(
        &self,
        range: &RangeDescriptor,
        read: &Read,
        pusher: Option<Pusher>,
    ) -> Result<Option<Reply>, Failure> {
        let Some(node) = self.nearest(range).filter(|_| !self.probe().fires(Point::LeaderAsked)) else {
            return Ok(None);
        };
        let response = self.shared.router.ask_once(node, range, Operation::ReadPast(read.clone())).await;
        self.shared.counters.asked_near(matches!(response, Some(Response::Done(_))));
        match response {
            Some(Response::Done(reply)) => return Ok(Some(reply)),
            // What is no news comes from a replica that lags.
            Some(Response::Refused(Refusal::WrongRange(ranges))) if self.shared.router.learn(ranges.clone()) => {
                return Err(Failure::Repartition { sent: false });
            }
            Some(Response::Refused(Refusal::Intents(intents))) => {
                self.probe().took(Path::PastMetIntent);
                if let Some(pusher) = pusher {
                    self.settle(intents, pusher).await?;
                }
            }
            _ => {}
        }
        Ok(None)
    }

    /// The node whose replica is to be asked before the leader's, if there is one.
    fn nearest(&self, range: &RangeDescriptor) -> Option<NodeId> {
        let leader = self.shared.router.leader_of(range.id);
        let serves = |node: &NodeId| {
            range.replica_on(*node).is_some_and(|replica| replica.role != ReplicaRole::Learner)
                && !self.shared.router.is_away(*node)
        };
        let me = self.shared.node;
        if serves(&me) {
            return Some(me).filter(|me| leader != Some(*me));
        }
        let members = self.lock_members();
        let locality = |node: NodeId| members.get(&node).map(|member| &member.descriptor.locality);
        let own = locality(me)?;
        let shared = |node: NodeId| locality(node).map_or(0, |other: &Locality| own.shared_with(other));
        let others = range.replicas.iter().map(|replica| replica.node).filter(serves);
        // The lowest id of those that are as near as any.
        let nearest = others.max_by_key(|node| (shared(*node), std::cmp::Reverse(*node)))?;
        (leader.is_none_or(|leader| shared(nearest) > shared(leader))).then_some(nearest)
    }
}
