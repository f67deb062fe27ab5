//! The one table at the end: what was measured, what it was, and what it must be.

use std::fmt;
use std::time::Duration;

/// What a value counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Just a number.
    None,
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// MiB.
    Mebibytes,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            // A value that a bound of 3 refuses must not be shown as 3.
            Self::None if value.fract() == 0.0 => format!("{value:.0}"),
            Self::None => format!("{value:.3}"),
            Self::Seconds => format!("{value:.2} s"),
            Self::Milliseconds => format!("{value:.2} ms"),
            Self::Mebibytes => format!("{value:.1} MiB"),
        }
    }
}

struct Row {
    what: String,
    value: f64,
    unit: Unit,
    bound: Option<f64>,
}

impl Row {
    fn is_missed(&self) -> bool {
        // Also a value that is no number at all.
        self.bound.is_some_and(|bound| self.value.is_nan() || self.value > bound)
    }
}

/// The table. Each row is told on the standard error as soon as it is known.
#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Adds a measure without a bound.
    pub fn note(&mut self, what: impl Into<String>, value: f64, unit: Unit) {
        self.add(Row { what: what.into(), value, unit, bound: None });
    }

    /// Adds a measure that must be at most `bound`.
    pub fn at_most(&mut self, bound: f64, what: impl Into<String>, value: f64, unit: Unit) {
        self.add(Row { what: what.into(), value, unit, bound: Some(bound) });
    }

    /// How many measures are above their bound.
    #[must_use]
    pub fn missed(&self) -> usize {
        self.rows.iter().filter(|row| row.is_missed()).count()
    }

    fn add(&mut self, row: Row) {
        let verdict = if row.is_missed() { "  MISS" } else { "" };
        crate::progress::note(format!("  {}: {}{verdict}", row.what, row.unit.show(row.value)));
        self.rows.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|row| row.what.chars().count()).max().unwrap_or_default();
        writeln!(f, "{:width$}  {:>12}  {:>12}", "measure", "value", "bound")?;
        for row in &self.rows {
            let bound = row.bound.map_or_else(|| "–".to_owned(), |bound| format!("≤ {}", row.unit.show(bound)));
            let verdict = match (row.bound, row.is_missed()) {
                (None, _) => "",
                (_, true) => "MISS",
                (_, false) => "ok",
            };
            let line = format!("{:width$}  {:>12}  {bound:>12}  {verdict}", row.what, row.unit.show(row.value));
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// The value that this share of all is at most: the nearest rank. Zero where there are none.
#[must_use]
pub fn percentile(times: &[Duration], share: f64) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "far below 2^52"
    )]
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_kept_or_missed() {
        let mut table = Table::default();
        table.note("seen", 7.0, Unit::None);
        table.at_most(3.0, "requests", 3.0, Unit::None);
        assert_eq!(table.missed(), 0);
        table.at_most(3.0, "requests", 3.001, Unit::None);
        table.at_most(1.0, "no number", f64::NAN, Unit::Seconds);
        assert_eq!(table.missed(), 2);
        let text = table.to_string();
        let verdicts: Vec<_> = text.lines().map(|line| line.split_whitespace().last().unwrap_or_default()).collect();
        assert_eq!(verdicts, ["bound", "–", "ok", "MISS", "MISS"], "{text}");
        assert!(text.contains("3.001"), "{text}");
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let times: Vec<Duration> = (1..=20).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&times, 0.5), Duration::from_millis(10));
        assert_eq!(percentile(&times, 0.99), Duration::from_millis(20));
        assert_eq!(percentile(&[], 0.5), Duration::ZERO);
    }
}
