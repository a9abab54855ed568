//! A hybrid logical clock over a wall clock that may turn out to be wrong.
//!
//! ```text
//!              a majority shares the time
//!   in doubt ────────────────────────────▶ confirmed
//!      ▲                                       │
//!      └───────────────────────────────────────┘
//!        the wall clock jumped beyond its error,
//!        or no majority can share its time
//! ```
//!
//! In doubt the node issues nothing, so it begins and acknowledges nothing. Its hybrid clock goes on by the monotonic clock from the last
//! reading that was believed: a wrong wall clock never gets into it, nor into any message, so the node harms nobody and goes on as
//! soon as the others confirm it again. A cluster of one confirms itself.

use std::fmt;
use std::time::Duration;

use proto::clock::{ClockDomain, ClockReport};
use proto::{NodeId, Timestamp};

use super::agreement::{Agreement, Difference};
use super::{ClockError, GRAIN, Hlc, Reading, Trust};

/// Why a node does not believe its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It has just started, and nobody has confirmed it yet.
    Starting,
    /// It jumped, by so many microseconds more than its error allows.
    Jumped(i64),
    /// No majority can share its time.
    Disputed,
}

/// Whether a node serves, as far as its clock is concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Nothing is issued while there is a doubt.
    pub doubt: Option<Doubt>,
    /// Whose clocks differ.
    pub differences: Vec<(NodeId, Difference)>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Timekeeper {
    trust: Trust,
    hlc: Hlc,
    agreement: Agreement,
    /// The last reading that was believed.
    basis: Option<Reading>,
    doubt: Option<Doubt>,
    epoch: u64,
}

/// No clock goes beyond this, whatever it is told: 100 years after the epoch's 2000.
const CAP: Timestamp = Timestamp(4_102_444_800_000_000 << 12);

impl Timekeeper {
    /// A clock that begins at the ceiling that was last synced. `epoch` is a random number, so that reports about an earlier life
    /// are not taken for this one's.
    pub fn new(trust: Trust, agreement: Agreement, ceiling: Timestamp, epoch: u64) -> Timekeeper {
        let mut keeper =
            Timekeeper { trust, hlc: Hlc::new(ceiling), agreement, basis: None, doubt: Some(Doubt::Starting), epoch };
        if trust == Trust::Untrusted {
            keeper.doubt = None;
        }
        keeper
    }

    /// Looks at the clocks. Returns the time that is believed, if any is.
    fn look(&mut self, now: Reading) -> Option<Timestamp> {
        if self.trust == Trust::Untrusted {
            return Some(now.wall.min(CAP));
        }
        let expected = self.basis.map(|basis| basis.wall.plus(now.monotonic.saturating_sub(basis.monotonic)));
        if self.doubt.is_none() {
            let error = self.basis.map_or(now.error, |basis| basis.error.max(now.error));
            let tolerance = error * 2 + GRAIN;
            let expected = expected.unwrap_or(now.wall);
            if now.wall.since(expected) <= tolerance && expected.since(now.wall) <= tolerance && now.wall < CAP {
                self.basis = Some(now);
                return Some(now.wall);
            }
            let by = i128::from(now.wall.micros()) - i128::from(expected.micros());
            self.lose_trust(Doubt::Jumped(i64::try_from(by).unwrap_or(i64::MAX)));
        }
        self.settle(now);
        match self.doubt {
            None => Some(now.wall),
            Some(_) => expected,
        }
    }

    fn lose_trust(&mut self, doubt: Doubt) {
        self.doubt = Some(doubt);
        self.epoch = self.epoch.wrapping_add(1);
        if doubt != Doubt::Disputed {
            self.agreement.forget();
        }
    }

    /// Believes the clock again once a majority does.
    fn settle(&mut self, now: Reading) {
        if self.doubt.is_some() && self.agreement.is_confirmed(now.monotonic) && now.wall < CAP {
            self.doubt = None;
            self.basis = Some(now);
        }
    }

    /// Issues a timestamp; see [`Hlc::issue`].
    ///
    /// # Errors
    /// [`ClockError::Doubted`], and those of [`Hlc::issue`].
    pub fn issue(&mut self, now: Reading) -> Result<Timestamp, ClockError> {
        match self.look(now) {
            Some(wall) if self.doubt.is_none() => self.hlc.issue(wall),
            _ => Err(ClockError::Doubted),
        }
    }

    /// The hybrid clock's reading, for outgoing messages: at least the wall clock, if that is believed and the ceiling allows.
    pub fn reading(&mut self, now: Reading) -> Timestamp {
        if let Some(wall) = self.look(now) {
            let wall = wall.min(self.hlc.ceiling());
            // Never fails: the reading is its own limit, and was capped at the ceiling.
            let _ = self.hlc.adopt(wall, wall);
        }
        self.hlc.reading()
    }

    /// Adopts another node's reading; see [`Hlc::adopt`]. Its clock may err by its bound in one direction, this one in the other.
    ///
    /// # Errors
    /// Those of [`Hlc::adopt`].
    pub fn adopt(&mut self, theirs: Timestamp, now: Reading) -> Result<(), ClockError> {
        let limit = match self.trust {
            Trust::Untrusted => CAP,
            Trust::Bounded => {
                let wall = self.look(now).unwrap_or(now.wall);
                let theirs = self.agreement.peer_error(now.monotonic).max(now.error);
                wall.plus(now.error).plus(theirs).plus(GRAIN).min(CAP)
            }
        };
        self.hlc.adopt(theirs, limit)
    }

    /// Bounds on true time, as far as the clock is believed: `None` before it ever was.
    pub fn interval(&mut self, now: Reading) -> Option<(Timestamp, Timestamp)> {
        let wall = self.look(now)?;
        match self.trust {
            Trust::Untrusted => Some((wall, wall)),
            Trust::Bounded => Some((wall.minus(now.error), wall.plus(now.error))),
        }
    }

    pub fn ceiling(&self) -> Timestamp {
        self.hlc.ceiling()
    }

    /// A higher ceiling has been synced.
    pub fn raise(&mut self, ceiling: Timestamp) {
        self.hlc.raise(ceiling);
    }

    pub fn trust(&self) -> Trust {
        self.trust
    }

    /// What to tell another node, unless clocks are not trusted anyway. Of the raw wall clock: whether that is right is what the
    /// report is to find out.
    pub fn report(&mut self, to: NodeId, domain: ClockDomain, now: Reading) -> Option<ClockReport> {
        if self.trust == Trust::Untrusted {
            return None;
        }
        self.look(now);
        Some(ClockReport {
            earliest: now.wall.minus(now.error),
            latest: now.wall.plus(now.error),
            domain,
            epoch: self.epoch,
            heard: self.agreement.verdict(to, now.monotonic),
        })
    }

    /// Takes in what another node says. Returns whether it waits for an answer.
    pub fn hear(&mut self, from: NodeId, report: &ClockReport, own: &ClockDomain, now: Reading) -> bool {
        if self.trust == Trust::Untrusted {
            return false;
        }
        self.look(now);
        let epoch = self.epoch;
        self.agreement.hear(from, report, own, epoch, now);
        if self.doubt.is_none() && self.agreement.is_disputed(now.monotonic) {
            self.lose_trust(Doubt::Disputed);
        } else {
            self.settle(now);
        }
        report.heard.is_none_or(|verdict| verdict.epoch != epoch)
    }

    /// Whether the node may serve.
    pub fn standing(&mut self, now: Reading) -> Standing {
        self.look(now);
        Standing { doubt: self.doubt, differences: self.agreement.differences(now.monotonic) }
    }
}

impl fmt::Display for Standing {
    /// A sentence without its end, or `confirmed`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.doubt {
            None => f.write_str("confirmed")?,
            Some(Doubt::Starting) => f.write_str("not yet confirmed by a majority of the nodes")?,
            Some(Doubt::Jumped(by)) => {
                let sign = if by < 0 { "back" } else { "forward" };
                write!(f, "jumped {sign} by {:?}, and not confirmed since", Duration::from_micros(by.unsigned_abs()))?;
            }
            Some(Doubt::Disputed) => f.write_str("disputed by a majority of the nodes")?,
        }
        for (index, (node, difference)) in self.differences.iter().enumerate() {
            write!(f, "{} that of {node} {difference}", if index == 0 { ":" } else { "," })?;
        }
        Ok(())
    }
}
