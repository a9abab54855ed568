//! The bank: money moves between accounts, and its sum never changes.
//!
//! [`run`] creates the table `bank_accounts`, fills it and splits it into ranges. Then a number of clients, each
//! on a session of its own, transfer money between two random accounts, which lie in different ranges whenever there is
//! more than one. A transfer is one interactive serializable transaction: it reads both balances `FOR UPDATE`, in an
//! order that is as random as the pair, writes both and commits; it runs again until it succeeds. Meanwhile an
//! auditor counts the accounts and sums their balances in read-only transactions. Any other count or sum
//! than at the start, at any time, is a violation.
//!
//! A node that dies causes a pause, not an error: its clients go to another node. A commit whose answer was lost
//! is counted apart, since its money may or may not have moved; the sum is the same either way.

mod options;
mod setup;
mod zipf;
mod pairs;
mod transfer;
mod audit;
mod tally;
mod trouble;
mod stats;
mod progress;
mod report;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

pub use options::BankOptions;
pub use report::{CommitSplit, Distribution, Report, Verdict};

use crate::driver::{Client, Config, Error, Result};
use crate::random::Random;
use audit::Audits;
use pairs::Pairs;
use tally::Tally;
use transfer::Teller;

/// A statement that gets no answer for this long has met trouble.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Shared by all clients of a run.
struct Run {
    options: BankOptions,
    client: Client,
    tally: Tally,
    audits: Audits,
    /// Set when the time is over: no new transfer begins.
    stop: AtomicBool,
}

/// Runs the benchmark.
///
/// # Errors
/// When it could not be carried out: no node can be reached, a statement is refused, the report cannot be written. A
/// violation is no error but the report's verdict.
pub async fn run(options: BankOptions) -> Result<Report> {
    let client = connect(&options).await?;
    if !options.loaded {
        setup::prepare(&client, &options).await?;
    }
    let before = stats::collect(&client).await;

    let started = Instant::now();
    let (tally, audits) = (Tally::new(started), Audits::default());
    let run = Arc::new(Run { options, client, tally, audits, stop: AtomicBool::new(false) });
    transfer_until_over(&run).await?;
    let elapsed = started.elapsed();

    let final_total = audit::check_at_end(&run).await?;
    let after = stats::collect(&run.client).await;
    let counters = stats::Counters::between(&before, &after);
    let report = Report::new(&run.options, elapsed, &run.tally, &run.audits, final_total, counters);
    if let Some(path) = &run.options.json {
        let text = serde_json::to_string_pretty(&report).expect("a report is plain data");
        std::fs::write(path, text + "\n")
            .map_err(|e| Error::application(format!("cannot write {}: {e}", path.display())))?;
    }
    Ok(report)
}

/// Only creates the table, fills it and splits it: later runs find it *loaded*.
///
/// # Errors
/// Like [`run`].
pub async fn load(options: &BankOptions) -> Result<()> {
    setup::prepare(&connect(options).await?, options).await
}

async fn connect(options: &BankOptions) -> Result<Client> {
    options.check()?;
    let mut config = Config::new(&options.addresses)?;
    config.application_name = "meridian bench bank".into();
    config.statement_timeout = Some(STATEMENT_TIMEOUT);
    Client::with_config(config).await
}

/// Lets the clients and the auditor work for the configured time.
async fn transfer_until_over(run: &Arc<Run>) -> Result<()> {
    let root = Random::seeded(run.options.seed);
    let pairs = Arc::new(Pairs::new(&run.options));
    let mut tasks = JoinSet::new();
    for number in 0..run.options.clients {
        let teller = Teller::new(run.clone(), pairs.clone(), root.stream(number as u64));
        tasks.spawn(teller.work());
    }
    let auditor = run.clone();
    tasks.spawn(async move { audit::keep_auditing(&auditor).await });
    let watcher = run.clone();
    tasks.spawn(async move {
        progress::watch(&watcher).await;
        Ok(())
    });
    while let Some(done) = tasks.join_next().await {
        // The first error ends the run: dropping the tasks ends their sessions.
        done.map_err(|panic| Error::application(format!("a client has panicked: {panic}")))??;
    }
    Ok(())
}
