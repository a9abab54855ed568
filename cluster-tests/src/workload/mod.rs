//! What the simulated clients do, and what they remember of it.

use std::time::Duration;

use futures::future::BoxFuture;
use proto::{Key, Span, Timestamp};
use server::kv::{Db, Error, Kv, ScanOptions, Transaction};

use crate::check::history::History;
use operation::CLIENTS;

pub mod operation;
pub mod bank;
pub mod sql_bank;
pub mod recorder;
pub mod append;
pub mod keyed;
pub mod register;

pub use operation::{Agenda, Operation, Work};

/// Clients of a simulated cluster. A clone is another handle to the same clients, whose memory outlives their nodes.
pub trait Workload: Clone + Send + Sync + 'static {
    /// Puts in place what the clients expect to find. May be run again after an error.
    fn load(&self, db: Db) -> BoxFuture<'static, Result<(), Error>>;

    /// The tasks of one node's clients.
    fn tasks(&self, db: &Db) -> Vec<BoxFuture<'static, ()>>;

    /// Splits a range of the clients' data, chosen by a random number.
    fn split(&self, db: Db, dice: u64) -> BoxFuture<'static, ()>;

    /// Lets all clients end after what they are doing.
    fn stop(&self);

    /// Asks the healed cluster, once all clients have ended, for what is needed to judge.
    fn finish(&self, db: Db) -> BoxFuture<'static, Result<(), Error>>;

    /// What is wrong with what the clients saw, in sentences; empty if nothing is. Real-time order is only asked for where clocks are trusted.
    fn judge(&self, real_time: bool) -> Vec<String>;

    fn tally(&self) -> Tally;

    /// What the clients are to do, and how far they have come.
    fn agenda(&self) -> &Agenda;

    /// What they asked and saw, by name, for other tools.
    fn histories(&self) -> Vec<(&'static str, History)> {
        Vec::new()
    }
}

/// A task for each client of a node.
fn clients_of(db: &Db, task: impl Fn(usize) -> BoxFuture<'static, ()>) -> Vec<BoxFuture<'static, ()>> {
    let node = db.node().0 as usize - 1;
    (node * CLIENTS..(node + 1) * CLIENTS).map(task).collect()
}

/// How much was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub committed: usize,
    /// Of unknown outcome; also those whose client died.
    pub unknown: usize,
    /// Transactions that looked at everything.
    pub audits: usize,
    pub retries: u64,
}

/// So long before now, by a node's clock.
fn ago(db: &Db, back: Duration) -> Timestamp {
    // What lies before the epoch is refused, and no seed is that long.
    db.clock().hlc.minus(back).max(Timestamp::from_micros(1))
}

/// All rows of a span, in pages of so many. However ranges are split, merged and moved meanwhile, each row comes once, in its place.
async fn scan_all(txn: &mut dyn Transaction, span: Span, rows_max: usize) -> Result<Vec<(Key, Vec<u8>)>, Error> {
    let mut rows = Vec::new();
    let mut rest = Some(span);
    while let Some(span) = rest {
        let page = txn.scan(&span, ScanOptions { rows_max, ..ScanOptions::default() }).await?;
        rows.extend(page.rows);
        rest = page.resume;
    }
    let twice = rows.windows(2).find(|pair| pair[0].0 >= pair[1].0);
    assert!(twice.is_none(), "a scan returns each row once, in order: {twice:?}");
    Ok(rows)
}
