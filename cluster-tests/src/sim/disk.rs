//! A simulated disk: a log and an engine that forget what was not made durable.

use std::collections::VecDeque;

use proto::codec;
use server::raft::{LogFrame, RecoveredLog};
use txn::MemoryEngine;

use super::rng::Rng;

/// What outlives a process.
#[derive(Default)]
pub struct Disk {
    pub engine: MemoryEngine,
    /// Frames on disk, encoded.
    synced: Vec<Vec<u8>>,
    /// Frames written and not yet synced, with their numbers.
    writing: VecDeque<(u64, Vec<u8>)>,
}

impl Disk {
    /// Writes a frame, which is not durable yet.
    pub fn append(&mut self, number: u64, frame: &LogFrame) {
        self.writing.push_back((number, codec::encode(frame)));
    }

    /// Everything up to a frame is durable.
    pub fn synced(&mut self, number: u64) {
        while let Some((_, frame)) = self.writing.pop_front_if(|(n, _)| *n <= number) {
            self.synced.push(frame);
        }
    }

    /// The process dies: of what was not synced a random prefix survives, of the engine what was flushed.
    pub fn crash(&mut self, rng: &mut Rng) {
        let kept = rng.below(self.writing.len() as u64 + 1) as usize;
        self.synced.extend(self.writing.drain(..).take(kept).map(|(_, frame)| frame));
        self.engine.crash();
    }

    /// What a process finds when it starts.
    pub fn recover(&self) -> RecoveredLog {
        let mut log = RecoveredLog::default();
        for bytes in &self.synced {
            let frame: LogFrame = codec::decode("a log frame", bytes).expect("frames are stored as written");
            log.add(frame).expect("frames follow each other");
        }
        log.finish().expect("no entry is missing")
    }
}
