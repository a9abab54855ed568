//! Which two accounts, and how much.

use super::options::BankOptions;
use super::zipf::Zipf;
use crate::random::Random;

/// Draws of a second account in another range, before one is taken there at random. Only a distribution that hardly ever
/// leaves one range needs that many.
const DRAWS_MAX: u32 = 64;

/// One transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    pub from: u64,
    pub to: u64,
    pub amount: i64,
}

/// Chooses transfers.
pub struct Pairs {
    options: BankOptions,
    /// None if all accounts are equally popular.
    zipf: Option<Zipf>,
    /// Popular accounts are this far from each other, so that they are spread over the ranges.
    stride: u64,
}

impl Pairs {
    pub fn new(options: &BankOptions) -> Pairs {
        let zipf = (options.skew > 0.0).then(|| Zipf::new(options.accounts, options.skew));
        Pairs { options: options.clone(), zipf, stride: stride_for(options.accounts) }
    }

    /// Two different accounts, in different ranges if there are several, and an amount that is seldom more than the
    /// account holds.
    pub fn choose(&self, random: &mut Random) -> Transfer {
        let from = self.account(random);
        let to = (0..DRAWS_MAX)
            .map(|_| self.account(random))
            .find(|&to| self.fits(from, to))
            .unwrap_or_else(|| self.other_account(from, random));
        let amount = 1 + random.below((self.options.initial_balance.unsigned_abs() / 100).max(1)) as i64;
        Transfer { from, to, amount }
    }

    fn fits(&self, from: u64, to: u64) -> bool {
        match self.options.ranges {
            1 => from != to,
            _ => self.options.range_of(from) != self.options.range_of(to),
        }
    }

    fn account(&self, random: &mut Random) -> u64 {
        match &self.zipf {
            None => random.below(self.options.accounts),
            Some(zipf) => {
                let rank = zipf.sample(random);
                (u128::from(rank) * u128::from(self.stride) % u128::from(self.options.accounts)) as u64
            }
        }
    }

    /// An account that fits, all being equally likely.
    fn other_account(&self, from: u64, random: &mut Random) -> u64 {
        let (start, end) = match self.options.ranges {
            1 => (from, from + 1),
            _ => {
                let range = self.options.range_of(from);
                (self.options.first_account(range), self.options.first_account(range + 1))
            }
        };
        let to = random.below(self.options.accounts - (end - start));
        if to < start { to } else { to + (end - start) }
    }
}

/// A number without a common divisor with `accounts`, near its golden section: multiples of it modulo `accounts`
/// visit each account once, neighbours far apart.
fn stride_for(accounts: u64) -> u64 {
    let golden = (accounts as f64 * 0.618) as u64;
    (golden.max(1)..).find(|&stride| gcd(stride, accounts) == 1).expect("there is a prime above every number")
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn check(options: BankOptions) {
        let (pairs, mut random) = (Pairs::new(&options), Random::seeded(5));
        for _ in 0..10_000 {
            let Transfer { from, to, amount } = pairs.choose(&mut random);
            assert!(from < options.accounts && to < options.accounts && from != to && amount > 0);
            assert!(options.ranges == 1 || options.range_of(from) != options.range_of(to));
        }
    }

    #[test]
    fn a_transfer_crosses_ranges_whenever_it_can() {
        for skew in [0.0, 0.99, 10.0] {
            for (accounts, ranges) in [(2, 1), (2, 2), (1000, 1), (1000, 2), (1000, 8), (10, 3)] {
                check(BankOptions { accounts, ranges, skew, ..BankOptions::new("a:1") });
            }
        }
    }

    #[test]
    fn both_orders_of_a_pair_happen() {
        let options = BankOptions { accounts: 4, ranges: 2, ..BankOptions::new("a:1") };
        let (pairs, mut random) = (Pairs::new(&options), Random::seeded(5));
        let seen: BTreeSet<_> = (0..1000).map(|_| pairs.choose(&mut random)).map(|t| (t.from, t.to)).collect();
        assert_eq!(seen.len(), 8);
    }

    #[test]
    fn ranks_are_spread_over_all_accounts() {
        for accounts in [2, 3, 10, 1000, 1024] {
            let stride = stride_for(accounts);
            let visited: BTreeSet<u64> = (0..accounts).map(|rank| rank * stride % accounts).collect();
            assert_eq!(visited.len() as u64, accounts);
        }
    }
}
