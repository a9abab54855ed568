//! One operation over many keys: a part to each range, in parallel.

use std::time::Duration;

use futures::future;
use proto::request::{Operation, Refusal, Reply};
use proto::{Key, RangeDescriptor, Span};

use super::db::Db;
use super::router::Failure;
use super::settle::Pusher;
use crate::probe::Point;

/// How far apart the parts of an operation set out where [`Point::ScatterApart`] fires.
const APART_MAX: Duration = Duration::from_millis(30);

impl Db {
    /// Groups items by the range that holds their key, as far as is known.
    pub(super) fn partition<T>(&self, items: Vec<T>, key_of: impl Fn(&T) -> &Key) -> Vec<(RangeDescriptor, Vec<T>)> {
        let mut parts: Vec<(RangeDescriptor, Vec<T>)> = Vec::new();
        for item in items {
            let key = key_of(&item);
            match parts.iter_mut().find(|(range, _)| range.contains(key)) {
                Some((_, part)) => part.push(item),
                None => parts.push((self.shared.router.range_of(key), vec![item])),
            }
        }
        parts
    }

    /// Cuts spans at the boundaries of the ranges that they overlap, as far as is known.
    pub(super) fn partition_spans(&self, spans: &[Span]) -> Vec<(RangeDescriptor, Vec<Span>)> {
        let mut parts: Vec<(RangeDescriptor, Vec<Span>)> = Vec::new();
        for span in spans {
            for (range, _) in self.shared.router.ranges_in(span) {
                let piece = span.intersect(&range.span());
                match parts.iter_mut().find(|(known, _)| known.id == range.id && known.start == range.start) {
                    Some((_, part)) => part.push(piece),
                    None => parts.push((range, vec![piece])),
                }
            }
        }
        parts
    }

    /// Sends one range its part, settling intents that are in the way. A read in the past goes to a replica that is near first.
    pub(super) async fn call_settling(
        &self,
        range: &RangeDescriptor,
        operation: &Operation,
        pusher: Option<Pusher>,
    ) -> Result<Reply, Failure> {
        let operation = match operation {
            Operation::ReadPast(read) => match self.ask_near(range, read, pusher).await? {
                Some(reply) => return Ok(reply),
                None => &Operation::Read(read.clone()),
            },
            other => other,
        };
        let mut asked_before = false;
        loop {
            let result = self.shared.router.call(range, operation.clone(), self.shared.knobs.request_deadline).await;
            match (result, pusher) {
                (Err(Failure::Refused(Refusal::Intents(intents))), Some(pusher)) => {
                    self.settle(intents, pusher).await?;
                }
                // The place in the queue is kept.
                (Err(Failure::Refused(Refusal::Queued)), _) => {}
                (Err(Failure::Repartition { sent }), _) => {
                    return Err(Failure::Repartition { sent: sent || asked_before });
                }
                (result, _) => return result,
            }
            asked_before = true;
        }
    }

    /// Sends each range the items that it holds, as one operation; cuts anew where ranges turn out to have changed.
    ///
    /// Returns each part with its reply, in no particular order of keys but always the same for the same answers.
    ///
    /// # Errors
    /// The first failure; other parts may have been carried out.
    pub(super) async fn scatter<T: Clone + Send + Sync>(
        &self,
        items: Vec<T>,
        key_of: impl Fn(&T) -> &Key + Copy + Send + Sync,
        make: impl Fn(Vec<T>) -> Operation + Send + Sync,
        pusher: Option<Pusher>,
    ) -> Result<Vec<(Vec<T>, Reply)>, Failure> {
        let mut done = Vec::new();
        let mut todo = items;
        let mut tries = 0;
        while !todo.is_empty() {
            let parts = self.partition(std::mem::take(&mut todo), key_of);
            let calls = parts.iter().map(|(range, part)| {
                let operation = make(part.clone());
                async move {
                    self.dawdle(Point::ScatterApart, APART_MAX).await;
                    self.call_settling(range, &operation, pusher).await
                }
            });
            let replies = if parts.len() == 1 {
                vec![calls.into_iter().next().expect("there is one part").await]
            } else {
                future::join_all(calls).await
            };
            for ((_, part), reply) in parts.into_iter().zip(replies) {
                match reply {
                    Ok(reply) => done.push((part, reply)),
                    Err(Failure::Repartition { .. }) => todo.extend(part),
                    Err(failure) => return Err(failure),
                }
            }
            if let Some(first) = todo.first() {
                self.repartition(&key_of(first).clone(), &mut tries).await?;
            }
        }
        Ok(done)
    }

    /// The same over spans.
    ///
    /// # Errors
    /// See [`Db::scatter`].
    pub(super) async fn scatter_spans(
        &self,
        spans: Vec<Span>,
        make: impl Fn(Vec<Span>) -> Operation + Send + Sync,
        pusher: Option<Pusher>,
    ) -> Result<(), Failure> {
        let mut todo = spans;
        let mut tries = 0;
        while !todo.is_empty() {
            let parts = self.partition_spans(&std::mem::take(&mut todo));
            let calls = parts.iter().map(|(range, part)| {
                let operation = make(part.clone());
                async move {
                    self.dawdle(Point::ScatterApart, APART_MAX).await;
                    self.call_settling(range, &operation, pusher).await
                }
            });
            for ((_, part), reply) in parts.iter().zip(future::join_all(calls).await) {
                match reply {
                    Ok(_) => {}
                    Err(Failure::Repartition { .. }) => todo.extend(part.iter().cloned()),
                    Err(failure) => return Err(failure),
                }
            }
            if let Some(first) = todo.first() {
                let key = first.start.clone();
                self.repartition(&key, &mut tries).await?;
            }
        }
        Ok(())
    }
}
