//! Steps that make a range stand better: constraints, non-voters, failure domains.

use std::collections::{BTreeMap, BTreeSet};

use proto::locality::Tier;
use proto::placement::Demand;
use proto::{Locality, ReplicaRole};

use super::ledger::{Ledger, Place, RangeEntry, Score};
use super::operation::{Change, Reason, RefusalReason};
use super::steps::{Diagnosis, Wish};

/// What is known about how well ranges can be spread: most are as good as can be, and that is to be seen quickly.
#[derive(Default)]
pub struct Spread {
    /// The least penalty that so many voters under a rule can have.
    least: BTreeMap<(usize, usize), u64>,
    /// Voters under a rule that nothing improves.
    settled: BTreeSet<(usize, Vec<Place>)>,
}

impl Spread {
    /// Whether a range is known to be spread as well as it can be.
    fn is_settled(&mut self, ledger: &Ledger<'_>, range: &RangeEntry<'_>, score: Score) -> bool {
        let (rule, count) = (range.rule, range.voters.len());
        let least = *self.least.entry((rule, count)).or_insert_with(|| least_penalty(ledger, rule, count));
        score.violations == 0 && (score.penalty <= least || self.settled.contains(&key(range)))
    }
}

fn key(range: &RangeEntry<'_>) -> (usize, Vec<Place>) {
    let mut voters = range.voters.clone();
    voters.sort_unstable();
    (range.rule, voters)
}

/// The penalty of voters that are set down one by one, each where it costs least.
fn least_penalty(ledger: &Ledger<'_>, rule: usize, count: usize) -> u64 {
    let allowed = &ledger.rulebook[rule].allowed;
    let mut voters: Vec<Place> = Vec::new();
    for _ in 0..count {
        let free =
            (0..ledger.nodes.len()).filter(|p| allowed[*p] && ledger.nodes[*p].may_receive && !voters.contains(p));
        let cost = |place: Place| {
            let mut with = voters.clone();
            with.push(place);
            ledger.score(rule, &with).penalty
        };
        let Some(best) = free.min_by_key(|place| (cost(*place), *place)) else { return u64::MAX };
        voters.push(best);
    }
    ledger.score(rule, &voters).penalty
}

impl Diagnosis<'_, '_> {
    /// Moves a voter so that the rules are kept, or kept better.
    pub(super) fn constrain(&mut self, range: &RangeEntry<'_>, _: Place) -> Option<Wish> {
        let now = self.ledger.score(range.rule, &range.voters);
        if now.violations == 0 {
            return None;
        }
        let constraint = self.broken_constraint(range)?;
        let better = self.improvement(range, now).filter(|(score, _)| score.violations < now.violations);
        let Some((_, victim)) = better else {
            self.refusals.add(RefusalReason::NoMatch { constraint }, Some(range.id));
            return None;
        };
        Some(self.exchange(range, victim, Reason::Constraint { constraint }))
    }

    /// Moves a voter so that fewer share a failure domain.
    pub(super) fn spread(&mut self, range: &RangeEntry<'_>, _: Place) -> Option<Wish> {
        let now = self.ledger.score(range.rule, &range.voters);
        if now.penalty == 0 || self.spread.is_settled(self.ledger, range, now) {
            return None;
        }
        let better = self.improvement(range, now).filter(|(score, _)| score.violations <= now.violations);
        let Some((_, victim)) = better else {
            self.spread.settled.insert(key(range));
            return None;
        };
        let other = self.ledger.shares_with(victim, &range.voters)?;
        let (first, second) = (self.ledger.nodes[victim].id, self.ledger.nodes[other].id);
        let tier = self.shared_tier(victim, other)?;
        Some(self.exchange(range, victim, Reason::Shared { first, second, tier }))
    }

    fn exchange(&self, range: &RangeEntry<'_>, victim: Place, reason: Reason) -> Wish {
        let staying = range.voters.iter().copied().filter(|v| *v != victim).collect();
        Wish::AddVoter { reason, staying, remove: Some(victim) }
    }

    /// The voter whose exchange improves a range most, and the score after it.
    fn improvement(&self, range: &RangeEntry<'_>, now: Score) -> Option<(Score, Place)> {
        let mut best: Option<(Score, bool, u64, Place)> = None;
        let targets: Vec<Place> = self.ledger.possible_targets(range).collect();
        for victim in range.voters.iter().copied() {
            let mut voters: Vec<Place> = range.voters.iter().copied().filter(|v| *v != victim).collect();
            let (leads, fill) = (range.leader == Some(victim), u64::MAX - self.ledger.nodes[victim].fill());
            for target in &targets {
                voters.push(*target);
                let found = (self.ledger.score(range.rule, &voters), leads, fill, victim);
                voters.pop();
                if found.0 < now && best.is_none_or(|best| found < best) {
                    best = Some(found);
                }
            }
        }
        best.map(|(score, _, _, victim)| (score, victim))
    }

    fn broken_constraint(&self, range: &RangeEntry<'_>) -> Option<proto::placement::Constraint> {
        let locality = |v: &Place| self.ledger.nodes[*v].node.map_or_else(Locality::default, |n| n.locality.clone());
        let places: Vec<Locality> = range.voters.iter().map(locality).collect();
        let broken = |constraint: &&proto::placement::Constraint| {
            let matching = places.iter().filter(|l| constraint.matches(l)).count();
            match constraint.demand {
                Demand::Required => matching < places.len(),
                Demand::Forbidden => matching > 0,
                Demand::AtLeast(want) => matching < want as usize,
            }
        };
        range.range.rules.constraints.iter().find(broken).cloned()
    }

    /// The narrowest failure domain that two nodes share.
    fn shared_tier(&self, a: Place, b: Place) -> Option<Tier> {
        let (a, b) = (self.ledger.nodes[a].node?, self.ledger.nodes[b].node?);
        let shared = a.locality.shared_with(&b.locality).checked_sub(1)?;
        a.locality.tiers().get(shared).cloned()
    }

    /// Adds and removes replicas that never vote, as the rules count them.
    pub(super) fn keep_non_voters(&mut self, range: &RangeEntry<'_>, _: Place) -> Option<Wish> {
        let replicas = range.range.descriptor.replicas.iter().filter(|r| r.role == ReplicaRole::NonVoter);
        let mut spare: Vec<Place> = replicas.map(|r| self.ledger.place(r.node)).collect();
        // Those beside which the neighbour's stand with which it is to be merged.
        let anchor = self.ledger.memory.anchor_of(range.id).and_then(|anchor| self.ledger.picture.ranges.get(&anchor));
        let beside = anchor.iter().flat_map(|anchor| &anchor.descriptor.replicas);
        let preferred: Vec<Place> = beside.map(|replica| self.ledger.place(replica.node)).collect();
        let mut wish = None;
        for entry in &range.range.rules.non_voters {
            let (tier, want) = (&entry.tier, entry.count as usize);
            let stands = |place: &Place| {
                let node = &self.ledger.nodes[*place];
                node.node.is_some_and(|n| n.locality.get(&tier.key) == Some(tier.value.as_str()))
            };
            let good = |p: &Place| stands(p) && !self.ledger.nodes[*p].is_gone && !self.ledger.nodes[*p].is_leaving;
            let mut kept: Vec<Place> = spare.iter().copied().filter(|p| good(p)).collect();
            kept.sort_by_key(|place| (!preferred.contains(place), self.ledger.nodes[*place].fill(), *place));
            kept.truncate(want);
            spare.retain(|place| !kept.contains(place));
            if kept.len() == want || wish.is_some() {
                continue;
            }
            let is_free = |p: &Place| self.ledger.nodes[*p].may_receive && !range.holds(self.ledger.nodes[*p].id);
            let places: Vec<Place> = (0..self.ledger.nodes.len()).filter(|p| stands(p) && is_free(p)).collect();
            let (tier, have) = (tier.clone(), kept.len());
            if places.is_empty() {
                self.refusals.add(RefusalReason::NonVotersUnmet { tier, have, want }, Some(range.id));
            } else {
                wish = Some(Wish::AddNonVoter { reason: Reason::NonVoters { tier, have, want }, places });
            }
        }
        wish.or_else(|| spare.first().map(|place| self.drop_non_voter(range, *place)))
    }

    fn drop_non_voter(&self, range: &RangeEntry<'_>, place: Place) -> Wish {
        let entry = &self.ledger.nodes[place];
        let node = entry.id;
        let reason = match entry.node {
            Some(known) if entry.is_gone => {
                let silent = known.silent_since().map(|since| self.ledger.picture.now.saturating_sub(since));
                Reason::Gone { node, silent }
            }
            None => Reason::Gone { node, silent: None },
            Some(_) if entry.is_leaving => Reason::Decommissioning { node },
            Some(known) => {
                let tiers = known.locality.tiers().first().cloned();
                let tier = tiers.unwrap_or(Tier { key: "node".into(), value: node.to_string() });
                let non_voters = &range.range.descriptor.replicas;
                let have = non_voters.iter().filter(|r| r.role == ReplicaRole::NonVoter).count();
                let want = range.range.rules.non_voters.iter().map(|entry| entry.count as usize).sum();
                Reason::NonVoters { tier, have, want }
            }
        };
        Wish::Now(Change::RemoveReplica { node }, reason)
    }
}
