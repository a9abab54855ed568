//! The lock table: places in the queue for contended rows.
//!
//! Locks exist for throughput only: rows that many want to read and write are handed from one transaction to the next
//! instead of failing each other's validation. Correctness never rests on them, so they live in the leader's memory, a
//! failover loses them, and they expire when their transaction falls silent.
//!
//! Who waits stands in order of age: the oldest is next. Deadlock is excluded by *wound-wait*: an older transaction that
//! has waited for a younger holder longer than a grace period takes the lock; the grace lets a holder that is about to
//! finish do so. As no older transaction waits for a younger one for ever, no cycle can last.
//!
//! Source: Rosenkrantz, Stearns and Lewis, "System level concurrency control for distributed database systems", 1978.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proto::transaction::Ousting;
use proto::{Key, Timestamp, TxnId};

/// A transaction's rank: the smaller is the older and wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    pub priority: Timestamp,
    pub txn: TxnId,
}

#[derive(Debug)]
struct Lock {
    holder: Rank,
    /// By rank; since when.
    waiting: BTreeMap<Rank, Duration>,
}

/// Times that govern the lock table.
#[derive(Clone, Copy, Debug)]
pub struct LockTimes {
    /// How long an older transaction waits before it takes a lock from a younger one.
    pub wound_after: Duration,
    /// How long a silent transaction keeps its locks and places.
    pub expire_after: Duration,
}

/// What became of a wish for a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acquired {
    Yes,
    Waiting,
    /// An older transaction has taken one of this transaction's locks here.
    Wounded(Ousting),
}

/// The lock table of one range's leader. Times are on the store's monotonic clock.
#[derive(Debug)]
pub struct LockTable {
    times: LockTimes,
    locks: BTreeMap<Key, Lock>,
    /// The keys that each transaction holds or waits for, and when it was last heard of.
    transactions: BTreeMap<TxnId, (BTreeSet<Key>, Duration)>,
    /// Transactions that lost a lock, by whom, and when.
    wounded: BTreeMap<TxnId, (Ousting, Duration)>,
}

impl LockTable {
    pub fn new(times: LockTimes) -> LockTable {
        LockTable { times, locks: BTreeMap::new(), transactions: BTreeMap::new(), wounded: BTreeMap::new() }
    }

    /// Takes a lock or a place in its queue. Asking again keeps the place.
    pub fn acquire(&mut self, now: Duration, key: &Key, rank: Rank) -> Acquired {
        if let Some((by, _)) = self.wounded.get(&rank.txn) {
            return Acquired::Wounded(by.clone());
        }
        let (keys, seen) = self.transactions.entry(rank.txn).or_default();
        keys.insert(key.clone());
        *seen = now;
        let Some(lock) = self.locks.get_mut(key) else {
            self.locks.insert(key.clone(), Lock { holder: rank, waiting: BTreeMap::new() });
            return Acquired::Yes;
        };
        if lock.holder.txn == rank.txn {
            return Acquired::Yes;
        }
        lock.waiting.entry(rank).or_insert(now);
        self.advance(now, key);
        if self.locks[key].holder.txn == rank.txn { Acquired::Yes } else { Acquired::Waiting }
    }

    /// Hands a lock on where the wound-wait rule says so.
    fn advance(&mut self, now: Duration, key: &Key) {
        let Some(lock) = self.locks.get_mut(key) else { return };
        let Some((&oldest, &since)) = lock.waiting.first_key_value() else { return };
        if oldest < lock.holder && now.saturating_sub(since) >= self.times.wound_after {
            let victim = lock.holder.txn;
            lock.waiting.remove(&oldest);
            lock.holder = oldest;
            let ousting = Ousting { by: oldest.txn, key: key.clone(), silent: false };
            self.wounded.insert(victim, (ousting, now));
            if let Some((keys, _)) = self.transactions.get_mut(&victim) {
                keys.remove(key);
            }
        }
    }

    /// A sign of life.
    pub fn keep(&mut self, now: Duration, txn: TxnId) {
        if let Some((_, seen)) = self.transactions.get_mut(&txn) {
            *seen = now;
        }
    }

    /// Gives up all locks and places of a transaction. Returns the keys whose lock has a new holder.
    pub fn release(&mut self, txn: TxnId) -> Vec<Key> {
        self.wounded.remove(&txn);
        let Some((keys, _)) = self.transactions.remove(&txn) else { return Vec::new() };
        let mut handed_on = Vec::new();
        for key in keys {
            let Some(lock) = self.locks.get_mut(&key) else { continue };
            if lock.holder.txn != txn {
                lock.waiting.retain(|rank, _| rank.txn != txn);
                continue;
            }
            match lock.waiting.pop_first() {
                Some((next, _)) => {
                    lock.holder = next;
                    handed_on.push(key);
                }
                None => {
                    self.locks.remove(&key);
                }
            }
        }
        handed_on
    }

    /// Who took a lock from this transaction.
    pub fn wounded_by(&self, txn: TxnId) -> Option<TxnId> {
        self.wounded.get(&txn).map(|(ousting, _)| ousting.by)
    }

    /// Applies the passage of time: expires silent transactions and wounds young holders. Returns whether any lock
    /// may have changed hands.
    pub fn tick(&mut self, now: Duration) -> bool {
        let expired: Vec<TxnId> = self
            .transactions
            .iter()
            .filter(|(_, (_, seen))| now.saturating_sub(*seen) >= self.times.expire_after)
            .map(|(txn, _)| *txn)
            .collect();
        let mut changed = !expired.is_empty();
        for txn in expired {
            self.release(txn);
        }
        self.wounded.retain(|_, (_, at)| now.saturating_sub(*at) < self.times.expire_after * 4);
        let contended: Vec<Key> =
            self.locks.iter().filter(|(_, lock)| !lock.waiting.is_empty()).map(|(key, _)| key.clone()).collect();
        let wounded = self.wounded.len();
        for key in contended {
            self.advance(now, &key);
        }
        changed |= self.wounded.len() != wounded;
        changed
    }

    /// Whether anybody holds or awaits anything.
    pub fn is_empty(&self) -> bool {
        self.transactions.is_empty() && self.wounded.is_empty()
    }

    /// Forgets everything: leadership is lost.
    pub fn clear(&mut self) {
        *self = LockTable::new(self.times);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> LockTable {
        LockTable::new(LockTimes { wound_after: Duration::from_millis(10), expire_after: Duration::from_secs(5) })
    }

    fn rank(n: u64) -> Rank {
        Rank { priority: Timestamp(n), txn: TxnId(n.into()) }
    }

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn the_oldest_waiter_is_next() {
        let mut t = table();
        let k = Key::from("k");
        assert_eq!(t.acquire(ms(0), &k, rank(1)), Acquired::Yes);
        assert_eq!(t.acquire(ms(1), &k, rank(3)), Acquired::Waiting);
        assert_eq!(t.acquire(ms(2), &k, rank(2)), Acquired::Waiting);
        assert_eq!(t.release(TxnId(1)), vec![k.clone()]);
        assert_eq!(t.acquire(ms(3), &k, rank(2)), Acquired::Yes);
        assert_eq!(t.acquire(ms(3), &k, rank(3)), Acquired::Waiting);
    }

    #[test]
    fn opposite_orders_end_with_the_older_one_winning() {
        let mut t = table();
        let (a, b) = (Key::from("a"), Key::from("b"));
        assert_eq!(t.acquire(ms(0), &a, rank(1)), Acquired::Yes);
        assert_eq!(t.acquire(ms(0), &b, rank(2)), Acquired::Yes);
        assert_eq!(t.acquire(ms(1), &a, rank(2)), Acquired::Waiting);
        assert_eq!(t.acquire(ms(1), &b, rank(1)), Acquired::Waiting);
        assert!(t.tick(ms(20)));
        assert_eq!(t.acquire(ms(20), &b, rank(1)), Acquired::Yes);
        assert_eq!(
            t.acquire(ms(20), &a, rank(2)),
            Acquired::Wounded(Ousting { by: TxnId(1), key: b.clone(), silent: false })
        );
        t.release(TxnId(2));
        assert_eq!(t.acquire(ms(21), &a, rank(3)), Acquired::Waiting);
    }

    #[test]
    fn a_silent_transaction_loses_its_locks() {
        let mut t = table();
        let k = Key::from("k");
        assert_eq!(t.acquire(ms(0), &k, rank(1)), Acquired::Yes);
        assert_eq!(t.acquire(ms(4000), &k, rank(2)), Acquired::Waiting);
        assert!(!t.tick(ms(4900)));
        assert!(t.tick(ms(5000)));
        assert_eq!(t.acquire(ms(5001), &k, rank(2)), Acquired::Yes);
    }

    #[test]
    fn nothing_is_left_behind() {
        let mut t = table();
        for n in 1..50 {
            let _ = t.acquire(ms(n), &Key(vec![(n % 7) as u8]), rank(n));
        }
        for n in 1..50u64 {
            t.release(TxnId(n.into()));
        }
        assert!(t.is_empty() && t.locks.is_empty());
    }
}
