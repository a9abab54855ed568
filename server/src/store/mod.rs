//! All replicas of a node, as one state machine.
//!
//! [`Store::step`] takes one [`Event`] and the time, and says what is to be done as [`Effect`]s. It is driven by one loop:
//! in production a thread (see [`crate::io`]), in simulation the event queue. Disk syncs, sends and flushes happen outside;
//! their completions are events.
//!
//! ```text
//!   Message, Tick ──▶ replicas ──▶ outputs of the touched groups ──▶ one log frame  ──▶ Append
//!   Synced(frame) ──▶ groups learn that it is on disk ──▶ messages that waited, entries to apply, answers
//! ```
//!
//! Everything that became ready while a frame was being synced goes into the next: that is group commit across ranges.

pub mod event;
pub mod machine;
pub mod ready;
pub mod quiet;
mod newborn;
pub(crate) mod liveness;
pub mod removal;
pub mod report;
pub mod recover;
mod merge;
pub mod transfer;
pub mod truncate;

pub use event::{Effect, Event};
pub use machine::{Store, StoreConfig, StoreStats};
