//! A whole cluster in one process, on one thread, from one seed.
//!
//! The simulation drives the production state machine of each node ([`server::store::Store`]) and its asynchronous code (the
//! gateway, SQL) under simulated time, network, disks and clocks. Everything random comes from streams derived from the seed, and events at
//! the same time are ordered by a counter, so that a seed repeats exactly: [`world::World::trace`] hashes every event.
//!
//! * [`rng`]: independent streams of random numbers.
//! * [`executor`]: runs the tasks of the nodes, choosing among those that are ready by the seed.
//! * [`net`]: latency, loss, duplicates, partitions. * [`disk`]: a log that loses what was not synced, an engine that loses
//!   what was not flushed. * [`node`]: a process with its disk. * [`world`]: time and the queue of events.
//! * [`faults`]: what goes wrong when, drawn before the run.

pub mod rng;
pub mod executor;
pub mod env;
pub mod net;
pub mod disk;
pub mod node;
pub mod faults;
pub mod world;

pub use faults::{Fault, FaultPlan, lead_clocks_astray};
pub use world::{Options, Planted, World};
