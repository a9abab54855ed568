//! What a run is to do.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::Notify;

use crate::driver::{Error, Result};

const ACCOUNTS_MAX: u64 = 10_000_000;
const CLIENTS_MAX: usize = 10_000;
const RANGES_MAX: u64 = 10_000;
const SKEW_MAX: f64 = 10.0;

/// The settings of a run.
#[derive(Clone, Debug)]
pub struct BankOptions {
    /// `host:port` of some nodes, separated by commas. The clients are spread over them.
    pub addresses: String,
    pub accounts: u64,
    /// Transfers at a time.
    pub clients: usize,
    pub duration: Duration,
    /// Ranges that the table is split into, of equally many accounts each.
    pub ranges: u64,
    /// The exponent of Zipf's law by which accounts are chosen; 0 chooses all equally often.
    pub skew: f64,
    pub initial_balance: i64,
    /// Seeds the choice of accounts and amounts.
    pub seed: u64,
    /// Where to write the report as JSON.
    pub json: Option<PathBuf>,
    /// Say every second how it goes, on standard error.
    pub progress: bool,
    /// Work on the table as an earlier run with the same accounts and ranges has left it.
    pub loaded: bool,
    /// Between two audits, so that they do not become the load that is measured.
    pub audit_pause: Duration,
    /// Transfers so far, for whoever watches the run.
    pub transferred: Arc<AtomicU64>,
    /// Ends the run before its duration is over, when told.
    pub enough: Arc<Notify>,
}

impl BankOptions {
    /// The defaults, for some nodes.
    pub fn new(addresses: impl Into<String>) -> BankOptions {
        BankOptions {
            addresses: addresses.into(),
            accounts: 1000,
            clients: 64,
            duration: Duration::from_secs(10),
            ranges: 8,
            skew: 0.0,
            initial_balance: 1000,
            seed: 1,
            json: None,
            progress: true,
            loaded: false,
            audit_pause: Duration::from_millis(20),
            transferred: Arc::default(),
            enough: Arc::default(),
        }
    }

    /// # Errors
    /// When a setting makes no sense.
    pub(super) fn check(&self) -> Result<()> {
        let bound = |name: &str, value: u64, min: u64, max: u64| {
            let ok = (min..=max).contains(&value);
            ok.then_some(()).ok_or_else(|| Error::usage(format!("{name} must be from {min} to {max}, not {value}")))
        };
        bound("accounts", self.accounts, 2, ACCOUNTS_MAX)?;
        bound("clients", self.clients as u64, 1, CLIENTS_MAX as u64)?;
        bound("ranges", self.ranges, 1, RANGES_MAX.min(self.accounts))?;
        if !(0.0..=SKEW_MAX).contains(&self.skew) {
            return Err(Error::usage(format!("skew must be from 0 to {SKEW_MAX}, not {}", self.skew)));
        }
        if self.initial_balance < 0 || self.expected_total() > i128::from(i64::MAX) {
            return Err(Error::usage("the initial balances must not be negative, and their sum must fit into INT8"));
        }
        Ok(())
    }

    /// The sum of all balances, at all times.
    pub(super) fn expected_total(&self) -> i128 {
        i128::from(self.initial_balance) * i128::from(self.accounts)
    }

    /// The first account of a range.
    pub(super) fn first_account(&self, range: u64) -> u64 {
        (u128::from(self.accounts) * u128::from(range)).div_ceil(u128::from(self.ranges)) as u64
    }

    /// The range that an account lies in.
    pub(super) fn range_of(&self, account: u64) -> u64 {
        (u128::from(account) * u128::from(self.ranges) / u128::from(self.accounts)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_account_lies_between_the_bounds_of_its_range() {
        for (accounts, ranges) in [(1000, 8), (10, 10), (7, 3), (2, 1), (1000, 7)] {
            let options = BankOptions { accounts, ranges, ..BankOptions::new("a:1") };
            for account in 0..accounts {
                let range = options.range_of(account);
                assert!(options.first_account(range) <= account && account < options.first_account(range + 1));
            }
        }
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let good = BankOptions::new("a:1");
        good.check().unwrap();
        assert!(BankOptions { accounts: 1, ..good.clone() }.check().is_err());
        assert!(BankOptions { ranges: 1001, ..good.clone() }.check().is_err());
        assert!(BankOptions { skew: f64::NAN, ..good.clone() }.check().is_err());
        assert!(BankOptions { initial_balance: i64::MAX, ..good }.check().is_err());
    }
}
