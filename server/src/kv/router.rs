//! From keys to ranges, and from ranges to the nodes that lead them.
//!
//! The router keeps a cache of descriptors and leaders. The cache may be wrong: a range answers a request that was routed by
//! an old descriptor with the present one, a node that does not lead names the one that does. Redirects and repetition live here and
//! nowhere else; above, a request is answered or its deadline has passed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::channel::oneshot;
use futures::future::{self, BoxFuture, Either};
use proto::message::Body;
use proto::request::{Operation, RangeRequest, Read, Refusal, Reply, ReplyBody, Response, Target};
use proto::{Key, NodeId, RangeDescriptor, RangeId, Span, TxnId, codec};
use range_split::RangeMap;

use super::meta::meta_span;
use crate::config::Knobs;
use crate::env::{Env, Outbox};
use crate::probe::{Path, Point};
use crate::store::recover::{META_RANGE, meta_key};

/// How long a gateway waits for an answer where [`Point::ImpatientGateway`] fires.
const IMPATIENT: Duration = Duration::from_millis(2);

/// Why a request was not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The range has refused it; only refusals that repeating does not cure.
    Refused(Refusal),
    /// The range is not as the caller's partition of keys assumed: partition again. `sent` says whether an earlier copy of the
    /// request may have taken effect before the range changed.
    Repartition { sent: bool },
    /// Nobody answered before the deadline. `sent` says whether the request may have taken effect, or still may.
    Deadline { sent: bool, detail: String },
}

struct Cache {
    map: RangeMap,
    leaders: BTreeMap<RangeId, NodeId>,
    /// Who was asked, and where the answer goes.
    pending: BTreeMap<u64, (NodeId, oneshot::Sender<Response>)>,
    /// Nodes to which the connection broke, and which have not been heard of since. Asked last.
    away: BTreeSet<NodeId>,
    /// All nodes: whoever holds the meta range now, some of them will know.
    nodes: Vec<NodeId>,
    next_id: u64,
}

/// See the module.
pub struct Router {
    env: Arc<dyn Env>,
    outbox: Arc<dyn Outbox>,
    knobs: Arc<Knobs>,
    me: NodeId,
    cache: Mutex<Cache>,
}

impl Router {
    /// A router that knows the initial ranges.
    pub fn new(
        env: Arc<dyn Env>,
        outbox: Arc<dyn Outbox>,
        knobs: Arc<Knobs>,
        me: NodeId,
        ranges: Vec<RangeDescriptor>,
    ) -> Router {
        let mut map = RangeMap::default();
        for range in ranges {
            map.insert(range);
        }
        // Late answers to requests of an earlier life of this node must not be taken for answers to new ones.
        let next_id = env.random() >> 1;
        let (leaders, pending, away) = Default::default();
        let cache = Cache { map, leaders, pending, away, nodes: Vec::new(), next_id };
        Router { env, outbox, knobs, me, cache: Mutex::new(cache) }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().expect("no holder of this lock panics")
    }

    /// The range that holds a key, as far as is known: some range is always known.
    pub fn range_of(&self, key: &Key) -> RangeDescriptor {
        // A key beyond all ranges is for the last one to refuse.
        self.cache().map.lookup_or_last(key).cloned().expect("the map knows the ranges that it began with")
    }

    /// The known ranges that overlap a span, in key order, with their leaders.
    pub fn ranges_in(&self, span: &Span) -> Vec<(RangeDescriptor, Option<NodeId>)> {
        let cache = self.cache();
        cache.map.overlapping(span).map(|range| (range.clone(), cache.leaders.get(&range.id).copied())).collect()
    }

    /// Learns of ranges. Says whether any of it was news.
    pub fn learn(&self, ranges: impl IntoIterator<Item = RangeDescriptor>) -> bool {
        let mut cache = self.cache();
        let mut news = false;
        for range in ranges {
            news |= cache.map.insert(range);
        }
        news
    }

    /// The nodes of the cluster.
    pub fn set_nodes(&self, nodes: Vec<NodeId>) {
        self.cache().nodes = nodes;
    }

    /// Learns the descriptor of the range that holds a key from the meta range.
    ///
    /// # Errors
    /// [`Failure::Deadline`] when the meta range does not answer.
    pub fn look_up<'a>(&'a self, key: &Key) -> BoxFuture<'a, Result<(), Failure>> {
        let timestamp = self.env.clock().reading();
        // The last descriptor that begins at or before the key.
        let span = Span { start: meta_span().start, end: meta_key(key).next() };
        let target = Target::Span { span, rows_max: 1, bytes_max: u64::MAX, reverse: true };
        let read = Read { txn: TxnId::default(), timestamp, target, priority: timestamp };
        Box::pin(async move {
            /// Redirects in a row past which what is known has to do: the meta range has no time to move any faster.
            const REDIRECTS_MAX: u32 = 4;
            for _ in 0..REDIRECTS_MAX {
                let range = self.range_of(&meta_span().start);
                match self.call(&range, Operation::Read(read.clone()), self.knobs.request_deadline).await {
                    Err(Failure::Repartition { .. }) => {}
                    // In the way of a lookup there can be the intent of a publication: it will be gone soon.
                    Err(Failure::Refused(_)) => break,
                    reply => {
                        if let ReplyBody::Rows { rows, .. } = reply?.body {
                            let found = rows.iter().map(|row| codec::decode("a range descriptor", &row.value));
                            self.learn(found.filter_map(Result::ok));
                        }
                        break;
                    }
                }
            }
            Ok(())
        })
    }

    /// Nobody of those that hold a range, as far as is known, leads it. Finds out whether others do by now.
    async fn is_elsewhere(&self, range: &RangeDescriptor) -> bool {
        if range.id == META_RANGE {
            // It cannot be asked about itself: see `target`.
            return false;
        }
        // If nobody answers there either, what is known has to do.
        let _ = self.look_up(&range.start).await;
        self.knows_better(range)
    }

    /// Whether a descriptor is not what is known by now.
    fn knows_better(&self, range: &RangeDescriptor) -> bool {
        let known = self.range_of(&range.start);
        (known.id, known.epoch) != (range.id, range.epoch)
    }

    /// The node that leads a range, as far as is known.
    pub fn leader_of(&self, range: RangeId) -> Option<NodeId> {
        self.cache().leaders.get(&range).copied()
    }

    /// Whether the connection to a node is broken.
    pub fn is_away(&self, node: NodeId) -> bool {
        self.cache().away.contains(&node)
    }

    /// Asks a node about its replica of a range, once. `None` if it does not answer.
    pub async fn ask_once(&self, node: NodeId, range: &RangeDescriptor, operation: Operation) -> Option<Response> {
        let request = RangeRequest { range: range.id, epoch: range.epoch, operation };
        self.ask(node, request, self.knobs.attempt_timeout).await
    }

    /// An answer has arrived. Late and repeated ones find nobody waiting.
    pub fn deliver(&self, id: u64, response: Response) {
        let waiting = self.cache().pending.remove(&id);
        if let Some((_, waiting)) = waiting {
            // The one who waited may have gone away since.
            let _ = waiting.send(response);
        }
    }

    /// The connection to a node broke: what it was asked may never be answered, so nobody waits for that any longer.
    pub fn lost(&self, node: NodeId) {
        let mut cache = self.cache();
        cache.away.insert(node);
        cache.leaders.retain(|_, leader| *leader != node);
        // Without its sender a waiting question has no answer.
        cache.pending.retain(|_, (asked, _)| *asked != node);
    }

    /// A node that was lost is back.
    pub fn back(&self, node: NodeId) {
        self.cache().away.remove(&node);
    }

    /// Sends an operation to the leader of a range until it is answered or `deadline` (a duration from now) has passed.
    ///
    /// A repeated request may be carried out twice; every operation allows for that.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn call(
        &self,
        range: &RangeDescriptor,
        operation: Operation,
        deadline: Duration,
    ) -> Result<Reply, Failure> {
        let clock = self.env.clock();
        let until = clock.monotonic() + deadline;
        let mut attempt = 0u32;
        let mut round = Round::default();
        let mut maybe_sent = false;
        let mut detail = String::from("no answer");
        loop {
            let now = clock.monotonic();
            if now >= until {
                let id = range.id;
                return Err(Failure::Deadline {
                    sent: maybe_sent,
                    detail: format!("{id} did not answer in time: {detail}"),
                });
            }
            if self.knobs.probe.fires(Point::LeaderForgotten) {
                self.cache().leaders.remove(&range.id);
            }
            let target = self.target(range, attempt, &mut round);
            let mut timeout = self.knobs.attempt_timeout.min(until - now);
            if self.knobs.probe.fires(Point::ImpatientGateway) {
                timeout = timeout.min(IMPATIENT);
            }
            let request = RangeRequest { range: range.id, epoch: range.epoch, operation: operation.clone() };
            match self.ask(target, request, timeout).await {
                Some(Response::Done(reply)) => {
                    self.cache().leaders.insert(range.id, target);
                    return Ok(reply);
                }
                // What is no news comes from a node that knows less than this one: others are to be asked.
                Some(Response::Refused(Refusal::WrongRange(ranges)))
                    if self.learn(ranges.clone()) || self.knows_better(range) =>
                {
                    self.knobs.probe.took(Path::Repartitioned);
                    return Err(Failure::Repartition { sent: maybe_sent });
                }
                Some(Response::Refused(Refusal::Unknown)) => {
                    maybe_sent = true;
                    detail = "its leader changed".into();
                }
                Some(Response::Refused(mut refusal)) => {
                    round.weigh_hint(&mut refusal, range.replicas.len());
                    detail = self.prepare_to_repeat(range, (target, attempt), refusal).await?;
                }
                None => {
                    maybe_sent = true;
                    round.silent.insert(target);
                    detail = format!("{target} does not answer");
                    self.cache().leaders.remove(&range.id);
                    if clock.monotonic() < now + timeout {
                        // Its node was lost: another is to lead, which takes a while.
                        self.pause(attempt, false).await;
                    }
                }
            }
            attempt += 1;
            round.turn += 1;
            let all_asked = (attempt as usize).is_multiple_of(range.replicas.len() + 1);
            if all_asked && !self.cache().leaders.contains_key(&range.id) && self.is_elsewhere(range).await {
                self.knobs.probe.took(Path::FoundElsewhere);
                return Err(Failure::Repartition { sent: maybe_sent });
            }
        }
    }

    /// After a refusal without any effect: sees to it that asking again makes sense, and says why it has to be.
    ///
    /// # Errors
    /// [`Failure::Refused`] if it makes none.
    async fn prepare_to_repeat(
        &self,
        range: &RangeDescriptor,
        (target, attempt): (NodeId, u32),
        refusal: Refusal,
    ) -> Result<String, Failure> {
        let (detail, hinted) = match refusal {
            Refusal::NotLeader(hint) => {
                self.redirect(range.id, target, hint);
                (format!("{target} does not lead it"), hint.is_some())
            }
            Refusal::WrongRange(_) => {
                // A replica that is about to come into being, or was never here.
                self.redirect(range.id, target, None);
                (format!("{target} does not hold it"), false)
            }
            Refusal::Corrupt(why) => {
                // This replica has stopped, and another is to lead.
                self.knobs.probe.took(Path::StoppedAvoided);
                self.redirect(range.id, target, None);
                (why, false)
            }
            Refusal::Busy(why) => (why, false),
            other => return Err(Failure::Refused(other)),
        };
        self.pause(attempt, hinted).await;
        Ok(detail)
    }

    /// Whom to ask: the known leader, else the replicas in turn, those that have been silent last. Those that are away are asked only where all are.
    fn target(&self, range: &RangeDescriptor, attempt: u32, round: &mut Round) -> NodeId {
        let cache = self.cache();
        if let Some(leader) = cache.leaders.get(&range.id) {
            return *leader;
        }
        let mut holders: Vec<NodeId> = range.replicas.iter().map(|r| r.node).collect();
        if range.id == META_RANGE && attempt as usize > holders.len() {
            holders.extend(cache.nodes.iter().filter(|node| range.replica_on(**node).is_none()));
        }
        let here = holders.iter().position(|node| *node == self.me).unwrap_or(0);
        holders.rotate_left(here);
        if holders.iter().any(|node| !cache.away.contains(node)) {
            holders.retain(|node| !cache.away.contains(node));
        }
        round.pick(holders).unwrap_or(self.me)
    }

    fn redirect(&self, range: RangeId, from: NodeId, hint: Option<NodeId>) {
        let mut cache = self.cache();
        match hint.filter(|hint| *hint != from) {
            Some(leader) => cache.leaders.insert(range, leader),
            None => cache.leaders.remove(&range),
        };
    }

    /// Waits a little before asking again; not at all when following a fresh hint.
    async fn pause(&self, attempt: u32, hinted: bool) {
        if hinted && attempt < 3 {
            return;
        }
        let base = 2u64 << attempt.min(5);
        let jitter = self.env.random() % base;
        self.env.sleep(Duration::from_millis(base + jitter)).await;
    }

    /// Sends a message that nobody answers.
    pub fn send(&self, to: NodeId, body: Body) {
        self.outbox.send(to, body);
    }

    /// Sends one request and waits for its answer.
    pub(super) async fn ask(&self, to: NodeId, request: RangeRequest, timeout: Duration) -> Option<Response> {
        let (id, answer) = {
            let mut cache = self.cache();
            cache.next_id += 1;
            let id = cache.next_id;
            let (sender, receiver) = oneshot::channel();
            cache.pending.insert(id, (to, sender));
            (id, receiver)
        };
        // Given up or cancelled, nobody is left behind.
        let _forget = Forget { router: self, id };
        if self.knobs.probe.fires(Point::RequestTwice) {
            self.outbox.send(to, Body::Request { id, request: request.clone() });
        }
        self.outbox.send(to, Body::Request { id, request });
        match future::select(answer, self.env.sleep(timeout)).await {
            Either::Left((response, _)) => response.ok(),
            Either::Right(_) => None,
        }
    }
}

/// How the replicas of a range are asked in turn.
#[derive(Default)]
struct Round {
    turn: usize,
    /// Who has not answered in this round.
    silent: BTreeSet<NodeId>,
    /// Hints that were followed since all were asked in turn last.
    hints: usize,
}

impl Round {
    /// The next of these: nobody twice who is silent, before everybody was asked.
    fn pick(&mut self, mut nodes: Vec<NodeId>) -> Option<NodeId> {
        if nodes.iter().all(|node| self.silent.contains(node)) {
            self.silent.clear();
        }
        nodes.retain(|node| !self.silent.contains(node));
        nodes.get(self.turn % nodes.len().max(1)).copied()
    }

    /// As many hints as there are replicas lead nowhere: nodes name each other, while another one leads. The last one is taken away, so that
    /// all are asked in turn.
    fn weigh_hint(&mut self, refusal: &mut Refusal, replicas: usize) {
        match refusal {
            Refusal::NotLeader(Some(_)) if self.hints < replicas => self.hints += 1,
            Refusal::NotLeader(hint) => {
                *hint = None;
                self.hints = 0;
            }
            _ => {}
        }
    }
}

struct Forget<'a> {
    router: &'a Router,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.router.cache().pending.remove(&self.id);
    }
}
