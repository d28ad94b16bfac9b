//! Plain, well-set text for a terminal.

use std::io::IsTerminal;

use crate::error::CliError;
use crate::output::{harmless, say};

/// Characters in a line of prose.
const WIDTH: usize = 100;
/// In front of what a step shows.
const INDENT: &str = "   ";

/// Tells a story; headings are bold on a terminal that was not asked to be plain (<https://no-color.org>).
#[derive(Debug, Clone, Copy)]
pub struct Tell {
    bold: bool,
}

impl Tell {
    /// To standard output.
    pub fn to_stdout() -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        Self { bold: std::io::stdout().is_terminal() && !plain }
    }

    /// A step of the story.
    pub fn step(&self, number: u8, title: &str) -> Result<(), CliError> {
        let line = format!("{number}. {title}");
        say(&if self.bold { format!("\n\x1b[1m{line}\x1b[0m\n") } else { format!("\n{line}\n") })
    }

    /// A paragraph, wrapped.
    pub fn prose(&self, text: &str) -> Result<(), CliError> {
        say(&wrapped(&harmless(text), INDENT))
    }

    /// A line as it is: a command, a path, a row. Never broken, so that it can be copied.
    pub fn line(&self, text: &str) -> Result<(), CliError> {
        say(&format!("{INDENT}  {}\n", harmless(text)))
    }
}

/// Breaks `text` between words at [`WIDTH`]; a word that is longer stays whole.
fn wrapped(text: &str, indent: &str) -> String {
    let (mut out, mut column) = (String::new(), 0);
    for word in text.split_whitespace() {
        let len = word.chars().count();
        if column > 0 && column + 1 + len > WIDTH {
            out.push('\n');
            column = 0;
        }
        out.push_str(if column == 0 { indent } else { " " });
        column += if column == 0 { indent.len() } else { 1 } + len;
        out.push_str(word);
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_stays_within_the_width_and_long_words_whole() {
        let long = "x".repeat(WIDTH + 20);
        let text = format!("{} {long} end", "word ".repeat(60));
        let set = wrapped(&text, INDENT);
        assert!(set.lines().filter(|l| !l.contains(&long)).all(|l| l.chars().count() <= WIDTH), "{set}");
        assert!(set.lines().any(|l| l.trim() == long));
        assert_eq!(set.split_whitespace().count(), 62);
    }
}
