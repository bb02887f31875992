//! The table that a measurement prints.

use crate::measure::Cost;
use comfy_table::{Cell, CellAlignment, Table, presets};
use std::fmt::Write as _;

/// One line of the table; what does not apply stays empty.
#[derive(Debug, Default)]
pub struct Row {
    what: String,
    records: Option<u64>,
    cost: Option<Cost>,
    peak_mb: Option<f64>,
    parts: Option<f64>,
    target: String,
    met: Option<bool>,
}

impl Row {
    /// A line about `what`.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), ..Self::default() }
    }

    /// What so many records took.
    pub fn cost(mut self, records: u64, cost: Cost) -> Self {
        (self.records, self.cost) = (Some(records), Some(cost));
        self
    }

    /// Peak memory.
    pub fn peak_mb(mut self, peak: f64) -> Self {
        self.peak_mb = Some(peak);
        self
    }

    /// CPU seconds per million records of all parts together.
    pub fn parts(mut self, parts: f64) -> Self {
        self.parts = Some(parts);
        self
    }

    /// A target and whether it is met; several are met when all are.
    pub fn target(mut self, target: &str, met: bool) -> Self {
        let separator = if self.target.is_empty() { "" } else { "; " };
        // Writing to a String cannot fail.
        let _ = write!(self.target, "{separator}{target}");
        self.met = Some(self.met.unwrap_or(true) && met);
        self
    }

    /// CPU seconds per million records.
    pub fn cpu_per_million(&self) -> f64 {
        match (self.records, self.cost) {
            (Some(records), Some(cost)) if records > 0 => cost.cpu / records as f64 * 1e6,
            _ => 0.0,
        }
    }

    fn kernel_per_million(&self) -> Option<f64> {
        self.records.zip(self.cost).map(|(records, cost)| cost.kernel / records as f64 * 1e6)
    }

    /// [`Self::cpu_per_million`] as a multiple of the parts'.
    pub fn times_parts(&self) -> Option<f64> {
        self.parts.map(|parts| self.cpu_per_million() / parts)
    }

    fn cells(&self) -> Vec<Cell> {
        let number = |value: Option<f64>, digits: usize| value.map(|v| format!("{v:.digits$}")).unwrap_or_default();
        let rate = self.records.zip(self.cost).map(|(records, cost)| records as f64 / cost.wall);
        let met = self.met.map(|met| if met { "yes" } else { "NO" }).unwrap_or_default();
        let texts = [
            self.records.map(|n| n.to_string()).unwrap_or_default(),
            number(self.cost.map(|_| self.cpu_per_million()), 2),
            number(self.kernel_per_million(), 2),
            number(self.cost.map(|cost| cost.wall), 1),
            number(rate, 0),
            number(self.peak_mb, 0),
            number(self.times_parts(), 2),
        ];
        let right = texts.into_iter().map(|text| Cell::new(text).set_alignment(CellAlignment::Right));
        std::iter::once(Cell::new(&self.what)).chain(right).chain([Cell::new(&self.target), Cell::new(met)]).collect()
    }
}

/// Prints the lines as a table that is also Markdown.
#[expect(clippy::print_stdout, reason = "it is what the program is for")]
pub fn print(rows: &[Row]) {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([
        "what",
        "records",
        "CPU-s per million",
        "in the kernel",
        "wall s",
        "records/s",
        "peak MB",
        "× its parts",
        "target",
        "met",
    ]);
    for row in rows {
        table.add_row(row.cells());
    }
    println!("{table}");
}

/// Says on standard error what is being done, since measuring takes a while.
pub fn progress(text: &str) {
    eprintln!("{text}");
}
