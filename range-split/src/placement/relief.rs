//! Relief: where moving leadership does not even out the load, a replica of a busy range goes to a node that bears less, and the lead follows.
//!
//! Leadership goes to voters only. If a few nodes hold all replicas of the busy ranges, it cannot go anywhere else. What is left when no leader can
//! move any more is looked at here, in pairs of nodes: the one that bears most and the one that bears least. A replica moves only if
//!
//! 1. they differ by more than the margin, counting what is on its way already;
//! 2. the range bears at most half the difference;
//! 3. rules, failure domains and leader preferences stay as good, and bytes at rest: what would have other replicas moved for the sake of bytes is
//!    left, and so is all relief while some are to be. So nodes with a few large ranges are not relieved.
//!
//! A range with a single voter is not moved: whoever found it half-way could not tell which of two was meant to stay.
//!
//! The lead follows as any leader moves for load (`balance`), once the replica votes. Since that lessens the sum of squares of the
//! loads, relief ends.

use super::balance::{at_rest, distances, extremes, keeps_score, stays_even};
use super::ledger::{Ledger, Place, RangeEntry, scaled};
use super::memory::Measure;
use super::operation::Reason;
use super::plan::Writer;

/// A replica that is to move.
struct Relief {
    range: usize,
    from: Place,
    to: Place,
    victim: Place,
}

/// Replicas of which a plan finds out whether bytes would stay even.
const TRIES: usize = 8;

/// Plans relief, as far as limits allow. `calm` are sound ranges that neither rest nor move.
pub fn relieve(writer: &mut Writer<'_, '_>, ranges: &[RangeEntry<'_>], calm: &[usize]) {
    let mut loads = expected_loads(writer, ranges);
    let mean = mean_load(writer.ledger, &loads);
    let margin = at_rest(writer.ledger, Measure::Load, mean);
    let mut calm = calm.to_vec();
    let mut tries = TRIES;
    while !writer.is_full() {
        let Some(relief) = find(writer, ranges, &calm, &loads, margin, &mut tries) else { return };
        let range = &ranges[relief.range];
        let (source, target) = (writer.ledger.nodes[relief.from].id, writer.ledger.nodes[relief.to].id);
        let (above, below) = distances(loads[relief.from], loads[relief.to], mean);
        let reason = Reason::Load { from: source, above, to: target, below };
        loads[relief.from] -= range.range.load;
        loads[relief.to] += range.range.load;
        calm.retain(|n| *n != relief.range);
        writer.ledger.memory.moved.insert(range.id, writer.ledger.picture.now);
        writer.add_learner(range, relief.to, Some(relief.victim), reason);
    }
}

/// What nodes will bear once the lead has followed the replicas on their way.
fn expected_loads(writer: &Writer<'_, '_>, ranges: &[RangeEntry<'_>]) -> Vec<u64> {
    let ledger = &writer.ledger;
    let mut loads: Vec<u64> = ledger.nodes.iter().map(|node| node.load).collect();
    for range in ranges {
        let Some(leader) = range.leader else { continue };
        let going = ledger.memory.moves.get(&range.id);
        let going = going.filter(|going| matches!(going.reason, Some(Reason::Load { .. })));
        if let Some(going) = going.filter(|going| ledger.picture.nodes.contains_key(&going.add)) {
            loads[leader] -= range.range.load;
            loads[ledger.place(going.add)] += range.range.load;
        }
    }
    loads
}

/// The next replica to move: from whoever bears most to whoever bears least, and of the ranges there the busiest.
fn find(
    writer: &mut Writer<'_, '_>,
    ranges: &[RangeEntry<'_>],
    calm: &[usize],
    loads: &[u64],
    margin: u64,
    tries: &mut usize,
) -> Option<Relief> {
    let able = writer.ledger.nodes.iter().enumerate().filter(|(_, node)| node.may_lead);
    let mut order: Vec<(u64, Place)> = able.map(|(place, _)| (loads[place], place)).collect();
    order.sort_unstable();
    for (most, from) in order.iter().rev().copied() {
        for (least, to) in order.iter().copied().take_while(|(least, _)| most.saturating_sub(*least) > margin) {
            let target = &writer.ledger.nodes[to];
            if !target.may_receive || !writer.ledger.has_slot(to) {
                continue;
            }
            let fits = |n: &usize| {
                let range = &ranges[*n];
                range.leader == Some(from)
                    && !range.holds(target.id)
                    && (1..=(most - least) / 2).contains(&range.range.load)
                    && writer.ledger.may_send(range.leader)
            };
            let mut candidates: Vec<usize> = calm.iter().copied().filter(fits).collect();
            candidates.sort_by_key(|n| (u64::MAX - ranges[*n].range.load, *n));
            for range in candidates {
                let fill = writer.ledger.nodes[to].fill();
                let Some(victim) = victim(writer.ledger, &ranges[range], to, fill) else { continue };
                *tries = tries.checked_sub(1)?;
                if stays_even(writer.ledger, ranges, range, victim, to) {
                    return Some(Relief { range, from, to, victim });
                }
            }
        }
    }
    None
}

fn mean_load(ledger: &Ledger<'_>, loads: &[u64]) -> u64 {
    let able: Vec<u64> =
        ledger.nodes.iter().zip(loads).filter(|(node, _)| node.may_lead).map(|(_, load)| *load).collect();
    able.iter().sum::<u64>() / able.len().max(1) as u64
}

/// For a learner that was found on the way, nobody knows any more what for: the voter that it is to replace, if that is a relief.
pub fn intended(ledger: &Ledger<'_>, range: &RangeEntry<'_>, learner: Place) -> Option<Place> {
    let loads: Vec<u64> = ledger.nodes.iter().map(|node| node.load).collect();
    let difference = loads[range.leader?].saturating_sub(loads[learner]);
    let differs = difference > at_rest(ledger, Measure::Load, mean_load(ledger, &loads));
    let node = &ledger.nodes[learner];
    let fill = node.fill().saturating_sub(scaled(range.range.bytes, node.weight));
    let relieves = differs && (1..=difference / 2).contains(&range.range.load) && node.may_lead;
    relieves.then(|| victim(ledger, range, learner, fill)).flatten()
}

/// The voter that makes way for one on another node, filled so far without it: the fullest follower of those with which bytes need no balancing afterwards.
fn victim(ledger: &Ledger<'_>, range: &RangeEntry<'_>, to: Place, filled: u64) -> Option<Place> {
    let (nodes, bytes) = (&ledger.nodes, range.range.bytes);
    let preference = &ledger.rulebook[range.rule].preference;
    let leader = range.leader?;
    if preference[to] > preference[leader] {
        return None;
    }
    let able: Vec<Place> = (0..nodes.len()).filter(|place| nodes[*place].may_lead).collect();
    let (held, weight) = able.iter().fold((0, 0), |sum: (u64, u64), place| {
        let node = &nodes[*place];
        (sum.0 + node.bytes, sum.1 + node.weight)
    });
    // What differs by half of it is balanced at no time.
    let margin = at_rest(ledger, Measure::Bytes, scaled(held, weight)) / 2;
    let share = |place: Place| scaled(bytes, nodes[place].weight);
    let before = |place: Place| if place == to { filled } else { nodes[place].fill() };
    let fits = |victim: &Place| {
        let after = |place: Place| {
            let fill = before(place);
            if place == to {
                fill + share(place)
            } else if place == *victim {
                fill.saturating_sub(share(place))
            } else {
                fill
            }
        };
        let spread = |fill: &dyn Fn(Place) -> u64| {
            let (least, most) = extremes(able.iter().map(|place| fill(*place)));
            most - least
        };
        let pair = after(to).saturating_sub(after(*victim)) <= margin;
        let all = spread(&after) <= margin.max(spread(&before));
        *victim != leader && pair && all && keeps_score(ledger, range, *victim, to)
    };
    range.voters.iter().copied().filter(fits).max_by_key(|place| (nodes[*place].fill(), *place))
}
