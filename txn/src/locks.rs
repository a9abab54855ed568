//! The lock table: places in the queue for contended rows.
//!
//! Locks exist for throughput only: rows that many want to read and write are handed from one transaction to the next
//! instead of failing each other's validation. Correctness never rests on them, so they live in the leader's memory, a
//! failover loses them, and they expire when their transaction falls silent.
//!
//! Who waits stands in order of age: the oldest is next. Deadlock is excluded by *wound-wait*: an older transaction that
//! has waited for a younger holder longer than a grace period takes the lock; the grace lets a holder that is about to
//! finish do so. As no older transaction waits for a younger one for ever, no cycle can last. A cycle inside one table is seen
//! at once and need not last even that long: the youngest in it is wounded.
//!
//! A wounded transaction has to run again, so it gives up all that it holds here; its rank it keeps.
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
    /// Whether a lock was taken from someone since the table was last asked.
    taken: bool,
}

impl LockTable {
    pub fn new(times: LockTimes) -> LockTable {
        LockTable {
            times,
            locks: BTreeMap::new(),
            transactions: BTreeMap::new(),
            wounded: BTreeMap::new(),
            taken: false,
        }
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
        if self.holds(rank.txn, key) {
            return Acquired::Yes;
        }
        self.break_cycles(now, rank);
        match self.wounded.get(&rank.txn) {
            Some((by, _)) => Acquired::Wounded(by.clone()),
            None if self.holds(rank.txn, key) => Acquired::Yes,
            None => Acquired::Waiting,
        }
    }

    fn holds(&self, txn: TxnId, key: &Key) -> bool {
        self.locks.get(key).is_some_and(|lock| lock.holder.txn == txn)
    }

    /// Wounds the youngest of each cycle that a waiting transaction closes.
    fn break_cycles(&mut self, now: Duration, rank: Rank) {
        while let Some(cycle) = self.cycle_through(rank) {
            let Some((youngest, key)) = cycle.iter().max_by_key(|(holder, _)| *holder).cloned() else { return };
            let waits = |(holder, _): &&(Rank, Key)| self.locks[&key].waiting.contains_key(holder);
            let Some((by, _)) = cycle.iter().find(waits) else { return };
            let ousting = Ousting { by: by.txn, key, silent: false };
            self.wound(now, youngest.txn, ousting);
        }
    }

    /// Transactions each of which waits for the next one, and the last for the first: with the key that each holds.
    fn cycle_through(&self, start: Rank) -> Option<Vec<(Rank, Key)>> {
        // Depth first. A node that led nowhere once is not looked at again.
        let mut path: Vec<(Rank, Key)> = Vec::new();
        let mut open = vec![self.waits_for(start.txn)];
        let mut visited = BTreeSet::new();
        while let Some(next) = open.last_mut() {
            match next.pop() {
                None => {
                    open.pop();
                    path.pop();
                }
                Some((holder, key)) if holder == start => {
                    path.push((holder, key));
                    return Some(path);
                }
                Some((holder, key)) => {
                    if visited.insert(holder) {
                        open.push(self.waits_for(holder.txn));
                        path.push((holder, key));
                    }
                }
            }
        }
        None
    }

    /// Who holds what a transaction waits for.
    fn waits_for(&self, txn: TxnId) -> Vec<(Rank, Key)> {
        let Some((keys, _)) = self.transactions.get(&txn) else { return Vec::new() };
        let held = keys.iter().filter_map(|key| Some((self.locks.get(key)?.holder, key.clone())));
        held.filter(|(holder, _)| holder.txn != txn).collect()
    }

    /// Takes everything from a transaction; the oldest who wait for it come next.
    fn wound(&mut self, now: Duration, victim: TxnId, ousting: Ousting) {
        self.release(victim);
        self.wounded.insert(victim, (ousting, now));
        self.taken = true;
    }

    /// Whether locks were taken from anyone since this was last asked: those who wait may have them, or may have lost their place.
    pub fn were_taken(&mut self) -> bool {
        std::mem::take(&mut self.taken)
    }

    /// Hands a lock on where the wound-wait rule says so.
    fn advance(&mut self, now: Duration, key: &Key) {
        let Some(lock) = self.locks.get(key) else { return };
        let Some((&oldest, &since)) = lock.waiting.first_key_value() else { return };
        if oldest < lock.holder && now.saturating_sub(since) >= self.times.wound_after {
            let victim = lock.holder.txn;
            self.wound(now, victim, Ousting { by: oldest.txn, key: key.clone(), silent: false });
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
        for key in contended {
            self.advance(now, &key);
        }
        changed |= self.were_taken();
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
        // Nobody waits out any grace.
        assert_eq!(t.acquire(ms(1), &b, rank(1)), Acquired::Yes);
        assert!(t.were_taken() && !t.were_taken());
        assert_eq!(
            t.acquire(ms(1), &a, rank(2)),
            Acquired::Wounded(Ousting { by: TxnId(1), key: b.clone(), silent: false })
        );
        t.release(TxnId(2));
        assert_eq!(t.acquire(ms(2), &a, rank(3)), Acquired::Waiting);
    }

    #[test]
    fn the_youngest_of_a_cycle_is_wounded_whoever_closes_it() {
        for closing in 1..=3 {
            let mut t = table();
            let keys = [Key::from("a"), Key::from("b"), Key::from("c")];
            for n in 1..=3 {
                assert_eq!(t.acquire(ms(0), &keys[n - 1], rank(n as u64)), Acquired::Yes);
            }
            let waits: Vec<usize> = (1..=3).filter(|n| *n != closing).chain([closing]).collect();
            for n in &waits[..2] {
                assert_eq!(t.acquire(ms(1), &keys[n % 3], rank(*n as u64)), Acquired::Waiting);
            }
            // A bystander in the queue is no part of the cycle.
            assert_eq!(t.acquire(ms(1), &keys[0], rank(9)), Acquired::Waiting);
            let last = t.acquire(ms(1), &keys[closing % 3], rank(closing as u64));
            match closing {
                2 => assert_eq!(last, Acquired::Yes),
                1 => assert_eq!(last, Acquired::Waiting),
                _ => assert!(matches!(last, Acquired::Wounded(by) if by.by == TxnId(2)), "{closing}"),
            }
            assert_eq!(t.wounded_by(TxnId(3)), Some(TxnId(2)), "{closing}");
            assert!(t.wounded_by(TxnId(1)).is_none() && t.wounded_by(TxnId(2)).is_none());
        }
    }

    #[test]
    fn a_younger_holder_that_waits_for_nobody_is_given_its_grace() {
        let mut t = table();
        let k = Key::from("k");
        assert_eq!(t.acquire(ms(0), &k, rank(2)), Acquired::Yes);
        assert_eq!(t.acquire(ms(1), &k, rank(1)), Acquired::Waiting);
        assert!(!t.tick(ms(10)));
        assert!(t.tick(ms(11)));
        assert_eq!(t.acquire(ms(11), &k, rank(1)), Acquired::Yes);
        assert_eq!(t.wounded_by(TxnId(2)), Some(TxnId(1)));
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
