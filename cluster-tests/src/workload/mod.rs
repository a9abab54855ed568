//! What the simulated clients do, and what they remember of it.

pub mod bank;
pub mod sql_bank;
