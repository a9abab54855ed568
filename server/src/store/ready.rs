//! What became ready in the groups: one log frame, messages, entries to apply.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::message::{Body, RaftMessage};
use proto::{NodeId, RangeId};
use raft::eraftpb::Message;

use super::event::Effect;
use super::machine::{FrameInFlight, Store};
use super::newborn::Logged;
use crate::raft::{GroupRecord, LogFrame};

impl Store {
    /// Gathers what became ready since the last time.
    pub fn finish(&mut self, now: Duration, out: &mut Vec<Effect>) {
        let mut frame = LogFrame { ceiling: self.ceiling_to_sync(), ..LogFrame::default() };
        let mut in_flight = FrameInFlight { outputs: Vec::new(), ceiling: frame.ceiling, since: now };
        let mut mail = Mail::default();
        let (released, mut flush_first) = self.newborn.take_released();
        released.into_iter().for_each(|logged| logged.append_to(&mut frame, &mut in_flight));
        // Applying may touch further ranges (a split's right-hand side), and outputs may follow each other.
        while let Some(range) = self.touched.pop_first() {
            flush_first |= self.gather(now, range, &mut frame, &mut in_flight, &mut mail, out);
        }
        for (to, messages) in mail.by_node {
            out.push(Effect::Send { to, body: Body::Raft(messages) });
        }
        self.send_words(out);
        flush_first |= std::mem::take(&mut self.flush_first);
        let merged_away = std::mem::take(&mut self.merged_away);
        frame.groups.retain(|record| !merged_away.contains(&record.range));
        let forgotten = std::mem::take(&mut self.forgotten).into_iter();
        let forgotten = forgotten.map(|range| GroupRecord { range, removed: true, ..GroupRecord::default() });
        // What follows in the same frame belongs to replicas that came into being afterwards.
        frame.groups.splice(0..0, forgotten);
        if !frame.is_empty() {
            let number = self.next_frame;
            self.next_frame += 1;
            self.stats.frames += 1;
            self.frames.insert(number, in_flight);
            out.push(Effect::Append { number, frame, flush_first });
        }
    }

    /// Takes all outputs of one group. Says whether the engine must be flushed before the frame is synced.
    fn gather(
        &mut self,
        now: Duration,
        range: RangeId,
        frame: &mut LogFrame,
        in_flight: &mut FrameInFlight,
        mail: &mut Mail,
        out: &mut Vec<Effect>,
    ) -> bool {
        let mut flush_first = false;
        loop {
            let Some(replica) = self.replicas.get_mut(&range) else { return flush_first };
            if !std::mem::take(&mut replica.dirty) || replica.stopped.is_some() {
                return flush_first;
            }
            let Some(output) = replica.group.take_output() else { return flush_first };
            replica.dirty = true;
            mail.add(replica, &output.messages);
            self.stats.raft_messages += output.messages.len() as u64;
            if let Some(record) = output.record {
                let logged = Logged { record, output: output.number };
                if let Some(logged) = self.newborn.hold(logged, output.snapshot.is_some()) {
                    logged.append_to(frame, in_flight);
                }
            }
            flush_first |= output.snapshot.is_some();
            self.with_replica(now, range, out, |replica, cx| {
                replica.check_leadership(cx);
                if let Some(snapshot) = &output.snapshot {
                    replica.install_snapshot(cx, snapshot);
                }
                replica.apply(cx, &output.committed);
                for round in output.rounds {
                    replica.acknowledged(cx, round);
                }
                replica.check_leadership(cx);
            });
            self.touched.remove(&range);
        }
    }

    /// A frame, and all before it, are on disk.
    pub(super) fn synced(&mut self, now: Duration, number: u64, out: &mut Vec<Effect>) {
        let mut mail = Mail::default();
        while let Some(entry) = self.frames.first_entry().filter(|entry| *entry.key() <= number) {
            let frame = entry.remove();
            if let Some(ceiling) = frame.ceiling {
                self.clock.raise_ceiling(ceiling);
            }
            for (range, id, output) in frame.outputs {
                let Some(replica) = self.replicas.get_mut(&range).filter(|r| r.me.id == id) else { continue };
                let messages = replica.group.persisted(output);
                mail.add(replica, &messages);
                self.stats.raft_messages += messages.len() as u64;
                replica.dirty = true;
                self.touched.insert(range);
                self.with_replica(now, range, out, |replica, cx| replica.check_leadership(cx));
            }
        }
        for (to, messages) in mail.by_node {
            out.push(Effect::Send { to, body: Body::Raft(messages) });
        }
    }

    /// A ceiling to sync with the next frame, if the present one is near.
    fn ceiling_to_sync(&mut self) -> Option<proto::Timestamp> {
        let step = self.config.knobs.ceiling_step;
        let wanted = self.clock.wanted();
        if self.ceiling_asked.since(wanted) >= step / 2 {
            return None;
        }
        self.ceiling_asked = wanted.plus(step);
        Some(self.ceiling_asked)
    }
}

/// Messages, gathered by the node that they go to.
#[derive(Default)]
struct Mail {
    by_node: BTreeMap<NodeId, Vec<RaftMessage>>,
}

impl Mail {
    fn add(&mut self, replica: &crate::range::Replica, messages: &[Message]) {
        for message in messages {
            // A message to a replica that the descriptor does not name goes nowhere.
            if let Some((node, wrapped)) = replica.address(message) {
                self.by_node.entry(node).or_default().push(wrapped);
            }
        }
    }
}
