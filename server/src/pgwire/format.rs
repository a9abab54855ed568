//! Values on the wire, in PostgreSQL's text and binary formats.

use bytes::{BufMut, BytesMut};
use proto::datum::calendar;
use proto::{DataType, Datum};

use super::numeric;
use crate::sql::Error;
use crate::sql::error::state;

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Format {
    #[default]
    Text,
    Binary,
}

/// From 1970-01-01, where our dates begin, to 2000-01-01, where PostgreSQL's do.
const DAYS_TO_2000: i32 = 10_957;
const MICROS_TO_2000: i64 = DAYS_TO_2000 as i64 * calendar::MICROS_PER_DAY;

/// `invalid_binary_representation`.
const INVALID_BINARY: &str = "22P03";
/// `character_not_in_repertoire`.
const INVALID_UTF8: &str = "22021";

/// PostgreSQL types that clients declare for parameters and that have another name, or another size, here.
mod foreign {
    pub const NAME: u32 = 19;
    pub const OID: u32 = 26;
    pub const FLOAT4: u32 = 700;
    pub const BPCHAR: u32 = 1042;
    pub const TIMESTAMP: u32 = 1114;
}

impl Format {
    /// The format with a code of the protocol.
    ///
    /// # Errors
    /// `22023` for a code that the protocol does not know.
    pub fn from_code(code: i16) -> Result<Format, Error> {
        match code {
            0 => Ok(Format::Text),
            1 => Ok(Format::Binary),
            _ => Err(Error::new(state::INVALID_PARAMETER, format!("unsupported format code: {code}"))),
        }
    }

    pub fn code(self) -> i16 {
        match self {
            Format::Text => 0,
            Format::Binary => 1,
        }
    }

    /// The format of each of `count` values: none given means text, one given goes for all.
    ///
    /// # Errors
    /// `08P01` when the number of codes fits neither; `22023` for an unknown code.
    pub fn expand(codes: &[i16], count: usize) -> Result<Vec<Format>, Error> {
        match codes {
            [] => Ok(vec![Format::Text; count]),
            [one] => Ok(vec![Format::from_code(*one)?; count]),
            many if many.len() == count => many.iter().map(|&code| Format::from_code(code)).collect(),
            many => {
                let message = format!("the message has {} format codes for {count} values", many.len());
                Err(Error::new("08P01", message))
            }
        }
    }
}

/// Appends a value with its length before it; NULL is a length of -1.
pub fn put_field(datum: &Datum, format: Format, out: &mut BytesMut, scratch: &mut String) {
    if datum.is_null() {
        return out.put_i32(-1);
    }
    let length_at = out.len();
    out.put_i32(0);
    match format {
        Format::Text => {
            scratch.clear();
            proto::datum::text::write_text(datum, scratch);
            out.put_slice(scratch.as_bytes());
        }
        Format::Binary => put_binary(datum, out),
    }
    let length = i32::try_from(out.len() - length_at - 4).expect("a value is smaller than 2 GiB");
    out[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
}

fn put_binary(datum: &Datum, out: &mut BytesMut) {
    match datum {
        Datum::Null => {}
        Datum::Bool(b) => out.put_u8(u8::from(*b)),
        Datum::Int2(i) => out.put_i16(*i),
        Datum::Int4(i) => out.put_i32(*i),
        Datum::Int8(i) => out.put_i64(*i),
        Datum::Float8(x) => out.put_f64(*x),
        Datum::Numeric(n) => numeric::encode(n, out),
        Datum::Text(text) => out.put_slice(text.as_bytes()),
        Datum::Bytea(bytes) => out.put_slice(bytes),
        // Within the calendar's bounds neither can overflow.
        Datum::TimestampTz(micros) => out.put_i64(micros.saturating_sub(MICROS_TO_2000)),
        Datum::Date(days) => out.put_i32(days.saturating_sub(DAYS_TO_2000)),
        Datum::Uuid(uuid) => out.put_u128(*uuid),
    }
}

/// The type that a parameter declared with an object id is treated as; `None` when the statement is to decide.
///
/// # Errors
/// `0A000` for types that do not exist here.
pub fn declared_type(oid: u32) -> Result<Option<DataType>, Error> {
    match oid {
        0 => Ok(None),
        _ if oid == DataType::Unknown.oid() => Ok(None),
        foreign::NAME | foreign::BPCHAR => Ok(Some(DataType::Text)),
        foreign::OID => Ok(Some(DataType::Int8)),
        foreign::FLOAT4 => Ok(Some(DataType::Float8)),
        foreign::TIMESTAMP => Ok(Some(DataType::TimestampTz)),
        _ => DataType::from_oid(oid)
            .map(Some)
            .ok_or_else(|| Error::unsupported(format!("a parameter of the type with object id {oid}"))),
    }
}

/// Reads a parameter. `oid` is what the client declared, `wanted` what the statement wants; without a declaration
/// the bytes are of the wanted type.
///
/// # Errors
/// `22P03`, and what reading the text form says, when the bytes are no value of the type.
pub fn read_parameter(bytes: &[u8], format: Format, oid: u32, wanted: DataType, number: usize) -> Result<Datum, Error> {
    let data_type = declared_type(oid)?.unwrap_or(if wanted == DataType::Unknown { DataType::Text } else { wanted });
    match format {
        Format::Text => Ok(Datum::parse_text(data_type.base(), utf8(bytes, number)?)?),
        Format::Binary => read_binary(bytes, oid, data_type.base(), number),
    }
}

fn read_binary(bytes: &[u8], oid: u32, data_type: DataType, number: usize) -> Result<Datum, Error> {
    let broken = || {
        let message = format!("incorrect binary data format in bind parameter {number} of type {data_type}");
        Error::new(INVALID_BINARY, message)
    };
    Ok(match (oid, data_type) {
        (foreign::FLOAT4, _) => Datum::Float8(f64::from(f32::from_be_bytes(fixed(bytes).ok_or_else(broken)?))),
        (foreign::OID, _) => Datum::Int8(i64::from(u32::from_be_bytes(fixed(bytes).ok_or_else(broken)?))),
        (_, DataType::Bool) => Datum::Bool(fixed::<1>(bytes).ok_or_else(broken)?[0] != 0),
        (_, DataType::Int2) => Datum::Int2(i16::from_be_bytes(fixed(bytes).ok_or_else(broken)?)),
        (_, DataType::Int4) => Datum::Int4(i32::from_be_bytes(fixed(bytes).ok_or_else(broken)?)),
        (_, DataType::Int8) => Datum::Int8(i64::from_be_bytes(fixed(bytes).ok_or_else(broken)?)),
        (_, DataType::Float8) => Datum::Float8(f64::from_be_bytes(fixed(bytes).ok_or_else(broken)?)),
        (_, DataType::Numeric { .. }) => Datum::Numeric(numeric::decode(bytes).ok_or_else(broken)?),
        (_, DataType::Bytea) => Datum::Bytea(bytes.to_vec()),
        (_, DataType::Uuid) => Datum::Uuid(u128::from_be_bytes(fixed(bytes).ok_or_else(broken)?)),
        (_, DataType::TimestampTz) => timestamp(i64::from_be_bytes(fixed(bytes).ok_or_else(broken)?))?,
        (_, DataType::Date) => date(i32::from_be_bytes(fixed(bytes).ok_or_else(broken)?))?,
        (_, DataType::Text | DataType::Varchar(_) | DataType::Unknown) => Datum::Text(utf8(bytes, number)?.into()),
    })
}

fn fixed<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

fn utf8(bytes: &[u8], number: usize) -> Result<&str, Error> {
    let invalid = |why: &str| Error::new(INVALID_UTF8, format!("bind parameter {number} is not UTF-8 text: {why}"));
    let text = std::str::from_utf8(bytes).map_err(|e| invalid(&e.to_string()))?;
    // PostgreSQL's text cannot hold it, and clients would not get it back.
    if text.contains('\0') { Err(invalid("it contains a zero byte")) } else { Ok(text) }
}

fn timestamp(micros_from_2000: i64) -> Result<Datum, Error> {
    let micros = micros_from_2000.saturating_add(MICROS_TO_2000);
    if (calendar::MICROS_MIN..calendar::MICROS_MAX).contains(&micros) {
        return Ok(Datum::TimestampTz(micros));
    }
    Err(Error::new(state::DATETIME_OVERFLOW, "timestamp out of range"))
}

fn date(days_from_2000: i32) -> Result<Datum, Error> {
    let days = days_from_2000.saturating_add(DAYS_TO_2000);
    if (calendar::DAYS_MIN..calendar::DAYS_MAX).contains(&days) {
        return Ok(Datum::Date(days));
    }
    Err(Error::new(state::DATETIME_OVERFLOW, "date out of range"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn binary(datum: &Datum) -> Vec<u8> {
        let mut out = BytesMut::new();
        put_field(datum, Format::Binary, &mut out, &mut String::new());
        out.to_vec()
    }

    #[test]
    fn values_are_what_postgresql_sends() {
        assert_eq!(binary(&Datum::Null), [0xff, 0xff, 0xff, 0xff]);
        assert_eq!(binary(&Datum::Bool(true)), [0, 0, 0, 1, 1]);
        assert_eq!(binary(&Datum::Int2(-2)), [0, 0, 0, 2, 0xff, 0xfe]);
        assert_eq!(binary(&Datum::Text("é".into())), [0, 0, 0, 2, 0xc3, 0xa9]);
        assert_eq!(binary(&Datum::Date(10_958)), [0, 0, 0, 4, 0, 0, 0, 1]);
        assert_eq!(binary(&Datum::TimestampTz(MICROS_TO_2000 + 1)), [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1]);
        let mut out = BytesMut::new();
        put_field(&Datum::Int8(-15), Format::Text, &mut out, &mut String::new());
        assert_eq!(&out[..], b"\0\0\0\x03-15");
    }

    fn datum() -> impl Strategy<Value = Datum> {
        prop_oneof![
            any::<bool>().prop_map(Datum::Bool),
            any::<i16>().prop_map(Datum::Int2),
            any::<i32>().prop_map(Datum::Int4),
            any::<i64>().prop_map(Datum::Int8),
            any::<f64>().prop_map(Datum::Float8),
            "[^\0]{0,20}".prop_map(Datum::Text),
            any::<Vec<u8>>().prop_map(Datum::Bytea),
            (calendar::MICROS_MIN..calendar::MICROS_MAX).prop_map(Datum::TimestampTz),
            (calendar::DAYS_MIN..calendar::DAYS_MAX).prop_map(Datum::Date),
            any::<u128>().prop_map(Datum::Uuid),
        ]
    }

    proptest! {
        #[test]
        fn values_come_back_from_both_formats(value in datum()) {
            for format in [Format::Text, Format::Binary] {
                let mut out = BytesMut::new();
                put_field(&value, format, &mut out, &mut String::new());
                let back = read_parameter(&out[4..], format, 0, value.data_type(), 1).unwrap();
                prop_assert_eq!(back.to_text(), value.to_text());
            }
        }
    }

    #[test]
    fn types_of_postgresql_only_are_read_as_the_nearest() {
        let float4 = read_parameter(&1.5f32.to_be_bytes(), Format::Binary, foreign::FLOAT4, DataType::Float8, 1);
        assert_eq!(float4.unwrap(), Datum::Float8(1.5));
        let unknown = read_parameter(b"5", Format::Text, 705, DataType::Int4, 1);
        assert_eq!(unknown.unwrap(), Datum::Int4(5));
        assert_eq!(declared_type(3802).unwrap_err().sqlstate, "0A000");
    }

    #[test]
    fn broken_parameters_are_refused() {
        let read = |bytes: &[u8], data_type| read_parameter(bytes, Format::Binary, 0, data_type, 2);
        assert_eq!(read(&[1, 2, 3], DataType::Int4).unwrap_err().sqlstate, "22P03");
        assert_eq!(read(&[0xff], DataType::Text).unwrap_err().sqlstate, "22021");
        assert_eq!(read(b"a\0b", DataType::Text).unwrap_err().sqlstate, "22021");
        assert_eq!(read(&i64::MAX.to_be_bytes(), DataType::TimestampTz).unwrap_err().sqlstate, "22008");
        assert_eq!(Format::expand(&[0, 1], 3).unwrap_err().sqlstate, "08P01");
        assert_eq!(Format::from_code(7).unwrap_err().sqlstate, "22023");
    }
}
