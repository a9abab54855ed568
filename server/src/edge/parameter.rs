//! A client's value as the type that the statement wants.
//!
//! Clients choose the type of a parameter by their own lights: a driver sends every integer as an `INT8`, another one
//! chooses the width by the value, a shell sends text. As long as nothing is lost, all of that is taken.

use bigdecimal::{BigDecimal, ToPrimitive};
use proto::{DataType, Datum};

use crate::sql::Error;
use crate::sql::error::state;

/// The value of parameter `number`, counted from 1, as a value of `wanted`.
///
/// # Errors
/// `42804` when the types have nothing to do with each other; what reading the text form says, or `22003`, when the
/// value is not one of the wanted type's.
pub fn coerce(value: Datum, wanted: DataType, number: usize) -> Result<Datum, Error> {
    let given = value.data_type();
    if value.is_null() || wanted == DataType::Unknown || given.base() == wanted.base() {
        return Ok(value);
    }
    let converted = match (&value, wanted.base()) {
        (Datum::Text(text), _) => Some(Datum::parse_text(wanted.base(), text).map_err(Error::from)?),
        (Datum::Int2(_) | Datum::Int4(_) | Datum::Int8(_), _) => from_int(value.as_int().unwrap_or(0), wanted, number)?,
        (Datum::Float8(x), DataType::Numeric { .. }) => Some(Datum::parse_text(DataType::NUMERIC, &x.to_string())?),
        (Datum::Numeric(n), DataType::Float8) => n.to_f64().map(Datum::Float8),
        (Datum::Numeric(n), _) if n.is_integer() => match n.to_i64() {
            Some(i) => from_int(i, wanted, number)?,
            None => return Err(out_of_range(&value, wanted, number)),
        },
        _ => None,
    };
    converted.ok_or_else(|| {
        let message = format!("parameter ${number} is of type {given}, but the statement wants {wanted}");
        Error::new(state::DATATYPE_MISMATCH, message).hint("Send a value of that type, or its text form.")
    })
}

fn from_int(i: i64, wanted: DataType, number: usize) -> Result<Option<Datum>, Error> {
    let too_big = |_| out_of_range(&Datum::Int8(i), wanted, number);
    Ok(match wanted {
        DataType::Int2 => Some(Datum::Int2(i.try_into().map_err(too_big)?)),
        DataType::Int4 => Some(Datum::Int4(i.try_into().map_err(too_big)?)),
        DataType::Int8 => Some(Datum::Int8(i)),
        DataType::Numeric { .. } => Some(Datum::Numeric(BigDecimal::from(i))),
        DataType::Float8 => Some(Datum::Float8(i as f64)),
        _ => None,
    })
}

fn out_of_range(value: &Datum, wanted: DataType, number: usize) -> Error {
    Error::new(state::OUT_OF_RANGE, format!("parameter ${number}, {value}, is out of range for type {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_texts_become_what_the_statement_wants() {
        let numeric = |text: &str| Datum::Numeric(text.parse().unwrap());
        for (given, wanted, expected) in [
            (Datum::Int8(5), DataType::Int2, Datum::Int2(5)),
            (Datum::Int2(5), DataType::Int8, Datum::Int8(5)),
            (Datum::Int8(5), DataType::NUMERIC, numeric("5")),
            (Datum::Int8(5), DataType::Float8, Datum::Float8(5.0)),
            (Datum::Float8(0.1), DataType::NUMERIC, numeric("0.1")),
            (numeric("7.00"), DataType::Int4, Datum::Int4(7)),
            (Datum::Text("2024-02-29".into()), DataType::Date, Datum::Date(19_782)),
            (Datum::Text("x".into()), DataType::Varchar(Some(3)), Datum::Text("x".into())),
            (Datum::Null, DataType::Uuid, Datum::Null),
            (Datum::Bool(true), DataType::Unknown, Datum::Bool(true)),
        ] {
            assert_eq!(coerce(given, wanted, 1).unwrap(), expected);
        }
    }

    #[test]
    fn what_would_lose_something_is_refused() {
        for (given, wanted, sqlstate) in [
            (Datum::Int8(70_000), DataType::Int2, "22003"),
            (Datum::Numeric("7.5".parse().unwrap()), DataType::Int4, "42804"),
            (Datum::Text("many".into()), DataType::Int4, "22P02"),
            (Datum::Bool(true), DataType::Int4, "42804"),
            (Datum::Int8(1), DataType::Text, "42804"),
        ] {
            assert_eq!(coerce(given, wanted, 1).unwrap_err().sqlstate, sqlstate);
        }
    }
}
