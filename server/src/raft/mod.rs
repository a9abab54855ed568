//! Raft, by the library `raft` (tikv/raft-rs), behind a small surface.
//!
//! A [`Group`] is one replica's Raft state machine: messages, proposals and ticks go in, an [`Output`] comes out. It does no
//! I/O. Of its log it keeps everything that is not yet truncated in memory ([`storage::LogStore`]); the copy on
//! disk is written in [`record`]s, for all groups of a store together, and read only when a store starts.
//!
//! The library draws its election timeouts from thread-local randomness. A group overwrites each draw with one from its
//! seed, so that a simulated cluster repeats itself exactly; for this the library's node must not be reachable from
//! outside.

pub mod record;
pub mod frame;
mod sums;
pub mod storage;
pub mod members;
pub mod group;
mod standing;

pub use group::{Group, GroupConfig, Output, Round};
pub use members::{MemberChange, Members};
pub use record::{GroupRecord, LogFrame, RecoveredGroup, RecoveredLog};
pub use standing::Progress;

/// A logger for the Raft library that drops what it says: its state is visible in metrics and traces.
pub fn logger() -> slog::Logger {
    slog::Logger::root(slog::Discard, slog::o!())
}
