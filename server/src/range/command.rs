//! What a range replicates: one enum, with stable numbers.

use minicbor::{Decode, Encode};
use proto::{Epoch, RangeDescriptor, Timestamp};
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
}
