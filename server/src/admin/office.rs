//! Carries out what a store asks of its node, in the background.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use futures::future;
use proto::report::StoreReport;
use proto::{Key, NodeId, RangeDescriptor, RangeId, Span};

use crate::env::{Errands, SplitWish, Stray, StuckMerge};
use crate::kv::decisions::{self, Decision};
use crate::kv::{Db, Error};

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Office {
    db: Db,
    waiting: Arc<Mutex<Waiting>>,
}

/// Descriptors that are to be published. A node that starts finds thousands of them in its ranges, nearly all of which the meta range has:
/// they are looked up together while others gather.
#[derive(Default)]
struct Waiting {
    descriptors: BTreeMap<RangeId, RangeDescriptor>,
    /// Whether somebody is at it.
    publishing: bool,
}

/// Descriptors past which it is worth a scan to know which of them are published already.
const SCAN_FROM: usize = 4;
/// Descriptors that are published at a time.
const AT_ONCE: usize = 16;

impl Office {
    pub fn new(db: Db) -> Office {
        Office { db, waiting: Arc::default() }
    }

    /// Splits a range as its leader wishes, unless it is another one by now.
    ///
    /// # Errors
    /// When a range does not answer.
    pub async fn split_range(&self, wish: &SplitWish) -> Result<(), Error> {
        let split = self.db.split_range(&wish.range, &wish.key).await;
        let outcome = match &split {
            Ok(true) => "done".to_string(),
            // Either somebody was faster, or the answer to a first try was lost.
            Ok(false) if self.begins_a_range(&wish.key) => "a range begins there by now".to_string(),
            Ok(false) => return Ok(()),
            Err(error) => error.to_string(),
        };
        let what = ("split at".to_string(), Some(wish.key.clone()));
        self.note(wish.range.id, what, wish.reason.clone(), outcome).await;
        split.map(drop)
    }

    fn begins_a_range(&self, key: &Key) -> bool {
        self.db.known_ranges(&Span::point(key)).iter().any(|range| range.start == *key)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("no holder of this lock panics")
    }

    fn take_waiting(&self) -> Vec<RangeDescriptor> {
        let mut waiting = self.waiting();
        let taken: Vec<RangeDescriptor> = std::mem::take(&mut waiting.descriptors).into_values().collect();
        waiting.publishing = !taken.is_empty();
        taken
    }

    async fn publish_waiting(&self) {
        loop {
            let wanted = self.take_waiting();
            if wanted.is_empty() {
                return;
            }
            let wanted = match wanted.len() {
                0..SCAN_FROM => wanted,
                // If the meta range does not answer, neither will it to what follows.
                _ => self.db.unpublished(wanted.clone()).await.unwrap_or(wanted),
            };
            for some in wanted.chunks(AT_ONCE) {
                future::join_all(some.iter().map(|descriptor| self.publish_one(descriptor))).await;
            }
        }
    }

    async fn publish_one(&self, descriptor: &RangeDescriptor) {
        if let Err(error) = self.db.publish(descriptor).await {
            tracing::warn!(range = %descriptor, %error, "a range's descriptor was not published");
        }
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
        let mut waiting = self.waiting();
        let newer = waiting.descriptors.get(&descriptor.id).is_some_and(|other| other.epoch > descriptor.epoch);
        if !newer {
            waiting.descriptors.insert(descriptor.id, descriptor);
        }
        if !std::mem::replace(&mut waiting.publishing, true) {
            let office = self.clone();
            self.db.env().spawn(Box::pin(async move { office.publish_waiting().await }));
        }
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

    fn settle_merge(&self, stuck: StuckMerge) {
        let db = self.db.clone();
        let task = async move {
            let StuckMerge { right, frozen } = stuck;
            match db.settle_merge(&right, &frozen).await {
                Ok(true) => tracing::info!(range = %right, "a merge that nobody had seen through has happened"),
                Ok(false) => tracing::info!(range = %right, "a merge was given up: the range serves again"),
                Err(error) => {
                    tracing::warn!(range = %right, %error, "a range is frozen for a merge; its leader asks again")
                }
            }
        };
        self.db.env().spawn(Box::pin(task));
    }

    fn report(&self, report: StoreReport) {
        self.db.send_report(&report);
    }
}
