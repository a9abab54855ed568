//! What becomes of staged transactions: saying that they are committed, and finding out whether they are.
//!
//! A staged transaction is committed if each key that its record lists holds the staged attempt's intent at or below the record's
//! timestamp (I6). Its coordinator knows when it has all the answers, and [completes](Db::complete) the commit. Whoever else must
//! know, because the coordinator has fallen silent or has itself lost an answer, looks at every key. Looking prevents: an intent that is missing
//! can be written only above that timestamp afterwards, so what was found stays true, and the record can be decided by it. It is
//! decided by a compare-and-set; if the coordinator has staged another attempt meanwhile, the looking starts again (I7, I8).

use std::collections::BTreeSet;
use std::time::Duration;

use proto::request::{AbortRecord, CommitRecord, Operation, Outcome, QueryIntents, Recover, ReplyBody};
use proto::transaction::{Ousting, TxnMeta, TxnRecord, TxnStatus};
use proto::{Key, Timestamp};
use txn::participant;

use super::db::Db;
use super::router::Failure;
use crate::probe::{Path, Point};

/// How long recovery takes to decide where [`Point::SlowRecovery`] fires.
const SLOW_MAX: Duration = Duration::from_millis(300);

impl Db {
    /// A committed attempt's record is made to say so, then its intents are resolved. What fails here is left to whoever
    /// meets the intents.
    pub(super) async fn complete(&self, txn: TxnMeta, timestamp: Timestamp, keys: Vec<Key>) {
        let mut tries = 0;
        let here: BTreeSet<Key> = loop {
            let range = self.shared.router.range_of(&txn.anchor);
            let here: BTreeSet<Key> = keys.iter().filter(|key| range.contains(key)).cloned().collect();
            let local = here.iter().cloned().collect();
            let operation = Operation::CommitRecord(CommitRecord { txn: txn.clone(), timestamp, keys: local });
            match self.call_settling(&range, &operation, None).await {
                Ok(_) => break here,
                Err(Failure::Repartition { .. }) if self.repartition(&txn.anchor, &mut tries).await.is_ok() => {}
                Err(_) => return,
            }
        };
        let rest: Vec<Key> = keys.into_iter().filter(|key| !here.contains(key)).collect();
        if !rest.is_empty() {
            let outcome = Outcome::Committed { attempt: txn.attempt, timestamp };
            let _ = self.resolve(txn.id, outcome, rest).await;
        }
    }

    /// The coordinator's own question how its transaction ended: aborted unless it is committed.
    ///
    /// # Errors
    /// When a range does not answer.
    pub(super) async fn settle_own(&self, txn: &TxnMeta, pushed: bool) -> Result<TxnRecord, Failure> {
        let abort = Operation::AbortRecord(AbortRecord { txn: txn.clone(), pushed });
        match self.call_key(&txn.anchor, &abort).await?.body {
            ReplyBody::Record(record) => self.recover(txn, record, None).await,
            _ => Err(unexpected()),
        }
    }

    /// Decides a staged record; one that is not staged is returned as it is. `by` says who could not wait.
    ///
    /// # Errors
    /// When a range does not answer. Nothing is decided then.
    pub(super) async fn recover(
        &self,
        txn: &TxnMeta,
        mut record: TxnRecord,
        by: Option<Ousting>,
    ) -> Result<TxnRecord, Failure> {
        let was_staged = record.status == TxnStatus::Staging;
        while record.status == TxnStatus::Staging {
            let staged = TxnMeta { attempt: record.attempt, ..txn.clone() };
            let timestamp = record.timestamp;
            let (meta, keys) = (staged.clone(), record.keys.clone());
            let make = move |keys| Operation::QueryIntents(QueryIntents { txn: meta.clone(), timestamp, keys });
            let parts = self.scatter(keys, |key| key, make, None).await?;
            let commit = parts.iter().all(|(_, reply)| reply.body == ReplyBody::Present(true));
            self.dawdle(Point::SlowRecovery, SLOW_MAX).await;
            let decide = Operation::Recover(Recover { txn: staged, timestamp, commit, by: by.clone() });
            record = match self.call_key(&txn.anchor, &decide).await?.body {
                ReplyBody::Record(record) => record,
                _ => return Err(unexpected()),
            };
            if record.status == TxnStatus::Staging || record.timestamp != timestamp {
                self.probe().took(Path::RecoveryOvertaken);
            }
        }
        if was_staged {
            self.shared.counters.recovered();
            self.probe().took(match record.status {
                TxnStatus::Committed => Path::RecoveredCommitted,
                _ => Path::RecoveredAborted,
            });
            if let Some(outcome) = participant::outcome_of(&record) {
                let (db, id, keys) = (self.clone(), record.id, record.keys.clone());
                self.owe(async move { drop(db.resolve(id, outcome, keys).await) });
            }
        }
        Ok(record)
    }
}

fn unexpected() -> Failure {
    Failure::Deadline { sent: true, detail: "the anchor's range answered something else than it was asked".into() }
}
