//! The registry: who the members of the cluster are, as rows of the system key space.
//!
//! ```text
//!   0x02 "node/" id   →  NodeRecord     one a member, kept for good: ids are never used twice
//!   0x02 "node-id"    →  the next id
//! ```
//!
//! All changes are ordinary transactions, so of two that contradict each other one is refused.
//!
//! * A store that joins is [registered](Db::register): it gets an id, and nothing more. Its row says `Joining`, and which store it
//!   belongs to; asked again by the same store, the registry gives the same id.
//! * Each start of a node is [announced](Db::announce), with its address and locality. A start that is not later than the latest
//!   one that was announced is that of a copy of the store.
//! * Operators change a node's [state](Db::change_state).
//!
//! Every node keeps a copy of the rows ([`Db::members`]), which [`Db::refresh_members`] brings up to date. What a node says when
//! it opens a stream is [judged](Db::admit) by that copy; a later start than the copy knows is believed at once, for its row can
//! only be written once the others answer it at its present address.
//!
//! Left out: a copy of a store that was taken during the latest start, and is started later, is not recognised.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use minicbor::{Decode, Encode};
use proto::{
    Key, Locality, NodeDescriptor, NodeId, NodeRecord, NodeRun, NodeState, RangeDescriptor, Span, StoreId, codec,
    keyspace,
};

use super::api::{BeginOptions, NodeChange, ScanOptions, Transaction};
use super::db::{Db, present};
use super::error::Error;
use super::meta::meta_span;
use super::transaction::KvTransaction;

/// Members past which a joining store is refused.
pub const MEMBERS_MAX: usize = 256;

/// A store that wants to join, or a node that has been started.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Candidate {
    #[n(0)]
    pub store: StoreId,
    #[n(1)]
    pub address: String,
    #[n(2)]
    pub boot_id: String,
    #[n(3)]
    pub locality: Locality,
}

impl Candidate {
    fn descriptor(&self, id: NodeId) -> NodeDescriptor {
        let Candidate { address, boot_id, locality, .. } = self.clone();
        NodeDescriptor { id, address, boot_id, locality }
    }
}

/// What became of a [`Candidate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is this member.
    Member(NodeRecord),
    /// Ask again later: in words, why.
    Wait(String),
    /// In words, why not and what to do.
    Refused(String),
}

/// How a node introduces itself to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduction {
    pub node: NodeId,
    pub run: NodeRun,
    pub address: String,
}

/// Whether a node's messages are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    Welcome,
    /// It is not known here; perhaps it will be in a moment.
    Unknown,
    /// It is a member no longer, or not the one it takes itself for: in words.
    Dismissed(String),
}

fn node_span() -> Span {
    Span::prefix(&Key([&[keyspace::SYSTEM], b"node/".as_slice()].concat()))
}

pub(super) fn node_key(node: NodeId) -> Key {
    Key([node_span().start.0.as_slice(), &node.0.to_be_bytes()].concat())
}

pub(super) fn node_counter() -> Key {
    Key([&[keyspace::SYSTEM], b"node-id".as_slice()].concat())
}

/// The rows of a cluster's founding members, which its meta range begins with.
pub fn founding_rows(members: &[NodeDescriptor]) -> Vec<(Key, Vec<u8>)> {
    let next = members.iter().map(|m| m.id.0 + 1).max().unwrap_or(1);
    let row = |m: &NodeDescriptor| (node_key(m.id), codec::encode(&NodeRecord::founding(m.clone())));
    members.iter().map(row).chain([(node_counter(), codec::encode(&next))]).collect()
}

pub(super) fn decode<T: for<'b> Decode<'b, ()>>(what: &'static str, bytes: &[u8]) -> Result<T, Error> {
    codec::decode(what, bytes).map_err(|e| Error::Corrupt(e.to_string()))
}

/// Whether a node that introduces itself is the member that it says it is.
pub fn judge(known: Option<&NodeRecord>, who: &Introduction) -> Admission {
    let Some(known) = known else { return Admission::Unknown };
    let (node, starts, latest) = (who.node, who.run.starts, known.run.starts);
    if !known.state.is_member() {
        return Admission::Dismissed(gone(node));
    }
    if starts < latest || (starts == latest && who.run != known.run) {
        return Admission::Dismissed(copied(node, starts, latest));
    }
    Admission::Welcome
}

/// What a node hears that is a member no longer.
pub fn gone(node: NodeId) -> String {
    format!(
        "{node} was decommissioned, or given up for lost, and is no member of the cluster any more: to use this machine again, start it with an \
         empty store directory and --join"
    )
}

fn copied(node: NodeId, starts: u64, latest: u64) -> String {
    format!(
        "this store is an old copy of {node}'s: it has been started {starts} times, and the cluster knows of start {latest}. \
         Start the latest one; if it is lost, decommission {node} and start this node with an empty store directory and --join"
    )
}

/// Gives a store that joins its place among the members. `next` is the counter's value.
fn place(rows: &[NodeRecord], next: u64, candidate: &Candidate) -> Outcome {
    if let Some(row) = rows.iter().find(|row| row.store == candidate.store) {
        let id = row.descriptor.id;
        return match row.state {
            NodeState::Joining => Outcome::Member(NodeRecord { descriptor: candidate.descriptor(id), ..row.clone() }),
            NodeState::Decommissioned => Outcome::Refused(gone(id)),
            _ => Outcome::Refused(format!(
                "this store has been {id} already, and has lost the file that says so: decommission {id}, and start this \
                 node with an empty store directory"
            )),
        };
    }
    let unborn = |row: &&NodeRecord| row.state.is_member() && row.run.starts == 0 && row.store == StoreId::default();
    if let Some(row) = rows.iter().filter(unborn).find(|row| row.descriptor.address == candidate.address) {
        let id = row.descriptor.id;
        return Outcome::Wait(format!("{id} is to be at {}: init is about to tell it so", candidate.address));
    }
    if rows.iter().filter(|row| row.state.is_member()).count() >= MEMBERS_MAX {
        return Outcome::Refused(format!("a cluster has at most {MEMBERS_MAX} members: decommission some first"));
    }
    let id = NodeId(rows.iter().map(|row| row.descriptor.id.0 + 1).max().unwrap_or(1).max(next));
    let run = NodeRun::default();
    let descriptor = candidate.descriptor(id);
    Outcome::Member(NodeRecord { descriptor, state: NodeState::Joining, run, store: candidate.store })
}

/// A member's row after a start; `row` is what was there.
fn started(row: Option<&NodeRecord>, id: NodeId, candidate: &Candidate, run: NodeRun) -> Outcome {
    let descriptor = candidate.descriptor(id);
    let Some(row) = row else {
        // A cluster from before there was a registry.
        return Outcome::Member(NodeRecord { run, store: candidate.store, ..NodeRecord::founding(descriptor) });
    };
    let who = Introduction { node: id, run, address: descriptor.address.clone() };
    if let Admission::Dismissed(why) = judge(Some(row), &who) {
        return Outcome::Refused(why);
    }
    if row.store != StoreId::default() && row.store != candidate.store {
        return Outcome::Refused(format!(
            "{id} has another store than this one: start this node with an empty directory"
        ));
    }
    let state = if row.state == NodeState::Joining { NodeState::Active } else { row.state };
    Outcome::Member(NodeRecord { descriptor, state, run, store: candidate.store })
}

/// Whether a node may be decommissioned: whether the others can carry its replicas.
///
/// # Errors
/// A sentence, if not.
pub fn may_decommission(node: NodeId, rows: &[NodeRecord], ranges: &[RangeDescriptor]) -> Result<(), String> {
    let needed = ranges.iter().map(|range| range.voters().count()).max().unwrap_or(0).max(1);
    let others = rows.iter().filter(|row| row.descriptor.id != node && row.state == NodeState::Active).count();
    if others >= needed {
        return Ok(());
    }
    Err(format!(
        "without {node} there would be {others} active nodes, and the ranges have up to {needed} voters: add a node first, with \
         `meridian start --join`"
    ))
}

/// The state into which a change brings a node.
///
/// # Errors
/// A sentence, if the change makes no sense or may not be.
fn changed(
    node: NodeId,
    change: NodeChange,
    rows: &[NodeRecord],
    ranges: &[RangeDescriptor],
) -> Result<NodeState, String> {
    use NodeState::{Active, Decommissioned, Decommissioning, Draining, Joining};
    let Some(row) = rows.iter().find(|row| row.descriptor.id == node) else {
        return Err(format!("{node} is no member of this cluster"));
    };
    match (change, row.state) {
        (NodeChange::Finish, Decommissioned) => Ok(Decommissioned),
        (_, Decommissioned) => Err(format!("{node} was decommissioned, for good")),
        (NodeChange::Drain, Active | Draining) => Ok(Draining),
        (NodeChange::Undrain, Active | Draining | Decommissioning) => Ok(Active),
        (NodeChange::Drain | NodeChange::Undrain, Joining) => Err(format!("{node} has not started yet")),
        (NodeChange::Drain, Decommissioning) => {
            Err(format!("{node} is being decommissioned, and leads nothing already"))
        }
        (NodeChange::Decommission, Decommissioning) => Ok(Decommissioning),
        (NodeChange::Decommission, Active | Draining | Joining) => {
            may_decommission(node, rows, ranges).map(|()| Decommissioning)
        }
        (NodeChange::Finish, Decommissioning) => {
            match ranges.iter().filter(|range| range.replica_on(node).is_some()).count() {
                0 => Ok(Decommissioned),
                n => Err(format!("{node} holds replicas of {n} ranges still: they have to move away first")),
            }
        }
        (NodeChange::Finish, _) => Err(format!("{node} is not being decommissioned: ask for that first")),
    }
}

impl Db {
    /// Gives a store that joins a place among the members.
    ///
    /// # Errors
    /// Those of a transaction.
    pub async fn register(&self, candidate: &Candidate) -> Result<Outcome, Error> {
        self.transact(|txn| {
            let candidate = candidate.clone();
            Box::pin(async move {
                let rows = rows_in(txn).await?;
                let counter = txn.get(&[node_counter()], super::Lock::None).await?.pop().flatten();
                let next = counter.map_or(Ok(1), |bytes| decode::<u64>("a counter", &bytes))?;
                let outcome = place(&rows, next, &candidate);
                if let Outcome::Member(row) = &outcome {
                    let id = row.descriptor.id;
                    txn.put(node_counter(), codec::encode(&next.max(id.0 + 1)))?;
                    txn.put(node_key(id), codec::encode(row))?;
                }
                Ok(outcome)
            })
        })
        .await
    }

    /// Tells of a start of this node.
    ///
    /// # Errors
    /// Those of a transaction.
    pub async fn announce(&self, candidate: &Candidate, run: NodeRun) -> Result<Outcome, Error> {
        let me = self.node();
        self.transact(|txn| {
            let candidate = candidate.clone();
            Box::pin(async move {
                let found = txn.get(&[node_key(me)], super::Lock::None).await?.pop().flatten();
                let row = found.map(|bytes| decode::<NodeRecord>("a member", &bytes)).transpose()?;
                let outcome = started(row.as_ref(), me, &candidate, run);
                if let Outcome::Member(new) = &outcome
                    && row.as_ref() != Some(new)
                {
                    txn.put(node_key(me), codec::encode(new))?;
                }
                Ok(outcome)
            })
        })
        .await
    }

    /// Changes a node's state.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the change makes no sense or may not be, and those of a transaction.
    pub(super) async fn change_state(&self, node: NodeId, change: NodeChange) -> Result<NodeRecord, Error> {
        let record = self.transact(|txn| Box::pin(change_once(txn, node, change))).await?;
        self.learn_members(std::slice::from_ref(&record));
        Ok(record)
    }

    /// Brings this node's copy of the registry up to date.
    ///
    /// # Errors
    /// Those of a transaction.
    pub async fn refresh_members(&self) -> Result<(), Error> {
        let options = BeginOptions { read_only: true, ..BeginOptions::default() };
        let rows = self.transact_with(options, |txn| Box::pin(rows_in(txn))).await?;
        self.learn_members(&rows);
        Ok(())
    }

    /// Whether a node's messages are taken. If so, what it says of itself is believed.
    pub fn admit(&self, who: &Introduction) -> Admission {
        let mut members = self.lock_members();
        let record = members.get_mut(&who.node);
        let admission = judge(record.as_deref(), who);
        match (&admission, record) {
            (Admission::Welcome, Some(record)) if who.run.starts > record.run.starts => {
                record.run = who.run;
                record.descriptor.address.clone_from(&who.address);
            }
            (Admission::Unknown, _) => {
                drop(members);
                self.want_members();
            }
            _ => {}
        }
        admission
    }

    /// The members as far as this node knows, in order of id; also those that are members no longer.
    pub fn members(&self) -> Vec<NodeRecord> {
        self.lock_members().values().cloned().collect()
    }

    /// What is known of one member.
    pub fn member(&self, node: NodeId) -> Option<NodeRecord> {
        self.lock_members().get(&node).cloned()
    }

    /// Learns where a member is from another source than the registry.
    pub fn learn_address(&self, node: NodeId, address: &str) {
        if let Some(record) = self.lock_members().get_mut(&node) {
            record.descriptor.address = address.to_string();
        }
    }

    fn learn_members(&self, rows: &[NodeRecord]) {
        let mut members = self.lock_members();
        let before = members.clone();
        for row in rows {
            members.entry(row.descriptor.id).or_insert_with(|| row.clone()).learn(row);
        }
        let news = *members != before;
        let present = present(members.values());
        drop(members);
        if news {
            self.shared.router.set_nodes(present);
            // Whoever puts the copy in force shall look at it.
            self.want_members();
        }
    }

    /// Runs a transaction again until nothing conflicts with it.
    pub(super) async fn transact<T: Send>(&self, work: impl Work<T>) -> Result<T, Error> {
        self.transact_with(BeginOptions::default(), work).await
    }

    pub(super) async fn transact_with<T: Send>(
        &self,
        mut options: BeginOptions,
        mut work: impl Work<T>,
    ) -> Result<T, Error> {
        /// Conflicts in a row past which something is wrong.
        const TRIES_MAX: u32 = 100;
        let mut attempt = 0;
        loop {
            let read = self.start_timestamp().await?;
            let mut txn = KvTransaction::new(self.clone(), read, options.clone());
            options.priority = Some(txn.priority());
            let result = match work(&mut txn).await {
                Ok(value) => txn.commit().await.map(|_| value),
                Err(error) => Err(error),
            };
            match result {
                Err(error) if error.is_retryable() && attempt < TRIES_MAX => {
                    attempt += 1;
                    let pause = 2 + self.env().random() % 8;
                    self.env().sleep(std::time::Duration::from_millis(pause)).await;
                }
                other => return other,
            }
        }
    }
}

/// What is done in a transaction, perhaps several times.
pub(super) trait Work<T>:
    for<'a> FnMut(&'a mut KvTransaction) -> BoxFuture<'a, Result<T, Error>> + Send
{
}

impl<T, F: for<'a> FnMut(&'a mut KvTransaction) -> BoxFuture<'a, Result<T, Error>> + Send> Work<T> for F {}

pub(super) async fn rows_in(txn: &mut KvTransaction) -> Result<Vec<NodeRecord>, Error> {
    let rows = scan_all(txn, node_span()).await?;
    rows.iter().map(|bytes| decode("a member", bytes)).collect()
}

/// The values of all rows in a span.
pub(super) async fn scan_all(txn: &mut KvTransaction, span: Span) -> Result<Vec<Vec<u8>>, Error> {
    let mut values = Vec::new();
    let mut rest = Some(span);
    while let Some(span) = rest {
        let page = txn.scan(&span, ScanOptions::default()).await?;
        values.extend(page.rows.into_iter().map(|(_, value)| value));
        rest = page.resume;
    }
    Ok(values)
}

async fn change_once(txn: &mut KvTransaction, node: NodeId, change: NodeChange) -> Result<NodeRecord, Error> {
    let rows = rows_in(txn).await?;
    let ranges: Vec<RangeDescriptor> = match change {
        NodeChange::Drain | NodeChange::Undrain => Vec::new(),
        NodeChange::Decommission | NodeChange::Finish => {
            let found = scan_all(txn, meta_span()).await?;
            found.iter().map(|bytes| decode("a range descriptor", bytes)).collect::<Result<_, _>>()?
        }
    };
    let state = changed(node, change, &rows, &ranges).map_err(Error::Invalid)?;
    let rows: BTreeMap<NodeId, NodeRecord> = rows.into_iter().map(|row| (row.descriptor.id, row)).collect();
    let record = NodeRecord { state, ..rows[&node].clone() };
    if rows[&node] != record {
        txn.put(node_key(node), codec::encode(&record))?;
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::{Epoch, RangeId, ReplicaDescriptor, ReplicaId};

    fn candidate(store: u128, address: &str) -> Candidate {
        let address = address.to_string();
        Candidate { store: StoreId(store), address, boot_id: "boot".into(), locality: Locality::default() }
    }

    fn run(starts: u64, token: u64) -> NodeRun {
        NodeRun { starts, token }
    }

    /// Members n1, n2, ... that have started once.
    fn members(count: u64) -> Vec<NodeRecord> {
        let row = |id: u64| {
            let descriptor = candidate(0, &format!("host:{id}")).descriptor(NodeId(id));
            NodeRecord { run: run(1, id), store: StoreId(u128::from(100 + id)), ..NodeRecord::founding(descriptor) }
        };
        (1..=count).map(row).collect()
    }

    fn range(nodes: &[u64]) -> RangeDescriptor {
        let replicas = nodes.iter().map(|n| ReplicaDescriptor::voter(NodeId(*n), ReplicaId(*n))).collect();
        RangeDescriptor::new(RangeId(1), Span::all(), Epoch(1), replicas)
    }

    fn member(outcome: Outcome) -> NodeRecord {
        match outcome {
            Outcome::Member(record) => record,
            other => panic!("{other:?}"),
        }
    }

    fn refused(outcome: Outcome, words: &str) {
        assert!(matches!(&outcome, Outcome::Refused(why) if why.contains(words)), "{outcome:?}");
    }

    #[test]
    fn a_store_that_joins_twice_has_one_id_and_two_stores_have_two() {
        let mut rows = members(3);
        let first = member(place(&rows, 4, &candidate(7, "host:4")));
        assert_eq!((first.descriptor.id, first.state), (NodeId(4), NodeState::Joining));
        rows.push(first);
        let again = member(place(&rows, 5, &candidate(7, "host:44")));
        assert_eq!((again.descriptor.id, again.descriptor.address.as_str()), (NodeId(4), "host:44"));
        assert_eq!(member(place(&rows, 5, &candidate(8, "host:5"))).descriptor.id, NodeId(5));
        // An id is not used again, even if nobody has it any more.
        assert_eq!(member(place(&rows, 9, &candidate(9, "host:5"))).descriptor.id, NodeId(9));
    }

    #[test]
    fn a_store_that_has_been_a_member_is_not_let_in_as_if_it_were_new() {
        let mut rows = members(3);
        refused(place(&rows, 4, &candidate(102, "host:2")), "has been n2 already");
        rows[1].state = NodeState::Decommissioned;
        refused(place(&rows, 4, &candidate(102, "host:2")), "n2 was decommissioned");
        // A founding member that init is about to tell who it is.
        rows[2] = NodeRecord::founding(rows[2].descriptor.clone());
        assert!(matches!(place(&rows, 4, &candidate(9, "host:3")), Outcome::Wait(_)));
    }

    #[test]
    fn each_start_is_told_of_once_and_an_old_copy_is_recognised() {
        let row = members(1).remove(0);
        let store = candidate(101, "elsewhere:1");
        let next = member(started(Some(&row), NodeId(1), &store, run(2, 9)));
        assert_eq!((next.run, next.descriptor.address.as_str()), (run(2, 9), "elsewhere:1"));
        assert_eq!(member(started(Some(&next), NodeId(1), &store, run(2, 9))), next, "said again");
        refused(started(Some(&next), NodeId(1), &store, run(2, 8)), "old copy");
        refused(started(Some(&next), NodeId(1), &store, run(1, 1)), "old copy");
        refused(started(Some(&next), NodeId(1), &candidate(5, "x:1"), run(3, 3)), "another store");
        let joining = member(place(&[next], 2, &candidate(7, "host:2")));
        assert_eq!(
            member(started(Some(&joining), NodeId(2), &candidate(7, "host:2"), run(1, 5))).state,
            NodeState::Active
        );
    }

    #[test]
    fn strangers_the_dismissed_and_copies_are_told_apart() {
        let mut row = members(1).remove(0);
        let who = |starts, token| Introduction { node: NodeId(1), run: run(starts, token), address: "host:1".into() };
        assert_eq!(judge(None, &who(1, 1)), Admission::Unknown);
        assert_eq!(judge(Some(&row), &who(1, 1)), Admission::Welcome);
        assert_eq!(judge(Some(&row), &who(2, 8)), Admission::Welcome);
        assert!(matches!(judge(Some(&row), &who(1, 8)), Admission::Dismissed(_)));
        row.state = NodeState::Decommissioned;
        assert!(matches!(judge(Some(&row), &who(2, 8)), Admission::Dismissed(_)));
    }

    #[test]
    fn a_node_goes_only_if_the_others_can_carry_its_replicas_and_when_it_holds_none() {
        let mut rows = members(4);
        let ranges = [range(&[1, 2, 3])];
        let go = |rows: &[NodeRecord], ranges: &[RangeDescriptor], change| changed(NodeId(2), change, rows, ranges);
        assert_eq!(go(&rows, &ranges, NodeChange::Decommission), Ok(NodeState::Decommissioning));
        assert!(go(&rows[..3], &ranges, NodeChange::Decommission).unwrap_err().contains("add a node first"));
        rows[3].state = NodeState::Draining;
        assert!(go(&rows, &ranges, NodeChange::Decommission).unwrap_err().contains("2 active nodes"));
        rows[1].state = NodeState::Decommissioning;
        assert!(go(&rows, &ranges, NodeChange::Finish).unwrap_err().contains("replicas of 1 ranges"));
        assert_eq!(go(&rows, &[range(&[1, 3, 4])], NodeChange::Finish), Ok(NodeState::Decommissioned));
        assert_eq!(go(&rows, &ranges, NodeChange::Undrain), Ok(NodeState::Active));
        rows[1].state = NodeState::Decommissioned;
        assert!(go(&rows, &ranges, NodeChange::Undrain).unwrap_err().contains("for good"));
        assert!(changed(NodeId(9), NodeChange::Drain, &rows, &ranges).unwrap_err().contains("no member"));
    }
}
