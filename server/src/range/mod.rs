//! One replica of a range.
//!
//! A [`replica::Replica`] ties a Raft group to the engine. Commands are evaluated above Raft, by the leader, under latches
//! (see [`txn::participant`]); what is replicated is the write batch that came out, and every replica applies it blindly.
//!
//! * [`serve`]: a request comes in, waits for what it must wait for, is evaluated, answered or proposed.
//! * [`leadership`]: when a leader may serve at all, and up to which timestamp.
//! * [`handover`]: a leader makes way for another.
//! * [`apply`]: a committed entry goes into the engine; its proposer is answered.
//! * [`split`]: one range becomes two.
//! * [`merge`]: two ranges become one.
//! * [`weigh`]: how large a range is and what it is asked, and whether it wants to be split for that.
//! * [`membership`]: replicas are added, promoted and removed.
//! * [`quiet`]: an idle range neither ticks nor sends.
//! * [`leisure`]: one that is asked little does so seldom.
//! * [`closing`], [`past`]: up to where nothing is written any more, and who may be read there.
//! * [`snapshot`], [`incoming`]: a replica that the log cannot help is given the range's contents.
//!
//! **Timestamps are the lease.** A leader serves reads up to its *fence*: an HLC reading that it put on a heartbeat round
//! or a command which a quorum acknowledged in its term, plus the read window. A new leader counts everything as read up to its *low-water
//! mark*, its HLC on election plus the same window; as some voter of its quorum has acknowledged whatever an older
//! leader relies on, and votes carry the voter's HLC, the mark lies above every fence before it. No wall clock enters the argument.

pub mod command;
pub mod state;
pub mod replica;
pub mod serve;
pub mod leadership;
pub mod handover;
pub mod apply;
pub mod split;
pub mod merge;
pub mod weigh;
pub mod membership;
pub mod closing;
pub mod past;
pub mod snapshot;
pub mod incoming;
pub mod quiet;
pub mod leisure;

pub use replica::{Bootstrap, Replica, Surroundings};
