//! From what survivors hold to what is done: a pure function.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proto::{Epoch, NodeId, RangeDescriptor, RangeId, Span, keyspace};

use super::cover::cover;
use super::findings::Findings;
use super::loss;
use super::plan::{Action, Becomes, FORMAT, Held, Plan, RangePlan, Source, StorePlan};
use super::roll;
use super::scene::{Copy, Scene};
use crate::config::Knobs;
use crate::sql::schema::Table;

/// What the operator says.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The nodes that are given up for good.
    pub dead: BTreeSet<NodeId>,
    /// Keys of which nothing survives are given up as well: ranges without contents take their place.
    pub accept_lost_keys: bool,
}

/// How far ids and epochs go beyond those that are known: the dead may have given some that nobody has heard of.
const LEAP: u64 = 1000;
/// The same for ranges' ids, which every attempt to split uses up.
const RANGE_LEAP: u64 = 1 << 20;

/// Makes a plan.
///
/// # Errors
/// What stands in its way, in sentences.
pub fn plan(findings: &[Findings], request: &Request) -> Result<Plan, Vec<String>> {
    let dead = roll::call(findings, &request.dead)?;
    let scene = Scene::new(findings);
    let tables = loss::tables(findings);
    let mut planner = Planner::new(&scene, &tables);
    let (mut kept, mut lost): (Vec<RangeId>, Vec<RangeId>) = scene.ranges().partition(|range| scene.elects(*range));
    planner.leave_merging(&mut kept, &mut lost)?;
    planner.check_births(&kept, &lost)?;
    planner.divide(&kept, &lost, request.accept_lost_keys)?;
    let mut ranges = planner.ranges;
    ranges.sort_by(|a, b| (&a.start, a.range).cmp(&(&b.start, b.range)));
    let losses = if ranges.iter().all(|range| range.action == Action::Keep) { Vec::new() } else { loss::in_general() };
    let unnamed = Plan {
        format: FORMAT,
        plan: String::new(),
        cluster: findings[0].store.cluster.to_string(),
        dead,
        losses,
        stores: scene.stores().map(|found| store(found, findings)).collect(),
        ranges,
        read_floor: scene.ceiling().plus(Knobs::default().read_window).0,
        next_range: planner.next_range,
    };
    Ok(unnamed.sealed())
}

fn store(found: &Findings, findings: &[Findings]) -> StorePlan {
    let members = roll::members(findings);
    StorePlan {
        node: found.store.node.0,
        address: members.get(&found.store.node).map(|m| m.descriptor.address.clone()).unwrap_or_default(),
        store: found.store.store.to_string(),
        starts: found.store.starts,
        replicas: held(found),
    }
}

/// The replicas of a store, as a plan has to find them again.
pub fn held(findings: &Findings) -> Vec<Held> {
    let held = findings.replicas.iter().map(|found| Held {
        range: found.range().0,
        replica: found.replica.0,
        applied_index: found.applied.index,
        last_term: found.last.term,
        last_index: found.last.index,
    });
    held.collect()
}

struct Planner<'a> {
    scene: &'a Scene<'a>,
    tables: &'a [Arc<Table>],
    ranges: Vec<RangePlan>,
    /// Of all ranges that are rebuilt.
    epoch: Epoch,
    next_range: u64,
    used: BTreeSet<RangeId>,
}

impl<'a> Planner<'a> {
    fn new(scene: &'a Scene<'a>, tables: &'a [Arc<Table>]) -> Planner<'a> {
        let epoch = scene.known().map(|range| range.epoch.0).max().unwrap_or(0) + LEAP;
        let next_range = scene.known().map(|range| range.id.0 + 1).max().unwrap_or(1);
        let used = scene.ranges().chain(scene.ended()).collect();
        Planner { scene, tables, ranges: Vec::new(), epoch: Epoch(epoch), next_range, used }
    }

    /// What a range that goes on by itself is about to bring into being has to go on by itself as well.
    fn check_births(&self, kept: &[RangeId], lost: &[RangeId]) -> Result<(), Vec<String>> {
        let waits = |range: &RangeId| {
            let copy = self.scene.copies_of(*range).first()?;
            let parent = copy.born_of.filter(|parent| kept.contains(parent))?;
            Some(format!(
                "{range} is about to be split off {parent}, which runs: start the survivors, stop them, and try again"
            ))
        };
        let complaints: Vec<String> = lost.iter().filter_map(waits).collect();
        if complaints.is_empty() { Ok(()) } else { Err(complaints) }
    }

    /// What a range that goes on by itself takes in is left alone: it goes as soon as that range runs, wherever it is there still.
    fn leave_merging(&mut self, kept: &mut Vec<RangeId>, lost: &mut Vec<RangeId>) -> Result<(), Vec<String>> {
        let scene = self.scene;
        let best = |range: &RangeId| scene.copies_of(*range).first();
        let gone =
            |range: &RangeId| best(range)?.found.takes.iter().find(|taken| kept.contains(taken)).map(|t| (*t, *range));
        if let Some((range, by)) = lost.iter().find_map(gone) {
            return Err(vec![format!(
                "{by} has lost its majority in the middle of taking in {range}, which can go on: this should not be. Keep the stores as they are"
            )]);
        }
        let going = scene.ranges().filter_map(|range| Some((range, scene.taken_in_by(range, kept)?)));
        for (range, by) in going.collect::<Vec<_>>() {
            kept.retain(|kept| *kept != range);
            lost.retain(|lost| *lost != range);
            if let Some(copy) = best(&range) {
                let why = format!("{by}, which goes on by itself, takes it in");
                let plan = self.range(range, Action::Keep, &copy.found.span(), why);
                self.ranges.push(plan);
            }
        }
        Ok(())
    }

    /// Gives each key to one copy.
    fn divide(&mut self, kept: &[RangeId], lost: &[RangeId], accept_lost_keys: bool) -> Result<(), Vec<String>> {
        let scene = self.scene;
        let best = |range: &RangeId| scene.copies_of(*range).first();
        let newest = |copy: &&Copy| Reverse((copy.found.state.descriptor.epoch, copy.reach()));
        let mut chosen: Vec<&Copy> = lost.iter().filter_map(best).collect();
        let mut others: Vec<&Copy> = lost.iter().flat_map(|range| scene.copies_of(*range).iter().skip(1)).collect();
        chosen.sort_by_key(newest);
        others.sort_by_key(|copy| (copy.found.torn.is_some(), newest(copy)));
        let keeping: Vec<&Copy> = kept.iter().filter_map(best).collect();
        let claimants: Vec<&Copy> = keeping.iter().chain(&chosen).chain(&others).copied().collect();
        let claims: Vec<Span> = claimants.iter().map(|copy| copy.found.span()).collect();
        let cover = cover(&claims);
        for (n, (copy, taken)) in claimants.iter().zip(cover.taken).enumerate() {
            if n < keeping.len() {
                if taken != [copy.found.span()] {
                    let (range, span) = (copy.found.range(), loss::keys(&copy.found.span(), self.tables));
                    return Err(vec![format!(
                        "{range} ({span}) and another range can both go on, and hold the same keys: this should not be. Keep the stores as they are"
                    )]);
                }
                self.keep(copy);
            } else if n < keeping.len() + chosen.len() {
                self.rebuild(copy, taken);
            } else {
                taken.into_iter().for_each(|span| self.fill(copy, span));
            }
        }
        self.give_up(cover.uncovered, accept_lost_keys)
    }

    fn range(&self, range: RangeId, action: Action, span: &Span, why: String) -> RangePlan {
        let (start, end) = RangePlan::bounds(span);
        let replicas = self.scene.newest_of(range).map(|known| {
            let fate = |r| if self.scene.answers(range, r) { "" } else { " (dead)" };
            known.replicas.iter().map(|r| format!("{} on {}{}", r.id, r.node, fate(r))).collect()
        });
        RangePlan {
            range: range.0,
            action,
            keys: loss::keys(span, self.tables),
            start,
            end,
            tables: loss::tables_in(span, self.tables),
            replicas: replicas.unwrap_or_default(),
            why,
            loss: None,
            source: None,
            becomes: None,
        }
    }

    fn keep(&mut self, copy: &Copy) {
        let why = "the survivors are a majority: it goes on by itself".to_string();
        let plan = self.range(copy.found.range(), Action::Keep, &copy.found.span(), why);
        self.ranges.push(plan);
    }

    /// A copy becomes its range, as far as no newer one of other ranges holds its keys.
    fn rebuild(&mut self, copy: &Copy, taken: Vec<Span>) {
        let range = copy.found.range();
        let mut taken = taken.into_iter();
        let Some(first) = taken.next() else {
            let why = "other ranges hold all of its keys by now".to_string();
            let plan = self.range(range, Action::Drop, &copy.found.span(), why);
            return self.ranges.push(plan);
        };
        let others = self.scene.copies_of(range).len() - 1;
        let why = match others {
            0 => format!("it has lost its majority; of its replicas only the one on {} survives", copy.node),
            _ => format!(
                "it has lost its majority; of {} survivors {} has the log that goes furthest{}",
                others + 1,
                copy.node,
                if self.scene.passed_over(copy).is_some() { ", of those whose contents are whole" } else { "" }
            ),
        };
        let plan = RangePlan {
            loss: Some(loss::of_rebuilding(self.scene, copy)),
            source: Some(source(copy)),
            becomes: Some(self.becomes(range, copy.node)),
            ..self.range(range, Action::Rebuild, &first, why)
        };
        self.ranges.push(plan);
        taken.for_each(|span| self.fill(copy, span));
    }

    /// A part of an older copy becomes a range.
    fn fill(&mut self, copy: &Copy, span: Span) {
        let range = self.id_for(&span);
        let plan = RangePlan {
            loss: Some(loss::of_filling(copy)),
            source: Some(source(copy)),
            becomes: Some(self.becomes(range, copy.node)),
            ..self.range(range, Action::Fill, &span, "none of its replicas survives".into())
        };
        self.ranges.push(plan);
    }

    /// Of what nobody holds, ranges without contents are made, if that was accepted.
    fn give_up(&mut self, spans: Vec<Span>, accepted: bool) -> Result<(), Vec<String>> {
        let mut complaints = Vec::new();
        for span in spans {
            let keys = loss::keys(&span, self.tables);
            let tables = loss::tables_in(&span, self.tables);
            let of = if tables.is_empty() { String::new() } else { format!(", of tables {}", tables.join(", ")) };
            if span.start < keyspace::start_of(keyspace::TABLES) {
                complaints.push(format!(
                    "nothing survives of the keys {keys}{of}. Without the system's own keys and the catalog a cluster cannot be rebuilt: \
                     bring back a store that held them, or begin a new cluster"
                ));
                continue;
            }
            if !accepted {
                complaints.push(format!(
                    "nothing survives of the keys {keys}{of}: bring back a store that held them, or give up their rows with --accept-lost-keys"
                ));
                continue;
            }
            match self.place_for(&span) {
                Some(node) => self.empty(node, &span),
                None => complaints.push(format!(
                    "on each survivor some range still has to be split where the keys {keys} begin or end: start the survivors, stop them, and try again"
                )),
            }
        }
        if complaints.is_empty() { Ok(()) } else { Err(complaints) }
    }

    fn empty(&mut self, node: NodeId, span: &Span) {
        let range = self.id_for(span);
        let plan = RangePlan {
            loss: Some("All rows in these keys are lost.".into()),
            becomes: Some(self.becomes(range, node)),
            ..self.range(range, Action::Empty, span, "no replica survives, and that was accepted".into())
        };
        self.ranges.push(plan);
    }

    /// The survivor with the fewest replicas, of those on which nothing that goes on claims any of these keys.
    fn place_for(&self, span: &Span) -> Option<NodeId> {
        let goes_on = |range: u64| self.ranges.iter().any(|plan| plan.range == range && plan.action == Action::Keep);
        let is_free = |found: &&Findings| {
            !found.replicas.iter().any(|replica| goes_on(replica.range().0) && replica.span().overlaps(span))
        };
        let free = self.scene.stores().filter(is_free);
        free.min_by_key(|found| (found.replicas.len(), found.store.node)).map(|found| found.store.node)
    }

    /// The id of a range that is made: that of the one that was there, if anybody knows it, so that what is left of it anywhere learns what
    /// has become of it.
    fn id_for(&mut self, span: &Span) -> RangeId {
        let was = |known: &&RangeDescriptor| known.start == span.start && !self.used.contains(&known.id);
        let known = self.scene.known().filter(was).max_by_key(|known| known.epoch).map(|known| known.id);
        let id = known.unwrap_or_else(|| {
            let least = self.scene.known().map(|range| range.id.0).max().unwrap_or(0) + RANGE_LEAP;
            let id = self.next_range.max(least);
            self.next_range = id + 1;
            RangeId(id)
        });
        self.used.insert(id);
        id
    }

    fn becomes(&self, range: RangeId, node: NodeId) -> Becomes {
        let known = self.scene.newest_of(range).map_or(0, |known| known.next_replica.0);
        let copies = self.scene.copies_of(range);
        let seen = copies.iter().flat_map(|copy| &copy.found.state.descriptor.replicas).map(|replica| replica.id.0 + 1);
        let term = copies.iter().map(|copy| copy.found.term).max().unwrap_or(0);
        let replica = seen.max().unwrap_or(0).max(known).max(1) + LEAP;
        Becomes { node: node.0, replica, epoch: self.epoch.0, term }
    }
}

fn source(copy: &Copy) -> Source {
    Source {
        node: copy.node.0,
        range: copy.found.range().0,
        replica: copy.found.replica.0,
        last_term: copy.found.reach().term,
        last_index: copy.found.reach().index,
        born_of: copy.born_of.map(|range| range.0),
    }
}

/// How many ranges there are of each kind.
pub fn count(plan: &Plan) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for range in &plan.ranges {
        let kind = match range.action {
            Action::Keep => "go on by themselves",
            Action::Rebuild => "are rebuilt from a survivor",
            Action::Fill => "are made of an older copy",
            Action::Empty => "begin without contents",
            Action::Drop => "go, as others hold their keys",
        };
        *counts.entry(kind).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests;
