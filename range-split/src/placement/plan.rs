//! From a picture to a plan.

use std::collections::BTreeMap;

use proto::RangeId;

use super::balance;
use super::candidates::Target;
use super::ledger::{Ledger, Place, RangeEntry};
use super::memory::{Memory, Move};
use super::operation::{Change, Operation, Reason, Refusal, RefusalReason};
use super::picture::{Picture, Progress};
use super::steps::{Class, Diagnosis, Wish};
use super::unite;

/// What is to be done now, what cannot be, and what to remember for the next plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The most urgent first; at most one for a range.
    pub operations: Vec<Operation>,
    pub refusals: Vec<Refusal>,
    pub memory: Memory,
}

/// Refusals, put together by their reasons.
#[derive(Default)]
pub struct Refusals {
    /// How many ranges a reason concerns, the first of them, and the last.
    reasons: BTreeMap<RefusalReason, (usize, Option<RangeId>, Option<RangeId>)>,
}

impl Refusals {
    pub fn add(&mut self, reason: RefusalReason, range: Option<RangeId>) {
        let (count, _, last) = self.reasons.entry(reason).or_insert((0, range, None));
        *count += usize::from(range.is_none() || *last != range);
        *last = range;
    }

    pub fn into_vec(self) -> Vec<Refusal> {
        let refusal = |(reason, (ranges, example, _))| Refusal { reason, ranges, example };
        self.reasons.into_iter().map(refusal).collect()
    }
}

/// Plans. The same picture and memory give the same plan; at most so many operations, the most urgent ones.
pub fn plan(picture: &Picture, memory: &Memory, operations_max: usize) -> Plan {
    let mut ledger = Ledger::new(picture, memory);
    let mut refusals = Refusals::default();
    let ranges = std::mem::take(&mut ledger.ranges);
    let mut steps = Vec::new();
    // Ranges that are whole, and stay where they are but for balance.
    let mut calm = Vec::new();
    let mut diagnosis = Diagnosis { ledger: &mut ledger, refusals: &mut refusals, spread: Default::default() };
    for (n, range) in ranges.iter().enumerate() {
        match diagnosis.next_step(range) {
            None => calm.push(n),
            Some(step) if matches!(step.wish, Wish::Wait) => {}
            Some(step) => steps.push((step.class, step.spare, n, step.wish)),
        }
    }
    steps.sort_by_key(|(class, spare, n, _)| (*class, *spare, *n));
    let mut writer = Writer { ledger: &mut ledger, refusals: &mut refusals, operations: Vec::new(), operations_max };
    let mut busy = writer.repairs_under_way();
    for (class, _, n, wish) in steps {
        if writer.is_full() {
            busy = true;
            break;
        }
        busy |= writer.carry_out(class, &ranges[n], wish);
    }
    let calm = unite::unite(&mut writer, &ranges, calm, busy);
    balance::balance(&mut writer, &ranges, &calm, busy);
    let operations = writer.operations;
    Plan { operations, refusals: refusals.into_vec(), memory: ledger.memory }
}

/// Writes operations down, and their consequences into the ledger.
pub struct Writer<'l, 'a> {
    pub ledger: &'l mut Ledger<'a>,
    pub refusals: &'l mut Refusals,
    pub operations: Vec<Operation>,
    pub operations_max: usize,
}

impl Writer<'_, '_> {
    pub fn is_full(&self) -> bool {
        self.operations.len() >= self.operations_max
    }

    pub fn write(&mut self, range: &RangeEntry<'_>, change: Change, reason: Reason) {
        let epoch = range.range.descriptor.epoch;
        self.operations.push(Operation { range: range.id, epoch, change, reason });
    }

    /// Whether replicas are on their way for another reason than balance or a merge.
    fn repairs_under_way(&self) -> bool {
        let optional = |reason: &Option<Reason>| {
            matches!(reason, Some(Reason::Bytes { .. } | Reason::Load { .. } | Reason::Joins { .. }))
        };
        self.ledger.memory.moves.values().any(|going| !optional(&going.reason))
    }

    /// Turns a wish into an operation, if limits allow. Says whether data has to be sent for it, now or later.
    fn carry_out(&mut self, class: Class, range: &RangeEntry<'_>, wish: Wish) -> bool {
        match wish {
            Wish::Wait => false,
            Wish::Now(change, reason) => {
                let change = self.with_best_leader(range, change);
                if class != Class::Prefer || self.transfers() < self.ledger.picture.settings.transfers_max {
                    self.write(range, change, reason);
                    self.follow(range, change);
                }
                false
            }
            Wish::AddVoter { reason, staying, remove } => match self.ledger.best_target(range, &staying) {
                Target::At(place) => {
                    self.add_learner(range, place, remove, reason);
                    true
                }
                Target::Later => true,
                Target::None(reason) => {
                    self.refusals.add(reason, Some(range.id));
                    false
                }
            },
            Wish::AddNonVoter { reason, places } => {
                let free = places.into_iter().filter(|place| self.ledger.has_slot(*place));
                let emptiest = free.min_by_key(|place| (self.ledger.nodes[*place].fill(), *place));
                if let Some(place) = emptiest.filter(|_| self.ledger.may_send(range.leader)) {
                    self.add_non_voter(range, place, reason);
                }
                true
            }
        }
    }

    /// A handover to whoever leads least by now: what was planned before counts.
    fn with_best_leader(&self, range: &RangeEntry<'_>, change: Change) -> Change {
        match (change, self.ledger.best_leader(range, None)) {
            (Change::TransferLeader { .. }, Some(to)) => Change::TransferLeader { to: self.ledger.nodes[to].id },
            _ => change,
        }
    }

    /// Moves of leadership so far.
    pub fn transfers(&self) -> usize {
        self.operations.iter().filter(|o| matches!(o.change, Change::TransferLeader { .. })).count()
    }

    /// What a step that sends nothing means for the nodes' sums.
    fn follow(&mut self, range: &RangeEntry<'_>, change: Change) {
        if let Change::TransferLeader { to } = change {
            let to = self.ledger.place(to);
            self.lead(range, to);
        }
    }

    pub fn lead(&mut self, range: &RangeEntry<'_>, to: Place) {
        if let Some(from) = range.leader {
            self.ledger.nodes[from].load -= range.range.load;
            self.ledger.nodes[from].leaders -= 1;
        }
        self.ledger.nodes[to].load += range.range.load;
        self.ledger.nodes[to].leaders += 1;
    }

    pub fn add_learner(&mut self, range: &RangeEntry<'_>, to: Place, remove: Option<Place>, reason: Reason) {
        let node = self.ledger.nodes[to].id;
        self.ledger.nodes[to].bytes += range.range.bytes;
        if let Some(remove) = remove {
            self.ledger.nodes[remove].bytes -= range.range.bytes.min(self.ledger.nodes[remove].bytes);
        }
        self.start(range, to, remove, &reason);
        self.write(range, Change::AddLearner { node }, reason);
    }

    pub fn add_non_voter(&mut self, range: &RangeEntry<'_>, to: Place, reason: Reason) {
        let node = self.ledger.nodes[to].id;
        self.ledger.nodes[to].bytes += range.range.bytes;
        self.start(range, to, None, &reason);
        self.write(range, Change::AddNonVoter { node }, reason);
    }

    fn start(&mut self, range: &RangeEntry<'_>, to: Place, remove: Option<Place>, reason: &Reason) {
        self.ledger.start_move(range.range, to, range.leader);
        let remove = remove.map(|place| self.ledger.nodes[place].id);
        let (add, since) = (self.ledger.nodes[to].id, self.ledger.picture.now);
        let going = Move { add, remove, since, reason: Some(reason.clone()) };
        self.ledger.memory.moves.insert(range.id, going);
    }

    /// Whether a range may be moved for balance: whole, live, caught up.
    pub fn is_sound(&self, range: &RangeEntry<'_>) -> bool {
        let all_ready = range.voters.iter().all(|v| self.ledger.is_ready(range, *v));
        let sound = range.range.descriptor.replicas.iter().all(|r| range.progress(r.node) == Progress::CaughtUp);
        all_ready && sound && range.leader.is_some()
    }
}
