//! Tables with borders. Column widths depend on all rows, so rows are gathered before they are printed.

use std::io::{self, Write};

use comfy_table::presets::{ASCII_FULL_CONDENSED, UTF8_FULL_CONDENSED};
use comfy_table::{Cell, CellAlignment};

use super::{Printer, for_people};
use crate::driver::{Column, Row};

/// A longer result is printed as several tables, so that it needs not fit into memory.
const ROWS_MAX: usize = 10_000;

pub struct Table {
    columns: Vec<Column>,
    unicode: bool,
    rows: Vec<Row>,
    printed: bool,
}

impl Table {
    pub fn new(columns: Vec<Column>, unicode: bool) -> Table {
        Table { columns, unicode, rows: Vec::new(), printed: false }
    }

    fn print(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let mut table = comfy_table::Table::new();
        table.load_style(if self.unicode { UTF8_FULL_CONDENSED } else { ASCII_FULL_CONDENSED });
        table.set_header(self.columns.iter().map(|c| c.name.clone()));
        for row in self.rows.drain(..) {
            let cells = row.values().iter().zip(&self.columns).map(|(value, column)| {
                let cell = Cell::new(for_people(value));
                if column.data_type.is_numeric() { cell.set_alignment(CellAlignment::Right) } else { cell }
            });
            table.add_row(cells);
        }
        self.printed = true;
        writeln!(out, "{table}")
    }
}

impl Printer for Table {
    fn begin(&mut self, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn row(&mut self, out: &mut dyn Write, row: Row) -> io::Result<()> {
        self.rows.push(row);
        if self.rows.len() == ROWS_MAX { self.print(out) } else { Ok(()) }
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.printed && self.rows.is_empty() { Ok(()) } else { self.print(out) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn numbers_stand_right_and_null_is_told_from_its_text() {
        let text = testing::print(Table::new(testing::columns(), false));
        let expected = "\
+-----+-------------+-------+
| id  | name        | score |
+===========================+
|   1 | Ann \"A\", of |   0.5 |
|     | Rome        |       |
| -20 | NULL        |   NaN |
|   3 |             |  NULL |
|   4 | \"NULL\"      | 1e+20 |
+-----+-------------+-------+
";
        assert_eq!(text, expected);
    }
}
