//! What a node answers before it is part of a cluster: that it is not. A session that was opened then may outlive that time: once the node is
//! a member, it is served like any other.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use proto::transaction::{TxnAddress, TxnOutcome};
use proto::{Key, NodeId, Span, Timestamp};

use super::server::Shared;
use crate::io::clock::wall;
use crate::kv::checkup::Checkup;
use crate::kv::{
    BeginOptions, ClockInfo, Conflict, Db, Error, Kv, NodeChange, NodeInfo, RangeInfo, RangeSurvey, Transaction,
};

/// A key-value layer without a cluster, for as long as the node is part of none.
pub(super) struct Unready(pub Arc<Shared>);

impl Unready {
    fn db(&self) -> Option<&Db> {
        self.0.core.get().map(|core| &core.db)
    }

    /// # Errors
    /// As long as the node is not part of a cluster.
    fn ready(&self) -> Result<&Db, Error> {
        self.db().map_or_else(refuse, Ok)
    }
}

fn refuse<T>() -> Result<T, Error> {
    Err(Error::Unavailable(
        "this node is not part of a cluster yet: run `meridian init --addr ADDR` once, on any node".into(),
    ))
}

#[async_trait]
impl Kv for Unready {
    async fn begin(&self, options: BeginOptions) -> Result<Box<dyn Transaction>, Error> {
        self.ready()?.begin(options).await
    }

    async fn outcome(&self, txn: &TxnAddress) -> Result<TxnOutcome, Error> {
        self.ready()?.outcome(txn).await
    }

    async fn ranges(&self, span: &Span) -> Result<Vec<RangeInfo>, Error> {
        self.ready()?.ranges(span).await
    }

    async fn survey(&self, span: &Span) -> Result<Vec<RangeSurvey>, Error> {
        self.ready()?.survey(span).await
    }

    async fn check(&self) -> Result<Checkup, Error> {
        self.ready()?.check().await
    }

    async fn split(&self, key: &Key) -> Result<(), Error> {
        self.ready()?.split(key).await
    }

    async fn unsplit(&self, key: &Key) -> Result<(), Error> {
        self.ready()?.unsplit(key).await
    }

    fn recent_conflicts(&self) -> Vec<(Timestamp, Conflict)> {
        self.db().map(Kv::recent_conflicts).unwrap_or_default()
    }

    fn nodes(&self) -> Vec<NodeInfo> {
        self.db().map(Kv::nodes).unwrap_or_default()
    }

    async fn change_node(&self, node: NodeId, change: NodeChange) -> Result<NodeInfo, Error> {
        self.ready()?.change_node(node, change).await
    }

    fn clock(&self) -> ClockInfo {
        if let Some(db) = self.db() {
            return db.clock();
        }
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

    fn follower_lag(&self) -> Duration {
        self.db().map(Kv::follower_lag).unwrap_or_default()
    }

    /// The node's own clock begins later and elsewhere: what is measured here is measured by one clock throughout.
    fn monotonic(&self) -> Duration {
        self.0.started.elapsed()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    fn random(&self) -> u128 {
        uuid::Uuid::new_v4().as_u128()
    }
}
