//! Numbers, and the tables that show them: one table, two ways to write it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The middle and the upper end of a measurement, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Half of the samples are not above it.
    pub p50_ms: f64,
    /// 95 of 100 are not.
    pub p95_ms: f64,
}

impl Row {
    /// From at least one sample. Percentiles are samples, the nearest rank: none is made up in between.
    pub fn of(samples: impl IntoIterator<Item = Duration>) -> Self {
        let mut sorted: Vec<f64> = samples.into_iter().map(|time| time.as_secs_f64() * 1000.0).collect();
        sorted.sort_by(f64::total_cmp);
        let at = |percent: usize| (sorted[(sorted.len() * percent).div_ceil(100) - 1] * 1000.0).round() / 1000.0;
        Self { p50_ms: at(50), p95_ms: at(95) }
    }
}

/// A number of milliseconds: three digits that mean something.
pub fn ms(value: f64) -> String {
    if value < 10.0 { format!("{value:.2}") } else { format!("{value:.1}") }
}

/// How many times `one` is `other`.
pub fn times(one: f64, other: f64) -> String {
    let ratio = one / other;
    if ratio < 0.995 { format!("{ratio:.2}") } else { format!("{ratio:.1}") }
}

/// A table: a head and rows of as many cells. The first column is words, the others are numbers.
#[derive(Clone, Debug)]
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Without rows.
    pub fn new<const N: usize>(head: [&str; N]) -> Self {
        Self { head: head.map(str::to_owned).to_vec(), rows: Vec::new() }
    }

    /// One more row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        assert_eq!(N, self.head.len());
        self.rows.push(cells.to_vec());
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let all = || std::iter::once(&self.head).chain(&self.rows);
        let width = |i: usize| all().map(|cells| cells[i].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let line = |cells: &Vec<String>| {
            let padded = cells.iter().zip(&widths).enumerate().map(|(i, (cell, &width))| match i {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
        };
        all().map(line).collect()
    }

    /// For a page.
    pub fn markdown(&self) -> String {
        let line = |cells: &Vec<String>| format!("| {} |\n", cells.join(" | "));
        let rule: String = (0..self.head.len()).map(|i| if i == 0 { "| --- " } else { "| ---: " }).collect();
        line(&self.head) + &rule + "|\n" + &self.rows.iter().map(line).collect::<String>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let row = |millis: &[u64]| Row::of(millis.iter().map(|ms| Duration::from_millis(*ms)));
        assert_eq!(row(&[7]), Row { p50_ms: 7.0, p95_ms: 7.0 });
        assert_eq!(row(&[4, 1, 3, 2]), Row { p50_ms: 2.0, p95_ms: 4.0 });
        let hundred: Vec<u64> = (1..=100).rev().collect();
        assert_eq!(row(&hundred), Row { p50_ms: 50.0, p95_ms: 95.0 });
        assert_eq!(Row::of([Duration::from_nanos(1_234_567)]).p50_ms, 1.235);
    }

    #[test]
    fn a_table_is_written_in_two_ways() {
        let mut table = Table::new(["", "ADD"]);
        table.row(["meta-cni".to_owned(), ms(8.0)]);
        table.row(["Multus".to_owned(), ms(56.04)]);
        assert_eq!(table.text(), "           ADD\nmeta-cni  8.00\nMultus    56.0\n");
        assert_eq!(table.markdown(), "|  | ADD |\n| --- | ---: |\n| meta-cni | 8.00 |\n| Multus | 56.0 |\n");
        assert_eq!((times(56.0, 8.0), times(4.0, 8.0)), ("7.0".to_owned(), "0.50".to_owned()));
    }
}
