//! JSON: an array with one object a row. Numbers keep all their digits; what JSON cannot say is a string in
//! PostgreSQL's form.

use std::io::{self, Write};

use super::Printer;
use crate::driver::{Column, Row, Value};

pub struct Json {
    columns: Vec<Column>,
    any: bool,
}

impl Json {
    pub fn new(columns: Vec<Column>) -> Json {
        Json { columns, any: false }
    }
}

impl Printer for Json {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(b"[")
    }

    fn row(&mut self, out: &mut dyn Write, row: Row) -> io::Result<()> {
        let separator = if self.any { "," } else { "" };
        self.any = true;
        write!(out, "{separator}\n  {{")?;
        for (index, (column, value)) in self.columns.iter().zip(row.values()).enumerate() {
            let separator = if index > 0 { ", " } else { "" };
            write!(out, "{separator}{}: {}", string(&column.name), json(value))?;
        }
        out.write_all(b"}")
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(if self.any { b"\n]\n" } else { b"]\n" })
    }
}

fn json(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(b) => b.to_string(),
        Value::Int(_) | Value::Numeric(_) => value.to_string(),
        Value::Float(x) if x.is_finite() => value.to_string(),
        other => string(&other.to_string()),
    }
}

fn string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn every_result_is_valid_json() {
        let text = testing::print(Json::new(testing::columns()));
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(parsed[0]["name"], "Ann \"A\", of\nRome");
        assert!(parsed[1]["name"].is_null());
        assert_eq!(parsed[1]["score"], "NaN");
        assert_eq!(parsed[3]["score"], 1e20);
        let mut empty = Vec::new();
        let mut printer = Json::new(testing::columns());
        printer.begin(&mut empty).unwrap();
        printer.end(&mut empty).unwrap();
        assert_eq!(empty, b"[]\n");
    }
}
