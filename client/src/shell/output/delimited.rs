//! CSV and TSV, for other programs: a header, then one row a line.
//!
//! CSV follows RFC 4180, with `\n` as the end of a line; NULL is an empty field and an empty text is `""`. TSV follows
//! PostgreSQL's COPY: NULL is `\N`, and backslash, tab and line ends inside a value are `\\`, `\t`, `\n` and `\r`.

use std::borrow::Cow;
use std::io::{self, Write};

use super::Printer;
use crate::driver::{Column, Row, Value};

pub struct Delimited {
    columns: Vec<Column>,
    delimiter: u8,
    null: &'static str,
    quote: fn(&str) -> Cow<'_, str>,
}

impl Delimited {
    pub fn csv(columns: Vec<Column>) -> Delimited {
        Delimited { columns, delimiter: b',', null: "", quote: quote_csv }
    }

    pub fn tsv(columns: Vec<Column>) -> Delimited {
        Delimited { columns, delimiter: b'\t', null: "\\N", quote: quote_tsv }
    }

    fn line<'f>(&self, out: &mut dyn Write, fields: impl Iterator<Item = Option<Cow<'f, str>>>) -> io::Result<()> {
        for (index, field) in fields.enumerate() {
            if index > 0 {
                out.write_all(&[self.delimiter])?;
            }
            match field {
                None => out.write_all(self.null.as_bytes())?,
                Some(text) => out.write_all((self.quote)(&text).as_bytes())?,
            }
        }
        out.write_all(b"\n")
    }
}

impl Printer for Delimited {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.line(out, self.columns.iter().map(|c| Some(Cow::from(c.name.as_str()))))
    }

    fn row(&mut self, out: &mut dyn Write, row: Row) -> io::Result<()> {
        let field = |value: &Value| (!value.is_null()).then(|| Cow::from(value.to_string()));
        self.line(out, row.values().iter().map(field))
    }

    fn end(&mut self, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

fn quote_csv(text: &str) -> Cow<'_, str> {
    if !text.is_empty() && !text.contains([',', '"', '\n', '\r']) {
        return Cow::from(text);
    }
    Cow::from(format!("\"{}\"", text.replace('"', "\"\"")))
}

fn quote_tsv(text: &str) -> Cow<'_, str> {
    if !text.contains(['\\', '\t', '\n', '\r']) {
        return Cow::from(text);
    }
    Cow::from(text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r"))
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn csv_quotes_what_needs_it_and_tells_null_from_empty() {
        let text = testing::print(Delimited::csv(testing::columns()));
        assert_eq!(text, "id,name,score\n1,\"Ann \"\"A\"\", of\nRome\",0.5\n-20,,NaN\n3,\"\",\n4,NULL,1e+20\n");
    }

    #[test]
    fn tsv_keeps_one_row_a_line() {
        let text = testing::print(Delimited::tsv(testing::columns()));
        assert_eq!(text, "id\tname\tscore\n1\tAnn \"A\", of\\nRome\t0.5\n-20\t\\N\tNaN\n3\t\t\\N\n4\tNULL\t1e+20\n");
    }
}
