//! Hybrid logical timestamps.

use std::fmt;
use std::time::Duration;

use minicbor::{Decode, Encode};

/// A hybrid logical timestamp: 52 bits of microseconds since the Unix epoch, then a 12-bit logical
/// counter that orders events within a microsecond. Good until the year 2112.
///
/// Timestamps are compared as plain integers. Arithmetic is checked: it saturates at
/// [`Timestamp::MAX`], a value that no clock issues.
///
/// Source: Kulkarni et al., "Logical Physical Clocks", 2014.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
#[cbor(transparent)]
pub struct Timestamp(#[n(0)] pub u64);

impl Timestamp {
    const LOGICAL_BITS: u32 = 12;

    /// Before every write.
    pub const ZERO: Timestamp = Timestamp(0);
    /// The version at which a cluster's first data is written, by every replica alike.
    pub const BOOTSTRAP: Timestamp = Timestamp(1);
    /// After every write; a cap, never issued.
    pub const MAX: Timestamp = Timestamp(u64::MAX);

    /// The first timestamp of a microsecond. Microseconds past the range become [`Timestamp::MAX`].
    pub fn from_micros(micros: u64) -> Timestamp {
        if micros >= 1 << (64 - Self::LOGICAL_BITS) {
            return Timestamp::MAX;
        }
        Timestamp(micros << Self::LOGICAL_BITS)
    }

    /// Microseconds since the Unix epoch.
    pub fn micros(self) -> u64 {
        self.0 >> Self::LOGICAL_BITS
    }

    /// The counter within the microsecond.
    pub fn logical(self) -> u64 {
        self.0 & ((1 << Self::LOGICAL_BITS) - 1)
    }

    /// The smallest timestamp after this one.
    pub fn next(self) -> Timestamp {
        Timestamp(self.0.saturating_add(1))
    }

    /// The greatest timestamp before this one.
    pub fn prev(self) -> Timestamp {
        Timestamp(self.0.saturating_sub(1))
    }

    /// This timestamp moved forward by a duration (rounded down to microseconds).
    pub fn plus(self, duration: Duration) -> Timestamp {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX >> Self::LOGICAL_BITS);
        Timestamp(self.0.saturating_add(micros.saturating_mul(1 << Self::LOGICAL_BITS)))
    }

    /// This timestamp moved back by a duration, not before zero.
    pub fn minus(self, duration: Duration) -> Timestamp {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX >> Self::LOGICAL_BITS);
        Timestamp(self.0.saturating_sub(micros.saturating_mul(1 << Self::LOGICAL_BITS)))
    }

    /// How far this timestamp lies after `other`; zero if it does not.
    pub fn since(self, other: Timestamp) -> Duration {
        Duration::from_micros(self.micros().saturating_sub(other.micros()))
    }
}

impl fmt::Display for Timestamp {
    /// Seconds, microseconds and logical part: `1700000000.000001,3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.micros();
        write!(f, "{}.{:06},{}", micros / 1_000_000, micros % 1_000_000, self.logical())
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_instead_of_wrapping() {
        assert_eq!(Timestamp::MAX.next(), Timestamp::MAX);
        assert_eq!(Timestamp::MAX.plus(Duration::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::ZERO.prev(), Timestamp::ZERO);
        assert_eq!(Timestamp::from_micros(5).minus(Duration::from_secs(1)), Timestamp::ZERO);
        assert_eq!(Timestamp::from_micros(u64::MAX), Timestamp::MAX);
    }

    #[test]
    fn parts_come_back_as_they_went_in() {
        let ts = Timestamp::from_micros(1_700_000_000_000_001).next().next();
        assert_eq!(ts.micros(), 1_700_000_000_000_001);
        assert_eq!(ts.logical(), 2);
        assert_eq!(ts.to_string(), "1700000000.000001,2");
    }
}
