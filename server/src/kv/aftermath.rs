//! What is left to do in the running cluster after ranges were rebuilt from survivors.
//!
//! A recovery changes stores that stand still ([`crate::recovery`]). The rows of the system key space follow once the cluster runs again, by an
//! ordinary transaction of whichever survivor comes first:
//!
//! * the nodes that were given up are members no longer, for good;
//! * the meta range holds the rebuilt ranges, and none that they have taken the place of;
//! * the counters are beyond every id that was ever seen, so that none is given twice.
//!
//! The transaction leaves a row that names the plan, so that it takes effect once, whichever survivors try:
//!
//! ```text
//!   0x02 "recovery/" plan  →  the nodes that were given up
//! ```
//!
//! A range that has been split since it was rebuilt has a higher epoch than the plan knows, and so have its parts: their rows stay.

use minicbor::{Decode, Encode};
use proto::{Key, NodeId, NodeRecord, NodeState, RangeDescriptor, codec, keyspace};

use super::Lock;
use super::api::Transaction;
use super::db::Db;
use super::error::Error;
use super::meta::{meta_span, range_counter};
use super::registry::{decode, node_counter, node_key, rows_in, scan_all};
use super::transaction::KvTransaction;
use crate::store::recover::{FIRST_FREE_RANGE, meta_key};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Aftermath {
    /// The plan's id.
    #[n(0)]
    pub plan: String,
    /// The nodes that were given up, as they were known.
    #[n(1)]
    pub dead: Vec<NodeRecord>,
    /// The ranges that were rebuilt or made anew.
    #[n(2)]
    pub ranges: Vec<RangeDescriptor>,
    /// No range has this id or a higher one.
    #[n(3)]
    pub next_range: u64,
}

impl Aftermath {
    /// Takes in what an earlier recovery has left to do.
    pub fn follow(&mut self, earlier: Aftermath) {
        for record in earlier.dead {
            if !self.dead.iter().any(|known| known.descriptor.id == record.descriptor.id) {
                self.dead.push(record);
            }
        }
        for range in earlier.ranges {
            if !self.ranges.iter().any(|known| known.span().overlaps(&range.span())) {
                self.ranges.push(range);
            }
        }
        self.next_range = self.next_range.max(earlier.next_range);
    }

    /// Whether a row of the meta range is of one that a rebuilt range has taken the place of.
    fn replaces(&self, row: &RangeDescriptor) -> bool {
        let takes = |range: &RangeDescriptor| {
            range.span().overlaps(&row.span()) && range.epoch > row.epoch && range.start != row.start
        };
        self.ranges.iter().any(takes)
    }
}

fn done_key(plan: &str) -> Key {
    Key([&[keyspace::SYSTEM], b"recovery/".as_slice(), plan.as_bytes()].concat())
}

impl Db {
    /// Brings the system's rows into line with a recovery, unless another node has done so.
    ///
    /// # Errors
    /// Those of a transaction: to be tried again.
    pub async fn settle_aftermath(&self, aftermath: &Aftermath) -> Result<(), Error> {
        self.transact(|txn| {
            let aftermath = aftermath.clone();
            Box::pin(async move { settle_once(txn, &aftermath).await })
        })
        .await?;
        self.refresh_members().await
    }
}

async fn settle_once(txn: &mut KvTransaction, aftermath: &Aftermath) -> Result<(), Error> {
    let done = done_key(&aftermath.plan);
    if let Some(Some(_)) = txn.get(std::slice::from_ref(&done), Lock::None).await?.first() {
        return Ok(());
    }
    let dead: Vec<NodeId> = aftermath.dead.iter().map(|record| record.descriptor.id).collect();
    txn.put(done, codec::encode(&dead))?;
    bar(txn, aftermath).await?;
    let rows = scan_all(txn, meta_span()).await?;
    let rows = rows.iter().map(|bytes| decode::<RangeDescriptor>("a range descriptor", bytes));
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    for row in rows.iter().filter(|row| aftermath.replaces(row)) {
        txn.delete(meta_key(&row.start))?;
    }
    for range in &aftermath.ranges {
        if !rows.iter().any(|row| row.start == range.start && row.epoch >= range.epoch) {
            txn.put(meta_key(&range.start), codec::encode(range))?;
        }
    }
    raise(txn, range_counter(), FIRST_FREE_RANGE, aftermath.next_range).await
}

/// The nodes that were given up are members no longer, whether or not their rows were lost with them.
async fn bar(txn: &mut KvTransaction, aftermath: &Aftermath) -> Result<(), Error> {
    let rows = rows_in(txn).await?;
    for lost in &aftermath.dead {
        let id = lost.descriptor.id;
        let row = rows.iter().find(|row| row.descriptor.id == id).unwrap_or(lost);
        let barred = NodeRecord { state: NodeState::Decommissioned, ..row.clone() };
        txn.put(node_key(id), codec::encode(&barred))?;
    }
    let known = rows.iter().chain(&aftermath.dead).map(|row| row.descriptor.id.0 + 1).max().unwrap_or(1);
    raise(txn, node_counter(), 1, known).await
}

/// Brings a counter to a value at least.
async fn raise(txn: &mut KvTransaction, key: Key, first: u64, least: u64) -> Result<(), Error> {
    let found = txn.get(std::slice::from_ref(&key), Lock::None).await?.pop().flatten();
    let now = found.map_or(Ok(first), |bytes| decode::<u64>("a counter", &bytes))?;
    if now < least {
        txn.put(key, codec::encode(&least))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::{Epoch, RangeId, Span};

    fn range(id: u64, start: &str, end: &str, epoch: u64) -> RangeDescriptor {
        RangeDescriptor::new(RangeId(id), Span::new(start, end), Epoch(epoch), Vec::new())
    }

    #[test]
    fn rows_of_ranges_whose_place_was_taken_go_and_those_of_later_splits_stay() {
        let aftermath = Aftermath { ranges: vec![range(3, "a", "m", 1000)], ..Aftermath::default() };
        assert!(aftermath.replaces(&range(4, "f", "m", 7)), "split off by those who died");
        assert!(!aftermath.replaces(&range(3, "a", "z", 7)), "written over");
        assert!(!aftermath.replaces(&range(9, "f", "m", 1001)), "split off since");
        assert!(!aftermath.replaces(&range(5, "m", "z", 7)), "a neighbour");
    }

    #[test]
    fn a_second_recovery_takes_over_what_the_first_one_left() {
        let mut second = Aftermath { ranges: vec![range(3, "a", "m", 2000)], next_range: 9, ..Aftermath::default() };
        let first = vec![range(3, "a", "m", 1000), range(5, "m", "z", 1000)];
        second.follow(Aftermath { ranges: first, next_range: 12, ..Aftermath::default() });
        assert_eq!(second.ranges, [range(3, "a", "m", 2000), range(5, "m", "z", 1000)]);
        assert_eq!(second.next_range, 12);
    }
}
