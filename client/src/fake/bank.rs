//! Accounts in memory, with optimistic transactions: a commit fails if anything that it read has changed.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// An account's balance and how often it was written.
type Versioned = (i64, u64);

#[derive(Default)]
pub struct Bank {
    accounts: Mutex<BTreeMap<i64, Versioned>>,
    begun: AtomicU64,
    commits: AtomicU64,
    /// How the transactions ended that were begun in a block, by their ids.
    outcomes: Mutex<BTreeMap<u64, bool>>,
    /// The next answer to a COMMIT is lost, after (true) or before the commit has taken effect.
    pub lose_commit: Mutex<Option<bool>>,
    /// The next statement that writes is lost before it is answered.
    pub lose_statement: Mutex<bool>,
    /// New sessions find nobody.
    pub refuse_sessions: AtomicBool,
    /// Lets audits miss one unit of money.
    pub embezzle: AtomicBool,
}

/// A transaction's reads and its buffered writes.
#[derive(Default)]
pub struct BankTransaction {
    id: u64,
    snapshot: BTreeMap<i64, Versioned>,
    read: BTreeMap<i64, u64>,
    written: BTreeMap<i64, i64>,
}

impl Bank {
    pub fn begin(&self) -> BankTransaction {
        let id = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        BankTransaction { id, snapshot: self.accounts.lock().unwrap().clone(), ..Default::default() }
    }

    /// Whether the transaction took effect.
    pub fn commit(&self, transaction: BankTransaction) -> bool {
        let mut accounts = self.accounts.lock().unwrap();
        let version = |accounts: &BTreeMap<i64, Versioned>, id: &i64| accounts.get(id).map_or(0, |a| a.1);
        let ended = |took_effect| self.outcomes.lock().unwrap().insert(transaction.id, took_effect);
        // Somebody has asked how it ended, and was told that it did not.
        let given_up = self.outcomes.lock().unwrap().contains_key(&transaction.id);
        if given_up || transaction.read.iter().any(|(id, read)| version(&accounts, id) != *read) {
            ended(false);
            return false;
        }
        for (id, balance) in &transaction.written {
            let next = version(&accounts, id) + 1;
            accounts.insert(*id, (*balance, next));
        }
        self.commits.fetch_add(1, Ordering::Relaxed);
        ended(true);
        true
    }

    /// Whether a transaction took effect. One that has not ended never will.
    pub fn outcome(&self, id: u64) -> bool {
        *self.outcomes.lock().unwrap().entry(id).or_insert(false)
    }

    pub fn clear(&self) {
        self.accounts.lock().unwrap().clear();
    }

    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// How many accounts there are, and their money.
    pub fn count(&self, transaction: &BankTransaction) -> (i64, i64) {
        let total: i64 = transaction.snapshot.values().map(|a| a.0).sum();
        let missing = i64::from(self.embezzle.load(Ordering::Relaxed));
        (transaction.snapshot.len() as i64, total - missing)
    }
}

impl BankTransaction {
    pub fn read(&mut self, id: i64) -> Option<i64> {
        let (balance, version) = *self.snapshot.get(&id)?;
        self.read.insert(id, version);
        Some(self.written.get(&id).copied().unwrap_or(balance))
    }

    pub fn write(&mut self, id: i64, balance: i64) {
        self.written.insert(id, balance);
    }

    /// Its id, once it has written.
    pub fn id(&self) -> Option<u64> {
        (!self.written.is_empty()).then_some(self.id)
    }
}
