//! The bank: transfers between accounts, an auditor that adds them up, and a ledger of what was acknowledged.
//!
//! Each transfer reads two accounts, moves an amount and writes a ledger row of its own, all in one transaction, so that three
//! ranges may take part, and so that every acknowledged transfer can be looked for at the end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use proto::{Key, Span, Timestamp, codec, keyspace};
use server::kv::{BeginOptions, Db, Error, Isolation, Kv, Lock, ScanOptions};
use server::sql::Session;

use super::operation::{ACCOUNTS, Action, Agenda};
use super::{Tally, Workload, ago, clients_of, scan_all, sql_bank};
use crate::check;

/// What is in each account at first.
pub const BALANCE: i64 = 100;

/// Where an account lies.
pub fn account_key(account: u64) -> Key {
    Key([&[keyspace::APPLICATION], b"account/".as_slice(), &account.to_be_bytes()].concat())
}

fn ledger_key(transfer: u64) -> Key {
    Key([&[keyspace::APPLICATION], b"ledger/".as_slice(), &transfer.to_be_bytes()].concat())
}

fn ledger_number(key: &Key) -> u64 {
    let prefix = ledger_key(0).0.len() - 8;
    u64::from_be_bytes(key.0[prefix..].try_into().expect("a ledger key ends in 8 bytes"))
}

/// Splits the accounts at one of them.
///
/// # Errors
/// Whatever the database says.
async fn split(db: &Db, layer: Layer, account: u64) -> Result<(), Error> {
    if layer == Layer::Sql {
        let mut session = sql_bank::session(&sql_bank::open(db));
        let text = format!("ALTER TABLE accounts SPLIT AT VALUES ({account})");
        return sql_bank::run(&mut session, &text, &[]).await.map(drop).map_err(|e| explained(&e));
    }
    db.split(&account_key(account)).await
}

fn accounts_span() -> Span {
    Span { start: account_key(0), end: account_key(u64::MAX) }
}

fn ledger_span() -> Span {
    Span { start: ledger_key(0), end: ledger_key(u64::MAX) }
}

/// How a transfer ended, as its client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Committed {
        timestamp: Timestamp,
    },
    /// Certainly without effect.
    Failed,
    Unknown,
}

/// A transfer as its client saw it. Times are nanoseconds of simulated (true) time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    pub started: u64,
    pub ended: u64,
    pub ending: Ending,
}

/// An audit as the auditor saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    pub started: u64,
    pub ended: u64,
    pub found: Found,
}

/// What an audit's transaction read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub timestamp: Timestamp,
    pub accounts: u64,
    pub total: i64,
    /// The last transfers in the ledger, the greatest number first; at most [`RECENT_MAX`].
    pub recent: Vec<u64>,
}

/// How much of the ledger an audit looks at.
pub const RECENT_MAX: usize = 30;

/// Everything that the clients remember; outlives their nodes.
#[derive(Debug, Default)]
pub struct History {
    next: u64,
    /// Begun and not ended: their clients died with their node, so their endings are unknown.
    pub open: BTreeMap<u64, u64>,
    pub transfers: BTreeMap<u64, Transfer>,
    pub audits: Vec<Audit>,
    /// Audits of the past. When they were made does not matter.
    pub past: Vec<Found>,
    /// Errors that no fault explains.
    pub surprises: Vec<String>,
    pub retries: u64,
    /// What the ledger holds in the end; none if the database did not tell.
    pub ledger: Option<Vec<u64>>,
}

/// Through which layer the clients speak to the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layer {
    /// Transactions over keys.
    #[default]
    Keys,
    /// Statements of a SQL session.
    Sql,
}

/// The bank's clients.
#[derive(Clone, Default)]
pub struct Bank {
    pub layer: Layer,
    pub history: Arc<Mutex<History>>,
    agenda: Agenda,
    stopped: Arc<Mutex<bool>>,
}

/// What a transfer is to do.
#[derive(Clone, Copy)]
struct Order {
    from: u64,
    to: u64,
    amount: i64,
    lock: bool,
}

/// What one client has: a gateway, and a session if it speaks SQL.
struct Desk {
    db: Db,
    session: Option<Session>,
}

impl Desk {
    fn open(db: &Db, layer: Layer) -> Desk {
        let session = (layer == Layer::Sql).then(|| sql_bank::session(&sql_bank::open(db)));
        Desk { db: db.clone(), session }
    }
}

/// What an SQL error means; what no fault explains is called corrupt here.
fn explained(error: &server::sql::Error) -> Error {
    sql_bank::cause(error).unwrap_or_else(|| Error::Corrupt(format!("{} {}", error.sqlstate, error.message)))
}

impl Bank {
    pub fn new(layer: Layer, agenda: Agenda) -> Bank {
        Bank { layer, agenda, ..Bank::default() }
    }

    /// Writes the accounts' first balances.
    ///
    /// # Errors
    /// Whatever the database says.
    async fn open(db: &Db, layer: Layer) -> Result<(), Error> {
        if layer == Layer::Sql {
            return sql_bank::load(&sql_bank::open(db)).await.map_err(|e| explained(&e));
        }
        let mut txn = db.begin(BeginOptions::default()).await?;
        for account in 0..ACCOUNTS {
            txn.put(account_key(account), codec::encode(&BALANCE))?;
        }
        txn.commit().await.map(drop)
    }

    fn is_stopped(&self) -> bool {
        *self.stopped.lock().expect("no holder of this lock panics")
    }

    fn with<T>(&self, f: impl FnOnce(&mut History) -> T) -> T {
        f(&mut self.history.lock().expect("no holder of this lock panics"))
    }

    async fn work(&self, db: &Db, client: usize) {
        let mut desk = Desk::open(db, self.layer);
        while let Some(operation) = self.agenda.next(client).filter(|_| !self.is_stopped()) {
            match operation.action {
                Action::Transfer { from, to, amount, lock } => {
                    let order = Order { from, to, amount: amount as i64, lock };
                    self.transfer_and_note(&mut desk, order).await;
                }
                Action::ScanPast { back_us } => self.audit_past(db, ago(db, Duration::from_micros(back_us))).await,
                _ => self.audit_and_note(db).await,
            }
            db.sleep(Duration::from_micros(operation.rest_us)).await;
        }
    }

    async fn transfer_and_note(&self, desk: &mut Desk, order: Order) {
        let now = |desk: &Desk| desk.db.monotonic().as_nanos() as u64;
        let transfer = self.with(|h| {
            h.next += 1;
            h.next
        });
        let started = now(desk);
        self.with(|h| h.open.insert(transfer, started));
        let ending = self.transfer(desk, transfer, order).await;
        let ended = now(desk);
        self.with(|h| {
            h.open.remove(&transfer);
            h.transfers.insert(transfer, Transfer { started, ended, ending });
        });
    }

    async fn transfer(&self, desk: &mut Desk, transfer: u64, order: Order) -> Ending {
        let mut options = BeginOptions::default();
        loop {
            match self.try_transfer(desk, transfer, order, &mut options).await {
                Ok(timestamp) => return Ending::Committed { timestamp },
                Err(Error::Retry(_)) => {
                    self.with(|h| h.retries += 1);
                    desk.db.sleep(Duration::from_micros(desk.db.random() as u64 % 5_000)).await;
                }
                Err(Error::OutcomeUnknown { .. }) => return Ending::Unknown,
                Err(Error::Unavailable(_)) => return Ending::Failed,
                Err(other) => {
                    self.with(|h| h.surprises.push(other.to_string()));
                    return Ending::Failed;
                }
            }
        }
    }

    async fn try_transfer(
        &self,
        desk: &mut Desk,
        transfer: u64,
        Order { from, to, amount, lock }: Order,
        options: &mut BeginOptions,
    ) -> Result<Timestamp, Error> {
        let db = desk.db.clone();
        // Some transfers lock, some rely on validation alone.
        let lock = if lock { Lock::Exclusive } else { Lock::None };
        if let Some(session) = &mut desk.session {
            let result = sql_bank::transfer(session, transfer, (from, to, amount), lock == Lock::Exclusive).await;
            if result.is_err() {
                // Whatever it answers: the transaction is over.
                let _ = sql_bank::run(session, "ROLLBACK", &[]).await;
            }
            return result.map_err(|e| explained(&e));
        }
        let mut txn = db.begin(BeginOptions { isolation: Isolation::Serializable, ..options.clone() }).await?;
        options.priority = Some(txn.priority());
        let mut balances = Vec::new();
        for account in [from, to] {
            let value = txn.get(&[account_key(account)], lock).await?.pop().flatten();
            balances.push(decode_balance(value)?);
        }
        txn.put(account_key(from), codec::encode(&(balances[0] - amount)))?;
        txn.put(account_key(to), codec::encode(&(balances[1] + amount)))?;
        txn.put(ledger_key(transfer), codec::encode(&amount))?;
        Ok(txn.commit().await?.timestamp)
    }

    async fn audit_and_note(&self, db: &Db) {
        let started = db.monotonic().as_nanos() as u64;
        match Bank::audit(db, self.layer, None).await {
            Ok(found) => {
                let ended = db.monotonic().as_nanos() as u64;
                self.with(|h| h.audits.push(Audit { started, ended, found }));
            }
            Err(Error::Unavailable(_) | Error::Retry(_)) => {}
            Err(other) => self.with(|h| h.surprises.push(other.to_string())),
        }
    }

    async fn audit_past(&self, db: &Db, at: Timestamp) {
        match Bank::audit(db, self.layer, Some(at)).await {
            Ok(found) => self.with(|h| h.past.push(found)),
            Err(Error::Unavailable(_) | Error::Retry(_)) => {}
            Err(other) => self.with(|h| h.surprises.push(other.to_string())),
        }
    }

    /// Adds up the accounts, and looks at the end of the ledger, in one transaction: now, or as they were.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn audit(db: &Db, layer: Layer, at: Option<Timestamp>) -> Result<Found, Error> {
        if layer == Layer::Sql {
            let mut session = sql_bank::session(&sql_bank::open(db));
            return sql_bank::audit(&mut session, at).await.map_err(|e| explained(&e));
        }
        let mut txn = db.begin(BeginOptions { read_only: true, at, ..BeginOptions::default() }).await?;
        let rows = scan_all(txn.as_mut(), accounts_span(), 5).await?;
        let mut total = 0;
        for (_, value) in &rows {
            total += decode_balance(Some(value.clone()))?;
        }
        let last = ScanOptions { rows_max: RECENT_MAX, reverse: true, ..ScanOptions::default() };
        let mut recent = Vec::new();
        let mut rest = Some(ledger_span());
        while let Some(span) = rest.filter(|_| recent.len() < RECENT_MAX) {
            let page = txn.scan(&span, last).await?;
            recent.extend(page.rows.iter().map(|(key, _)| ledger_number(key)));
            rest = page.resume;
        }
        recent.truncate(RECENT_MAX);
        let timestamp = txn.read_timestamp();
        txn.commit().await?;
        Ok(Found { timestamp, accounts: rows.len() as u64, total, recent })
    }

    /// The numbers of all transfers in the ledger.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn ledger(db: &Db, layer: Layer) -> Result<Vec<u64>, Error> {
        if layer == Layer::Sql {
            let mut session = sql_bank::session(&sql_bank::open(db));
            return sql_bank::ledger(&mut session).await.map_err(|e| explained(&e));
        }
        let mut txn = db.begin(BeginOptions { read_only: true, ..BeginOptions::default() }).await?;
        let rows = scan_all(txn.as_mut(), ledger_span(), 1000).await?;
        txn.commit().await?;
        Ok(rows.iter().map(|(key, _)| ledger_number(key)).collect())
    }
}

impl Workload for Bank {
    fn load(&self, db: Db) -> BoxFuture<'static, Result<(), Error>> {
        let layer = self.layer;
        Box::pin(async move { Bank::open(&db, layer).await })
    }

    fn tasks(&self, db: &Db) -> Vec<BoxFuture<'static, ()>> {
        clients_of(db, |client| {
            let (bank, db) = (self.clone(), db.clone());
            Box::pin(async move { bank.work(&db, client).await })
        })
    }

    fn split(&self, db: Db, dice: u64) -> BoxFuture<'static, ()> {
        let layer = self.layer;
        // Under faults it may fail; the next one may not.
        Box::pin(async move { drop(split(&db, layer, dice % ACCOUNTS).await) })
    }

    fn stop(&self) {
        *self.stopped.lock().expect("no holder of this lock panics") = true;
    }

    fn finish(&self, db: Db) -> BoxFuture<'static, Result<(), Error>> {
        let bank = self.clone();
        Box::pin(async move {
            let ledger = Bank::ledger(&db, bank.layer).await?;
            bank.with(|h| h.ledger = Some(ledger));
            Bank::audit(&db, bank.layer, None).await.map(drop)
        })
    }

    fn judge(&self, real_time: bool) -> Vec<String> {
        // What became of the transfers cannot be judged without the ledger.
        self.with(|h| h.ledger.as_ref().map_or(Vec::new(), |ledger| check::bank::violations(h, ledger, real_time)))
    }

    fn tally(&self) -> Tally {
        self.with(|h| {
            let ended = |wanted: fn(&Ending) -> bool| h.transfers.values().filter(|t| wanted(&t.ending)).count();
            Tally {
                committed: ended(|e| matches!(e, Ending::Committed { .. })),
                unknown: ended(|e| matches!(e, Ending::Unknown)) + h.open.len(),
                audits: h.audits.len(),
                retries: h.retries,
            }
        })
    }

    fn agenda(&self) -> &Agenda {
        &self.agenda
    }
}

fn decode_balance(value: Option<Vec<u8>>) -> Result<i64, Error> {
    let value = value.ok_or_else(|| Error::Corrupt("an account is gone".into()))?;
    codec::decode("a balance", &value).map_err(|e| Error::Corrupt(e.to_string()))
}
