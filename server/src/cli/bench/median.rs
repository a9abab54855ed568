//! Medians, and the table in which few and many stand side by side.

use std::fmt;

/// The middle one, or the mean of the two in the middle; 0 of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// Figures by name, a column for each case; of each the last column's difference from the first one and ratio to it.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(what: &str, cases: Vec<String>) -> Table {
        let heads = [what.to_string()].into_iter().chain(cases).chain(["difference".into(), "ratio".into()]);
        Table { rows: vec![heads.collect()] }
    }

    pub fn row(&mut self, name: &str, digits: usize, figures: &[f64]) {
        let (Some(first), Some(last)) = (figures.first(), figures.last()) else { return };
        let mut row = vec![name.to_string()];
        row.extend(figures.iter().map(|figure| format!("{figure:.digits$}")));
        row.push(format!("{:+.digits$}", last - first));
        row.push(if *first == 0.0 { "-".into() } else { format!("{:.2}", last / first) });
        self.rows.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows[0].len();
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let lines = self.rows.iter().map(|row| {
            let cells = row.iter().zip(&widths).skip(1).map(|(cell, width)| format!("  {cell:>width$}"));
            format!("{:width$}{}", row[0], cells.collect::<String>(), width = widths[0])
        });
        f.write_str(&lines.collect::<Vec<_>>().join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_counts() {
        assert!((median(&[3.0, 1.0, 100.0]) - 3.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 100.0]) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn many_stand_beside_few() {
        let mut table = Table::new("ranges", vec!["10".into(), "1000".into()]);
        table.row("tx/s", 1, &[200.0, 150.0]);
        assert_eq!(
            table.to_string(),
            "ranges     10   1000  difference  ratio\ntx/s    200.0  150.0       -50.0   0.75"
        );
    }
}
