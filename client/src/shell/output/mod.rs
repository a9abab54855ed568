//! Results in the formats that the shell knows.

mod table;
mod vertical;
mod delimited;
mod json;

use std::io::{self, Write};

use super::options::Format;
use crate::driver::{Column, Row, Value};

/// How results are shown.
#[derive(Clone, Debug)]
pub struct Settings {
    pub format: Format,
    /// Say how long each statement took.
    pub timing: bool,
    /// Print each statement before running it.
    pub echo: bool,
    /// Draw tables with Unicode's lines.
    pub unicode: bool,
}

/// Prints one result, row by row.
pub trait Printer {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()>;
    fn row(&mut self, out: &mut dyn Write, row: Row) -> io::Result<()>;
    /// Also called when the result breaks off, so that what came is shown.
    fn end(&mut self, out: &mut dyn Write) -> io::Result<()>;
}

/// The printer for the chosen format.
pub fn printer(settings: &Settings, columns: &[Column]) -> Box<dyn Printer + Send> {
    let columns = columns.to_vec();
    match settings.format {
        Format::Table => Box::new(table::Table::new(columns, settings.unicode)),
        Format::Vertical => Box::new(vertical::Vertical::new(columns)),
        Format::Csv => Box::new(delimited::Delimited::csv(columns)),
        Format::Tsv => Box::new(delimited::Delimited::tsv(columns)),
        Format::Json => Box::new(json::Json::new(columns)),
    }
}

/// A value for people: NULL is a bare word, and a text that reads the same has quotes.
fn for_people(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_string(),
        Value::Text(text) if text == "NULL" => "\"NULL\"".to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
pub(super) mod testing {
    //! Results to print, without a server.

    use super::*;
    use crate::driver::DataType;

    pub fn sample() -> Vec<Row> {
        let columns = [("id", DataType::Int8), ("name", DataType::Text), ("score", DataType::Float8)]
            .map(|(name, data_type)| Column { name: name.into(), data_type });
        let row = |values: [Value; 3]| Row::for_tests(&columns, values.to_vec());
        vec![
            row([Value::Int(1), Value::Text("Ann \"A\", of\nRome".into()), Value::Float(0.5)]),
            row([Value::Int(-20), Value::Null, Value::Float(f64::NAN)]),
            row([Value::Int(3), Value::Text(String::new()), Value::Null]),
            row([Value::Int(4), Value::Text("NULL".into()), Value::Float(1e20)]),
        ]
    }

    pub fn print(mut printer: impl Printer) -> String {
        let mut out = Vec::new();
        printer.begin(&mut out).unwrap();
        for row in sample() {
            printer.row(&mut out, row).unwrap();
        }
        printer.end(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    pub fn columns() -> Vec<Column> {
        sample()[0].columns().to_vec()
    }
}
