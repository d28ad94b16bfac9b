//! What is wrong with a configuration: every mistake with its place and what to write instead.

use std::path::Path;

use crate::error::CliError;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Byte offset in the text, for the order of the report.
    pub(super) offset: usize,
    /// Line and column, from 1; nothing for what is missing altogether.
    pub(super) place: Option<(usize, usize)>,
    /// The key and what is wrong with it.
    pub(super) message: String,
    /// What to write instead.
    pub(super) hint: String,
}

/// Line and column of `offset`, from 1; the column counts characters.
pub(super) fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |i| i + 1);
    let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
    (line, before.get(line_start..).unwrap_or_default().chars().count() + 1)
}

/// All mistakes as one error, in the order of the file, those without a place last.
pub(super) fn report(path: &Path, mut problems: Vec<Problem>) -> CliError {
    problems.sort_by_key(|p| p.offset);
    let n = problems.len();
    let noun = if n == 1 { "problem" } else { "problems" };
    let places: Vec<String> = problems
        .iter()
        .map(|p| p.place.map_or_else(|| "-".to_owned(), |(line, column)| format!("{line}:{column}")))
        .collect();
    let width = places.iter().map(String::len).max().unwrap_or(0);
    let error = CliError::config(format!("the configuration {} has {n} {noun}", path.display()));
    let error = problems.iter().zip(&places).fold(error, |error, (p, place)| {
        error.detail(format!("{place:<width$}  {}\n{:width$}  → {}", p.message, "", p.hint))
    });
    error.hint("docs/configuration.md lists every key with its meaning, unit and default")
}

/// The known name that `found` was most likely meant to be.
pub(super) fn did_you_mean<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A third of the letters may be wrong: enough for slips, too little for guesses.
    let limit = found.chars().count().div_ceil(3).min(3);
    let scored = known.into_iter().map(|name| (distance(found, name), name));
    scored.filter(|(d, _)| *d <= limit).min().map(|(_, name)| name)
}

/// Edit distance with transpositions of neighbours (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(x != y)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_guesses_are_not_made() {
        let known = ["listen", "join", "first", "charter", "trust_domain"];
        assert_eq!(did_you_mean("lsiten", known), Some("listen"));
        assert_eq!(did_you_mean("trust-domain", known), Some("trust_domain"));
        assert_eq!(did_you_mean("frist", known), Some("first"));
        assert_eq!(did_you_mean("password", known), None);
        assert_eq!(did_you_mean("", known), None);
    }

    #[test]
    fn places_count_from_one_and_in_characters() {
        let text = "a = 1\nname = \"é\" # x\n";
        assert_eq!(place(text, 0), (1, 1));
        assert_eq!(place(text, 6), (2, 1));
        assert_eq!(place(text, text.find('#').expect("there")), (2, 12));
        assert_eq!(place(text, 10_000), (3, 1));
    }
}
