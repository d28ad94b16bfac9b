//! How a rule uses its names, by the words of its text.
//!
//! A body can give a name another meaning in many ways (`:=`, `=`, `some`, `every`, patterns). Instead of knowing them
//! all, the few uses are known that give none.

use std::collections::BTreeSet;

use regorus::unstable::{Lexer, Source, Span, Token, TokenKind};

/// Words after which a name on its own is more than read.
const DECLARING: [&str; 7] = ["some", "every", "as", ",", "[", "(", ":"];
/// Words before which it is.
const BINDING: [&str; 7] = [":=", "=", ",", ":", "in", "]", ")"];

/// Names that the rule may give a meaning of its own: all but those of which only fields are read (`name.field`,
/// `name["field"]`) or which stand alone as a statement (`name`, `not name`).
pub(super) fn rebound(rule: &Span) -> BTreeSet<String> {
    let Some(words) = words(rule.text()) else {
        // What cannot be read again is not understood.
        let plain = |c: char| c.is_alphanumeric() || c == '_';
        return rule.text().split(|c| !plain(c)).map(str::to_owned).collect();
    };
    let mut found = BTreeSet::new();
    for (at, Token(kind, span)) in words.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| words.get(at)).map(|t| &t.1);
        let after = words.get(at + 1).map(|t| &t.1);
        let of_another = before.is_some_and(|b| b.text() == ".");
        if *kind == TokenKind::Ident && !of_another && !reads(span, after) && !stands(span, before, after) {
            found.insert(span.text().to_owned());
        }
    }
    found
}

fn reads(name: &Span, after: Option<&Span>) -> bool {
    after.is_some_and(|a| matches!(a.text(), "." | "[") && a.start == name.end)
}

fn stands(name: &Span, before: Option<&Span>, after: Option<&Span>) -> bool {
    let opens = before.is_some_and(|b| {
        !DECLARING.contains(&b.text()) && (b.line < name.line || matches!(b.text(), "not" | "{" | ";"))
    });
    let closes =
        after.is_none_or(|a| !BINDING.contains(&a.text()) && (a.line > name.line || matches!(a.text(), "}" | ";")));
    opens && closes
}

fn words(text: &str) -> Option<Vec<Token>> {
    let source = Source::from_contents(String::new(), text.to_owned()).ok()?;
    let mut lexer = Lexer::new(&source);
    let mut words = Vec::new();
    loop {
        let token = lexer.next_token().ok()?;
        if token.0 == TokenKind::Eof {
            return Some(words);
        }
        words.push(token);
    }
}
