//! What a node answers before it is part of a cluster: that it is not.

use std::time::Duration;

use async_trait::async_trait;
use proto::transaction::{TxnAddress, TxnOutcome};
use proto::{Key, Span, Timestamp};

use crate::io::clock::wall;
use crate::kv::{BeginOptions, ClockInfo, Conflict, Error, Kv, NodeInfo, RangeInfo, Transaction};

/// A key-value layer without a cluster.
pub struct Unready;

fn refuse<T>() -> Result<T, Error> {
    Err(Error::Unavailable(
        "this node is not part of a cluster yet: run `meridian init --addr ADDR` once, on any node".into(),
    ))
}

#[async_trait]
impl Kv for Unready {
    async fn begin(&self, _: BeginOptions) -> Result<Box<dyn Transaction>, Error> {
        refuse()
    }

    async fn outcome(&self, _: &TxnAddress) -> Result<TxnOutcome, Error> {
        refuse()
    }

    async fn ranges(&self, _: &Span) -> Result<Vec<RangeInfo>, Error> {
        refuse()
    }

    async fn split(&self, _: &Key) -> Result<(), Error> {
        refuse()
    }

    fn recent_conflicts(&self) -> Vec<(Timestamp, Conflict)> {
        Vec::new()
    }

    fn nodes(&self) -> Vec<NodeInfo> {
        Vec::new()
    }

    fn clock(&self) -> ClockInfo {
        let now = wall();
        ClockInfo {
            source: "none yet".into(),
            max_error: None,
            standing: "not part of a cluster yet".into(),
            earliest: now,
            latest: now,
            hlc: Timestamp::ZERO,
        }
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    fn random(&self) -> u128 {
        uuid::Uuid::new_v4().as_u128()
    }
}
