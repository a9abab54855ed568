//! Values in PostgreSQL's text form, for people and for scripts that compare.

use std::fmt;

use chrono::{DateTime, Datelike, NaiveDate, Timelike};

use super::Value;

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => Ok(()),
            Value::Bool(b) => f.write_str(if *b { "t" } else { "f" }),
            Value::Int(i) => write!(f, "{i}"),
            Value::Float(x) => float(f, *x),
            Value::Numeric(n) => f.write_str(&n.to_plain_string()),
            Value::Text(text) => f.write_str(text),
            Value::Bytes(bytes) => {
                f.write_str("\\x")?;
                bytes.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
            Value::TimestampTz(micros) => timestamp(f, *micros),
            Value::Date(days) => date(f, *days),
            Value::Uuid(uuid) => write!(f, "{uuid}"),
        }
    }
}

/// The shortest digits that read back as the same number; with an exponent below 1e-4 and from 1e15.
fn float(f: &mut fmt::Formatter<'_>, x: f64) -> fmt::Result {
    if x.is_nan() {
        return f.write_str("NaN");
    }
    if x.is_infinite() {
        return f.write_str(if x > 0.0 { "Infinity" } else { "-Infinity" });
    }
    let scientific = format!("{x:e}");
    let (digits, exponent) = scientific.split_once('e').expect("`{:e}` always writes an exponent");
    let exponent: i32 = exponent.parse().expect("`{:e}` writes a small integer as its exponent");
    if (-4..15).contains(&exponent) {
        return write!(f, "{x}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    write!(f, "{digits}e{sign}{:02}", exponent.abs())
}

fn timestamp(f: &mut fmt::Formatter<'_>, micros: i64) -> fmt::Result {
    match micros {
        i64::MAX => return f.write_str("infinity"),
        i64::MIN => return f.write_str("-infinity"),
        _ => {}
    }
    let Some(at) = DateTime::from_timestamp_micros(micros) else {
        return write!(f, "{micros} microseconds from 1970");
    };
    let at = at.naive_utc();
    let (year, era) = year_and_era(at.year());
    write!(f, "{year:04}-{:02}-{:02} {:02}:{:02}:{:02}", at.month(), at.day(), at.hour(), at.minute(), at.second())?;
    let fraction = at.nanosecond() / 1000;
    if fraction > 0 {
        write!(f, ".{}", format!("{fraction:06}").trim_end_matches('0'))?;
    }
    write!(f, "+00{era}")
}

fn date(f: &mut fmt::Formatter<'_>, days: i32) -> fmt::Result {
    match days {
        i32::MAX => return f.write_str("infinity"),
        i32::MIN => return f.write_str("-infinity"),
        _ => {}
    }
    let Some(date) = NaiveDate::from_epoch_days(days) else {
        return write!(f, "{days} days from 1970");
    };
    let (year, era) = year_and_era(date.year());
    write!(f, "{year:04}-{:02}-{:02}{era}", date.month(), date.day())
}

/// The year before 1 AD is 1 BC, not 0.
fn year_and_era(year: i32) -> (i32, &'static str) {
    if year > 0 { (year, "") } else { (1 - year, " BC") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_as_in_postgresql() {
        let cases = [
            (Value::Null, ""),
            (Value::Bool(true), "t"),
            (Value::Int(-5), "-5"),
            (Value::Float(0.1), "0.1"),
            (Value::Float(1.0), "1"),
            (Value::Float(-0.0), "-0"),
            (Value::Float(1e15), "1e+15"),
            (Value::Float(123456789012345.0), "123456789012345"),
            (Value::Float(0.0001), "0.0001"),
            (Value::Float(0.00001234), "1.234e-05"),
            (Value::Float(1e300), "1e+300"),
            (Value::Float(f64::NEG_INFINITY), "-Infinity"),
            (Value::Numeric("12.50".parse().unwrap()), "12.50"),
            (Value::Numeric("1e3".parse().unwrap()), "1000"),
            (Value::Bytes(vec![0, 0xab]), "\\x00ab"),
            (Value::TimestampTz(0), "1970-01-01 00:00:00+00"),
            (Value::TimestampTz(1_700_000_000_120_000), "2023-11-14 22:13:20.12+00"),
            (Value::TimestampTz(-62_135_596_800_000_001), "0001-12-31 23:59:59.999999+00 BC"),
            (Value::TimestampTz(i64::MAX), "infinity"),
            (Value::Date(19_000), "2022-01-08"),
            (Value::Uuid(uuid::Uuid::from_u128(1)), "00000000-0000-0000-0000-000000000001"),
        ];
        for (value, text) in cases {
            assert_eq!(value.to_string(), text);
        }
    }
}
