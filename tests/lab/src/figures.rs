//! How figures are printed: minimum, median, 99th percentile and maximum, and what is wanted beside them.

use std::fmt::Write as _;

/// What was measured so many times, in one unit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures(Vec<f64>);

impl Figures {
    /// Of these values, in any order.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// The value that `share` of all values do not exceed (nearest rank); none if there is none.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let rank = (share * self.0.len() as f64).ceil().max(1.0) as usize;
        self.0.get(rank - 1).copied()
    }

    /// The middle one.
    pub fn median(&self) -> Option<f64> {
        self.quantile(0.5)
    }
}

/// Rows of figures under one heading.
#[derive(Clone, Debug)]
pub struct Table(String);

impl Table {
    /// An empty table; `what` heads the first column and names the unit.
    pub fn new(what: &str) -> Self {
        Self(format!("  {what:<40}{:>4}{:>9}{:>9}{:>9}{:>9}   target\n", "n", "min", "median", "p99", "max"))
    }

    /// One more row.
    pub fn row(&mut self, what: &str, figures: &Figures, target: &str) {
        let mut line = format!("  {what:<40}{:>4}", figures.0.len());
        for share in [0.0, 0.5, 0.99, 1.0] {
            match figures.quantile(share) {
                Some(value) => drop(write!(line, "{value:>9.3}")),
                None => line.push_str("        -"),
            }
        }
        let _ = writeln!(self.0, "{}", format!("{line}   {target}").trim_end());
    }

    /// The text, with the machine's load beside it: figures from a busy machine are no good.
    pub fn text(self) -> String {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load: Vec<&str> = load.split(' ').take(3).collect();
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        format!("{}\n  on {cores} cores with a load of {} (1, 5, 15 minutes)\n", self.0, load.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let figures = Figures::of((1..=100).rev().map(f64::from));
        assert_eq!(
            [0.0, 0.5, 0.99, 1.0].map(|share| figures.quantile(share)),
            [1.0, 50.0, 99.0, 100.0].map(Some)
        );
        assert_eq!(Figures::of([3.0]).quantile(0.99), Some(3.0));
        assert_eq!(Figures::default().median(), None);
    }

    #[test]
    fn a_row_without_values_is_no_row_of_zeros() {
        let mut table = Table::new("seconds");
        table.row("nothing", &Figures::default(), "< 1");
        assert!(table.text().contains("   0        -        -        -        -   < 1\n"));
    }
}
