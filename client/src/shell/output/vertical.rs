//! One line a value, for rows that are too wide for a table.

use std::io::{self, Write};

use super::{Printer, for_people};
use crate::driver::{Column, Row};

pub struct Vertical {
    columns: Vec<Column>,
    name_width: usize,
    count: usize,
}

impl Vertical {
    pub fn new(columns: Vec<Column>) -> Vertical {
        let name_width = columns.iter().map(|c| c.name.chars().count()).max().unwrap_or(0);
        Vertical { columns, name_width, count: 0 }
    }
}

impl Printer for Vertical {
    fn begin(&mut self, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn row(&mut self, out: &mut dyn Write, row: Row) -> io::Result<()> {
        self.count += 1;
        writeln!(out, "-[ RECORD {} ]-", self.count)?;
        for (column, value) in self.columns.iter().zip(row.values()) {
            let text = for_people(value);
            let mut lines = text.split('\n');
            writeln!(out, "{:width$} | {}", column.name, lines.next().unwrap_or(""), width = self.name_width)?;
            for line in lines {
                writeln!(out, "{:width$} | {line}", "", width = self.name_width)?;
            }
        }
        Ok(())
    }

    fn end(&mut self, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn each_value_has_a_line() {
        let text = testing::print(Vertical::new(testing::columns()));
        let first = "-[ RECORD 1 ]-\nid    | 1\nname  | Ann \"A\", of\n      | Rome\nscore | 0.5\n-[ RECORD 2 ]-\n";
        assert!(text.starts_with(first), "{text}");
    }
}
