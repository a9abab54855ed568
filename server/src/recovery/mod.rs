//! Losing a majority for good: ranges are rebuilt from replicas that survive.
//!
//! ```text
//!   stopped survivors                anywhere                        stopped survivors            the running cluster
//!   folder ─ examine ─▶ Findings ─┐
//!   folder ─ examine ─▶ Findings ─┼─ planner::plan ─▶ Plan ─┬─▶ apply ─▶ engine, log, marker ─┐
//!   folder ─ examine ─▶ Findings ─┘    (a pure function)     └─▶ apply ─▶ engine, log, marker ─┴─▶ kv::aftermath, kv::checkup
//! ```
//!
//! * [`findings`]: what a stopped store holds; [`tail`]: where a replica's log leads.
//! * [`roll`]: whether everybody is accounted for; [`scene`]: what all survivors hold together.
//! * [`quorum`]: whether a range can still elect a leader, and whether the dead could have acknowledged anything by themselves.
//! * [`cover`]: which replica's copy is taken for which keys, so that each key is taken once.
//! * [`planner`]: what is done with each range; [`loss`]: what that may lose, in words.
//! * [`plan`]: what was decided, as people read it and as stores carry it out.
//! * [`apply`]: a store carries out its part.
//!
//! **What is taken.** Of each range that has lost its majority, the replica whose log goes furthest, by term and then by index, as Raft itself would choose. It
//! applies *all* of its log: an entry that it does not know to be committed may have been acknowledged by those who died, and whoever was told nothing about it
//! has to reckon with either. A replica whose contents are not of one moment is taken only where there is no other. It becomes the range's only voter, under an id and an epoch beyond all that may have been given. The other
//! survivors of the range go and leave tombstones: a copy that differs from the chosen one must not come back.
//!
//! **Each key once.** Splits that some replicas have not applied make copies of different ranges overlap. Of two, the one of the
//! higher epoch knows of the split, and takes precedence; ranges that have kept their majority come before all. What is
//! left of an older copy fills gaps where the range that was split off has no survivor, under an id of its own.
//!
//! **Time.** Everything in a rebuilt range counts as read up to beyond the highest timestamp that any survivor can have heard of. So nothing
//! is written below what a surviving replica holds or has shown.
//!
//! Left out: nothing tells whether a transaction over several ranges is whole. The system's own ranges (up to the catalog) are rebuilt only from
//! survivors: without any there is nothing to hold the rest together.

pub mod findings;
pub mod tail;
pub mod roll;
pub mod scene;
pub mod quorum;
pub mod cover;
pub mod planner;
pub mod loss;
pub mod plan;
pub mod apply;

pub use findings::{Findings, Store};
pub use plan::Plan;
