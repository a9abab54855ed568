//! A whole cluster in one process, on one thread, from one seed.
//!
//! The simulation drives the production state machine of each node ([`server::store::Store`]) and its asynchronous code (the
//! gateway, SQL) under simulated time, network, disks and clocks. Everything random comes from streams derived from the seed, and events at
//! the same time are ordered by a counter, so that a seed repeats exactly: [`world::World::trace`] hashes every event.
//!
//! * [`rng`]: independent streams of random numbers.
//! * [`executor`]: runs the tasks of the nodes, choosing among those that are ready by the seed.
//! * [`net`]: latency, loss, duplicates, partitions.
//! * [`disk`]: a log that loses or tears what was not synced, and rots; [`engine`]: one that loses what was not flushed, fails and rots.
//! * [`node`]: a process with its disk.
//! * [`faults`]: what goes wrong when, drawn before the run. [`probe`]: fault points in the code, and what was reached.
//! * [`world`]: time and the queue of events; [`strike`] carries out faults, [`membership`] those of the registry, [`storage`] what nodes ask of their disks. [`trace`]: all of it as a
//!   hash.

pub mod rng;
pub mod executor;
pub mod env;
pub mod net;
pub mod engine;
pub mod disk;
pub mod node;
pub mod faults;
pub mod probe;
pub mod trace;
pub mod world;
pub mod strike;
pub mod membership;
pub mod storage;

pub use faults::{Fault, FaultPlan, keep_members_changing, keep_moving, keep_reshaping, lead_clocks_astray};
pub use probe::Coverage;
pub use world::{Abandon, Options, Planted, World};
