//! The schema `meridian`: tables that the cluster tells of itself, which are read like any other and never written.
//!
//! Their rows do not lie in the key space. They are made when they are read, each from what is true then, and no transaction
//! holds them still: a table that is read twice may have changed. `SHOW RANGES`, `SHOW NODES`, `SHOW JOBS` and `SHOW REFUSALS`
//! show the same rows.

use std::sync::Arc;

use proto::DataType;

use super::error::{Error, Result, state};
use super::plan::Column;
use super::schema::{self, Table, TableDescriptor};

/// The name of the schema.
pub const SCHEMA: &str = "meridian";

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SystemTable {
    Ranges,
    Nodes,
    Decisions,
    Refusals,
}

impl SystemTable {
    pub const ALL: [SystemTable; 4] =
        [SystemTable::Ranges, SystemTable::Nodes, SystemTable::Decisions, SystemTable::Refusals];

    /// Its name in the schema.
    pub fn name(self) -> &'static str {
        match self {
            SystemTable::Ranges => "ranges",
            SystemTable::Nodes => "nodes",
            SystemTable::Decisions => "decisions",
            SystemTable::Refusals => "refusals",
        }
    }

    /// The table of a name.
    ///
    /// # Errors
    /// `42P01`.
    pub fn named(name: &str) -> Result<SystemTable> {
        let found = SystemTable::ALL.into_iter().find(|table| table.name() == name);
        found.ok_or_else(|| {
            let names: Vec<&str> = SystemTable::ALL.iter().map(|table| table.name()).collect();
            Error::new(state::UNDEFINED_TABLE, format!("relation \"{SCHEMA}.{name}\" does not exist"))
                .hint(format!("The schema {SCHEMA} has the tables {}.", names.join(", ")))
        })
    }

    pub fn columns(self) -> Vec<Column> {
        use DataType::{Bool, Int8, Text, TimestampTz};
        let columns: &[(&str, DataType)] = match self {
            SystemTable::Ranges => &[
                ("range_id", Int8),
                ("table_name", Text),
                ("start_key", Text),
                ("end_key", Text),
                ("size", Int8),
                ("load", Int8),
                ("leader", Int8),
                ("replicas", Text),
                ("epoch", Int8),
                ("pinned", Bool),
                ("note", Text),
                ("last_decision", Text),
                ("decided_at", TimestampTz),
            ],
            SystemTable::Nodes => &[
                ("node_id", Int8),
                ("address", Text),
                ("locality", Text),
                ("state", Text),
                ("live", Bool),
                ("replicas", Int8),
                ("leaders", Int8),
                ("bytes", Int8),
            ],
            SystemTable::Decisions => &[
                ("time", TimestampTz),
                ("node_id", Int8),
                ("range_id", Int8),
                ("what", Text),
                ("why", Text),
                ("outcome", Text),
            ],
            SystemTable::Refusals => &[("refusal", Text)],
        };
        columns.iter().map(|&(name, data_type)| Column { name: name.to_string(), data_type }).collect()
    }

    /// The table as names and types are looked up in it. It has no rows in the key space, and an id that no table is given.
    ///
    /// # Errors
    /// None in fact.
    pub fn as_table(self) -> Result<Arc<Table>> {
        let columns = self.columns().into_iter().zip(1..);
        let column = |(column, id): (Column, u32)| schema::Column {
            id,
            name: column.name,
            data_type: column.data_type,
            nullable: id > 1,
            default: None,
            hidden: false,
        };
        let descriptor = TableDescriptor {
            id: 0,
            name: self.name().to_string(),
            version: 1,
            columns: columns.map(column).collect(),
            primary_key: vec![1],
            primary_key_name: format!("{}_pkey", self.name()),
            placement: None,
        };
        Table::new(descriptor).map(Arc::new)
    }
}
