//! Mends the map, wherever the meta range is led: has those ranges published that leaders report and the meta range lacks, and those nodes report here
//! that do not.
//!
//! A leader tries to have its range published when the descriptor changes, and so does each leader after it. If they fail, and nothing more
//! happens to the range, no gateway finds it that does not know it already, though it is well and reported. Whoever leads the meta range sees the
//! reports and can tell. Once reports have come to rest and nothing is missing there is nothing to look for.
//!
//! Reports go to where the meta range is thought to be. If it was the one whose publication failed, that is where it used to be.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use proto::{NodeId, RangeDescriptor, RangeId};

use super::office::Office;
use super::picture::{SUSPECT_AFTER, outdated};
use crate::env::Errands;
use crate::kv::Db;
use crate::kv::reports::Reports;

/// How often the meta range is compared with what is reported. Longer than a publication takes that does not fail.
const EVERY: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Last {
    compared: Option<Duration>,
    /// Whether nothing was missing.
    whole: bool,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Mender {
    db: Db,
    office: Office,
    last: Arc<Mutex<Last>>,
}

impl Mender {
    pub fn new(db: Db, office: Office) -> Mender {
        Mender { db, office, last: Arc::default() }
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().expect("no holder of this lock panics")
    }

    /// Asks and compares, if it is time to and this node leads the meta range.
    pub async fn look(&self) {
        let now = self.db.env().clock().monotonic();
        if !self.db.leads_meta() {
            // Whoever leads meanwhile may leave anything undone.
            *self.last() = Last::default();
            return;
        }
        let members = self.db.members();
        let nodes: Vec<NodeId> =
            members.iter().filter(|member| member.state.counts()).map(|member| member.descriptor.id).collect();
        self.db.ask_the_silent(&nodes, now.saturating_sub(SUSPECT_AFTER));
        if self.is_due(now) {
            self.compare(now).await;
        }
    }

    fn is_due(&self, now: Duration) -> bool {
        let last = self.last();
        // What is reported is being published; that is given some time.
        let rests = |compared: Duration| last.whole && !self.db.described_since(compared.saturating_sub(EVERY));
        last.compared.is_none_or(|compared| now >= compared + EVERY && !rests(compared))
    }

    async fn compare(&self, now: Duration) {
        let missing = self.db.unpublished(reported(&self.db.reports())).await;
        let whole = missing.as_ref().is_ok_and(Vec::is_empty);
        *self.last() = Last { compared: Some(now), whole };
        match missing {
            Ok(missing) => missing.into_iter().for_each(|descriptor| {
                tracing::info!(range = %descriptor, "a range is reported that the meta range does not have");
                self.office.publish(descriptor);
            }),
            Err(error) => tracing::debug!(%error, "the meta range was not compared with what is reported"),
        }
    }
}

/// What leaders report, without what is of the past: nobody takes that back.
fn reported(reports: &Reports) -> Vec<RangeDescriptor> {
    let descriptors = || reports.ranges.values().map(|status| &status.descriptor);
    let outdated: BTreeSet<RangeId> = outdated(descriptors()).into_iter().collect();
    descriptors().filter(|descriptor| !outdated.contains(&descriptor.id)).cloned().collect()
}
