//! Driving a commit: the coordinator says what, this does it.
//!
//! The driver runs as a task of the node, so that a client that goes away, or cancels, leaves no half-finished
//! commit behind: it ends one way or the other.

use std::collections::VecDeque;
use std::time::Duration;

use futures::channel::oneshot;
use futures::future::{self, Either};
use proto::request::{CommitOne, Heartbeat, Operation, Prepare, PushKind, Refusal, Reply, ReplyBody, Validate};
use proto::transaction::{TxnAddress, TxnMeta, Write};
use proto::{Key, Span, Timestamp};
use txn::coordinator::{self, Action, Coordinator, Event};
use txn::participant;

use super::api::{CommitTimings, Committed, Isolation, Transaction};
use super::db::Db;
use super::error::{Conflict, Error, RetryReason};
use super::router::Failure;
use super::settle::Pusher;
use super::transaction::KvTransaction;
use crate::probe::{Path, Point, Probe};

/// How late completion begins where [`Point::LateCompletion`] fires.
const LATE_MAX: Duration = Duration::from_millis(1500);

/// What a commit needs of its transaction.
struct Commit {
    db: Db,
    txn: TxnMeta,
    read: Timestamp,
    writes: Vec<Write>,
    keys: Vec<Key>,
    /// What must not have changed if the commit is pushed.
    validate: Vec<Span>,
    isolation: Isolation,
    timings: CommitTimings,
}

/// Commits what a transaction has buffered.
pub(super) async fn run(txn: &mut KvTransaction) -> Result<Committed, Error> {
    let writes: Vec<Write> =
        std::mem::take(&mut txn.writes).into_iter().map(|(key, value)| Write::new(key, value)).collect();
    let keys: Vec<Key> = writes.iter().map(|w| w.key.clone()).collect();
    let validate = match txn.isolation {
        Isolation::Serializable => txn.reads.to_vec(),
        Isolation::Snapshot => keys.iter().chain(txn.locked.keys()).map(Span::point).collect(),
    };
    let address = txn.address().expect("a transaction that commits has written");
    let meta = TxnMeta { priority: txn.priority, ..address.to_meta() };
    let commit = Commit {
        db: txn.db.clone(),
        txn: meta,
        read: txn.read,
        writes,
        keys,
        validate,
        isolation: txn.isolation,
        timings: CommitTimings::default(),
    };
    let (sender, receiver) = oneshot::channel();
    let task = async move {
        // Whether anybody still wants to hear it does not matter.
        let _ = sender.send(commit.drive().await);
    };
    txn.db.owe(task);
    match receiver.await {
        Ok(result) => result,
        Err(_) => Err(Error::OutcomeUnknown { txn: address, detail: "the node is stopping".into() }),
    }
}

impl Commit {
    async fn drive(mut self) -> Result<Committed, Error> {
        let began = self.db.env().clock().monotonic();
        let mut coordinator = Coordinator::new(self.txn.clone(), self.read, !self.validate.is_empty());
        let mut actions: VecDeque<Action> = coordinator.start(self.is_one_range()).into();
        let mut result = None;
        while let Some(action) = actions.pop_front() {
            let event = match action {
                Action::Finish(outcome) => {
                    result = Some(outcome);
                    continue;
                }
                // Off the client's path; what fails here is settled by whoever meets the intents.
                Action::Resolve(outcome) => {
                    let (db, id, keys) = (self.db.clone(), self.txn.id, std::mem::take(&mut self.keys));
                    let task = async move {
                        db.dawdle(Point::LateCompletion, LATE_MAX).await;
                        drop(db.resolve(id, outcome, keys).await);
                    };
                    self.db.owe(task);
                    continue;
                }
                Action::Complete { attempt, timestamp } => {
                    let (db, keys) = (self.db.clone(), std::mem::take(&mut self.keys));
                    let txn = TxnMeta { attempt, ..self.txn.clone() };
                    self.probe().took(Path::SeveralRangesCommit);
                    if self.probe().fires(Point::CommitLeftStaged) {
                        continue;
                    }
                    let task = async move {
                        db.dawdle(Point::LateCompletion, LATE_MAX).await;
                        db.complete(txn, timestamp, keys).await;
                    };
                    self.db.owe(task);
                    continue;
                }
                action => self.carry_out(action).await,
            };
            match event {
                Ok(event) => actions.extend(coordinator.step(event)),
                Err(detail) if coordinator.is_undecided() => {
                    self.probe().took(Path::OutcomeLeftOpen);
                    let TxnMeta { id, start, anchor, .. } = self.txn;
                    return Err(Error::OutcomeUnknown { txn: TxnAddress { id, start, anchor }, detail });
                }
                Err(detail) => return Err(Error::Unavailable(detail)),
            }
        }
        self.timings.total = self.db.env().clock().monotonic() - began;
        match result.expect("a coordinator finishes") {
            Ok(timestamp) => Ok(Committed { timestamp, timings: self.timings }),
            Err(failure) => Err(self.explain(failure)),
        }
    }

    /// Under snapshot isolation only rows that the transaction wrote or locked are validated, so that is what has changed.
    fn explain(&self, failure: coordinator::Failure) -> Error {
        match Error::from_coordinator(failure, self.txn.id, self.read) {
            Error::Retry(conflict)
                if self.isolation == Isolation::Snapshot && conflict.reason == RetryReason::ReadChanged =>
            {
                Error::Retry(Conflict { reason: RetryReason::WriteConflict, ..conflict })
            }
            other => other,
        }
    }

    fn is_one_range(&self) -> bool {
        let range = self.db.shared.router.range_of(&self.keys[0]);
        self.keys.iter().all(|key| range.contains(key))
    }

    /// Does what the coordinator asks. An error means that nobody answered before the deadline.
    async fn carry_out(&mut self, action: Action) -> Result<Event, String> {
        match action {
            Action::CommitOne { timestamp } => self.commit_one(timestamp).await,
            Action::Stage { attempt, timestamp } => {
                self.txn.attempt = attempt;
                if attempt > 1 {
                    self.probe().took(Path::StagedAgain);
                }
                self.stage(timestamp).await
            }
            Action::Validate { to } => {
                let (txn, from) = (self.txn.id, self.read);
                let make = |spans| Operation::Validate(Validate { txn, from, to, spans });
                let pusher = Some(self.pusher(PushKind::Validate(to)));
                let call = self.db.scatter_spans(self.validate.clone(), make, pusher);
                match self.alive(Box::pin(call)).await {
                    Ok(()) => {
                        self.probe().took(Path::ValidationHeld);
                        Ok(Event::Valid)
                    }
                    Err(failure) => {
                        if matches!(failure, Failure::Refused(Refusal::Changed(_))) {
                            self.probe().took(Path::ValidationFailed);
                        }
                        Ok(refused(failure))
                    }
                }
            }
            Action::Settle { pushed } => {
                self.probe().took(Path::OutcomeAsked);
                match self.db.settle_own(&self.txn, pushed).await {
                    Ok(record) => Ok(Event::Record(record)),
                    Err(failure) => Err(describe(failure)),
                }
            }
            Action::Finish(_) | Action::Resolve(_) | Action::Complete { .. } => {
                unreachable!("carried out by the loop")
            }
        }
    }

    fn probe(&self) -> &dyn Probe {
        self.db.shared.knobs.probe.as_ref()
    }

    fn pusher(&self, kind: PushKind) -> Pusher {
        Pusher { txn: self.txn.id, priority: self.txn.priority, kind }
    }

    async fn commit_one(&mut self, timestamp: Timestamp) -> Result<Event, String> {
        let mut tries = 0;
        loop {
            let range = self.db.shared.router.range_of(&self.keys[0]);
            if !self.keys.iter().all(|key| range.contains(key)) {
                return Ok(Event::NotOneRange);
            }
            let operation = Operation::CommitOne(self.command_for(&range.span(), timestamp));
            let pusher = Some(self.pusher(PushKind::Abort));
            return match self.db.call_settling(&range, &operation, pusher).await {
                Ok(reply) => {
                    self.count(&reply);
                    match reply.body {
                        ReplyBody::At(timestamp) => {
                            self.probe().took(Path::OneRangeCommit);
                            Ok(Event::CommittedOne(timestamp))
                        }
                        _ => Err("the range answered something else".into()),
                    }
                }
                Err(Failure::Refused(Refusal::Pushed(timestamp))) => Ok(Event::Pushed(timestamp)),
                // Nothing has happened: the range is another one now.
                Err(Failure::Repartition { sent: false })
                    if self.db.repartition(&self.keys[0], &mut tries).await.is_ok() =>
                {
                    continue;
                }
                // An earlier copy may have been carried out before the range changed: the record tells.
                Err(Failure::Repartition { .. }) => Ok(Event::Lost),
                Err(Failure::Deadline { sent: false, detail }) => {
                    Ok(Event::Refused(coordinator::Failure::Unavailable(detail)))
                }
                Err(failure) => Ok(refused(failure)),
            };
        }
    }

    /// The whole transaction as one command of the range with this span.
    fn command_for(&self, here: &Span, timestamp: Timestamp) -> CommitOne {
        CommitOne {
            txn: self.txn.clone(),
            read: self.read,
            timestamp,
            writes: self.writes.clone(),
            complete: self.validate.iter().all(|span| here.covers(span)),
            validate: self.validate.iter().map(|s| s.intersect(here)).filter(|s| !s.is_empty()).collect(),
        }
    }

    /// Of the first attempt everything goes out at once. Of a later one the record goes first, and the rest only when it has been moved on:
    /// what looked like a push may be a request that was repeated after somebody had recovered the transaction and resolved that
    /// intent. It is committed then, and its other intents must not be replaced.
    async fn stage(&mut self, timestamp: Timestamp) -> Result<Event, String> {
        let mut rest = self.writes.clone();
        let mut latest = timestamp;
        if self.txn.attempt > 1 {
            let first: Vec<Write> = rest.extract_if(.., |write| write.key == self.txn.anchor).collect();
            match self.prepare(first, timestamp).await? {
                Event::Staged(at) if at == timestamp => latest = at,
                other => return Ok(other),
            }
        }
        match self.prepare(rest, timestamp).await? {
            Event::Staged(at) => Ok(Event::Staged(latest.max(at))),
            other => Ok(other),
        }
    }

    /// Has these writes' intents written, and the record staged where the anchor is among them.
    async fn prepare(&mut self, writes: Vec<Write>, timestamp: Timestamp) -> Result<Event, String> {
        let (txn, anchor, keys) = (self.txn.clone(), self.txn.anchor.clone(), self.keys.clone());
        let make = move |writes: Vec<Write>| {
            let record = writes.iter().any(|w| w.key == anchor).then(|| keys.clone());
            Operation::Prepare(Prepare { txn: txn.clone(), timestamp, writes, record })
        };
        let pusher = Some(self.pusher(PushKind::Abort));
        let call = self.db.scatter(writes, |w| &w.key, make, pusher);
        let parts = match self.alive(Box::pin(call)).await {
            Ok(parts) => parts,
            Err(failure) => return Ok(refused(failure)),
        };
        let mut latest = timestamp;
        let mut decided = None;
        for (_, reply) in parts {
            self.count(&reply);
            match reply.body {
                ReplyBody::At(at) => latest = latest.max(at),
                ReplyBody::Record(record) if participant::outcome_is_final(&record) => decided = Some(record),
                // A later attempt than ours: it is not this coordinator's, so only the record can tell.
                ReplyBody::Record(_) => return Ok(Event::Lost),
                _ => return Err("the range answered something else".into()),
            }
        }
        Ok(decided.map_or(Event::Staged(latest), Event::Record))
    }

    fn count(&mut self, reply: &Reply) {
        self.timings.queue = self.timings.queue.max(Duration::from_micros(reply.queue_us));
        self.timings.replication = self.timings.replication.max(Duration::from_micros(reply.replication_us));
    }

    /// Waits for a call, telling the record from time to time that the coordinator lives.
    async fn alive<F: Future + Unpin>(&self, mut call: F) -> F::Output {
        loop {
            let interval = self.db.shared.knobs.txn_heartbeat;
            match future::select(call, self.db.env().sleep(interval)).await {
                Either::Left((output, _)) => return output,
                Either::Right((_, pending)) => {
                    call = pending;
                    if self.probe().fires(Point::HeartbeatSkipped) {
                        continue;
                    }
                    let (db, txn) = (self.db.clone(), self.txn.clone());
                    let task = async move {
                        let anchor = txn.anchor.clone();
                        // If it does not arrive, the next one may.
                        let _ = db.call_key(&anchor, &Operation::Heartbeat(Heartbeat { txn })).await;
                    };
                    self.db.env().spawn(Box::pin(task));
                }
            }
        }
    }
}

fn describe(failure: Failure) -> String {
    match failure {
        Failure::Deadline { detail, .. } => detail,
        Failure::Refused(refusal) => format!("{refusal:?}"),
        Failure::Repartition { .. } => "the ranges keep changing".into(),
    }
}

/// What a failed step means to the coordinator.
fn refused(failure: Failure) -> Event {
    match failure {
        Failure::Refused(Refusal::Changed(changed)) => Event::Refused(coordinator::Failure::Changed(changed)),
        Failure::Refused(Refusal::Aborted(by)) => Event::Refused(coordinator::Failure::Aborted(by)),
        Failure::Refused(Refusal::Wounded(by)) => Event::Refused(coordinator::Failure::Wounded(by)),
        Failure::Refused(Refusal::TooOld) => Event::Refused(coordinator::Failure::TooOld),
        Failure::Refused(Refusal::Invalid(detail)) => Event::Refused(coordinator::Failure::Refused(detail)),
        Failure::Refused(_) | Failure::Deadline { .. } | Failure::Repartition { .. } => Event::Lost,
    }
}
