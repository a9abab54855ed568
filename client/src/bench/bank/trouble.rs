//! What a benchmark does about an error: go on, count, or stop.

use std::time::Duration;

use crate::driver::{Error, ErrorKind};
use crate::random::Random;

/// What to do about an error.
pub enum Trouble {
    /// Run the transaction again; the reason, for the statistics.
    Retry(String),
    /// The transaction may have committed.
    OutcomeUnknown,
    /// The run makes no sense any more.
    Fatal,
}

/// Sorts an error. While nodes die and come back, a server that cannot serve (SQLSTATE classes 08, 40, 53, 57 and 58) is
/// part of the exercise; a statement that it refuses to understand is not.
pub fn sort(error: &Error) -> Trouble {
    let class = error.sqlstate().get(..2).unwrap_or("");
    let reason = || error.reason().map_or_else(|| error.sqlstate().to_string(), str::to_string);
    match error.kind() {
        ErrorKind::OutcomeUnknown => Trouble::OutcomeUnknown,
        ErrorKind::Retry | ErrorKind::Unavailable | ErrorKind::Deadline => Trouble::Retry(reason()),
        _ if matches!(class, "08" | "40" | "53" | "57" | "58") => Trouble::Retry(reason()),
        _ => Trouble::Fatal,
    }
}

/// A pause before the next attempt, doubling from 1 ms to 128 ms, and random.
pub fn pause(attempt: u32, random: &mut Random) -> Duration {
    Duration::from_millis(1 << attempt.min(7)).mul_f64(0.5 + random.unit() / 2.0)
}
