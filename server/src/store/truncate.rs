//! Cutting the Raft log behind what the engine has made durable (I15).
//!
//! When the logs kept in memory grow past their limit, the engine is flushed; when that is done, each log is cut up to what
//! had been applied before. A follower that lags a little is spared a Raft snapshot: its leader keeps what it lacks
//! for one flush more.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::RangeId;

use super::event::Effect;
use super::machine::Store;
use crate::probe::{Path, Point};

/// A range's log is kept for those who are given its contents, up to so many times the limit of all logs.
const KEPT_MAX: usize = 4;

/// Which flush is running, and what it will make durable.
#[derive(Debug, Default)]
pub(super) struct Truncation {
    number: u64,
    /// The flush being carried out; and what each range had applied when it was asked for, if logs are to be cut behind it.
    running: Option<(u64, Option<BTreeMap<RangeId, u64>>)>,
    /// What the last one made durable.
    durable: BTreeMap<RangeId, u64>,
    ticks: u32,
}

impl Store {
    pub(super) fn tick_truncation(&mut self, out: &mut Vec<Effect>) {
        /// A flush is nothing to begin with every tick, should a fault point ask for it.
        const TICKS: u32 = 64;
        self.truncation.ticks += 1;
        if !self.truncation.ticks.is_multiple_of(TICKS) || self.truncation.running.is_some() {
            return;
        }
        if self.listed.log_bytes >= self.config.knobs.log_bytes_max || self.config.knobs.probe.fires(Point::EarlyFlush)
        {
            self.start_flush(out);
        }
    }

    /// Has the engine flushed, to truncate the logs afterwards.
    pub fn start_flush(&mut self, out: &mut Vec<Effect>) {
        if self.truncation.running.is_some() {
            return;
        }
        self.flush(true, out);
    }

    fn flush(&mut self, cuts_logs: bool, out: &mut Vec<Effect>) {
        let whole = self.replicas.iter().filter(|(_, replica)| !replica.hollow);
        let applied = cuts_logs.then(|| whole.map(|(id, replica)| (*id, replica.applied.index)).collect());
        self.truncation.number += 1;
        let number = self.truncation.number;
        self.truncation.running = Some((number, applied));
        out.push(Effect::Flush { number });
    }

    /// Which flush will make durable what the engine holds now. It is begun, or will be by [`Store::release_newborn`] once the running one is done. Logs
    /// are cut behind it only if they are long: to cut them often would spare nobody who lags.
    pub(super) fn flush_from_now_on(&mut self, out: &mut Vec<Effect>) -> u64 {
        if self.truncation.running.is_some() {
            return self.truncation.number + 1;
        }
        self.flush(self.listed.log_bytes >= self.config.knobs.log_bytes_max, out);
        self.truncation.number
    }

    pub(super) fn flushed(&mut self, now: Duration, number: u64, out: &mut Vec<Effect>) {
        if let Some((_, applied)) = self.truncation.running.take_if(|(running, _)| *running == number) {
            applied.into_iter().for_each(|applied| self.cut_logs(now, applied));
            self.release_newborn(number, out);
        }
    }

    fn cut_logs(&mut self, now: Duration, applied: BTreeMap<RangeId, u64>) {
        let log_bytes_max = self.config.knobs.log_bytes_max;
        for (id, durable) in &applied {
            let Some(replica) = self.replicas.get_mut(id).filter(|replica| !replica.hollow) else { continue };
            let before = self.truncation.durable.get(id).copied().unwrap_or(0);
            let ahead = self.config.knobs.probe.fires(Point::CutAheadOfFollowers);
            let before = if ahead { *durable } else { before };
            let wanted = if replica.group.is_leader() { replica.group.followers().0.min(*durable) } else { before };
            let cut = replica.group.truncated_index();
            let kept = replica.log_kept.filter(|(_, until)| *until > now).map_or(u64::MAX, |(index, _)| index);
            // Those who are given contents would lack what is cut now; but a log does not grow without end for them.
            let kept = if replica.group.log_bytes() > log_bytes_max.saturating_mul(KEPT_MAX) { u64::MAX } else { kept };
            // A follower that is frozen must never need contents: see `clear_subsumed`.
            let kept = replica.state.frozen.as_ref().map_or(kept, |frozen| kept.min(frozen.index));
            replica.group.truncate(wanted.max(before).min(*durable).min(kept));
            if replica.group.truncated_index() > cut {
                self.config.knobs.probe.took(Path::LogCut);
                replica.dirty = true;
                self.touched.insert(*id);
                self.list(*id);
            }
        }
        self.truncation.durable = applied;
    }
}
