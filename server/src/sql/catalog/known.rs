//! Tables as they were.
//!
//! A transaction that reads in the past reads the catalog there too, in itself. To spare it that, a node remembers between which times it has found a
//! table the same. Ids and versions are never used again, so it was the same all the while between them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::{Either, select};
use proto::Timestamp;

use super::super::error::Result;
use super::super::schema::Table;
use super::{Catalog, read};
use crate::kv::Transaction;

/// How long a statement that reads in the past waits for what the leader has to say of its table now, before it looks for itself.
const PATIENCE: Duration = Duration::from_millis(250);

/// Definitions of one name past which the one that was found first is forgotten.
const DEFINITIONS_MAX: usize = 4;

/// A table, and when it was found so for the first and the last time.
#[derive(Clone, Debug)]
struct Known {
    table: Arc<Table>,
    first: Timestamp,
    last: Timestamp,
}

/// See the module. Of each name the definitions that were found last.
#[derive(Debug, Default)]
pub struct KnownTables(Mutex<BTreeMap<String, Vec<Known>>>);

impl KnownTables {
    /// A table was found at a time.
    pub fn learn(&self, table: &Arc<Table>, at: Timestamp) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_name = all.entry(table.name().to_string()).or_default();
        let version = |table: &Table| (table.id(), table.version());
        match of_name.iter_mut().find(|known| version(&known.table) == version(table)) {
            Some(known) => {
                known.first = known.first.min(at);
                known.last = known.last.max(at);
            }
            None => of_name.push(Known { table: table.clone(), first: at, last: at }),
        }
        if of_name.len() > DEFINITIONS_MAX {
            of_name.remove(0);
        }
    }

    /// The table of a name at a time, if that is known.
    fn at(&self, name: &str, at: Timestamp) -> Option<Arc<Table>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.get(name)?.iter().find(|known| (known.first..=known.last).contains(&at))?;
        Some(known.table.clone())
    }

    /// Whether it might be enough to know what there is now: nothing that is known is newer.
    fn only_lacks_the_present(&self, name: &str, at: Timestamp) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(name).is_some_and(|known| known.iter().all(|known| known.last < at))
    }
}

impl Catalog {
    /// A table by its name, as it is at a transaction's snapshot in the past.
    ///
    /// # Errors
    /// Those of the key-value layer.
    pub async fn lookup_at(&self, txn: &mut dyn Transaction, name: &str) -> Result<Option<Arc<Table>>> {
        let at = txn.read_timestamp();
        if let Some(table) = self.known.at(name, at) {
            return Ok(Some(table));
        }
        // One look at the present serves whoever reads in the near past for a while, wherever the catalog is.
        if self.known.only_lacks_the_present(name, at) {
            let present = Box::pin(self.lookup(name));
            if let Either::Left((Ok(_), _)) = select(present, self.kv.sleep(PATIENCE)).await
                && let Some(table) = self.known.at(name, at)
            {
                return Ok(Some(table));
            }
        }
        let found = read(txn, name).await?;
        if let Some(table) = &found {
            self.known.learn(table, at);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::schema::{Column, TableDescriptor};
    use super::*;

    fn table(id: u64, version: u64) -> Arc<Table> {
        let data_type = proto::DataType::Int8;
        let column = Column { id: 1, name: "id".into(), data_type, nullable: false, default: None, hidden: false };
        let (name, primary_key_name) = ("t".to_string(), "t_pkey".to_string());
        let descriptor = TableDescriptor {
            id,
            name,
            version,
            columns: vec![column],
            primary_key: vec![1],
            primary_key_name,
            placement: None,
        };
        Arc::new(Table::new(descriptor).expect("the descriptor is sound"))
    }

    #[test]
    fn a_table_is_known_between_the_times_at_which_it_was_the_same() {
        let known = KnownTables::default();
        let at = |at| known.at("t", Timestamp(at)).map(|table| table.version());
        known.learn(&table(100, 1), Timestamp(10));
        known.learn(&table(100, 1), Timestamp(20));
        assert_eq!([5, 10, 15, 20, 25].map(at), [None, Some(1), Some(1), Some(1), None]);
        // Between 20 and 30 it changed, nobody knows when.
        known.learn(&table(100, 2), Timestamp(30));
        assert_eq!([15, 25, 30].map(at), [Some(1), None, Some(2)]);
        (3..=6).for_each(|version| known.learn(&table(100, version), Timestamp(version * 10 + 10)));
        assert_eq!([15, 30, 50].map(at), [None, None, Some(4)]);
        assert!(known.only_lacks_the_present("t", Timestamp(71)) && !known.only_lacks_the_present("t", Timestamp(69)));
    }
}
