//! The numbers that decide about splits and merges.

use std::time::Duration;

/// See the module [`crate::policy`] for how the limits work together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitLimits {
    /// A range that holds more is split. Small enough that a Raft snapshot takes seconds.
    pub bytes_max: u64,
    /// A range that bears this much is split, if a key helps. In the unit of the samples' costs, per second.
    pub rate_max: u64,
    /// How long a load has to hold before it counts; also what the rate is decayed over.
    pub window: Duration,
    /// A split by load has to leave the busier half with at most this much of the load, in thousandths.
    pub busier_half_permille_max: u64,
    /// Keys that a hot range keeps as candidates.
    pub samples_max: usize,
    /// A candidate that fewer requests were counted at says nothing.
    pub touches_min: u64,
    /// Two ranges are merged if together they hold at most this much of `bytes_max`, in thousandths.
    pub merge_bytes_permille: u64,
    /// Two ranges are merged if together they bear at most this much of `rate_max`, in thousandths.
    pub merge_rate_permille: u64,
    /// A range is not merged before this much time has passed since it was split or merged.
    pub merge_age_min: Duration,
}

impl Default for SplitLimits {
    fn default() -> SplitLimits {
        SplitLimits {
            bytes_max: 128 << 20,
            rate_max: 2500,
            window: Duration::from_secs(10),
            busier_half_permille_max: 750,
            samples_max: 20,
            touches_min: 100,
            merge_bytes_permille: 500,
            merge_rate_permille: 500,
            merge_age_min: Duration::from_secs(300),
        }
    }
}

impl SplitLimits {
    /// What two ranges may hold together to be merged.
    pub fn merge_bytes_max(&self) -> u64 {
        part(self.bytes_max, self.merge_bytes_permille)
    }

    /// What two ranges may bear together to be merged.
    pub fn merge_rate_max(&self) -> u64 {
        part(self.rate_max, self.merge_rate_permille)
    }
}

/// So many thousandths; never so many that a merged range would be at the limit itself.
fn part(whole: u64, permille: u64) -> u64 {
    u64::try_from(u128::from(whole) * u128::from(permille.min(900)) / 1000).unwrap_or(u64::MAX)
}
