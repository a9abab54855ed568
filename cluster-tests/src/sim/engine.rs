//! The engine of a simulated node: in memory, and it can fail like a disk.
//!
//! Blocks that have rotted are noticed by their checksums when they are read, as RocksDB does it. A disk that fails refuses writes.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use txn::MemoryEngine;
use txn::engine::{Cursor, Engine, EngineError, Space, WriteBatch};

use super::rng::Rng;

/// Keys of a space, both ends included, that can no longer be read.
#[derive(Clone, Debug)]
struct Block {
    space: Space,
    first: Vec<u8>,
    last: Vec<u8>,
}

#[derive(Default)]
struct Health {
    /// Whether anything below is set: most engines are well.
    ill: AtomicBool,
    fails: AtomicBool,
    rotten: Mutex<Vec<Block>>,
}

/// See the module. Handles share one engine.
#[derive(Clone, Default)]
pub struct SimEngine {
    memory: MemoryEngine,
    health: Arc<Health>,
}

impl Health {
    fn check(&self, space: Space, key: &[u8]) -> Result<(), EngineError> {
        if !self.ill.load(Ordering::Relaxed) {
            return Ok(());
        }
        let rotten = self.rotten.lock().expect("no holder of this lock panics");
        let holds = |block: &Block| block.space == space && *block.first <= *key && *key <= *block.last;
        if rotten.iter().any(holds) {
            return Err(EngineError::Corrupt("a block's checksum does not match".into()));
        }
        Ok(())
    }
}

impl SimEngine {
    pub fn flush(&self) {
        self.memory.flush();
    }

    /// A disk that failed is as good as new when the process starts again.
    pub fn recover(&self) {
        self.health.fails.store(false, Ordering::Relaxed);
    }

    /// What was not flushed is gone. A disk that failed is as good as new after the restart.
    pub fn crash(&self) {
        self.memory.crash();
        self.health.fails.store(false, Ordering::Relaxed);
    }

    /// From now on writes fail.
    pub fn fail(&self) {
        self.health.fails.store(true, Ordering::Relaxed);
    }

    /// Lets a block of a few neighbouring keys rot. Says whether there was one.
    pub fn rot(&self, dice: u64) -> bool {
        const KEYS_MAX: u64 = 8;
        let mut rng = Rng::new(dice, "rot");
        let space = *rng.pick(&Space::ALL);
        let mut keys = Vec::new();
        let all = txn::engine::visit(&self.memory, space, &[], &[0xff; 64], |key, _| {
            keys.push(key.to_vec());
            Ok(true)
        });
        all.expect("memory does not fail");
        if keys.is_empty() {
            return false;
        }
        let first = rng.below(keys.len() as u64) as usize;
        let last = (first + rng.below(KEYS_MAX) as usize).min(keys.len() - 1);
        let block = Block { space, first: keys[first].clone(), last: keys[last].clone() };
        self.health.rotten.lock().expect("no holder of this lock panics").push(block);
        self.health.ill.store(true, Ordering::Relaxed);
        true
    }
}

impl Engine for SimEngine {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        self.health.check(space, key)?;
        self.memory.get(space, key)
    }

    fn cursor(&self, space: Space, part: Range<&[u8]>) -> Box<dyn Cursor + '_> {
        let inner = self.memory.cursor(space, part);
        if !self.health.ill.load(Ordering::Relaxed) {
            return inner;
        }
        Box::new(SimCursor { inner, space, health: &self.health })
    }

    fn write(&mut self, batch: WriteBatch) -> Result<(), EngineError> {
        if self.health.fails.load(Ordering::Relaxed) {
            return Err(EngineError::Io("input/output error".into()));
        }
        self.memory.write(batch)
    }
}

struct SimCursor<'a> {
    inner: Box<dyn Cursor + 'a>,
    space: Space,
    health: &'a Health,
}

impl SimCursor<'_> {
    fn check(&self) -> Result<(), EngineError> {
        self.inner.item().map_or(Ok(()), |(key, _)| self.health.check(self.space, key))
    }
}

impl Cursor for SimCursor<'_> {
    fn seek(&mut self, key: &[u8]) -> Result<(), EngineError> {
        self.inner.seek(key)?;
        self.check()
    }

    fn seek_before(&mut self, key: &[u8]) -> Result<(), EngineError> {
        self.inner.seek_before(key)?;
        self.check()
    }

    fn next(&mut self) -> Result<(), EngineError> {
        self.inner.next()?;
        self.check()
    }

    fn item(&self) -> Option<(&[u8], &[u8])> {
        self.inner.item()
    }
}
