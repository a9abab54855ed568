//! The next step of one range: what is half done is finished, then what is broken is repaired, then what could stand better is moved.
//!
//! ```text
//!            AddLearner               caught up, and fewer voters than wanted: Promote
//!   voters ─────────────▶ + learner ──────────────────────────────────────────────────▶ one voter more
//!                            │  caught up: ReplaceVoter
//!                            ├──────────────────────────▶ the same number of voters, one of them another
//!                            │  lost, stuck, unneeded: RemoveReplica
//!                            └──────────────────────────▶ as before
//! ```
//!
//! A learner does not say what it was added for. The memory does; without it the planner finds the voter whose place the learner had
//! best take, and if that is none, drops the learner. A leader is never removed: it hands over first.

use proto::{NodeId, ReplicaDescriptor, ReplicaRole};

use super::ledger::{Ledger, Place, RangeEntry};
use super::memory::Move;
use super::operation::{Change, Reason, RefusalReason};
use super::picture::NodeIntent;
use super::plan::Refusals;
use super::relief;
use super::spread::Spread;

/// How urgent a step is; the first is done first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Finish,
    HandOver,
    Replicate,
    Leave,
    Trim,
    Constrain,
    NonVoters,
    Spread,
    Prefer,
}

/// What a range needs next.
pub enum Wish {
    /// Nothing can be done before something happens: a learner catches up, a node comes back.
    Wait,
    /// A step that sends no data.
    Now(Change, Reason),
    /// A new voter beside those that stay, in the end in the place of one.
    AddVoter { reason: Reason, staying: Vec<Place>, remove: Option<Place> },
    /// A new replica that never votes, on one of these.
    AddNonVoter { reason: Reason, places: Vec<Place> },
}

/// Looks for one kind of step, for a range with this leader.
type Way<D> = fn(&mut D, &RangeEntry<'_>, Place) -> Option<Wish>;

/// A wish with its urgency.
pub struct Step {
    pub class: Class,
    /// Voters that may still be lost: the fewer, the more urgent.
    pub spare: usize,
    pub wish: Wish,
}

/// Diagnoses ranges one after the other.
pub struct Diagnosis<'l, 'a> {
    pub ledger: &'l mut Ledger<'a>,
    pub refusals: &'l mut Refusals,
    pub spread: Spread,
}

impl Diagnosis<'_, '_> {
    /// The range's next step, if it needs one. A range that is being changed, has no leader or no quorum gets none.
    pub fn next_step(&mut self, range: &RangeEntry<'_>) -> Option<Step> {
        let wait = || Some(Step { class: Class::Finish, spare: 0, wish: Wish::Wait });
        let failed = self.ledger.memory.failed.contains_key(&range.id);
        if !self.has_quorum(range) || range.range.in_flight || failed {
            return wait();
        }
        let Some(leader) = range.leader.filter(|leader| self.ledger.nodes[*leader].is_live) else { return wait() };
        if range.range.descriptor.is_joint() {
            let ready = self.ledger.can_decide(range, &range.voters);
            let wish = if ready { Wish::Now(Change::FinishJoint, Reason::Joint) } else { Wish::Wait };
            return self.step(range, Class::Finish, wish);
        }
        let learner = range.range.descriptor.replicas.iter().find(|r| r.role == ReplicaRole::Learner).copied();
        if let Some(learner) = learner {
            let wish = self.settle_learner(range, learner);
            return self.step(range, Class::Finish, wish);
        }
        let ways: [(Class, Way<Self>); 8] = [
            (Class::HandOver, Self::hand_over),
            (Class::Trim, Self::trim),
            (Class::Replicate, Self::replicate),
            (Class::Leave, Self::leave),
            (Class::Constrain, Self::constrain),
            (Class::NonVoters, Self::keep_non_voters),
            (Class::Spread, Self::spread),
            (Class::Prefer, Self::prefer),
        ];
        for (class, way) in ways {
            if let Some(wish) = way(self, range, leader) {
                return self.step(range, class, wish);
            }
        }
        None
    }

    fn step(&self, range: &RangeEntry<'_>, class: Class, wish: Wish) -> Option<Step> {
        let live = range.voters.iter().filter(|v| self.ledger.nodes[**v].is_live).count();
        Some(Step { class, spare: live.saturating_sub(range.voters.len() / 2 + 1), wish })
    }

    fn id(&self, place: Place) -> NodeId {
        self.ledger.nodes[place].id
    }

    /// Whether both majorities, or the only one, could decide; complains if not.
    fn has_quorum(&mut self, range: &RangeEntry<'_>) -> bool {
        for absent in [ReplicaRole::Incoming, ReplicaRole::Outgoing] {
            let voters = range.range.descriptor.voters().filter(|r| r.role != absent);
            let voters: Vec<Place> = voters.map(|r| self.ledger.place(r.node)).collect();
            let count = |test: fn(&super::ledger::NodeEntry<'_>) -> bool| {
                voters.iter().filter(|v| test(&self.ledger.nodes[**v])).count()
            };
            let (gone, silent) = (count(|n| n.is_gone), count(|n| !n.is_live));
            let tolerable = voters.len().saturating_sub(1) / 2;
            let reason = if gone > tolerable {
                RefusalReason::QuorumLost { gone, voters: voters.len() }
            } else if silent > tolerable {
                RefusalReason::QuorumSilent { silent, voters: voters.len() }
            } else {
                continue;
            };
            self.refusals.add(reason, Some(range.id));
            return false;
        }
        true
    }

    /// What becomes of a learner.
    fn settle_learner(&mut self, range: &RangeEntry<'_>, learner: ReplicaDescriptor) -> Wish {
        let (node, place) = (learner.node, self.ledger.place(learner.node));
        let entry = &self.ledger.nodes[place];
        if entry.is_gone || entry.is_leaving {
            return Wish::Now(Change::RemoveReplica { node }, Reason::LearnerLost { node });
        }
        let now = self.ledger.picture.now;
        let found = Move { add: node, remove: None, since: now, reason: None };
        let going = self.ledger.memory.moves.entry(range.id).or_insert(found).clone();
        if !self.ledger.is_ready(range, place) {
            let waited = now.saturating_sub(going.since);
            if waited < self.ledger.picture.settings.learner_patience {
                return Wish::Wait;
            }
            self.ledger.memory.fail(now, range.id);
            return Wish::Now(Change::RemoveReplica { node }, Reason::LearnerStuck { node, waited });
        }
        let want = range.wanted(self.ledger.picture);
        let lost = range.voters.iter().any(|v| self.ledger.nodes[*v].is_gone);
        let to_replace = self.ledger.intended(range, &going).is_some();
        if range.voters.len() < want && !lost && !to_replace {
            return self.promote(range, place, Reason::FewReplicas { have: range.voters.len(), want });
        }
        self.replace(range, place, &going)
    }

    fn promote(&self, range: &RangeEntry<'_>, add: Place, reason: Reason) -> Wish {
        match self.ledger.can_decide(range, &range.voters_with(None, add)) {
            true => Wish::Now(Change::Promote { node: self.id(add) }, reason),
            false => Wish::Wait,
        }
    }

    /// Lets a learner that has caught up take a voter's place, if that is still good for something.
    fn replace(&self, range: &RangeEntry<'_>, add: Place, going: &Move) -> Wish {
        let node = self.id(add);
        let drop = Wish::Now(Change::RemoveReplica { node }, Reason::LearnerUnneeded { node });
        let now = self.ledger.score(range.rule, &range.voters);
        let urgent = |v: &Place| self.ledger.nodes[*v].is_gone || self.ledger.nodes[*v].is_leaving;
        let intended = self.ledger.intended(range, going).filter(|_| !range.voters.iter().any(urgent));
        let worst = self.ledger.worst_voter(range, Some(add));
        let score = |v: Place| self.ledger.score(range.rule, &range.voters_with(Some(v), add));
        let fuller = |v: Place| self.ledger.nodes[v].fill() > self.ledger.nodes[add].fill();
        let surplus = range.voters.len() > range.wanted(self.ledger.picture);
        let gains = |v: &Place| urgent(v) || score(*v) < now || (score(*v) == now && !surplus && fuller(*v));
        // Nobody knows any more what it was added for. If it is of no other use, it may have been for relief.
        let forgotten = going.reason.is_none() && !worst.iter().any(gains);
        let intended = intended.or_else(|| relief::intended(self.ledger, range, add).filter(|_| forgotten));
        let Some(victim) = intended.or(worst) else { return drop };
        let as_good = intended.is_some() && score(victim) == now && !surplus;
        if !(gains(&victim) || as_good) {
            return drop;
        }
        let after = range.voters_with(Some(victim), add);
        let remove = self.id(victim);
        if range.leader == Some(victim) {
            return match self.ledger.best_leader(range, Some(victim)) {
                Some(to) => Wish::Now(Change::TransferLeader { to: self.id(to) }, Reason::MakesWay { node: remove }),
                // Nobody else can lead: one voter more for a while.
                None => self.promote(range, add, Reason::MakesWay { node: remove }),
            };
        }
        if !self.ledger.can_decide(range, &after) {
            return Wish::Wait;
        }
        let reason = self.why_urgent(victim).or(going.reason.clone()).unwrap_or(Reason::Better { add: node, remove });
        Wish::Now(Change::ReplaceVoter { add: node, remove }, reason)
    }

    /// Why a voter's node cannot keep it.
    fn why_urgent(&self, place: Place) -> Option<Reason> {
        let entry = &self.ledger.nodes[place];
        let silent = entry.node.and_then(|n| n.silent_since());
        let silent = silent.map(|since| self.ledger.picture.now.saturating_sub(since));
        match entry {
            entry if entry.is_gone => Some(Reason::Gone { node: entry.id, silent }),
            entry if entry.is_leaving => Some(Reason::Decommissioning { node: entry.id }),
            _ => None,
        }
    }

    /// Moves the leader off a node that drains or leaves.
    fn hand_over(&mut self, range: &RangeEntry<'_>, leader: Place) -> Option<Wish> {
        let entry = &self.ledger.nodes[leader];
        if entry.may_lead {
            return None;
        }
        let (node, drains) = (entry.id, entry.node.is_some_and(|n| n.intent == NodeIntent::Drain));
        let Some(to) = self.ledger.best_leader(range, Some(leader)) else {
            // One that leaves gets a successor together with its replica's.
            if drains {
                self.refusals.add(RefusalReason::NobodyLeads { node }, Some(range.id));
            }
            return None;
        };
        let reason = if drains { Reason::Draining { node } } else { Reason::Decommissioning { node } };
        Some(Wish::Now(Change::TransferLeader { to: self.id(to) }, reason))
    }

    /// Removes a voter too many.
    fn trim(&mut self, range: &RangeEntry<'_>, leader: Place) -> Option<Wish> {
        let (have, want) = (range.voters.len(), range.wanted(self.ledger.picture));
        if have <= want {
            return None;
        }
        let urgent = |v: &Place| self.ledger.nodes[*v].is_gone || self.ledger.nodes[*v].is_leaving;
        let going = self.ledger.memory.moves.get(&range.id).filter(|_| !range.voters.iter().any(urgent));
        let intended = going.and_then(|going| self.ledger.intended(range, going));
        let victim = intended.or_else(|| self.ledger.worst_voter(range, None))?;
        let node = self.id(victim);
        if victim == leader {
            let to = self.ledger.best_leader(range, Some(victim));
            let hand_over = |to| Wish::Now(Change::TransferLeader { to: self.id(to) }, Reason::MakesWay { node });
            return Some(to.map_or(Wish::Wait, hand_over));
        }
        let rest: Vec<Place> = range.voters.iter().copied().filter(|v| *v != victim).collect();
        let removal = Wish::Now(Change::RemoveReplica { node }, Reason::Surplus { have, want });
        Some(if self.ledger.can_decide(range, &rest) { removal } else { Wish::Wait })
    }

    /// Replaces voters on nodes that are gone, and adds those that are missing.
    fn replicate(&mut self, range: &RangeEntry<'_>, _: Place) -> Option<Wish> {
        if let Some(gone) = range.voters.iter().copied().find(|v| self.ledger.nodes[*v].is_gone) {
            return self.succeed(range, gone).or_else(|| self.shrink(range, gone));
        }
        let (have, want) = (range.voters.len(), range.wanted(self.ledger.picture));
        if have >= want {
            return None;
        }
        let possible = have + self.ledger.possible_targets(range).count();
        if possible < want {
            let reason = match self.ledger.best_target(range, &range.voters) {
                super::candidates::Target::None(reason) => reason,
                _ => RefusalReason::TooFewNodes { have, want },
            };
            self.refusals.add(reason, Some(range.id));
        }
        // An even number of voters tolerates no more than the odd one below it.
        let goal = if possible < want { possible - (1 - possible % 2) } else { want };
        let staying = range.voters.clone();
        (goal > have).then_some(Wish::AddVoter { reason: Reason::FewReplicas { have, want }, staying, remove: None })
    }

    /// Replaces voters on nodes that are being decommissioned.
    fn leave(&mut self, range: &RangeEntry<'_>, _: Place) -> Option<Wish> {
        let leaving = range.voters.iter().copied().find(|v| self.ledger.nodes[*v].is_leaving)?;
        self.succeed(range, leaving)
    }

    /// A new voter for one whose node is gone or leaves.
    fn succeed(&mut self, range: &RangeEntry<'_>, victim: Place) -> Option<Wish> {
        let nodes = &self.ledger.nodes;
        let stays = |v: &Place| !nodes[*v].is_gone && !nodes[*v].is_leaving;
        if self.ledger.possible_targets(range).next().is_none() {
            let reason = match self.ledger.best_target(range, &[]) {
                super::candidates::Target::None(RefusalReason::TooFewNodes { want, .. }) => {
                    RefusalReason::Irreplaceable {
                        node: nodes[victim].id,
                        leaving: !nodes[victim].is_gone,
                        nodes: nodes.iter().filter(|n| !n.is_gone).count(),
                        replicas: want,
                    }
                }
                super::candidates::Target::None(reason) => reason,
                _ => return None,
            };
            self.refusals.add(reason, Some(range.id));
            return None;
        }
        let staying = range.voters.iter().copied().filter(stays).collect();
        let reason = self.why_urgent(victim)?;
        Some(Wish::AddVoter { reason, staying, remove: Some(victim) })
    }

    /// Removes a voter that is gone for good and has no successor, if the others tolerate more without the dead.
    fn shrink(&mut self, range: &RangeEntry<'_>, gone: Place) -> Option<Wish> {
        let alive: Vec<Place> = range.voters.iter().copied().filter(|v| !self.ledger.nodes[*v].is_gone).collect();
        let tolerates = |of: usize| alive.len().saturating_sub(of / 2 + 1);
        let rest: Vec<Place> = range.voters.iter().copied().filter(|v| *v != gone).collect();
        if tolerates(alive.len()) <= tolerates(range.voters.len()) || !self.ledger.can_decide(range, &rest) {
            return None;
        }
        let node = self.id(gone);
        Some(Wish::Now(Change::RemoveReplica { node }, Reason::Shrink { node, live: alive.len() }))
    }

    /// Hands over to a voter in a place that is preferred.
    fn prefer(&mut self, range: &RangeEntry<'_>, leader: Place) -> Option<Wish> {
        let preferences = &range.range.rules.leader_preferences;
        let rank = &self.ledger.rulebook[range.rule].preference;
        let dearest = preferences.first()?;
        if range.voters.iter().all(|v| rank[*v] >= preferences.len()) {
            self.refusals.add(RefusalReason::PreferenceUnmet { tier: dearest.clone() }, Some(range.id));
        }
        let to = self.ledger.best_leader(range, None).filter(|to| rank[*to] < rank[leader])?;
        let tier = preferences[rank[to]].clone();
        Some(Wish::Now(Change::TransferLeader { to: self.id(to) }, Reason::Preference { tier }))
    }
}
