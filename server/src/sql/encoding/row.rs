//! The encoding of a row's value: a CBOR map from column id to value.
//!
//! Columns of the primary key are left out where the key gives them back exactly (`NUMERIC` and `FLOAT8` keep their
//! scale and the sign of zero here), and so are NULLs. Unknown column ids are skipped and missing ones
//! are NULL, so a descriptor that gained or lost a column reads old rows.

use minicbor::{Decoder, Encoder};
use proto::datum::decimal;
use proto::{DataType, Datum, Key};

use super::super::error::{Error, Result};
use super::super::schema::{Table, split_row_key};
use super::key;

/// Whether the key of a row alone gives the value of a key column back.
fn key_suffices(data_type: DataType) -> bool {
    !matches!(data_type, DataType::Numeric { .. } | DataType::Float8)
}

/// The value to store under a row's key.
pub fn encode(table: &Table, row: &[Datum]) -> Vec<u8> {
    assert_eq!(row.len(), table.columns().len(), "a row has a value for each column");
    let in_key = |i: usize| table.is_key(i) && key_suffices(table.columns()[i].data_type);
    let stored = |i: usize| !row[i].is_null() && !in_key(i);
    let count = (0..row.len()).filter(|&i| stored(i)).count();
    let mut e = Encoder::new(Vec::with_capacity(16 + 12 * count));
    // Encoding into memory cannot fail.
    let _ = e.map(u64::try_from(count).unwrap_or(u64::MAX));
    for (i, column) in table.columns().iter().enumerate().filter(|(i, _)| stored(*i)) {
        let _ = e.u32(column.id);
        encode_datum(&row[i], &mut e);
    }
    e.into_writer()
}

fn encode_datum(datum: &Datum, e: &mut Encoder<Vec<u8>>) {
    let _ = match datum {
        Datum::Null => e.null(),
        Datum::Bool(v) => e.bool(*v),
        Datum::Int2(v) => e.i16(*v),
        Datum::Int4(v) | Datum::Date(v) => e.i32(*v),
        Datum::Int8(v) | Datum::TimestampTz(v) => e.i64(*v),
        Datum::Float8(v) => e.f64(*v),
        Datum::Numeric(v) => {
            let _ = decimal::encode(v, e, &mut ());
            Ok(&mut *e)
        }
        Datum::Text(v) => e.str(v),
        Datum::Bytea(v) => e.bytes(v),
        Datum::Uuid(v) => e.bytes(&v.to_be_bytes()),
    };
}

/// Reads a row back.
///
/// # Errors
/// `XX001` when the bytes are no row of this table.
pub fn decode(table: &Table, row_key: &Key, value: &[u8]) -> Result<Vec<Datum>> {
    let mut row = vec![Datum::Null; table.columns().len()];
    let (_, mut primary_key) = split_row_key(row_key).ok_or_else(|| damaged(table, row_key, "its key is too short"))?;
    for (&ordinal, data_type) in table.key_ordinals().iter().zip(table.key_types()) {
        row[ordinal] = key::decode(data_type, &mut primary_key)?;
    }
    if !primary_key.is_empty() {
        return Err(damaged(table, row_key, "its key is too long"));
    }
    read_values(table, value, &mut row).map_err(|e| damaged(table, row_key, &e.to_string()))?;
    Ok(row)
}

fn damaged(table: &Table, key: &Key, what: &str) -> Error {
    Error::corrupt(format!("a row of table \"{}\" at key {key} cannot be read: {what}", table.name()))
}

fn read_values(table: &Table, value: &[u8], row: &mut [Datum]) -> std::result::Result<(), minicbor::decode::Error> {
    let mut d = Decoder::new(value);
    let count = d.map()?.ok_or_else(|| minicbor::decode::Error::message("a map of unknown length"))?;
    let mut expected = 0;
    for _ in 0..count {
        let id = d.u32()?;
        // Values are written in the order of the columns, so the next column is nearly always the right one.
        let columns = table.columns();
        let found = (expected..columns.len()).chain(0..expected).find(|&i| columns[i].id == id);
        match found {
            Some(ordinal) => {
                row[ordinal] = decode_datum(columns[ordinal].data_type, &mut d)?;
                expected = ordinal + 1;
            }
            None => d.skip()?,
        }
    }
    Ok(())
}

fn decode_datum(data_type: DataType, d: &mut Decoder<'_>) -> std::result::Result<Datum, minicbor::decode::Error> {
    Ok(match data_type {
        DataType::Bool => Datum::Bool(d.bool()?),
        DataType::Int2 => Datum::Int2(d.i16()?),
        DataType::Int4 => Datum::Int4(d.i32()?),
        DataType::Int8 => Datum::Int8(d.i64()?),
        DataType::Float8 => Datum::Float8(d.f64()?),
        DataType::Numeric { .. } => Datum::Numeric(decimal::decode(d, &mut ())?),
        DataType::Text | DataType::Varchar(_) | DataType::Unknown => Datum::Text(d.str()?.to_string()),
        DataType::Bytea => Datum::Bytea(d.bytes()?.to_vec()),
        DataType::TimestampTz => Datum::TimestampTz(d.i64()?),
        DataType::Date => Datum::Date(d.i32()?),
        DataType::Uuid => {
            let bytes = <[u8; 16]>::try_from(d.bytes()?);
            Datum::Uuid(u128::from_be_bytes(bytes.map_err(|_| minicbor::decode::Error::message("a short uuid"))?))
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::schema::{Column, TableDescriptor};
    use super::*;

    fn column(id: u32, name: &str, data_type: DataType, nullable: bool) -> Column {
        Column { id, name: name.to_string(), data_type, nullable, default: None, hidden: false }
    }

    fn table(columns: Vec<Column>) -> Table {
        Table::new(TableDescriptor {
            id: 7,
            name: "t".to_string(),
            version: 1,
            columns,
            primary_key: vec![2, 1],
            primary_key_name: "t_pkey".to_string(),
            placement: None,
        })
        .unwrap()
    }

    fn wide() -> Table {
        table(vec![
            column(1, "n", DataType::NUMERIC, false),
            column(2, "t", DataType::Text, false),
            column(3, "f", DataType::Float8, true),
            column(4, "b", DataType::Bytea, true),
            column(5, "i", DataType::Int4, true),
        ])
    }

    proptest! {
        #[test]
        fn rows_come_back(digits in any::<i128>(), scale in 0i64..20, text in ".{0,8}", float in any::<f64>(),
            bytes in any::<Vec<u8>>(), int in any::<Option<i32>>())
        {
            let row = vec![
                Datum::Numeric(bigdecimal::BigDecimal::new(digits.into(), scale)),
                Datum::Text(text),
                Datum::Float8(float),
                Datum::Bytea(bytes),
                int.map_or(Datum::Null, Datum::Int4),
            ];
            let table = wide();
            let back = decode(&table, &key::row_key(&table, &row), &encode(&table, &row)).unwrap();
            for (a, b) in row.iter().zip(&back) {
                prop_assert_eq!(a.to_text(), b.to_text());
            }
        }

        #[test]
        fn damaged_values_are_errors(bytes in any::<Vec<u8>>()) {
            let table = wide();
            let row = [Datum::Numeric(1.into()), Datum::Text(String::new())];
            let _ = decode(&table, &key::row_key(&table, &row), &bytes);
        }
    }

    #[test]
    fn a_dropped_column_is_skipped_and_a_new_one_is_null() {
        let old = wide();
        let row = vec![
            Datum::Numeric(1.into()),
            Datum::Text("x".to_string()),
            Datum::Float8(2.0),
            Datum::Bytea(vec![3]),
            Datum::Int4(4),
        ];
        let new = table(vec![
            column(1, "n", DataType::NUMERIC, false),
            column(2, "t", DataType::Text, false),
            column(5, "i", DataType::Int4, true),
            column(6, "new", DataType::Int8, true),
        ]);
        let back = decode(&new, &key::row_key(&old, &row), &encode(&old, &row)).unwrap();
        assert_eq!(back, [Datum::Numeric(1.into()), Datum::Text("x".to_string()), Datum::Int4(4), Datum::Null]);
    }

    /// What is on disk must be read by all later versions: if this fails, the format has changed.
    #[test]
    fn the_stored_format_is_fixed() {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let row = vec![
            Datum::Numeric("-12.50".parse().unwrap()),
            Datum::Text("a\0b".to_string()),
            Datum::Float8(1.5),
            Datum::Null,
            Datum::Int4(-7),
        ];
        let table = wide();
        assert_eq!(hex(key::row_key(&table, &row).as_bytes()), "0400000000000000076100ff620001017ffffffdf2ccff");
        assert_eq!(hex(&encode(&table, &row)), "a30182023904e103fb3ff80000000000000526");
    }
}
