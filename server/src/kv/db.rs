//! A node's gateway to the key space.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use proto::message::Body;
use proto::report::StoreReport;
use proto::request::{Operation, Reply, Response};
use proto::transaction::{TxnAddress, TxnOutcome, TxnStatus};
use proto::{Key, NodeId, NodeRecord, RangeDescriptor, RangeId, Span, Timestamp, TxnId, keyspace};
use txn::clock::{ClockError, Doubt, Trust};

use super::api::{BeginOptions, ClockInfo, Kv, NodeChange, NodeInfo, RangeInfo, RangeSurvey, Transaction};
use super::checkup::Checkup;
use super::error::{Conflict, Error};
use super::meta::meta_span;
use super::reports::Reports;
use super::router::{Failure, Router};
use super::stats::{Counters, GatewayStats};
use super::transaction::KvTransaction;
use crate::config::Knobs;
use crate::env::{Env, Outbox};
use crate::probe::{Path, Point, Probe};
use crate::store::recover::META_RANGE;

/// What a gateway is made with.
pub struct DbConfig {
    pub env: Arc<dyn Env>,
    pub outbox: Arc<dyn Outbox>,
    pub knobs: Arc<Knobs>,
    pub node: NodeId,
    /// The members to begin with; the registry corrects them.
    pub members: Vec<NodeRecord>,
    /// Ranges to begin with; stale ones are fine.
    pub ranges: Vec<RangeDescriptor>,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub env: Arc<dyn Env>,
    pub knobs: Arc<Knobs>,
    pub node: NodeId,
    pub router: Router,
    pub counters: Counters,
    /// When each node was last heard of, on the monotonic clock; a lost one not at all.
    heard: Mutex<BTreeMap<NodeId, Duration>>,
    reports: Mutex<Reports>,
    /// This node's copy of the registry.
    members: Mutex<BTreeMap<NodeId, NodeRecord>>,
    /// The copy should be brought up to date now.
    members_wanted: AtomicBool,
    /// Shared by every task that carries out what a transaction owes others.
    debts: Arc<()>,
}

/// The nodes that are members.
pub(super) fn present<'a>(members: impl IntoIterator<Item = &'a NodeRecord>) -> Vec<NodeId> {
    members.into_iter().filter(|m| m.state.is_member()).map(|m| m.descriptor.id).collect()
}

/// A node that has not been heard of for so long is shown as not live.
const LIVE: Duration = Duration::from_secs(3);

impl Db {
    pub fn new(config: DbConfig) -> Db {
        let DbConfig { env, outbox, knobs, node, members, ranges } = config;
        let router = Router::new(env.clone(), outbox, knobs.clone(), node, ranges);
        router.set_nodes(present(&members));
        Db {
            shared: Arc::new(Shared {
                env,
                knobs,
                node,
                router,
                counters: Counters::default(),
                heard: Mutex::default(),
                members: Mutex::new(members.into_iter().map(|m| (m.descriptor.id, m)).collect()),
                members_wanted: AtomicBool::new(false),
                reports: Mutex::default(),
                debts: Arc::new(()),
            }),
        }
    }

    /// An answer to one of this gateway's requests.
    pub fn deliver(&self, id: u64, response: Response) {
        self.shared.router.deliver(id, response);
    }

    /// A message from this node has arrived.
    pub fn heard_of(&self, node: NodeId) {
        let now = self.shared.env.clock().monotonic();
        let before = self.shared.heard.lock().expect("no holder of this lock panics").insert(node, now);
        if before.is_none() {
            self.shared.router.back(node);
        }
    }

    /// A node reports to the placement driver, which may be here.
    pub fn hear_report(&self, from: NodeId, report: StoreReport) {
        let now = self.shared.env.clock().monotonic();
        let lacks = self.shared.reports.lock().expect("no holder of this lock panics").hear(now, from, report);
        if lacks {
            self.want_report(from);
        }
    }

    /// A range's descriptor as its leader last reported it.
    pub fn reported(&self, range: RangeId) -> Option<RangeDescriptor> {
        let reports = self.shared.reports.lock().expect("no holder of this lock panics");
        reports.ranges.get(&range).map(|status| status.descriptor.clone())
    }

    /// Whether this node leads the meta range, as its own store has reported.
    pub fn leads_meta(&self) -> bool {
        let reports = self.shared.reports.lock().expect("no holder of this lock panics");
        reports.ranges.get(&META_RANGE).is_some_and(|status| status.leader == self.node())
    }

    /// Whether a descriptor was reported since then, or a range has come or gone.
    pub fn described_since(&self, then: Duration) -> bool {
        self.shared.reports.lock().expect("no holder of this lock panics").described >= then
    }

    /// Asks those of some nodes that have not reported since then to report here: they may believe that the meta range is elsewhere.
    pub fn ask_the_silent(&self, nodes: &[NodeId], since: Duration) {
        let reports = self.shared.reports.lock().expect("no holder of this lock panics");
        let heard = |node: &NodeId| reports.nodes.get(node).is_some_and(|reported| reported.heard >= since);
        let silent: Vec<NodeId> = nodes.iter().filter(|node| !heard(node)).copied().collect();
        drop(reports);
        silent.into_iter().for_each(|node| self.want_report(node));
    }

    fn want_report(&self, node: NodeId) {
        let meta = self.shared.router.range_of(&meta_span().start);
        self.shared.router.send(node, Body::ReportWanted(meta));
    }

    /// Somebody lacks a report of this node's store, and says where the meta range is. The store itself is to hear it too.
    pub fn report_wanted(&self, meta: &RangeDescriptor) {
        self.shared.router.learn([meta.clone()]);
    }

    /// What nodes have reported.
    pub fn reports(&self) -> Reports {
        self.shared.reports.lock().expect("no holder of this lock panics").clone()
    }

    /// When what nodes have reported was last seen to change; never, if one of these has not reported lately.
    pub fn reports_settled(&self, nodes: &[NodeId], heard_since: Duration) -> Option<Duration> {
        let reports = self.shared.reports.lock().expect("no holder of this lock panics");
        let heard = |node: &NodeId| reports.nodes.get(node).is_some_and(|reported| reported.heard >= heard_since);
        nodes.iter().all(heard).then_some(reports.changed)
    }

    /// Sends this node's report to wherever a placement driver may be.
    pub fn send_report(&self, report: &StoreReport) {
        // A store that leads the meta range knows best where it is.
        let led = report.ranges.iter().filter(|status| status.descriptor.id == META_RANGE);
        self.shared.router.learn(led.map(|status| status.descriptor.clone()));
        let meta = self.shared.router.range_of(&meta_span().start);
        for replica in &meta.replicas {
            self.shared.router.send(replica.node, Body::Report(report.clone()));
        }
    }

    /// The connection to this node broke.
    pub fn lost(&self, node: NodeId) {
        self.shared.heard.lock().expect("no holder of this lock panics").remove(&node);
        self.shared.reports.lock().expect("no holder of this lock panics").lost(node);
        self.shared.router.lost(node);
    }

    /// Carries out in the background what a transaction owes others: they would wait for it.
    pub(super) fn owe(&self, task: impl Future<Output = ()> + Send + 'static) {
        let debt = self.shared.debts.clone();
        self.shared.env.spawn(Box::pin(async move {
            task.await;
            drop(debt);
        }));
    }

    /// Waits until nothing is owed any more, for so long at most.
    pub async fn pay_debts(&self, patience: Duration) {
        const LOOK_EVERY: Duration = Duration::from_millis(5);
        let now = || self.shared.env.clock().monotonic();
        let until = now() + patience;
        while Arc::strong_count(&self.shared.debts) > 1 && now() < until {
            self.shared.env.sleep(LOOK_EVERY).await;
        }
    }

    /// What this gateway has counted since it started.
    pub fn stats(&self) -> GatewayStats {
        self.shared.counters.read()
    }

    pub fn env(&self) -> &Arc<dyn Env> {
        &self.shared.env
    }

    pub fn node(&self) -> NodeId {
        self.shared.node
    }

    pub(super) fn lock_members(&self) -> MutexGuard<'_, BTreeMap<NodeId, NodeRecord>> {
        self.shared.members.lock().expect("no holder of this lock panics")
    }

    /// The copy of the registry is known to be out of date.
    pub(super) fn want_members(&self) {
        self.shared.members_wanted.store(true, Ordering::Relaxed);
    }

    /// Whether the copy of the registry is known to be out of date; from now on it is not.
    pub fn take_members_wanted(&self) -> bool {
        self.shared.members_wanted.swap(false, Ordering::Relaxed)
    }

    /// The descriptors that this gateway knows of ranges that overlap a span.
    pub fn known_ranges(&self, span: &Span) -> Vec<RangeDescriptor> {
        self.shared.router.ranges_in(span).into_iter().map(|(range, _)| range).collect()
    }

    fn info(&self, record: &NodeRecord) -> NodeInfo {
        let heard = self.shared.heard.lock().expect("no holder of this lock panics");
        let now = self.shared.env.clock().monotonic();
        let node = record.descriptor.id;
        let live = node == self.shared.node || heard.get(&node).is_some_and(|at| now.saturating_sub(*at) < LIVE);
        let reports = self.shared.reports.lock().expect("no holder of this lock panics");
        let holdings = reports.holdings(node, now);
        NodeInfo { descriptor: record.descriptor.clone(), live, state: record.state, holdings }
    }

    pub(super) fn probe(&self) -> &dyn Probe {
        self.shared.knobs.probe.as_ref()
    }

    /// Waits for a random while where a fault point fires.
    pub(super) async fn dawdle(&self, point: Point, max: Duration) {
        if self.probe().fires(point) {
            let micros = u64::try_from(max.as_micros()).unwrap_or(u64::MAX);
            self.shared.env.sleep(Duration::from_micros(self.shared.env.random() % micros.max(1))).await;
        }
    }

    /// Sends an operation to whichever range holds a key.
    ///
    /// # Errors
    /// [`Failure`], but never [`Failure::Repartition`].
    pub(super) async fn call_key(&self, key: &Key, operation: &Operation) -> Result<Reply, Failure> {
        let mut tries = 0u32;
        loop {
            let range = self.shared.router.range_of(key);
            match self.shared.router.call(&range, operation.clone(), self.shared.knobs.request_deadline).await {
                Err(Failure::Repartition { .. }) => self.repartition(key, &mut tries).await?,
                other => return other,
            }
        }
    }

    /// After a redirect: if routing makes no progress by itself, asks the meta range.
    pub(super) async fn repartition(&self, key: &Key, tries: &mut u32) -> Result<(), Failure> {
        /// Redirects in a row past which the request fails: descriptors would have to change faster than they are learned.
        const TRIES_MAX: u32 = 64;
        *tries += 1;
        if *tries > TRIES_MAX {
            let detail = format!("the range of key {key} keeps changing");
            return Err(Failure::Deadline { sent: false, detail });
        }
        if *tries > 2 {
            self.shared.env.sleep(Duration::from_millis(u64::from(*tries))).await;
            self.shared.router.look_up(key).await?;
        }
        Ok(())
    }

    /// Waits until every clock in the cluster shows more than a timestamp (the reply rule). Returns how long it took.
    pub(super) async fn wait_until_past(&self, timestamp: Timestamp) -> Duration {
        const LOOK_AGAIN: Duration = Duration::from_secs(1);
        let clock = self.shared.env.clock();
        let began = clock.monotonic();
        if clock.bound().trust == Trust::Untrusted {
            // Nobody waits for clocks; but what begins here later sees what was told here.
            while matches!(clock.adopt(timestamp), Err(ClockError::Ceiling { .. })) {
                self.shared.env.sleep(Duration::from_millis(1)).await;
            }
            return clock.monotonic() - began;
        }
        loop {
            let earliest = clock.interval().earliest;
            if earliest > timestamp {
                return clock.monotonic() - began;
            }
            // A clock that was not believed and is now may have come closer by more than the time that has passed.
            let left = timestamp.since(earliest) + Duration::from_micros(1);
            self.shared.env.sleep(left.min(LOOK_AGAIN)).await;
        }
    }

    /// A read timestamp by the start rule: no clock in the cluster shows more now.
    pub(super) async fn start_timestamp(&self) -> Result<Timestamp, Error> {
        let clock = self.shared.env.clock();
        let until = clock.monotonic() + self.shared.knobs.request_deadline;
        loop {
            let latest = clock.interval().latest;
            let detail = match clock.issue() {
                Ok(issued) if latest <= clock.ceiling() => return Ok(issued.max(latest)),
                Err(ClockError::Doubted) => {
                    let standing = clock.standing();
                    let detail = format!(
                        "{} serves nothing, for its clock is {standing}. Ask another node; this one goes on once its clock \
                         is right",
                        self.shared.node
                    );
                    // A node that has just started is confirmed in a moment; one that is wrong stays so for long.
                    let starting = standing.doubt == Some(Doubt::Starting) && standing.differences.is_empty();
                    if !starting {
                        return Err(Error::Unavailable(detail));
                    }
                    detail
                }
                _ => "the clock cannot be advanced: this node's disk does not sync its ceiling".to_string(),
            };
            if clock.monotonic() >= until {
                return Err(Error::Unavailable(detail));
            }
            self.probe().took(Path::CeilingReached);
            self.shared.env.sleep(Duration::from_millis(2)).await;
        }
    }

    /// Counts an error on its way to the caller.
    pub(super) fn take_note_of(&self, error: &Error) {
        self.shared.counters.failed(error, self.shared.env.clock().reading());
    }

    pub(super) fn random_id(&self) -> TxnId {
        TxnId(self.random())
    }
}

#[async_trait]
impl Kv for Db {
    async fn begin(&self, options: BeginOptions) -> Result<Box<dyn Transaction>, Error> {
        let now = self.start_timestamp().await?;
        if let Some(asked) = options.at.filter(|asked| *asked > now) {
            return Err(Error::Future { asked, now });
        }
        Ok(Box::new(KvTransaction::new(self.clone(), now, options)))
    }

    async fn outcome(&self, txn: &TxnAddress) -> Result<TxnOutcome, Error> {
        let written_by_transactions = keyspace::start_of(keyspace::CATALOG)..Key::max();
        if !written_by_transactions.contains(&txn.anchor) {
            return Err(Error::Invalid(format!("{txn} is not the id of a transaction that has written")));
        }
        let record = self.settle_own(&txn.to_meta(), false).await.map_err(Error::from_failure)?;
        match record.status {
            TxnStatus::Committed => {
                // What is told of a commit is told under the reply rule.
                self.wait_until_past(record.timestamp).await;
                Ok(TxnOutcome::Committed(record.timestamp))
            }
            _ => Ok(TxnOutcome::Aborted),
        }
    }

    async fn ranges(&self, span: &Span) -> Result<Vec<RangeInfo>, Error> {
        self.refresh_ranges(span).await?;
        self.find_leaders(span).await;
        let ranges = self.shared.router.ranges_in(span);
        Ok(ranges.into_iter().map(|(descriptor, leader)| RangeInfo { descriptor, leader }).collect())
    }

    async fn survey(&self, span: &Span) -> Result<Vec<RangeSurvey>, Error> {
        self.survey_ranges(span).await
    }

    async fn check(&self) -> Result<Checkup, Error> {
        self.check_all().await
    }

    async fn split(&self, key: &Key) -> Result<(), Error> {
        self.split_at(key).await
    }

    async fn unsplit(&self, key: &Key) -> Result<(), Error> {
        self.unsplit_at(key).await
    }

    fn recent_conflicts(&self) -> Vec<(Timestamp, Conflict)> {
        self.shared.counters.recent()
    }

    fn nodes(&self) -> Vec<NodeInfo> {
        self.members().iter().map(|record| self.info(record)).collect()
    }

    async fn change_node(&self, node: NodeId, change: NodeChange) -> Result<NodeInfo, Error> {
        let record = self.change_state(node, change).await?;
        Ok(self.info(&record))
    }

    fn clock(&self) -> ClockInfo {
        let clock = self.shared.env.clock();
        let interval = clock.interval();
        let bound = clock.bound();
        ClockInfo {
            source: bound.source.to_string(),
            max_error: (bound.trust == Trust::Bounded).then_some(bound.error),
            standing: clock.standing().to_string(),
            earliest: interval.earliest,
            latest: interval.latest,
            hlc: clock.reading(),
        }
    }

    fn follower_lag(&self) -> Duration {
        self.shared.knobs.follower_lag()
    }

    fn monotonic(&self) -> Duration {
        self.shared.env.clock().monotonic()
    }

    async fn sleep(&self, duration: Duration) {
        self.shared.env.sleep(duration).await;
    }

    fn random(&self) -> u128 {
        (u128::from(self.shared.env.random()) << 64) | u128::from(self.shared.env.random())
    }
}
