//! Fault points that fire by the seed, and the count of what was reached.
//!
//! Of the points of [`server::probe`] each run has its own, and each of them its own odds: a point that always fires hides what comes after
//! it.

use std::collections::BTreeMap;
use std::sync::Mutex;

use server::probe::{Path, Point, Probe};

use super::rng::Rng;

/// Points that may fire in a run, each once in so many times.
pub type Points = BTreeMap<Point, u64>;

/// Draws the points of a run.
pub fn draw_points(rng: &mut Rng) -> Points {
    if rng.one_in(3) {
        return Points::new();
    }
    let mut points = Points::new();
    for point in Point::ALL {
        let once_in = *rng.pick(&[4, 20, 100, 500]);
        if rng.one_in(4) {
            points.insert(point, once_in.max(often_enough(point)));
        }
    }
    points
}

/// More often than once in so many times a point would leave nothing to be seen.
fn often_enough(point: Point) -> u64 {
    match point {
        Point::AnswerLost | Point::ImpatientGateway | Point::NeedlessTransfer => 20,
        Point::EarlyFlush | Point::RoundSkipped | Point::CutAheadOfFollowers => 4,
        _ => 2,
    }
}

/// Paths of the simulation itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// A torn tail was cut off a log.
    TornTailCut,
    /// A damaged log was refused.
    DamageFound,
    /// A node stopped because its disk was full, or failed.
    DiskFilled,
    DiskFailed,
    /// It started again with room.
    RoomAgain,
    /// A minority was left dead, or cut off, in the end.
    MinorityDead,
    MinorityCut,
    /// It was written down that a node is to lead nothing, or to lose its replicas.
    NodeDrained,
    NodeRetired,
}

impl Event {
    pub const ALL: [Event; 9] = [
        Event::TornTailCut,
        Event::DamageFound,
        Event::DiskFilled,
        Event::DiskFailed,
        Event::RoomAgain,
        Event::MinorityDead,
        Event::MinorityCut,
        Event::NodeDrained,
        Event::NodeRetired,
    ];
}

/// How often each path was taken, and each point fired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    pub paths: BTreeMap<Path, u64>,
    pub events: BTreeMap<Event, u64>,
    pub points: BTreeMap<Point, u64>,
}

impl Coverage {
    pub fn add(&mut self, other: &Coverage) {
        other.paths.iter().for_each(|(path, count)| *self.paths.entry(*path).or_default() += count);
        other.events.iter().for_each(|(event, count)| *self.events.entry(*event).or_default() += count);
        other.points.iter().for_each(|(point, count)| *self.points.entry(*point).or_default() += count);
    }

    /// All paths, events and points, with their counts: a line each.
    pub fn table(&self) -> String {
        let mut lines = Vec::new();
        let mut line = |what: &str, name: String, count: Option<&u64>| {
            lines.push(format!("  {what:<5} {name:<22} {:>10}", count.copied().unwrap_or(0)));
        };
        Path::ALL.iter().for_each(|path| line("path", format!("{path:?}"), self.paths.get(path)));
        Event::ALL.iter().for_each(|event| line("event", format!("{event:?}"), self.events.get(event)));
        Point::ALL.iter().for_each(|point| line("point", format!("{point:?}"), self.points.get(point)));
        lines.join("\n")
    }

    /// What was never reached, but for these.
    pub fn missing(&self, unexpected: &[&str]) -> Vec<String> {
        let paths = Path::ALL.iter().filter(|path| !self.paths.contains_key(path)).map(|path| format!("{path:?}"));
        let events = Event::ALL.iter().filter(|e| !self.events.contains_key(e)).map(|event| format!("{event:?}"));
        let points = Point::ALL.iter().filter(|p| !self.points.contains_key(p)).map(|point| format!("{point:?}"));
        paths.chain(events).chain(points).filter(|name| !unexpected.contains(&name.as_str())).collect()
    }
}

/// A run's probe. See the module.
#[derive(Debug)]
pub struct SimProbe {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    points: Points,
    rng: Rng,
    coverage: Coverage,
}

impl SimProbe {
    pub fn new(seed: u64, points: &Points) -> SimProbe {
        let inner = Inner { points: points.clone(), rng: Rng::new(seed, "points"), coverage: Coverage::default() };
        SimProbe { inner: Mutex::new(inner) }
    }

    fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut self.inner.lock().expect("no holder of this lock panics"))
    }

    /// Nothing fires any more.
    pub fn calm(&self) {
        self.with(|inner| inner.points.clear());
    }

    /// Of all points just this one fires, always.
    pub fn insist(&self, point: Point) {
        self.with(|inner| inner.points = Points::from([(point, 1)]));
    }

    pub fn saw(&self, event: Event) {
        self.with(|inner| *inner.coverage.events.entry(event).or_default() += 1);
    }

    pub fn coverage(&self) -> Coverage {
        self.with(|inner| inner.coverage.clone())
    }
}

impl Probe for SimProbe {
    fn fires(&self, point: Point) -> bool {
        self.with(|inner| {
            let Some(once_in) = inner.points.get(&point).copied() else { return false };
            let fires = inner.rng.one_in(once_in);
            if fires {
                *inner.coverage.points.entry(point).or_default() += 1;
            }
            fires
        })
    }

    fn took(&self, path: Path) {
        self.with(|inner| *inner.coverage.paths.entry(path).or_default() += 1);
    }
}
