//! One client: transfers, one after the other, until the time is over.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Run;
use super::pairs::{Pairs, Transfer};
use super::tally::Done;
use super::trouble::{self, Trouble};
use crate::driver::{Completion, Error, Outcome, Result, Session, ToValue, TransactionStatus};
use crate::random::Random;

const READ: &str = "SELECT balance FROM bank_accounts WHERE id = $1 FOR UPDATE";
const WRITE: &str = "UPDATE bank_accounts SET balance = $2 WHERE id = $1";

/// A client with a session of its own, on a node that it leaves when the node leaves it.
pub struct Teller {
    run: Arc<Run>,
    pairs: Arc<Pairs>,
    random: Random,
    session: Option<Session>,
}

impl Teller {
    pub fn new(run: Arc<Run>, pairs: Arc<Pairs>, random: Random) -> Teller {
        Teller { run, pairs, random, session: None }
    }

    /// # Errors
    /// When a statement is refused for good.
    pub async fn work(mut self) -> Result<()> {
        while !self.is_over() {
            let transfer = self.pairs.choose(&mut self.random);
            self.transfer(transfer).await?;
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.run.stop.load(Ordering::Relaxed)
    }

    fn done(&self, started: Instant, done: Done) {
        self.run.tally.done(started, done);
        self.run.options.transferred.fetch_add(1, Ordering::Relaxed);
    }

    /// Carries out one transfer, however many attempts it takes.
    async fn transfer(&mut self, transfer: Transfer) -> Result<()> {
        let started = Instant::now();
        for attempt in 0.. {
            let error = match self.attempt(transfer).await {
                Ok(done) => {
                    self.done(started, done);
                    return Ok(());
                }
                Err(error) => error,
            };
            match trouble::sort(&error) {
                Trouble::Fatal => return Err(error),
                Trouble::OutcomeUnknown => match self.outcome(&error).await {
                    Some(Outcome::Committed { .. }) => {
                        self.leave_broken_session();
                        self.done(started, Done { is_sufficient: true, ..Done::default() });
                        return Ok(());
                    }
                    Some(Outcome::Aborted) => self.run.tally.retry("commit_lost"),
                    None => {
                        self.run.tally.outcome_unknown();
                        self.leave_broken_session();
                        return Ok(());
                    }
                },
                Trouble::Retry(reason) => self.run.tally.retry(&reason),
            }
            self.leave_broken_session();
            if self.is_over() {
                return Ok(());
            }
            tokio::time::sleep(trouble::pause(attempt, &mut self.random)).await;
        }
        unreachable!("attempts are not limited in number")
    }

    /// How a commit ended whose answer was lost; `None` if no node tells.
    async fn outcome(&self, error: &Error) -> Option<Outcome> {
        self.run.client.outcome(error.transaction_id()?).await.ok()
    }

    async fn attempt(&mut self, transfer: Transfer) -> Result<Done> {
        if self.session.is_none() {
            self.session = Some(self.run.client.session().await?);
        }
        let session = self.session.as_mut().expect("a session has just been opened");
        let result = run_transfer(session, transfer).await;
        if result.is_err() && !session.is_broken() && session.transaction_status() != TransactionStatus::Idle {
            // If this fails too, the session is broken and its transaction is rolled back with it.
            let _ = session.execute("ROLLBACK", &[]).await;
        }
        result
    }

    /// A session that is lost, or still in a transaction for unknown reasons, is of no more use.
    fn leave_broken_session(&mut self) {
        let of_no_use = |s: &mut Session| s.is_broken() || s.transaction_status() != TransactionStatus::Idle;
        if self.session.take_if(of_no_use).is_some() {
            self.run.tally.reconnect();
        }
    }
}

async fn run_transfer(session: &mut Session, transfer: Transfer) -> Result<Done> {
    let mut done = Done::default();
    let begun = session.execute("BEGIN ISOLATION LEVEL SERIALIZABLE", &[]).await?;
    done.add_server_retries(&begun);
    let from = read(session, transfer.from, &mut done).await?;
    let to = read(session, transfer.to, &mut done).await?;
    done.is_sufficient = from >= transfer.amount;
    if done.is_sufficient {
        write(session, transfer.from, from - transfer.amount, &mut done).await?;
        write(session, transfer.to, to + transfer.amount, &mut done).await?;
    }
    let committing = Instant::now();
    let committed = session.execute("COMMIT", &[]).await?;
    done.commit = committing.elapsed();
    done.timings = committed.timings;
    done.add_server_retries(&committed);
    expect(committed.tag == "COMMIT", || format!("COMMIT was answered by {}", committed.tag))?;
    Ok(done)
}

async fn read(session: &mut Session, account: u64, done: &mut Done) -> Result<i64> {
    let (rows, completion) = session.query(READ, &[&id(account)]).await?;
    done.add_server_retries(&completion);
    expect(rows.len() == 1, || format!("account {account} was found {} times", rows.len()))?;
    rows[0].get(0)
}

async fn write(session: &mut Session, account: u64, balance: i64, done: &mut Done) -> Result<()> {
    let params: [&dyn ToValue; 2] = [&id(account), &balance];
    let completion: Completion = session.execute(WRITE, &params).await?;
    done.add_server_retries(&completion);
    expect(completion.rows == 1, || format!("account {account} was updated {} times", completion.rows))
}

fn id(account: u64) -> i64 {
    i64::try_from(account).expect("the number of accounts is limited")
}

fn expect(holds: bool, message: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::application(message())) }
}
