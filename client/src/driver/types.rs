//! SQL types and result columns.

use std::fmt;

use proto::v1;

/// A SQL type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataType {
    /// A parameter whose type the statement does not determine, or a type newer than this driver.
    Unknown,
    Bool,
    Int2,
    Int4,
    Int8,
    Float8,
    /// Declared digits in all, and after the point.
    Numeric(Option<(u32, i32)>),
    Text,
    /// Declared length in characters.
    Varchar(Option<u32>),
    Bytea,
    TimestampTz,
    Date,
    Uuid,
}

impl DataType {
    /// Whether a column of it is set flush right in a table.
    pub fn is_numeric(self) -> bool {
        use DataType::*;
        matches!(self, Int2 | Int4 | Int8 | Float8 | Numeric(_))
    }

    pub(super) fn from_wire(wire: Option<v1::Type>) -> DataType {
        use v1::TypeKind;
        let wire = wire.unwrap_or_default();
        match wire.kind() {
            TypeKind::Unspecified => DataType::Unknown,
            TypeKind::Bool => DataType::Bool,
            TypeKind::Int2 => DataType::Int2,
            TypeKind::Int4 => DataType::Int4,
            TypeKind::Int8 => DataType::Int8,
            TypeKind::Float8 => DataType::Float8,
            TypeKind::Numeric => DataType::Numeric(wire.precision.map(|p| (p, wire.scale.unwrap_or(0)))),
            TypeKind::Text => DataType::Text,
            TypeKind::Varchar => DataType::Varchar(wire.length),
            TypeKind::Bytea => DataType::Bytea,
            TypeKind::Timestamptz => DataType::TimestampTz,
            TypeKind::Date => DataType::Date,
            TypeKind::Uuid => DataType::Uuid,
        }
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataType::Unknown => f.write_str("unknown"),
            DataType::Bool => f.write_str("boolean"),
            DataType::Int2 => f.write_str("smallint"),
            DataType::Int4 => f.write_str("integer"),
            DataType::Int8 => f.write_str("bigint"),
            DataType::Float8 => f.write_str("double precision"),
            DataType::Numeric(None) => f.write_str("numeric"),
            DataType::Numeric(Some((precision, scale))) => write!(f, "numeric({precision},{scale})"),
            DataType::Text => f.write_str("text"),
            DataType::Varchar(None) => f.write_str("character varying"),
            DataType::Varchar(Some(length)) => write!(f, "character varying({length})"),
            DataType::Bytea => f.write_str("bytea"),
            DataType::TimestampTz => f.write_str("timestamp with time zone"),
            DataType::Date => f.write_str("date"),
            DataType::Uuid => f.write_str("uuid"),
        }
    }
}

/// A column of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub data_type: DataType,
}

impl Column {
    pub(super) fn from_wire(wire: v1::Column) -> Column {
        Column { name: wire.name, data_type: DataType::from_wire(wire.r#type) }
    }
}
