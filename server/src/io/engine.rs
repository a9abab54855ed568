//! The engine in production: RocksDB, one column family a space.
//!
//! RocksDB's own log is off. What a batch wrote becomes durable when its memtables are flushed, all column families
//! together; the Raft log replays the rest. So the only sync on the path of a write is the Raft log's.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRawIterator, FlushOptions,
    MemtableFactory, Options, ReadOptions, WriteBatch as RocksBatch, WriteOptions,
};
use txn::engine::{Cursor, Engine, EngineError, Space, WriteBatch};

const FAMILIES: [&str; 4] = ["versions", "intents", "local", "applied"];
const MEMTABLE_BYTES: usize = 64 << 20;
const BLOCK_CACHE_BYTES: usize = 256 << 20;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct RocksEngine {
    db: Arc<DB>,
}

fn io(error: rocksdb::Error) -> EngineError {
    match error.kind() {
        rocksdb::ErrorKind::Corruption => EngineError::Corrupt(error.into_string()),
        _ => EngineError::Io(error.into_string()),
    }
}

fn database_options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_atomic_flush(true);
    options.set_max_background_jobs(2);
    options.set_keep_log_file_num(4);
    options.set_db_write_buffer_size(MEMTABLE_BYTES);
    // A store has one writer, and the memtable of what is applied takes no more.
    options.set_allow_concurrent_memtable_write(false);
    options
}

fn families() -> [ColumnFamilyDescriptor; 4] {
    let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES);
    Space::ALL.map(|space| {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&cache);
        table.set_bloom_filter(10.0, false);
        let mut family = Options::default();
        family.set_block_based_table_factory(&table);
        family.set_compression_type(DBCompressionType::Lz4);
        family.set_write_buffer_size(MEMTABLE_BYTES);
        // Most lookups are for intents and records that are not there.
        family.set_memtable_whole_key_filtering(true);
        family.set_memtable_prefix_bloom_ratio(0.05);
        family.set_level_compaction_dynamic_level_bytes(true);
        if space == Space::Applied {
            // Each batch writes here, and nobody reads before the next start: what is sorted only when it is flushed costs least.
            family.set_memtable_factory(MemtableFactory::Vector);
            family.set_memtable_whole_key_filtering(false);
            family.set_memtable_prefix_bloom_ratio(0.0);
        }
        ColumnFamilyDescriptor::new(FAMILIES[space as usize], family)
    })
}

impl RocksEngine {
    /// Opens the engine in a folder, creating it if it is not there.
    ///
    /// # Errors
    /// When the folder cannot be used, or holds damaged files.
    pub fn open(path: &Path) -> Result<RocksEngine, EngineError> {
        let db = DB::open_cf_descriptors(&database_options(), path, families()).map_err(io)?;
        Ok(RocksEngine { db: Arc::new(db) })
    }

    /// Opens the engine in a folder to look at what is durable, without changing a byte of it. Writes fail.
    ///
    /// # Errors
    /// When the folder holds no engine, or damaged files.
    pub fn open_read_only(path: &Path) -> Result<RocksEngine, EngineError> {
        let mut options = database_options();
        options.create_if_missing(false);
        options.create_missing_column_families(false);
        let db = DB::open_cf_descriptors_read_only(&options, path, families(), false).map_err(io)?;
        Ok(RocksEngine { db: Arc::new(db) })
    }

    fn family(&self, space: Space) -> &ColumnFamily {
        self.db.cf_handle(FAMILIES[space as usize]).expect("the families were opened with the database")
    }

    /// Makes durable everything written so far. Blocks.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn flush(&self) -> Result<(), EngineError> {
        let mut options = FlushOptions::default();
        options.set_wait(true);
        let families = Space::ALL.map(|space| self.family(space));
        self.db.flush_cfs_opt(&families, &options).map_err(io)
    }
}

impl Engine for RocksEngine {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        self.db.get_cf(self.family(space), key).map_err(io)
    }

    fn cursor(&self, space: Space, part: Range<&[u8]>) -> Box<dyn Cursor + '_> {
        let mut options = ReadOptions::default();
        options.set_iterate_range(part.start.to_vec()..part.end.to_vec());
        Box::new(RocksCursor { iterator: self.db.raw_iterator_cf_opt(self.family(space), options) })
    }

    fn write(&mut self, batch: WriteBatch) -> Result<(), EngineError> {
        let mut rocks = RocksBatch::default();
        for write in batch.writes {
            let family = self.family(write.space);
            match (write.value, write.clear_to) {
                (Some(value), _) => rocks.put_cf(family, write.key, value),
                (None, None) => rocks.delete_cf(family, write.key),
                (None, Some(end)) => rocks.delete_range_cf(family, write.key, end),
            }
        }
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db.write_opt(rocks, &options).map_err(io)
    }
}

struct RocksCursor<'a> {
    iterator: DBRawIterator<'a>,
}

impl RocksCursor<'_> {
    fn status(&self) -> Result<(), EngineError> {
        self.iterator.status().map_err(io)
    }
}

impl Cursor for RocksCursor<'_> {
    fn seek(&mut self, key: &[u8]) -> Result<(), EngineError> {
        self.iterator.seek(key);
        self.status()
    }

    fn seek_before(&mut self, key: &[u8]) -> Result<(), EngineError> {
        self.iterator.seek_for_prev(key);
        if self.iterator.valid() && self.iterator.key() == Some(key) {
            self.iterator.prev();
        }
        self.status()
    }

    fn next(&mut self) -> Result<(), EngineError> {
        if self.iterator.valid() {
            self.iterator.next();
        }
        self.status()
    }

    fn item(&self) -> Option<(&[u8], &[u8])> {
        self.iterator.item()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use txn::MemoryEngine;

    use super::*;

    /// Keys that often meet.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(0u8..3, 0..3)
    }

    #[derive(Clone, Debug)]
    enum Step {
        Put(Vec<u8>, u8),
        Remove(Vec<u8>),
        Clear(Vec<u8>, Vec<u8>),
        Flush,
        /// Looks at a part from a key on, or before it.
        Look(Vec<u8>, Vec<u8>, Vec<u8>, bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (key(), any::<u8>()).prop_map(|(key, value)| Step::Put(key, value)),
            2 => key().prop_map(Step::Remove),
            1 => (key(), key()).prop_filter("a part", |(a, b)| a < b).prop_map(|(a, b)| Step::Clear(a, b)),
            1 => Just(Step::Flush),
            4 => (key(), key(), key(), any::<bool>()).prop_map(|(a, b, c, back)| Step::Look(a, b, c, back)),
        ]
    }

    fn look(engine: &dyn Engine, part: Range<&[u8]>, at: &[u8], back: bool) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut cursor = engine.cursor(Space::Intents, part);
        if back {
            cursor.seek_before(at).unwrap()
        } else {
            cursor.seek(at).unwrap()
        }
        let mut seen = Vec::new();
        while let Some((key, value)) = cursor.item() {
            seen.push((key.to_vec(), value.to_vec()));
            cursor.next().unwrap();
        }
        seen
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        #[test]
        fn it_does_what_the_engine_in_memory_does(steps in prop::collection::vec(step(), 1..60)) {
            let folder = std::env::temp_dir().join(format!("meridian-engine-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&folder);
            let mut rocks = RocksEngine::open(&folder).unwrap();
            let mut memory = MemoryEngine::default();
            for step in steps {
                let mut batch = WriteBatch::default();
                match step {
                    Step::Put(key, value) => batch.put(Space::Intents, key, vec![value]),
                    Step::Remove(key) => batch.remove(Space::Intents, key),
                    Step::Clear(start, end) => batch.clear(Space::Intents, start, end),
                    Step::Flush => rocks.flush().unwrap(),
                    Step::Look(start, end, at, back) => {
                        let (rocks, memory) =
                            (look(&rocks, &start..&end, &at, back), look(&memory, &start..&end, &at, back));
                        prop_assert_eq!(rocks, memory);
                    }
                }
                rocks.write(batch.clone()).unwrap();
                memory.write(batch).unwrap();
            }
            drop(rocks);
            std::fs::remove_dir_all(&folder).unwrap();
        }
    }
}
