//! What nodes send each other: one envelope, batched on one stream a pair.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::clock::ClockReport;
use crate::report::StoreReport;
use crate::request::{RangeRequest, Response};
use crate::{Key, NodeId, RangeDescriptor, RangeId, ReplicaId, Timestamp};

/// A message from one node to another.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Envelope {
    #[n(0)]
    pub from: NodeId,
    /// The sender's hybrid logical clock. A receiver whose bound it exceeds refuses the whole message.
    #[n(1)]
    pub hlc: Timestamp,
    #[n(2)]
    pub body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Body {
    /// Raft messages of any ranges that the two nodes share.
    #[n(0)]
    Raft(#[n(0)] Vec<RaftMessage>),
    /// A request to a range; answered once, or not at all.
    #[n(1)]
    Request {
        /// Chosen by the asking node; counted up from a random number, so that no two of its lives share one.
        #[n(0)]
        id: u64,
        #[n(1)]
        request: RangeRequest,
    },
    #[n(2)]
    Response {
        #[n(0)]
        id: u64,
        #[n(1)]
        response: Response,
    },
    /// Evidence about clocks. Read even where the envelope's own reading is refused.
    #[n(3)]
    Clock(#[n(0)] ClockReport),
    /// A piece of a range's contents, or the wish for one.
    #[n(4)]
    Contents(#[n(0)] ContentsMessage),
    /// A replica there belongs to its range no longer.
    #[n(5)]
    Removed {
        #[n(0)]
        replica: ReplicaId,
        /// What says so: a later descriptor of the range, or of another one that has taken it in.
        #[n(1)]
        descriptor: RangeDescriptor,
        #[n(2)]
        range: RangeId,
    },
    /// For the placement driver, which may be at the receiver.
    #[n(7)]
    Report(#[n(0)] StoreReport),
    /// A replica was removed from its range: may it be deleted? Answered with `Removed`, or not at all.
    #[n(6)]
    Straggler {
        #[n(1)]
        replica: ReplicaId,
        /// The range as it knows it.
        #[n(2)]
        descriptor: RangeDescriptor,
    },
    /// A store says that it lives: one message for all ranges that it shares with the receiver.
    #[n(8)]
    Beat(#[n(0)] Beat),
    /// Leaders fall quiet.
    #[n(9)]
    Quiet(#[n(0)] Vec<QuietWord>),
    /// These ranges are not to be quiet, at the receiver.
    #[n(10)]
    Wake(#[n(0)] Vec<RangeId>),
    /// The next report is to tell of everything, and to come to where the meta range is: the sender has missed something.
    #[n(11)]
    ReportWanted(#[n(0)] RangeDescriptor),
    /// The sender leads these ranges no longer, and knows of no other leader.
    #[n(12)]
    Unled(#[n(0)] Vec<LedRange>),
}

/// A store lives.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Beat {
    /// Tells the lives of its process apart.
    #[n(0)]
    pub run: u64,
    /// Whether the receiver is to answer, if it would not say the same of itself anyway.
    #[n(1)]
    pub asks: bool,
    /// Some of the ranges that the sender holds for quietly led by the receiver, others each time. Whichever is not is answered with a
    /// [`Body::Wake`], or if it leads that one no longer with [`Body::Unled`].
    #[n(2)]
    pub roll: Vec<LedRange>,
    /// The sender's process is about to stop: it hands over what it leads, and is to be handed nothing.
    #[n(3)]
    #[cbor(default)]
    pub leaving: bool,
}

/// A range as somebody leads it, or led it, in a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LedRange {
    #[n(0)]
    pub range: RangeId,
    #[n(1)]
    pub term: u64,
}

/// A leader tells a follower that its range falls quiet: neither ticks any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct QuietWord {
    #[n(0)]
    pub range: RangeId,
    #[n(1)]
    pub from: ReplicaId,
    #[n(2)]
    pub to: ReplicaId,
    #[n(3)]
    pub term: u64,
    /// The last entry of the log: everything is committed. Whoever does not hold just this stays awake.
    #[n(4)]
    pub commit: u64,
}

/// A word between two replicas about the contents that one of them lacks.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ContentsMessage {
    #[n(0)]
    pub range: RangeId,
    #[n(1)]
    pub from: ReplicaId,
    #[n(2)]
    pub to: ReplicaId,
    /// The replica's own encoding.
    #[n(3)]
    pub payload: ByteVec,
}

/// One Raft message of one range.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RaftMessage {
    #[n(0)]
    pub range: RangeId,
    /// The first key of the range as the sender knows it: tells a receiver without a replica whether one is
    /// about to come into being by a split.
    #[n(1)]
    pub start: Key,
    #[n(2)]
    pub from: ReplicaId,
    #[n(3)]
    pub to: ReplicaId,
    /// The Raft library's encoding.
    #[n(4)]
    pub payload: ByteVec,
}
