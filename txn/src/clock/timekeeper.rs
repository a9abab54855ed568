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

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use proto::clock::{ClockDomain, ClockReport};
use proto::{NodeId, Timestamp};

use super::agreement::{Agreement, Difference, Voice};
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
    /// The last reading, believed or not.
    seen: Option<Reading>,
    doubt: Option<Doubt>,
    era: u64,
}

/// No clock goes beyond this, whatever it is told: the year 2100, while timestamps reach to 2112.
const CAP: Timestamp = Timestamp(4_102_444_800_000_000 << 12);

/// By how many microseconds the wall clock jumped between two readings, if by more than its error explains.
fn jump(before: Reading, now: Reading) -> Option<i64> {
    let expected = before.wall.plus(now.monotonic.saturating_sub(before.monotonic));
    let tolerance = before.error.max(now.error) * 2 + GRAIN;
    if now.wall.since(expected) <= tolerance && expected.since(now.wall) <= tolerance {
        return None;
    }
    let by = i128::from(now.wall.micros()) - i128::from(expected.micros());
    Some(i64::try_from(by).unwrap_or(i64::MAX))
}

impl Timekeeper {
    /// A clock that begins at the ceiling that was last synced. `era` is a random number, so that reports about an earlier life
    /// are not taken for this one's.
    pub fn new(trust: Trust, agreement: Agreement, ceiling: Timestamp, era: u64) -> Timekeeper {
        let mut keeper = Timekeeper {
            trust,
            hlc: Hlc::new(ceiling),
            agreement,
            basis: None,
            seen: None,
            doubt: Some(Doubt::Starting),
            era,
        };
        if trust == Trust::Untrusted {
            keeper.doubt = None;
        }
        keeper
    }

    /// Looks at the clocks. Returns the time that is believed, if any is.
    fn look(&mut self, now: Reading) -> Option<Timestamp> {
        let expected = self.basis.map(|basis| basis.wall.plus(now.monotonic.saturating_sub(basis.monotonic)));
        if self.trust == Trust::Untrusted {
            // Never back, and from the greatest that anyone has shown on at the pace of time: what some leader could only write above its
            // clock is not out of everybody's sight for years.
            let wall = now.wall.max(self.hlc.reading()).max(expected.unwrap_or_default()).min(CAP);
            self.basis = Some(Reading { wall, ..now });
            return Some(wall);
        }
        // A clock that jumps while it is in doubt anyway is another one again: what was said of it before counts no more.
        if let Some(by) = self.seen.replace(now).and_then(|before| jump(before, now)) {
            self.lose_trust(Doubt::Jumped(by));
        }
        self.settle(now);
        match self.doubt {
            None => {
                self.basis = Some(now);
                Some(now.wall)
            }
            Some(_) => expected,
        }
    }

    fn lose_trust(&mut self, doubt: Doubt) {
        self.doubt = Some(doubt);
        self.era = self.era.wrapping_add(1);
        if doubt != Doubt::Disputed {
            self.agreement.forget();
        }
    }

    /// Believes the clock again once a majority does.
    fn settle(&mut self, now: Reading) {
        if self.doubt.is_some() && self.agreement.is_confirmed(now.monotonic) && now.wall < CAP {
            self.doubt = None;
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
                let theirs = self.agreement.peer_lead(now.monotonic).max(now.error);
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

    /// What the ceiling should let through soon. A wall clock that is not believed asks for nothing: a restart begins at the ceiling.
    pub fn wanted(&mut self, now: Reading) -> Timestamp {
        let latest = self.look(now).map_or(Timestamp::ZERO, |wall| wall.plus(now.error));
        self.hlc.wanted().max(latest).min(CAP)
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
            era: self.era,
            heard: self.agreement.verdict(to, now.monotonic),
        })
    }

    /// Takes in what another node says. Returns whether it waits for an answer.
    pub fn hear(&mut self, from: NodeId, report: &ClockReport, own: &ClockDomain, now: Reading) -> bool {
        if self.trust == Trust::Untrusted {
            return false;
        }
        self.look(now);
        let era = self.era;
        if !self.agreement.hear(from, report, own, era, now) {
            // With no verdict to give, two strangers would answer each other for ever.
            return false;
        }
        if self.doubt.is_none() && self.agreement.is_disputed(now.monotonic) {
            self.lose_trust(Doubt::Disputed);
        } else {
            self.look(now);
        }
        report.heard.is_none_or(|verdict| verdict.era != era)
    }

    /// From now on these are the other members.
    pub fn set_others(&mut self, others: &BTreeMap<NodeId, Voice>) {
        self.agreement.set_others(others);
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

#[cfg(test)]
mod tests {
    use super::*;

    const ERROR: Duration = Duration::from_millis(1);
    const DAY: u64 = 86_400_000;
    const HOUR: i64 = 3_600_000;

    /// Nodes whose wall clocks are off by so many milliseconds, at a true time in milliseconds.
    struct Cluster {
        now: u64,
        off: Vec<i64>,
        nodes: Vec<Timekeeper>,
    }

    impl Cluster {
        fn of(off: &[i64]) -> Cluster {
            let ids = || (0..off.len() as u64).map(NodeId);
            let agreement = |me| Agreement::new(ids().filter(|id| *id != me), Duration::from_secs(2));
            let keeper = |me: NodeId| {
                let mut keeper = Timekeeper::new(Trust::Bounded, agreement(me), Timestamp::ZERO, me.0 << 32);
                keeper.raise(Timestamp::from_micros(100 * DAY * 1000));
                keeper
            };
            Cluster { now: DAY, off: off.to_vec(), nodes: ids().map(keeper).collect() }
        }

        fn read(&self, node: usize) -> Reading {
            let wall = self.now.checked_add_signed(self.off[node]).expect("the clocks stay above zero");
            Reading {
                monotonic: Duration::from_millis(self.now),
                wall: Timestamp::from_micros(wall * 1000),
                error: ERROR,
            }
        }

        /// Everybody tells everybody, twice, so that each hears what was made of its report.
        fn talk(&mut self) {
            for _ in 0..2 {
                self.now += 100;
                for from in 0..self.nodes.len() {
                    for to in (0..self.nodes.len()).filter(|to| *to != from) {
                        let (sent, received) = (self.read(from), self.read(to));
                        let report = self.nodes[from].report(NodeId(to as u64), ClockDomain::Utc, sent);
                        let report = report.expect("trusted clocks are told of");
                        self.nodes[to].hear(NodeId(from as u64), &report, &ClockDomain::Utc, received);
                    }
                }
            }
        }

        fn serving(&mut self) -> Vec<bool> {
            let now: Vec<Reading> = (0..self.nodes.len()).map(|node| self.read(node)).collect();
            self.nodes.iter_mut().zip(now).map(|(node, now)| node.issue(now).is_ok()).collect()
        }
    }

    #[test]
    fn nodes_that_share_the_time_confirm_each_other() {
        let mut cluster = Cluster::of(&[0, 1, -1]);
        assert_eq!(cluster.serving(), [false, false, false]);
        cluster.talk();
        assert_eq!(cluster.serving(), [true, true, true]);
        assert_eq!(Cluster::of(&[HOUR]).serving(), [true]);
    }

    #[test]
    fn a_clock_that_starts_wrong_is_never_believed_until_it_is_right() {
        for wrong in [HOUR, -HOUR, 5, -5] {
            let mut cluster = Cluster::of(&[0, wrong, 0]);
            cluster.talk();
            assert_eq!(cluster.serving(), [true, false, true], "{wrong}");
            let now = cluster.read(1);
            assert_eq!(cluster.nodes[1].reading(now), Timestamp::ZERO);
            assert!(cluster.nodes[1].wanted(now) == Timestamp::ZERO, "its ceiling would outlive its error");
            cluster.off[1] = 0;
            cluster.talk();
            assert_eq!(cluster.serving(), [true, true, true], "{wrong}");
        }
    }

    #[test]
    fn a_clock_that_jumps_leaves_no_trace() {
        for jump in [HOUR, -HOUR] {
            let mut cluster = Cluster::of(&[0, 0, 0]);
            cluster.talk();
            cluster.off[2] = jump;
            // Even before anybody has said anything.
            assert_eq!(cluster.serving(), [true, true, false]);
            cluster.talk();
            assert_eq!(cluster.serving(), [true, true, false]);
            let (right, wrong) = (cluster.read(0), cluster.read(2));
            let standing = cluster.nodes[2].standing(wrong).to_string();
            assert!(standing.starts_with("jumped") && standing.contains("n0") && standing.contains("n1"), "{standing}");
            let theirs = cluster.nodes[2].reading(wrong);
            assert_eq!(cluster.nodes[0].adopt(theirs, right), Ok(()), "its messages are as good as ever");
            let ours = cluster.nodes[0].reading(right);
            assert_eq!(cluster.nodes[2].adopt(ours, wrong), Ok(()));
            cluster.off[2] = 0;
            cluster.talk();
            assert_eq!(cluster.serving(), [true, true, true]);
        }
    }

    #[test]
    fn a_clock_that_jumps_from_one_error_to_another_is_not_taken_for_the_first() {
        let mut cluster = Cluster::of(&[0, 0, 0]);
        cluster.talk();
        // Nobody finds it ahead here, and it finds nobody ahead there.
        for wrong in [-HOUR, HOUR, -HOUR] {
            cluster.off[1] = wrong;
            cluster.talk();
            assert_eq!(cluster.serving(), [true, false, true]);
        }
    }

    #[test]
    fn a_clock_that_creeps_away_is_disputed() {
        let mut cluster = Cluster::of(&[0, 0, 0]);
        for _ in 0..5 {
            cluster.talk();
            cluster.off[0] += 1;
        }
        assert_eq!(cluster.serving(), [false, true, true]);
        let now = cluster.read(0);
        assert_eq!(cluster.nodes[0].standing(now).doubt, Some(Doubt::Disputed));
    }

    #[test]
    fn what_was_shown_with_a_greater_error_is_not_refused_when_the_error_is_small_again() {
        let mut cluster = Cluster::of(&[0, 0, 0]);
        cluster.talk();
        let now = cluster.read(0);
        // The first clock is synchronised anew: meanwhile it may err by more, and it does.
        let report = |cluster: &mut Cluster, error: Duration| {
            let now = Reading { error, ..cluster.read(0) };
            let report = cluster.nodes[0].report(NodeId(1), ClockDomain::Utc, now).expect("trusted clocks are told of");
            for node in [1, 2] {
                let received = cluster.read(node);
                cluster.nodes[node].hear(NodeId(0), &report, &ClockDomain::Utc, received);
            }
        };
        report(&mut cluster, 100 * ERROR);
        let shown = now.wall.plus(80 * ERROR);
        let received = cluster.read(1);
        assert_eq!(cluster.nodes[1].adopt(shown, received), Ok(()));
        cluster.now += 10;
        report(&mut cluster, ERROR);
        let received = cluster.read(2);
        assert_eq!(cluster.nodes[2].adopt(shown, received), Ok(()), "the second one shows it, and is right to");
        // By and by nobody can show that any more.
        cluster.now += 50;
        report(&mut cluster, ERROR);
        let received = cluster.read(2);
        assert!(cluster.nodes[2].adopt(received.wall.plus(80 * ERROR), received).is_err());
        assert!(cluster.nodes[2].adopt(received.wall.plus(30 * ERROR), received).is_ok());
    }

    #[test]
    fn a_step_that_all_take_is_believed() {
        let mut cluster = Cluster::of(&[0, 0, 0]);
        cluster.talk();
        cluster.off = vec![HOUR; 3];
        assert_eq!(cluster.serving(), [false, false, false]);
        cluster.talk();
        assert_eq!(cluster.serving(), [true, true, true]);
    }

    #[test]
    fn of_two_that_differ_neither_serves() {
        let mut cluster = Cluster::of(&[0, 0]);
        cluster.talk();
        assert_eq!(cluster.serving(), [true, true]);
        cluster.off[1] = 5;
        cluster.talk();
        assert_eq!(cluster.serving(), [false, false]);
    }

    /// What one of so many nodes knows of the others, of which the last ones only join.
    fn others(me: u64, counted: u64, all: u64) -> BTreeMap<NodeId, Voice> {
        let voice = |id| if id < counted { Voice::Counted } else { Voice::Heard };
        (0..all).filter(|id| *id != me).map(|id| (NodeId(id), voice(id))).collect()
    }

    /// A cluster in which the last nodes have not begun.
    fn with_joining(off: &[i64], counted: u64) -> Cluster {
        let mut cluster = Cluster::of(off);
        let all = off.len() as u64;
        for me in 0..all {
            cluster.nodes[me as usize].set_others(&others(me, counted, all));
        }
        cluster
    }

    #[test]
    fn one_that_joins_is_confirmed_by_a_majority_and_needed_by_nobody() {
        let mut cluster = with_joining(&[0, 0, 0], 2);
        cluster.talk();
        assert_eq!(cluster.serving(), [true, true, true]);
        // The only member, and one that joins: it is confirmed by the member alone, and its failure would not be noticed.
        let mut cluster = with_joining(&[0, 0], 1);
        assert_eq!(cluster.serving(), [true, false]);
        cluster.talk();
        assert_eq!(cluster.serving(), [true, true]);
        // With a wrong clock it is kept out, and keeps nobody else from serving.
        let mut cluster = with_joining(&[0, 0, HOUR, HOUR, HOUR], 2);
        cluster.talk();
        assert_eq!(cluster.serving(), [true, true, false, false, false]);
    }

    #[test]
    fn strangers_are_not_answered() {
        let mut cluster = Cluster::of(&[0, 0]);
        cluster.nodes[0].set_others(&BTreeMap::new());
        let now = cluster.read(1);
        let report = cluster.nodes[1].report(NodeId(0), ClockDomain::Utc, now).expect("trusted clocks are told of");
        assert!(!cluster.nodes[0].hear(NodeId(1), &report, &ClockDomain::Utc, now));
    }

    #[test]
    fn members_that_go_are_not_missed() {
        let mut cluster = Cluster::of(&[0, 0, HOUR, HOUR]);
        cluster.talk();
        assert_eq!(cluster.serving(), [false; 4], "two against two");
        for me in 0..2 {
            cluster.nodes[me as usize].set_others(&others(me, 2, 2));
        }
        assert_eq!(cluster.serving()[..2], [true, true], "what they said of each other is remembered");
    }

    #[test]
    fn untrusted_clocks_are_followed_anywhere() {
        let mut keeper = Timekeeper::new(Trust::Untrusted, Agreement::new([NodeId(1)], ERROR), Timestamp::ZERO, 0);
        keeper.raise(Timestamp::from_micros(100 * DAY * 1000));
        let at = |wall_ms: u64| Reading {
            monotonic: Duration::ZERO,
            wall: Timestamp::from_micros(wall_ms * 1000),
            error: ERROR,
        };
        assert_eq!(keeper.issue(at(DAY)), Ok(Timestamp::from_micros(DAY * 1000)));
        assert_eq!(keeper.adopt(Timestamp::from_micros(50 * DAY * 1000), at(DAY)), Ok(()));
        assert!(keeper.issue(at(1)).is_ok_and(|issued| issued > Timestamp::from_micros(50 * DAY * 1000)));
        assert!(keeper.adopt(Timestamp::MAX, at(DAY)).is_err(), "the end of time is nobody's clock");
    }
}
