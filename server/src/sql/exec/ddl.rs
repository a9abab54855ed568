//! Table definitions, within a transaction.

use std::collections::BTreeSet;
use std::sync::Arc;

use proto::{Datum, Key};

use super::super::catalog;
use super::super::encoding::key;
use super::super::error::{Error, Result, state};
use super::super::expr::{EvalContext, Expr};
use super::super::plan::PlacementChanges;
use super::super::plan::statement::undefined_table;
use super::super::schema::{Table, TableDescriptor};
use super::place;
use crate::kv::{self, Kv, Transaction};

/// Creates a table; `None` if it exists and may.
///
/// # Errors
/// `42P07`.
pub async fn create(
    txn: &mut dyn Transaction,
    descriptor: &TableDescriptor,
    if_not_exists: bool,
) -> Result<Option<Arc<Table>>> {
    if if_not_exists && catalog::read(txn, &descriptor.name).await?.is_some() {
        return Ok(None);
    }
    catalog::create(txn, descriptor.clone()).await.map(Some)
}

/// Drops a table; `None` if there is none and there need not be.
///
/// # Errors
/// `42P01`.
pub async fn drop_one(txn: &mut dyn Transaction, name: &str, if_exists: bool) -> Result<Option<Arc<Table>>> {
    match catalog::read(txn, name).await? {
        Some(table) => {
            catalog::drop_table(txn, &table)?;
            Ok(Some(table))
        }
        None if if_exists => Ok(None),
        None => Err(Error::new(state::UNDEFINED_TABLE, format!("table \"{name}\" does not exist"))),
    }
}

/// Changes where a table's rows are to stand, from what is wished now.
///
/// # Errors
/// `42P01` if it has been dropped; `22023` for wishes that contradict each other.
pub async fn place(txn: &mut dyn Transaction, table: &Table, changes: &PlacementChanges) -> Result<Arc<Table>> {
    let now = catalog::read(txn, table.name()).await?.ok_or_else(|| undefined_table(table.name()))?;
    let rules = changes.apply(now.descriptor().placement.as_ref())?;
    catalog::place(txn, &now, rules)
}

/// Splits ranges at the given prefixes of the primary key.
///
/// # Errors
/// `22004` for NULL; those of the key-value layer.
pub async fn split(kv: &dyn Kv, table: &Table, rows: &[Vec<Expr>], eval: &EvalContext<'_>) -> Result<()> {
    let mut keys = Vec::with_capacity(rows.len());
    for row in rows {
        keys.push(key_of(table, row, eval)?);
    }
    for key in &keys {
        kv.split(key).await?;
    }
    Ok(())
}

/// Gives up boundaries of ranges that were asked for: those at the given prefixes of the primary key, or all in the table.
///
/// # Errors
/// `22004` for NULL; `22023` where no range begins; those of the key-value layer.
pub async fn unsplit(
    kv: &dyn Kv,
    table: &Arc<Table>,
    rows: Option<&[Vec<Expr>]>,
    eval: &EvalContext<'_>,
) -> Result<()> {
    let span = table.span();
    let starts = kv.ranges(&span).await?.into_iter().map(|range| range.descriptor.start);
    let starts: BTreeSet<Key> = starts.filter(|start| span.contains(start)).collect();
    let keys = match rows {
        None => starts.into_iter().collect(),
        Some(rows) => {
            let keys: Vec<Key> = rows.iter().map(|row| key_of(table, row, eval)).collect::<Result<_>>()?;
            if let Some(key) = keys.iter().find(|key| !starts.contains(key)) {
                let message = format!("no range begins at {}", place::place(key, std::slice::from_ref(table)));
                return Err(Error::new(state::INVALID_PARAMETER, message)
                    .hint(format!("SHOW RANGES FROM TABLE {} shows where its ranges begin.", table.name())));
            }
            keys
        }
    };
    for key in keys {
        match kv.unsplit(&key).await {
            // It has been merged meanwhile, so it was given up.
            Err(kv::Error::Invalid(_)) => {}
            other => other?,
        }
    }
    Ok(())
}

/// The key of the row with these first values of its primary key.
///
/// # Errors
/// `22004` for NULL.
pub fn key_of(table: &Table, row: &[Expr], eval: &EvalContext<'_>) -> Result<Key> {
    let mut bytes = table.prefix().0;
    for expr in row {
        match expr.eval(&[], eval)? {
            Datum::Null => return Err(Error::new("22004", "no row has a primary key with NULL")),
            datum => key::encode(&datum, &mut bytes),
        }
    }
    Ok(Key(bytes))
}
