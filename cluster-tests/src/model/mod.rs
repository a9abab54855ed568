//! Small models of the protocols, explored in every order of events by `stateright`.
//!
//! The simulator runs the production code through some schedules; these models run the protocol through all of them, within small bounds. Each model
//! is a state and the steps that are possible in it; there is no network, since whatever was sent may arrive now, later, again or never:
//!
//! | model | what it is about | bounds |
//! |---|---|---|
//! | [`commit`] | one-round commit, recovery, resolution, collection of the record | two transactions, two ranges, two attempts, one change of leader, four timestamps |
//! | [`fence`] | reads of a deposed leader against writes of its successor; the window shrinks | three nodes, two terms |
//! | [`clocks`] | the reply rule | one writer, one reader, one who comes later; six steps of time |
//! | [`versions`] | old versions under a threshold | one key, four timestamps |
//! | [`log`] | acknowledging only what is on disk | three replicas, one entry, two crashes |
//!
//! ```text
//!                     intents, staging record (commit)             record gone (commit)   versions gone (versions)
//!   begin ─▶ read ─▶ ────────────────────────────── ─▶ decided ─▶ ──────────────────── ─▶ ────────────────────────
//!            │         each write durable (log)           │
//!            └ within the fence (fence)                   └ answered after its time (clocks)
//! ```
//!
//! Which claim stands for which invariant of `docs/transactions.md`:
//!
//! | invariant | claims |
//! |---|---|
//! | I1, I2, I3, I5 | *serializable* (commit); *no write below a served read* (fence) |
//! | I4 | *serializable*: broken if an entry of another term takes effect |
//! | I6 | *acknowledged is committed*, *atomic*, *implicitly committed stays so* |
//! | I7 | *implicitly committed stays so*: broken if a verdict meets another attempt; *nothing committed is lost*: if an old prepare replaces a newer one, or a new attempt overtakes its record |
//! | I8 | *a final record is final*, *implicitly committed stays so* |
//! | I9 | *nothing committed is lost* |
//! | I10 | *refused is aborted* |
//! | I16 | *a read finds what it should* (versions) |
//! | promises 1 and 2 | *real-time order* (clocks); *acknowledged is durable* (log) |
//!
//! I11 to I15 (splits, merges, replica moves, closed timestamps, cutting the log) have no model.
//!
//! Each mistake of [`bug::Bug`] can be planted, and a test shows that it is found: a model that would find nothing proves nothing.
//!
//! # What the model taught
//!
//! A new attempt must not be prepared before the record has moved on to it. A prepare that comes again after its intent was resolved finds the key
//! free, lies below the transaction's own version, and is pushed: to the coordinator that looks like a push of the attempt, though the attempt may be committed (recovery
//! found everything there). If its next attempt then replaces another key's intent, resolution of the committed attempt removes that write.
//! [`bug::Bug::PreparedBeforeRecord`] is this mistake. The record's compare-and-set is what tells; so it comes first, and a pushed transaction pays a round for it.
//!
//! # Caveats
//!
//! * The model is not the code. It follows the protocol's description; that the code does is for scripts and the simulator to show.
//! * Bounds are small. Most mistakes in such protocols show within them; no proof says that all do.
//! * Safety only: that something happens at last is not claimed. A crash of the coordinator is that it takes no more steps; that it answers nobody is allowed.
//! * A record has no pending state, heartbeats or wounds: anyone may take a coordinator for dead at any time, which allows more, not less.
//! * A range has one command in flight at a time, so keys of one range are less concurrent than in the code. In `commit` the new low-water mark is the
//!   greatest read served, the least that `fence` warrants; an entry of the old leader came through by then, or never does.
//! * Receipts outlive their coordinator: one who asks after a collected record gets no answer, and none is claimed to be right.
//! * A range's membership is fixed, and `log` holds one entry: the rest of Raft is the library's.

pub mod bug;
pub mod commit;
pub mod commit_steps;
pub mod commit_claims;
pub mod fence;
pub mod clocks;
pub mod versions;
pub mod log;
