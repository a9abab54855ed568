//! The auditor: counts accounts and money all along, and once more at the end.

use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bigdecimal::{BigDecimal, ToPrimitive};

use super::Run;
use super::trouble::{self, Trouble};
use crate::driver::{Error, Result, Transaction, TransactionOptions};
use crate::random::Random;

/// How long the last audit may be tried while the cluster recovers.
const LAST_AUDIT_WITHIN: Duration = Duration::from_secs(60);

/// Violations that are told in full; the rest is only counted.
const VIOLATIONS_TOLD_MAX: usize = 10;

/// What the audits found.
#[derive(Default)]
pub struct Audits(Mutex<Findings>);

#[derive(Clone, Debug, Default)]
pub struct Findings {
    pub audits: u64,
    pub violations: u64,
    /// The first violations in words.
    pub told: Vec<String>,
}

impl Audits {
    pub fn findings(&self) -> Findings {
        self.lock().clone()
    }

    fn record(&self, violation: Option<String>) {
        let mut findings = self.lock();
        findings.audits += 1;
        if let Some(violation) = violation {
            findings.violations += 1;
            if findings.told.len() < VIOLATIONS_TOLD_MAX {
                findings.told.push(violation);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Findings> {
        self.0.lock().expect("no one panics while holding this lock")
    }
}

/// Audits until the time is over.
///
/// # Errors
/// When a statement is refused for good.
pub async fn keep_auditing(run: &Run) -> Result<()> {
    while !run.stop.load(Ordering::Relaxed) {
        match audit(run).await {
            Ok(_) => {}
            Err(error) if matches!(trouble::sort(&error), Trouble::Fatal) => return Err(error),
            // The cluster is in trouble, which the clients count; the next audit will tell.
            Err(_) => {}
        }
        pause(run).await;
    }
    Ok(())
}

/// Waits until the next audit is due, or the time is over.
async fn pause(run: &Run) {
    const LOOK_EVERY: Duration = Duration::from_millis(100);
    let until = tokio::time::Instant::now() + run.options.audit_pause;
    while !run.stop.load(Ordering::Relaxed) && tokio::time::Instant::now() < until {
        tokio::time::sleep_until(until.min(tokio::time::Instant::now() + LOOK_EVERY)).await;
    }
}

/// The last audit, when all clients have stopped. Returns the total.
///
/// # Errors
/// When the cluster does not recover in time.
pub async fn check_at_end(run: &Run) -> Result<i128> {
    let started = Instant::now();
    let mut random = Random::seeded(run.options.seed);
    for attempt in 0.. {
        match audit(run).await {
            Ok(total) => return Ok(total),
            Err(error) => {
                let fatal = matches!(trouble::sort(&error), Trouble::Fatal);
                if fatal || started.elapsed() > LAST_AUDIT_WITHIN {
                    return Err(error);
                }
            }
        }
        tokio::time::sleep(trouble::pause(attempt, &mut random)).await;
    }
    unreachable!("attempts are not limited in number")
}

/// One audit, as one read-only transaction.
async fn audit(run: &Run) -> Result<i128> {
    let mut transaction = run.client.begin_with(TransactionOptions::read_only()).await?;
    let counted = count(&mut transaction).await;
    match counted {
        Ok((accounts, total)) => {
            // What was read counts only once the transaction has committed.
            transaction.commit().await?;
            run.audits.record(violation(run, accounts, total));
            Ok(total)
        }
        Err(error) => {
            // If this fails the session has ended, and with it the transaction.
            let _ = transaction.rollback().await;
            Err(error)
        }
    }
}

async fn count(transaction: &mut Transaction) -> Result<(i64, i128)> {
    let row = transaction.query_one("SELECT count(*), sum(balance) FROM bank_accounts", &[]).await?;
    // The sum of INT8s is NUMERIC, and NULL if there is no account left.
    let sum: Option<BigDecimal> = row.get(1)?;
    let total = sum.unwrap_or_default().to_i128();
    let total = total.ok_or_else(|| Error::application("the sum of all balances does not fit into 128 bits"))?;
    Ok((row.get(0)?, total))
}

fn violation(run: &Run, accounts: i64, total: i128) -> Option<String> {
    let (accounts_expected, total_expected) = (run.options.accounts as i64, run.options.expected_total());
    (accounts != accounts_expected || total != total_expected).then(|| {
        format!("found {accounts} accounts with {total} in all, expected {accounts_expected} with {total_expected}")
    })
}
