//! Carries out what a store asks of its node, in the background.

use proto::report::StoreReport;
use proto::{Key, NodeId, RangeDescriptor, RangeId};

use crate::env::{Errands, SplitWish, Stray};
use crate::kv::decisions::{self, Decision};
use crate::kv::{Db, Error};

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Office {
    db: Db,
}

impl Office {
    pub fn new(db: Db) -> Office {
        Office { db }
    }

    /// Splits a range as its leader wishes, unless it is another one by now.
    ///
    /// # Errors
    /// When a range does not answer.
    pub async fn split_range(&self, wish: &SplitWish) -> Result<(), Error> {
        let split = self.db.split_range(&wish.range, &wish.key).await;
        let outcome = match &split {
            Ok(true) => "done".to_string(),
            Ok(false) => return Ok(()),
            Err(error) => error.to_string(),
        };
        let what = ("split at".to_string(), Some(wish.key.clone()));
        self.note(wish.range.id, what, wish.reason.clone(), outcome).await;
        split.map(drop)
    }

    /// Writes down what was decided. A decision that cannot be written down is carried out all the same.
    pub async fn note(&self, range: RangeId, (what, key): (String, Option<Key>), why: String, outcome: String) {
        let node: NodeId = self.db.node();
        let at = self.db.env().clock().reading();
        let decision = Decision { at, node, range, what, why, outcome, key };
        if let Err(error) = decisions::note(&self.db, &decision).await {
            tracing::debug!(%range, what = decision.what, %error, "a decision was not written down");
        }
    }
}

impl Errands for Office {
    fn publish(&self, descriptor: RangeDescriptor) {
        let db = self.db.clone();
        let task = async move {
            if let Err(error) = db.publish(&descriptor).await {
                tracing::warn!(range = %descriptor, %error, "a range's descriptor was not published");
            }
        };
        self.db.env().spawn(Box::pin(task));
    }

    fn split(&self, wish: SplitWish) {
        let office = self.clone();
        let task = async move {
            match office.split_range(&wish).await {
                Ok(()) => {
                    tracing::info!(range = %wish.range, key = %wish.key, reason = wish.reason, "a range was split")
                }
                Err(error) => {
                    tracing::warn!(range = %wish.range, %error, "a range was not split; its leader asks again")
                }
            }
        };
        self.db.env().spawn(Box::pin(task));
    }

    fn ask_for(&self, stray: Stray) {
        let db = self.db.clone();
        self.db.env().spawn(Box::pin(async move { db.ask_for(&stray).await }));
    }

    fn report(&self, report: StoreReport) {
        self.db.send_report(&report);
    }
}
