//! Zipf's law: the k-th most popular of n things is chosen in proportion to 1 / k^θ.

use crate::random::Random;

/// A sampler of ranks from 0, the most popular one. It keeps the whole distribution, 8 bytes a rank, and so is exact for
/// every exponent.
pub struct Zipf {
    /// The chance of each rank or a more popular one.
    cumulative: Vec<f64>,
}

impl Zipf {
    /// # Panics
    /// When there is nothing to choose from.
    pub fn new(n: u64, exponent: f64) -> Zipf {
        assert!(n > 0, "there is nothing to choose from");
        let mut sum = 0.0;
        let mut cumulative: Vec<f64> = (1..=n)
            .map(|k| {
                sum += (k as f64).powf(-exponent);
                sum
            })
            .collect();
        cumulative.iter_mut().for_each(|c| *c /= sum);
        Zipf { cumulative }
    }

    pub fn sample(&self, random: &mut Random) -> u64 {
        let u = random.unit();
        // Rounding may leave the last entry a little below 1.
        self.cumulative.partition_point(|&c| c <= u).min(self.cumulative.len() - 1) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(n: u64, exponent: f64) -> Vec<u32> {
        let (zipf, mut random) = (Zipf::new(n, exponent), Random::seeded(3));
        let mut counts = vec![0; n as usize];
        for _ in 0..100_000 {
            counts[zipf.sample(&mut random) as usize] += 1;
        }
        counts
    }

    #[test]
    fn popularity_falls_as_the_law_says() {
        let counts = counts(10, 1.0);
        for k in 1..10 {
            let ratio = f64::from(counts[0]) / f64::from(counts[k]);
            assert!((ratio / (k + 1) as f64 - 1.0).abs() < 0.1, "rank {k} is chosen {ratio} times less than the first");
        }
    }

    #[test]
    fn an_exponent_of_zero_is_uniform() {
        assert!(counts(10, 0.0).iter().all(|&c| (9_000..11_000).contains(&c)));
    }
}
