//! What holds for every cluster, and for every load.

mod cluster;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cluster::{Cluster, range};
use proptest::prelude::*;
use proto::placement::Demand;
use proto::{Key, NodeId, PlacementRules, RangeId, ReplicaDescriptor, ReplicaId, ReplicaRole, Span};
use range_split::load::{LoadSampler, Touch};
use range_split::placement::{Change, Node, NodeIntent, NodeStatus, Operation, Range, Reason};
use range_split::policy::{self, Merge, Neighbour, RangeFacts, Split, SplitLimits};

const RULES: [&str; 10] = [
    "",
    "",
    "replicas = 5",
    "replicas = 1",
    "constraints = '+zone=a'",
    "constraints = '-zone=b'",
    "constraints = 'zone=a:2,zone=b:1'",
    "leader_preference = 'zone=b,zone=a'",
    "non_voters = 'zone=c:1'",
    "replicas = 2, constraints = 'region=eu:1'",
];

/// A node: in a zone of a region, mostly live and serving.
fn node(dice: u8) -> Node {
    let zone = ["region=eu,zone=a", "region=eu,zone=b", "region=us,zone=c", "region=us,zone=d"][usize::from(dice % 4)];
    let (since, mut node) = (Duration::ZERO, Node { locality: zone.parse().expect("a locality"), ..Node::default() });
    match dice / 4 {
        0..=1 => node.status = NodeStatus::Suspect { since },
        2..=4 => node.status = NodeStatus::Dead { since },
        5..=6 => node.intent = NodeIntent::Drain,
        7..=10 => node.intent = NodeIntent::Decommission,
        11 => node.intent = NodeIntent::Decommissioned,
        12 => (node.intent, node.status) = (NodeIntent::Decommission, NodeStatus::Suspect { since }),
        _ => {}
    }
    node
}

/// A range in whatever state: replicas on any nodes, joint or with learners.
fn any_range(id: u64, nodes: u64, dice: &[u8]) -> Range {
    let voters = 1 + u64::from(dice[0] % 5).min(nodes - 1);
    let first = u64::from(dice[1]) % nodes;
    let places: Vec<u64> = (0..voters).map(|n| 1 + (first + n) % nodes).collect();
    let mut range = range(id, &places, (1 + u64::from(dice[2])) << 20, u64::from(dice[3]));
    let roles = [ReplicaRole::Learner, ReplicaRole::NonVoter, ReplicaRole::Incoming];
    if let Some(role) = roles.get(usize::from(dice[4] % 8)).filter(|_| voters < nodes) {
        let node = NodeId(1 + (first + voters) % nodes);
        range.descriptor.replicas.push(ReplicaDescriptor { node, id: ReplicaId(voters + 1), role: *role });
        range.descriptor.next_replica = ReplicaId(voters + 2);
        if *role == ReplicaRole::Incoming && voters > 1 {
            range.descriptor.replicas[0].role = ReplicaRole::Outgoing;
        }
    }
    range.rules = Arc::new(RULES[usize::from(dice[5]) % RULES.len()].parse().expect("rules"));
    range
}

fn voters(range: &Range) -> Vec<NodeId> {
    range.descriptor.voters().filter(|r| r.role != ReplicaRole::Outgoing).map(|r| r.node).collect()
}

/// How much the rules are broken.
fn violations(nodes: &BTreeMap<NodeId, Node>, rules: &PlacementRules, voters: &[NodeId]) -> usize {
    let broken = |constraint: &proto::placement::Constraint| {
        let matching = voters.iter().filter(|v| nodes.get(v).is_some_and(|n| constraint.matches(&n.locality))).count();
        match constraint.demand {
            Demand::Required => voters.len() - matching,
            Demand::Forbidden => matching,
            Demand::AtLeast(want) => (want as usize).saturating_sub(matching),
        }
    };
    rules.constraints.iter().map(broken).sum()
}

/// Pairs of voters that share a tier, for each tier.
fn shared(nodes: &BTreeMap<NodeId, Node>, voters: &[NodeId]) -> Vec<usize> {
    let depth = |a: &NodeId, b: &NodeId| nodes[a].locality.shared_with(&nodes[b].locality);
    let pairs = |tier| {
        voters
            .iter()
            .enumerate()
            .flat_map(|(n, a)| voters[..n].iter().map(move |b| (a, b)))
            .filter(|(a, b)| depth(a, b) >= tier)
            .count()
    };
    (1..=2).map(pairs).collect()
}

/// What no operation may do, seen from outside.
fn check(before: &Cluster, after: &Cluster, operation: &Operation) -> Result<(), TestCaseError> {
    let (old, new) = (&before.picture.ranges[&operation.range], &after.picture.ranges[&operation.range]);
    let want = old.rules.replicas.unwrap_or(before.picture.settings.replicas) as usize;
    let (had, has) = (voters(old), voters(new));
    if !matches!(operation.reason, Reason::Shrink { .. }) {
        prop_assert!(has.len() >= had.len().min(want), "{operation}: {had:?} became {has:?}");
    }
    if let (Change::AddLearner { node }, Reason::Bytes { from, .. }) = (operation.change, &operation.reason) {
        let mut then = had.clone();
        then.retain(|v| v != from);
        then.push(node);
        let nodes = &before.picture.nodes;
        prop_assert!(violations(nodes, &old.rules, &then) <= violations(nodes, &old.rules, &had), "{operation}");
        prop_assert!(shared(nodes, &then) <= shared(nodes, &had), "{operation}");
    }
    if let Change::AddLearner { node } = operation.change {
        let locality = &before.picture.nodes[&node].locality;
        let allows = |c: &proto::placement::Constraint| match c.demand {
            Demand::Required => c.matches(locality),
            Demand::Forbidden => !c.matches(locality),
            Demand::AtLeast(_) => true,
        };
        prop_assert!(old.rules.constraints.iter().all(allows), "{operation}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn plans_are_safe_and_come_to_an_end(
        nodes in prop::collection::vec(0u8..160, 1..9),
        ranges in prop::collection::vec(prop::collection::vec(any::<u8>(), 6), 1..25),
        // What becomes of nodes in the first rounds, and whether learners stand still meanwhile.
        events in prop::collection::vec((any::<prop::sample::Index>(), 0u8..160, any::<bool>()), 0..12),
        forgets in any::<bool>(),
    ) {
        let mut cluster = Cluster::default();
        cluster.picture.now = Duration::from_secs(60);
        cluster.picture.nodes = nodes.iter().zip(1..).map(|(dice, id)| (NodeId(id), node(*dice))).collect();
        for (dice, id) in ranges.iter().zip(1..) {
            cluster.picture.ranges.insert(RangeId(id), any_range(id, nodes.len() as u64, dice));
        }
        cluster.pass(Duration::ZERO);
        let (mut rounds, mut quiet) = (0, 0);
        while quiet < 3 {
            prop_assert!(rounds < 500, "no end: {:?}", cluster.plan(5));
            if let Some((which, dice, frozen)) = events.get(rounds) {
                let changed = cluster.picture.nodes.values_mut().nth(which.index(nodes.len())).expect("a node");
                *changed = Node { locality: changed.locality.clone(), ..node(*dice) };
                cluster.frozen = *frozen;
                cluster.pass(Duration::ZERO);
            } else {
                cluster.frozen = false;
            }
            rounds += 1;
            let plan = cluster.plan(usize::MAX);
            prop_assert_eq!(&plan, &cluster.plan(usize::MAX), "the same picture gives the same plan");
            let limited = cluster.plan(2);
            prop_assert!(limited.operations.len() <= 2);
            for operation in &plan.operations {
                let before = cluster.clone();
                cluster.apply(operation);
                check(&before, &cluster, operation)?;
            }
            cluster.memory = if forgets { Default::default() } else { plan.memory };
            quiet = if plan.operations.is_empty() { quiet + 1 } else { 0 };
            cluster.pass(if quiet > 0 { Duration::from_secs(700) } else { Duration::from_secs(1) });
        }
    }
}

/// A range of the load's world.
struct Part {
    span: Span,
    changed: Duration,
}

fn identity(key: &Key) -> Key {
    key.clone()
}

/// Rows with what each of them holds and bears.
struct World {
    rows: Vec<(u64, u64)>,
    limits: SplitLimits,
    now: Duration,
    dice: u64,
}

impl World {
    fn key(n: usize) -> Key {
        Key(vec![1, n as u8])
    }

    fn inside<'a>(&'a self, span: &'a Span) -> impl Iterator<Item = usize> + 'a {
        (0..self.rows.len()).filter(|n| span.contains(&World::key(*n)))
    }

    fn bytes(&self, span: &Span) -> u64 {
        self.inside(span).map(|n| self.rows[n].0).sum()
    }

    /// A sampler after half a minute of the range's load.
    fn load(&mut self, span: &Span) -> LoadSampler {
        let from = self.now - Duration::from_secs(30);
        let mut sampler = LoadSampler::new(from);
        let rows: Vec<usize> = self.inside(span).collect();
        for tenth in 0..300u32 {
            for row in &rows {
                // Each row in the tenths of a second that are its own.
                let mut left =
                    self.rows[*row].1 * u64::from(tenth + 1) / 10 - self.rows[*row].1 * u64::from(tenth) / 10;
                while left > 0 {
                    self.dice =
                        self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let now = from + Duration::from_millis(100) * tenth;
                    let span = Span::point(&World::key(*row));
                    sampler.record(Touch { now, span: &span, cost: 1, dice: self.dice >> 20 }, identity, &self.limits);
                    left -= 1;
                }
            }
        }
        sampler
    }

    /// The first key past half of a range's bytes.
    fn middle(&self, span: &Span) -> Vec<Key> {
        let (half, mut sum) = (self.bytes(span) / 2, 0);
        let passed = self.inside(span).find(|n| {
            sum += self.rows[*n].0;
            sum > half
        });
        passed.into_iter().flat_map(|n| [World::key(n), World::key(n + 1)]).collect()
    }

    /// One round of decisions; says whether anything changed.
    fn round(&mut self, parts: &mut Vec<Part>) -> bool {
        let samplers: Vec<LoadSampler> = parts.iter().map(|part| self.load(&part.span)).collect();
        for (n, load) in samplers.iter().enumerate() {
            let (span, middle) = (parts[n].span.clone(), self.middle(&parts[n].span));
            let facts = RangeFacts { span: &span, bytes: self.bytes(&span), middle: &middle, load };
            if let Split::At { key, .. } = policy::split(self.now, &facts, identity, &self.limits) {
                assert!(span.start < key && key < span.end);
                let right = Span { start: key.clone(), end: span.end };
                parts[n] = Part { span: Span { start: span.start, end: key }, changed: self.now };
                parts.insert(n + 1, Part { span: right, changed: self.now });
                return true;
            }
        }
        let rules = PlacementRules::default();
        for n in 1..parts.len() {
            let side = |at: usize| Neighbour {
                span: &parts[at].span,
                bytes: self.bytes(&parts[at].span),
                rate: samplers[at].rate(self.now, &self.limits),
                changed: parts[at].changed,
                rules: &rules,
                pinned: false,
                in_flight: false,
            };
            if let Merge::Together { .. } = policy::merge(self.now, &side(n - 1), &side(n), &self.limits) {
                let right = parts.remove(n);
                parts[n - 1].span.end = right.span.end;
                parts[n - 1].changed = self.now;
                return true;
            }
        }
        false
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]

    #[test]
    fn splits_and_merges_do_not_chase_each_other(
        rows in prop::collection::vec((0u64..400, prop_oneof![4 => 0u64..8, 1 => 0u64..120]), 1..40),
        seams in prop::collection::btree_set(1usize..40, 0..8),
        dice in any::<u64>(),
    ) {
        let limits = SplitLimits { bytes_max: 1000, rate_max: 60, touches_min: 50, ..SplitLimits::default() };
        let count = rows.len();
        let mut world = World { rows, limits, now: Duration::from_secs(1000), dice };
        let mut bounds = vec![Key::MIN];
        bounds.extend(seams.into_iter().filter(|n| *n < count).map(World::key));
        bounds.push(Key::max());
        let part = |pair: &[Key]| Part {
            span: Span { start: pair[0].clone(), end: pair[1].clone() },
            changed: Duration::ZERO,
        };
        let mut parts: Vec<Part> = bounds.windows(2).map(part).collect();
        let (mut rounds, mut quiet) = (0, 0);
        while quiet < 3 {
            prop_assert!(rounds < 120, "no rest with {} ranges", parts.len());
            rounds += 1;
            quiet = if world.round(&mut parts) { 0 } else { quiet + 1 };
            world.now += Duration::from_secs(400);
        }
        for part in &parts {
            let only_row = world.inside(&part.span).count() <= 1;
            prop_assert!(only_row || world.bytes(&part.span) <= 1000, "{:?} is still too large", part.span);
        }
    }
}
