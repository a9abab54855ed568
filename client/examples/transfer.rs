//! Moves money between two accounts: `cargo run -p meridian-client --example transfer -- 127.0.0.1:7001`.

use client::{Client, Error};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let addresses = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7001".into());
    let db = Client::connect(&addresses).await?;
    db.execute("DROP TABLE IF EXISTS accounts", &[]).await?;
    db.execute("CREATE TABLE accounts (owner TEXT PRIMARY KEY, balance INT8 NOT NULL)", &[]).await?;
    db.execute("INSERT INTO accounts VALUES ('ann', 100), ('bob', 0)", &[]).await?;

    // Runs again, with pauses, whenever another transaction gets in the way.
    let left = db
        .transact(async |mut tx| {
            let row = tx.query_one("SELECT balance FROM accounts WHERE owner = $1 FOR UPDATE", &[&"ann"]).await?;
            let balance: i64 = row.get("balance")?;
            if balance < 10 {
                return Err(Error::application("Ann has not enough money"));
            }
            tx.execute("UPDATE accounts SET balance = balance - 10 WHERE owner = $1", &[&"ann"]).await?;
            tx.execute("UPDATE accounts SET balance = balance + 10 WHERE owner = $1", &[&"bob"]).await?;
            Ok(balance - 10)
        })
        .await?;

    println!("Ann has {left} left.");
    Ok(())
}
