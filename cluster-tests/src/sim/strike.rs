//! Faults strike, and are healed.

use std::time::Duration;

use proto::{NodeId, RangeDescriptor, RangeId, keyspace};
use server::kv::{Kv as _, NodeChange};
use server::store::transfer::Haste;

use super::disk::Loss;
use super::faults::Fault;
use super::net::NetOptions;
use super::probe::Event as Seen;
use super::rng::Rng;
use super::world::{Abandon, Happening, World};

impl World {
    pub(super) fn strike(&mut self, fault: Fault) {
        let now = self.now();
        match fault {
            Fault::Crash { node, down_ns } => self.crash(node, down_ns),
            Fault::Tear { node, down_ns } => self.lose_power(node, Loss::Torn, down_ns),
            Fault::Kill { node, down_ns } => self.kill(node, down_ns),
            Fault::Blackout { down_ns } => {
                for node in 0..self.nodes.len() {
                    let after = self.rng.between(down_ns / 2, down_ns);
                    self.lose_power(node, Loss::Torn, after);
                }
            }
            Fault::Isolate { node, for_ns } => self.part(1 << node, for_ns),
            Fault::Partition { set, for_ns } => self.part(set, for_ns),
            Fault::OneWay { from, to, for_ns } => self.cut(from, to, for_ns),
            Fault::Flap { from, to, times, each_ns } => {
                for time in 0..times {
                    for (from, to) in [(from, to), (to, from)] {
                        self.schedule(2 * time * each_ns, Happening::Cut { from, to });
                        self.schedule((2 * time + 1) * each_ns, Happening::Heal { from, to });
                    }
                }
            }
            Fault::Swizzle { set, order, for_ns } => self.swizzle(set, order, for_ns),
            Fault::Pause { node, for_ns } => self.nodes[node].paused_until = now + for_ns,
            Fault::Slow { node, factor, for_ns } => {
                self.net.set_slowness(node, factor);
                self.schedule(for_ns, Happening::Speed { node, factor: 1 });
            }
            Fault::DiskStall { node, for_ns } => self.nodes[node].stalled_until = now + for_ns,
            Fault::DiskFull { node, for_ns } => self.nodes[node].disk.full_until = now + for_ns,
            Fault::DiskError { node, engine: 0, .. } => self.nodes[node].log_fails = true,
            Fault::DiskError { node, .. } => self.nodes[node].disk.engine.fail(),
            Fault::RotLog { node, dice } => drop(self.nodes[node].disk.rot_log(dice)),
            Fault::RotEngine { node, dice } => {
                let rotten = self.nodes[node].disk.engine.rot(dice);
                self.nodes[node].disk.rotten |= rotten;
            }
            Fault::ClockJump { node, to_ppm_of_bound } => {
                let bound = i64::try_from(self.options.max_error.as_nanos()).unwrap_or(i64::MAX);
                let offset = (i128::from(bound) * i128::from(to_ppm_of_bound) / 1_000_000) as i64;
                *self.nodes[node].offset.lock().expect("no holder of this lock panics") = offset;
            }
            Fault::ClockAstray { node, by_ms, for_ns } => {
                *self.nodes[node].offset.lock().expect("no holder of this lock panics") =
                    by_ms.saturating_mul(1_000_000);
                self.schedule(for_ns, Happening::ClockRight { node });
            }
            Fault::Split { key } => self.split(key),
            Fault::Flush { node } => self.ask_store(node, |store, effects| store.start_flush(effects)),
            Fault::Transfer { node, dice } => self.transfer(node, dice),
            Fault::Move { dice } => self.move_replica(dice),
            Fault::Merge { dice } => self.merge(dice),
            Fault::Drain { node, for_ns } => self.change_member(node, NodeChange::Drain, for_ns),
            Fault::Retire { node, for_ns } => self.change_member(node, NodeChange::Decommission, for_ns),
        }
    }

    /// Cuts a set of nodes off from the others.
    fn part(&mut self, set: u64, for_ns: u64) {
        let inside = |node: usize| set >> node & 1 == 1;
        for from in 0..self.nodes.len() {
            for to in (0..self.nodes.len()).filter(|to| inside(from) != inside(*to)) {
                self.cut(from, to, for_ns);
            }
        }
    }

    fn cut(&mut self, from: usize, to: usize, for_ns: u64) {
        self.net.set_cut(from, to, true);
        self.schedule(for_ns, Happening::Heal { from, to });
    }

    /// Begins or ends a node's isolation.
    pub(super) fn isolate(&mut self, node: usize, begins: bool) {
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            self.net.set_cut(node, other, begins);
            self.net.set_cut(other, node, begins);
        }
    }

    /// Isolates nodes one after the other, and lets them come back in another order.
    fn swizzle(&mut self, set: u64, order: u64, for_ns: u64) {
        let mut rng = Rng::new(order, "swizzle");
        let mut nodes: Vec<usize> = (0..self.nodes.len()).filter(|node| set >> node & 1 == 1).collect();
        let step = for_ns / (2 * nodes.len() as u64 + 1);
        for (begins, phase) in [(true, 0), (false, nodes.len() as u64 + 1)] {
            for last in (1..nodes.len()).rev() {
                nodes.swap(last, rng.below(last as u64 + 1) as usize);
            }
            for (n, node) in (0..).zip(&nodes) {
                self.schedule((phase + n) * step + 1, Happening::Isolation { node: *node, begins });
            }
        }
    }

    /// A node loses power now and starts again later.
    pub fn crash(&mut self, node: usize, down_ns: u64) {
        self.lose_power(node, Loss::Whole, down_ns);
    }

    fn lose_power(&mut self, node: usize, loss: Loss, down_ns: u64) {
        if self.nodes[node].process.is_none() {
            return;
        }
        self.end_process(node);
        self.nodes[node].disk.lose_power(loss, &mut self.rng);
        self.schedule(down_ns, Happening::Restart { node });
    }

    /// A process dies, and what it has written stays.
    pub(super) fn kill(&mut self, node: usize, down_ns: u64) {
        if self.nodes[node].process.is_none() {
            return;
        }
        self.end_process(node);
        self.nodes[node].disk.lose_process();
        self.schedule(down_ns, Happening::Restart { node });
    }

    pub(super) fn end_process(&mut self, node: usize) {
        self.executor.kill(node);
        self.nodes[node].die();
        self.break_connections(node);
    }

    /// The others may notice that a process is gone, as connections break; or the network keeps it to itself.
    fn break_connections(&mut self, node: usize) {
        let lost = self.nodes[node].id;
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            if let Some(db) = self.db(other).filter(|_| self.rng.one_in(2)) {
                db.lost(lost);
            }
        }
    }

    /// Splits some range at a key of the workload, through some node.
    fn split(&mut self, key: u64) {
        let Some((node, db)) = (0..self.nodes.len()).find_map(|n| self.db(n).map(|db| (n, db))) else { return };
        let task = (self.on_split)(db, key);
        self.executor.spawn(node, task);
    }

    /// Moves a replica, through some node. Whatever becomes of it: the next one goes on with what this one leaves.
    fn move_replica(&mut self, dice: u64) {
        const PATIENCE: Duration = Duration::from_secs(3);
        let mut rng = Rng::new(dice, "move");
        let (running, known) = self.known();
        if known.is_empty() {
            return;
        }
        let range = rng.pick(&known).clone();
        let spare: Vec<NodeId> =
            self.nodes.iter().map(|node| node.id).filter(|id| range.replica_on(*id).is_none()).collect();
        let held: Vec<NodeId> = range.voters().map(|replica| replica.node).collect();
        if spare.is_empty() || held.is_empty() {
            return;
        }
        let (add, remove) = (*rng.pick(&spare), *rng.pick(&held));
        let node = *rng.pick(&running);
        let Some(db) = self.db(node) else { return };
        let (key, voters) = (range.start.clone(), self.options.replicas);
        let task = async move { drop(db.move_replica(&key, Some(add), Some(remove), voters, PATIENCE).await) };
        self.executor.spawn(node, Box::pin(task));
    }

    /// The nodes that run, and the ranges as the replicas there know them.
    fn known(&self) -> (Vec<usize>, Vec<RangeDescriptor>) {
        let running: Vec<usize> = (0..self.nodes.len()).filter(|node| self.nodes[*node].process.is_some()).collect();
        let known = running.iter().filter_map(|node| self.nodes[*node].process.as_ref());
        let known = known
            .flat_map(|process| process.store.replicas())
            .filter(|replica| !replica.hollow)
            .map(|replica| replica.descriptor().clone())
            .collect();
        (running, known)
    }

    /// Merges a range into the one on its left, through some node, as far as that is possible.
    fn merge(&mut self, dice: u64) {
        const PATIENCE: Duration = Duration::from_secs(3);
        let mut rng = Rng::new(dice, "merge");
        let (running, mut known) = self.known();
        known.retain(|range| range.start > keyspace::start_of(keyspace::CATALOG));
        if known.is_empty() {
            return;
        }
        let start = rng.pick(&known).start.clone();
        let node = *rng.pick(&running);
        let Some(db) = self.db(node) else { return };
        // It may begin where it was asked to.
        let task = async move {
            let _ = db.unsplit(&start).await;
            drop(db.unite(&start, PATIENCE).await);
        };
        self.executor.spawn(node, Box::pin(task));
    }

    /// Hands over the leadership of one of the ranges that a node leads.
    fn transfer(&mut self, node: usize, dice: u64) {
        let now = Duration::from_nanos(self.now());
        self.ask_store(node, |store, effects| {
            let led = store.replicas().filter(|replica| replica.group.is_leader());
            let led: Vec<RangeId> = led.map(|replica| replica.descriptor().id).collect();
            if let Some(range) = led.get(dice as usize % led.len().max(1)) {
                let haste = if dice >> 32 & 3 == 0 { Haste::AtOnce } else { Haste::Planned };
                store.transfer(now, *range, haste, effects);
            }
        });
    }

    /// Ends all faults: everybody runs, hears everybody, and syncs; but for a minority that may be left alone.
    pub fn heal(&mut self) {
        self.net.heal();
        self.net.options = NetOptions::calm();
        self.probe.calm();
        let now = self.now();
        self.forget_faults();
        if let Some(Abandon { nodes, dead }) = self.options.abandon.clone() {
            self.probe.saw(if dead { Seen::MinorityDead } else { Seen::MinorityCut });
            for node in nodes {
                self.net.abandon(node);
                if dead {
                    self.kill(node, 0);
                    self.nodes[node].gone = true;
                }
            }
        }
        for node in 0..self.nodes.len() {
            self.nodes[node].stalled_until = now;
            self.nodes[node].paused_until = now;
            self.nodes[node].disk.full_until = now;
            self.nodes[node].log_fails = false;
            self.draw_offset(node);
            if self.nodes[node].process.is_none() {
                self.restart(node);
            }
        }
        if self.options.faults.changes_members() {
            self.call_all_back();
        }
    }

    /// Whether a node runs and is heard by the others, once everything has healed.
    pub fn is_whole(&self, node: usize) -> bool {
        let abandoned = self.options.abandon.as_ref().is_some_and(|minority| minority.nodes.contains(&node));
        self.nodes[node].process.is_some() && !abandoned
    }
}
