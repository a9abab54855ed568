//! Idempotency keys: an application runs a whole transaction again, and it takes effect once.
//!
//! Whoever loses an answer, or crashes before it has noted one down, cannot know whether its transaction committed. A receipt tells, but only to
//! somebody who still has the transaction's id. An *idempotency key* is a name that the application chose before the first run, an order's
//! number say, so it can come back with nothing else in hand.
//!
//! The key is a row, written by the very transaction that it guards:
//!
//! ```text
//! 06  two bytes of the key's hash  key      a Record: whose it is, when, and for each request its fingerprint and its answer
//! ```
//!
//! * A run reads the row before anything else. If there is none it *records*: each request's [`Fingerprint`] and answer are kept, and the row
//!   is written with the transaction's other writes. It is there if and only if they are.
//! * If there is one, the run *replays* it: each request must have the fingerprint that the row has in its place, and is given the answer
//!   that stands there. Nothing is executed.
//!
//! ```text
//!                    no row                          request, answer
//!   Guard::open ───────────────► recording ◄──────────────────────────┐
//!        │                           └────────────────────────────────┘ ──► end: the row is buffered, the transaction commits
//!        │ a row                          request
//!        └─────────────────────► replaying ◄──────────┐
//!                                    └────────────────┘ ──► end: the first run's commit
//! ```
//!
//! **K1** Two runs of one key never both commit. Each has read the row as absent and writes it, so whichever is serialized second has read
//! something that is not so any more. Under snapshot isolation it has written a row that has changed since. No clock enters into it.
//! **K2** A run that does not commit leaves no row: the key is free.
//! **K3** A replay answers with what the first run answered, or refuses ([`Error::KeyReused`](super::Error::KeyReused)); it never answers with part of both.
//!
//! The hash in front of the key spreads keys that are counted up over the key space, so that the rows can lie in several ranges.
//! Rows are kept for a configured time, after which a [`Collector`] deletes them. As long as a row is there it is honoured, however old.
//!
//! What this leaves open: answers are kept whole, so they have to be small; errors are not kept, so a request that was refused runs anew; and who
//! comes back after the row was collected runs a second time.

pub mod key;
pub mod fingerprint;
pub mod record;
pub mod guard;
pub mod collect;

pub use collect::{CollectLimits, Collector};
pub use fingerprint::Fingerprint;
pub use guard::Guard;
pub use key::IdempotencyKey;
pub use record::{Difference, Reuse};
