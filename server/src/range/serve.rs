//! Requests: in, waiting, evaluated, answered or proposed.

use std::time::Duration;

use proto::codec;
use proto::range::{RangeOperation, Split};
use proto::request::{LockingRead, Operation, RangeRequest, Refusal, Reply, ReplyBody, Response};
use proto::{Key, Span, Timestamp, TxnId};
use txn::WriteBatch;
use txn::clock::ClockError;
use txn::engine::EngineError;
use txn::latches::LatchId;
use txn::locks::{Acquired, Rank};
use txn::participant::{self, Context, Evaluation};

use super::command::{Command, Trigger};
use super::replica::{Leading, Origin, Proposal, Replica, Surroundings, Waiting, Why};
use super::state;
use crate::probe::{Path, Point};
use crate::raft::MemberChange;

/// Why waiting requests are looked at again.
#[derive(Clone, Copy, Debug)]
pub enum Wake<'a> {
    /// A command that wrote these spans has been applied, and has moved the fence.
    Applied(&'a [Span]),
    /// Locks may have changed hands.
    Locks,
    /// The fence has moved.
    Fence,
}

/// A command on its way into the log.
pub(super) struct Proposed {
    pub batch: WriteBatch,
    pub trigger: Option<Trigger>,
    /// A change of members, if it is one.
    pub members: Option<MemberChange>,
    pub reply: ReplyBody,
    pub ends: Option<TxnId>,
    pub commits: bool,
}

impl Proposed {
    /// A command that changes the range itself, and none of its data.
    pub fn of_range(trigger: Trigger, reply: ReplyBody) -> Proposed {
        let (batch, trigger) = (WriteBatch::default(), Some(trigger));
        Proposed { batch, trigger, members: None, reply, ends: None, commits: false }
    }
}

impl Replica {
    /// A request has arrived.
    pub fn serve(&mut self, cx: &mut Surroundings<'_>, origin: Origin, request: RangeRequest) {
        if let Operation::ReadPast(read) = &request.operation {
            return self.serve_past(cx, origin, &request, read);
        }
        // A quiet follower wakes only where its leader is silent: whoever asks it may have tried that one.
        if self.group.is_leader() || !self.leader.is_some_and(|leader| cx.answering.contains(&leader)) {
            self.rouse(cx);
        }
        if !self.is_serving() {
            let refusal = self.refusal();
            return respond(cx, origin, Response::Refused(refusal));
        }
        self.stir(cx.now);
        if self.state.frozen.is_some() && !works_on_frozen(&request.operation) {
            return respond(cx, origin, Response::Refused(self.frozen_refusal()));
        }
        let Some(leading) = self.leading.as_mut() else { return };
        leading.active.get_or_insert(cx.now);
        leading.closing.asked = cx.now;
        if let Operation::Locks(locks) = &request.operation {
            if locks.keep && !cx.knobs.probe.fires(Point::LocksForgotten) {
                leading.locks.keep(cx.now, locks.txn);
            } else {
                leading.locks.release(locks.txn);
                leading
                    .waiting
                    .retain(|_, w| !matches!(&w.request.operation, Operation::LockingRead(r) if r.txn == locks.txn));
                self.wake(cx, Wake::Locks);
            }
            return respond(cx, origin, done(ReplyBody::Ok));
        }
        if leading.waiting.len() >= cx.knobs.waiting_max {
            let busy = format!("{} requests are waiting at this range", leading.waiting.len());
            return respond(cx, origin, Response::Refused(Refusal::Busy(busy)));
        }
        let id = LatchId(leading.next_id());
        leading.weighing.count(cx.now, id.0, &request.operation, &cx.knobs.splitting);
        let waiting = Waiting { origin, request, arrived: cx.now, since: cx.now, why: Why::Latches };
        self.attempt(cx, id, waiting);
        // Whom it wounded learns of it at once: it may hold locks elsewhere.
        while self.leading.as_mut().is_some_and(|leading| leading.locks.were_taken()) {
            self.wake(cx, Wake::Locks);
        }
    }

    /// Carries a request out if nothing stands in its way, else lets it wait.
    fn attempt(&mut self, cx: &mut Surroundings<'_>, id: LatchId, waiting: Waiting) {
        if let Some(refusal) = self.misrouted(&waiting.request) {
            self.stop_waiting(id);
            return respond(cx, waiting.origin, Response::Refused(refusal));
        }
        let outcome = self.try_evaluate(cx, id, &waiting.request.operation);
        match outcome {
            Err(error) => {
                respond(cx, waiting.origin, Response::Refused(Refusal::Corrupt(error.to_string())));
                self.stop(cx, &error);
            }
            Ok(Step::Wait(why)) => self.park(cx, id, waiting, why),
            Ok(Step::Respond(response)) => {
                self.stop_waiting(id);
                respond(cx, waiting.origin, queued(response, cx.now - waiting.arrived));
            }
            Ok(Step::Propose(proposed, writes, timestamp)) => {
                self.propose(cx, id, &waiting, proposed, writes, timestamp);
            }
        }
    }

    /// Whether a request is for another range, or for this one as it is no longer.
    pub fn misrouted(&self, request: &RangeRequest) -> Option<Refusal> {
        // Words about locks are for whatever the range still holds of them.
        if matches!(request.operation, Operation::Locks(_)) {
            return None;
        }
        let descriptor = self.descriptor();
        let fits = request.range == descriptor.id
            && participant::named(&request.operation).iter().all(|span| descriptor.span().covers(span));
        (!fits || request.epoch != descriptor.epoch).then(|| Refusal::WrongRange(vec![descriptor.clone()]))
    }

    fn try_evaluate(
        &mut self,
        cx: &mut Surroundings<'_>,
        id: LatchId,
        operation: &Operation,
    ) -> Result<Step, EngineError> {
        let probe = cx.knobs.probe.as_ref();
        let now = match cx.clock.issue() {
            Ok(now) => now,
            Err(ClockError::Doubted) => {
                let why = format!("the clock of the range's leader is {}", cx.clock.standing());
                return Ok(Step::refuse(Refusal::Busy(why)));
            }
            Err(_) => {
                probe.took(Path::CeilingReached);
                return Ok(Step::refuse(Refusal::Busy("the clock is at its ceiling: the disk is slow".into())));
            }
        };
        let receipt_floor = self.state.receipt_floor;
        let Some(leading) = self.leading.as_mut() else { return Ok(Step::refuse(self.refusal())) };
        if let Operation::LockingRead(read) = operation {
            match acquire_locks(leading, cx.now, read) {
                Acquired::Yes => {}
                Acquired::Waiting => return Ok(Step::Wait(Why::Locks)),
                Acquired::Wounded(by) => {
                    probe.took(Path::LockWounded);
                    return Ok(Step::refuse(Refusal::Wounded(by)));
                }
            }
        }
        let access = participant::access(operation);
        if leading.latches.read_blocked(&access.reads, access.at) {
            return Ok(Step::Wait(Why::Latches));
        }
        if !access.writes.is_empty() && leading.latches.write_blocked(&access.writes, Some(id)) {
            leading.latches.wait(id, access.writes);
            return Ok(Step::Wait(Why::Latches));
        }
        if let Operation::Range(operation) = operation {
            return Ok(self.evaluate_range(cx, operation, access.writes));
        }
        let evaluation = evaluate(cx, leading, now, receipt_floor, operation)?;
        Ok(match evaluation {
            Evaluation::Answer(body) => Step::Respond(done(body)),
            Evaluation::Refuse(refusal) => Step::refuse(refusal),
            Evaluation::Blocked(intents) => Step::Wait(Why::Intents(intents)),
            Evaluation::BeyondFence(_) => Step::Wait(Why::Fence),
            Evaluation::Write { batch, timestamp, reply } => {
                let size = participant::encoded_len(&batch);
                if size > cx.knobs.command_bytes_max {
                    let limit = cx.knobs.command_bytes_max;
                    return Ok(Step::refuse(Refusal::Invalid(format!(
                        "the writes to one range make a command of {size} bytes, and the limit is {limit}"
                    ))));
                }
                let ends = match operation {
                    Operation::CommitOne(commit) => Some(commit.txn.id),
                    Operation::Resolve(resolve) => Some(resolve.txn),
                    Operation::CommitRecord(commit) => Some(commit.txn.id),
                    _ => None,
                };
                let commits = matches!(operation, Operation::CommitOne(_) | Operation::CommitRecord(_));
                Step::Propose(
                    Box::new(Proposed { batch, trigger: None, members: None, reply, ends, commits }),
                    access.writes,
                    timestamp,
                )
            }
        })
    }

    /// What is asked of the range itself.
    fn evaluate_range(&mut self, cx: &mut Surroundings<'_>, operation: &RangeOperation, writes: Vec<Span>) -> Step {
        let answer = |result: Result<ReplyBody, Refusal>| match result {
            Ok(body) => Step::Respond(done(body)),
            Err(refusal) => Step::refuse(refusal),
        };
        match operation {
            RangeOperation::Split(split) => self.evaluate_split(cx, split, writes),
            RangeOperation::ChangeReplicas(change) => Step::of_range(self.evaluate_change(change).map(Some), writes),
            RangeOperation::Freeze(left) => Step::of_range(self.evaluate_freeze(left), writes),
            RangeOperation::Merge { frozen_at, .. } => {
                let Some(right) = &cx.neighbour else {
                    return Step::refuse(Refusal::Busy("the range on the right is not frozen here yet".into()));
                };
                Step::of_range(self.evaluate_merge(right, *frozen_at).map(Some), writes)
            }
            RangeOperation::Advance => Step::of_range(self.evaluate_advance().map(Some), writes),
            RangeOperation::Pin(pinned) => Step::of_range(self.evaluate_pin(*pinned), writes),
            RangeOperation::Thaw { frozen_at } => Step::of_range(self.evaluate_thaw(*frozen_at), writes),
            RangeOperation::Transfer(to) => answer(self.hand_over(cx, *to)),
            // The store's own business.
            RangeOperation::IsReady { .. } => Step::refuse(Refusal::Invalid("not asked of a leader".into())),
            RangeOperation::Inspect => answer(Ok(ReplyBody::Status(Box::new(self.status())))),
        }
    }

    /// The command of a split, evaluated under a latch on the whole range.
    fn evaluate_split(&mut self, cx: &Surroundings<'_>, split: &Split, writes: Vec<Span>) -> Step {
        if let Err(refusal) = self.may_reshape().and_then(|()| self.must_be_settled()) {
            return Step::refuse(refusal);
        }
        // Whatever was removed here may be removed again, but a range that was merged away never comes back.
        match state::tombstone(cx.engine, split.right) {
            Ok(Some(tombstone)) if tombstone.descriptor.id != split.right => {
                return Step::refuse(Refusal::Invalid(format!("there was a range {} before", split.right)));
            }
            Ok(_) => {}
            Err(error) => return Step::refuse(Refusal::Corrupt(error.to_string())),
        }
        let Some(leading) = self.leading.as_ref() else { return Step::refuse(self.refusal()) };
        let read_floor = leading.reads.summary();
        match super::split::plan(&self.state.descriptor, split) {
            Err(refusal) => Step::refuse(refusal),
            Ok(None) => Step::Respond(done(ReplyBody::Ranges(vec![self.state.descriptor.clone()]))),
            Ok(Some((left, right))) => {
                let reply = ReplyBody::Ranges(vec![left.clone(), right.clone()]);
                let trigger = Trigger::Split { left, right, read_floor, pinned: split.pinned };
                Step::Propose(Box::new(Proposed::of_range(trigger, reply)), writes, Timestamp::ZERO)
            }
        }
    }

    /// The command that says whether the range's first key is a boundary that stays, unless that is known.
    fn evaluate_pin(&self, pinned: bool) -> Result<Option<Proposed>, Refusal> {
        self.may_reshape()?;
        Ok((self.state.pinned != pinned).then(|| Proposed::of_range(Trigger::Pin(pinned), ReplyBody::Ok)))
    }

    fn propose(
        &mut self,
        cx: &mut Surroundings<'_>,
        id: LatchId,
        waiting: &Waiting,
        proposed: Box<Proposed>,
        writes: Vec<Span>,
        timestamp: proto::Timestamp,
    ) {
        let Proposed { batch, trigger, members, reply, ends, commits } = *proposed;
        let reshapes = trigger.is_some();
        let closed = if reshapes { None } else { self.close_along(cx, timestamp) };
        let Some(leading) = self.leading.as_mut() else { return };
        let number = leading.next_id();
        let command = codec::encode(&Command { term: leading.term, proposal: number, batch, trigger, closed });
        let refused = cx.knobs.probe.fires(Point::ProposalRefused).then(|| "a fault point fires".to_string());
        let propose = || match members {
            Some(change) => self.group.propose_change(&change, command).err(),
            None => self.group.propose(command).err(),
        };
        if let Some(detail) = refused.or_else(propose) {
            leading.latches.stop_waiting(id);
            let busy = Refusal::Busy(format!("the command was not accepted: {detail}"));
            return respond(cx, waiting.origin, Response::Refused(busy));
        }
        self.dirty = true;
        if reshapes {
            leading.reshaping = Some(number);
        }
        if let Some(closed) = closed {
            leading.closing.proposed(cx.now, closed);
        }
        leading.latches.acquire(id, writes.clone(), timestamp);
        let proposal = Proposal {
            origin: waiting.origin,
            arrived: waiting.arrived,
            proposed: cx.now,
            reading: cx.clock.reading(),
            reply,
            latch: id,
            touched: writes,
            ends,
            commits,
        };
        leading.proposals.insert(number, proposal);
    }

    /// Proposes a command that nobody asked for.
    pub(super) fn propose_own(&mut self, cx: &mut Surroundings<'_>, proposed: Proposed) {
        let origin = self.own_origin();
        self.stir(cx.now);
        let Some(leading) = self.leading.as_mut() else { return };
        let id = LatchId(leading.next_id());
        let request = RangeRequest {
            range: self.state.descriptor.id,
            epoch: self.state.descriptor.epoch,
            operation: Operation::Range(RangeOperation::Inspect),
        };
        let waiting = Waiting { origin, request, arrived: cx.now, since: cx.now, why: Why::Latches };
        self.propose(cx, id, &waiting, Box::new(proposed), Vec::new(), Timestamp::ZERO);
    }

    fn park(&mut self, cx: &mut Surroundings<'_>, id: LatchId, mut waiting: Waiting, why: Why) {
        let Some(leading) = self.leading.as_mut() else { return };
        if why != Why::Latches {
            // Its place among the latches would hold up whoever removes the intent that it waits for.
            leading.latches.stop_waiting(id);
        }
        if std::mem::discriminant(&why) != std::mem::discriminant(&waiting.why) {
            waiting.since = cx.now;
        }
        match why {
            Why::Fence => {
                cx.knobs.probe.took(Path::WaitedForFence);
                self.ask_for_fence(cx);
            }
            Why::Locks => cx.knobs.probe.took(Path::WaitedForLock),
            Why::Intents(_) => cx.knobs.probe.took(Path::WaitedForIntent),
            Why::Latches => {}
        }
        let Some(leading) = self.leading.as_mut() else { return };
        waiting.why = why;
        leading.waiting.insert(id, waiting);
    }

    fn stop_waiting(&mut self, id: LatchId) {
        if let Some(leading) = self.leading.as_mut() {
            leading.latches.stop_waiting(id);
        }
    }

    /// Looks again at the requests that may go on, in order of arrival.
    pub fn wake(&mut self, cx: &mut Surroundings<'_>, wake: Wake<'_>) {
        let Some(leading) = self.leading.as_ref() else { return };
        let ids: Vec<LatchId> = leading
            .waiting
            .iter()
            .filter(|(_, waiting)| match (&waiting.why, wake) {
                (Why::Latches | Why::Fence, Wake::Applied(_))
                | (Why::Locks, Wake::Locks)
                | (Why::Fence, Wake::Fence) => true,
                (Why::Intents(intents), Wake::Applied(spans)) => {
                    intents.iter().any(|intent| spans.iter().any(|span| span.contains(&intent.key)))
                }
                _ => false,
            })
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            let Some(waiting) = self.leading.as_mut().and_then(|l| l.waiting.remove(&id)) else { continue };
            self.attempt(cx, id, waiting);
        }
    }

    /// Answers those that have waited long enough.
    pub fn tick_waiting(&mut self, cx: &mut Surroundings<'_>) {
        let Some(leading) = self.leading.as_mut() else { return };
        let changed = leading.locks.tick(cx.now);
        let late: Vec<LatchId> = leading
            .waiting
            .iter()
            .filter(|(_, waiting)| {
                let limit = match waiting.why {
                    Why::Intents(_) => cx.knobs.push_after,
                    Why::Locks => cx.knobs.lock_wait,
                    Why::Latches | Why::Fence => cx.knobs.wait_max,
                };
                cx.now.saturating_sub(waiting.since) >= limit
            })
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            let Some(waiting) = leading.waiting.remove(&id) else { continue };
            leading.latches.stop_waiting(id);
            let refusal = match waiting.why {
                Why::Intents(intents) => Refusal::Intents(intents),
                Why::Locks => Refusal::Queued,
                Why::Latches => Refusal::Busy("earlier commands on these keys are not replicated yet".into()),
                Why::Fence => Refusal::Busy("no quorum confirms this leader".into()),
            };
            respond(cx, waiting.origin, Response::Refused(refusal));
        }
        if changed {
            self.wake(cx, Wake::Locks);
        }
    }
}

/// What an attempt came to.
enum Step {
    Respond(Response),
    Wait(Why),
    Propose(Box<Proposed>, Vec<Span>, proto::Timestamp),
}

impl Step {
    /// A command of the range's own, or nothing where it is as wanted already.
    fn of_range(evaluated: Result<Option<Proposed>, Refusal>, writes: Vec<Span>) -> Step {
        match evaluated {
            Ok(Some(proposed)) => Step::Propose(Box::new(proposed), writes, Timestamp::ZERO),
            Ok(None) => Step::Respond(done(ReplyBody::Ok)),
            Err(refusal) => Step::refuse(refusal),
        }
    }

    fn refuse(refusal: Refusal) -> Step {
        Step::Respond(Response::Refused(refusal))
    }
}

/// Whether a frozen range answers.
fn works_on_frozen(operation: &Operation) -> bool {
    use RangeOperation::{Freeze, Inspect, Thaw};
    matches!(operation, Operation::Locks(_) | Operation::Range(Freeze(_) | Inspect | Thaw { .. }))
}

/// Evaluates what nothing stands in the way of, but perhaps intents and the fence.
fn evaluate(
    cx: &mut Surroundings<'_>,
    leading: &mut Leading,
    now: Timestamp,
    receipt_floor: Timestamp,
    operation: &Operation,
) -> Result<Evaluation, EngineError> {
    let probe = cx.knobs.probe.as_ref();
    if let Some(key) = first_written(operation)
        && probe.fires(Point::ExtraPush)
    {
        leading.reads.record(&Span::point(key), now, TxnId::default());
    }
    if leading.hold_closing_for(cx.now, operation) {
        probe.took(Path::ClosingHeld);
    }
    let at_once = matches!(operation, Operation::Push(_)) && probe.fires(Point::ExpiryAtOnce);
    let mut context = Context {
        engine: cx.engine,
        reads: &mut leading.reads,
        now,
        fence: leading.fence,
        receipt_floor,
        expiry: if at_once { Duration::ZERO } else { cx.knobs.txn_expiry },
    };
    let evaluation = participant::evaluate(&mut context, operation)?;
    match (&evaluation, operation) {
        (Evaluation::Answer(ReplyBody::Present(false)), _) => probe.took(Path::Prevented),
        (Evaluation::Answer(ReplyBody::At(_)), Operation::CommitOne(_)) => probe.took(Path::ReceiptFound),
        _ => {}
    }
    Ok(evaluation)
}

/// The first key that a transaction's commit writes here.
fn first_written(operation: &Operation) -> Option<&Key> {
    match operation {
        Operation::Prepare(prepare) => prepare.writes.first().map(|write| &write.key),
        Operation::CommitOne(commit) => commit.writes.first().map(|write| &write.key),
        _ => None,
    }
}

fn acquire_locks(leading: &mut Leading, now: Duration, read: &LockingRead) -> Acquired {
    let rank = Rank { priority: read.priority, txn: read.txn };
    let mut result = Acquired::Yes;
    for key in &read.keys {
        match leading.locks.acquire(now, key, rank) {
            Acquired::Yes => {}
            Acquired::Waiting => result = Acquired::Waiting,
            Acquired::Wounded(by) => return Acquired::Wounded(by),
        }
    }
    result
}

fn done(body: ReplyBody) -> Response {
    Response::Done(Reply { body, queue_us: 0, replication_us: 0 })
}

fn queued(mut response: Response, queue: Duration) -> Response {
    if let Response::Done(reply) = &mut response {
        reply.queue_us = micros(queue);
    }
    response
}

/// Whole microseconds of a duration.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Answers a request.
pub fn respond(cx: &mut Surroundings<'_>, origin: Origin, response: Response) {
    if origin.id != Origin::NOBODY {
        cx.effects.responses.push((origin, response));
    }
}
