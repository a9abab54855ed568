//! Small neighbours that have been cold for long become one range.
//!
//! Two ranges that touch are due once [`crate::policy::merge`] has allowed it for `merge_age_min` without a break, as far as this planner's memory goes
//! back: neither was split or merged in that time, or bore or held too much together. A merge asks for replicas on the same nodes, in the same roles. So those of
//! the smaller one are brought to the larger one first, an exchange at a time, or the other way round where rules and failure domains want that;
//! and where neither way keeps them as good as they are, the two stay two.
//!
//! A range is in one pair at a time. What is being brought together is not balanced meanwhile, and a pair that has not become one range after
//! `learner_patience` is given up, to be due again when it has been cold for as long once more.
//!
//! The first range of all stays by itself: it holds the descriptors of the others.

use std::collections::BTreeSet;

use proto::{Key, RangeId, Span};

use super::ledger::{Ledger, Place, RangeEntry};
use super::memory::{Cold, Joining};
use super::operation::{Change, Reason};
use super::plan::Writer;
use crate::policy::{self, Keep, Merge, Neighbour};

/// Two neighbours that are to become one range.
struct Pair<'r, 'a> {
    left: &'r RangeEntry<'a>,
    right: &'r RangeEntry<'a>,
    bytes: u64,
    rate: u64,
}

/// Plans merges, and what leads to them. Gives back the calm ranges that are no part of that.
pub fn unite(
    writer: &mut Writer<'_, '_>,
    ranges: &[RangeEntry<'_>],
    mut calm: Vec<usize>,
    repairing: bool,
) -> Vec<usize> {
    give_up(writer);
    let mut pairs = due(writer, ranges, &calm);
    // What has begun goes on first.
    let joining = &writer.ledger.memory.joining;
    pairs.sort_by_key(|pair| !joining.contains_key(&pair.right.id));
    for pair in &pairs {
        let memory = &writer.ledger.memory;
        let begun = memory.joining.get(&pair.right.id).is_some_and(|joining| joining.left == pair.left.id);
        let taken = memory.joined();
        let free = !taken.contains(&pair.left.id) && !taken.contains(&pair.right.id);
        let room = memory.joining.len() < writer.ledger.picture.settings.merges_max;
        if !writer.is_full() && (begun || (free && room)) && writer.is_sound(pair.left) && writer.is_sound(pair.right) {
            pair.next_step(writer, repairing);
        }
    }
    let taken = writer.ledger.memory.joined();
    calm.retain(|n| !taken.contains(&ranges[*n].id));
    calm
}

/// Forgets pairs that have been on their way for too long.
fn give_up(writer: &mut Writer<'_, '_>) {
    let (now, patience) = (writer.ledger.picture.now, writer.ledger.picture.settings.learner_patience);
    let memory = &mut writer.ledger.memory;
    let late = memory.joining.iter().filter(|(_, joining)| now.saturating_sub(joining.since) >= patience);
    for right in late.map(|(right, _)| *right).collect::<Vec<_>>() {
        memory.joining.remove(&right);
        memory.cold.remove(&right);
    }
}

/// The pairs that are due, in the order of their keys; remembers which have begun to be cold.
fn due<'r, 'a>(writer: &mut Writer<'_, '_>, ranges: &'r [RangeEntry<'a>], calm: &[usize]) -> Vec<Pair<'r, 'a>> {
    let picture = writer.ledger.picture;
    let mut order: Vec<usize> = (0..ranges.len()).collect();
    order.sort_by_key(|n| &ranges[*n].range.descriptor.start);
    let calm: BTreeSet<usize> = calm.iter().copied().collect();
    let before = std::mem::take(&mut writer.ledger.memory.cold);
    let mut pairs = Vec::new();
    for (l, r) in order.iter().zip(order.iter().skip(1)) {
        let (left, right) = (&ranges[*l], &ranges[*r]);
        let (start, end) = (&left.range.descriptor.start, &right.range.descriptor.end);
        let is_same = |cold: &&Cold| cold.left == left.id && cold.span.start == *start && cold.span.end == *end;
        let known = before.get(&right.id).filter(is_same);
        let since = known.map_or(picture.now, |cold| cold.since);
        let side =
            |entry: &RangeEntry<'a>, n: &usize| Side { span: entry.range.descriptor.span(), calm: calm.contains(n) };
        let (left_side, right_side) = (side(left, l), side(right, r));
        let mut right_facts = right_side.facts(right, since);
        right_facts.pinned |= *start == Key::MIN;
        let verdict = policy::merge(picture.now, &left_side.facts(left, since), &right_facts, &picture.limits);
        let lasts = match &verdict {
            Merge::Together { .. } | Merge::Keep(Keep::Young { .. }) => true,
            // Whatever is being done to them: with the same bounds they are as cold as before.
            Merge::Keep(Keep::InFlight) => known.is_some(),
            Merge::Keep(_) => false,
        };
        if lasts {
            let span = Span { start: start.clone(), end: end.clone() };
            writer.ledger.memory.cold.insert(right.id, Cold { left: left.id, span, since });
        }
        if let Merge::Together { bytes, rate } = verdict {
            pairs.push(Pair { left, right, bytes, rate });
        }
    }
    let memory = &mut writer.ledger.memory;
    memory.joining.retain(|right, joining| memory.cold.get(right).is_some_and(|cold| cold.left == joining.left));
    pairs
}

/// One of two neighbours, for the policy.
struct Side {
    span: Span,
    calm: bool,
}

impl Side {
    fn facts<'s>(&'s self, entry: &'s RangeEntry<'_>, changed: std::time::Duration) -> Neighbour<'s> {
        Neighbour {
            span: &self.span,
            bytes: entry.range.size,
            rate: entry.range.load,
            changed,
            rules: &entry.range.rules,
            pinned: entry.range.pinned,
            in_flight: !self.calm,
        }
    }
}

fn is_same(mut a: Vec<Place>, mut b: Vec<Place>) -> bool {
    a.sort_unstable();
    b.sort_unstable();
    a == b
}

/// Whether all replicas of `mover` could be where those of `anchor` are: to go half the way is of no use, and would be taken back for the sake of
/// bytes.
fn can_join(ledger: &Ledger<'_>, mover: &RangeEntry<'_>, anchor: &RangeEntry<'_>) -> bool {
    let (now, then) = (ledger.score(mover.rule, &mover.voters), ledger.score(mover.rule, &anchor.voters));
    let allowed = &ledger.rulebook[mover.rule].allowed;
    let takes = |place: &Place| mover.holds(ledger.nodes[*place].id) || ledger.nodes[*place].may_receive;
    then.violations <= now.violations
        && then.penalty <= now.penalty
        && anchor.voters.iter().all(|place| takes(place) && (allowed[*place] || mover.voters.contains(place)))
        && anchor.non_voters(ledger).iter().all(takes)
}

impl<'a> Pair<'_, 'a> {
    fn reason(&self, neighbour: RangeId) -> Reason {
        Reason::Joins { neighbour, bytes: self.bytes, rate: self.rate }
    }

    /// Merges the two if they stand side by side, else brings them closer, if anything does.
    fn next_step(&self, writer: &mut Writer<'_, '_>, repairing: bool) {
        let (left, right) = (self.left, self.right);
        let voters = is_same(left.voters.clone(), right.voters.clone());
        let others = is_same(left.non_voters(writer.ledger), right.non_voters(writer.ledger));
        if voters && others {
            let change = Change::TakeIn { right: right.id, epoch: right.range.descriptor.epoch };
            writer.write(left, change, Reason::Small { bytes: self.bytes, rate: self.rate });
            return self.begin(writer, right);
        }
        if repairing {
            return;
        }
        let begun = writer.ledger.memory.joining.get(&right.id).map(|joining| joining.mover);
        let first = match begun {
            Some(mover) => mover == left.id,
            None => left.range.size < right.range.size,
        };
        let ways = if first { [(left, right), (right, left)] } else { [(right, left), (left, right)] };
        for (mover, anchor) in ways {
            if !can_join(writer.ledger, mover, anchor) {
                continue;
            }
            let moved =
                if voters { self.bring_non_voter(writer, mover, anchor) } else { self.bring(writer, mover, anchor) };
            if moved {
                return self.begin(writer, mover);
            }
        }
    }

    fn begin(&self, writer: &mut Writer<'_, '_>, mover: &RangeEntry<'_>) {
        let now = writer.ledger.picture.now;
        let joining = Joining { left: self.left.id, mover: mover.id, since: now };
        writer.ledger.memory.joining.entry(self.right.id).or_insert(joining).mover = mover.id;
    }

    /// Has a voter of `mover` go to where one of `anchor` stands. Says whether there is one that may.
    fn bring(&self, writer: &mut Writer<'_, '_>, mover: &RangeEntry<'a>, anchor: &RangeEntry<'a>) -> bool {
        let ledger = &writer.ledger;
        let now = ledger.score(mover.rule, &mover.voters);
        // The neighbour's own replicas may stand where the rules do not want any (more).
        let allowed = &ledger.rulebook[mover.rule].allowed;
        let takes = |place: &Place| {
            let node = &ledger.nodes[*place];
            node.may_receive && ledger.has_slot(*place) && !mover.holds(node.id) && allowed[*place]
        };
        let missing = anchor.voters.iter().copied().filter(takes);
        let surplus: Vec<Place> = mover.voters.iter().copied().filter(|v| !anchor.voters.contains(v)).collect();
        let exchanges = missing.flat_map(|add| surplus.iter().map(move |remove| (add, *remove)));
        let scored = exchanges.map(|(add, remove)| {
            let score = ledger.score(mover.rule, &mover.voters_with(Some(remove), add));
            (score, mover.leader == Some(remove), add, remove)
        });
        let harmless = |(score, ..): &(super::ledger::Score, bool, Place, Place)| {
            score.violations <= now.violations && score.penalty <= now.penalty
        };
        let same_number = anchor.voters.len() == mover.voters.len();
        let best = scored.filter(harmless).min().filter(|_| same_number && ledger.may_send(mover.leader));
        let Some((_, _, add, remove)) = best else { return false };
        writer.add_learner(mover, add, Some(remove), self.reason(anchor.id));
        true
    }

    /// Has `mover` have a non-voter where `anchor` has one. The one that is too many then goes by itself.
    fn bring_non_voter(&self, writer: &mut Writer<'_, '_>, mover: &RangeEntry<'a>, anchor: &RangeEntry<'a>) -> bool {
        let ledger = &writer.ledger;
        let takes = |place: &Place| {
            let node = &ledger.nodes[*place];
            node.may_receive && ledger.has_slot(*place) && !mover.holds(node.id)
        };
        let missing = anchor.non_voters(ledger).into_iter().find(takes);
        let Some(place) = missing.filter(|_| ledger.may_send(mover.leader)) else { return false };
        writer.add_non_voter(mover, place, self.reason(anchor.id));
        true
    }
}
