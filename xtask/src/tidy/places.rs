//! No tracked file names a folder that exists on one machine only.

use super::{Report, Tree};

/// Written in two halves so that this file passes its own rule.
const PLACES: [&str; 5] = [
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/tmp/", "bash_jobs"),
    concat!("/tmp/", "target-"),
    concat!("/tmp/", "cauldron/"),
];

pub fn report(tree: &Tree) -> Result<Report, String> {
    let mut report = Report { summary: format!("{} tracked files", tree.files.len()), ..Report::default() };
    for file in &tree.files {
        let Some(text) = tree.text(file)? else { continue };
        for (index, line) in text.lines().enumerate() {
            for place in PLACES.iter().filter(|place| mentions(line, place)) {
                let place = place.trim_end_matches('/');
                report.findings.push(format!(
                    "{}:{}: {place} exists on one machine: write a relative path",
                    file.display(),
                    index + 1
                ));
            }
        }
    }
    Ok(report)
}

/// Whether `place` starts a path in `line`: `a/root/b` is some other folder.
fn mentions(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '}' | '>' | ')'))
    })
}

#[cfg(test)]
mod tests {
    use super::{PLACES, mentions};

    #[test]
    fn only_the_start_of_an_absolute_path_counts() {
        let [first, second, ..] = PLACES;
        assert!(mentions(&format!("see {first}main"), first));
        assert!(mentions(&format!("file://{second}x"), second));
        assert!(mentions(&format!("\"{second}.cargo\""), second));
        assert!(!mentions(&format!("name{first}main"), first));
        assert!(!mentions(&format!("..{second}x"), second));
    }
}
