//! The engine in memory, for tests and the simulator.
//!
//! It keeps two images: what was written and what would survive a crash. [`MemoryEngine::flush`] makes the first the
//! second, [`MemoryEngine::crash`] the second the first. Handles share the images, so that a simulated disk outlives
//! the simulated process.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::engine::{Cursor, Engine, EngineError, Space, WriteBatch};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Default, Clone)]
struct Image {
    spaces: [Arc<Map>; 4],
}

#[derive(Default)]
struct Images {
    current: Image,
    durable: Image,
}

/// See the module.
#[derive(Clone, Default)]
pub struct MemoryEngine {
    images: Arc<Mutex<Images>>,
}

impl MemoryEngine {
    fn lock(&self) -> MutexGuard<'_, Images> {
        self.images.lock().expect("no holder of this lock panics")
    }

    /// Everything written so far survives a crash from now on.
    pub fn flush(&self) {
        let mut images = self.lock();
        images.durable = images.current.clone();
    }

    /// What was not flushed is gone.
    pub fn crash(&self) {
        let mut images = self.lock();
        images.current = images.durable.clone();
    }
}

impl Engine for MemoryEngine {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.lock().current.spaces[space as usize].get(key).cloned())
    }

    fn cursor(&self, space: Space, part: Range<&[u8]>) -> Box<dyn Cursor + '_> {
        let map = self.lock().current.spaces[space as usize].clone();
        Box::new(MemoryCursor { map, part: part.start.to_vec()..part.end.to_vec(), at: None })
    }

    fn write(&mut self, batch: WriteBatch) -> Result<(), EngineError> {
        let mut images = self.lock();
        for write in batch.writes {
            let map = Arc::make_mut(&mut images.current.spaces[write.space as usize]);
            match (write.value, write.clear_to) {
                (Some(value), _) => {
                    map.insert(write.key, value);
                }
                (None, None) => {
                    map.remove(&write.key);
                }
                (None, Some(end)) if write.key < end => {
                    let doomed: Vec<Vec<u8>> = map.range(write.key..end).map(|(key, _)| key.clone()).collect();
                    doomed.iter().for_each(|key| drop(map.remove(key)));
                }
                (None, Some(_)) => {}
            }
        }
        Ok(())
    }
}

struct MemoryCursor {
    map: Arc<Map>,
    part: Range<Vec<u8>>,
    at: Option<(Vec<u8>, Vec<u8>)>,
}

impl MemoryCursor {
    fn first_in(&mut self, from: Bound<&[u8]>) {
        let found = self.map.range::<[u8], _>((from, Bound::Unbounded)).next();
        self.at = found.filter(|(key, _)| **key < self.part.end).map(|(key, value)| (key.clone(), value.clone()));
    }
}

impl Cursor for MemoryCursor {
    fn seek(&mut self, key: &[u8]) -> Result<(), EngineError> {
        let from = self.part.start.clone();
        self.first_in(Bound::Included(key.max(&from)));
        Ok(())
    }

    fn seek_before(&mut self, key: &[u8]) -> Result<(), EngineError> {
        let before = key.min(&self.part.end);
        let found = self.map.range::<[u8], _>((Bound::Unbounded, Bound::Excluded(before))).next_back();
        self.at = found.filter(|(key, _)| **key >= self.part.start).map(|(key, value)| (key.clone(), value.clone()));
        Ok(())
    }

    fn next(&mut self) -> Result<(), EngineError> {
        if let Some((key, _)) = self.at.take() {
            self.first_in(Bound::Excluded(&key));
        }
        Ok(())
    }

    fn item(&self) -> Option<(&[u8], &[u8])> {
        self.at.as_ref().map(|(key, value)| (key.as_slice(), value.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_keeps_what_was_flushed_and_nothing_else() {
        let disk = MemoryEngine::default();
        let mut engine = disk.clone();
        let mut batch = WriteBatch::default();
        batch.put(Space::Local, b"a".to_vec(), b"1".to_vec());
        engine.write(batch).unwrap();
        disk.flush();
        let mut batch = WriteBatch::default();
        batch.put(Space::Local, b"b".to_vec(), b"2".to_vec());
        batch.remove(Space::Local, b"a".to_vec());
        engine.write(batch).unwrap();
        disk.crash();
        assert_eq!(engine.get(Space::Local, b"a").unwrap(), Some(b"1".to_vec()));
        assert_eq!(engine.get(Space::Local, b"b").unwrap(), None);
    }
}
