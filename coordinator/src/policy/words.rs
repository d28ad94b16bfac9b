//! The words of a rule's text, and how it uses its names.
//!
//! A body can give a name another meaning in many ways (`:=`, `=`, `some`, `every`, patterns). Instead of knowing them
//! all, the few uses are known that give none.

use std::collections::BTreeSet;

use regorus::unstable::{Expr, Lexer, Module, Ref, Rule, Source, Span, Token, TokenKind};

/// Words after which a name on its own is more than read.
const DECLARING: [&str; 7] = ["some", "every", "as", ",", "[", "(", ":"];
/// Words before which it is.
const BINDING: [&str; 7] = [":=", "=", ",", ":", "in", "]", ")"];

/// The rules of a module, each with its text up to the next rule. (A rule's span ends before a closing quote.)
pub(super) fn texts(module: &Module) -> impl Iterator<Item = (&Ref<Rule>, &str)> {
    let all = module.package.span.source.contents().as_str();
    let place = |offset: u32| usize::try_from(offset).unwrap_or(usize::MAX).min(all.len());
    let next = module.policy.iter().skip(1).map(|rule| rule.span().start).chain([u32::MAX]);
    let text = move |(rule, next): (_, u32)| {
        let rule: &Ref<Rule> = rule;
        (rule, all.get(place(rule.span().start)..place(next)).unwrap_or(all))
    };
    module.policy.iter().zip(next).map(text)
}

/// Names that the rule may give a meaning of its own: all but those of which only fields are read (`name.field`,
/// `name["field"]`) or which stand alone as a statement (`name`, `not name`).
pub(super) fn rebound(rule: &str) -> BTreeSet<String> {
    let Some(words) = words(rule) else {
        // What cannot be read again is not understood.
        let plain = |c: char| c.is_alphanumeric() || c == '_';
        return rule.split(|c| !plain(c)).map(str::to_owned).collect();
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

/// How deeply expressions of a text are nested at most, as far as the lexer reads it: brackets, and operators of one
/// expression, of which each may stand in the operand of the next.
pub(super) fn depth(text: &str) -> usize {
    let Ok(source) = Source::from_contents(String::new(), text.to_owned()) else { return 0 };
    let mut lexer = Lexer::new(&source);
    // Operators of the expression that is open at each bracket.
    let mut open = vec![0usize];
    let (mut depth, mut most, mut line, mut continues) = (0usize, 0, 0, false);
    while let Ok(Token(kind, span)) = lexer.next_token() {
        let operator = match (kind, span.text()) {
            (TokenKind::Eof, _) => break,
            (TokenKind::Symbol, "(" | "[" | "{" | ")" | "]" | "}" | "," | ";" | ":=" | "." | ":") => false,
            (TokenKind::Symbol, _) | (TokenKind::Ident, "not" | "in" | "else") => true,
            _ => false,
        };
        // A new line is a new expression, unless an operator joins it to the last.
        let ends = span.line != line && !operator && !continues || matches!(span.text(), "," | ";");
        if let Some(operators) = open.last_mut() {
            if ends {
                depth -= std::mem::take(operators);
            }
            *operators += usize::from(operator);
            depth += usize::from(operator);
        }
        match span.text() {
            _ if operator => {}
            "(" | "[" | "{" => {
                open.push(0);
                depth += 1;
            }
            ")" | "]" | "}" if open.len() > 1 => depth -= 1 + open.pop().unwrap_or(0),
            _ => {}
        }
        most = most.max(depth);
        (line, continues) = (span.line, operator);
    }
    most
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

/// The words of a text; None where the lexer refuses it.
pub(super) fn words(text: &str) -> Option<Vec<Token>> {
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

/// A reference by names alone: `input.proposal["action_class"]`.
pub(super) fn path(mut expr: &Expr) -> Option<Vec<String>> {
    let mut names = Vec::new();
    loop {
        match expr {
            Expr::Var { span, .. } => {
                names.push(span.text().to_owned());
                names.reverse();
                return Some(names);
            }
            Expr::RefDot { refr, field, .. } => {
                names.push(field.0.text().to_owned());
                expr = refr;
            }
            Expr::RefBrack { refr, index, .. } => {
                let Expr::String { value, .. } = index.as_ref() else { return None };
                names.push(value.as_string().ok()?.to_string());
                expr = refr;
            }
            _ => return None,
        }
    }
}

/// The name that a reference begins with.
pub(super) fn root(mut expr: &Expr) -> Option<String> {
    loop {
        match expr {
            Expr::Var { span, .. } => return Some(span.text().to_owned()),
            Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } => expr = refr,
            _ => return None,
        }
    }
}
