//! The table `idle`: ranges that nobody asks anything.

use client::driver::Client;
use futures::future::try_join_all;

/// Who split the table at a time, and split points of one ALTER TABLE.
const SPLITTERS: u64 = 16;
const BATCH_SPLITS: u64 = 50;

/// Makes a table of so many ranges.
pub async fn create(client: &Client, ranges: u64) -> client::driver::Result<()> {
    client.execute("CREATE TABLE idle (id INT8 PRIMARY KEY)", &[]).await?;
    let points: Vec<u64> = (1..ranges).collect();
    let share = points.len().div_ceil(SPLITTERS as usize).max(1);
    // One after the other, so that everyone has a range to begin with.
    for part in points.chunks(share) {
        split_at(client, &part[..1]).await?;
    }
    let parts = points.chunks(share).map(async |part| {
        for batch in part[1..].chunks(BATCH_SPLITS as usize) {
            split_at(client, batch).await?;
        }
        Ok(())
    });
    try_join_all(parts).await.map(drop)
}

async fn split_at(client: &Client, points: &[u64]) -> client::driver::Result<()> {
    let rows: Vec<String> = points.iter().map(|point| format!("({point})")).collect();
    client.execute(&format!("ALTER TABLE idle SPLIT AT VALUES {}", rows.join(", ")), &[]).await.map(drop)
}
