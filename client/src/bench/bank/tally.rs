//! What all clients have done so far.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::driver::{Completion, ServerTimings};

/// Latencies are kept to three digits, up to this; what is longer counts as this.
const LATENCY_US_MAX: u64 = 600_000_000;

/// A transfer that has committed.
#[derive(Default)]
pub struct Done {
    /// Whether money was moved; if not, the transaction committed without writing.
    pub is_sufficient: bool,
    /// How long the COMMIT took, as the client saw it.
    pub commit: Duration,
    /// Where the COMMIT's time went, as the server saw it.
    pub timings: ServerTimings,
    pub server_retries: BTreeMap<String, u64>,
}

impl Done {
    pub fn add_server_retries(&mut self, completion: &Completion) {
        for (reason, &count) in &completion.retries {
            *self.server_retries.entry(reason.clone()).or_default() += u64::from(count);
        }
    }
}

/// Counters and histograms, shared by all clients.
pub struct Tally(Mutex<Totals>);

/// A copy of it all at some moment.
#[derive(Clone)]
pub struct Totals {
    pub transfers: u64,
    pub insufficient: u64,
    pub outcomes_unknown: u64,
    pub reconnects: u64,
    pub client_retries: BTreeMap<String, u64>,
    pub server_retries: BTreeMap<String, u64>,
    /// In microseconds, like all histograms here. A transfer's latency includes its retries.
    pub transfer: Histogram<u64>,
    pub commit: Histogram<u64>,
    /// Of commits that wrote something.
    pub queue: Histogram<u64>,
    pub replication: Histogram<u64>,
    pub clock_wait: Histogram<u64>,
    /// The longest time without any commit.
    pub longest_pause: Duration,
    last_commit: Instant,
    /// Transfers since the last look at them.
    window: Histogram<u64>,
}

/// What has happened since the last look.
pub struct Window {
    pub transfers: u64,
    pub p99: Duration,
    /// Since the start.
    pub transfers_total: u64,
    pub retries_total: u64,
}

impl Tally {
    pub fn new(started: Instant) -> Tally {
        let histogram = || Histogram::new_with_max(LATENCY_US_MAX, 3).expect("the bounds are valid");
        Tally(Mutex::new(Totals {
            transfers: 0,
            insufficient: 0,
            outcomes_unknown: 0,
            reconnects: 0,
            client_retries: BTreeMap::new(),
            server_retries: BTreeMap::new(),
            transfer: histogram(),
            commit: histogram(),
            queue: histogram(),
            replication: histogram(),
            clock_wait: histogram(),
            longest_pause: Duration::ZERO,
            last_commit: started,
            window: histogram(),
        }))
    }

    /// A transfer that began at `started` has committed now.
    pub fn done(&self, started: Instant, done: Done) {
        let mut totals = self.lock();
        totals.transfers += 1;
        totals.note_commit(Instant::now());
        let latency = micros(started.elapsed());
        totals.transfer.saturating_record(latency);
        totals.window.saturating_record(latency);
        totals.commit.saturating_record(micros(done.commit));
        if done.is_sufficient {
            totals.queue.saturating_record(micros(done.timings.queue));
            totals.replication.saturating_record(micros(done.timings.replication));
            totals.clock_wait.saturating_record(micros(done.timings.clock_wait));
        } else {
            totals.insufficient += 1;
        }
        for (reason, count) in done.server_retries {
            *totals.server_retries.entry(reason).or_default() += count;
        }
    }

    pub fn retry(&self, reason: &str) {
        *self.lock().client_retries.entry(reason.to_string()).or_default() += 1;
    }

    pub fn outcome_unknown(&self) {
        self.lock().outcomes_unknown += 1;
    }

    pub fn reconnect(&self) {
        self.lock().reconnects += 1;
    }

    /// What has happened since the last call.
    pub fn window(&self) -> Window {
        let mut totals = self.lock();
        let window = Window {
            transfers: totals.window.len(),
            p99: Duration::from_micros(totals.window.value_at_quantile(0.99)),
            transfers_total: totals.transfers,
            retries_total: totals.client_retries.values().sum(),
        };
        totals.window.reset();
        window
    }

    /// Everything so far. Time without a commit up to now counts as a pause, too.
    pub fn totals(&self) -> Totals {
        self.lock().clone()
    }

    /// The measured time is over.
    pub fn end(&self) {
        self.lock().note_commit(Instant::now());
    }

    fn lock(&self) -> MutexGuard<'_, Totals> {
        self.0.lock().expect("no one panics while holding this lock")
    }
}

impl Totals {
    fn note_commit(&mut self, now: Instant) {
        self.longest_pause = self.longest_pause.max(now.duration_since(self.last_commit));
        self.last_commit = now;
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_pause_spans_commits_and_both_ends() {
        let started = Instant::now();
        let tally = Tally::new(started);
        let mut totals = tally.lock();
        totals.note_commit(started + Duration::from_secs(1));
        totals.note_commit(started + Duration::from_secs(4));
        totals.note_commit(started + Duration::from_secs(5));
        assert_eq!(totals.longest_pause, Duration::from_secs(3));
    }

    #[test]
    fn a_window_begins_anew_after_each_look() {
        let tally = Tally::new(Instant::now());
        tally.done(Instant::now(), Done::default());
        tally.retry("wounded");
        assert_eq!((tally.window().transfers, tally.window().transfers), (1, 0));
        assert_eq!(tally.window().retries_total, 1);
        assert_eq!(tally.totals().insufficient, 1);
    }
}
