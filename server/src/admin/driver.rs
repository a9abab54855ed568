//! The placement driver: one loop on every node, which works where the meta range is led.
//!
//! ```text
//!   reports, members, wishes ──▶ picture ──▶ plan ──▶ steps, each asked of its range's leader ──▶ decisions written down
//!        ▲                                                │
//!        └────────────────── the next reports ◀───────────┘
//! ```
//!
//! What to do is up to [`range_split::placement`]; here it is carried out. Two drivers that believe in themselves for a moment do no harm: a step names the
//! epoch that it was planned for, and of two the range's leader carries out one. Nothing is remembered that a successor
//! would miss.
//!
//! Ranges that hold more than a wish speaks of are split first ([`super::cuts`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use proto::range::RangeStatus;
use proto::{Epoch, Key, NodeId, NodeState, RangeDescriptor, RangeId, Span};
use range_split::placement::{Change, Memory, Operation, plan};

use super::cuts::cuts;
use super::mender::Mender;
use super::office::Office;
use super::picture::{SUSPECT_AFTER, Sources, is_whole, picture};
use crate::config::Knobs;
use crate::env::SplitWish;
use crate::kv::reports::Reports;
use crate::kv::wishes::{self, Wish};
use crate::kv::{Db, decisions};
use crate::probe::Path;

/// Steps of one plan.
const OPERATIONS_MAX: usize = 64;
/// A step that was carried out shows in a report after a while; until then the range is left alone, but no longer than this.
const REPORTED_WITHIN: Duration = Duration::from_secs(5);
/// How often the driver reads the descriptors of all ranges, to find those that nobody leads.
const SCAN_EVERY: Duration = Duration::from_secs(10);

/// With nothing changed for so long the driver looks only as seldom: thousands of idle ranges are not to be planned for every second.
const REST: Duration = Duration::from_secs(10);
/// Where it found nothing to do, or to wait for, it looks at thousands of ranges as seldom as this: whatever happens to one is reported, or silences
/// a node, or is wished.
const LOOK_AT_REST: Duration = Duration::from_secs(60);
/// How often the driver reads what is wished.
const WISHES_EVERY: Duration = Duration::from_secs(3);
const WISHES_AT_REST: Duration = Duration::from_secs(5);
/// Ranges that are split for wishes in one round.
const CUTS_MAX: usize = 16;

/// What follows from one look.
#[derive(Default)]
struct Work {
    operations: Vec<Operation>,
    cuts: Vec<SplitWish>,
}

/// A step on its way.
#[derive(Clone, Copy, Debug)]
struct Flight {
    epoch: Epoch,
    leader: Option<NodeId>,
    /// Whether another range takes it in.
    merged: bool,
    /// When it had been carried out.
    landed: Option<Duration>,
}

#[derive(Default)]
struct State {
    memory: Memory,
    flights: BTreeMap<RangeId, Flight>,
    /// Since when this node has led the meta range without a break.
    since: Option<Duration>,
    descriptors: Vec<RangeDescriptor>,
    scanned: Option<Duration>,
    /// Nothing as long as they have not been read: the replicas of ranges with wishes would be taken for misplaced.
    wishes: Option<Vec<Wish>>,
    wishes_read: Option<Duration>,
    refusals: Vec<String>,
    /// What is written down of them, as far as is known.
    told: Option<Vec<String>>,
    members: Vec<(NodeId, NodeState)>,
    /// When it last looked, and when it last did something.
    looked: Option<Duration>,
    acted: Option<Duration>,
}

impl State {
    /// Whether nothing is under way, or due later.
    fn is_content(&self) -> bool {
        let memory = &self.memory;
        let merging = !memory.cold.is_empty() || !memory.joining.is_empty();
        self.wishes.is_some() && memory.moves.is_empty() && memory.failed.is_empty() && !merging
    }
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Driver {
    db: Db,
    knobs: Arc<Knobs>,
    office: Office,
    mender: Mender,
    state: Arc<Mutex<State>>,
}

impl Driver {
    pub fn new(db: Db, knobs: Arc<Knobs>) -> Driver {
        let office = Office::new(db.clone());
        let mender = Mender::new(db.clone(), office.clone());
        Driver { db, knobs, office, mender, state: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    fn now(&self) -> Duration {
        self.db.env().clock().monotonic()
    }

    /// Works for ever.
    pub async fn run(self) {
        loop {
            self.db.env().sleep(self.knobs.placement_every).await;
            self.mender.look().await;
            if self.knobs.place_replicas {
                self.round().await;
            }
        }
    }

    /// One look, and whatever follows from it.
    pub async fn round(&self) {
        let now = self.now();
        if self.may_rest(now) && !self.has_new_wishes(now).await {
            return;
        }
        if !self.db.leads_meta() {
            *self.state() = State { looked: Some(now), ..State::default() };
            return;
        }
        let reports = self.db.reports();
        self.knobs.probe.took(Path::LookedAtAll);
        let since = *self.state().since.get_or_insert(now);
        self.scan(now).await;
        self.read_wishes(now).await;
        let work = self.decide(now, since, &reports);
        self.tell_refusals().await;
        for operation in work.operations {
            self.state().acted = Some(now);
            let driver = self.clone();
            self.db.env().spawn(Box::pin(async move { driver.carry_out(operation).await }));
        }
        for cut in work.cuts {
            let driver = self.clone();
            self.db.env().spawn(Box::pin(async move { driver.cut(cut).await }));
        }
    }

    /// Whether nothing has changed for so long that another look would see the same. Now and then it looks nevertheless.
    fn may_rest(&self, now: Duration) -> bool {
        let mut state = self.state();
        let look_every = if state.is_content() { LOOK_AT_REST } else { REST };
        let looked = state.looked.is_some_and(|looked| now < looked + look_every);
        let acted = state.acted.is_some_and(|acted| now < acted + REST);
        let members: Vec<(NodeId, NodeState)> =
            self.db.members().iter().map(|member| (member.descriptor.id, member.state)).collect();
        let nodes: Vec<NodeId> = members.iter().filter(|(_, state)| state.counts()).map(|(node, _)| *node).collect();
        let settled = self.db.reports_settled(&nodes, now.saturating_sub(SUSPECT_AFTER));
        let same = settled.is_some_and(|changed| now >= changed + REST) && members == state.members;
        state.members = members;
        let rests = looked && !acted && state.flights.is_empty() && same;
        if !rests {
            state.looked = Some(now);
        }
        rests
    }

    /// Whether something else is wished than before, while the driver rests. Wishes are few, and read more often than it looks.
    async fn has_new_wishes(&self, now: Duration) -> bool {
        let (leads, before) = {
            let state = self.state();
            (state.since.is_some(), state.wishes.clone())
        };
        if !leads || self.state().wishes_read.is_some_and(|read| now < read + WISHES_AT_REST) {
            return false;
        }
        self.read_wishes(now).await;
        let mut state = self.state();
        let news = state.wishes != before;
        if news {
            state.looked = Some(now);
        }
        news
    }

    /// Reads all descriptors, now and then.
    async fn scan(&self, now: Duration) {
        if self.state().scanned.is_some_and(|scanned| now < scanned + SCAN_EVERY) {
            return;
        }
        let everything = Span { start: Key::MIN, end: Key::max() };
        if self.db.refresh_ranges(&everything).await.is_ok() {
            let descriptors = self.db.known_ranges(&everything);
            {
                let mut state = self.state();
                state.descriptors = descriptors;
                state.scanned = Some(now);
            }
            // Old decisions go at the same pace.
            let _ = decisions::trim(&self.db).await;
        }
    }

    /// Reads what is wished, now and then. What was read last counts as long as nothing newer can be had.
    async fn read_wishes(&self, now: Duration) {
        if self.state().wishes_read.is_some_and(|read| now < read + WISHES_EVERY) {
            return;
        }
        if let Ok(wishes) = wishes::all(&self.db).await {
            let mut state = self.state();
            state.wishes = Some(wishes);
            state.wishes_read = Some(now);
        }
    }

    fn decide(&self, now: Duration, since: Duration, reports: &Reports) -> Work {
        let members = self.db.members();
        let mut state = self.state();
        let state = &mut *state;
        let Some(wishes) = &state.wishes else { return Work::default() };
        state.flights.retain(|range, flight| {
            let Some(landed) = flight.landed else { return true };
            let seen = reports.ranges.get(range);
            let newer = |s: &RangeStatus| s.descriptor.epoch > flight.epoch || Some(s.leader) != flight.leader;
            // A range that was merged away is not reported any more.
            let shows = seen.map_or(flight.merged, newer);
            !shows && now < landed + REPORTED_WITHIN
        });
        let in_flight: BTreeSet<RangeId> = state.flights.keys().copied().collect();
        let sources = Sources {
            now,
            since,
            members: &members,
            reports,
            descriptors: &state.descriptors,
            in_flight: &in_flight,
            wishes,
            settings: &self.knobs.placement,
            limits: &self.knobs.splitting,
        };
        if !is_whole(&sources) {
            return Work::default();
        }
        let mut picture = picture(&sources);
        let failed = &state.memory.failed;
        let retry_after = self.knobs.placement.retry_after;
        let rests = |range: &RangeId| failed.get(range).is_some_and(|at| now < *at + retry_after);
        let cuts: Vec<SplitWish> =
            cuts(&picture, wishes, CUTS_MAX).into_iter().filter(|cut| !rests(&cut.range.id)).collect();
        for cut in &cuts {
            if let Some(range) = picture.ranges.get_mut(&cut.range.id) {
                range.in_flight = true;
                let flight = Flight { epoch: cut.range.epoch, leader: range.leader, merged: false, landed: None };
                state.flights.insert(cut.range.id, flight);
            }
        }
        let planned = plan(&picture, &state.memory, OPERATIONS_MAX);
        state.memory = planned.memory;
        state.refusals = planned.refusals.iter().map(ToString::to_string).collect();
        for operation in &planned.operations {
            let mut take_off = |range: RangeId, epoch: Epoch, merged: bool| {
                let leader = picture.ranges.get(&range).and_then(|range| range.leader);
                state.flights.insert(range, Flight { epoch, leader, merged, landed: None });
            };
            take_off(operation.range, operation.epoch, false);
            if let Change::TakeIn { right, epoch } = operation.change {
                take_off(right, epoch, true);
            }
        }
        Work { operations: planned.operations, cuts }
    }

    /// Writes down what cannot be done, where it has changed.
    async fn tell_refusals(&self) {
        let (now, told) = {
            let state = self.state();
            (state.refusals.clone(), state.told.clone())
        };
        let told = match told {
            Some(told) => told,
            // The driver before this one may have written some down.
            None => match decisions::refusals(&self.db).await {
                Ok(told) => told,
                Err(_) => return,
            },
        };
        if told != now {
            for refusal in now.iter().filter(|refusal| !told.contains(refusal)) {
                tracing::warn!(%refusal, "the placement driver cannot do what it should");
            }
            if decisions::note_refusals(&self.db, &now).await.is_err() {
                return;
            }
        }
        self.state().told = Some(now);
    }

    /// Splits a range where a wish begins or ends.
    async fn cut(&self, cut: SplitWish) {
        let range = cut.range.id;
        let result = self.office.split_range(&cut).await;
        let now = self.now();
        let mut state = self.state();
        match &result {
            Ok(()) => {
                self.knobs.probe.took(Path::Placed);
                tracing::info!(%range, key = %cut.key, reason = cut.reason, "a range was split for a wish");
            }
            Err(error) => {
                tracing::warn!(%range, %error, "a range was not split for a wish; the driver tries again");
                state.memory.fail(now, range);
            }
        }
        drop(state);
        self.land(now, range);
    }

    async fn carry_out(&self, operation: Operation) {
        if let Change::TakeIn { right, epoch } = operation.change {
            return self.merge(operation, (right, epoch)).await;
        }
        let range = operation.range;
        let descriptor = self.reported_at(range, operation.epoch);
        let request = descriptor.as_ref().and_then(|descriptor| operation.change.request(descriptor));
        let (Some(descriptor), Some(request)) = (descriptor, request) else {
            self.state().flights.remove(&range);
            return;
        };
        let result = self.db.reshape(&descriptor, request).await;
        let now = self.now();
        let (what, why) = (operation.change.to_string(), operation.reason.to_string());
        let outcome = match &result {
            Ok(()) => {
                self.knobs.probe.took(Path::Placed);
                "done".to_string()
            }
            Err(error) => {
                self.state().memory.fail(now, range);
                error.to_string()
            }
        };
        tracing::info!(%range, what, why, outcome, "placement");
        self.land(now, range);
        self.office.note(range, (what, None), why, outcome).await;
    }

    /// Has a range take in the one on its right.
    async fn merge(&self, operation: Operation, (right, right_epoch): (RangeId, Epoch)) {
        let left = operation.range;
        let known = self.reported_at(left, operation.epoch).zip(self.reported_at(right, right_epoch));
        let Some((descriptor, neighbour)) = known else {
            let mut state = self.state();
            state.flights.remove(&left);
            state.flights.remove(&right);
            return;
        };
        let result = self.db.merge_ranges(&descriptor, &neighbour).await;
        let now = self.now();
        let outcome = match &result {
            Ok(()) => {
                self.knobs.probe.took(Path::Placed);
                "done".to_string()
            }
            Err(error) => {
                self.state().memory.fail_merge(now, left, right);
                error.to_string()
            }
        };
        let what = format!("{}, which began at", operation.change);
        let why = operation.reason.to_string();
        tracing::info!(range = %left, what, why, outcome, "placement");
        self.land(now, left);
        self.land(now, right);
        self.office.note(left, (what, Some(neighbour.start)), why, outcome).await;
    }

    /// A range as it was last reported, if it still was at this epoch.
    fn reported_at(&self, range: RangeId, epoch: Epoch) -> Option<RangeDescriptor> {
        self.db.reported(range).filter(|descriptor| descriptor.epoch == epoch)
    }

    /// What was under way for a range has been carried out, or has failed.
    fn land(&self, now: Duration, range: RangeId) {
        if let Some(flight) = self.state().flights.get_mut(&range) {
            flight.landed = Some(now);
        }
    }
}
