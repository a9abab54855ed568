//! Values and types between our own words and those of the API.

use proto::v1;
use proto::v1::TypeKind;
use proto::v1::value::Kind;
use proto::{DataType, Datum};

use crate::edge::parameter::coerce;
use crate::sql::Error;
use crate::sql::error::state;

pub fn value(datum: Datum) -> v1::Value {
    let kind = match datum {
        Datum::Null => return v1::Value::default(),
        Datum::Bool(b) => Kind::Bool(b),
        Datum::Int2(i) => Kind::Int64(i.into()),
        Datum::Int4(i) => Kind::Int64(i.into()),
        Datum::Int8(i) => Kind::Int64(i),
        Datum::Float8(x) => Kind::Float8(x),
        Datum::Numeric(_) => Kind::Numeric(datum.to_string()),
        Datum::Text(text) => Kind::Text(text),
        Datum::Bytea(bytes) => Kind::Bytes(bytes),
        Datum::TimestampTz(micros) => Kind::TimestamptzUs(micros),
        Datum::Date(days) => Kind::DateDays(days),
        Datum::Uuid(uuid) => Kind::Uuid(uuid.to_be_bytes().to_vec()),
    };
    v1::Value { kind: Some(kind) }
}

/// A client's value in its own type.
///
/// # Errors
/// `22P02` and the like when it is not a value of the type it claims to be.
pub fn datum(value: v1::Value) -> Result<Datum, Error> {
    Ok(match value.kind {
        None | Some(Kind::Null(_)) => Datum::Null,
        Some(Kind::Bool(b)) => Datum::Bool(b),
        Some(Kind::Int64(i)) => Datum::Int8(i),
        Some(Kind::Float8(x)) => Datum::Float8(x),
        Some(Kind::Numeric(text)) => Datum::parse_text(DataType::NUMERIC, &text)?,
        Some(Kind::Text(text)) => Datum::Text(text),
        Some(Kind::Bytes(bytes)) => Datum::Bytea(bytes),
        Some(Kind::TimestamptzUs(micros)) => Datum::TimestampTz(micros),
        Some(Kind::DateDays(days)) => Datum::Date(days),
        Some(Kind::Uuid(bytes)) => {
            let bytes: [u8; 16] = bytes.try_into().map_err(|bytes: Vec<u8>| {
                Error::new(state::INVALID_TEXT, format!("a UUID has 16 bytes, not {}", bytes.len()))
            })?;
            Datum::Uuid(u128::from_be_bytes(bytes))
        }
    })
}

/// A statement's parameters as the types that it wants.
///
/// # Errors
/// `08P01` when their number is another one; else as [`coerce`].
pub fn parameters(values: Vec<v1::Value>, wanted: &[DataType]) -> Result<Vec<Datum>, Error> {
    if values.len() != wanted.len() {
        let message = format!("the statement has {} parameters, but {} were given", wanted.len(), values.len());
        return Err(Error::new("08P01", message));
    }
    let one = |(index, (value, &wanted)): (usize, (v1::Value, &DataType))| coerce(datum(value)?, wanted, index + 1);
    values.into_iter().zip(wanted).enumerate().map(one).collect()
}

pub fn data_type(data_type: DataType) -> v1::Type {
    let kind = match data_type {
        DataType::Unknown => TypeKind::Unspecified,
        DataType::Bool => TypeKind::Bool,
        DataType::Int2 => TypeKind::Int2,
        DataType::Int4 => TypeKind::Int4,
        DataType::Int8 => TypeKind::Int8,
        DataType::Float8 => TypeKind::Float8,
        DataType::Numeric { .. } => TypeKind::Numeric,
        DataType::Text => TypeKind::Text,
        DataType::Varchar(_) => TypeKind::Varchar,
        DataType::Bytea => TypeKind::Bytea,
        DataType::TimestampTz => TypeKind::Timestamptz,
        DataType::Date => TypeKind::Date,
        DataType::Uuid => TypeKind::Uuid,
    };
    let (precision, scale) = match data_type {
        DataType::Numeric { precision, scale } => (precision.map(u32::from), scale.map(i32::from)),
        _ => (None, None),
    };
    let length = if let DataType::Varchar(length) = data_type { length } else { None };
    v1::Type { kind: kind.into(), precision, scale, length }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_as_they_went_but_for_the_width_of_integers() {
        for original in [
            Datum::Null,
            Datum::Bool(false),
            Datum::Int2(-7),
            Datum::Int8(i64::MAX),
            Datum::Float8(0.25),
            Datum::Numeric("1.500".parse().unwrap()),
            Datum::Text("Zoë".into()),
            Datum::Bytea(vec![0, 1]),
            Datum::TimestampTz(-1),
            Datum::Date(12),
            Datum::Uuid(42),
        ] {
            let wanted = original.data_type();
            let back = parameters(vec![value(original.clone())], &[wanted]).unwrap();
            assert_eq!(back, [original]);
        }
    }

    #[test]
    fn the_number_of_parameters_must_be_right() {
        assert_eq!(parameters(vec![], &[DataType::Int8]).unwrap_err().sqlstate, "08P01");
        let broken = v1::Value { kind: Some(Kind::Uuid(vec![1])) };
        assert_eq!(parameters(vec![broken], &[DataType::Uuid]).unwrap_err().sqlstate, "22P02");
    }
}
