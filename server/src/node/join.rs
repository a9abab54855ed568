//! How a fresh node becomes a member of a cluster that runs.
//!
//! ```text
//!   fresh node                                     any member: the sponsor
//!       │  Join {store, address, boot, locality}        │
//!       ├──────────────────────────────────────────────▶│  registers the store: an id, and a row that says Joining
//!       │◀──────────────────────────────────────────────┤
//!       │  Welcome {identity, members, clock's offset}  │
//!       │  writes it all down, the identity last
//!       │  opens its core, without ranges; streams to all members
//!       │  its clock is confirmed by a majority
//!       │  announces its first start: its row says Active, and it counts
//! ```
//!
//! The row names the store, so that a node that asks again, having crashed or lost the answer, is given the same id. An id that is never
//! used after all stays `Joining`: it counts for nothing, and can be decommissioned.
//!
//! **Clocks.** While all members keep one host's clock they wait for nothing, since they have one clock without error. A node of another
//! host has another one; before it may begin a transaction, every member would have to go over to a bound that covers both. That
//! cannot be done while the cluster runs: the sponsor refuses such a node, and says that all nodes have to be started again with a
//! clock that has a bound. A node of the same host is given the sponsor's offset, and so proposes none of its own (see
//! [`txn::clock::HostTime`]).

use std::time::Duration;

use proto::clock::ClockDomain;
use proto::{ClusterId, NodeRecord};

use super::bootstrap::{Answer, Bootstrap, Question};
use super::folder::{Acquaintances, FORMAT, Identity};
use super::membership::leading_ranges;
use crate::io::clock::begin_with_offset;
use crate::kv::Db;
use crate::kv::registry::{Candidate, Outcome};

/// How often the nodes of the join list are asked.
const ASK_EVERY: Duration = Duration::from_millis(300);

/// What a member lets others in with.
pub struct Sponsor {
    pub cluster: ClusterId,
    pub db: Db,
}

/// What a candidate has to know of the clock that the members keep: the offset of their host's, or nothing of universal time.
///
/// # Errors
/// In words, if it cannot keep the same clock.
fn offset_for(members: ClockDomain, candidate: &Candidate) -> Result<Option<u64>, String> {
    match members {
        ClockDomain::Utc => Ok(None),
        ClockDomain::Host { boot, offset } if boot == candidate.boot_id => Ok(Some(offset)),
        ClockDomain::Host { .. } => Err(format!(
            "all nodes of this cluster share the clock of one host, and the node at {} runs on another: start all nodes again \
             with --clock-source kernel, or with --clock-source fixed:BOUND, such as fixed:250ms, and then this one in the same way",
            candidate.address
        )),
    }
}

impl Sponsor {
    /// Lets a store in.
    async fn let_in(&self, candidate: &Candidate) -> Answer {
        let offset = match offset_for(self.db.env().clock().domain(), candidate) {
            Ok(offset) => offset,
            Err(why) => return Answer::Refused(why),
        };
        let row = match self.db.register(candidate).await {
            Ok(Outcome::Member(row)) => row,
            Ok(Outcome::Wait(why)) => return Answer::NotYet(why),
            Ok(Outcome::Refused(why)) => return Answer::Refused(why),
            Err(error) => return Answer::NotYet(error.to_string()),
        };
        if let Err(error) = self.db.refresh_members().await {
            return Answer::NotYet(error.to_string());
        }
        let members: Vec<NodeRecord> = self.db.members();
        let present = members.iter().filter(|m| m.state.is_member()).map(|m| m.descriptor.clone()).collect();
        let identity = Identity {
            cluster: self.cluster,
            node: row.descriptor.id,
            members: present,
            ranges: leading_ranges(&self.db),
            format: FORMAT,
            same_host: Some(offset.is_some()),
        };
        tracing::info!(node = %row.descriptor.id, address = row.descriptor.address, "a node joins");
        Answer::Welcome { identity, members, offset }
    }
}

impl Bootstrap {
    /// From now on this node lets others in.
    pub fn sponsor(&self, sponsor: Sponsor) {
        // Set once, by the node that made both.
        let _ = self.sponsor.set(sponsor);
    }

    /// What a store that wants to join is answered.
    pub(super) async fn answer_join(&self, candidate: &Candidate) -> Answer {
        let Some(sponsor) = self.sponsor.get() else {
            return Answer::NotYet("this node is not part of a cluster yet".into());
        };
        // Nobody becomes a member whom the others could not reach.
        match self.ask(&candidate.address, &Question::Who).await {
            Ok(Answer::Me { identity: None, .. }) => sponsor.let_in(candidate).await,
            Ok(_) => Answer::NotYet(format!("the node at {} belongs to a cluster already", candidate.address)),
            Err(why) => Answer::NotYet(format!("{why}. Is it what the others call this node (--advertise)?")),
        }
    }

    /// Asks the nodes of the join list, again and again, to be let in. Ends once the node has an identity.
    ///
    /// # Errors
    /// A sentence, when it is refused.
    pub(super) async fn join(&self) -> Result<(), String> {
        let question = Question::Join(self.own.clone());
        let mut said = String::new();
        while self.identity().is_none() {
            for address in self.others() {
                match self.ask(address, &question).await {
                    Ok(Answer::Welcome { identity, members, offset }) => {
                        return self.enter(identity, members, offset);
                    }
                    Ok(Answer::Refused(why)) => return Err(format!("the node at {address} refuses this one: {why}")),
                    Ok(Answer::NotYet(why)) if why != said => {
                        tracing::info!(address, why, "not let in yet");
                        said = why;
                    }
                    // One that does not answer may still be starting.
                    _ => {}
                }
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
        Ok(())
    }

    /// Writes down that the node is a member, and all that it has to know; the identity last.
    fn enter(&self, identity: Identity, members: Vec<NodeRecord>, offset: Option<u64>) -> Result<(), String> {
        if self.identity().is_some() {
            return Ok(());
        }
        if let Some(offset) = offset {
            begin_with_offset(&self.folder.clock(), &self.own.boot_id, offset)?;
        }
        self.folder.set_acquaintances(&Acquaintances { members, ranges: identity.ranges.clone() })?;
        self.adopt(identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::{Locality, StoreId};

    #[test]
    fn a_node_of_another_host_is_kept_out_of_a_host_clock() {
        let (address, boot_id) = ("host:1".into(), "a boot".into());
        let candidate = Candidate { store: StoreId(1), address, boot_id, locality: Locality::default() };
        let host = |boot: &str| ClockDomain::Host { boot: boot.into(), offset: 7 };
        assert_eq!(offset_for(host("a boot"), &candidate), Ok(Some(7)));
        assert_eq!(offset_for(ClockDomain::Utc, &candidate), Ok(None));
        assert!(offset_for(host("another"), &candidate).unwrap_err().contains("--clock-source fixed:BOUND"));
    }
}
