//! The hybrid logical clock.
//!
//! A [`Hlc`] issues timestamps that never go back: each is at least the wall clock and above everything the node
//! has issued or adopted before. Messages carry the sender's reading and move the receiver's clock forward.
//!
//! So that this holds across restarts there is a *ceiling*: nothing above it is issued or adopted until a
//! higher one has been synced to disk, and a restarted clock begins at the ceiling. When the disk is too slow for
//! that, the clock refuses, and the node stalls; it does not guess.
//!
//! Source: Kulkarni et al., "Logical Physical Clocks", 2014; the ceiling follows TiDB's timestamp oracle.

use proto::Timestamp;

use super::ClockError;

/// A hybrid logical clock under a ceiling. Wall-clock readings come in as arguments.
#[derive(Debug, Clone)]
pub struct Hlc {
    last: Timestamp,
    ceiling: Timestamp,
    /// The greatest timestamp that was kept out by the ceiling alone.
    wanted: Timestamp,
}

impl Hlc {
    /// A clock that begins at the ceiling that was last synced.
    pub fn new(ceiling: Timestamp) -> Hlc {
        Hlc { last: ceiling, ceiling, wanted: ceiling }
    }

    /// Issues a timestamp above all earlier ones and not below the wall clock.
    ///
    /// # Errors
    /// [`ClockError::Ceiling`] if it would lie above the ceiling; the clock stays where it was.
    pub fn issue(&mut self, wall: Timestamp) -> Result<Timestamp, ClockError> {
        let next = wall.max(self.last.next());
        if next > self.ceiling {
            self.wanted = self.wanted.max(next);
            return Err(ClockError::Ceiling { needed: next });
        }
        self.last = next;
        Ok(next)
    }

    /// The latest reading, without moving the clock. May be shown to others: they adopt nothing above the ceiling.
    pub fn reading(&self) -> Timestamp {
        self.last
    }

    /// Adopts another node's reading.
    ///
    /// # Errors
    /// If it lies above `limit` (the wall clock plus the greatest error) or above the ceiling. Then nothing is adopted,
    /// and the message that carried it must be refused whole.
    pub fn adopt(&mut self, theirs: Timestamp, limit: Timestamp) -> Result<(), ClockError> {
        if theirs > limit {
            return Err(ClockError::TooFarAhead { theirs, limit });
        }
        if theirs > self.ceiling {
            self.wanted = self.wanted.max(theirs);
            return Err(ClockError::Ceiling { needed: theirs });
        }
        self.last = self.last.max(theirs);
        Ok(())
    }

    /// What the ceiling should let through.
    pub fn wanted(&self) -> Timestamp {
        self.wanted.max(self.last)
    }

    pub fn ceiling(&self) -> Timestamp {
        self.ceiling
    }

    /// A higher ceiling has been synced.
    pub fn raise(&mut self, ceiling: Timestamp) {
        self.ceiling = self.ceiling.max(ceiling);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(micros: u64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    #[test]
    fn timestamps_never_repeat_or_go_back() {
        let mut hlc = Hlc::new(us(0));
        hlc.raise(us(100));
        assert_eq!(hlc.issue(us(10)), Ok(us(10)));
        assert_eq!(hlc.issue(us(10)), Ok(us(10).next()));
        assert_eq!(hlc.issue(us(3)), Ok(us(10).next().next()));
        assert_eq!(hlc.issue(us(11)), Ok(us(11)));
    }

    #[test]
    fn nothing_is_issued_or_adopted_above_the_ceiling() {
        let mut hlc = Hlc::new(us(0));
        hlc.raise(us(100));
        assert_eq!(hlc.issue(us(101)), Err(ClockError::Ceiling { needed: us(101) }));
        assert_eq!(hlc.adopt(us(101), us(1000)), Err(ClockError::Ceiling { needed: us(101) }));
        assert_eq!(hlc.reading(), us(0));
        hlc.raise(us(200));
        assert_eq!(hlc.issue(us(101)), Ok(us(101)));
        assert_eq!(Hlc::new(us(200)).issue(us(150)), Err(ClockError::Ceiling { needed: us(200).next() }));
    }

    #[test]
    fn a_reading_beyond_the_bound_is_refused_before_it_is_adopted() {
        let mut hlc = Hlc::new(us(0));
        hlc.raise(us(1000));
        assert!(matches!(hlc.adopt(us(60), us(50)), Err(ClockError::TooFarAhead { .. })));
        assert_eq!(hlc.reading(), us(0));
        assert_eq!(hlc.adopt(us(50), us(50)), Ok(()));
        assert_eq!(hlc.reading(), us(50));
    }
}
