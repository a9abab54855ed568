//! The order-preserving encoding of primary keys.
//!
//! | type | bytes |
//! |---|---|
//! | `BOOL` | 0 or 1 |
//! | integers | 8 bytes big-endian of the value with its sign bit flipped, whatever the column's width |
//! | `FLOAT8` | 8 bytes big-endian; positive numbers with the sign bit set, negative ones inverted; -0 is 0, `NaN` is last |
//! | `NUMERIC` | a class byte (negative, zero, positive); the decimal exponent as a flipped 4-byte integer; pairs of digits, each plus one; a zero. Negative numbers have all bytes after the class inverted. |
//! | `TEXT`, `VARCHAR`, `BYTEA` | the bytes, each zero followed by 255; then 0 and 1 |
//! | `TIMESTAMPTZ`, `DATE` | as integers |
//! | `UUID` | 16 bytes big-endian |
//!
//! No encoding is a prefix of another of the same type, so the keys with given first columns are those with
//! a given prefix. `NULL` has no encoding: key columns are not nullable. The display scale of a
//! `NUMERIC` and the sign of a zero are not part of the key; the row's value keeps them.

use bigdecimal::BigDecimal;
use bigdecimal::num_bigint::{BigInt, Sign};
use proto::{DataType, Datum, Key};

use super::super::error::{Error, Result};
use super::super::schema::Table;

const TERMINATOR: u8 = 1;
const ESCAPED_ZERO: u8 = 255;

const NUMERIC_NEGATIVE: u8 = 1;
const NUMERIC_ZERO: u8 = 2;
const NUMERIC_POSITIVE: u8 = 3;

/// The key of a row.
pub fn row_key(table: &Table, row: &[Datum]) -> Key {
    let mut out = table.prefix().0;
    for &ordinal in table.key_ordinals() {
        encode(&row[ordinal], &mut out);
    }
    Key(out)
}

/// Appends a datum.
///
/// # Panics
/// On NULL: key columns are checked for it where rows are made.
pub fn encode(datum: &Datum, out: &mut Vec<u8>) {
    match datum {
        Datum::Null => panic!("a primary key holds no NULL"),
        Datum::Bool(v) => out.push(u8::from(*v)),
        Datum::Int2(v) => encode_int(i64::from(*v), out),
        Datum::Int4(v) => encode_int(i64::from(*v), out),
        Datum::Int8(v) | Datum::TimestampTz(v) => encode_int(*v, out),
        Datum::Date(v) => encode_int(i64::from(*v), out),
        Datum::Float8(v) => encode_float(*v, out),
        Datum::Numeric(v) => encode_numeric(v, out),
        Datum::Text(v) => encode_bytes(v.as_bytes(), out),
        Datum::Bytea(v) => encode_bytes(v, out),
        Datum::Uuid(v) => out.extend_from_slice(&v.to_be_bytes()),
    }
}

fn encode_int(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&(value as u64 ^ (1 << 63)).to_be_bytes());
}

fn encode_float(value: f64, out: &mut Vec<u8>) {
    let canonical = if value == 0.0 {
        0.0
    } else if value.is_nan() {
        f64::NAN.abs()
    } else {
        value
    };
    let bits = canonical.to_bits();
    let ordered = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    out.extend_from_slice(&ordered.to_be_bytes());
}

fn encode_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len() + 2);
    for &b in bytes {
        out.push(b);
        if b == 0 {
            out.push(ESCAPED_ZERO);
        }
    }
    out.extend_from_slice(&[0, TERMINATOR]);
}

fn encode_numeric(value: &BigDecimal, out: &mut Vec<u8>) {
    let (digits, scale) = value.as_bigint_and_scale();
    if digits.sign() == Sign::NoSign {
        out.push(NUMERIC_ZERO);
        return;
    }
    let text = digits.magnitude().to_string();
    // The number is 0.d1d2d3... times ten to this power.
    let exponent = i64::try_from(text.len()).unwrap_or(i64::MAX).saturating_sub(scale);
    let exponent = i32::try_from(exponent).expect("a numeric's digits are limited");
    let significant = text.trim_end_matches('0').as_bytes();
    let negative = digits.sign() == Sign::Minus;
    out.push(if negative { NUMERIC_NEGATIVE } else { NUMERIC_POSITIVE });
    let start = out.len();
    out.extend_from_slice(&(exponent as u32 ^ (1 << 31)).to_be_bytes());
    for pair in significant.chunks(2) {
        let ones = pair.get(1).map_or(0, |d| d - b'0');
        out.push((pair[0] - b'0') * 10 + ones + 1);
    }
    out.push(0);
    if negative {
        out[start..].iter_mut().for_each(|b| *b = !*b);
    }
}

/// Reads the datums of an encoded primary key. With fewer bytes than the whole key has, as the bounds of ranges may
/// have, as many as are complete.
///
/// # Errors
/// `XX001` when the bytes are no such key.
pub fn decode_prefix(types: impl Iterator<Item = DataType>, mut bytes: &[u8]) -> Result<Vec<Datum>> {
    let mut datums = Vec::new();
    for data_type in types {
        if bytes.is_empty() {
            break;
        }
        datums.push(decode(data_type, &mut bytes)?);
    }
    if bytes.is_empty() { Ok(datums) } else { Err(broken("bytes are left over")) }
}

fn broken(what: &str) -> Error {
    Error::corrupt(format!("an encoded primary key cannot be read: {what}"))
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(count).ok_or_else(|| broken("it ends too early"))?;
    *bytes = rest;
    Ok(head)
}

/// Reads one datum off the front.
///
/// # Errors
/// `XX001` when the bytes are no such datum.
pub fn decode(data_type: DataType, bytes: &mut &[u8]) -> Result<Datum> {
    let narrow = |_| broken("an integer exceeds its column");
    Ok(match data_type {
        DataType::Bool => match take(bytes, 1)? {
            [0] => Datum::Bool(false),
            [1] => Datum::Bool(true),
            _ => return Err(broken("a boolean is neither")),
        },
        DataType::Int2 => Datum::Int2(i16::try_from(decode_int(bytes)?).map_err(narrow)?),
        DataType::Int4 => Datum::Int4(i32::try_from(decode_int(bytes)?).map_err(narrow)?),
        DataType::Int8 => Datum::Int8(decode_int(bytes)?),
        DataType::TimestampTz => Datum::TimestampTz(decode_int(bytes)?),
        DataType::Date => Datum::Date(i32::try_from(decode_int(bytes)?).map_err(narrow)?),
        DataType::Float8 => {
            let ordered = decode_u64(bytes)?;
            Datum::Float8(f64::from_bits(if ordered >> 63 == 1 { ordered & !(1 << 63) } else { !ordered }))
        }
        DataType::Numeric { .. } => Datum::Numeric(decode_numeric(bytes)?),
        DataType::Text | DataType::Varchar(_) | DataType::Unknown => {
            Datum::Text(String::from_utf8(decode_bytes(bytes)?).map_err(|_| broken("a text is not UTF-8"))?)
        }
        DataType::Bytea => Datum::Bytea(decode_bytes(bytes)?),
        DataType::Uuid => {
            let array: [u8; 16] = take(bytes, 16)?.try_into().map_err(|_| broken("a uuid is short"))?;
            Datum::Uuid(u128::from_be_bytes(array))
        }
    })
}

fn decode_u64(bytes: &mut &[u8]) -> Result<u64> {
    let array: [u8; 8] = take(bytes, 8)?.try_into().map_err(|_| broken("a number is short"))?;
    Ok(u64::from_be_bytes(array))
}

fn decode_int(bytes: &mut &[u8]) -> Result<i64> {
    Ok((decode_u64(bytes)? ^ (1 << 63)) as i64)
}

fn decode_bytes(bytes: &mut &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        match take(bytes, 1)? {
            [0] => match take(bytes, 1)? {
                [TERMINATOR] => return Ok(out),
                [ESCAPED_ZERO] => out.push(0),
                _ => return Err(broken("a zero is not escaped")),
            },
            other => out.extend_from_slice(other),
        }
    }
}

fn decode_numeric(bytes: &mut &[u8]) -> Result<BigDecimal> {
    let negative = match take(bytes, 1)? {
        [NUMERIC_ZERO] => return Ok(BigDecimal::from(0)),
        [NUMERIC_NEGATIVE] => true,
        [NUMERIC_POSITIVE] => false,
        _ => return Err(broken("a number has no known class")),
    };
    let mask = if negative { 0xff } else { 0 };
    let array: [u8; 4] = take(bytes, 4)?.try_into().map_err(|_| broken("an exponent is short"))?;
    let exponent = (u32::from_be_bytes(array.map(|b| b ^ mask)) ^ (1 << 31)) as i32;
    let mut digits = String::new();
    loop {
        let pair = take(bytes, 1)?[0] ^ mask;
        match pair {
            0 => break,
            1..=100 => digits.push_str(&format!("{:02}", pair - 1)),
            _ => return Err(broken("a pair of digits is out of range")),
        }
    }
    let scale = i64::try_from(digits.len()).unwrap_or(i64::MAX) - i64::from(exponent);
    let number = BigInt::parse_bytes(digits.as_bytes(), 10).ok_or_else(|| broken("a number has no digits"))?;
    let value = BigDecimal::new(if negative { -number } else { number }, scale).normalized();
    proto::datum::decimal::normalize(value).ok_or_else(|| broken("a number is beyond all limits"))
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use proptest::prelude::*;

    use super::*;

    fn encoded(datum: &Datum) -> Vec<u8> {
        let mut out = Vec::new();
        encode(datum, &mut out);
        out
    }

    /// Two values of one type that a key may hold.
    fn pairs() -> impl Strategy<Value = (Datum, Datum)> {
        fn two<T: std::fmt::Debug>(
            values: impl Strategy<Value = T> + Clone,
            make: fn(T) -> Datum,
        ) -> impl Strategy<Value = (Datum, Datum)> {
            (values.clone(), values).prop_map(move |(a, b)| (make(a), make(b)))
        }
        let decimals = (prop_oneof![any::<i128>(), (-200i64..200).prop_map(i128::from)], 0i64..30);
        prop_oneof![
            two(any::<bool>(), Datum::Bool),
            two(any::<i16>(), Datum::Int2),
            two(any::<i32>(), Datum::Int4),
            two(any::<i64>(), Datum::Int8),
            two(prop_oneof![any::<f64>(), Just(0.0), Just(-0.0), Just(f64::NAN)], Datum::Float8),
            two(decimals, |(v, s)| Datum::Numeric(BigDecimal::new(v.into(), s))),
            two("[\\x00-\\x02a-c]{0,4}", Datum::Text),
            two(prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(255)], 0..4), Datum::Bytea),
            two(any::<i64>(), Datum::TimestampTz),
            two(any::<i32>(), Datum::Date),
            two(any::<u128>(), Datum::Uuid),
        ]
    }

    proptest! {
        #[test]
        fn encodings_sort_as_the_values_do((a, b) in pairs()) {
            prop_assert_eq!(encoded(&a).cmp(&encoded(&b)), a.sort_order(&b));
        }

        #[test]
        fn encodings_come_back_and_are_not_prefixes((a, b) in pairs()) {
            let bytes = [encoded(&a), encoded(&b)].concat();
            let types = [a.data_type(), b.data_type()];
            let back = decode_prefix(types.into_iter(), &bytes).unwrap();
            prop_assert_eq!(back[0].sort_order(&a), Ordering::Equal);
            prop_assert_eq!(back[1].sort_order(&b), Ordering::Equal);
        }

        #[test]
        fn damaged_keys_are_errors(bytes in prop::collection::vec(any::<u8>(), 0..24)) {
            for data_type in [DataType::Bool, DataType::Int2, DataType::Float8, DataType::NUMERIC, DataType::Text,
                DataType::Uuid]
            {
                let _ = decode(data_type, &mut bytes.as_slice());
            }
        }
    }

    #[test]
    fn equal_numbers_share_a_key_whatever_their_scale() {
        let number = |s: &str| Datum::parse_text(DataType::NUMERIC, s).unwrap();
        assert_eq!(encoded(&number("1.0")), encoded(&number("1.00")));
        assert_eq!(encoded(&number("100")), encoded(&number("1e2")));
        assert_ne!(encoded(&number("0.1")), encoded(&number("0.01")));
    }
}
