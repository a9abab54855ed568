//! Keeps a node's picture of its cluster current.
//!
//! ```text
//!   start ──▶ what the store directory remembers ──▶ in force
//!                                                       ▲
//!   announced (address, locality, the start's number)   │  every second, and at once when a stranger introduces itself
//!        │                                              │
//!        └──▶ the registry's rows ──────────────────────┘──▶ DIR/members
//! ```
//!
//! What is in force: to whom streams are kept open, whose streams are taken, whose word counts on clocks and who is told of this
//! node's, who is to lead nothing. A node that finds itself decommissioned ends.
//!
//! Nodes learn of a change at different times. That harms nobody: ranges have their own members and do not rest on this list, and
//! a node that is not known yet just gets no answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use proto::{NodeId, NodeRecord, NodeRun, Span, keyspace};
use tokio::sync::mpsc;
use txn::clock::Voice;

use super::folder::{Acquaintances, Folder};
use crate::env::Clock;
use crate::io::event_loop::Input;
use crate::io::transport::Transport;
use crate::kv::Db;
use crate::kv::aftermath::Aftermath;
use crate::kv::registry::{Candidate, Outcome, gone};
use crate::store::Event;

/// How often the registry is read.
const READ_EVERY: Duration = Duration::from_secs(1);
/// How often it is asked whether the registry should be read at once.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// See the module.
pub struct Membership {
    pub db: Db,
    pub transport: Arc<Transport>,
    pub clock: Arc<dyn Clock>,
    pub store: Sender<Input>,
    pub folder: Arc<Folder>,
    /// What there is to announce.
    pub candidate: Candidate,
    pub run: NodeRun,
    /// Told, in words, when another node says that this one is no member.
    pub dismissal: mpsc::UnboundedReceiver<String>,
    /// What is in force.
    pub applied: Vec<NodeRecord>,
    /// What a recovery of the cluster has left to do.
    pub aftermath: Option<Aftermath>,
}

/// Whose word counts on clocks: the other members.
pub fn voices(me: NodeId, members: &[NodeRecord]) -> BTreeMap<NodeId, Voice> {
    let others = members.iter().filter(|m| m.descriptor.id != me && m.state.is_member());
    let voice = |m: &NodeRecord| if m.state.counts() { Voice::Counted } else { Voice::Heard };
    others.map(|m| (m.descriptor.id, voice(m))).collect()
}

impl Membership {
    /// Announces the node and goes on until it cannot any more; then says why.
    pub async fn keep(mut self) -> String {
        let (_kept, never) = mpsc::unbounded_channel();
        let mut dismissal = std::mem::replace(&mut self.dismissal, never);
        tokio::select! {
            biased;
            Some(why) = dismissal.recv() => why,
            why = self.keep_on() => why,
        }
    }

    async fn keep_on(&mut self) -> String {
        let mut announced = false;
        loop {
            if let Err(why) = self.settle_aftermath().await {
                return why;
            }
            if !announced {
                match self.db.announce(&self.candidate, self.run).await {
                    Ok(Outcome::Member(_)) => announced = true,
                    Ok(Outcome::Refused(why) | Outcome::Wait(why)) => return why,
                    Err(error) => tracing::debug!(%error, "the node's start was not announced yet"),
                }
            }
            match self.db.refresh_members().await {
                Ok(()) => {}
                Err(error) => tracing::debug!(%error, "the registry was not read"),
            }
            if let Err(why) = self.apply().await {
                return why;
            }
            let mut waited = Duration::ZERO;
            while waited < READ_EVERY && !self.db.take_members_wanted() {
                tokio::time::sleep(LOOK_EVERY).await;
                waited += LOOK_EVERY;
            }
        }
    }

    /// Does what a recovery has left to do. If the cluster is not ready for it, later.
    ///
    /// # Errors
    /// In words, why the node cannot go on.
    async fn settle_aftermath(&mut self) -> Result<(), String> {
        let Some(aftermath) = &self.aftermath else { return Ok(()) };
        if let Err(error) = self.db.settle_aftermath(aftermath).await {
            tracing::debug!(%error, "the recovery was not settled yet");
            return Ok(());
        }
        tracing::info!(plan = aftermath.plan, "the recovery is settled: those who were given up are barred");
        self.aftermath = None;
        let folder = self.folder.clone();
        tokio::task::spawn_blocking(move || folder.set_recovery(None)).await.map_err(|e| e.to_string())?
    }

    /// Puts what the gateway knows of the members in force.
    ///
    /// # Errors
    /// In words, why the node cannot go on.
    async fn apply(&mut self) -> Result<(), String> {
        let members = self.db.members();
        let me = self.db.node();
        if members.iter().any(|m| m.descriptor.id == me && !m.state.is_member()) {
            return Err(gone(me));
        }
        if members != self.applied {
            self.put_in_force(&members);
            let ranges = leading_ranges(&self.db);
            let (folder, known) = (self.folder.clone(), Acquaintances { members: members.clone(), ranges });
            let written = tokio::task::spawn_blocking(move || folder.set_acquaintances(&known)).await;
            written.map_err(|e| e.to_string())??;
            self.applied = members;
        }
        Ok(())
    }

    /// Tells everybody on this node who the members are.
    pub fn put_in_force(&self, members: &[NodeRecord]) {
        let present = || members.iter().filter(|m| m.state.is_member());
        let addresses = present().map(|m| (m.descriptor.id, m.descriptor.address.clone())).collect();
        self.transport.set_peers(&addresses);
        self.clock.set_others(&voices(self.db.node(), members));
        let states = members.iter().map(|m| (m.descriptor.id, m.state)).collect();
        // An ended store needs no telling.
        let _ = self.store.send(Input::Event(Event::Members(states)));
    }
}

/// The ranges that lead to all others: those with the descriptors.
pub fn leading_ranges(db: &Db) -> Vec<proto::RangeDescriptor> {
    db.known_ranges(&Span::prefix(&keyspace::start_of(keyspace::META)))
}
