//! What a benchmark prints: a table for people, JSON for machines, from the same figures.

use serde_json::{Value, json};

/// The figures of one room.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Report {
    /// In the order in which they are shown.
    pub figures: Vec<Figure>,
}

/// One measured value, what it is compared with, and the target it must keep.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// What was measured, unique within a report.
    pub name: String,
    /// The measured value, in `unit`.
    pub value: f64,
    /// Unit of `value` and of the yardstick's value.
    pub unit: &'static str,
    /// What it is compared with, measured in the same run on the same machine, and its value.
    pub yardstick: Option<(String, f64)>,
    /// The target; it binds the ratio to the yardstick where there is one, else the value itself. None for a figure
    /// that is only shown.
    pub target: Option<Bound>,
}

/// A target and its direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// Less is better.
    AtMost(f64),
    /// More is better.
    AtLeast(f64),
}

impl Figure {
    /// Value divided by the yardstick's value; None without a yardstick or when that is zero.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        let (_, yardstick) = self.yardstick.as_ref()?;
        (*yardstick != 0.0).then(|| self.value / yardstick)
    }

    /// Whether the target is kept. A comparison that cannot be made, and a value that is not a number, do not keep it.
    #[must_use]
    pub fn ok(&self) -> bool {
        let bound_value = if self.yardstick.is_some() { self.ratio() } else { Some(self.value) };
        match (self.target, bound_value) {
            (None, _) => true,
            (Some(Bound::AtMost(most)), Some(value)) => value <= most,
            (Some(Bound::AtLeast(least)), Some(value)) => value >= least,
            (Some(_), None) => false,
        }
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "yardstick": self.yardstick.as_ref().map(|(name, value)| json!({ "name": name, "value": value })),
            "ratio": self.ratio(),
            "target": self.target.map(|bound| bound.to_string()),
            "ok": self.ok(),
        })
    }

    fn cells(&self) -> [String; 8] {
        let (yardstick, compared) = match &self.yardstick {
            Some((name, value)) => (name.clone(), format!("{value:.3}")),
            None => ("-".to_owned(), "-".to_owned()),
        };
        [
            self.name.clone(),
            format!("{:.3}", self.value),
            self.unit.to_owned(),
            yardstick,
            compared,
            self.ratio().map_or("-".to_owned(), |ratio| format!("{ratio:.3}")),
            self.target.map_or("-".to_owned(), |bound| bound.to_string()),
            if self.ok() { "ok" } else { "MISSED" }.to_owned(),
        ]
    }
}

impl Report {
    /// Whether every target is kept.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.figures.iter().all(Figure::ok)
    }

    /// The report for machines: `{"figures": […], "ok": …}`.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({ "figures": self.figures.iter().map(Figure::json).collect::<Vec<_>>(), "ok": self.ok() })
    }

    /// The report for people: one line per figure under a heading, in columns.
    #[must_use]
    pub fn table(&self) -> String {
        let heading = ["figure", "value", "unit", "yardstick", "its value", "ratio", "target", "ok"].map(str::to_owned);
        let rows: Vec<_> = std::iter::once(heading).chain(self.figures.iter().map(Figure::cells)).collect();
        let mut out = String::new();
        for row in &rows {
            for (column, cell) in row.iter().enumerate() {
                let width =
                    rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
                out.push_str(&format!("{cell:<width$}  "));
            }
            out.truncate(out.trim_end().len());
            out.push('\n');
        }
        out
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtMost(most) => write!(f, "≤ {most}"),
            Self::AtLeast(least) => write!(f, "≥ {least}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(value: f64, yardstick: Option<f64>, target: Option<Bound>) -> Figure {
        let yardstick = yardstick.map(|value| ("other".to_owned(), value));
        Figure { name: "f".to_owned(), value, unit: "ms", yardstick, target }
    }

    #[test]
    fn a_target_binds_the_ratio_or_else_the_value() {
        assert!(figure(3.0, None, Some(Bound::AtMost(3.0))).ok());
        assert!(!figure(3.1, None, Some(Bound::AtMost(3.0))).ok());
        assert!(figure(30.0, Some(20.0), Some(Bound::AtMost(1.5))).ok());
        assert!(!figure(30.0, Some(20.0), Some(Bound::AtLeast(1.6))).ok());
        assert!(figure(1e9, None, None).ok());
    }

    #[test]
    fn what_cannot_be_compared_is_not_ok() {
        assert!(!figure(1.0, Some(0.0), Some(Bound::AtMost(9.0))).ok());
        assert!(!figure(f64::NAN, None, Some(Bound::AtMost(9.0))).ok());
        assert!(!figure(f64::NAN, None, Some(Bound::AtLeast(0.0))).ok());
    }

    #[test]
    fn one_miss_fails_the_report_in_both_forms() {
        let kept = figure(1.0, Some(2.0), Some(Bound::AtMost(1.0)));
        let missed = figure(1.0, None, Some(Bound::AtLeast(2.0)));
        let report = Report { figures: vec![kept, missed] };
        assert!(!report.ok());
        let json = report.json();
        assert_eq!(json["ok"], false);
        assert_eq!(json["figures"][0]["ratio"], 0.5);
        assert_eq!(json["figures"][1]["yardstick"], Value::Null);
        let table = report.table();
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[1].ends_with("ok") && lines[2].ends_with("MISSED"), "{table}");
    }
}
