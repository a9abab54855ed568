//! How far a group has come, as its leader or a follower sees it.

use raft::StateRole;
use raft::eraftpb::{Message, MessageType};

use super::group::Group;

/// How a leader sees a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub replica: u64,
    /// The last entry that it is known to hold.
    pub matched: u64,
    /// Whether it has answered lately.
    pub active: bool,
    pub needs_snapshot: bool,
}

impl Group {
    /// On a leader, how it sees each replica, itself included.
    pub fn progress(&self) -> Vec<Progress> {
        let me = self.config.replica;
        let one = |(id, p): (&u64, &raft::Progress)| Progress {
            replica: *id,
            matched: p.matched,
            active: *id == me || p.recent_active,
            needs_snapshot: p.state == raft::ProgressState::Snapshot,
        };
        self.node.raft.prs().iter().map(one).collect()
    }

    /// On a leader, whether all entries up to one are committed, on disk and applied here, and on disk at every follower that `answers`. Of
    /// the others nobody knows.
    pub fn is_replicated(&self, index: u64, answers: impl Fn(u64) -> bool) -> bool {
        let raft = &self.node.raft;
        let here = [raft.raft_log.committed, raft.raft_log.applied, raft.raft_log.persisted];
        here.iter().all(|reached| *reached >= index)
            && self.is_leader()
            && raft.lead_transferee.is_none()
            && self.installing.is_none()
            && self.all_followers(|id, p| (p.matched >= index && p.pending_request_snapshot == 0) || !answers(id))
    }

    /// On a leader, whether it has nothing left to do: all is replicated, and those followers know it to be committed.
    pub fn is_done(&self, answers: impl Fn(u64) -> bool) -> bool {
        let last = self.last_index();
        let replicated = self.is_synced() && self.is_replicated(last, &answers);
        replicated && self.is_told(last, &answers)
    }

    /// On a leader, whether every follower that `answers` knows entries up to one to be committed.
    pub fn is_told(&self, index: u64, answers: impl Fn(u64) -> bool) -> bool {
        self.all_followers(|id, p| p.committed_index >= index || !answers(id))
    }

    fn all_followers(&self, holds: impl Fn(u64, &raft::Progress) -> bool) -> bool {
        self.node.raft.prs().iter().all(|(id, p)| *id == self.config.replica || holds(*id, p))
    }

    /// Whether this follower holds just what its leader says that there is, and nothing else is going on.
    pub fn is_in_step(&self, leader: u64, term: u64, commit: u64) -> bool {
        let (raft, log) = (&self.node.raft, &self.node.raft.raft_log);
        let holds = self.last_index() == commit && log.committed == commit && log.applied == commit;
        raft.state == StateRole::Follower
            && (raft.term, raft.leader_id) == (term, leader)
            && raft.pending_request_snapshot == 0
            && !self.hollow
            && self.installing.is_none()
            && holds
            && self.is_synced()
    }

    /// Whether a message says nothing that this replica does not know: a late heartbeat, or a late answer to one.
    pub fn is_stale_news(&self, message: &Message) -> bool {
        let raft = &self.node.raft;
        let same = message.term == raft.term;
        match message.get_msg_type() {
            MessageType::MsgHeartbeat => {
                same && message.from == raft.leader_id && message.commit <= raft.raft_log.committed
            }
            MessageType::MsgHeartbeatResponse => same && self.is_leader(),
            _ => false,
        }
    }
}
