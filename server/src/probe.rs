//! Fault points and coverage: how a simulation reaches into the code, and sees where it has been.
//!
//! At a *fault point* the code may do what is allowed and rarely happens: give up early, repeat itself, forget what it need not remember. No
//! promise may rest on its not doing so. In production no point ever fires. At an *interesting path* the code says that it is there, so that
//! a test can tell that its seeds reach it; nothing is done with that in production.
//!
//! Points and paths are closed enums, so that what was never reached can be named.

use std::fmt::Debug;

/// Places where something that is allowed, and rare, can be made to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// A commit that is known is not completed: its record stays staged until somebody recovers it.
    CommitLeftStaged,
    /// Completing a commit, or resolving its intents, begins late.
    LateCompletion,
    /// A coordinator does not say that it lives.
    HeartbeatSkipped,
    /// Whoever meets a pending or staged transaction takes its coordinator for silent.
    ExpiryAtOnce,
    /// A leader acts as if somebody had just read what a transaction is about to write.
    ExtraPush,
    /// A leader accepts no command.
    ProposalRefused,
    /// A command is applied, and nobody is told.
    AnswerLost,
    /// A leader forgets the places in a queue that a transaction holds.
    LocksForgotten,
    /// A leader does not ask for a round that would raise its fence.
    RoundSkipped,
    /// A leader hands over for no reason.
    NeedlessTransfer,
    /// The engine is flushed and the log cut though it is short.
    EarlyFlush,
    /// The log is cut though a follower still needs it: it will need a Raft snapshot.
    CutAheadOfFollowers,
    /// Entries are applied one at a time.
    SingleApply,
    /// A gateway sends a request twice.
    RequestTwice,
    /// A gateway hardly waits for an answer.
    ImpatientGateway,
    /// A gateway forgets who leads a range.
    LeaderForgotten,
    /// The parts of an operation over several ranges set out at different times.
    ScatterApart,
    /// Between looking at the keys of a staged transaction and deciding it, time passes.
    SlowRecovery,
    /// A leader's descriptor is not published.
    PublicationLost,
    /// A leader falls quiet, and a follower is not told.
    QuietWordLost,
    /// A leader steps down and does not say so.
    UnledLost,
    /// A replica at leisure counts a Raft tick that is not its turn.
    EagerTick,
    /// A gateway asks a leader for what a nearer replica may know.
    LeaderAsked,
}

impl Point {
    pub const ALL: [Point; 23] = [
        Point::CommitLeftStaged,
        Point::LateCompletion,
        Point::HeartbeatSkipped,
        Point::ExpiryAtOnce,
        Point::ExtraPush,
        Point::ProposalRefused,
        Point::AnswerLost,
        Point::LocksForgotten,
        Point::RoundSkipped,
        Point::NeedlessTransfer,
        Point::EarlyFlush,
        Point::CutAheadOfFollowers,
        Point::SingleApply,
        Point::RequestTwice,
        Point::ImpatientGateway,
        Point::LeaderForgotten,
        Point::ScatterApart,
        Point::SlowRecovery,
        Point::PublicationLost,
        Point::QuietWordLost,
        Point::UnledLost,
        Point::EagerTick,
        Point::LeaderAsked,
    ];
}

/// Paths that tests should take sometimes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Path {
    /// A commit in one range, and one in several.
    OneRangeCommit,
    SeveralRangesCommit,
    /// Some range pushed a staged attempt, and the next one was staged.
    StagedAgain,
    /// Reads held when a pushed commit looked again, or did not.
    ValidationHeld,
    ValidationFailed,
    /// A commit whose answer was lost asked its record.
    OutcomeAsked,
    /// It stays unknown: nobody could be asked.
    OutcomeLeftOpen,
    /// A repeated commit found its receipt.
    ReceiptFound,
    /// A reader pushed a pending transaction up.
    PushedUp,
    /// A pending transaction was aborted by an older writer, or as its coordinator was silent.
    Wounded,
    Expired,
    /// A staged transaction was recovered.
    RecoveredCommitted,
    RecoveredAborted,
    /// Recovery found its record changed.
    RecoveryOvertaken,
    /// A look at a missing intent prevented it.
    Prevented,
    /// The read timestamp of a transaction moved.
    ReadMoved,
    /// Requests waited for an acknowledged round, for a lock, for an intent.
    WaitedForFence,
    WaitedForLock,
    WaitedForIntent,
    /// A transaction lost its place in a queue to an older one.
    LockWounded,
    /// The clock stood at its ceiling.
    CeilingReached,
    /// A message was refused for its clock.
    MessageRefused,
    /// A leader fell with commands in flight.
    CommandsInFlightLost,
    /// A first leader needed no low-water mark; a later one set it.
    FirstLeader,
    LaterLeader,
    /// Leadership was handed over on purpose.
    Transferred,
    /// A range was split; a request met a range that had changed.
    Split,
    Repartitioned,
    /// A replica came into being by a message.
    CreatedEmpty,
    /// Raft snapshots.
    SnapshotMade,
    SnapshotInstalled,
    /// Entries were cut from a log.
    LogCut,
    /// A store opened on an engine that was ahead of its log, and on one that was behind.
    LogCaughtUp,
    EntriesReplayed,
    /// A replica stopped, as its storage failed.
    ReplicaStopped,
    /// A gateway turned away from a replica that had stopped.
    StoppedAvoided,
    /// Members changed: a joint configuration was entered; one was left, or a replica without a vote came or went.
    JointEntered,
    MembersChanged,
    /// A leader on its way out of its range handed over.
    OutgoingLeader,
    /// A replica that had contents gave them up for newer ones; one asked for contents; one went on with them after a crash; a piece was
    /// given; a transfer was given up.
    HollowedOut,
    ContentsAsked,
    ContentsResumed,
    PieceGiven,
    TransferGivenUp,
    /// A removed replica was deleted; one that did not know was told.
    ReplicaDeleted,
    RemovedTold,
    /// A split was applied where the right-hand replica had been removed already.
    SplitOfRemoved,
    /// A gateway found that a range had moved away from all nodes where it knew it.
    FoundElsewhere,
    /// A leader wanted its range split; the placement driver looked at all ranges, and had one changed.
    SplitWished,
    LookedAtAll,
    Placed,
    /// A leader, and a follower, fell quiet; a follower was told to and could not; a range that watched a node woke as that node had changed;
    /// a follower was told that its leader is not quiet.
    LeaderQuiet,
    FollowerQuiet,
    QuietDeclined,
    WokenByNode,
    WokenByRoll,
    /// A store was asked for a range that it does not lead (any more).
    UnledByRoll,
    /// A replica at leisure counted a tick; one was told that its leader leads no longer.
    TickedAtLeisure,
    LeaderResigned,
    /// A leader at leisure leaves its turn out, for its range was written to.
    EntriesForHeartbeats,
    /// What a range logged after its birth had waited for the engine.
    NewbornReleased,
    /// A leader handed over with a summary of what was read; another one began with it.
    HandedOver,
    HandedLeader,
    /// A range was frozen for a merge; merged; served again.
    Frozen,
    Merged,
    Thawed,
    /// A replica came to a merge, and the other one's log had to be applied first; or was of no use.
    CaughtUpForMerge,
    MergeMissed,
    /// Contents came in where a replica of a range was that had been merged into theirs.
    SubsumedCleared,
    /// A timestamp was closed; by an entry of its own; as a quiet range's follower asked for it.
    Closed,
    ClosedAlone,
    ClosingCalled,
    /// A leader closes nothing for a while, for a transaction that it has pushed more than once.
    ClosingHeld,
    /// A replica answered a read in the past by itself; could not; met an intent that had to go first.
    PastServed,
    PastRefused,
    PastMetIntent,
}

impl Path {
    pub const ALL: [Path; 76] = [
        Path::OneRangeCommit,
        Path::SeveralRangesCommit,
        Path::StagedAgain,
        Path::ValidationHeld,
        Path::ValidationFailed,
        Path::OutcomeAsked,
        Path::OutcomeLeftOpen,
        Path::ReceiptFound,
        Path::PushedUp,
        Path::Wounded,
        Path::Expired,
        Path::RecoveredCommitted,
        Path::RecoveredAborted,
        Path::RecoveryOvertaken,
        Path::Prevented,
        Path::ReadMoved,
        Path::WaitedForFence,
        Path::WaitedForLock,
        Path::WaitedForIntent,
        Path::LockWounded,
        Path::CeilingReached,
        Path::MessageRefused,
        Path::CommandsInFlightLost,
        Path::FirstLeader,
        Path::LaterLeader,
        Path::Transferred,
        Path::Split,
        Path::Repartitioned,
        Path::CreatedEmpty,
        Path::SnapshotMade,
        Path::SnapshotInstalled,
        Path::LogCut,
        Path::LogCaughtUp,
        Path::EntriesReplayed,
        Path::ReplicaStopped,
        Path::StoppedAvoided,
        Path::JointEntered,
        Path::MembersChanged,
        Path::OutgoingLeader,
        Path::HollowedOut,
        Path::ContentsAsked,
        Path::ContentsResumed,
        Path::PieceGiven,
        Path::TransferGivenUp,
        Path::ReplicaDeleted,
        Path::RemovedTold,
        Path::SplitOfRemoved,
        Path::FoundElsewhere,
        Path::SplitWished,
        Path::LookedAtAll,
        Path::Placed,
        Path::LeaderQuiet,
        Path::FollowerQuiet,
        Path::QuietDeclined,
        Path::WokenByNode,
        Path::WokenByRoll,
        Path::UnledByRoll,
        Path::TickedAtLeisure,
        Path::LeaderResigned,
        Path::EntriesForHeartbeats,
        Path::NewbornReleased,
        Path::HandedOver,
        Path::HandedLeader,
        Path::Frozen,
        Path::Merged,
        Path::Thawed,
        Path::CaughtUpForMerge,
        Path::MergeMissed,
        Path::SubsumedCleared,
        Path::Closed,
        Path::ClosedAlone,
        Path::ClosingCalled,
        Path::ClosingHeld,
        Path::PastServed,
        Path::PastRefused,
        Path::PastMetIntent,
    ];
}

/// See the module.
pub trait Probe: Debug + Send + Sync {
    /// Whether a fault point fires.
    fn fires(&self, point: Point) -> bool;

    /// An interesting path is taken.
    fn took(&self, path: Path);
}

/// In production: nothing fires, nothing is counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Probe for Silent {
    fn fires(&self, _: Point) -> bool {
        false
    }

    fn took(&self, _: Path) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_points_and_paths_are_listed_in_order() {
        assert!(Point::ALL.iter().enumerate().all(|(at, point)| *point as usize == at));
        assert!(Path::ALL.iter().enumerate().all(|(at, path)| *path as usize == at));
    }
}
