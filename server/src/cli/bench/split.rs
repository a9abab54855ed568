//! `meridian bench split`: what a split costs the transfers under way.
//!
//! The bank works without a break. At moments a few seconds apart a range is split, or nothing happens, in turn; of each moment the
//! second before it is held against the second after it. So what the machine does by itself is seen in both, and medians
//! over many moments tell the two apart.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use client::bench::bank::{self, BankOptions, Verdict};
use client::driver::Client;

use super::fleet::Fleet;
use super::median::{Table, median};
use crate::cli::args::SplitArgs;
use crate::cli::scratch::Scratch;

const WARM_UP: Duration = Duration::from_secs(5);
/// What is looked at before a moment, and after it.
const SECOND: Duration = Duration::from_secs(1);
const SAMPLE_EVERY: Duration = Duration::from_millis(10);
/// Samples in which transfers are counted to find the worst moment of a second.
const WINDOW: usize = 10;

/// When something happened, or nothing did.
struct Moment {
    at: Instant,
    split: bool,
    /// How long the statement took.
    took: Duration,
}

/// What one moment showed, in transfers a second and milliseconds.
struct Seen {
    before: f64,
    after: f64,
    /// Over the worst tenth of the second after it.
    worst: f64,
    pause_ms: f64,
    took_ms: f64,
}

pub async fn run(args: SplitArgs) -> Result<String, String> {
    let scratch = Scratch::new("bench-split").map_err(|e| format!("no temporary directory: {e}"))?;
    let fleet = Fleet::start(&scratch, "cluster", 3).await?;
    let transferred = Arc::new(AtomicU64::new(0));
    let options = BankOptions {
        accounts: args.accounts,
        clients: args.clients,
        ranges: args.ranges,
        duration: WARM_UP + args.every * (args.splits * 2 + 1),
        audit_pause: SECOND,
        progress: false,
        transferred: transferred.clone(),
        ..BankOptions::new(fleet.addresses())
    };
    eprintln!("loading {} accounts into {} ranges", args.accounts, args.ranges);
    bank::load(&options).await.map_err(|e| e.to_string())?;
    let client = fleet.client().await?;
    let over = Arc::new(AtomicBool::new(false));
    let samples = tokio::spawn(sample(transferred, over.clone()));
    let running = tokio::spawn(bank::run(BankOptions { loaded: true, ..options }));
    tokio::time::sleep(WARM_UP).await;
    let moments = split_now_and_then(&client, &args).await?;
    let report = running.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    over.store(true, Ordering::Relaxed);
    if report.verdict == Verdict::Violation {
        return Err(format!("the money does not add up:\n{report}"));
    }
    let samples = samples.await.map_err(|e| e.to_string())?;
    let seen = |split: bool| -> Vec<Seen> {
        moments.iter().filter(|moment| moment.split == split).map(|moment| Seen::at(moment, &samples)).collect()
    };
    Ok(table(&[seen(false), seen(true)]))
}

/// Counts the transfers so far, again and again.
async fn sample(transferred: Arc<AtomicU64>, over: Arc<AtomicBool>) -> Vec<(Instant, u64)> {
    let mut samples = Vec::new();
    while !over.load(Ordering::Relaxed) {
        samples.push((Instant::now(), transferred.load(Ordering::Relaxed)));
        tokio::time::sleep(SAMPLE_EVERY).await;
    }
    samples
}

async fn split_now_and_then(client: &Client, args: &SplitArgs) -> Result<Vec<Moment>, String> {
    /// Multiples of it, modulo one, are spread evenly however many there are: the golden ratio.
    const RATIO: f64 = 0.618_033_988_749_895;
    let mut moments = Vec::new();
    for number in 0..args.splits * 2 {
        tokio::time::sleep(args.every).await;
        let (at, split) = (Instant::now(), number % 2 == 1);
        if split {
            let account = (f64::from(number) * RATIO).fract() * args.accounts as f64;
            let statement = format!("ALTER TABLE bank_accounts SPLIT AT VALUES ({})", account as u64);
            client.execute(&statement, &[]).await.map_err(|e| format!("{statement}: {e}"))?;
        }
        moments.push(Moment { at, split, took: at.elapsed() });
    }
    Ok(moments)
}

impl Seen {
    fn at(moment: &Moment, samples: &[(Instant, u64)]) -> Seen {
        let within = |from: Instant| -> Vec<(Instant, u64)> {
            samples.iter().filter(|(at, _)| (from..from + SECOND).contains(at)).copied().collect()
        };
        let (before, after) = (within(moment.at - SECOND), within(moment.at));
        let worst = after.windows(WINDOW + 1).map(per_second).fold(f64::INFINITY, f64::min);
        Seen {
            before: per_second(&before),
            after: per_second(&after),
            worst: if worst.is_finite() { worst } else { 0.0 },
            pause_ms: longest_pause(&after).as_secs_f64() * 1e3,
            took_ms: moment.took.as_secs_f64() * 1e3,
        }
    }
}

/// How fast a counter grew from the first sample to the last one.
fn per_second(samples: &[(Instant, u64)]) -> f64 {
    match (samples.first(), samples.last()) {
        (Some(first), Some(last)) if last.0 > first.0 => {
            last.1.saturating_sub(first.1) as f64 / (last.0 - first.0).as_secs_f64()
        }
        _ => 0.0,
    }
}

/// The longest time in which a counter did not grow.
fn longest_pause(samples: &[(Instant, u64)]) -> Duration {
    let Some(first) = samples.first() else { return Duration::ZERO };
    let (mut grew, mut longest) = (*first, Duration::ZERO);
    for sample in samples {
        longest = longest.max(sample.0 - grew.0);
        if sample.1 > grew.1 {
            grew = *sample;
        }
    }
    longest
}

fn table(seen: &[Vec<Seen>]) -> String {
    let mut table = Table::new("medians over all moments", vec!["nothing".into(), "split".into()]);
    let mut row = |name: &str, digits: usize, of: fn(&Seen) -> f64| {
        let of_case = |seen: &Vec<Seen>| median(&seen.iter().map(of).collect::<Vec<_>>());
        table.row(name, digits, &seen.iter().map(of_case).collect::<Vec<_>>());
    };
    row("transfers in the second before", 0, |seen| seen.before);
    row("transfers in the second after", 0, |seen| seen.after);
    row("the second after, of the one before", 3, |seen| seen.after / seen.before.max(1.0));
    row("the worst 100 ms of it, of the second before", 3, |seen| seen.worst / seen.before.max(1.0));
    row("the longest pause in it, ms", 1, |seen| seen.pause_ms);
    row("the statement, ms", 1, |seen| seen.took_ms);
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dip_after_a_moment_is_seen() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        // One a millisecond, but for 200 ms after the moment.
        let so_far = |ms: u64| ms.min(1000) + ms.saturating_sub(1200);
        let samples: Vec<_> = (0..300).map(|n| (at(n * 10), so_far(n * 10))).collect();
        let moment = Moment { at: at(1000), split: true, took: Duration::from_millis(20) };
        let seen = Seen::at(&moment, &samples);
        assert!((seen.before - 1000.0).abs() < 1.0, "{}", seen.before);
        assert!((seen.after - 800.0).abs() < 10.0, "{}", seen.after);
        assert!(seen.worst < 1.0, "{}", seen.worst);
        assert!((seen.pause_ms - 210.0).abs() < 11.0, "{}", seen.pause_ms);
    }
}
