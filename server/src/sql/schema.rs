//! Table descriptors: what the catalog stores of a table, and what planning derives from that.

use std::fmt::Write;

use minicbor::{Decode, Encode};
use proto::{DataType, Datum, Key, PlacementRules, Span, keyspace};

use super::error::{Error, Result, state};

/// A column as the catalog stores it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Column {
    /// Never reused within the table; rows name their values by it.
    #[n(0)]
    pub id: u32,
    #[n(1)]
    pub name: String,
    #[n(2)]
    pub data_type: DataType,
    #[n(3)]
    pub nullable: bool,
    /// The default's expression as SQL text.
    #[n(4)]
    pub default: Option<String>,
    /// Left out of `*` and of column-less inserts: the row id of a table without a primary key.
    #[n(5)]
    pub hidden: bool,
}

/// A table as the catalog stores it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TableDescriptor {
    /// Never reused; the second part of the keys of the table's rows.
    #[n(0)]
    pub id: u64,
    #[n(1)]
    pub name: String,
    /// Raised by every change of the descriptor that rows or plans depend on. Placement is none: no statement has to notice it.
    #[n(2)]
    pub version: u64,
    #[n(3)]
    pub columns: Vec<Column>,
    /// Ids of the columns of the primary key, in key order.
    #[n(4)]
    pub primary_key: Vec<u32>,
    /// The name of the primary key constraint.
    #[n(5)]
    pub primary_key_name: String,
    /// Where its rows are to stand; nothing if that is left to the cluster.
    #[n(6)]
    pub placement: Option<PlacementRules>,
}

/// A descriptor in use, with what follows from it.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    descriptor: TableDescriptor,
    key_ordinals: Vec<usize>,
}

impl Table {
    /// Takes a descriptor into use.
    ///
    /// # Errors
    /// `XX001` when the descriptor contradicts itself.
    pub fn new(descriptor: TableDescriptor) -> Result<Table> {
        let broken = |what: &str| Error::corrupt(format!("the descriptor of table \"{}\" {what}", descriptor.name));
        let ordinal_of = |id: &u32| descriptor.columns.iter().position(|c| c.id == *id);
        let key_ordinals: Option<Vec<usize>> = descriptor.primary_key.iter().map(ordinal_of).collect();
        let key_ordinals = key_ordinals.ok_or_else(|| broken("names a key column that it does not have"))?;
        if key_ordinals.is_empty() {
            return Err(broken("has no primary key"));
        }
        let nullable_key = key_ordinals.iter().any(|&i| descriptor.columns[i].nullable);
        if nullable_key {
            return Err(broken("has a nullable key column"));
        }
        Ok(Table { descriptor, key_ordinals })
    }

    pub fn id(&self) -> u64 {
        self.descriptor.id
    }

    pub fn name(&self) -> &str {
        &self.descriptor.name
    }

    pub fn version(&self) -> u64 {
        self.descriptor.version
    }

    pub fn descriptor(&self) -> &TableDescriptor {
        &self.descriptor
    }

    pub fn columns(&self) -> &[Column] {
        &self.descriptor.columns
    }

    pub fn ordinal(&self, name: &str) -> Option<usize> {
        self.descriptor.columns.iter().position(|c| c.name == name)
    }

    /// Which columns form the primary key, in key order.
    pub fn key_ordinals(&self) -> &[usize] {
        &self.key_ordinals
    }

    pub fn is_key(&self, ordinal: usize) -> bool {
        self.key_ordinals.contains(&ordinal)
    }

    /// The types of the primary key's columns.
    pub fn key_types(&self) -> impl Iterator<Item = DataType> + '_ {
        self.key_ordinals.iter().map(|&i| self.descriptor.columns[i].data_type)
    }

    /// What the keys of all rows begin with.
    pub fn prefix(&self) -> Key {
        table_prefix(self.descriptor.id)
    }

    /// Where all rows lie.
    pub fn span(&self) -> Span {
        Span::prefix(&self.prefix())
    }

    /// A primary key in PostgreSQL's words: `(id, no)=(1, 2)`.
    pub fn describe_key(&self, row: &[Datum]) -> String {
        let mut names = String::new();
        let mut values = String::new();
        for (i, &ordinal) in self.key_ordinals.iter().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            let _ = write!(names, "{separator}{}", self.descriptor.columns[ordinal].name);
            let _ = write!(values, "{separator}{}", row.get(ordinal).unwrap_or(&Datum::Null));
        }
        format!("({names})=({values})")
    }

    /// `23505` for a row whose key is taken.
    pub fn duplicate_key(&self, row: &[Datum]) -> Error {
        let message =
            format!("duplicate key value violates unique constraint \"{}\"", self.descriptor.primary_key_name);
        let mut error = Error::new(state::UNIQUE_VIOLATION, message)
            .detail(format!("Key {} already exists.", self.describe_key(row)));
        error.table = Some(self.descriptor.name.clone());
        error.constraint = Some(self.descriptor.primary_key_name.clone());
        error
    }

    /// `23502` for a row without a value where one is needed.
    pub fn null_in(&self, ordinal: usize, row: &[Datum]) -> Error {
        let column = &self.descriptor.columns[ordinal].name;
        let message = format!(
            "null value in column \"{column}\" of relation \"{}\" violates not-null constraint",
            self.descriptor.name
        );
        let values: Vec<String> = row.iter().map(|d| d.to_text().unwrap_or_else(|| "null".to_string())).collect();
        let mut error = Error::new(state::NOT_NULL_VIOLATION, message)
            .detail(format!("Failing row contains ({}).", values.join(", ")));
        error.table = Some(self.descriptor.name.clone());
        error.column = Some(column.clone());
        error
    }
}

/// What the keys of a table's rows begin with.
pub fn table_prefix(id: u64) -> Key {
    let mut bytes = Vec::with_capacity(9);
    bytes.push(keyspace::TABLES);
    bytes.extend_from_slice(&id.to_be_bytes());
    Key(bytes)
}

/// The table that a key belongs to, and the encoded primary key, for keys of rows.
pub fn split_row_key(key: &Key) -> Option<(u64, &[u8])> {
    let rest = key.as_bytes().strip_prefix(&[keyspace::TABLES])?;
    let (id, primary_key) = rest.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*id), primary_key))
}

#[cfg(test)]
mod tests {
    use proto::codec;

    use super::*;

    /// As descriptors were before tables could have wishes.
    #[derive(Encode, Decode)]
    struct Without {
        #[n(0)]
        id: u64,
        #[n(1)]
        name: String,
        #[n(2)]
        version: u64,
        #[n(3)]
        columns: Vec<Column>,
        #[n(4)]
        primary_key: Vec<u32>,
        #[n(5)]
        primary_key_name: String,
    }

    #[test]
    fn a_descriptor_from_before_wishes_is_read_and_one_without_is_written_as_then() {
        let old = Without {
            id: 100,
            name: "t".into(),
            version: 1,
            columns: Vec::new(),
            primary_key: vec![1],
            primary_key_name: "t_pkey".into(),
        };
        let bytes = codec::encode(&old);
        let read: TableDescriptor = codec::decode("a table descriptor", &bytes).unwrap();
        assert_eq!((read.id, &read.placement), (100, &None));
        assert_eq!(codec::encode(&read), bytes);
        let placed = TableDescriptor { placement: "replicas = 5".parse().ok(), ..read };
        let read: Without = codec::decode("a table descriptor", &codec::encode(&placed)).unwrap();
        assert_eq!(read.primary_key_name, "t_pkey");
    }
}
