//! How much a range is asked, and by which key its load could be split.
//!
//! A [`LoadSampler`] belongs to one range and is fed by its leader with what each request touched. It has two parts.
//!
//! * **The rate.** Costs are counted in a slot of a tenth of the window. When a slot is over, its rate is folded into a decayed one:
//!   what is a window old counts for about a third, what is three windows old for a twentieth. A cold range pays one addition a request.
//! * **The reservoir**, only while the rate is at or above the limit. The window's requests pass by, and the first keys of a few of the
//!   rows that they touch are kept, each request with the same chance. From then on each request is counted at each kept key: did it
//!   lie left of the key, right of it, on both sides, and did it touch nothing but this one row? At the end of the window
//!   these counts are the *finding*, the reservoir is emptied, and the next window begins. So a finding is never mixed from an old
//!   load and a new one, and there is none before the load has held for a whole window.
//!
//! What a finding means is up to [`crate::policy`].
//!
//! Invariants: a kept key is the first key of a row; no key is kept twice; the counts of a candidate add up to what passed since it was
//! kept. What is left out: the distribution of bytes (the middle of a range by size is found on disk), and any memory of
//! a range's load from before it was split or merged; its sampler starts afresh.

use std::time::Duration;

use proto::{Key, Span};

use crate::policy::SplitLimits;

/// Rounds a key down to the first key of its row. A key that is no part of a longer row is its own row.
pub type RowBoundary = fn(&Key) -> Key;

/// A request as the sampler sees it.
#[derive(Clone, Copy, Debug)]
pub struct Touch<'a> {
    /// From the same clock for all calls. One that goes back is taken for one that stands.
    pub now: Duration,
    pub span: &'a Span,
    /// In whatever unit the rate is wanted in: 1 for queries per second.
    pub cost: u64,
    /// A random number, used only while the range is hot.
    pub dice: u64,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct LoadSampler {
    rate: Rate,
    hot: Option<Box<Hot>>,
}

/// A decayed rate.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    slot_start: Duration,
    slot_cost: u64,
    /// Thousandths of the cost per second, as of the start of the slot.
    milli: u64,
}

impl Rate {
    /// The rate with what the slot holds, if that is over.
    fn folded(mut self, now: Duration, window: Duration) -> Rate {
        let elapsed = now.saturating_sub(self.slot_start).as_micros();
        let window = window.as_micros().max(1);
        if elapsed < (window / 10).max(1) {
            return self;
        }
        let slot_rate = u128::from(self.slot_cost) * 1_000_000_000 / elapsed;
        let weight = elapsed.min(window);
        let mixed = (u128::from(self.milli) * (window - weight) + slot_rate * weight) / window;
        self.milli = u64::try_from(mixed).unwrap_or(u64::MAX);
        self.slot_start = now;
        self.slot_cost = 0;
        self
    }
}

/// A hot range's window.
#[derive(Clone, Debug)]
struct Hot {
    window_start: Duration,
    touches: u64,
    samples: Vec<Candidate>,
    finding: Option<Vec<Candidate>>,
}

/// A key at which the range could be split, and the costs that were counted there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The first key of a row.
    pub key: Key,
    pub left: u64,
    pub right: u64,
    /// What touched both sides.
    pub contained: u64,
    /// The part of `right` that touched this one row and nothing else.
    pub row: u64,
    /// Requests that were counted.
    pub touches: u64,
}

impl Candidate {
    fn new(key: Key) -> Candidate {
        Candidate { key, left: 0, right: 0, contained: 0, row: 0, touches: 0 }
    }

    pub fn total(&self) -> u64 {
        self.left.saturating_add(self.right).saturating_add(self.contained)
    }

    /// What the busier half would bear after a split: requests that touch both sides burden both.
    pub fn busier_half(&self) -> u64 {
        self.left.max(self.right).saturating_add(self.contained)
    }

    fn count(&mut self, span: &Span, cost: u64, only_row: Option<&Key>) {
        let side = if span.start >= self.key {
            &mut self.right
        } else if span.end <= self.key {
            &mut self.left
        } else {
            &mut self.contained
        };
        *side = side.saturating_add(cost);
        if only_row == Some(&self.key) {
            self.row = self.row.saturating_add(cost);
        }
        self.touches += 1;
    }
}

impl LoadSampler {
    /// A sampler for a range that begins its life now.
    pub fn new(now: Duration) -> LoadSampler {
        LoadSampler { rate: Rate { slot_start: now, ..Rate::default() }, hot: None }
    }

    /// Counts a request towards the rate. Says whether the range is hot: then what the request touches is worth [telling](LoadSampler::touch).
    pub fn pass(&mut self, now: Duration, cost: u64, limits: &SplitLimits) -> bool {
        self.rate.slot_cost = self.rate.slot_cost.saturating_add(cost);
        let folded = self.rate.folded(now, limits.window);
        if folded.slot_start != self.rate.slot_start {
            self.rate = folded;
            self.heat(now, limits);
        }
        self.hot.is_some()
    }

    /// Counts what a request touched at the samples. A cold range has none.
    pub fn touch(&mut self, touch: Touch<'_>, row: RowBoundary, limits: &SplitLimits) {
        if let Some(hot) = &mut self.hot {
            hot.record(touch, row, limits);
        }
    }

    /// Counts a request that touched one span.
    pub fn record(&mut self, touch: Touch<'_>, row: RowBoundary, limits: &SplitLimits) {
        if self.pass(touch.now, touch.cost, limits) {
            self.touch(touch, row, limits);
        }
    }

    /// Costs per second, decayed over the window.
    pub fn rate(&self, now: Duration, limits: &SplitLimits) -> u64 {
        self.rate.folded(now, limits.window).milli / 1000
    }

    /// What the last full window said about keys to split at, if the range is hot and has been for a window.
    pub fn finding(&self, now: Duration, limits: &SplitLimits) -> Option<&[Candidate]> {
        let still_hot = self.rate(now, limits) >= limits.rate_max;
        self.hot.as_ref().filter(|_| still_hot)?.finding.as_deref()
    }

    /// Opens and closes the reservoir.
    fn heat(&mut self, now: Duration, limits: &SplitLimits) {
        if self.rate.milli / 1000 < limits.rate_max {
            self.hot = None;
        } else if self.hot.is_none() {
            self.hot = Some(Box::new(Hot { window_start: now, touches: 0, samples: Vec::new(), finding: None }));
        }
    }
}

impl Hot {
    fn record(&mut self, touch: Touch<'_>, row: RowBoundary, limits: &SplitLimits) {
        if touch.now.saturating_sub(self.window_start) >= limits.window {
            self.finish(touch.now, limits);
        }
        let first_row = row(&touch.span.start);
        let one_row = touch.span.is_point() || row(&touch.span.end) == first_row;
        for sample in &mut self.samples {
            sample.count(touch.span, touch.cost, one_row.then_some(&first_row));
        }
        self.touches += 1;
        self.sample(first_row, touch.dice, limits);
    }

    /// Keeps a row's first key, perhaps: each of the window's requests has the same chance.
    fn sample(&mut self, key: Key, dice: u64, limits: &SplitLimits) {
        let full = self.samples.len() >= limits.samples_max;
        let place = dice % self.touches;
        if (full && place >= limits.samples_max as u64) || self.samples.iter().any(|sample| sample.key == key) {
            return;
        }
        match usize::try_from(place) {
            Ok(place) if full => self.samples[place] = Candidate::new(key),
            _ => self.samples.push(Candidate::new(key)),
        }
    }

    /// Turns the window's counts into the finding, and begins the next window.
    fn finish(&mut self, now: Duration, limits: &SplitLimits) {
        let mut finding = std::mem::take(&mut self.samples);
        finding.retain(|sample| sample.touches >= limits.touches_min);
        finding.sort_by(|a, b| a.key.cmp(&b.key));
        self.finding = (!finding.is_empty()).then_some(finding);
        self.window_start = now;
        self.touches = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(key: &Key) -> Key {
        key.clone()
    }

    fn feed(sampler: &mut LoadSampler, from_s: u64, to_s: u64, per_s: u64, limits: &SplitLimits) {
        for s in from_s..to_s {
            for n in 0..per_s {
                let now = Duration::from_micros(s * 1_000_000 + n * 1_000_000 / per_s);
                let key = Key(vec![(n % 250) as u8]);
                let dice =
                    s.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(n.wrapping_mul(0xbf58_476d_1ce4_e5b9)) >> 7;
                let span = Span::point(&key);
                sampler.record(Touch { now, span: &span, cost: 1, dice }, identity, limits);
            }
        }
    }

    #[test]
    fn a_rate_is_reached_and_forgotten_within_a_few_windows() {
        let limits = SplitLimits { rate_max: u64::MAX, ..SplitLimits::default() };
        let mut sampler = LoadSampler::new(Duration::ZERO);
        feed(&mut sampler, 0, 40, 500, &limits);
        let rate = sampler.rate(Duration::from_secs(40), &limits);
        assert!((480..=500).contains(&rate), "{rate}");
        assert!(sampler.rate(Duration::from_secs(60), &limits) < 30, "but for the last slot's part");
        assert!(sampler.hot.is_none(), "a cold range keeps no samples");
    }

    #[test]
    fn a_finding_takes_a_whole_window_and_balances_an_even_load() {
        let limits = SplitLimits { rate_max: 300, ..SplitLimits::default() };
        let mut sampler = LoadSampler::new(Duration::ZERO);
        feed(&mut sampler, 0, 15, 500, &limits);
        assert!(sampler.finding(Duration::from_secs(15), &limits).is_none());
        feed(&mut sampler, 15, 30, 500, &limits);
        let finding = sampler.finding(Duration::from_secs(30), &limits).expect("hot for a window");
        assert!(finding.len() <= limits.samples_max);
        let best = finding.iter().min_by_key(|c| c.busier_half() * 1000 / c.total()).unwrap();
        assert!(best.busier_half() * 1000 / best.total() < 600, "{best:?}");
        assert!(sampler.finding(Duration::from_secs(90), &limits).is_none(), "the load is gone");
    }
}
