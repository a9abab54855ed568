//! A cluster that does what plans say: operations change descriptors at once, and learners catch up between rounds.
//!
//! Each operation is checked as it is carried out: nothing that a real range would refuse passes, and no range is left with fewer
//! voters than it could have kept.

#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proto::{Epoch, Key, NodeId, RangeDescriptor, RangeId, ReplicaDescriptor, ReplicaId, ReplicaRole, Span};
use range_split::placement::{Change, Memory, Operation, Picture, Plan, Progress, Range, plan};

/// See the module.
#[derive(Clone, Default)]
pub struct Cluster {
    pub picture: Picture,
    pub memory: Memory,
    /// How often each range's data was sent, and where to.
    pub sent: BTreeMap<RangeId, Vec<NodeId>>,
    pub transfers: usize,
    pub merges: usize,
    /// Learners do not catch up.
    pub frozen: bool,
}

/// A range with voters on these nodes, the first of which leads.
pub fn range(id: u64, voters: &[u64], bytes: u64, load: u64) -> Range {
    let key = |n: u64| Key(n.to_be_bytes().to_vec());
    let span = Span { start: key(id), end: key(id + 1) };
    let replicas = voters.iter().zip(1..).map(|(n, id)| ReplicaDescriptor::voter(NodeId(*n), ReplicaId(id))).collect();
    Range {
        descriptor: RangeDescriptor::new(RangeId(id), span, Epoch(1), replicas),
        leader: voters.first().map(|n| NodeId(*n)),
        bytes,
        size: bytes,
        load,
        progress: voters.iter().map(|n| (NodeId(*n), Progress::CaughtUp)).collect(),
        rules: Default::default(),
        pinned: false,
        in_flight: false,
    }
}

impl Cluster {
    pub fn plan(&self, operations_max: usize) -> Plan {
        plan(&self.picture, &self.memory, operations_max)
    }

    /// Plans, carries everything out, and lets time pass.
    pub fn round(&mut self, operations_max: usize, passes: Duration) -> Plan {
        let plan = self.plan(operations_max);
        self.memory = plan.memory.clone();
        plan.operations.iter().for_each(|operation| self.apply(operation));
        self.pass(passes);
        plan
    }

    /// Time passes: ranges without a live leader elect one, and who is live catches up.
    pub fn pass(&mut self, time: Duration) {
        self.picture.now += time;
        self.elect();
        let nodes = &self.picture.nodes;
        for range in self.picture.ranges.values_mut().filter(|r| r.leader.is_some()) {
            let moves = |r: &&ReplicaDescriptor| {
                nodes.get(&r.node).is_some_and(|n| n.is_live()) && (r.role.votes() || !self.frozen)
            };
            let members = range.descriptor.replicas.iter().filter(moves).map(|r| r.node);
            range.progress.extend(members.map(|node| (node, Progress::CaughtUp)));
        }
    }

    /// Ranges whose leader is not a live voter elect another, if a majority can.
    pub fn elect(&mut self) {
        let nodes = &self.picture.nodes;
        let live = |node: &NodeId| nodes.get(node).is_some_and(|n| n.is_live());
        for range in self.picture.ranges.values_mut() {
            let votes = |node| range.descriptor.replica_on(node).is_some_and(|r| r.role.votes());
            if range.leader.is_some_and(|l| live(&l) && votes(l)) {
                continue;
            }
            let ready = |r: &&ReplicaDescriptor| {
                r.role.votes() && live(&r.node) && range.progress.get(&r.node) == Some(&Progress::CaughtUp)
            };
            let voters = range.descriptor.voters().count();
            let able: Vec<NodeId> = range.descriptor.replicas.iter().filter(ready).map(|r| r.node).collect();
            range.leader = able.first().copied().filter(|_| able.len() > voters / 2);
        }
    }

    /// Carries an operation out.
    pub fn apply(&mut self, operation: &Operation) {
        let ready = self.ready(operation.range);
        if let Change::TakeIn { right, epoch } = operation.change {
            return self.merge(operation, (right, epoch));
        }
        let range = self.picture.ranges.get_mut(&operation.range).expect("the range exists");
        assert_eq!(range.descriptor.epoch, operation.epoch, "{operation}: another epoch");
        assert!(!range.in_flight, "{operation}: a change is under way");
        let descriptor = &mut range.descriptor;
        let role = |node: NodeId, descriptor: &RangeDescriptor| descriptor.replica_on(node).map(|r| r.role);
        match operation.change {
            Change::AddLearner { node } | Change::AddNonVoter { node } => {
                assert!(descriptor.replica_on(node).is_none(), "{operation}: two replicas on one node");
                assert!(self.picture.nodes[&node].may_receive(&self.picture.settings), "{operation}");
                let learner = matches!(operation.change, Change::AddLearner { .. });
                let role = if learner { ReplicaRole::Learner } else { ReplicaRole::NonVoter };
                descriptor.replicas.push(ReplicaDescriptor { node, id: descriptor.next_replica, role });
                descriptor.next_replica.0 += 1;
                range.progress.insert(node, Progress::NeedsSnapshot);
                self.sent.entry(operation.range).or_default().push(node);
            }
            Change::Promote { node } => {
                assert_eq!(role(node, descriptor), Some(ReplicaRole::Learner), "{operation}");
                set_role(descriptor, node, ReplicaRole::Voter);
            }
            Change::ReplaceVoter { add, remove } => {
                assert_eq!(role(add, descriptor), Some(ReplicaRole::Learner), "{operation}");
                assert_ne!(range.leader, Some(remove), "{operation}: the leader is removed");
                set_role(descriptor, add, ReplicaRole::Voter);
                descriptor.replicas.retain(|r| r.node != remove);
            }
            Change::RemoveReplica { node } => {
                assert!(role(node, descriptor).is_some(), "{operation}");
                assert_ne!(range.leader, Some(node), "{operation}: the leader is removed");
                descriptor.replicas.retain(|r| r.node != node);
            }
            Change::TransferLeader { to } => {
                assert_eq!(role(to, descriptor), Some(ReplicaRole::Voter), "{operation}");
                assert!(ready.contains(&to) && self.picture.nodes[&to].may_lead(), "{operation}: cannot lead");
                range.leader = Some(to);
                self.transfers += 1;
                return;
            }
            Change::TakeIn { .. } => unreachable!("it is carried out elsewhere"),
            Change::FinishJoint => {
                descriptor.replicas.retain(|r| r.role != ReplicaRole::Outgoing);
                let incoming = descriptor.replicas.iter_mut().filter(|r| r.role == ReplicaRole::Incoming);
                incoming.for_each(|r| r.role = ReplicaRole::Voter);
            }
        }
        descriptor.epoch.0 += 1;
        let voters: Vec<NodeId> = descriptor.voters().map(|r| r.node).collect();
        let members: BTreeSet<NodeId> = descriptor.replicas.iter().map(|r| r.node).collect();
        assert_eq!(members.len(), descriptor.replicas.len(), "{operation}: two replicas on one node");
        let able = voters.iter().filter(|v| ready.contains(v)).count();
        assert!(able > voters.len() / 2, "{operation}: no quorum among {voters:?}, ready are {ready:?}");
        range.progress.retain(|node, _| members.contains(node));
    }

    /// Two ranges become one, if their replicas stand side by side, all of them ready.
    fn merge(&mut self, operation: &Operation, (right, epoch): (RangeId, Epoch)) {
        for id in [operation.range, right] {
            let members = self.picture.ranges[&id].descriptor.replicas.iter().map(|r| r.node);
            assert_eq!(self.ready(id), members.collect(), "{operation}: not everybody is ready");
        }
        let places = |range: &Range| -> BTreeMap<NodeId, ReplicaRole> {
            range.descriptor.replicas.iter().map(|r| (r.node, r.role)).collect()
        };
        let taken = self.picture.ranges.remove(&right).expect("the range exists");
        let range = self.picture.ranges.get_mut(&operation.range).expect("the range exists");
        assert_eq!((range.descriptor.epoch, taken.descriptor.epoch), (operation.epoch, epoch), "{operation}");
        assert!(!range.in_flight && !taken.in_flight, "{operation}: a change is under way");
        assert_eq!(places(range), places(&taken), "{operation}: the replicas stand apart");
        assert!(range.descriptor.end == taken.descriptor.start && !taken.pinned, "{operation}");
        range.descriptor.end = taken.descriptor.end;
        range.descriptor.epoch.0 = range.descriptor.epoch.0.max(epoch.0) + 1;
        range.bytes += taken.bytes;
        range.size += taken.size;
        range.load += taken.load;
        self.merges += 1;
    }

    /// The nodes of a range that are live and caught up.
    fn ready(&self, range: RangeId) -> BTreeSet<NodeId> {
        let range = &self.picture.ranges[&range];
        let live = |node: &NodeId| self.picture.nodes.get(node).is_some_and(|n| n.is_live());
        let caught_up = range.progress.iter().filter(|(_, progress)| **progress == Progress::CaughtUp);
        caught_up.map(|(node, _)| *node).filter(live).collect()
    }
}

fn set_role(descriptor: &mut RangeDescriptor, node: NodeId, role: ReplicaRole) {
    descriptor.replicas.iter_mut().filter(|r| r.node == node).for_each(|r| r.role = role);
}
