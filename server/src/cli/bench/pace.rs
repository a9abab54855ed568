//! How fast the bank worked at each moment of a run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

const SAMPLE_EVERY: Duration = Duration::from_millis(10);
/// Samples in which transfers are counted to find the slowest tenth of a second.
const WINDOW: usize = 10;

/// Counts the transfers of a running bank, again and again.
pub struct Watch {
    over: Arc<AtomicBool>,
    samples: JoinHandle<Vec<(Instant, u64)>>,
}

/// Transfers so far, by time.
pub struct Pace(Vec<(Instant, u64)>);

/// A time in which no transfer was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    pub began: Instant,
    pub took: Duration,
}

impl Watch {
    pub fn start(transferred: Arc<AtomicU64>) -> Watch {
        let over = Arc::new(AtomicBool::new(false));
        let until = over.clone();
        let samples = tokio::spawn(async move {
            let mut samples = Vec::new();
            while !until.load(Ordering::Relaxed) {
                samples.push((Instant::now(), transferred.load(Ordering::Relaxed)));
                tokio::time::sleep(SAMPLE_EVERY).await;
            }
            samples
        });
        Watch { over, samples }
    }

    /// # Errors
    /// When counting has failed.
    pub async fn stop(self) -> Result<Pace, String> {
        self.over.store(true, Ordering::Relaxed);
        self.samples.await.map(Pace).map_err(|e| e.to_string())
    }
}

impl Pace {
    /// Samples of a time from a moment on.
    fn within(&self, from: Instant, length: Duration) -> &[(Instant, u64)] {
        let place = |at: Instant| self.0.partition_point(|sample| sample.0 < at);
        &self.0[place(from)..place(from + length)]
    }

    /// Transfers a second.
    pub fn per_second(&self, from: Instant, length: Duration) -> f64 {
        growth(self.within(from, length))
    }

    /// Transfers a second in the slowest part of it that is so long.
    pub fn slowest_tenth_of_second(&self, from: Instant, length: Duration) -> f64 {
        let slowest = self.within(from, length).windows(WINDOW + 1).map(growth).fold(f64::INFINITY, f64::min);
        if slowest.is_finite() { slowest } else { 0.0 }
    }

    /// The longest time in which no transfer was done; none if there are no samples.
    pub fn longest_pause(&self, from: Instant, length: Duration) -> Option<Pause> {
        let samples = self.within(from, length);
        let mut grew = *samples.first()?;
        let mut longest = Pause { began: grew.0, took: Duration::ZERO };
        for sample in samples {
            let took = sample.0 - grew.0;
            if took > longest.took {
                longest = Pause { began: grew.0, took };
            }
            if sample.1 > grew.1 {
                grew = *sample;
            }
        }
        Some(longest)
    }
}

/// How fast a counter grew from the first sample to the last one, a second.
fn growth(samples: &[(Instant, u64)]) -> f64 {
    match (samples.first(), samples.last()) {
        (Some(first), Some(last)) if last.0 > first.0 => {
            last.1.saturating_sub(first.1) as f64 / (last.0 - first.0).as_secs_f64()
        }
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dip_is_seen() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        // One a millisecond, but for 200 ms after the first second.
        let so_far = |ms: u64| ms.min(1000) + ms.saturating_sub(1200);
        let pace = Pace((0..300).map(|n| (at(n * 10), so_far(n * 10))).collect());
        let second = Duration::from_secs(1);
        let per_second = |from: u64| pace.per_second(at(from), second);
        assert!((per_second(0) - 1000.0).abs() < 1.0, "{}", per_second(0));
        assert!((per_second(1000) - 800.0).abs() < 10.0, "{}", per_second(1000));
        assert!(pace.slowest_tenth_of_second(at(1000), second) < 1.0);
        assert!(pace.slowest_tenth_of_second(at(0), second) > 990.0);
        let pause = pace.longest_pause(at(500), second).unwrap();
        assert_eq!(pause, Pause { began: at(1000), took: Duration::from_millis(210) });
        assert_eq!(pace.longest_pause(at(9000), second), None);
    }
}
