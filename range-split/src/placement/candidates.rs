//! Choices: which node takes a replica, which voter gives way, who leads.

use proto::ReplicaRole;

use super::ledger::{Ledger, Place, RangeEntry, Score};
use super::operation::RefusalReason;
use super::picture::Progress;

/// Where a new voter could go.
pub enum Target {
    At(Place),
    /// The best places have enough on their way: later.
    Later,
    /// Nowhere, and why.
    None(RefusalReason),
}

impl Ledger<'_> {
    /// The nodes on which the rules let a new voter of the range stand.
    pub fn possible_targets<'b>(&'b self, range: &'b RangeEntry<'_>) -> impl Iterator<Item = Place> + 'b {
        let allowed = &self.rulebook[range.rule].allowed;
        (0..self.nodes.len())
            .filter(|place| self.nodes[*place].may_receive && allowed[*place] && !range.holds(self.nodes[*place].id))
    }

    /// The best place for a voter beside those that stay: rules first, then failure domains, then the emptiest.
    pub fn best_target(&self, range: &RangeEntry<'_>, staying: &[Place]) -> Target {
        let with = |place: Place| {
            let mut voters = staying.to_vec();
            voters.push(place);
            self.score(range.rule, &voters)
        };
        let scored: Vec<(Score, Place)> = self.possible_targets(range).map(|place| (with(place), place)).collect();
        let Some(best) = scored.iter().map(|(score, _)| *score).min() else {
            return Target::None(self.why_no_target(range));
        };
        let free = scored.iter().filter(|(score, place)| *score == best && self.has_slot(*place));
        match free.map(|(_, place)| *place).min_by_key(|place| (self.nodes[*place].fill(), *place)) {
            Some(place) if self.may_send(range.leader) => Target::At(place),
            _ => Target::Later,
        }
    }

    /// Why no node can take a voter of the range.
    fn why_no_target(&self, range: &RangeEntry<'_>) -> RefusalReason {
        let settings = &self.picture.settings;
        let is_other = |place: &Place| self.nodes[*place].may_lead && !range.holds(self.nodes[*place].id);
        let allowed = &self.rulebook[range.rule].allowed;
        let others: Vec<Place> = (0..self.nodes.len()).filter(is_other).collect();
        if others.is_empty() {
            return RefusalReason::TooFewNodes { have: range.voters.len(), want: range.wanted(self.picture) };
        }
        if others.iter().any(|place| allowed[*place]) {
            return RefusalReason::DisksFull { full_permille: settings.full_permille };
        }
        self.unmet_constraint(range, &others)
    }

    /// The constraint that keeps voters off all of these nodes.
    fn unmet_constraint(&self, range: &RangeEntry<'_>, places: &[Place]) -> RefusalReason {
        use proto::placement::Demand;
        let excludes = |constraint: &&proto::placement::Constraint| {
            let matches = |place: &Place| self.nodes[*place].node.is_some_and(|n| constraint.matches(&n.locality));
            match constraint.demand {
                Demand::Required => !places.iter().any(matches),
                Demand::Forbidden => places.iter().all(matches),
                Demand::AtLeast(_) => false,
            }
        };
        let constraints = &range.range.rules.constraints;
        let culprit = constraints.iter().find(excludes).or(constraints.first());
        match culprit.cloned() {
            Some(constraint) => RefusalReason::NoMatch { constraint },
            None => RefusalReason::TooFewNodes { have: range.voters.len(), want: range.wanted(self.picture) },
        }
    }

    /// The voter that had best be removed, if this node comes in for it (or nobody): those that are gone first, then those that leave,
    /// then what rules and failure domains say, then fullness; the leader last among equals.
    pub fn worst_voter(&self, range: &RangeEntry<'_>, add: Option<Place>) -> Option<Place> {
        let key = |place: Place| {
            let rest: Vec<Place> = range.voters.iter().copied().filter(|v| *v != place).chain(add).collect();
            let node = &self.nodes[place];
            let (fill, leads) = (u64::MAX - node.fill(), range.leader == Some(place));
            (!node.is_gone, !node.is_leaving, self.score(range.rule, &rest), fill, leads, place)
        };
        range.voters.iter().copied().min_by_key(|place| key(*place))
    }

    /// Whether a majority of these voters is live and caught up. A learner that is to vote has to be as well.
    pub fn can_decide(&self, range: &RangeEntry<'_>, voters: &[Place]) -> bool {
        self.ready(range, voters) > voters.len() / 2
    }

    /// How many of these are live and caught up.
    pub fn ready(&self, range: &RangeEntry<'_>, voters: &[Place]) -> usize {
        voters.iter().filter(|v| self.is_ready(range, **v)).count()
    }

    pub fn is_ready(&self, range: &RangeEntry<'_>, place: Place) -> bool {
        let node = &self.nodes[place];
        node.is_live && range.progress(node.id) == Progress::CaughtUp
    }

    /// Who could lead instead of who leads now: by preference first, then whoever leads least.
    pub fn best_leader(&self, range: &RangeEntry<'_>, without: Option<Place>) -> Option<Place> {
        let preference = &self.rulebook[range.rule].preference;
        let able = range.voters.iter().copied().filter(|v| {
            Some(*v) != range.leader && Some(*v) != without && self.nodes[*v].may_lead && self.is_ready(range, *v)
        });
        let joint = |v: &Place| {
            let role = range.range.descriptor.replica_on(self.nodes[*v].id).map(|r| r.role);
            role == Some(ReplicaRole::Voter)
        };
        able.filter(joint).min_by_key(|v| (preference[*v], self.nodes[*v].leaders, self.nodes[*v].load, *v))
    }
}
