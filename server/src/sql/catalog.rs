//! The catalog: which tables there are.
//!
//! Descriptors live in the same transactional key space as the rows, under `keyspace::CATALOG`:
//!
//! ```text
//! 03 01 name           id of the table of that name
//! 03 02 id             the table's descriptor
//! 03 03                the next table id
//! 03 04 id             a dropped table whose rows may still have to be deleted
//! ```
//!
//! `CREATE`, `ALTER` and `DROP` are ordinary transactions on these keys. Where the rows of a table are to stand is written a second time, as a
//! [wish](crate::kv::wishes) for its span, which the placement driver reads. Reading them for each statement would cost two round
//! trips, so each node caches descriptors under a *lease*: a descriptor may be used until
//! [`Limits::catalog_lease`] after a moment before it was read, by the node's own monotonic clock. That a name does
//! not exist is never cached, so a new table is seen at once. A dropped one is used by other nodes for at most
//! a lease, so `DROP TABLE` waits for a lease and a margin after its commit, and only then deletes the rows
//! and answers. Until it has answered, other nodes may still read and write the table; what they write is
//! deleted with it. A transaction that writes and is older than a lease when it commits reads
//! the descriptors of its tables again, in itself, and has to run again if one has changed.
//!
//! What this leaves open: a single statement that runs for longer than the lease on a table that is dropped
//! meanwhile reads rows that disappear under it; and clocks of two nodes that run so differently that the
//! margin is exceeded within a lease would let a write into a dropped table be acknowledged.
//!
//! Transactions that read in the past see the tables of that time: see [`known`].
//!
//! If the node that drops a table crashes before it has deleted the rows, or cannot reach them, the record under
//! `03 04` is left, and [`Catalog::finish_drops`], which a node calls when it starts, goes on.

mod known;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proto::{Key, PlacementRules, Span, codec, keyspace};

use known::KnownTables;

use super::encoding::key as key_encoding;
use super::error::{Error, Result, state};
use super::limits::Limits;
use super::schema::{Table, TableDescriptor, split_row_key, table_prefix};
use crate::kv::wishes::{self, Wish};
use crate::kv::{BeginOptions, Kv, Lock, ScanOptions, Transaction, idempotency};

const BY_NAME: u8 = 1;
const BY_ID: u8 = 2;
const NEXT_ID: u8 = 3;
const DROPPED: u8 = 4;

/// What the keys of all tables' descriptors begin with.
pub const DESCRIPTORS: &[u8] = &[keyspace::CATALOG, BY_ID];

/// Ids below are kept for tables of the system.
const FIRST_TABLE_ID: u64 = 100;

/// A node's view of the catalog, shared by its sessions.
pub struct Catalog {
    kv: Arc<dyn Kv>,
    limits: Limits,
    cache: Mutex<BTreeMap<String, Cached>>,
    /// What is known of tables at times in the past.
    known: KnownTables,
}

struct Cached {
    table: Arc<Table>,
    /// A moment before the descriptor was read.
    read_at: Duration,
}

fn catalog_key(kind: u8, rest: &[u8]) -> Key {
    Key([&[keyspace::CATALOG, kind], rest].concat())
}

fn id_key(kind: u8, id: u64) -> Key {
    catalog_key(kind, &id.to_be_bytes())
}

/// Decodes an id stored as 8 bytes.
fn read_id(bytes: &[u8]) -> Result<u64> {
    let array = <[u8; 8]>::try_from(bytes).map_err(|_| Error::corrupt("a table id in the catalog is damaged"))?;
    Ok(u64::from_be_bytes(array))
}

fn read_descriptor(bytes: &[u8]) -> Result<Arc<Table>> {
    let descriptor: TableDescriptor =
        codec::decode("a table descriptor", bytes).map_err(|e| Error::corrupt(e.to_string()))?;
    Ok(Arc::new(Table::new(descriptor)?))
}

impl Catalog {
    pub fn new(kv: Arc<dyn Kv>, limits: Limits) -> Catalog {
        Catalog { kv, limits, cache: Mutex::new(BTreeMap::new()), known: KnownTables::default() }
    }

    /// A table by its name, from the cache while its lease lasts.
    ///
    /// # Errors
    /// Those of the key-value layer.
    pub async fn lookup(&self, name: &str) -> Result<Option<Arc<Table>>> {
        let now = self.kv.monotonic();
        if let Some(table) = self.cached(name, now) {
            return Ok(Some(table));
        }
        let found = self.read_alone(name).await?;
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        match &found {
            Some(table) => cache.insert(name.to_string(), Cached { table: table.clone(), read_at: now }),
            None => cache.remove(name),
        };
        Ok(found)
    }

    /// Reads a descriptor in a transaction of its own, which is begun again when it has to be.
    async fn read_alone(&self, name: &str) -> Result<Option<Arc<Table>>> {
        let mut attempts = 1;
        loop {
            let mut txn = self.kv.begin(BeginOptions { read_only: true, ..BeginOptions::default() }).await?;
            match read(&mut *txn, name).await {
                Ok(found) => {
                    if let Some(table) = &found {
                        self.known.learn(table, txn.read_timestamp());
                    }
                    txn.reveal().await?;
                    txn.rollback().await;
                    return Ok(found);
                }
                Err(error) if error.conflict().is_some() && attempts < self.limits.attempts_max => attempts += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// All tables, by name.
    ///
    /// # Errors
    /// Those of the key-value layer.
    pub async fn all(&self) -> Result<Vec<Arc<Table>>> {
        let mut txn = self.kv.begin(BeginOptions { read_only: true, ..BeginOptions::default() }).await?;
        let tables = list(&mut *txn).await?;
        txn.reveal().await?;
        txn.rollback().await;
        Ok(tables)
    }

    /// A table from the cache, if its lease still lasts.
    pub fn cached(&self, name: &str, now: Duration) -> Option<Arc<Table>> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = cache.get(name)?;
        (now.saturating_sub(entry.read_at) < self.limits.catalog_lease).then(|| entry.table.clone())
    }

    /// Forgets a table, after this node has changed it.
    pub fn forget(&self, name: &str) {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// The wait and the deletions after a `DROP TABLE` has committed.
    ///
    /// # Errors
    /// Those of the key-value layer. The deletion goes on when a node starts.
    pub async fn finish_drop(&self, id: u64) -> Result<()> {
        self.kv.sleep(self.limits.catalog_lease + self.limits.catalog_margin).await;
        let mut span = Span::prefix(&table_prefix(id));
        loop {
            match self.delete_some(&span).await {
                Ok(Some(rest)) => span = rest,
                Ok(None) => break,
                Err(error) if error.conflict().is_some() => {}
                Err(error) => return Err(error),
            }
        }
        loop {
            let mut txn = self.kv.begin(BeginOptions::default()).await?;
            txn.delete(id_key(DROPPED, id))?;
            match txn.commit().await.map_err(Error::from) {
                Err(error) if error.conflict().is_some() => {}
                done => return done.map(|_| ()),
            }
        }
    }

    async fn delete_some(&self, span: &Span) -> Result<Option<Span>> {
        let mut txn = self.kv.begin(BeginOptions::default()).await?;
        let options = ScanOptions { rows_max: self.limits.drop_batch_rows, ..ScanOptions::default() };
        let page = txn.scan(span, options).await?;
        for (key, _) in page.rows {
            txn.delete(key)?;
        }
        txn.commit().await?;
        Ok(page.resume)
    }

    /// Deletes the rows of tables whose `DROP` was cut short by a crash.
    ///
    /// # Errors
    /// Those of the key-value layer.
    pub async fn finish_drops(&self) -> Result<()> {
        let prefix = catalog_key(DROPPED, &[]);
        let mut txn = self.kv.begin(BeginOptions { read_only: true, ..BeginOptions::default() }).await?;
        let mut span = Span::prefix(&prefix);
        let mut ids = Vec::new();
        loop {
            let page = txn.scan(&span, ScanOptions::default()).await?;
            for (key, _) in &page.rows {
                ids.push(read_id(&key.as_bytes()[prefix.as_bytes().len()..])?);
            }
            match page.resume {
                Some(rest) => span = rest,
                None => break,
            }
        }
        txn.rollback().await;
        for id in ids {
            self.finish_drop(id).await?;
        }
        Ok(())
    }

    /// A key in SQL terms, as far as the cached descriptors go: `row (id)=(1) of table "accounts"`.
    pub fn describe_key(&self, key: &Key) -> String {
        if let [keyspace::CATALOG, BY_NAME, name @ ..] = key.as_bytes() {
            return format!("the definition of table \"{}\"", String::from_utf8_lossy(name));
        }
        if key.as_bytes().first() == Some(&keyspace::IDEMPOTENCY) {
            return format!("idempotency key \"{}\"", idempotency::key::shown(key));
        }
        let raw = || format!("key {key}");
        let Some((id, primary_key)) = split_row_key(key) else { return raw() };
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = cache.values().find(|c| c.table.id() == id) else { return raw() };
        let table = &entry.table;
        match key_encoding::decode_prefix(table.key_types(), primary_key) {
            Ok(datums) => {
                let mut row = vec![proto::Datum::Null; table.columns().len()];
                for (&ordinal, datum) in table.key_ordinals().iter().zip(datums) {
                    row[ordinal] = datum;
                }
                format!("row {} of table \"{}\"", table.describe_key(&row), table.name())
            }
            Err(_) => raw(),
        }
    }
}

/// Reads a table's descriptor within a transaction, which will be validated against changes of it.
///
/// # Errors
/// Those of the key-value layer; `XX001` for damage.
pub async fn read(txn: &mut dyn Transaction, name: &str) -> Result<Option<Arc<Table>>> {
    let found = txn.get(&[catalog_key(BY_NAME, name.as_bytes())], Lock::None).await?;
    let Some(Some(id)) = found.first() else { return Ok(None) };
    let id = read_id(id)?;
    match txn.get(&[id_key(BY_ID, id)], Lock::None).await?.first() {
        Some(Some(bytes)) => read_descriptor(bytes).map(Some),
        _ => Err(Error::corrupt(format!("table \"{name}\" has no descriptor"))),
    }
}

/// All tables, by name, within a transaction.
///
/// # Errors
/// As [`read`].
pub async fn list(txn: &mut dyn Transaction) -> Result<Vec<Arc<Table>>> {
    let mut tables = Vec::new();
    let mut span = Span::prefix(&catalog_key(BY_ID, &[]));
    loop {
        let page = txn.scan(&span, ScanOptions::default()).await?;
        for (_, value) in &page.rows {
            tables.push(read_descriptor(value)?);
        }
        match page.resume {
            Some(rest) => span = rest,
            None => break,
        }
    }
    tables.sort_by(|a, b| a.name().cmp(b.name()));
    Ok(tables)
}

/// Writes a new table's descriptor, giving it an id.
///
/// # Errors
/// `42P07` when the name is taken.
pub async fn create(txn: &mut dyn Transaction, mut descriptor: TableDescriptor) -> Result<Arc<Table>> {
    let name_key = catalog_key(BY_NAME, descriptor.name.as_bytes());
    let counter = catalog_key(NEXT_ID, &[]);
    let found = txn.get(&[name_key.clone(), counter.clone()], Lock::Exclusive).await?;
    if matches!(found.first(), Some(Some(_))) {
        let message = format!("relation \"{}\" already exists", descriptor.name);
        return Err(Error::new(state::DUPLICATE_TABLE, message));
    }
    descriptor.id = match found.get(1) {
        Some(Some(bytes)) => read_id(bytes)?,
        _ => FIRST_TABLE_ID,
    };
    let table = Table::new(descriptor)?;
    txn.put(counter, (table.id() + 1).to_be_bytes().to_vec())?;
    txn.put(name_key, table.id().to_be_bytes().to_vec())?;
    write(txn, &table)?;
    Ok(Arc::new(table))
}

/// Writes a table's descriptor, and its wish where it has one.
fn write(txn: &mut dyn Transaction, table: &Table) -> Result<()> {
    txn.put(id_key(BY_ID, table.id()), codec::encode(table.descriptor()))?;
    if let Some(rules) = table.descriptor().placement.clone() {
        let owner = format!("table \"{}\"", table.name());
        wishes::put(txn, &Wish { span: table.span(), rules, owner })?;
    }
    Ok(())
}

/// Changes where a table's rows are to stand. Nodes go on with the definition that they have cached, for nothing else of it changes.
///
/// # Errors
/// Those of the key-value layer.
pub fn place(txn: &mut dyn Transaction, table: &Table, rules: Option<PlacementRules>) -> Result<Arc<Table>> {
    let unset = rules.is_none() && table.descriptor().placement.is_some();
    let placed = Table::new(TableDescriptor { placement: rules, ..table.descriptor().clone() })?;
    write(txn, &placed)?;
    if unset {
        wishes::remove(txn, &table.span())?;
    }
    Ok(Arc::new(placed))
}

/// Removes a table's descriptor; its rows are for [`Catalog::finish_drop`].
///
/// # Errors
/// Those of the key-value layer.
pub fn drop_table(txn: &mut dyn Transaction, table: &Table) -> Result<()> {
    txn.delete(catalog_key(BY_NAME, table.name().as_bytes()))?;
    txn.delete(id_key(BY_ID, table.id()))?;
    txn.put(id_key(DROPPED, table.id()), Vec::new())?;
    if table.descriptor().placement.is_some() {
        wishes::remove(txn, &table.span())?;
    }
    Ok(())
}
