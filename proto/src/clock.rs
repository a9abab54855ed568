//! What nodes tell each other about their clocks.

use std::time::Duration;

use minicbor::{Decode, Encode};

use crate::Timestamp;

/// Which clock a node reads. Readings of different domains say nothing about each other.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ClockDomain {
    /// Universal time, with an error.
    #[n(0)]
    Utc,
    /// The time since a host was booted, plus an offset on which its processes agree.
    #[n(1)]
    Host {
        /// Names the boot: processes that name the same one read the same clock.
        #[n(0)]
        boot: String,
        /// Microseconds from the boot's time to the Unix epoch's, as the sender has it.
        #[n(1)]
        offset: u64,
    },
}

/// A node's wall clock, told to one other node now and then. Evidence about clocks: nothing of it is adopted.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ClockReport {
    /// The bounds on true time when the report left.
    #[n(0)]
    pub earliest: Timestamp,
    #[n(1)]
    pub latest: Timestamp,
    #[n(2)]
    pub domain: ClockDomain,
    /// Changes whenever the sender's wall clock stops being what it was; answers name the era that they are about.
    #[n(3)]
    pub era: u64,
    /// What the sender made of the receiver's last report.
    #[n(4)]
    pub heard: Option<ClockVerdict>,
}

/// What a report was worth when it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ClockVerdict {
    /// The era of the report.
    #[n(0)]
    pub era: u64,
    /// By how many microseconds the report's clock was ahead of the receiver's, both errors granted. Zero is agreement.
    #[n(1)]
    pub ahead_us: u64,
}

impl ClockVerdict {
    /// How far ahead the report's clock was.
    pub fn ahead(&self) -> Duration {
        Duration::from_micros(self.ahead_us)
    }
}
