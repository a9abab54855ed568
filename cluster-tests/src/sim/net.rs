//! The simulated network: messages arrive late, twice, out of order, or never.

use std::collections::{BTreeMap, BTreeSet};

use super::rng::Rng;

/// How a network behaves. Drawn per seed.
#[derive(Clone, Debug)]
pub struct NetOptions {
    /// Nanoseconds.
    pub latency_min: u64,
    pub latency_max: u64,
    /// Parts per million of messages that take a hundred times as long.
    pub slow_ppm: u64,
    pub loss_ppm: u64,
    pub duplicate_ppm: u64,
}

impl NetOptions {
    /// Nothing goes wrong.
    pub fn calm() -> NetOptions {
        NetOptions { latency_min: 200_000, latency_max: 1_000_000, slow_ppm: 0, loss_ppm: 0, duplicate_ppm: 0 }
    }

    /// Drawn from a seed: some networks have no fault of a kind, some have many.
    pub fn draw(rng: &mut Rng) -> NetOptions {
        let mut some = |most: u64| if rng.one_in(3) { 0 } else { rng.below(most) };
        let (slow_ppm, loss_ppm, duplicate_ppm) = (some(5_000), some(30_000), some(20_000));
        let latency_min = rng.between(50_000, 1_000_000);
        NetOptions {
            latency_min,
            latency_max: latency_min + rng.between(100_000, 3_000_000),
            slow_ppm,
            loss_ppm,
            duplicate_ppm,
        }
    }
}

/// See the module.
pub struct Net {
    pub options: NetOptions,
    /// Pairs (from, to) between which nothing passes, and how many faults are to blame.
    cut: BTreeMap<(usize, usize), u32>,
    /// Nodes that never hear of the others again, nor the others of them.
    abandoned: BTreeSet<usize>,
    /// Nodes whose messages take so many times longer.
    slow: BTreeMap<usize, u64>,
    rng: Rng,
}

impl Net {
    pub fn new(options: NetOptions, rng: Rng) -> Net {
        Net { options, cut: BTreeMap::new(), abandoned: BTreeSet::new(), slow: BTreeMap::new(), rng }
    }

    /// After how many nanoseconds each copy of a message arrives.
    pub fn deliveries(&mut self, from: usize, to: usize) -> Vec<u64> {
        let slowness = self.slowness(from).max(self.slowness(to));
        if from == to {
            return vec![self.rng.between(1_000, 20_000) * slowness];
        }
        if self.is_cut(from, to) || self.rng.ppm(self.options.loss_ppm) {
            return Vec::new();
        }
        let copies = if self.rng.ppm(self.options.duplicate_ppm) { 2 } else { 1 };
        (0..copies).map(|_| self.latency() * slowness).collect()
    }

    fn is_cut(&self, from: usize, to: usize) -> bool {
        let abandoned = self.abandoned.contains(&from) || self.abandoned.contains(&to);
        abandoned || self.cut.contains_key(&(from, to))
    }

    /// How many times longer a node takes.
    pub fn slowness(&self, node: usize) -> u64 {
        self.slow.get(&node).copied().unwrap_or(1)
    }

    pub fn set_slowness(&mut self, node: usize, factor: u64) {
        self.slow.insert(node, factor);
    }

    /// Cuts a node off for ever.
    pub fn abandon(&mut self, node: usize) {
        self.abandoned.insert(node);
    }

    fn latency(&mut self) -> u64 {
        let latency = self.rng.between(self.options.latency_min, self.options.latency_max);
        if self.rng.ppm(self.options.slow_ppm) { latency * 100 } else { latency }
    }

    /// Stops or restores what passes from one node to another. As many restorations are needed as there were cuts.
    pub fn set_cut(&mut self, from: usize, to: usize, cut: bool) {
        let blamed = self.cut.entry((from, to)).or_default();
        *blamed = if cut { *blamed + 1 } else { blamed.saturating_sub(1) };
        if *blamed == 0 {
            self.cut.remove(&(from, to));
        }
    }

    /// Everything passes again.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.slow.clear();
    }
}
