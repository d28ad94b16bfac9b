//! How long the source files are. The aim is a median near 150 lines and nine in ten under 500; this rule reports, a person
//! judges where an idea wants its own file.

use super::{Report, Tree};

const LINES_AIM_MAX: usize = 500;
const LONGEST_SHOWN: usize = 10;

pub fn report(tree: &Tree) -> Result<Report, String> {
    let mut lengths = Vec::new();
    for file in tree.with_extension("rs") {
        if let Some(text) = tree.text(file)? {
            lengths.push((text.lines().count(), file));
        }
    }
    lengths.sort_unstable();
    let under = lengths.iter().filter(|(lines, _)| *lines < LINES_AIM_MAX).count();
    let median = lengths.get(lengths.len() / 2).map_or(0, |(lines, _)| *lines);
    let percent = (under * 100).checked_div(lengths.len()).unwrap_or(100);
    let mut summary = format!("{} files, median {median} lines, {percent} % under {LINES_AIM_MAX}", lengths.len());
    for (lines, file) in lengths.iter().rev().take_while(|(lines, _)| *lines >= LINES_AIM_MAX).take(LONGEST_SHOWN) {
        summary.push_str(&format!("\n       {}: {lines} lines", file.display()));
    }
    Ok(Report { summary, ..Report::default() })
}
