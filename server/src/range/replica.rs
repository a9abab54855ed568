//! A replica's state and accessors.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proto::message::{Body, QuietWord, RaftMessage};
use proto::request::{RangeRequest, Refusal, ReplyBody, Response};
use proto::{Key, NodeId, RangeDescriptor, ReplicaDescriptor, ReplicaId, ReplicaRole, Span, Timestamp, TxnId};
use raft::eraftpb::{Entry, Message};
use txn::engine::{Engine, EngineError};
use txn::latches::{LatchId, Latches};
use txn::locks::LockTable;
use txn::reads::ReadMarks;

use super::closing::Closing;
use super::handover::HandOver;
use super::incoming::Incoming;
use super::merge::{Contents, Subsume};
use super::quiet::Listing;
use super::snapshot::Version;
use super::state::{Applied, INITIAL_POSITION, RangeState};
use super::weigh::Weighing;
use crate::config::Knobs;
use crate::env::{Clock, SplitWish, Stray, StuckMerge};
use crate::probe::Path;
use crate::raft::record::{HardState, LogPosition};
use crate::raft::{Group, GroupConfig, Members, RecoveredGroup};

/// Who asked, to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    pub node: NodeId,
    pub id: u64,
}

impl Origin {
    /// The id of requests that nobody waits for.
    pub const NOBODY: u64 = 0;
}

/// What a replica's step may use, and where its effects go.
pub struct Surroundings<'a> {
    /// On the monotonic clock.
    pub now: Duration,
    pub clock: &'a dyn Clock,
    pub knobs: &'a Knobs,
    /// Whether the disk has not answered for long.
    pub disk_stalls: bool,
    /// The nodes that are not silent, of those that were ever heard of.
    pub answering: &'a BTreeSet<NodeId>,
    /// Those that fell silent, or turned out to have been started anew, since the last Raft tick.
    pub lost: &'a BTreeSet<NodeId>,
    pub resting: Resting<'a>,
    pub engine: &'a mut dyn Engine,
    /// From when on the store takes in more contents: what came used up its allowance until then.
    pub receiving: &'a mut Duration,
    /// What a request asks this replica to take in, as this store's replica of it has it.
    pub neighbour: Option<RangeState>,
    pub effects: &'a mut Effects,
}

/// The nodes that are to be handed nothing: members that drain, and those whose process is about to stop.
#[derive(Clone, Copy)]
pub struct Resting<'a> {
    pub members: &'a BTreeSet<NodeId>,
    pub leaving: &'a BTreeSet<NodeId>,
}

impl Resting<'_> {
    pub fn holds(&self, node: NodeId) -> bool {
        self.members.contains(&node) || self.leaving.contains(&node)
    }
}

impl Surroundings<'_> {
    /// Whether contents may be taken in now.
    pub fn may_receive(&self) -> bool {
        self.now >= *self.receiving
    }

    /// So many bytes of contents were taken in.
    pub fn receive(&mut self, bytes: usize) {
        let rate = self.knobs.snapshot_bytes_per_second.max(1);
        let used = Duration::from_nanos((bytes as u64).saturating_mul(1_000_000_000) / rate);
        *self.receiving = (*self.receiving).max(self.now) + used;
    }
}

/// What a replica's step asks the store to do.
#[derive(Debug, Default)]
pub struct Effects {
    pub responses: Vec<(Origin, Response)>,
    /// A descriptor that its leader wants in the meta range.
    pub published: Vec<RangeDescriptor>,
    /// New replicas that came into being by a split, with their bytes, and led on this store if the left-hand one is.
    pub splits: Vec<(RangeState, u64, bool)>,
    /// Merges that the log has come to: the store sees to the other replicas.
    pub subsumes: Vec<Subsume>,
    /// A range that has been frozen for long.
    pub stuck: Option<StuckMerge>,
    /// A replica that nobody leads, and that may have been removed.
    pub stray: Option<Stray>,
    /// Splits that leaders want.
    pub wishes: Vec<SplitWish>,
    /// Words for other nodes' replicas.
    pub messages: Vec<(NodeId, Body)>,
    /// Followers that are to fall quiet.
    pub quiet: Vec<(NodeId, QuietWord)>,
    pub counts: Counts,
    /// The disk fails, which concerns the whole store.
    pub failed: Option<String>,
}

/// What happened, for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Commands applied that committed a transaction or its record.
    pub commits: u64,
    pub commands_applied: u64,
    pub elections_won: u64,
    /// Reads in the past that a replica answered by itself.
    pub past_reads: u64,
}

/// Why a request waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// For commands in flight on its keys.
    Latches,
    /// For an acknowledged round.
    Fence,
    /// For other transactions' intents.
    Intents(Vec<proto::request::IntentInTheWay>),
    /// For places in the lock table.
    Locks,
}

/// A request that waits.
#[derive(Clone, Debug)]
pub struct Waiting {
    pub origin: Origin,
    pub request: RangeRequest,
    pub arrived: Duration,
    /// Since when it waits for its present reason.
    pub since: Duration,
    pub why: Why,
}

/// A command in flight.
#[derive(Clone, Debug)]
pub struct Proposal {
    pub origin: Origin,
    pub arrived: Duration,
    pub proposed: Duration,
    /// What the HLC showed then: once the command is committed, a quorum has seen that in the leader's term.
    pub reading: Timestamp,
    pub reply: ReplyBody,
    pub latch: LatchId,
    /// What it writes, to wake whom it frees.
    pub touched: Vec<Span>,
    /// The transaction that ends here, and so gives up its locks.
    pub ends: Option<TxnId>,
    /// Whether it is a commit.
    pub commits: bool,
}

/// What only a leader has.
pub struct Leading {
    pub term: u64,
    /// An entry of this term is applied.
    pub serving: bool,
    pub reads: ReadMarks,
    pub latches: Latches,
    pub locks: LockTable,
    pub waiting: BTreeMap<LatchId, Waiting>,
    pub proposals: BTreeMap<u64, Proposal>,
    /// Replicas whose removal this leader has applied, and that are not told yet that they may go.
    pub departed: Vec<ReplicaDescriptor>,
    /// What the range is asked, and what follows from that and its size.
    pub weighing: Weighing,
    /// The proposal in flight that changes the range itself.
    pub reshaping: Option<u64>,
    /// It is handing over, and serves nothing any more.
    pub handover: Option<HandOver>,
    /// When it has somebody find out what became of the merge that it is frozen for.
    pub settle_at: Option<Duration>,
    /// No read is served above this.
    pub fence: Timestamp,
    /// Rounds asked for, with the HLC reading that went with each.
    pub rounds: BTreeMap<u64, Timestamp>,
    /// Since when something was asked that came after the fence was last raised, or a round begun that will.
    pub active: Option<Duration>,
    pub closing: Closing,
    /// This entry is committed, and to be told of once all followers hold it: see [`super::leisure`].
    pub(super) to_tell: Option<u64>,
    /// The last entry at the last Raft tick that visited the replica, and when it last had its turn at leisure.
    pub(super) last_at_tick: u64,
    pub(super) last_at_turn: u64,
    /// Turns since then without a new entry, that have not counted.
    pub(super) unwritten_turns: usize,
    next_id: u64,
}

impl Leading {
    pub fn new(term: u64, low_water: Timestamp, knobs: &Knobs, now: Duration) -> Leading {
        Leading {
            term,
            serving: false,
            reads: ReadMarks::new(low_water, knobs.read_keys_max, knobs.read_spans_max),
            latches: Latches::default(),
            locks: LockTable::new(knobs.locks),
            waiting: BTreeMap::new(),
            proposals: BTreeMap::new(),
            reshaping: None,
            handover: None,
            settle_at: None,
            departed: Vec::new(),
            weighing: Weighing::new(now),
            fence: Timestamp::ZERO,
            rounds: BTreeMap::new(),
            active: Some(now),
            closing: Closing::new(now),
            to_tell: None,
            last_at_tick: 0,
            last_at_turn: 0,
            unwritten_turns: 0,
            next_id: 0,
        }
    }

    /// Gives up the memory that an idle leader keeps for requests: maps that are empty are not small.
    pub fn shrink(&mut self) {
        fn renew<K, V>(map: &mut BTreeMap<K, V>) {
            if map.is_empty() {
                *map = BTreeMap::new();
            }
        }
        renew(&mut self.waiting);
        renew(&mut self.proposals);
        renew(&mut self.rounds);
        self.latches.shrink();
    }

    /// Numbers requests, proposals and rounds of this term.
    pub fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

/// One replica. See the module.
pub struct Replica {
    pub me: ReplicaDescriptor,
    pub state: RangeState,
    pub applied: Applied,
    pub group: Group,
    pub leading: Option<Leading>,
    /// Why the replica has stopped, if it has.
    pub stopped: Option<String>,
    /// A replica that came into being on its left-hand range's leader stands for election for so many ticks.
    pub eager_ticks: u32,
    /// What a follower knew last: its leader.
    pub leader: Option<NodeId>,
    /// Whether its group may have an output.
    pub dirty: bool,
    /// It has no contents: see [`super::incoming`].
    pub hollow: bool,
    pub incoming: Option<Incoming>,
    /// Raft ticks for which it has been hollow with a log that goes on.
    pub(super) hollow_ticks: u32,
    /// Which contents have come whole, for Raft to take; and the last entry that they show anything of.
    pub(super) complete: Option<(Version, u64)>,
    /// Committed entries from a merge on, which waits for the store to see to the other replica; and what that one brings in.
    pub(super) deferred: Vec<Entry>,
    pub(super) taken_in: Option<Contents>,
    /// The log is kept from this entry on, until then, for those who are given contents.
    pub log_kept: Option<(u64, Duration)>,
    /// Whom it watches while it is quiet: see [`super::quiet`].
    pub quiet: Option<Vec<NodeId>>,
    /// When it was last asked something, or woke.
    pub(super) stirred: Duration,
    /// How the store has it in its lists.
    pub listing: Listing,
    /// When it last heard from another replica of its range, or began to listen.
    pub heard: Option<Duration>,
    /// When it last called upon the leader of its quiet range to close something.
    pub(super) called: Option<Duration>,
    /// When this replica, which was removed, last asked whether it may go.
    pub(super) asked_to_go: Option<Duration>,
    /// Where replicas are that the descriptor here does not know (yet), and that have written.
    strangers: BTreeMap<ReplicaId, NodeId>,
}

/// How a replica comes into being: from what the engine and the log hold, which for a new range is what
/// [`fresh_log`] says.
pub struct Bootstrap {
    pub state: RangeState,
    pub applied: Applied,
    pub log: RecoveredGroup,
}

/// The log of every replica of a new range.
pub fn fresh_log() -> RecoveredGroup {
    RecoveredGroup {
        truncated: LogPosition { index: INITIAL_POSITION, term: INITIAL_POSITION },
        hard_state: HardState { term: INITIAL_POSITION, vote: 0, commit: INITIAL_POSITION },
        entries: Vec::new(),
        replica: 0,
    }
}

/// The applied state of every replica of a new range.
pub const FRESH_APPLIED: Applied =
    Applied { index: INITIAL_POSITION, term: INITIAL_POSITION, bytes: 0, closed: Timestamp::ZERO, whole_at: None };

impl Replica {
    /// # Errors
    /// When the log and the engine contradict each other.
    pub fn new(
        node: NodeId,
        from: Bootstrap,
        knobs: &Knobs,
        seed: u64,
        logger: &slog::Logger,
    ) -> Result<Replica, String> {
        let members = Members::from(&from.state.descriptor);
        Replica::with_members(node, from, members, knobs, seed, logger)
    }

    /// A replica without contents, until a Raft snapshot comes.
    pub fn new_empty(
        node: NodeId,
        from: Bootstrap,
        knobs: &Knobs,
        seed: u64,
        logger: &slog::Logger,
    ) -> Result<Replica, String> {
        let mut replica = Replica::with_members(node, from, Members::default(), knobs, seed, logger)?;
        replica.hollow = true;
        replica.group.set_hollow(true);
        Ok(replica)
    }

    fn with_members(
        node: NodeId,
        from: Bootstrap,
        members: Members,
        knobs: &Knobs,
        seed: u64,
        logger: &slog::Logger,
    ) -> Result<Replica, String> {
        let Bootstrap { state, applied, log } = from;
        let descriptor = &state.descriptor;
        let departed = ReplicaDescriptor { node, id: ReplicaId(log.replica), role: ReplicaRole::Learner };
        let me = descriptor.replica_on(node).unwrap_or(departed);
        let config = GroupConfig {
            range: descriptor.id,
            replica: me.id.0,
            members,
            seed,
            election_ticks: knobs.election_ticks,
            heartbeat_ticks: knobs.heartbeat_ticks,
            applied: applied.index,
            uncommitted_bytes_max: knobs.uncommitted_bytes_max,
        };
        let group = Group::new(config, log, logger)?;
        Ok(Replica {
            me,
            state,
            applied,
            group,
            leading: None,
            stopped: None,
            eager_ticks: 0,
            leader: None,
            dirty: true,
            hollow: false,
            incoming: None,
            hollow_ticks: 0,
            complete: None,
            deferred: Vec::new(),
            taken_in: None,
            log_kept: None,
            quiet: None,
            stirred: Duration::ZERO,
            listing: Listing::default(),
            heard: None,
            called: None,
            asked_to_go: None,
            strangers: BTreeMap::new(),
        })
    }

    pub fn descriptor(&self) -> &RangeDescriptor {
        &self.state.descriptor
    }

    /// On a leader, the follower that would lead best in its place, but for one that was tried, and those on nodes that rest.
    pub fn successor(&self, nodes: Resting<'_>, tried: Option<u64>) -> Option<u64> {
        let resting = self.descriptor().replicas.iter().filter(|other| nodes.holds(other.node));
        let but: Vec<u64> = resting.map(|other| other.id.0).chain(tried).collect();
        self.group.successor(&but)
    }

    /// The node that leads, as far as this replica knows.
    pub fn leader_node(&self) -> Option<NodeId> {
        let id = self.group.leader()?;
        self.node_of(ReplicaId(id))
    }

    /// A replica that lags, or has no contents yet, may not know who writes to it. Whoever leads must hear from it, or it never catches up.
    pub fn meet(&mut self, node: NodeId, id: ReplicaId) {
        /// Strangers past which the oldest is forgotten.
        const STRANGERS_MAX: usize = 16;
        if self.descriptor().replica(id).is_none() && self.strangers.insert(id, node).is_none() {
            while self.strangers.len() > STRANGERS_MAX {
                self.strangers.pop_first();
            }
        }
    }

    /// The node of a replica, as far as is known.
    fn node_of(&self, id: ReplicaId) -> Option<NodeId> {
        let known = self.descriptor().replica(id).map(|r| r.node);
        known.or_else(|| self.strangers.get(&id).copied())
    }

    /// Replaces what is known of the range.
    pub(super) fn set_state(&mut self, state: RangeState) {
        if let Some(me) = state.descriptor.replica(self.me.id) {
            self.me = me;
        }
        self.strangers.retain(|id, _| state.descriptor.replica(*id).is_none());
        self.state = state;
    }

    /// Whether it belongs to its range no longer, and knows it.
    pub fn has_departed(&self) -> bool {
        !self.hollow && self.descriptor().replica(self.me.id).is_none()
    }

    /// The keys that are this replica's in its store: none other may hold any of them.
    pub fn claims(&self) -> Span {
        match (&self.incoming, self.hollow) {
            (Some(incoming), _) => incoming.span(),
            (None, true) => Span { start: self.descriptor().start.clone(), end: self.descriptor().start.clone() },
            (None, false) => self.descriptor().span(),
        }
    }

    /// Whether it leads and may serve.
    pub fn is_serving(&self) -> bool {
        self.stopped.is_none()
            && self.leading.as_ref().is_some_and(|l| l.serving && l.handover.is_none() && l.term == self.group.term())
            && self.group.is_leader()
    }

    /// Wraps a message of the group for its way; with the node to send it to.
    pub fn address(&self, message: &Message) -> Option<(NodeId, RaftMessage)> {
        let to = ReplicaId(message.to);
        let node = self.node_of(to)?;
        let wrapped = RaftMessage {
            range: self.descriptor().id,
            start: self.descriptor().start.clone(),
            from: self.me.id,
            to,
            payload: crate::raft::group::encode_message(message).into(),
        };
        Some((node, wrapped))
    }

    /// The replica stops for good: it answers nothing, and its group is no longer stepped.
    pub fn stop(&mut self, cx: &mut Surroundings<'_>, error: &EngineError) {
        cx.knobs.probe.took(Path::ReplicaStopped);
        if let EngineError::Io(detail) = error {
            cx.effects.failed = Some(detail.clone());
        }
        self.stopped = Some(error.to_string());
        if let Some(led) = self.leading.as_ref().map(|leading| leading.term) {
            self.tell_unled(cx, led);
        }
        self.step_down(cx);
    }

    /// What to answer where this replica cannot serve.
    pub fn refusal(&self) -> Refusal {
        match &self.stopped {
            Some(why) => Refusal::Corrupt(format!("{} on {} has stopped: {why}", self.descriptor().id, self.me.node)),
            None if self.group.is_leader() => match self.leading.as_ref().and_then(|leading| leading.handover) {
                Some(handover) => Refusal::NotLeader(self.node_of(ReplicaId(handover.to))),
                None => Refusal::Busy("the leader is starting".into()),
            },
            None => Refusal::NotLeader(self.leader_node()),
        }
    }

    /// Whether the range holds a span.
    pub fn covers(&self, span: &Span) -> bool {
        self.descriptor().span().covers(span)
    }

    /// The first key, for messages.
    pub fn start(&self) -> &Key {
        &self.descriptor().start
    }
}
