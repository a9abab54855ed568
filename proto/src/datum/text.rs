//! PostgreSQL's text format of each type, in both directions.

use std::fmt::{self, Write};

use bigdecimal::BigDecimal;
use uuid::Uuid;

use super::{DataType, Datum, calendar, decimal};

/// A text that is not a value of the type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputError {
    /// As PostgreSQL classifies it: `22P02`, `22003`, `22007`, `22008`, `22001`, `0A000`.
    pub sqlstate: &'static str,
    pub message: String,
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for InputError {}

/// Appends the text of a value; nothing for NULL.
pub fn write_text(datum: &Datum, out: &mut String) {
    let result = match datum {
        Datum::Null => Ok(()),
        Datum::Bool(v) => out.write_str(if *v { "t" } else { "f" }),
        Datum::Int2(v) => write!(out, "{v}"),
        Datum::Int4(v) => write!(out, "{v}"),
        Datum::Int8(v) => write!(out, "{v}"),
        Datum::Float8(v) => write_float(*v, out),
        Datum::Numeric(v) => {
            decimal::write(v, out);
            Ok(())
        }
        Datum::Text(v) => out.write_str(v),
        Datum::Bytea(v) => write_bytea(v, out),
        Datum::TimestampTz(v) => {
            calendar::write_timestamp(*v, out);
            Ok(())
        }
        Datum::Date(v) => {
            calendar::write_date(i64::from(*v), out);
            Ok(())
        }
        Datum::Uuid(v) => write!(out, "{}", Uuid::from_u128(*v)),
    };
    // Writing into a string has no way to fail.
    debug_assert!(result.is_ok());
}

/// The shortest digits that read back as the same number; an exponent from 1e+15 up and below 1e-04.
fn write_float(value: f64, out: &mut String) -> fmt::Result {
    if value.is_nan() {
        return out.write_str("NaN");
    }
    if value.is_infinite() {
        return out.write_str(if value > 0.0 { "Infinity" } else { "-Infinity" });
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..15).contains(&exponent) {
        write!(out, "{value}")
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(out, "{digits}e{sign}{:02}", exponent.unsigned_abs())
    }
}

fn write_bytea(bytes: &[u8], out: &mut String) -> fmt::Result {
    out.push_str("\\x");
    bytes.iter().try_for_each(|b| write!(out, "{b:02x}"))
}

/// Reads the text of a value of a type. Modifiers (the `n` of `VARCHAR(n)`, precision and scale) are not applied:
/// that is a cast's work.
///
/// # Errors
/// See [`InputError`].
pub fn parse_text(data_type: DataType, input: &str) -> Result<Datum, InputError> {
    let trimmed = input.trim_matches(|c: char| c.is_ascii_whitespace());
    match data_type {
        DataType::Unknown | DataType::Text | DataType::Varchar(_) => Ok(Datum::Text(input.to_string())),
        DataType::Bool => parse_bool(trimmed).map(Datum::Bool).ok_or_else(|| syntax(data_type, input)),
        DataType::Int2 => parse_int(data_type, input, trimmed).map(Datum::Int2),
        DataType::Int4 => parse_int(data_type, input, trimmed).map(Datum::Int4),
        DataType::Int8 => parse_int(data_type, input, trimmed).map(Datum::Int8),
        DataType::Float8 => parse_float(input, trimmed).map(Datum::Float8),
        DataType::Numeric { .. } => parse_numeric(input, trimmed).map(Datum::Numeric),
        DataType::Bytea => parse_bytea(input).map(Datum::Bytea),
        DataType::TimestampTz => {
            calendar::parse_timestamp(trimmed).map(Datum::TimestampTz).map_err(|e| date_error(data_type, input, e))
        }
        DataType::Date => calendar::parse_date(trimmed).map(Datum::Date).map_err(|e| date_error(data_type, input, e)),
        DataType::Uuid => parse_uuid(trimmed).map(Datum::Uuid).ok_or_else(|| syntax(data_type, input)),
    }
}

fn syntax(data_type: DataType, input: &str) -> InputError {
    InputError {
        sqlstate: "22P02",
        message: format!("invalid input syntax for type {}: \"{}\"", data_type.name(), shorten(input)),
    }
}

/// Keeps a message short when the input is not.
fn shorten(input: &str) -> String {
    const CHARS_MAX: usize = 200;
    match input.char_indices().nth(CHARS_MAX) {
        Some((at, _)) => format!("{}...", &input[..at]),
        None => input.to_string(),
    }
}

fn out_of_range(data_type: DataType, input: &str) -> InputError {
    InputError {
        sqlstate: "22003",
        message: format!("value \"{}\" is out of range for type {}", shorten(input), data_type.name()),
    }
}

fn date_error(data_type: DataType, input: &str, error: calendar::DateError) -> InputError {
    let (sqlstate, message) = match error {
        calendar::DateError::Syntax => {
            ("22007", format!("invalid input syntax for type {}: \"{}\"", data_type.name(), shorten(input)))
        }
        calendar::DateError::Field => ("22008", format!("date/time field value out of range: \"{}\"", shorten(input))),
        calendar::DateError::Range => ("22008", format!("{} out of range: \"{}\"", data_type.name(), shorten(input))),
    };
    InputError { sqlstate, message }
}

/// Any unambiguous prefix of `true`, `false`, `yes`, `no`, and `on`, `off`, `1`, `0`.
fn parse_bool(text: &str) -> Option<bool> {
    let lower = text.to_ascii_lowercase();
    match lower.as_str() {
        "" | "o" => None,
        "on" | "1" => Some(true),
        "0" => Some(false),
        t if "true".starts_with(t) || "yes".starts_with(t) => Some(true),
        t if "false".starts_with(t) || "no".starts_with(t) || "off".starts_with(t) => Some(false),
        _ => None,
    }
}

fn parse_int<T: TryFrom<i64>>(data_type: DataType, input: &str, text: &str) -> Result<T, InputError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(syntax(data_type, input));
    }
    let value: i64 = text.parse().map_err(|_| out_of_range(data_type, input))?;
    T::try_from(value).map_err(|_| out_of_range(data_type, input))
}

fn parse_float(input: &str, text: &str) -> Result<f64, InputError> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let special = ["nan", "inf", "infinity"].iter().any(|s| unsigned.eq_ignore_ascii_case(s));
    let plain = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    if !special && !plain {
        return Err(syntax(DataType::Float8, input));
    }
    let value: f64 = text.parse().map_err(|_| syntax(DataType::Float8, input))?;
    let mantissa = unsigned.split(['e', 'E']).next().unwrap_or("");
    let lost = value == 0.0 && mantissa.bytes().any(|b| (b'1'..=b'9').contains(&b));
    if plain && (value.is_infinite() || lost) {
        return Err(InputError {
            sqlstate: "22003",
            message: format!("\"{}\" is out of range for type double precision", shorten(input)),
        });
    }
    Ok(value)
}

fn parse_numeric(input: &str, text: &str) -> Result<BigDecimal, InputError> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if ["nan", "inf", "infinity"].iter().any(|s| unsigned.eq_ignore_ascii_case(s)) {
        return Err(InputError { sqlstate: "0A000", message: format!("numeric value {text} is not supported") });
    }
    match decimal::parse(text) {
        Some(Some(value)) => Ok(value),
        Some(None) => Err(InputError { sqlstate: "22003", message: "value overflows numeric format".to_string() }),
        None => Err(syntax(DataType::NUMERIC, input)),
    }
}

/// `\x` and hexadecimal digits, or PostgreSQL's older escape format.
fn parse_bytea(input: &str) -> Result<Vec<u8>, InputError> {
    let bad = |message: String| InputError { sqlstate: "22P02", message };
    if let Some(hex) = input.strip_prefix("\\x") {
        let mut digits = Vec::with_capacity(hex.len());
        for c in hex.chars().filter(|c| !c.is_ascii_whitespace()) {
            let digit = c.to_digit(16).and_then(|d| u8::try_from(d).ok());
            digits.push(digit.ok_or_else(|| bad(format!("invalid hexadecimal digit: \"{c}\"")))?);
        }
        if digits.len() % 2 != 0 {
            return Err(bad("invalid hexadecimal data: odd number of digits".to_string()));
        }
        return Ok(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect());
    }
    let mut out = Vec::with_capacity(input.len());
    let mut rest = input.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let (byte, after) = match (first, tail) {
            (b'\\', [b'\\', after @ ..]) => (b'\\', after),
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                ((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), after)
            }
            (b'\\', _) => return Err(syntax(DataType::Bytea, input)),
            (plain, after) => (plain, after),
        };
        out.push(byte);
        rest = after;
    }
    Ok(out)
}

fn parse_uuid(text: &str) -> Option<u128> {
    let bare = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(text);
    Uuid::parse_str(bare).ok().map(|u| u.as_u128())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn float(value: f64) -> String {
        Datum::Float8(value).to_text().unwrap()
    }

    #[test]
    fn floats_look_as_postgresql_prints_them() {
        assert_eq!(float(1.0), "1");
        assert_eq!(float(0.1), "0.1");
        assert_eq!(float(-0.0), "-0");
        assert_eq!(float(1e15), "1e+15");
        assert_eq!(float(123_456_789_012_345.0), "123456789012345");
        assert_eq!(float(0.0001), "0.0001");
        assert_eq!(float(0.00001), "1e-05");
        assert_eq!(float(f64::MAX), "1.7976931348623157e+308");
    }

    #[test]
    fn booleans_are_read_from_any_unambiguous_prefix() {
        assert_eq!(Datum::parse_text(DataType::Bool, " TRU "), Ok(Datum::Bool(true)));
        assert_eq!(Datum::parse_text(DataType::Bool, "of"), Ok(Datum::Bool(false)));
        assert!(Datum::parse_text(DataType::Bool, "o").is_err());
    }

    #[test]
    fn errors_carry_postgresqls_state() {
        let state = |t, s| Datum::parse_text(t, s).unwrap_err().sqlstate;
        assert_eq!(state(DataType::Int4, "1x"), "22P02");
        assert_eq!(state(DataType::Int2, "40000"), "22003");
        assert_eq!(state(DataType::Date, "nonsense"), "22007");
        assert_eq!(state(DataType::Date, "2024-13-01"), "22008");
        assert_eq!(state(DataType::NUMERIC, "NaN"), "0A000");
        assert_eq!(state(DataType::Float8, "1e999"), "22003");
    }

    #[test]
    fn bytes_are_read_in_both_formats() {
        assert_eq!(Datum::parse_text(DataType::Bytea, "\\xDEad"), Ok(Datum::Bytea(vec![0xde, 0xad])));
        assert_eq!(Datum::parse_text(DataType::Bytea, "a\\\\\\001"), Ok(Datum::Bytea(vec![b'a', b'\\', 1])));
        assert!(Datum::parse_text(DataType::Bytea, "\\9").is_err());
    }
}
