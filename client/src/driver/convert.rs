//! From SQL values to Rust's and back.

use bigdecimal::BigDecimal;
use chrono::{DateTime, NaiveDate, Utc};
use uuid::Uuid;

use super::Value;
use super::error::{Error, Result};

/// A Rust type that a SQL value can be read as.
pub trait FromValue: Sized {
    /// # Errors
    /// When the value is of another kind, or out of this type's range.
    fn from_value(value: &Value) -> Result<Self>;
}

/// A Rust type that can be a statement's parameter.
pub trait ToValue: Sync {
    fn to_value(&self) -> Value;
}

fn mismatch<T>(wanted: &str, value: &Value) -> Result<T> {
    let hint = if value.is_null() { "Read a column that may be NULL as an Option." } else { "" };
    Err(Error::conversion(format!("expected {wanted}, got {}", value.kind_name())).with_hint(hint))
}

macro_rules! integer {
    ($type:ty, $wanted:literal) => {
        impl FromValue for $type {
            fn from_value(value: &Value) -> Result<$type> {
                match value {
                    Value::Int(i) => <$type>::try_from(*i)
                        .map_err(|_| Error::conversion(format!(concat!("{} does not fit into ", $wanted), i))),
                    other => mismatch($wanted, other),
                }
            }
        }

        impl ToValue for $type {
            fn to_value(&self) -> Value {
                Value::Int(i64::from(*self))
            }
        }
    };
}

integer!(i16, "a 16-bit integer");
integer!(i32, "a 32-bit integer");
integer!(i64, "a 64-bit integer");

macro_rules! same_kind {
    ($type:ty, $kind:ident, $wanted:literal) => {
        impl FromValue for $type {
            fn from_value(value: &Value) -> Result<$type> {
                match value {
                    Value::$kind(inner) => Ok(inner.clone()),
                    other => mismatch($wanted, other),
                }
            }
        }

        impl ToValue for $type {
            fn to_value(&self) -> Value {
                Value::$kind(self.clone())
            }
        }
    };
}

same_kind!(bool, Bool, "a boolean");
same_kind!(String, Text, "text");
same_kind!(Vec<u8>, Bytes, "bytes");
same_kind!(Uuid, Uuid, "a UUID");

impl FromValue for f64 {
    fn from_value(value: &Value) -> Result<f64> {
        match value {
            Value::Float(x) => Ok(*x),
            other => mismatch("a double precision number", other),
        }
    }
}

impl ToValue for f64 {
    fn to_value(&self) -> Value {
        Value::Float(*self)
    }
}

impl FromValue for BigDecimal {
    /// Integers are exact as decimals, so they are read too.
    fn from_value(value: &Value) -> Result<BigDecimal> {
        match value {
            Value::Numeric(n) => Ok(n.clone()),
            Value::Int(i) => Ok(BigDecimal::from(*i)),
            other => mismatch("a numeric number", other),
        }
    }
}

impl ToValue for BigDecimal {
    fn to_value(&self) -> Value {
        Value::Numeric(self.clone())
    }
}

impl FromValue for DateTime<Utc> {
    fn from_value(value: &Value) -> Result<DateTime<Utc>> {
        match value {
            Value::TimestampTz(micros) => DateTime::from_timestamp_micros(*micros)
                .ok_or_else(|| Error::conversion(format!("the timestamp {value} is out of range"))),
            other => mismatch("a timestamp", other),
        }
    }
}

impl ToValue for DateTime<Utc> {
    /// Rounded down to microseconds.
    fn to_value(&self) -> Value {
        Value::TimestampTz(self.timestamp_micros())
    }
}

impl FromValue for NaiveDate {
    fn from_value(value: &Value) -> Result<NaiveDate> {
        match value {
            Value::Date(days) => NaiveDate::from_epoch_days(*days)
                .ok_or_else(|| Error::conversion(format!("the date {value} is out of range"))),
            other => mismatch("a date", other),
        }
    }
}

impl ToValue for NaiveDate {
    fn to_value(&self) -> Value {
        Value::Date(self.to_epoch_days())
    }
}

impl ToValue for str {
    fn to_value(&self) -> Value {
        Value::Text(self.to_string())
    }
}

impl ToValue for [u8] {
    fn to_value(&self) -> Value {
        Value::Bytes(self.to_vec())
    }
}

impl<T: ToValue + ?Sized> ToValue for &T {
    fn to_value(&self) -> Value {
        (**self).to_value()
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: &Value) -> Result<Option<T>> {
        if value.is_null() { Ok(None) } else { T::from_value(value).map(Some) }
    }
}

impl<T: ToValue> ToValue for Option<T> {
    fn to_value(&self) -> Value {
        self.as_ref().map_or(Value::Null, T::to_value)
    }
}

impl FromValue for Value {
    fn from_value(value: &Value) -> Result<Value> {
        Ok(value.clone())
    }
}

impl ToValue for Value {
    fn to_value(&self) -> Value {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip<T: FromValue + ToValue + PartialEq + std::fmt::Debug>(value: T) {
        assert_eq!(T::from_value(&value.to_value()).unwrap(), value);
    }

    #[test]
    fn rust_values_come_back_as_they_went() {
        round_trip(true);
        round_trip(i16::MIN);
        round_trip(i32::MAX);
        round_trip(i64::MIN);
        round_trip(1.5f64);
        round_trip("text".to_string());
        round_trip(vec![1u8, 2]);
        round_trip(Uuid::from_u128(3));
        round_trip("1.20".parse::<BigDecimal>().unwrap());
        round_trip(DateTime::from_timestamp_micros(1_234_567).unwrap());
        round_trip(NaiveDate::from_ymd_opt(1969, 7, 20).unwrap());
        round_trip(Some(5i64));
        round_trip(None::<String>);
    }

    #[test]
    fn a_value_of_another_kind_is_an_error_that_says_so() {
        let error = i16::from_value(&Value::Int(40_000)).unwrap_err();
        assert_eq!(error.message(), "40000 does not fit into a 16-bit integer");
        let error = i64::from_value(&Value::Null).unwrap_err();
        assert_eq!(error.message(), "expected a 64-bit integer, got NULL");
        assert!(error.hint().unwrap().contains("Option"));
        assert!(String::from_value(&Value::Int(1)).is_err());
    }
}
