//! SQL values and their types.
//!
//! A [`Datum`] is one value as the executor, the wire and the driver handle it; a [`DataType`] is what a column, a
//! parameter or an expression is declared to be. [`text`] holds PostgreSQL's text format of each type, which the
//! simple protocol, the shell, the driver and `CAST` share; [`calendar`] and [`decimal`] hold the
//! arithmetic behind dates and exact numbers.
//!
//! What is missing: `NaN` and infinities of `NUMERIC`, infinite dates, time zones other than UTC.

pub mod calendar;
pub mod decimal;
pub mod text;

use std::cmp::Ordering;
use std::fmt;

use bigdecimal::BigDecimal;
use minicbor::{Decode, Encode};

pub use text::InputError;

/// The type of a column, a parameter or an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum DataType {
    /// A string literal, a `NULL` or a parameter before its context has given it a type. Never stored.
    #[n(0)]
    Unknown,
    #[n(1)]
    Bool,
    #[n(2)]
    Int2,
    #[n(3)]
    Int4,
    #[n(4)]
    Int8,
    #[n(5)]
    Float8,
    /// `NUMERIC`, `NUMERIC(precision)` (scale 0) or `NUMERIC(precision, scale)`, counted in decimal digits.
    #[n(6)]
    Numeric {
        #[n(0)]
        precision: Option<u16>,
        #[n(1)]
        scale: Option<u16>,
    },
    #[n(7)]
    Text,
    /// `VARCHAR` or `VARCHAR(n)`, counted in characters.
    #[n(8)]
    Varchar(#[n(0)] Option<u32>),
    #[n(9)]
    Bytea,
    #[n(10)]
    TimestampTz,
    #[n(11)]
    Date,
    #[n(12)]
    Uuid,
}

impl DataType {
    /// `NUMERIC` without declared precision.
    pub const NUMERIC: DataType = DataType::Numeric { precision: None, scale: None };

    /// The type without its modifiers: any two `NUMERIC`s are one, and `VARCHAR` is `TEXT`, whose values it shares.
    pub fn base(self) -> DataType {
        match self {
            DataType::Numeric { .. } => DataType::NUMERIC,
            DataType::Varchar(_) => DataType::Text,
            other => other,
        }
    }

    /// The name as PostgreSQL's messages spell it, without modifiers.
    pub fn name(self) -> &'static str {
        match self {
            DataType::Unknown => "unknown",
            DataType::Bool => "boolean",
            DataType::Int2 => "smallint",
            DataType::Int4 => "integer",
            DataType::Int8 => "bigint",
            DataType::Float8 => "double precision",
            DataType::Numeric { .. } => "numeric",
            DataType::Text => "text",
            DataType::Varchar(_) => "character varying",
            DataType::Bytea => "bytea",
            DataType::TimestampTz => "timestamp with time zone",
            DataType::Date => "date",
            DataType::Uuid => "uuid",
        }
    }

    /// PostgreSQL's object id of the type, as its wire protocol carries it.
    pub fn oid(self) -> u32 {
        match self {
            DataType::Unknown => 705,
            DataType::Bool => 16,
            DataType::Int2 => 21,
            DataType::Int4 => 23,
            DataType::Int8 => 20,
            DataType::Float8 => 701,
            DataType::Numeric { .. } => 1700,
            DataType::Text => 25,
            DataType::Varchar(_) => 1043,
            DataType::Bytea => 17,
            DataType::TimestampTz => 1184,
            DataType::Date => 1082,
            DataType::Uuid => 2950,
        }
    }

    /// The type with a PostgreSQL object id, without modifiers; `None` for 0 and for types that do not exist here.
    pub fn from_oid(oid: u32) -> Option<DataType> {
        const ALL: [DataType; 12] = [
            DataType::Bool,
            DataType::Int2,
            DataType::Int4,
            DataType::Int8,
            DataType::Float8,
            DataType::NUMERIC,
            DataType::Text,
            DataType::Varchar(None),
            DataType::Bytea,
            DataType::TimestampTz,
            DataType::Date,
            DataType::Uuid,
        ];
        ALL.into_iter().find(|t| t.oid() == oid)
    }

    /// `pg_type.typlen`: the size of fixed-size types, -1 for the others.
    pub fn type_len(self) -> i16 {
        match self {
            DataType::Bool => 1,
            DataType::Int2 => 2,
            DataType::Int4 | DataType::Date => 4,
            DataType::Int8 | DataType::Float8 | DataType::TimestampTz => 8,
            DataType::Uuid => 16,
            DataType::Unknown => -2,
            DataType::Numeric { .. } | DataType::Text | DataType::Varchar(_) | DataType::Bytea => -1,
        }
    }

    /// `pg_attribute.atttypmod`: PostgreSQL's packing of length, or of precision and scale; -1 without.
    pub fn type_modifier(self) -> i32 {
        match self {
            DataType::Varchar(Some(length)) => i32::try_from(length).map_or(-1, |n| n.saturating_add(4)),
            DataType::Numeric { precision: Some(p), scale } => {
                ((i32::from(p) << 16) | i32::from(scale.unwrap_or(0))) + 4
            }
            _ => -1,
        }
    }
}

impl fmt::Display for DataType {
    /// The name with modifiers: `numeric(10,2)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            DataType::Varchar(Some(length)) => write!(f, "({length})"),
            DataType::Numeric { precision: Some(p), scale } => write!(f, "({p},{})", scale.unwrap_or(0)),
            _ => Ok(()),
        }
    }
}

/// A SQL value.
///
/// `PartialEq` is identity of values of one type, as tests and caches need it; SQL comparison, with its
/// promotions and its NULL, is the executor's.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum Datum {
    #[n(0)]
    Null,
    #[n(1)]
    Bool(#[n(0)] bool),
    #[n(2)]
    Int2(#[n(0)] i16),
    #[n(3)]
    Int4(#[n(0)] i32),
    #[n(4)]
    Int8(#[n(0)] i64),
    #[n(5)]
    Float8(#[n(0)] f64),
    /// The scale of the decimal is its display scale and never negative.
    #[n(6)]
    Numeric(#[cbor(n(0), encode_with = "decimal::encode", decode_with = "decimal::decode")] BigDecimal),
    #[n(7)]
    Text(#[n(0)] String),
    #[n(8)]
    Bytea(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    /// Microseconds since the Unix epoch, UTC.
    #[n(9)]
    TimestampTz(#[n(0)] i64),
    /// Days since the Unix epoch.
    #[n(10)]
    Date(#[n(0)] i32),
    #[n(11)]
    Uuid(#[cbor(n(0), encode_with = "encode_u128", decode_with = "decode_u128")] u128),
}

impl Datum {
    pub fn is_null(&self) -> bool {
        matches!(self, Datum::Null)
    }

    /// The type of the value, without modifiers; `Unknown` for NULL.
    pub fn data_type(&self) -> DataType {
        match self {
            Datum::Null => DataType::Unknown,
            Datum::Bool(_) => DataType::Bool,
            Datum::Int2(_) => DataType::Int2,
            Datum::Int4(_) => DataType::Int4,
            Datum::Int8(_) => DataType::Int8,
            Datum::Float8(_) => DataType::Float8,
            Datum::Numeric(_) => DataType::NUMERIC,
            Datum::Text(_) => DataType::Text,
            Datum::Bytea(_) => DataType::Bytea,
            Datum::TimestampTz(_) => DataType::TimestampTz,
            Datum::Date(_) => DataType::Date,
            Datum::Uuid(_) => DataType::Uuid,
        }
    }

    /// The value of an integer of any width.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Datum::Int2(v) => Some(i64::from(*v)),
            Datum::Int4(v) => Some(i64::from(*v)),
            Datum::Int8(v) => Some(*v),
            _ => None,
        }
    }

    /// About how many bytes of memory the value takes, for limits.
    pub fn memory(&self) -> usize {
        let heap = match self {
            Datum::Text(s) => s.len(),
            Datum::Bytea(b) => b.len(),
            Datum::Numeric(d) => usize::try_from(d.digits()).unwrap_or(usize::MAX / 4) / 2,
            _ => 0,
        };
        std::mem::size_of::<Datum>() + heap
    }

    /// The order in which values of one type sort: text and bytes bytewise, integers of all widths by value,
    /// `NaN` after all numbers and equal to itself, -0 equal to 0, NULL last.
    ///
    /// Values of different types, which no bound expression compares, sort by type.
    pub fn sort_order(&self, other: &Datum) -> Ordering {
        match (self, other) {
            (Datum::Null, Datum::Null) => Ordering::Equal,
            (Datum::Null, _) => Ordering::Greater,
            (_, Datum::Null) => Ordering::Less,
            (Datum::Bool(a), Datum::Bool(b)) => a.cmp(b),
            (Datum::Float8(a), Datum::Float8(b)) => compare_floats(*a, *b),
            (Datum::Numeric(a), Datum::Numeric(b)) => a.cmp(b),
            (Datum::Text(a), Datum::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Datum::Bytea(a), Datum::Bytea(b)) => a.cmp(b),
            (Datum::TimestampTz(a), Datum::TimestampTz(b)) => a.cmp(b),
            (Datum::Date(a), Datum::Date(b)) => a.cmp(b),
            (Datum::Uuid(a), Datum::Uuid(b)) => a.cmp(b),
            (a, b) => match (a.as_int(), b.as_int()) {
                (Some(a), Some(b)) => a.cmp(&b),
                _ => a.data_type().cmp(&b.data_type()),
            },
        }
    }

    /// PostgreSQL's text format; `None` for NULL.
    pub fn to_text(&self) -> Option<String> {
        if self.is_null() {
            return None;
        }
        let mut out = String::new();
        text::write_text(self, &mut out);
        Some(out)
    }

    /// Reads PostgreSQL's text format of a type.
    ///
    /// # Errors
    /// [`InputError`], with PostgreSQL's SQLSTATE and message.
    pub fn parse_text(data_type: DataType, input: &str) -> Result<Datum, InputError> {
        text::parse_text(data_type, input)
    }
}

impl fmt::Display for Datum {
    /// The text format, and `NULL`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_text() {
            Some(text) => f.write_str(&text),
            None => f.write_str("NULL"),
        }
    }
}

/// PostgreSQL's order of `FLOAT8`.
pub fn compare_floats(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

fn encode_u128<C, W: minicbor::encode::Write>(
    value: &u128,
    e: &mut minicbor::Encoder<W>,
    _: &mut C,
) -> Result<(), minicbor::encode::Error<W::Error>> {
    e.bytes(&value.to_be_bytes())?.ok()
}

fn decode_u128<'b, C>(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<u128, minicbor::decode::Error> {
    let bytes: [u8; 16] = d.bytes()?.try_into().map_err(|_| minicbor::decode::Error::message("a uuid has 16 bytes"))?;
    Ok(u128::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Any value that a column can hold.
    fn datum() -> impl Strategy<Value = Datum> {
        prop_oneof![
            Just(Datum::Null),
            any::<bool>().prop_map(Datum::Bool),
            any::<i16>().prop_map(Datum::Int2),
            any::<i32>().prop_map(Datum::Int4),
            any::<i64>().prop_map(Datum::Int8),
            any::<f64>().prop_map(Datum::Float8),
            (any::<i128>(), 0i64..40).prop_map(|(v, s)| Datum::Numeric(BigDecimal::new(v.into(), s))),
            any::<String>().prop_map(Datum::Text),
            any::<Vec<u8>>().prop_map(Datum::Bytea),
            (calendar::MICROS_MIN..calendar::MICROS_MAX).prop_map(Datum::TimestampTz),
            (calendar::DAYS_MIN..calendar::DAYS_MAX).prop_map(Datum::Date),
            any::<u128>().prop_map(Datum::Uuid),
        ]
    }

    proptest! {
        #[test]
        fn cbor_brings_a_value_back(value in datum()) {
            let bytes = crate::codec::encode(&value);
            let back: Datum = crate::codec::decode("datum", &bytes).unwrap();
            prop_assert_eq!(back.sort_order(&value), Ordering::Equal);
            prop_assert_eq!(back.to_text(), value.to_text());
        }

        #[test]
        fn text_brings_a_value_back(value in datum()) {
            if let Some(text) = value.to_text() {
                let back = Datum::parse_text(value.data_type(), &text).unwrap();
                prop_assert_eq!(back.sort_order(&value), Ordering::Equal);
                prop_assert_eq!(back.to_text().unwrap(), text);
            }
        }

        #[test]
        fn no_input_makes_parsing_panic(text in ".{0,40}") {
            for data_type in [DataType::Bool, DataType::Int2, DataType::Float8, DataType::NUMERIC, DataType::Bytea,
                DataType::TimestampTz, DataType::Date, DataType::Uuid]
            {
                let _ = Datum::parse_text(data_type, &text);
            }
        }

        #[test]
        fn no_date_like_input_makes_parsing_panic(text in "[-+0-9: TZBCe.]{0,40}") {
            for data_type in [DataType::NUMERIC, DataType::Float8, DataType::TimestampTz, DataType::Date] {
                let _ = Datum::parse_text(data_type, &text);
            }
        }
    }

    #[test]
    fn object_ids_name_their_types() {
        assert_eq!(DataType::from_oid(1700), Some(DataType::NUMERIC));
        assert_eq!(DataType::from_oid(0), None);
        assert_eq!(DataType::Numeric { precision: Some(10), scale: Some(2) }.type_modifier(), 655366);
        assert_eq!(DataType::Varchar(Some(20)).type_modifier(), 24);
    }
}
