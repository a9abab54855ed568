//! Random numbers for jitter and workloads: small, fast, seedable, and no good for secrets.

use std::hash::{BuildHasher, RandomState};

/// The SplitMix64 generator.
///
/// Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    /// A generator that gives the same numbers for the same seed.
    pub fn seeded(seed: u64) -> Random {
        Random { state: seed }
    }

    /// A generator with a seed from the operating system, by way of the standard library's hash keys.
    pub fn from_os() -> Random {
        Random::seeded(RandomState::new().hash_one(0u8))
    }

    /// An independent generator for a part of the work, the same for the same tag.
    ///
    /// The tag goes through the generator's output function: a seed that is a multiple of the generator's increment would
    /// give the same numbers as another's, some steps later.
    pub fn stream(&self, tag: u64) -> Random {
        let scattered = Random::seeded(tag).next_u64();
        Random::seeded(Random::seeded(self.state ^ scattered).next_u64())
    }

    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, each equally likely but for a bias of at most `bound / 2^64`.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "there is no number below 0");
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from 0 (inclusive) to 1 (exclusive).
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_streams_differ() {
        let numbers = |mut r: Random| (0..8).map(|_| r.next_u64()).collect::<Vec<_>>();
        let root = Random::seeded(7);
        assert_eq!(numbers(root.clone()), numbers(Random::seeded(7)));
        assert_eq!(numbers(root.stream(1)), numbers(root.stream(1)));
        assert_ne!(numbers(root.stream(1)), numbers(root.stream(2)));
    }

    #[test]
    fn bounds_hold() {
        let mut random = Random::seeded(1);
        for _ in 0..10_000 {
            assert!(random.below(10) < 10);
            assert!((0.0..1.0).contains(&random.unit()));
        }
    }

    #[test]
    fn streams_are_not_each_other_some_steps_later() {
        let numbers = |tag: u64| -> Vec<u64> {
            let mut stream = Random::seeded(1).stream(tag);
            (0..200).map(|_| stream.next_u64()).collect()
        };
        let mut all: Vec<u64> = (0..16).flat_map(numbers).collect();
        let drawn = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), drawn);
    }
}
