//! What nodes ask of their disks, and how disks fail them.
//!
//! As in production one frame at a time is written and synced; what comes meanwhile is written as one when that is done. A node
//! whose disk fails stops: what was acknowledged is on disk, and a restart finds out about the rest. One whose disk is damaged does not start
//! again.

use std::time::Duration;

use server::raft::frame;
use server::store::{Effect, Event, Store};

use super::disk::Loss;
use super::node::Waiting;
use super::probe::Event as Seen;
use super::world::{Happening, World};

/// How soon a process that ended by itself is started again.
const RESTART_NS: u64 = 300_000_000;

impl World {
    /// Writes and syncs what waits, unless a sync is under way.
    pub(super) fn begin_sync(&mut self, node: usize) {
        let now = self.now();
        if self.nodes[node].syncing || self.nodes[node].waiting.is_empty() {
            return;
        }
        let waiting: Vec<Waiting> = std::mem::take(&mut self.nodes[node].waiting);
        let number = waiting.last().map_or(0, |last| last.number);
        // The frame is not even written before the engine is flushed.
        if waiting.iter().any(|frame| frame.flush_first) && !self.flush(node) {
            return;
        }
        let merged = frame::merge(waiting.into_iter().map(|waiting| waiting.frame));
        let full = self.nodes[node].disk.full_until > now;
        if full {
            self.nodes[node].disk.write_until_full(number, &merged, &mut self.rng);
            self.probe.saw(Seen::DiskFilled);
            if !self.options.planted.full_disk_ignored {
                return self.stop_for_disk(node);
            }
        } else {
            self.nodes[node].disk.write(number, &merged);
        }
        if std::mem::take(&mut self.nodes[node].log_fails) {
            self.probe.saw(Seen::DiskFailed);
            return self.stop_for_disk(node);
        }
        self.nodes[node].syncing = true;
        let life = self.nodes[node].life;
        let sync = self.rng.between(self.options.sync_min, self.options.sync_max) * self.net.slowness(node);
        let at = (now + sync).max(self.nodes[node].stalled_until);
        if self.options.planted.lying_disks {
            const LATE: u64 = 300_000_000;
            self.schedule(1_000, Happening::SaidSynced { node, life, number });
            return self.schedule_at(at + LATE, Happening::Kept { node, life, number });
        }
        self.schedule_at(at, Happening::Synced { node, life, number });
    }

    /// A sync has ended: the store hears of it, and the next one begins.
    pub(super) fn end_sync(&mut self, node: usize, number: u64) {
        self.nodes[node].syncing = false;
        self.begin_sync(node);
        self.step(node, Event::Synced(number));
    }

    /// A flush that a store has asked for comes to its end.
    pub(super) fn end_flush(&mut self, node: usize, number: u64) {
        if self.flush(node) {
            self.step(node, Event::Flushed(number));
        }
    }

    /// Makes durable what the engine holds. Says whether the process has survived it.
    pub(super) fn flush(&mut self, node: usize) -> bool {
        if self.nodes[node].disk.full_until > self.now() {
            self.probe.saw(Seen::DiskFilled);
            self.stop_for_disk(node);
            return false;
        }
        self.nodes[node].disk.engine.flush();
        true
    }

    /// The process ends because its disk does not do what it is told. What was written and not synced is there, or not: a failed sync
    /// says nothing.
    pub(super) fn stop_for_disk(&mut self, node: usize) {
        if self.nodes[node].process.is_none() {
            return;
        }
        self.end_process(node);
        self.nodes[node].disk.lose_power(Loss::Torn, &mut self.rng);
        self.schedule(RESTART_NS, Happening::Restart { node });
    }

    /// A dead process is started again, if it can be.
    pub(super) fn restart(&mut self, node: usize) {
        if self.nodes[node].gone {
            return;
        }
        let full_until = self.nodes[node].disk.full_until;
        if full_until > self.now() {
            // Nothing can be opened without room.
            return self.schedule(RESTART_NS, Happening::Restart { node });
        }
        if full_until > 0 {
            self.nodes[node].disk.full_until = 0;
            self.probe.saw(Seen::RoomAgain);
        }
        self.start(node);
    }

    /// A process found its disk damaged, and ended at once.
    pub(super) fn refuse_disk(&mut self, node: usize, why: &str) {
        assert!(self.nodes[node].disk.rotten, "node {node} refuses a disk that nobody has damaged: {why}");
        self.probe.saw(Seen::DamageFound);
        self.nodes[node].gone = true;
    }

    /// Has a running store do something.
    pub(super) fn ask_store(&mut self, node: usize, ask: impl FnOnce(&mut Store, &mut Vec<Effect>)) {
        let now = Duration::from_nanos(self.now());
        let mut effects = Vec::new();
        let Some(process) = &mut self.nodes[node].process else { return };
        ask(&mut process.store, &mut effects);
        process.store.finish(now, &mut effects);
        self.carry_out_all(node, effects);
    }
}
