//! The tests that the security model names exist: a promise without its test would be words.

use std::collections::BTreeSet;

use super::{Report, Tree};

const PAGE: &str = "docs/security-model.md";
/// Shorter names in `code` are something else.
const WORDS_MIN: usize = 4;

pub fn report(tree: &Tree) -> Result<Report, String> {
    let Some(page) = tree.text(PAGE.as_ref())? else { return Err(format!("{PAGE} is not UTF-8")) };
    let named = named(&page);
    let mut missing = named.clone();
    for file in tree.with_extension("rs") {
        if missing.is_empty() {
            break;
        }
        if let Some(text) = tree.text(file)? {
            missing.retain(|name| !text.contains(&format!("fn {name}(")));
        }
    }
    let findings = missing.iter().map(|name| format!("{PAGE}: no test is called {name}: rename it there, or write it"));
    Ok(Report { summary: format!("{} tests in {PAGE}", named.len()), findings: findings.collect() })
}

fn named(page: &str) -> BTreeSet<String> {
    let code = page.split('`').skip(1).step_by(2);
    let is_name = |text: &&str| {
        text.split('_').count() >= WORDS_MIN
            && text.chars().all(|c| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    code.filter(is_name).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_of_tests_are_told_from_other_code() {
        let page = "`a_name_of_four` and `cargo xtask tidy`, `self-served`, `two_words`, `b_2_is_one_too`";
        assert_eq!(super::named(page).into_iter().collect::<Vec<_>>(), ["a_name_of_four", "b_2_is_one_too"]);
    }
}
