//! How a commit ended whose answer was lost.
//!
//! The server tells a transaction's id with the answer to each statement after its first write, and keeps the outcome of every commit. So the
//! driver can ask any node afterwards. A transaction that has not ended by then is aborted by the question: the answer stays true.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::error::{Error, ErrorKind, Result};
use super::pool::Pool;

/// How a transaction ended. Final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// At this hybrid logical timestamp: microseconds since the Unix epoch in the upper 52 bits.
    Committed { timestamp: u64 },
    /// Nothing of it has taken effect, and nothing will.
    Aborted,
}

/// Asks until some node answers, for as long as transactions are retried.
pub(super) async fn ask(pool: &Arc<Pool>, transaction_id: &str) -> Result<Outcome> {
    const PAUSE: Duration = Duration::from_millis(100);
    let until = Instant::now() + pool.config.retry.give_up_after;
    loop {
        match ask_once(pool, transaction_id).await {
            Err(error) if error.retryable() && Instant::now() < until => tokio::time::sleep(PAUSE).await,
            answer => return answer,
        }
    }
}

async fn ask_once(pool: &Arc<Pool>, transaction_id: &str) -> Result<Outcome> {
    // Not from the pool, which may have no session left, and whose idle ones may be on the node that went away.
    let mut session = pool.open().await?;
    let quoted = transaction_id.replace('\'', "''");
    let (rows, _) = session.query(&format!("SHOW TRANSACTION '{quoted}'"), &[]).await?;
    let row = rows.first().ok_or_else(|| Error::protocol("SHOW TRANSACTION was answered without a row"))?;
    match row.get::<String>("status")?.as_str() {
        "aborted" => Ok(Outcome::Aborted),
        "committed" => {
            let text: String = row.get("commit_timestamp")?;
            let timestamp = parse_timestamp(&text);
            let timestamp = timestamp.ok_or_else(|| Error::protocol(format!("{text:?} is no timestamp")))?;
            Ok(Outcome::Committed { timestamp })
        }
        other => Err(Error::protocol(format!("a transaction cannot have ended as {other:?}"))),
    }
}

/// `1700000000.000001,3`: seconds, microseconds, counter.
fn parse_timestamp(text: &str) -> Option<u64> {
    const COUNTER_BITS: u32 = 12;
    let (time, counter) = text.split_once(',')?;
    let (seconds, micros) = time.split_once('.')?;
    let micros = seconds.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(micros.parse().ok()?)?;
    Some(micros.checked_mul(1 << COUNTER_BITS)? | counter.parse::<u64>().ok()?)
}

/// What the outcome makes of a commit that failed for want of an answer: its timestamp, or an error after which the transaction may run
/// again.
pub(super) async fn settle(pool: &Arc<Pool>, error: Error) -> Result<u64> {
    let Some(id) = error.transaction_id().filter(|_| error.kind() == ErrorKind::OutcomeUnknown) else {
        return Err(error);
    };
    match ask(pool, id).await {
        Ok(Outcome::Committed { timestamp }) => Ok(timestamp),
        Ok(Outcome::Aborted) => {
            let message = "the answer to the commit was lost, and the transaction did not take effect";
            Err(Error::new(ErrorKind::Retry, "40001", message).with_reason("commit_lost"))
        }
        // Whatever is wrong, the first error says more.
        Err(_) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_read_as_the_server_writes_them() {
        assert_eq!(parse_timestamp("1700000000.000001,3"), Some((1_700_000_000_000_001 << 12) | 3));
        for nonsense in ["", "1", "1.2", "1,2", "a.b,c", "99999999999999999999.0,0"] {
            assert_eq!(parse_timestamp(nonsense), None, "{nonsense}");
        }
    }
}
