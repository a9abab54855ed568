//! Whether two neighbours are to become one range.

use std::fmt;
use std::time::Duration;

use proto::{PlacementRules, Span};

use crate::policy::SplitLimits;
use crate::show;

/// What is known about a range that might be merged.
#[derive(Clone, Copy, Debug)]
pub struct Neighbour<'a> {
    pub span: &'a Span,
    pub bytes: u64,
    /// Costs per second, as the leader's sampler says.
    pub rate: u64,
    /// When it was split or merged last, by the clock of `now`.
    pub changed: Duration,
    pub rules: &'a PlacementRules,
    /// Its first key is a boundary that was asked for: it is not merged with what lies left of it.
    pub pinned: bool,
    /// A change of its bounds or members is under way.
    pub in_flight: bool,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Merge {
    /// Merge the two: together they hold and bear so little.
    Together {
        bytes: u64,
        rate: u64,
    },
    Keep(Keep),
}

/// Why two ranges stay two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keep {
    NotNeighbours,
    InFlight,
    Pinned,
    OtherRules,
    /// One of them was split or merged too short a time ago.
    Young {
        age: Duration,
        age_min: Duration,
    },
    Large {
        bytes: u64,
        bytes_max: u64,
    },
    Busy {
        rate: u64,
        rate_max: u64,
    },
}

/// Decides about two ranges.
pub fn merge(now: Duration, left: &Neighbour<'_>, right: &Neighbour<'_>, limits: &SplitLimits) -> Merge {
    let age = now.saturating_sub(left.changed.max(right.changed));
    let bytes = left.bytes.saturating_add(right.bytes);
    let rate = left.rate.saturating_add(right.rate);
    let (bytes_max, rate_max) = (limits.merge_bytes_max(), limits.merge_rate_max());
    Merge::Keep(if left.span.end != right.span.start {
        Keep::NotNeighbours
    } else if left.in_flight || right.in_flight {
        Keep::InFlight
    } else if right.pinned {
        Keep::Pinned
    } else if left.rules != right.rules {
        Keep::OtherRules
    } else if bytes > bytes_max {
        Keep::Large { bytes, bytes_max }
    } else if rate > rate_max {
        Keep::Busy { rate, rate_max }
    } else if age < limits.merge_age_min {
        Keep::Young { age, age_min: limits.merge_age_min }
    } else {
        return Merge::Together { bytes, rate };
    })
}

impl fmt::Display for Merge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Merge::Together { bytes, rate } => {
                write!(f, "together they hold {} and bear {rate} requests a second", show::bytes(*bytes))
            }
            Merge::Keep(why) => why.fmt(f),
        }
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Keep::NotNeighbours => f.write_str("the ranges are not neighbours"),
            Keep::InFlight => f.write_str("one of them is being changed"),
            Keep::Pinned => f.write_str("the boundary between them was asked for"),
            Keep::OtherRules => f.write_str("their placement rules differ"),
            Keep::Young { age, age_min } => write!(
                f,
                "one of them was split or merged {} ago, less than {}",
                show::duration(*age),
                show::duration(*age_min)
            ),
            Keep::Large { bytes, bytes_max } => {
                write!(f, "together they would hold {}, more than {}", show::bytes(*bytes), show::bytes(*bytes_max))
            }
            Keep::Busy { rate, rate_max } => {
                write!(f, "together they would bear {rate} requests a second, more than {rate_max}")
            }
        }
    }
}
