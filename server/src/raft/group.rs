//! One replica's Raft state machine.

use std::collections::VecDeque;

use minicbor::bytes::ByteVec;
use prost_raft::Message as _;
use raft::eraftpb::{ConfChangeV2, Entry, HardState, Message, MessageType, Snapshot, SnapshotMetadata};
use raft::{RawNode, ReadOnlyOption, StateRole};

use super::members::{MemberChange, Members};
use super::record::{self, GroupRecord, LogEntry, LogPosition, RecoveredGroup};
use super::storage::LogStore;
use proto::RangeId;

/// What a group is and how it behaves.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    pub range: RangeId,
    /// This replica's id, among `members`.
    pub replica: u64,
    pub members: Members,
    /// Drives the election timeouts.
    pub seed: u64,
    /// Ticks without a leader before an election; each timeout is drawn between this and twice this.
    pub election_ticks: usize,
    pub heartbeat_ticks: usize,
    /// The index up to which the engine holds what the log said.
    pub applied: u64,
    /// Bytes of proposals in flight past which proposals are refused.
    pub uncommitted_bytes_max: u64,
}

/// A heartbeat round that a quorum has acknowledged in the leader's term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Round(pub u64);

/// What became ready.
#[derive(Debug, Default)]
pub struct Output {
    /// To be synced to disk, if any.
    pub record: Option<GroupRecord>,
    /// To be sent now.
    pub messages: Vec<Message>,
    /// To be applied in order.
    pub committed: Vec<Entry>,
    /// The replica's whole state, to be installed before anything else.
    pub snapshot: Option<Snapshot>,
    /// Acknowledged rounds.
    pub rounds: Vec<Round>,
    /// The record's number, to be passed to [`Group::persisted`].
    pub number: u64,
}

/// See the module.
pub struct Group {
    pub(super) node: RawNode<LogStore>,
    pub(super) config: GroupConfig,
    draws: u64,
    drawn_for: (u64, u64, u8),
    /// Records being synced, by number, with the messages that must wait for them.
    syncing: VecDeque<(u64, Vec<Message>)>,
    truncated: Option<LogPosition>,
    /// A Raft snapshot whose record is not on disk yet. Until then the library takes the entries before it for applied to
    /// nothing and would look for them in the log, so this replica does not stand for election.
    pub(super) installing: Option<Installing>,
    /// Followers that were sent the whole state, and how many ticks ago.
    snapshots_sent: Vec<(u64, u32)>,
    pub(super) hollow: bool,
}

/// A Raft snapshot on its way to disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Installing {
    /// The number of the record that says so.
    record: u64,
    /// The last entry that it stands for.
    index: u64,
}

/// After so many ticks a follower that was sent a Raft snapshot is asked what it has.
const SNAPSHOT_TICKS: u32 = 10;

fn from_hard_state(hs: &HardState) -> record::HardState {
    record::HardState { term: hs.term, vote: hs.vote, commit: hs.commit }
}

/// As the library knows it.
pub fn to_entry(entry: LogEntry) -> Entry {
    let mut out = Entry { index: entry.index, term: entry.term, data: entry.data.into(), ..Default::default() };
    out.entry_type = i32::try_from(entry.kind).unwrap_or_default();
    out
}

fn from_entry(entry: &Entry) -> LogEntry {
    LogEntry {
        index: entry.index,
        term: entry.term,
        kind: entry.entry_type.unsigned_abs(),
        data: ByteVec::from(entry.data.clone()),
    }
}

/// A well-mixed hash of four numbers (the finaliser of splitmix64, chained).
fn mix(parts: [u64; 4]) -> u64 {
    parts.into_iter().fold(0x9e37_79b9_7f4a_7c15, |hash, part| {
        let mut z = (hash ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

impl Group {
    /// A group as its log left it.
    ///
    /// # Errors
    /// A sentence, if the library refuses the configuration or the recovered state.
    pub fn new(config: GroupConfig, recovered: RecoveredGroup, logger: &slog::Logger) -> Result<Group, String> {
        let RecoveredGroup { truncated, hard_state, entries, replica: _ } = recovered;
        let last = entries.last().map_or(truncated.index, |e| e.index);
        if config.applied < truncated.index || config.applied > last {
            return Err(format!(
                "{}: the engine has applied entry {}, but the log holds {} to {last}",
                config.range,
                config.applied,
                truncated.index + 1
            ));
        }
        let hard_state = HardState {
            term: hard_state.term.max(truncated.term),
            vote: hard_state.vote,
            // What was applied was committed, even if the last word on it was not written down.
            commit: hard_state.commit.max(config.applied).min(last),
        };
        let entries = entries.into_iter().map(to_entry).collect();
        let store = LogStore::new(config.members.clone(), truncated, hard_state, entries);
        let raft_config = raft::Config {
            id: config.replica,
            election_tick: config.election_ticks,
            heartbeat_tick: config.heartbeat_ticks,
            applied: config.applied,
            max_size_per_msg: 1 << 20,
            max_inflight_msgs: 256,
            check_quorum: true,
            // Followers learn of a commit with the next entry or heartbeat: nobody waits for them to apply it.
            skip_bcast_commit: true,
            pre_vote: true,
            read_only_option: ReadOnlyOption::Safe,
            max_uncommitted_size: config.uncommitted_bytes_max,
            max_committed_size_per_ready: 4 << 20,
            ..Default::default()
        };
        let node = RawNode::new(&raft_config, store, logger).map_err(|e| e.to_string())?;
        let mut group = Group {
            node,
            config,
            draws: 0,
            drawn_for: (u64::MAX, 0, 0),
            syncing: VecDeque::new(),
            // Written down again, so that a log that has held nothing yet says where it begins.
            truncated: Some(truncated).filter(|position| position.index > 0),
            installing: None,
            snapshots_sent: Vec::new(),
            hollow: false,
        };
        group.draw_timeout();
        Ok(group)
    }

    /// Overwrites whatever timeout the library may just have drawn.
    fn draw_timeout(&mut self) {
        let raft = &self.node.raft;
        let role = match raft.state {
            StateRole::Follower => 0,
            StateRole::PreCandidate => 1,
            StateRole::Candidate => 2,
            StateRole::Leader => 3,
        };
        let state = (raft.term, raft.leader_id, role);
        if state != self.drawn_for {
            self.drawn_for = state;
            self.draws += 1;
        }
        let ticks = self.config.election_ticks as u64;
        // A voter that heard of the leader within `ticks` ignores candidates, and its ticks lag by one or two: whoever stood at once would
        // be ignored, and wait for another timeout.
        let least = ticks + (ticks / 5).min(2);
        let draw = mix([self.config.seed, self.config.range.0, self.config.replica, self.draws]) % (2 * ticks - least);
        self.node.raft.set_randomized_election_timeout((least + draw) as usize);
    }

    /// Whether the replica has no contents: it answers and votes by its log, and stands for nothing.
    pub fn set_hollow(&mut self, hollow: bool) {
        self.hollow = hollow;
    }

    /// Lets a tick pass.
    pub fn tick(&mut self) {
        if self.hollow {
            // It stands for nothing; but it knows as well as anyone how long its leader has been silent, and votes for others then.
            self.node.raft.election_elapsed += 1;
        } else if self.installing.is_none() {
            self.node.tick();
        }
        self.snapshots_sent.iter_mut().for_each(|(_, ticks)| *ticks += 1);
        while let Some((to, _)) = self.snapshots_sent.pop_if(|(_, ticks)| *ticks >= SNAPSHOT_TICKS) {
            // Whether it arrived or was lost: probing finds out.
            self.node.report_snapshot(to, raft::SnapshotStatus::Finish);
        }
        self.draw_timeout();
    }

    /// Takes in a message.
    ///
    /// # Errors
    /// A sentence, if it makes no sense; nothing has changed then.
    pub fn step(&mut self, message: Message) -> Result<(), String> {
        // Proposals and reads are not forwarded (I4): they are evaluated by the leader itself.
        if matches!(message.get_msg_type(), MessageType::MsgPropose | MessageType::MsgReadIndex) {
            return Ok(());
        }
        if message.get_msg_type() == MessageType::MsgTimeoutNow && (self.installing.is_some() || self.hollow) {
            return Ok(());
        }
        let result = self.node.step(message);
        self.draw_timeout();
        result.map_err(|e| e.to_string())
    }

    /// Proposes a command; only a leader may.
    ///
    /// # Errors
    /// A sentence, if it was not accepted: too much is in flight, or leadership is on its way to another. It will never
    /// take effect then.
    pub fn propose(&mut self, data: Vec<u8>) -> Result<(), String> {
        let result = self.node.propose(Vec::new(), data);
        self.draw_timeout();
        result.map_err(|e| e.to_string())
    }

    /// Proposes a change of members; only a leader may. `context` is what the replica wants to find with the entry.
    ///
    /// # Errors
    /// A sentence, if it was not accepted. It will never take effect then.
    pub fn propose_change(&mut self, change: &MemberChange, context: Vec<u8>) -> Result<(), String> {
        // Of a change that it does not like the library makes an empty entry, and says nothing.
        if self.node.raft.has_pending_conf() {
            return Err("an earlier change of members may not be applied yet".into());
        }
        let joint = !self.node.raft.prs().conf().to_conf_state().voters_outgoing.is_empty();
        if joint != (*change == MemberChange::Leave) {
            return Err("a change of members is in its middle".into());
        }
        let result = self.node.propose_conf_change(Vec::new(), change.to_conf_change(context));
        self.draw_timeout();
        result.map_err(|e| e.to_string())
    }

    /// A change of members takes effect here, as its entry is applied. A leader that it removes makes way at once: the library would look for its
    /// progress when further entries are committed, or on disk.
    ///
    /// # Errors
    /// A sentence, if it does not fit the members as they are: the replica is damaged.
    pub fn apply_change(&mut self, change: &ConfChangeV2) -> Result<(), String> {
        let result = self.node.apply_conf_change(change);
        if self.is_leader() && self.node.raft.prs().get(self.config.replica).is_none() {
            if let Some(successor) = self.successor(&[]) {
                self.node.transfer_leader(successor);
            }
            self.resign();
        }
        self.draw_timeout();
        result.map(drop).map_err(|e| e.to_string())
    }

    /// Stands for election.
    pub fn campaign(&mut self) {
        if self.installing.is_some() || self.hollow {
            return;
        }
        // It fails only where it is pointless: unapplied configuration changes, or leading already.
        let _ = self.node.campaign();
        self.draw_timeout();
    }

    /// Tells the followers at once what is committed, where they would else hear of it with the next entry or heartbeat.
    pub fn tell_committed(&mut self) {
        self.node.ping();
        self.draw_timeout();
    }

    /// Hands leadership to another replica, if that one is up to date.
    pub fn transfer_leader(&mut self, to: u64) {
        self.node.transfer_leader(to);
        self.draw_timeout();
    }

    /// Leads no more.
    pub fn resign(&mut self) {
        let term = self.term();
        self.node.raft.become_follower(term, raft::INVALID_ID);
        self.draw_timeout();
    }

    /// Asks a quorum whether this is still the leader; the answer is in a later [`Output::rounds`].
    pub fn ask_round(&mut self, round: Round) {
        self.node.read_index(round.0.to_be_bytes().to_vec());
        self.draw_timeout();
    }

    /// What became ready, or `None`.
    pub fn take_output(&mut self) -> Option<Output> {
        let truncated = self.truncated.take();
        if !self.node.has_ready() {
            return truncated.map(|truncated| {
                let record = GroupRecord { truncated: Some(truncated), ..self.empty_record() };
                Output { record: Some(record), number: 0, ..Default::default() }
            });
        }
        let mut ready = self.node.ready();
        let mut output = Output { number: ready.number(), ..Default::default() };
        let mut record = GroupRecord { truncated, ..self.empty_record() };
        if !ready.snapshot().is_empty() {
            let snapshot = ready.snapshot().clone();
            let meta = snapshot.get_metadata();
            let position = LogPosition { index: meta.index, term: meta.term };
            self.node.mut_store().reset(position);
            record.reset = true;
            record.truncated = Some(position);
            self.installing = Some(Installing { record: output.number, index: meta.index });
            output.snapshot = Some(snapshot);
        }
        let entries = ready.take_entries();
        let must_sync = ready.must_sync();
        if let Some(hs) = ready.hs() {
            self.node.mut_store().set_hard_state(hs.clone());
        }
        if must_sync {
            record.hard_state = Some(from_hard_state(&self.node.raft.hard_state()));
            record.entries = entries.iter().map(from_entry).collect();
            self.node.mut_store().append(&entries);
        }
        output.rounds = ready
            .take_read_states()
            .into_iter()
            .filter_map(|state| Some(Round(u64::from_be_bytes(state.request_ctx.try_into().ok()?))))
            .collect();
        output.committed = ready.take_committed_entries();
        output.messages = ready.take_messages();
        let waiting = ready.take_persisted_messages();
        self.node.advance_append_async(ready);
        if must_sync {
            self.syncing.push_back((output.number, waiting));
        } else if let Some((_, messages)) = self.syncing.back_mut() {
            messages.extend(waiting);
        } else {
            self.node.on_persist_ready(output.number);
            output.messages.extend(waiting);
        }
        if must_sync || record.truncated.is_some() {
            output.record = Some(record);
        }
        let sent = output.messages.iter().filter(|m| m.get_msg_type() == MessageType::MsgSnapshot).map(|m| (m.to, 0));
        self.snapshots_sent.extend(sent);
        self.draw_timeout();
        Some(output)
    }

    fn empty_record(&self) -> GroupRecord {
        GroupRecord { range: self.config.range, replica: self.config.replica, ..GroupRecord::default() }
    }

    /// Everything up to this output's record is on disk. Returns the messages that waited for it.
    pub fn persisted(&mut self, number: u64) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some((synced, waiting)) = self.syncing.pop_front_if(|(n, _)| *n <= number) {
            messages.extend(waiting);
            self.node.on_persist_ready(synced);
            if let Some(installed) = self.installing.take_if(|installing| installing.record <= synced) {
                self.node.advance_apply_to(installed.index);
            }
        }
        self.draw_timeout();
        messages
    }

    /// Everything up to this index is in the engine.
    pub fn applied(&mut self, index: u64) {
        self.node.advance_apply_to(index);
        self.draw_timeout();
    }

    /// Forgets the log up to an index that the engine holds durably.
    pub fn truncate(&mut self, index: u64) {
        if let Some(position) = self.node.mut_store().truncate(index) {
            self.truncated = Some(position);
        }
    }

    pub fn is_leader(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    pub fn term(&self) -> u64 {
        self.node.raft.term
    }

    /// The leader's replica id, as far as this replica knows.
    pub fn leader(&self) -> Option<u64> {
        Some(self.node.raft.leader_id).filter(|id| *id != 0)
    }

    pub fn last_index(&self) -> u64 {
        self.node.raft.raft_log.last_index()
    }

    pub fn committed_index(&self) -> u64 {
        self.node.raft.raft_log.committed
    }

    /// Bytes of the log kept in memory.
    pub fn log_bytes(&self) -> usize {
        self.node.store().bytes()
    }

    pub fn truncated_index(&self) -> u64 {
        self.node.store().truncated().index
    }

    /// On a leader, the lowest index that every follower is known to hold, and the voter that is furthest, of those that stay.
    pub fn followers(&self) -> (u64, Option<u64>) {
        let me = self.config.replica;
        let others = self.node.raft.prs().iter().filter(|(id, _)| **id != me);
        (others.map(|(_, p)| p.matched).min().unwrap_or(u64::MAX), self.successor(&[]))
    }

    /// On a leader, the follower that would lead best in its place, is up to date and none of these.
    pub fn successor(&self, but: &[u64]) -> Option<u64> {
        let me = self.config.replica;
        let voters = self.node.raft.prs().conf().to_conf_state().voters;
        let able = self
            .node
            .raft
            .prs()
            .iter()
            .filter(|(id, p)| **id != me && p.recent_active && voters.contains(id) && !but.contains(id));
        able.max_by_key(|(id, p)| (p.matched, **id)).map(|(id, _)| *id)
    }

    /// Learns from elsewhere that an entry is committed. Says whether that one is in the log here, on disk.
    pub fn learn_committed(&mut self, index: u64, term: u64) -> bool {
        let log = &mut self.node.raft.raft_log;
        if !log.match_term(index, term) || log.persisted < index {
            return false;
        }
        log.commit_to(index.max(log.committed));
        true
    }

    /// An entry of the log, if it is there.
    pub fn entry(&self, index: u64) -> Option<Entry> {
        let found = self.node.raft.raft_log.slice(index, index + 1, None, raft::GetEntriesContext::empty(false));
        found.ok()?.pop()
    }

    /// Whether the log holds this very entry.
    pub fn holds(&self, index: u64, term: u64) -> bool {
        self.node.raft.raft_log.match_term(index, term)
    }

    /// Whether a follower needs the replica's whole state, to be given by [`Group::offer_snapshot`].
    pub fn take_snapshot_wanted(&self) -> bool {
        self.node.store().take_snapshot_wanted()
    }

    /// The replica's state as of an applied index.
    pub fn offer_snapshot(&mut self, index: u64, members: &Members, data: Vec<u8>) {
        let Some(term) = self.node.store().term_of(index) else { return };
        let metadata = SnapshotMetadata { conf_state: Some(members.to_conf_state()), index, term };
        self.node.mut_store().offer_snapshot(Some(Snapshot { data, metadata: Some(metadata) }));
    }

    /// What was offered is of no use any more.
    pub fn withdraw_snapshot(&mut self) {
        self.node.mut_store().offer_snapshot(None);
    }

    /// Asks the leader for a Raft snapshot, though its log might do: the contents here are lost. Asked in vain it is to be asked again.
    pub fn request_snapshot(&mut self) {
        // Refused as long as there is no leader, or nothing of its term is here.
        let _ = self.node.request_snapshot();
        self.draw_timeout();
    }

    /// The leader's node has been silent for an election timeout, though no tick has told this replica.
    pub fn miss_leader(&mut self) {
        if !self.is_leader() {
            let raft = &mut self.node.raft;
            raft.election_elapsed = raft.election_elapsed.max(self.config.election_ticks);
        }
    }

    /// Whether so many ticks have passed without a word from a leader that an election is due.
    pub fn misses_leader(&self) -> bool {
        self.node.raft.election_elapsed >= self.config.election_ticks
    }

    /// Whether nothing is waiting to be synced.
    pub fn is_synced(&self) -> bool {
        self.syncing.is_empty()
    }
}

/// Reads a message.
///
/// # Errors
/// A sentence, if it is none.
pub fn decode_message(payload: &[u8]) -> Result<Message, String> {
    Message::decode(payload).map_err(|e| e.to_string())
}

/// The library's encoding of a message.
pub fn encode_message(message: &Message) -> Vec<u8> {
    message.encode_to_vec()
}
