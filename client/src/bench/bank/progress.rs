//! Keeps the time, and says every second how it goes.

use std::io::IsTerminal;
use std::sync::atomic::Ordering;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::Run;

const EVERY: Duration = Duration::from_secs(1);

/// Waits for the run's duration, or until it is said to be enough, then tells everyone to stop.
pub async fn watch(run: &Run) {
    let started = Instant::now();
    let end = started + run.options.duration;
    let bar = bar(run);
    let mut seconds = 0;
    loop {
        let next = end.min(Instant::now() + EVERY);
        tokio::select! {
            biased;
            () = run.options.enough.notified() => break,
            () = tokio::time::sleep_until(next) => {}
        }
        if Instant::now() >= end {
            break;
        }
        seconds += 1;
        show(run, &bar, seconds);
    }
    run.stop.store(true, Ordering::Relaxed);
    run.tally.end();
    bar.finish_and_clear();
}

fn show(run: &Run, bar: &ProgressBar, seconds: u64) {
    let window = run.tally.window();
    let line = format!(
        "{:>7} tx/s   p99 {:>8.1} ms   {} transfers, {} retries",
        window.transfers,
        window.p99.as_secs_f64() * 1e3,
        window.transfers_total,
        window.retries_total
    );
    if run.options.progress && bar.is_hidden() {
        eprintln!("{seconds:>4} s {line}");
    }
    bar.set_position(seconds);
    bar.set_message(line);
}

/// A bar at a terminal; elsewhere it is hidden and lines are printed instead.
fn bar(run: &Run) -> ProgressBar {
    if !run.options.progress || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:20} {pos:>4} s {msg}").expect("the template is valid");
    ProgressBar::new(run.options.duration.as_secs().max(1)).with_style(style)
}
