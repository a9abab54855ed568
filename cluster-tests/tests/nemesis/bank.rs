//! Transfers and audits through the driver.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use client::driver::{Client, Error, TransactionOptions};
use cluster_tests::check;
use cluster_tests::workload::bank::{Audit, BALANCE, Ending, Found, History, RECENT_MAX, Transfer};
use cluster_tests::workload::operation::ACCOUNTS;
use futures::future::BoxFuture;
use proto::Timestamp;

use super::clients::{Failure, Verdict, connect, insist};

const CLIENTS: usize = 6;

/// The bank's clients, and what they remember.
#[derive(Clone)]
pub struct Bank {
    addresses: Vec<String>,
    began: Instant,
    history: Arc<Mutex<History>>,
    next: Arc<Mutex<u64>>,
    stopped: Arc<AtomicBool>,
}

impl Bank {
    pub async fn open(addresses: &[String]) -> Bank {
        let client = connect(addresses).await;
        insist(&client, "CREATE TABLE IF NOT EXISTS accounts (id INT8 PRIMARY KEY, balance INT8 NOT NULL)").await;
        insist(&client, "CREATE TABLE IF NOT EXISTS ledger (id INT8 PRIMARY KEY, amount INT8 NOT NULL)").await;
        let rows: Vec<String> = (0..ACCOUNTS).map(|account| format!("({account}, {BALANCE})")).collect();
        insist(&client, &format!("INSERT INTO accounts VALUES {} ON CONFLICT DO NOTHING", rows.join(", "))).await;
        insist(&client, &format!("ALTER TABLE accounts SPLIT AT VALUES ({})", ACCOUNTS / 2)).await;
        Bank {
            addresses: addresses.to_vec(),
            began: Instant::now(),
            history: Arc::default(),
            next: Arc::default(),
            stopped: Arc::default(),
        }
    }

    pub fn clients(&self) -> Vec<BoxFuture<'static, ()>> {
        let mut clients: Vec<BoxFuture<'static, ()>> = Vec::new();
        for number in 0..CLIENTS {
            let bank = self.clone();
            clients.push(Box::pin(async move { bank.transfer_on_and_on(number as u64).await }));
        }
        let bank = self.clone();
        clients.push(Box::pin(async move { bank.audit_on_and_on().await }));
        clients
    }

    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Transfers that were acknowledged so far.
    pub fn committed(&self) -> usize {
        let committed = |transfer: &&Transfer| matches!(transfer.ending, Ending::Committed { .. });
        self.with(|history| history.transfers.values().filter(committed).count())
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).expect("tests are short")
    }

    fn with<T>(&self, f: impl FnOnce(&mut History) -> T) -> T {
        f(&mut self.history.lock().expect("no client panics"))
    }

    async fn transfer_on_and_on(self, number: u64) {
        let client = connect(&self.addresses).await;
        let mut dice = super::misfortune::Dice::new(number + 100);
        while !self.stopped.load(Ordering::Relaxed) {
            let transfer = {
                let mut next = self.next.lock().expect("no client panics");
                *next += 1;
                *next
            };
            let started = self.now();
            self.with(|history| history.open.insert(transfer, started));
            let from = dice.below(ACCOUNTS);
            let to = (from + 1 + dice.below(ACCOUNTS - 1)) % ACCOUNTS;
            let ending = loop {
                match self.attempt(&client, transfer, (from, to)).await {
                    Ok(timestamp) => break Ending::Committed { timestamp },
                    Err((error, committing)) => match Failure::of(&error, committing) {
                        Failure::None if error.retryable() && !self.stopped.load(Ordering::Relaxed) => {
                            self.with(|history| history.retries += 1);
                            tokio::time::sleep(Duration::from_millis(dice.below(50))).await;
                        }
                        Failure::None => break Ending::Failed,
                        Failure::Unknown => break Ending::Unknown,
                        Failure::Surprise => {
                            self.with(|history| history.surprises.push(format!("{error:?}")));
                            break Ending::Failed;
                        }
                    },
                }
            };
            let ended = self.now();
            self.with(|history| {
                history.open.remove(&transfer);
                history.transfers.insert(transfer, Transfer { started, ended, ending });
            });
        }
    }

    /// One try. With an error goes whether a commit had been sent.
    async fn attempt(
        &self,
        client: &Client,
        transfer: u64,
        (from, to): (u64, u64),
    ) -> Result<Timestamp, (Error, bool)> {
        let early = |error| (error, false);
        let mut txn = client.begin().await.map_err(early)?;
        for account in [from, to] {
            let account = i64::try_from(account).expect("there are few accounts");
            txn.query_one("SELECT balance FROM accounts WHERE id = $1 FOR UPDATE", &[&account]).await.map_err(early)?;
        }
        for (account, amount) in [(from, -1i64), (to, 1)] {
            let account = i64::try_from(account).expect("there are few accounts");
            let update = "UPDATE accounts SET balance = balance + $1 WHERE id = $2";
            txn.execute(update, &[&amount, &account]).await.map_err(early)?;
        }
        let transfer = i64::try_from(transfer).expect("there are few transfers");
        txn.execute("INSERT INTO ledger VALUES ($1, 1)", &[&transfer]).await.map_err(early)?;
        let committed = txn.commit().await.map_err(|error| (error, true))?;
        Ok(Timestamp(committed.timestamp))
    }

    async fn audit_on_and_on(self) {
        let client = connect(&self.addresses).await;
        while !self.stopped.load(Ordering::Relaxed) {
            let started = self.now();
            match Bank::audit(&client).await {
                Ok(found) => {
                    let ended = self.now();
                    self.with(|history| history.audits.push(Audit { started, ended, found }));
                }
                Err(error) if Failure::of(&error, false) == Failure::Surprise => {
                    self.with(|history| history.surprises.push(format!("{error:?}")));
                }
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn audit(client: &Client) -> Result<Found, Error> {
        let mut txn = client.begin_with(TransactionOptions::read_only()).await?;
        let sums = txn.query_one("SELECT count(*), sum(balance)::INT8 FROM accounts", &[]).await?;
        let recent = format!("SELECT id FROM ledger ORDER BY id DESC LIMIT {RECENT_MAX}");
        let recent = txn.query(&recent, &[]).await?;
        let committed = txn.commit().await?;
        Ok(Found {
            timestamp: Timestamp(committed.timestamp),
            accounts: u64::try_from(sums.get::<i64>(0)?).unwrap_or(0),
            total: sums.get(1)?,
            recent: recent.iter().map(|row| row.get::<i64>(0).map(i64::unsigned_abs)).collect::<Result<_, _>>()?,
        })
    }

    /// Asks the healed cluster for the ledger, and judges.
    pub async fn judge(&self) -> Verdict {
        let client = connect(&self.addresses).await;
        let rows = client.query("SELECT id FROM ledger ORDER BY id", &[]).await.expect("the healed cluster answers");
        let ledger: Vec<u64> = rows.iter().map(|row| row.get::<i64>(0).expect("an id").unsigned_abs()).collect();
        let committed = self.committed();
        self.with(|history| {
            let unknown = |transfer: &&Transfer| transfer.ending == Ending::Unknown;
            Verdict {
                name: "bank",
                committed,
                unknown: history.transfers.values().filter(unknown).count(),
                found: check::bank::violations(history, &ledger, true),
            }
        })
    }
}
