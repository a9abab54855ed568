//! The placement driver: which node holds which replica, and which one leads.
//!
//! [`plan()`] is a pure function from a [`Picture`] of the cluster, and a [`Memory`] of what was planned before, to a [`Plan`]:
//! [`Operation`]s to carry out, [`Refusal`]s for what is wrong and cannot be repaired, and the memory for the next time. Whoever runs it
//! builds a picture from reports once a second or so ([`Progress::of_all`]), plans, and carries the operations out one by one
//! ([`Change::request`]).
//!
//! ```text
//!   reports ──▶ Picture ──┐
//!                         ├──▶ plan ──▶ operations ──▶ (carried out; ranges are `in_flight` meanwhile)
//!            ┌─▶ Memory ──┘     │  └───▶ refusals   ──▶ (shown)
//!            └──────────────────┘
//! ```
//!
//! A range changes one step at a time, and each step is planned from what is there, not from what was meant (`steps`): a plan that was
//! lost half-way is found again. In order of urgency:
//!
//! 1. what is half done: joint configurations, learners;
//! 2. leaders leave nodes that drain or are decommissioned;
//! 3. voters that are missing, or on nodes that have been silent for `dead_after`: ranges that can lose fewest first; then those on
//!    nodes that are being decommissioned; and voters too many are removed;
//! 4. constraints, non-voters, failure domains (`spread`), leader preferences;
//! 5. neighbours that have been small and cold for long are brought together and merged (`unite`);
//! 6. balance of bytes, then of load, then of the number of leaders (`balance`); and of what load no leader's move evens out (`relief`).
//!
//! Invariants:
//!
//! * **P1** A range has at most one change in flight, and none without a leader and a live quorum.
//! * **P2** Add before remove. A voter is removed without a successor only if there are more than wanted, or if it is gone for good
//!   and the others tolerate more without it; and only if a majority of those that stay is live and caught up.
//! * **P3** No two replicas of a range on one node. No voter goes where `+` or `-` constraints forbid one; `tier=value:n` is kept as
//!   well as can be.
//! * **P4** Nobody is made leader who is not a voter, live, caught up, and on a node that stays.
//! * **P5** A move for balance, or towards a neighbour, leaves no range worse in rules or failure domains. For balance it lessens an imbalance,
//!   so balancing ends; towards a neighbour it ends in one range less, and what is being brought together is not balanced meanwhile.
//! * **P6** Everything is ordered and in whole numbers: the same picture and memory give the same plan.
//!
//! What is left out: what followers do for a range's load is not counted, only its leader bears it. Non-voters are placed well but not balanced later, and none is removed to make room for a voter. Exchanging two
//! replicas between two full nodes is not thought of. A cluster that could hold only an even number of voters, fewer than are wanted,
//! holds one less, as the even one tolerates no more.

pub mod picture;
pub mod operation;
pub mod memory;
pub mod plan;
pub mod decommission;
mod translate;
mod ledger;
mod candidates;
mod steps;
mod spread;
mod unite;
mod balance;
mod relief;

pub use decommission::{Remaining, decommission_check, progress};
pub use memory::{Cold, Joining, Measure, Memory, Move};
pub use operation::{Change, Operation, Reason, Refusal, RefusalReason};
pub use picture::{Node, NodeIntent, NodeStatus, Picture, Progress, Range, Settings};
pub use plan::{Plan, plan};
