//! SQL values as the driver holds them, and their form on the wire.

use bigdecimal::BigDecimal;
use proto::v1;
use proto::v1::value::Kind;
use uuid::Uuid;

use super::error::{Error, Result};

/// One SQL value. [`std::fmt::Display`] writes it as PostgreSQL does, NULL as nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    /// Any of the integer types.
    Int(i64),
    Float(f64),
    Numeric(BigDecimal),
    Text(String),
    Bytes(Vec<u8>),
    /// Microseconds since 1970-01-01 00:00:00 UTC.
    TimestampTz(i64),
    /// Days since 1970-01-01.
    Date(i32),
    Uuid(Uuid),
}

impl Value {
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// The kind of value, for messages.
    pub(super) fn kind_name(&self) -> &'static str {
        match self {
            Value::Null => "NULL",
            Value::Bool(_) => "a boolean",
            Value::Int(_) => "an integer",
            Value::Float(_) => "a double precision number",
            Value::Numeric(_) => "a numeric number",
            Value::Text(_) => "text",
            Value::Bytes(_) => "bytes",
            Value::TimestampTz(_) => "a timestamp",
            Value::Date(_) => "a date",
            Value::Uuid(_) => "a UUID",
        }
    }

    pub(super) fn from_wire(wire: v1::Value) -> Result<Value> {
        Ok(match wire.kind {
            None | Some(Kind::Null(_)) => Value::Null,
            Some(Kind::Bool(b)) => Value::Bool(b),
            Some(Kind::Int64(i)) => Value::Int(i),
            Some(Kind::Float8(f)) => Value::Float(f),
            Some(Kind::Numeric(text)) => Value::Numeric(
                text.parse().map_err(|e| Error::protocol(format!("the server sent {text:?} as a number: {e}")))?,
            ),
            Some(Kind::Text(text)) => Value::Text(text),
            Some(Kind::Bytes(bytes)) => Value::Bytes(bytes),
            Some(Kind::TimestamptzUs(micros)) => Value::TimestampTz(micros),
            Some(Kind::DateDays(days)) => Value::Date(days),
            Some(Kind::Uuid(bytes)) => Value::Uuid(
                Uuid::from_slice(&bytes).map_err(|e| Error::protocol(format!("the server sent a broken UUID: {e}")))?,
            ),
        })
    }

    pub(super) fn into_wire(self) -> v1::Value {
        let kind = match self {
            Value::Null => return v1::Value::default(),
            Value::Bool(b) => Kind::Bool(b),
            Value::Int(i) => Kind::Int64(i),
            Value::Float(f) => Kind::Float8(f),
            Value::Numeric(n) => Kind::Numeric(n.to_plain_string()),
            Value::Text(text) => Kind::Text(text),
            Value::Bytes(bytes) => Kind::Bytes(bytes),
            Value::TimestampTz(micros) => Kind::TimestamptzUs(micros),
            Value::Date(days) => Kind::DateDays(days),
            Value::Uuid(uuid) => Kind::Uuid(uuid.as_bytes().to_vec()),
        };
        v1::Value { kind: Some(kind) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_from_the_wire_as_they_went() {
        let values = [
            Value::Null,
            Value::Bool(true),
            Value::Int(i64::MIN),
            Value::Float(-0.5),
            Value::Numeric("12345678901234567890.00100".parse().unwrap()),
            Value::Text("Zoë".into()),
            Value::Bytes(vec![0, 255]),
            Value::TimestampTz(-1),
            Value::Date(i32::MAX),
            Value::Uuid(Uuid::from_u128(7)),
        ];
        for value in values {
            assert_eq!(Value::from_wire(value.clone().into_wire()).unwrap(), value);
        }
    }
}
