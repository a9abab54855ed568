//! Members that drain, are decommissioned, and are called back, as the registry says. Each process follows the registry as a real node does.
//!
//! A node that was decommissioned and is called back has few replicas left, or none: for the placement driver it is as good as one that has just joined.

use std::time::Duration;

use futures::future::BoxFuture;
use proto::{NodeDescriptor, NodeId, NodeState};
use server::kv::registry::founding_rows;
use server::kv::{BeginOptions, Db, Error, Kv, NodeChange};
use server::store::Event;

use super::node::descriptor;
use super::probe::Event as Seen;
use super::world::World;

const SECOND: u64 = 1_000_000_000;

/// Keeps a process's copy of the registry up to date.
pub fn follow(db: Db) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        loop {
            db.sleep(Duration::from_millis(100 + db.random() as u64 % 500)).await;
            let _ = db.refresh_members().await;
        }
    })
}

/// Lets a node lead again, and keep its replicas, as soon as that can be written down.
async fn call_back(db: &Db, node: NodeId) {
    while let Err(error) = db.change_node(node, NodeChange::Undrain).await {
        if matches!(error, Error::Invalid(_)) {
            return;
        }
        db.sleep(Duration::from_millis(50)).await;
    }
}

impl World {
    /// Writes the first members down.
    ///
    /// # Errors
    /// In words: whatever the database says.
    pub fn found(&mut self) -> Result<(), String> {
        let members: Vec<NodeDescriptor> = self.nodes.iter().map(|node| descriptor(node.id)).collect();
        self.ask(0, 20 * SECOND, |db| {
            Box::pin(async move {
                loop {
                    let mut txn = db.begin(BeginOptions::default()).await?;
                    for (key, row) in founding_rows(&members) {
                        txn.put(key, row)?;
                    }
                    match txn.commit().await {
                        Err(Error::Unavailable(_) | Error::OutcomeUnknown { .. } | Error::Retry(_)) => {}
                        other => return other.map(drop),
                    }
                }
            })
        })
    }

    /// Changes what is wanted of a node, through some node that runs, and takes it back later.
    pub(super) fn change_member(&mut self, node: usize, change: NodeChange, for_ns: u64) {
        let running: Vec<usize> = (0..self.nodes.len()).filter(|node| self.nodes[*node].process.is_some()).collect();
        let Some(db) = running.first().map(|_| *self.rng.pick(&running)).and_then(|through| self.db(through)) else {
            return;
        };
        let (node, probe) = (self.nodes[node].id, self.probe.clone());
        let seen = if change == NodeChange::Drain { Seen::NodeDrained } else { Seen::NodeRetired };
        let through = db.node().0 as usize - 1;
        let task = async move {
            if db.change_node(node, change).await.is_ok() {
                probe.saw(seen);
                db.sleep(Duration::from_nanos(for_ns)).await;
            }
            call_back(&db, node).await;
        };
        self.spawn(through, Box::pin(task));
    }

    /// Tells a node's store who is wanted for what, if its gateway has learned anything new.
    pub(super) fn put_members_in_force(&mut self, node: usize) {
        let news = self.db(node).filter(Db::take_members_wanted);
        if let Some(db) = news {
            let states: Vec<(NodeId, NodeState)> =
                db.members().iter().map(|member| (member.descriptor.id, member.state)).collect();
            self.step(node, Event::Members(states.into_iter().collect()));
        }
    }

    /// Calls back everybody.
    pub(super) fn call_all_back(&mut self) {
        let all: Vec<NodeId> = self.nodes.iter().map(|node| node.id).collect();
        for through in 0..self.nodes.len() {
            let Some(db) = self.db(through).filter(|_| self.is_whole(through)) else { continue };
            let all = all.clone();
            let task = async move {
                for node in all {
                    call_back(&db, node).await;
                }
            };
            self.spawn(through, Box::pin(task));
        }
    }
}
