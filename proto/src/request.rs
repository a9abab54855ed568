//! What a gateway asks of a range, and what the range answers.
//!
//! Every request may arrive twice, late, or after its sender gave it up. Each operation is therefore safe to repeat:
//! reads and pushes by nature, commits because they look for their receipt first.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::range::{RangeOperation, RangeStatus};
use crate::transaction::{Intent, Ousting, TxnMeta, TxnRecord, Write};
use crate::{Epoch, Key, NodeId, RangeDescriptor, RangeId, Span, Timestamp, TxnId};

/// A request to the leader of one range. All its keys lie inside the range.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RangeRequest {
    #[n(0)]
    pub range: RangeId,
    /// The epoch of the descriptor by which the request was routed.
    #[n(1)]
    pub epoch: Epoch,
    #[n(2)]
    pub operation: Operation,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Operation {
    /// Read keys or a span at a timestamp.
    #[n(0)]
    Read(#[n(0)] Read),
    /// Queue for keys, then read them, at a later timestamp if need be.
    #[n(1)]
    LockingRead(#[n(0)] LockingRead),
    /// Is everything in these spans unchanged between two timestamps? A read at the later one (I5).
    #[n(2)]
    Validate(#[n(0)] Validate),
    /// Validate, write and commit a transaction of this range alone, with one command.
    #[n(3)]
    CommitOne(#[n(0)] CommitOne),
    /// Write intents, and on the anchor's range stage the record.
    #[n(4)]
    Prepare(#[n(0)] Prepare),
    /// Say what is so already: the record goes from staging to committed.
    #[n(5)]
    CommitRecord(#[n(0)] CommitRecord),
    /// Decide the transaction: the record becomes aborted, or says how it ended.
    #[n(6)]
    AbortRecord(#[n(0)] AbortRecord),
    /// The coordinator lives.
    #[n(7)]
    Heartbeat(#[n(0)] Heartbeat),
    /// Settle or postpone the owner of an intent that is in the way.
    #[n(8)]
    Push(#[n(0)] Box<Push>),
    /// Turn intents of a settled transaction into versions, or remove them; or move them up.
    #[n(9)]
    Resolve(#[n(0)] Resolve),
    /// Give up a transaction's places in the lock table, or keep them.
    #[n(10)]
    Locks(#[n(0)] Locks),
    /// Something about the range itself.
    #[n(11)]
    Range(#[n(0)] RangeOperation),
    /// Does a staged transaction hold all these intents? Those that are missing can never be written at or below its timestamp afterwards.
    #[n(12)]
    QueryIntents(#[n(0)] QueryIntents),
    /// Decide a staged transaction by what its keys were found to hold.
    #[n(13)]
    Recover(#[n(0)] Recover),
    /// Read in the past. Any replica answers it whose closed timestamp has reached the read's, leader or not; the others refuse at once.
    #[n(14)]
    ReadPast(#[n(0)] Read),
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Read {
    /// The reader, so that it does not stand in its own way; nil for a read without a transaction.
    #[n(0)]
    pub txn: TxnId,
    #[n(1)]
    pub timestamp: Timestamp,
    #[n(2)]
    pub target: Target,
    /// The reader's age, for conflicts.
    #[n(3)]
    pub priority: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Target {
    #[n(0)]
    Keys(#[n(0)] Vec<Key>),
    #[n(1)]
    Span {
        #[n(0)]
        span: Span,
        #[n(1)]
        rows_max: u64,
        #[n(2)]
        bytes_max: u64,
        #[n(3)]
        reverse: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LockingRead {
    #[n(0)]
    pub txn: TxnId,
    #[n(1)]
    pub priority: Timestamp,
    #[n(2)]
    pub timestamp: Timestamp,
    #[n(3)]
    pub keys: Vec<Key>,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Validate {
    #[n(0)]
    pub txn: TxnId,
    /// Exclusive.
    #[n(1)]
    pub from: Timestamp,
    /// Inclusive.
    #[n(2)]
    pub to: Timestamp,
    #[n(3)]
    pub spans: Vec<Span>,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct CommitOne {
    #[n(0)]
    pub txn: TxnMeta,
    #[n(1)]
    pub read: Timestamp,
    /// Commit at or above this; at least `read`.
    #[n(2)]
    pub timestamp: Timestamp,
    #[n(3)]
    pub writes: Vec<Write>,
    /// What must be unchanged since `read` if the commit is pushed above it.
    #[n(4)]
    pub validate: Vec<Span>,
    /// Whether `validate` is all that must be validated. If other ranges hold more, a push is answered with
    /// [`Refusal::Pushed`] instead.
    #[n(5)]
    pub complete: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Prepare {
    #[n(0)]
    pub txn: TxnMeta,
    #[n(1)]
    pub timestamp: Timestamp,
    #[n(2)]
    pub writes: Vec<Write>,
    /// On the anchor's range: all keys of the transaction, for the record. It is staged only if nothing pushes the anchor's
    /// part above `timestamp`.
    #[n(3)]
    pub record: Option<Vec<Key>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct CommitRecord {
    #[n(0)]
    pub txn: TxnMeta,
    #[n(1)]
    pub timestamp: Timestamp,
    /// The transaction's keys in the anchor's range, whose intents become versions with the same entry.
    #[n(2)]
    pub keys: Vec<Key>,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AbortRecord {
    #[n(0)]
    pub txn: TxnMeta,
    /// Some range has pushed this attempt above the timestamp at which it was staged, for good: the staged record means nothing.
    #[n(1)]
    pub pushed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct QueryIntents {
    /// The staged attempt.
    #[n(0)]
    pub txn: TxnMeta,
    /// Where it would commit.
    #[n(1)]
    pub timestamp: Timestamp,
    #[n(2)]
    pub keys: Vec<Key>,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Recover {
    /// The staged attempt. If the record has gone on since, it stays as it is.
    #[n(0)]
    pub txn: TxnMeta,
    /// Where it was staged.
    #[n(1)]
    pub timestamp: Timestamp,
    /// Whether all of its intents were found.
    #[n(2)]
    pub commit: bool,
    /// Who could not wait for it; none if its own coordinator asks.
    #[n(3)]
    pub by: Option<Ousting>,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Heartbeat {
    #[n(0)]
    pub txn: TxnMeta,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Push {
    /// The owner of the intent in the way.
    #[n(0)]
    pub txn: TxnMeta,
    /// The timestamp of that intent.
    #[n(1)]
    pub intent: Timestamp,
    /// The age of the pusher.
    #[n(2)]
    pub priority: Timestamp,
    /// The pusher, which breaks ties of age; nil without a transaction.
    #[n(3)]
    pub pusher: TxnId,
    #[n(4)]
    pub kind: PushKind,
    /// Where the intent is.
    #[n(5)]
    pub key: Key,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum PushKind {
    /// A reader at this timestamp: the owner shall commit above it.
    #[n(0)]
    Above(#[n(0)] Timestamp),
    /// A writer: the owner shall go, if it is younger or dead.
    #[n(1)]
    Abort,
    /// A commit that validates its reads up to this timestamp: like a reader, but it holds intents meanwhile, so it may not wait for a staging owner
    /// that is younger, which may be waiting for one of these.
    #[n(2)]
    Validate(#[n(0)] Timestamp),
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Resolve {
    #[n(0)]
    pub txn: TxnId,
    #[n(1)]
    pub outcome: Outcome,
    #[n(2)]
    pub keys: Vec<Key>,
}

/// How a transaction stands, as far as its intents are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Outcome {
    /// Intents of this attempt at or below the timestamp become versions at it; others are removed (I9).
    #[n(0)]
    Committed {
        #[n(0)]
        attempt: u32,
        #[n(1)]
        timestamp: Timestamp,
    },
    #[n(1)]
    Aborted,
    /// Still pending, but it will commit at or above this timestamp: intents move up to it.
    #[n(2)]
    Pushed(#[n(0)] Timestamp),
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Locks {
    #[n(0)]
    pub txn: TxnId,
    /// Keep (a sign of life) or give up.
    #[n(1)]
    pub keep: bool,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Response {
    #[n(0)]
    Done(#[n(0)] Reply),
    #[n(1)]
    Refused(#[n(0)] Refusal),
}

/// The answer to an operation that was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Reply {
    #[n(0)]
    pub body: ReplyBody,
    /// Microseconds from arrival to proposal: latches, locks, intents, evaluation.
    #[n(1)]
    pub queue_us: u64,
    /// Microseconds from proposal to application; 0 if nothing was replicated.
    #[n(2)]
    pub replication_us: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ReplyBody {
    /// Values of the keys asked for, in that order.
    #[n(0)]
    Values {
        #[n(0)]
        values: Vec<Option<ByteVec>>,
        /// The newest version among what was read, deletions included.
        #[n(1)]
        newest: Timestamp,
        /// The timestamp that was read at; above the one asked for only for a locking read.
        #[n(2)]
        at: Timestamp,
    },
    #[n(1)]
    Rows {
        #[n(0)]
        rows: Vec<Row>,
        #[n(1)]
        newest: Timestamp,
        /// What is left of the span.
        #[n(2)]
        resume: Option<Span>,
    },
    /// Nothing to say: validated, kept, released, resolved, split.
    #[n(2)]
    Ok,
    /// Committed at, or intents written at or above, this timestamp.
    #[n(3)]
    At(#[n(0)] Timestamp),
    /// The record as it stands after the operation.
    #[n(4)]
    Record(#[n(0)] TxnRecord),
    /// The descriptors after a change of the range: two after a split.
    #[n(5)]
    Ranges(#[n(0)] Vec<RangeDescriptor>),
    /// Whether all the intents asked for are there.
    #[n(6)]
    Present(#[n(0)] bool),
    /// A staged record for which the pusher need not wait, as its coordinator has fallen silent or is younger: it is to be recovered.
    #[n(7)]
    ToRecover {
        #[n(0)]
        record: Box<TxnRecord>,
        /// As which the recovery is to be told, if it aborts.
        #[n(1)]
        by: Ousting,
    },
    #[n(8)]
    Status(#[n(0)] Box<RangeStatus>),
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Row {
    #[n(0)]
    pub key: Key,
    #[n(1)]
    pub value: ByteVec,
}

/// Why an operation was not carried out. Unless it says otherwise nothing has happened, and nothing will.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Refusal {
    /// This replica does not lead; perhaps that node does.
    #[n(0)]
    NotLeader(#[n(0)] Option<NodeId>),
    /// The range is not here or not as the request believes. The descriptors may help.
    #[n(1)]
    WrongRange(#[n(0)] Vec<RangeDescriptor>),
    /// Leadership was lost while the command was on its way: it may still take effect. Ask again.
    #[n(2)]
    Unknown,
    /// Waited long for these intents; settle their owners.
    #[n(3)]
    Intents(#[n(0)] Vec<IntentInTheWay>),
    /// Still queueing for a lock. The place is kept for a while: ask again.
    #[n(4)]
    Queued,
    /// An older transaction took the lock away.
    #[n(5)]
    Wounded(#[n(0)] Ousting),
    /// What the transaction read has changed.
    #[n(6)]
    Changed(#[n(0)] Changed),
    /// The commit would be at this timestamp; validate the other ranges up to it and ask again with it.
    #[n(7)]
    Pushed(#[n(0)] Timestamp),
    /// The transaction's record says aborted, and by whom if another one did it.
    #[n(8)]
    Aborted(#[n(0)] Option<Ousting>),
    /// The transaction is so old that its receipt may be gone.
    #[n(9)]
    TooOld,
    /// Not now: the replica is starting, its clock is behind, its queues are full.
    #[n(10)]
    Busy(#[n(0)] String),
    /// The request contradicts itself.
    #[n(11)]
    Invalid(#[n(0)] String),
    /// The replica has stopped because its data is damaged.
    #[n(12)]
    Corrupt(#[n(0)] String),
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct IntentInTheWay {
    #[n(0)]
    pub key: Key,
    #[n(1)]
    pub txn: TxnMeta,
    #[n(2)]
    pub timestamp: Timestamp,
}

impl IntentInTheWay {
    pub fn new(key: Key, intent: &Intent) -> IntentInTheWay {
        IntentInTheWay { key, txn: intent.txn.clone(), timestamp: intent.timestamp }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Changed {
    #[n(0)]
    pub key: Key,
    /// The version, or intent, that came between.
    #[n(1)]
    pub at: Timestamp,
    /// The transaction whose intent it is, where known.
    #[n(2)]
    pub other: Option<TxnId>,
}
