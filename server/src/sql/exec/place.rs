//! Keys in SQL terms, for those who look at ranges.

use std::fmt::Write;
use std::sync::Arc;

use proto::{Datum, Key, keyspace};

use super::super::encoding::key as key_encoding;
use super::super::expr::show::literal;
use super::super::schema::{Table, split_row_key};

/// A key in SQL terms: `accounts (5)`, or the part of the key space that it lies in.
pub fn place(key: &Key, tables: &[Arc<Table>]) -> String {
    if *key == Key::MIN {
        return "<start>".to_string();
    }
    if *key >= Key::max() {
        return "<end>".to_string();
    }
    if let Some((id, primary_key)) = split_row_key(key) {
        let Some(table) = tables.iter().find(|t| t.id() == id) else { return format!("<table {id}>") };
        if primary_key.is_empty() {
            return table.name().to_string();
        }
        if let Ok(datums) = key_encoding::decode_prefix(table.key_types(), primary_key) {
            let values: Vec<String> = datums.iter().map(|datum: &Datum| literal(datum)).collect();
            return format!("{} ({})", table.name(), values.join(", "));
        }
        return format!("{} at {key}", table.name());
    }
    part_of_key_space(key)
}

fn part_of_key_space(key: &Key) -> String {
    let (name, rest) = match key.as_bytes() {
        [keyspace::META, rest @ ..] => ("meta", rest),
        [keyspace::SYSTEM, rest @ ..] => ("system", rest),
        [keyspace::CATALOG, rest @ ..] => ("catalog", rest),
        [keyspace::TABLES, rest @ ..] => ("tables", rest),
        [keyspace::APPLICATION, rest @ ..] => ("application", rest),
        [keyspace::IDEMPOTENCY, rest @ ..] => ("idempotency keys", rest),
        rest => ("unassigned", rest),
    };
    let mut out = format!("<{name}>");
    if !rest.is_empty() {
        let _ = write!(out, " {}", Key(rest.to_vec()));
    }
    out
}
