//! Getting intents out of the way.
//!
//! Whoever meets another transaction's intent asks that transaction's record. If its fate is decided, the intent is resolved
//! accordingly. If it is pending, a reader has it pushed above the read timestamp, which always succeeds; a writer waits, unless it
//! is older, or the coordinator has fallen silent: then the transaction is aborted. A staging one may be committed already, so instead of being
//! aborted it is [recovered](super::recover); as that prevents what is missing, no circle of transactions that wait for each other's
//! intents lasts.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::BoxFuture;
use proto::request::{IntentInTheWay, Operation, Outcome, Push, PushKind, ReplyBody, Resolve};
use proto::transaction::{TxnMeta, TxnStatus};
use proto::{Key, Timestamp, TxnId};
use txn::participant;

use super::db::Db;
use super::router::Failure;
use crate::probe::Path;

/// Who meets the intents.
#[derive(Clone, Copy, Debug)]
pub struct Pusher {
    pub txn: TxnId,
    pub priority: Timestamp,
    pub kind: PushKind,
}

/// How long a writer waits before it asks after a pending transaction again.
const PATIENCE: Duration = Duration::from_millis(10);

impl Db {
    /// Settles the owners of intents, as far as possible now, and resolves these intents.
    ///
    /// # Errors
    /// When a range does not answer.
    // Boxed, as settling sends requests, which may meet intents of their own.
    pub(super) fn settle(&self, intents: Vec<IntentInTheWay>, pusher: Pusher) -> BoxFuture<'_, Result<(), Failure>> {
        let mut by_txn: BTreeMap<TxnId, (TxnMeta, Timestamp, Vec<Key>)> = BTreeMap::new();
        for intent in intents {
            let entry =
                by_txn.entry(intent.txn.id).or_insert_with(|| (intent.txn.clone(), intent.timestamp, Vec::new()));
            entry.1 = entry.1.min(intent.timestamp);
            entry.2.push(intent.key);
        }
        Box::pin(async move {
            let mut waits = false;
            for (txn, intent, keys) in by_txn.into_values() {
                waits |= !self.settle_one(txn, intent, keys, pusher).await?;
            }
            if waits {
                self.shared.env.sleep(PATIENCE).await;
            }
            Ok(())
        })
    }

    /// Says whether the intents are out of the pusher's way.
    async fn settle_one(
        &self,
        txn: TxnMeta,
        intent: Timestamp,
        keys: Vec<Key>,
        pusher: Pusher,
    ) -> Result<bool, Failure> {
        let id = txn.id;
        let anchor = txn.anchor.clone();
        let key = keys.first().cloned().unwrap_or_default();
        let push = Push { txn, intent, priority: pusher.priority, pusher: pusher.txn, kind: pusher.kind, key };
        let meta = push.txn.clone();
        let reply = self.call_key(&anchor, &Operation::Push(Box::new(push))).await?;
        let record = match reply.body {
            ReplyBody::Record(record) => record,
            ReplyBody::ToRecover { record, by } => self.recover(&meta, *record, Some(by)).await?,
            _ => return Ok(false),
        };
        let Some(outcome) = participant::outcome_of(&record) else { return Ok(false) };
        match (record.status, &record.ousted) {
            (TxnStatus::Pending, _) => self.probe().took(Path::PushedUp),
            (TxnStatus::Aborted, Some(by)) if by.silent => self.probe().took(Path::Expired),
            (TxnStatus::Aborted, Some(_)) => self.probe().took(Path::Wounded),
            _ => {}
        }
        let clears = match (record.status, pusher.kind) {
            (TxnStatus::Pending, PushKind::Above(reader) | PushKind::Validate(reader)) => record.timestamp > reader,
            (TxnStatus::Pending, PushKind::Abort) => false,
            _ => true,
        };
        if clears {
            self.resolve(id, outcome, keys).await?;
        }
        Ok(clears)
    }

    /// Resolves a transaction's intents on these keys, range by range.
    ///
    /// # Errors
    /// When a range does not answer. Whoever meets the intents later resolves them.
    pub(super) async fn resolve(&self, txn: TxnId, outcome: Outcome, keys: Vec<Key>) -> Result<(), Failure> {
        let make = |keys: Vec<Key>| Operation::Resolve(Resolve { txn, outcome, keys });
        self.scatter(keys, |key| key, make, None).await.map(drop)
    }
}
