//! Balance: bytes by moving replicas, then load and the number of leaders by moving leadership; what load is left then is for [`super::relief`].
//!
//! Each of the three measures is looked at in pairs of nodes, the fullest and the emptiest first. Something moves from one to the
//! other only if
//!
//! 1. they differ by more than a *band*: the margin, as a part of the mean, while the measure is at rest; half of that once balancing
//!    has begun, until no pair differs by more, or nothing that could move is merely resting. So noise of a few percent around a
//!    balanced state moves nothing;
//! 2. what moves is at most half the difference: the one does not become what the other was. So each move lessens the sum of squares,
//!    and balancing ends;
//! 3. nothing above it in order becomes worse: rules and failure domains for bytes, leader preferences for load, and for the number of
//!    leaders the load as well, by more than a small part.
//!
//! A node is not both source and target within a plan, counting what is on its way. A replica that was moved rests for a while, and so
//! does a leader. While replicas are on their way for repair, bytes are not balanced: a lost node's replicas go to the emptiest nodes
//! anyway.
//!
//! Comparing pairs and not each with the mean makes the rule right for uneven clusters too: where one zone has fewer nodes than the
//! others, its nodes are the fullest for good, and no pair of nodes that could exchange anything differs.

use super::ledger::{Ledger, Place, RangeEntry, scaled};
use super::memory::{Measure, Memory};
use super::operation::Reason;
use super::picture::Progress;
use super::plan::Writer;
use super::relief::relieve;
use crate::show::permille;

/// Balances, as far as limits allow.
pub fn balance(writer: &mut Writer<'_, '_>, ranges: &[RangeEntry<'_>], calm: &[usize], repairing: bool) {
    let mut calm: Vec<usize> = calm.iter().copied().filter(|n| writer.is_sound(&ranges[*n])).collect();
    if !repairing {
        let moved = &writer.ledger.memory.moved;
        let rested: Vec<usize> = calm.iter().copied().filter(|n| !moved.contains_key(&ranges[*n].id)).collect();
        Bytes::new(writer.ledger, ranges, &rested).balance(writer);
    }
    let Memory { moves, led, .. } = &writer.ledger.memory;
    calm.retain(|n| !moves.contains_key(&ranges[*n].id) && !led.contains_key(&ranges[*n].id));
    Leaders::new(Measure::Load, writer, ranges, &calm).balance(writer);
    let led = &writer.ledger.memory.led;
    calm.retain(|n| !led.contains_key(&ranges[*n].id));
    Leaders::new(Measure::Leaders, writer, ranges, &calm).balance(writer);
    if !repairing {
        let Memory { led, moved, .. } = &writer.ledger.memory;
        calm.retain(|n| !led.contains_key(&ranges[*n].id) && !moved.contains_key(&ranges[*n].id));
        relieve(writer, ranges, &calm);
    }
}

/// What two nodes may differ by while a measure is at rest: a part of the mean, and no less than the floor.
pub fn at_rest(ledger: &Ledger<'_>, measure: Measure, mean: u64) -> u64 {
    let settings = &ledger.picture.settings;
    let (margin, floor) = match measure {
        Measure::Bytes => (settings.bytes_margin, settings.bytes_floor),
        Measure::Load => (settings.load_margin, settings.load_floor),
        Measure::Leaders => (settings.leaders_margin, 2),
    };
    let part = u128::from(mean) * u128::from(margin) / 1000;
    u64::try_from(part).unwrap_or(u64::MAX).max(floor)
}

/// What two nodes may differ by.
fn band(writer: &Writer<'_, '_>, measure: Measure, mean: u64) -> u64 {
    let part = at_rest(writer.ledger, measure, mean);
    if writer.ledger.memory.balancing.contains(&measure) { (part / 2).max(1) } else { part }
}

/// Remembers whether a measure is being balanced.
fn remember(writer: &mut Writer<'_, '_>, measure: Measure, active: bool) {
    let balancing = &mut writer.ledger.memory.balancing;
    let _ = if active { balancing.insert(measure) } else { balancing.remove(&measure) };
}

/// The least and the greatest of some amounts.
pub fn extremes(amounts: impl Iterator<Item = u64>) -> (u64, u64) {
    let span = amounts.fold((u64::MAX, 0), |(least, most): (u64, u64), n| (least.min(n), most.max(n)));
    (span.0.min(span.1), span.1)
}

/// How far two nodes are from the mean, in thousandths of it.
pub fn distances(from: u64, to: u64, mean: u64) -> (u64, u64) {
    (permille(from.saturating_sub(mean), mean), permille(mean.saturating_sub(to), mean))
}

/// Balancing bytes.
struct Bytes<'r, 'a> {
    ranges: &'r [RangeEntry<'a>],
    /// For each node the calm ranges that it holds, the largest first.
    holdings: Vec<Vec<usize>>,
    is_source: Vec<bool>,
    is_target: Vec<bool>,
    mean: u64,
}

impl<'r, 'a> Bytes<'r, 'a> {
    fn new(ledger: &Ledger<'_>, ranges: &'r [RangeEntry<'a>], calm: &[usize]) -> Bytes<'r, 'a> {
        let mut by_size = calm.to_vec();
        by_size.sort_by_key(|n| (u64::MAX - ranges[*n].range.bytes, *n));
        let mut holdings = vec![Vec::new(); ledger.nodes.len()];
        for n in by_size {
            ranges[n].voters.iter().for_each(|voter| holdings[*voter].push(n));
        }
        let mut is_source = vec![false; ledger.nodes.len()];
        let mut is_target = vec![false; ledger.nodes.len()];
        for going in ledger.memory.moves.values().filter(|g| ledger.picture.nodes.contains_key(&g.add)) {
            is_target[ledger.place(going.add)] = true;
            let from = going.remove.filter(|node| ledger.picture.nodes.contains_key(node));
            from.into_iter().for_each(|node| is_source[ledger.place(node)] = true);
        }
        let members = ledger.nodes.iter().filter(|n| n.may_lead);
        let (bytes, weight) = members.fold((0, 0), |sum: (u64, u64), n| (sum.0 + n.bytes, sum.1 + n.weight));
        Bytes { ranges, holdings, is_source, is_target, mean: scaled(bytes, weight) }
    }

    fn balance(mut self, writer: &mut Writer<'_, '_>) {
        let band = band(writer, Measure::Bytes, self.mean);
        let mut under_way = writer.ledger.memory.moves.values().any(|g| matches!(g.reason, Some(Reason::Bytes { .. })));
        loop {
            if writer.is_full() || !writer.ledger.may_send(None) {
                under_way = true;
                break;
            }
            let (found, waits) = self.find(writer, band);
            under_way |= waits || found.is_some();
            let Some((from, to, n)) = found else {
                under_way |= self.differs(writer, band) && !writer.ledger.memory.moved.is_empty();
                break;
            };
            self.move_replica(writer, from, to, n);
        }
        remember(writer, Measure::Bytes, under_way);
    }

    fn move_replica(&mut self, writer: &mut Writer<'_, '_>, from: Place, to: Place, n: usize) {
        let (source, target) = (&writer.ledger.nodes[from], &writer.ledger.nodes[to]);
        let (above, below) = distances(source.fill(), target.fill(), self.mean);
        let reason = Reason::Bytes { from: source.id, above, to: target.id, below };
        (self.is_source[from], self.is_target[to]) = (true, true);
        let range = &self.ranges[n];
        range.voters.iter().for_each(|voter| self.holdings[*voter].retain(|other| *other != n));
        writer.ledger.memory.moved.insert(range.id, writer.ledger.picture.now);
        writer.add_learner(range, to, Some(from), reason);
    }

    /// Whether some pair of nodes differs by more than the band.
    fn differs(&self, writer: &Writer<'_, '_>, band: u64) -> bool {
        let (least, most) = extremes(writer.ledger.nodes.iter().filter(|n| n.may_receive).map(|n| n.fill()));
        most - least > band
    }

    /// The next replica to move, with its source and target; and whether a pair that differs has to wait.
    fn find(&self, writer: &Writer<'_, '_>, band: u64) -> (Option<(Place, Place, usize)>, bool) {
        let (nodes, order) = (&writer.ledger.nodes, by_fill(writer.ledger));
        let mut waits = false;
        for (full, from) in order.iter().rev().copied() {
            for (empty, to) in order.iter().copied().take_while(|(empty, _)| full - empty.min(&full) > band) {
                if !nodes[to].may_receive {
                    continue;
                }
                if self.is_target[from] || self.is_source[to] || !writer.ledger.has_slot(to) {
                    waits = true;
                    continue;
                }
                if let Some(n) = self.movable(writer.ledger, from, to, full - empty, true) {
                    return (Some((from, to, n)), waits);
                }
            }
        }
        (None, waits)
    }

    /// Whether no pair of nodes would exchange anything as soon as nothing rests, or is on its way.
    fn is_even(&self, ledger: &Ledger<'_>, band: u64) -> bool {
        let order = by_fill(ledger);
        order.iter().rev().all(|(full, from)| {
            let mut emptier = order.iter().take_while(|(empty, _)| full - empty.min(full) > band);
            emptier.all(|(empty, to)| {
                !ledger.nodes[*to].may_receive || self.movable(ledger, *from, *to, full - empty, false).is_none()
            })
        })
    }

    /// The largest replica that may move between two nodes, now or at some time; a follower, if there is one.
    fn movable(&self, ledger: &Ledger<'_>, from: Place, to: Place, difference: u64, now: bool) -> Option<usize> {
        let nodes = &ledger.nodes;
        let fits = |n: &usize| {
            let range = &self.ranges[*n];
            let moved = scaled(range.range.bytes, nodes[from].weight) + scaled(range.range.bytes, nodes[to].weight);
            moved > 0
                && moved <= difference
                && (!now || ledger.may_send(range.leader))
                && is_as_good(ledger, range, from, to)
        };
        let mut fallback = None;
        for n in self.holdings[from].iter().copied().filter(fits) {
            if self.ranges[n].leader != Some(from) {
                return Some(n);
            }
            fallback = fallback.or(Some(n));
        }
        fallback
    }
}

/// The nodes that may hold voters, the emptiest first.
fn by_fill(ledger: &Ledger<'_>) -> Vec<(u64, Place)> {
    let able = ledger.nodes.iter().enumerate().filter(|(_, node)| node.may_lead);
    let mut order: Vec<(u64, Place)> = able.map(|(place, node)| (node.fill(), place)).collect();
    order.sort_unstable();
    order
}

/// Whether bytes would be at rest if a voter moved: whatever is balanced next, no replica moves for their sake.
pub fn stays_even(ledger: &mut Ledger<'_>, ranges: &[RangeEntry<'_>], n: usize, from: Place, to: Place) -> bool {
    let moved = ranges[n].range.bytes;
    let before = (ledger.nodes[from].bytes, ledger.nodes[to].bytes);
    ledger.nodes[from].bytes -= moved.min(before.0);
    ledger.nodes[to].bytes += moved;
    // The one that moves could only go on from where it is then, and not back: the two nodes do not differ by enough.
    let others: Vec<usize> = (0..ranges.len()).filter(|other| *other != n).collect();
    let bytes = Bytes::new(ledger, ranges, &others);
    let even = bytes.is_even(ledger, at_rest(ledger, Measure::Bytes, bytes.mean) / 2);
    (ledger.nodes[from].bytes, ledger.nodes[to].bytes) = before;
    even
}

/// Whether a voter may move as far as rules and failure domains are concerned.
fn is_as_good(ledger: &Ledger<'_>, range: &RangeEntry<'_>, from: Place, to: Place) -> bool {
    !range.holds(ledger.nodes[to].id) && keeps_score(ledger, range, from, to)
}

/// The same, wherever replicas that do not vote stand.
pub fn keeps_score(ledger: &Ledger<'_>, range: &RangeEntry<'_>, from: Place, to: Place) -> bool {
    ledger.rulebook[range.rule].allowed[to] && {
        let (now, after) = (ledger.score(range.rule, &range.voters), range.voters_with(Some(from), to));
        let after = ledger.score(range.rule, &after);
        after.violations <= now.violations && after.penalty <= now.penalty
    }
}

/// Balancing what leaders bear, or their number.
struct Leaders<'r, 'a> {
    measure: Measure,
    ranges: &'r [RangeEntry<'a>],
    /// For each node the calm ranges that it leads, those that bear most first.
    led: Vec<Vec<usize>>,
    mean: u64,
    mean_load: u64,
}

impl<'r, 'a> Leaders<'r, 'a> {
    fn new(measure: Measure, writer: &Writer<'_, '_>, ranges: &'r [RangeEntry<'a>], calm: &[usize]) -> Leaders<'r, 'a> {
        let nodes = &writer.ledger.nodes;
        let mut by_load = calm.to_vec();
        by_load.sort_by_key(|n| (u64::MAX - ranges[*n].range.load, *n));
        let mut led = vec![Vec::new(); nodes.len()];
        for n in by_load {
            ranges[n].leader.into_iter().for_each(|leader| led[leader].push(n));
        }
        let able: Vec<_> = nodes.iter().filter(|n| n.may_lead).collect();
        let mean = |sum: u64| sum / able.len().max(1) as u64;
        let mean_load = mean(able.iter().map(|n| n.load).sum());
        let mean = if measure == Measure::Load { mean_load } else { mean(able.iter().map(|n| n.leaders).sum()) };
        Leaders { measure, ranges, led, mean, mean_load }
    }

    fn amount(&self, writer: &Writer<'_, '_>, place: Place) -> u64 {
        let node = &writer.ledger.nodes[place];
        if self.measure == Measure::Load { node.load } else { node.leaders }
    }

    fn balance(mut self, writer: &mut Writer<'_, '_>) {
        let band = band(writer, self.measure, self.mean);
        let mut active = false;
        loop {
            if writer.is_full() || writer.transfers() >= writer.ledger.picture.settings.transfers_max {
                active = true;
                break;
            }
            let Some((from, to, n)) = self.find(writer, band) else {
                active |= self.differs(writer, band) && !writer.ledger.memory.led.is_empty();
                break;
            };
            active = true;
            self.transfer(writer, from, to, n);
        }
        remember(writer, self.measure, active);
    }

    /// Whether some pair of nodes differs by more than the band.
    fn differs(&self, writer: &Writer<'_, '_>, band: u64) -> bool {
        let able = (0..self.led.len()).filter(|place| writer.ledger.nodes[*place].may_lead);
        let (least, most) = extremes(able.map(|place| self.amount(writer, place)));
        most - least > band
    }

    fn transfer(&mut self, writer: &mut Writer<'_, '_>, from: Place, to: Place, n: usize) {
        let (have, other) = (self.amount(writer, from), self.amount(writer, to));
        let (source, target) = (writer.ledger.nodes[from].id, writer.ledger.nodes[to].id);
        let reason = if self.measure == Measure::Load {
            let (above, below) = distances(have, other, self.mean);
            Reason::Load { from: source, above, to: target, below }
        } else {
            Reason::Leaders { from: source, have, to: target, other }
        };
        self.led[from].retain(|other| *other != n);
        let range = &self.ranges[n];
        writer.ledger.memory.led.insert(range.id, writer.ledger.picture.now);
        writer.write(range, super::operation::Change::TransferLeader { to: target }, reason);
        writer.lead(range, to);
    }

    /// The next leader to move.
    fn find(&self, writer: &Writer<'_, '_>, band: u64) -> Option<(Place, Place, usize)> {
        let nodes = &writer.ledger.nodes;
        let able = nodes.iter().enumerate().filter(|(_, n)| n.may_lead);
        let mut order: Vec<(u64, Place)> = able.map(|(place, _)| (self.amount(writer, place), place)).collect();
        order.sort_unstable();
        let least = order.first()?.0;
        for (most, from) in order.iter().rev().copied().take_while(|(most, _)| most - least > band) {
            let best = self.led[from].iter().filter_map(|n| self.goal(writer, *n, from, most, band));
            // To whoever has least.
            if let Some((_, to, n)) = best.min_by_key(|(rank, _, n)| (*rank, *n)) {
                return Some((from, to, n));
            }
        }
        None
    }

    /// Where a leader could go; and its rank among others, the less the better.
    fn goal(
        &self,
        writer: &Writer<'_, '_>,
        n: usize,
        from: Place,
        most: u64,
        band: u64,
    ) -> Option<((u64, u64), Place, usize)> {
        let (ledger, range) = (&writer.ledger, &self.ranges[n]);
        let preference = &ledger.rulebook[range.rule].preference;
        let moved = if self.measure == Measure::Load { range.range.load } else { 1 };
        let better = |to: &Place| {
            let amount = self.amount(writer, *to);
            let difference = most.saturating_sub(amount);
            *to != from
                && ledger.nodes[*to].may_lead
                && range.progress(ledger.nodes[*to].id) == Progress::CaughtUp
                && preference[*to] <= preference[from]
                && difference > band
                && (1..=difference / 2).contains(&moved)
                && self.keeps_load(writer, range, from, *to)
        };
        let to = range.voters.iter().copied().filter(better).min_by_key(|to| (self.amount(writer, *to), *to))?;
        // For the load, what moves most of it; for the number, what moves least.
        let rank = if self.measure == Measure::Load { u64::MAX - moved } else { range.range.load };
        Some(((self.amount(writer, to), rank), to, n))
    }

    /// Whether a move for the number of leaders leaves both nodes' loads near the mean.
    fn keeps_load(&self, writer: &Writer<'_, '_>, range: &RangeEntry<'_>, from: Place, to: Place) -> bool {
        let settings = &writer.ledger.picture.settings;
        let part = u128::from(self.mean_load) * u128::from(settings.load_margin) / 4000;
        let slack = u64::try_from(part).unwrap_or(u64::MAX).max(settings.load_floor / 4);
        // At rest the slack is narrower, so that noise does not let through what had to stop before.
        let slack = if writer.ledger.memory.balancing.contains(&self.measure) { slack } else { slack / 2 };
        let (moved, nodes) = (range.range.load, &writer.ledger.nodes);
        let low = nodes[from].load.saturating_sub(moved).saturating_add(slack) >= self.mean_load;
        let high = nodes[to].load + moved <= self.mean_load + slack;
        self.measure == Measure::Load || (low && high)
    }
}
