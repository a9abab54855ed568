//! Meridian under test: a simulated cluster that runs the production code from a seed, workloads, and checkers.

pub mod sim;
pub mod workload;
pub mod check;
pub mod scenario;
pub mod model;
pub mod shrink;
pub mod script;
pub mod reduce;
