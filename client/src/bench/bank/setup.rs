//! Creates the table, fills it and splits it.

use super::options::BankOptions;
use crate::driver::{Client, Error, Result};

/// Rows of one INSERT.
const BATCH_ROWS: u64 = 500;

/// Split points of one ALTER TABLE.
const BATCH_SPLITS: u64 = 100;

pub async fn prepare(client: &Client, options: &BankOptions) -> Result<()> {
    say(options, &format!("loading {} accounts into {} ranges", options.accounts, options.ranges));
    client.execute("DROP TABLE IF EXISTS bank_accounts", &[]).await?;
    client.execute("CREATE TABLE bank_accounts (id INT8 PRIMARY KEY, balance INT8 NOT NULL)", &[]).await?;
    for first in (0..options.accounts).step_by(BATCH_ROWS as usize) {
        let ids = first..options.accounts.min(first + BATCH_ROWS);
        let rows = join(ids, |id| format!("({id}, {})", options.initial_balance));
        client.execute(&format!("INSERT INTO bank_accounts (id, balance) VALUES {rows}"), &[]).await?;
    }
    for first in (1..options.ranges).step_by(BATCH_SPLITS as usize) {
        let ranges = first..options.ranges.min(first + BATCH_SPLITS);
        let points = join(ranges, |range| format!("({})", options.first_account(range)));
        client.execute(&format!("ALTER TABLE bank_accounts SPLIT AT VALUES {points}"), &[]).await?;
    }
    let row = client.query_one("SELECT count(*) FROM bank_accounts", &[]).await?;
    let count: i64 = row.get(0)?;
    if count as u64 == options.accounts {
        return Ok(());
    }
    Err(Error::application(format!("{} accounts were loaded, but {count} are there", options.accounts)))
}

fn join(items: std::ops::Range<u64>, item: impl Fn(u64) -> String) -> String {
    items.map(item).collect::<Vec<_>>().join(", ")
}

fn say(options: &BankOptions, text: &str) {
    if options.progress {
        eprintln!("{text}");
    }
}
