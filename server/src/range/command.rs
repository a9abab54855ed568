//! What a range replicates: one enum, with stable numbers.

use minicbor::{Decode, Encode};
use proto::range::Frozen;
use proto::{Epoch, Key, RangeDescriptor, RangeId, Timestamp};
use txn::WriteBatch;

/// An evaluated command, as a Raft entry carries it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Command {
    /// The term in which it was evaluated. Applying skips an entry whose own term differs (I4).
    #[n(0)]
    pub term: u64,
    /// Chosen by the leader, unique in its term.
    #[n(1)]
    pub proposal: u64,
    #[n(2)]
    pub batch: WriteBatch,
    #[n(3)]
    pub trigger: Option<Trigger>,
    /// Nothing after this entry is written at or below here: see [`super::closing`].
    #[n(10)]
    pub closed: Option<Timestamp>,
}

/// What else happens when a command is applied.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Trigger {
    /// The range becomes two.
    #[n(0)]
    Split {
        #[n(0)]
        left: RangeDescriptor,
        #[n(1)]
        right: RangeDescriptor,
        /// Everything in the right-hand range counts as read up to here.
        #[n(2)]
        read_floor: Timestamp,
        /// Whether the boundary stays until somebody asks for the contrary.
        #[n(3)]
        #[cbor(default)]
        pinned: bool,
    },
    /// The range's members change: the entry is one of the Raft library's for that, around this command.
    #[n(1)]
    Members {
        #[n(0)]
        descriptor: RangeDescriptor,
    },
    /// Everybody who holds this knows durably that the descriptor of this epoch was reached.
    #[n(2)]
    Settled {
        #[n(0)]
        epoch: Epoch,
    },
    /// The leader serves nothing after this in its term.
    #[n(3)]
    HandOver {
        /// Everything in the range counts as read up to here.
        #[n(0)]
        read_summary: Timestamp,
    },
    /// The range serves nothing after this, whoever leads, so that the one on its left can take it in.
    #[n(4)]
    Freeze {
        /// The range that may, and where it begins.
        #[n(0)]
        left: RangeId,
        #[n(1)]
        left_start: Key,
        /// Only as long as it is at this epoch.
        #[n(2)]
        left_epoch: Epoch,
        /// Everything in the range counts as read up to here.
        #[n(3)]
        read_summary: Timestamp,
    },
    /// The range takes in the one on its right.
    #[n(5)]
    Merge(#[n(0)] Box<Merge>),
    /// The range serves again: the merge that it was frozen for cannot happen any more.
    #[n(6)]
    Thaw {
        /// The entry that froze it.
        #[n(0)]
        frozen_at: u64,
    },
    /// Whether the range's first key is a boundary that stays until somebody asks for the contrary.
    #[n(8)]
    Pin(#[n(0)] bool),
    /// The epoch moves on, and with it everything that was planned for the last one comes to nothing.
    #[n(7)]
    Advance {
        #[n(0)]
        descriptor: RangeDescriptor,
    },
}

/// Two ranges become one.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Merge {
    /// The one range.
    #[n(0)]
    pub merged: RangeDescriptor,
    /// The right-hand range as it was.
    #[n(1)]
    pub right: RangeDescriptor,
    /// The freeze: only a replica of the right-hand range that has applied that entry can be taken in.
    #[n(2)]
    pub frozen: Frozen,
    /// Receipts in the right-hand range of transactions that started at or below this may be gone.
    #[n(3)]
    pub receipt_floor: Timestamp,
    /// What the right-hand range had closed when it was frozen.
    #[n(10)]
    #[cbor(default)]
    pub closed: Timestamp,
}
