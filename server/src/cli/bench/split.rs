//! `meridian bench split`: what a split costs the transfers under way.
//!
//! The bank works without a break. At moments a few seconds apart a range is split, or nothing happens, in turn; of each moment the
//! second before it is held against the second after it. So what the machine does by itself is seen in both, and medians
//! over many moments tell the two apart.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use client::bench::bank::{self, BankOptions, Verdict};
use client::driver::Client;

use super::fleet::Fleet;
use super::median::{Table, median};
use super::pace::{Pace, Watch};
use crate::cli::args::SplitArgs;
use crate::cli::scratch::Scratch;

const WARM_UP: Duration = Duration::from_secs(5);
/// What is looked at before a moment, and after it.
const SECOND: Duration = Duration::from_secs(1);

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
    let watch = Watch::start(transferred);
    let running = tokio::spawn(bank::run(BankOptions { loaded: true, ..options }));
    tokio::time::sleep(WARM_UP).await;
    let moments = split_now_and_then(&client, &args).await?;
    let report = running.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    let pace = watch.stop().await?;
    if report.verdict == Verdict::Violation {
        return Err(format!("the money does not add up:\n{report}"));
    }
    let seen = |split: bool| -> Vec<Seen> {
        moments.iter().filter(|moment| moment.split == split).map(|moment| Seen::at(moment, &pace)).collect()
    };
    Ok(table(&[seen(false), seen(true)]))
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
    fn at(moment: &Moment, pace: &Pace) -> Seen {
        let pause = pace.longest_pause(moment.at, SECOND).map_or(Duration::ZERO, |pause| pause.took);
        Seen {
            before: pace.per_second(moment.at - SECOND, SECOND),
            after: pace.per_second(moment.at, SECOND),
            worst: pace.slowest_tenth_of_second(moment.at, SECOND),
            pause_ms: pause.as_secs_f64() * 1e3,
            took_ms: moment.took.as_secs_f64() * 1e3,
        }
    }
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
