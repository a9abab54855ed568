//! Merges of ranges, from outside: freeze the right-hand one, see that every store is ready, have the left-hand one take it in; or find out what
//! became of a merge that somebody else began. See [`crate::range::merge`] for why it is safe to be interrupted anywhere.

use std::time::Duration;

use futures::future;
use proto::range::{Frozen, RangeOperation};
use proto::request::{Operation, RangeRequest, Refusal, ReplyBody, Response};
use proto::{Key, NodeId, RangeDescriptor, ReplicaRole, Span};

use super::db::Db;
use super::error::Error;
use super::router::Failure;
use crate::store::recover::META_RANGE;

/// How long one node is given to say whether it is ready.
const ATTEMPT: Duration = Duration::from_millis(200);
const PAUSE: Duration = Duration::from_millis(5);

impl Db {
    /// Has a range take in the one on its right, if both still are as described.
    ///
    /// # Errors
    /// [`Error::Invalid`] if they do not fit; others if somebody did not answer in time. Both ranges go on as they were then, the
    /// right-hand one perhaps after a while.
    pub async fn merge_ranges(&self, left: &RangeDescriptor, right: &RangeDescriptor) -> Result<(), Error> {
        if left.id == META_RANGE {
            return Err(Error::Invalid(
                "the first range holds the descriptors of all others and stays by itself".into(),
            ));
        }
        self.reshape(right, RangeOperation::Freeze(left.clone())).await?;
        let frozen = self.frozen(right).await?.ok_or_else(|| Error::Invalid(format!("{} is not frozen", right.id)))?;
        let merged = match self.all_ready(left, right, frozen.index).await {
            Ok(()) => {
                let merge = RangeOperation::Merge { right: right.clone(), frozen_at: frozen.index };
                self.reshape(left, merge).await
            }
            Err(error) => Err(error),
        };
        match merged {
            Ok(()) => self.publish(&self.shared.router.range_of(&left.start)).await,
            // It may have happened all the same.
            Err(error) => match self.settle_merge(right, &frozen).await? {
                true => Ok(()),
                false => Err(error),
            },
        }
    }

    /// What a range is frozen for, if it is.
    async fn frozen(&self, range: &RangeDescriptor) -> Result<Option<Frozen>, Error> {
        let inspect = Operation::Range(RangeOperation::Inspect);
        let reply = self.shared.router.call(range, inspect, self.shared.knobs.request_deadline).await;
        match reply.map_err(Error::from_failure)?.body {
            ReplyBody::Status(status) => Ok(status.frozen),
            other => Err(Error::Corrupt(format!("asked how it stands, a range answered {other:?}"))),
        }
    }

    /// Waits until each store says that its replicas of both ranges are ready.
    async fn all_ready(&self, left: &RangeDescriptor, right: &RangeDescriptor, frozen_at: u64) -> Result<(), Error> {
        // The range has somebody find out what became of its merge when its patience ends.
        let until = self.shared.env.clock().monotonic() + self.shared.knobs.merge_patience / 2;
        let operation = Operation::Range(RangeOperation::IsReady { left: left.id, frozen_at });
        let request = RangeRequest { range: right.id, epoch: right.epoch, operation };
        let all = right.replicas.iter().map(|replica| self.is_ready(replica.node, &request, until));
        let ready = future::try_join_all(all).await;
        ready
            .map(drop)
            .map_err(|why| Error::Unavailable(format!("{} and {} were not merged: {why}", left.id, right.id)))
    }

    /// Waits until a node says that it is ready.
    async fn is_ready(&self, node: NodeId, request: &RangeRequest, until: Duration) -> Result<(), String> {
        let mut why = format!("{node} does not answer");
        while self.shared.env.clock().monotonic() < until {
            match self.shared.router.ask(node, request.clone(), ATTEMPT).await {
                Some(Response::Done(_)) => return Ok(()),
                Some(Response::Refused(Refusal::Busy(busy))) => why = busy,
                Some(Response::Refused(_)) | None => {}
            }
            self.shared.env.sleep(PAUSE).await;
        }
        Err(why)
    }

    /// Finds out whether a range that is frozen was merged, and has it serve again if not. Says whether it was.
    ///
    /// # Errors
    /// When one of the two ranges does not answer, or is being changed: to be tried again.
    pub async fn settle_merge(&self, right: &RangeDescriptor, frozen: &Frozen) -> Result<bool, Error> {
        let mut left = self.inspect(&frozen.left_start).await?.descriptor;
        let undecided = |left: &RangeDescriptor| (left.id, left.epoch) == (frozen.left, frozen.left_epoch);
        if undecided(&left) {
            // Whatever comes first now, this or the merge, decides.
            let advanced = self.reshape(&left, RangeOperation::Advance).await;
            left = self.inspect(&frozen.left_start).await?.descriptor;
            if undecided(&left) {
                return Err(advanced.err().unwrap_or_else(|| Error::Unavailable(format!("{left} does not move on"))));
            }
        }
        if left.contains(&right.start) {
            self.publish(&left).await?;
            return Ok(true);
        }
        let thaw = Operation::Range(RangeOperation::Thaw { frozen_at: frozen.index });
        match self.shared.router.call(right, thaw, self.shared.knobs.request_deadline).await {
            // Somebody else was faster, and the range has changed since.
            Ok(_) | Err(Failure::Repartition { .. }) => Ok(false),
            Err(failure) => Err(Error::from_failure(failure)),
        }
    }

    /// Merges the range that begins at a key into the one on its left, whose replicas are joined by those of the right-hand one first.
    ///
    /// # Errors
    /// [`Error::Invalid`] if no range begins there, or the two do not fit; others when something takes too long.
    pub async fn unite(&self, start: &Key, patience: Duration) -> Result<(), Error> {
        let right = self.inspect(start).await?.descriptor;
        let before = Span { start: Key::MIN, end: start.clone() };
        let known = self.known_ranges(&before);
        let last = known.last().filter(|_| right.start == *start);
        let last = last.ok_or_else(|| Error::Invalid(format!("no range begins at key {start}, or it is the first")))?;
        let left = self.inspect(&last.start).await?.descriptor;
        self.align(&left, &right, patience).await?;
        let right = self.inspect(start).await?.descriptor;
        self.merge_ranges(&left, &right).await
    }

    /// Brings a range's voters to the nodes of the range on its left, one after another, so that the two can be merged.
    ///
    /// # Errors
    /// When a replica has not moved within `patience`.
    pub async fn align(
        &self,
        left: &RangeDescriptor,
        right: &RangeDescriptor,
        patience: Duration,
    ) -> Result<(), Error> {
        // Where a change of members is under way, those that it leads to.
        let voters = |range: &RangeDescriptor| {
            let stays = |role| matches!(role, ReplicaRole::Voter | ReplicaRole::Incoming);
            let voters = range.replicas.iter().filter(|replica| stays(replica.role));
            voters.map(|replica| replica.node).collect::<Vec<_>>()
        };
        let (there, here) = (voters(left), voters(right));
        let missing = there.iter().filter(|node| !here.contains(node));
        let mut surplus = here.iter().filter(|node| !there.contains(node));
        for node in missing {
            self.move_replica(&right.start, Some(*node), surplus.next().copied(), there.len(), patience).await?;
        }
        Ok(())
    }
}
