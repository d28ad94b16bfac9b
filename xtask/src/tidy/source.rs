//! Just enough of Rust's lexical grammar to tell code from comments, literals and test modules.

/// A source file of which comments and the insides of literals are blanked; line numbers are kept.
pub struct Code {
    text: String,
    /// Byte ranges that exist only under `#[cfg(test)]`.
    tests: Vec<std::ops::Range<usize>>,
}

const TEST_ATTRIBUTE: &str = "#[cfg(test)]";

impl Code {
    pub fn of(source: &str) -> Self {
        let text = blank(source);
        let tests = test_items(&text);
        Self { text, tests }
    }

    /// Number (from 1) and text of each line that is compiled without `cfg(test)`.
    pub fn lines_outside_tests(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut start = 0;
        self.text.split('\n').enumerate().filter_map(move |(index, line)| {
            let at = start + line.len() - line.trim_start().len();
            start += line.len() + 1;
            (!self.tests.iter().any(|test| test.contains(&at))).then_some((index + 1, line))
        })
    }

    /// Names of modules declared as `#[cfg(test)] mod name;`, whose files hold nothing else.
    pub fn test_module_files(&self) -> Vec<&str> {
        let declarations = self.tests.iter().filter_map(|range| self.text.get(range.clone()));
        declarations
            .filter_map(|item| {
                item.strip_prefix(TEST_ATTRIBUTE)?.trim().strip_suffix(';')?.rsplit_once("mod ").map(|(_, name)| name)
            })
            .map(str::trim)
            .collect()
    }
}

/// Whether `line` contains `path` as whole words: not as a part of a longer name.
pub fn names(line: &str, path: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(path).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let after = line.get(at + path.len()..).and_then(|text| text.chars().next());
        !before.is_some_and(part_of_name) && !after.is_some_and(part_of_name)
    })
}

/// Writes `a::{b, c}` as `a::b a::c`, one level deep and within one line, so that [`names`] sees grouped imports.
pub fn expand_groups(line: &str) -> String {
    let Some((head, rest)) = line.split_once("::{") else { return line.to_owned() };
    let (group, tail) = rest.split_once('}').unwrap_or((rest, ""));
    let prefix = head.rsplit(|c: char| c.is_whitespace() || c == '(').next().unwrap_or(head);
    let expanded: Vec<String> = group.split(',').map(|item| format!("{prefix}::{}", item.trim())).collect();
    format!("{head} {} {}", expanded.join(" "), expand_groups(tail))
}

/// Replaces what is inside comments and literals by spaces; the length and every line break stay.
fn blank(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let starts_word = !out.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let skip = comment(rest).or_else(|| literal(rest, starts_word));
        let (taken, keep) = skip.map_or((first.len_utf8(), true), |length| (length, false));
        let (piece, next) = rest.split_at(taken);
        if keep {
            out.push_str(piece);
        } else {
            out.extend(piece.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
        }
        rest = next;
    }
    out
}

/// Length of the comment that `text` starts with; block comments nest.
fn comment(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if !text.starts_with("/*") {
        return None;
    }
    let (mut depth, mut at) = (1_usize, 2);
    while depth > 0 {
        let rest = text.get(at..)?;
        let (open, close) = (rest.find("/*").unwrap_or(usize::MAX), rest.find("*/"));
        let Some(close) = close else { return Some(text.len()) };
        depth = if open < close { depth + 1 } else { depth - 1 };
        at += open.min(close) + 2;
    }
    Some(at)
}

/// Length of the string or character literal that `text` starts with.
fn literal(text: &str, starts_word: bool) -> Option<usize> {
    let prefix = if starts_word { text.find(|c: char| !matches!(c, 'b' | 'c' | 'r'))? } else { 0 };
    let (letters, body) = text.split_at(prefix);
    let hashes = body.len() - body.trim_start_matches('#').len();
    let raw = letters.ends_with('r');
    if raw && letters.len() <= 2 && body.get(hashes..)?.starts_with('"') {
        let close = format!("\"{}", "#".repeat(hashes));
        let inside = body.get(hashes + 1..)?;
        let length = inside.find(&close).map_or(inside.len(), |at| at + close.len());
        return Some(prefix + hashes + 1 + length);
    }
    if raw || letters.len() > 1 {
        return None;
    }
    if body.starts_with('"') {
        return Some(prefix + closing(body, '"').unwrap_or(body.len()));
    }
    // A quote without a closing one right after its character is a lifetime.
    let inside = body.strip_prefix('\'')?;
    let escaped = inside.starts_with('\\');
    let closes_after_one = inside.chars().nth(1) == Some('\'');
    (escaped || closes_after_one).then(|| closing(body, '\'').map(|length| prefix + length)).flatten()
}

/// Length up to and including the closing `quote` of a literal that starts at 0, escapes respected.
fn closing(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return Some(at + c.len_utf8()),
            _ => {}
        }
    }
    None
}

/// Ranges of items under `#[cfg(test)]`: from the attribute to the item's closing brace or semicolon.
fn test_items(code: &str) -> Vec<std::ops::Range<usize>> {
    let mut items = Vec::new();
    for (start, _) in code.match_indices(TEST_ATTRIBUTE) {
        let mut depth = 0_usize;
        let body = code.get(start..).unwrap_or_default();
        let end = body.char_indices().find_map(|(at, c)| {
            match c {
                '{' | '[' | '(' => depth += 1,
                '}' | ']' | ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            (depth == 0 && matches!(c, '}' | ';')).then_some(start + at + 1)
        });
        items.push(start..end.unwrap_or(code.len()));
    }
    items
}
