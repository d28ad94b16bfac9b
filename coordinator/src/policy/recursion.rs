//! Refuses rules that need themselves, and rules that need others through too many steps.
//!
//! Rego forbids recursion. The interpreter finds it in rules while it evaluates them, but follows functions, and rules
//! that need one another in a long row, until the stack is used up, which ends the process.

use std::collections::{BTreeMap, BTreeSet};

use regorus::unstable::{Module, Ref, Rule, RuleHead, TokenKind};

use super::words::{depth, path, root, texts, words};

/// Nested expressions on the way from a rule to the last one that it needs, all rules on it together. The stack of a
/// thread of two megabytes bears twice as many in a debug build.
const WAY_MAX: usize = 150;

/// A rule by its full path below `data`.
type Name = Vec<String>;

#[derive(Default)]
struct Node {
    depth: usize,
    needs: BTreeSet<Name>,
}

/// What is wrong, as a sentence.
pub(super) fn check(modules: &[Ref<Module>]) -> Result<(), String> {
    let mut nodes: BTreeMap<Name, Node> = BTreeMap::new();
    for (module, rule, _) in rules(modules) {
        nodes.entry(name_of(module, rule)).or_default();
    }
    let known: BTreeSet<Name> = nodes.keys().cloned().collect();
    for (module, rule, text) in rules(modules) {
        let name = name_of(module, rule);
        let mut needs = needed(module, rule, text, &known);
        let function = matches!(rule, Rule::Spec { head: RuleHead::Func { .. }, .. });
        if !function {
            // `p.a` may need `p.b`; the interpreter tells that from a circle.
            needs.remove(&name);
        }
        if let Some(node) = nodes.get_mut(&name) {
            node.depth = node.depth.max(1 + depth(text));
            node.needs.extend(needs);
        }
    }
    let mut ways: BTreeMap<&Name, usize> = BTreeMap::new();
    let mut left: BTreeSet<&Name> = nodes.keys().collect();
    while !left.is_empty() {
        let ready: Vec<&Name> =
            left.iter().filter(|name| nodes[**name].needs.iter().all(|n| !left.contains(n))).copied().collect();
        if ready.is_empty() {
            let names: Vec<String> = left.iter().take(5).map(|name| name.join(".")).collect();
            return Err(format!("recursion among {}", names.join(", ")));
        }
        for name in ready {
            let below = nodes[name].needs.iter().filter_map(|n| ways.get(n)).max().copied().unwrap_or(0);
            let way = nodes[name].depth + below;
            if way > WAY_MAX {
                return Err(format!("{} needs other rules through too many steps", name.join(".")));
            }
            ways.insert(name, way);
            left.remove(name);
        }
    }
    Ok(())
}

fn rules(modules: &[Ref<Module>]) -> impl Iterator<Item = (&Module, &Rule, &str)> {
    modules.iter().flat_map(|module| texts(module).map(move |(rule, text)| (module.as_ref(), rule.as_ref(), text)))
}

fn name_of(module: &Module, rule: &Rule) -> Name {
    let refr = match rule {
        Rule::Spec { head: RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. }, .. }
        | Rule::Spec { head: RuleHead::Func { refr, .. }, .. }
        | Rule::Default { refr, .. } => refr,
    };
    let mut name = path(&module.package.refr).unwrap_or_default();
    name.extend(root(refr));
    name
}

/// The rules that the text of `rule` may name: too many rather than too few.
fn needed(module: &Module, rule: &Rule, text: &str, known: &BTreeSet<Name>) -> BTreeSet<Name> {
    let Some(words) = words(text) else { return known.clone() };
    let package = path(&module.package.refr).unwrap_or_default();
    let is_name = |at: usize| words.get(at).is_some_and(|word| word.0 == TokenKind::Ident);
    let is_dot = |at: usize| words.get(at).is_some_and(|word| word.1.text() == ".");
    // The first name is that of the rule itself.
    let head = usize::from(matches!(rule, Rule::Default { .. }));
    let mut found = BTreeSet::new();
    for at in head + 1..words.len() {
        if !is_name(at) || is_dot(at - 1) {
            continue;
        }
        let mut names = vec![words[at].1.text().to_owned()];
        let mut next = at + 1;
        while is_dot(next) && is_name(next + 1) {
            names.push(words[next + 1].1.text().to_owned());
            next += 2;
        }
        let meanings = meanings(&package, module, &names);
        let meant = |name: &&Name| meanings.iter().any(|m| name.starts_with(m) || m.starts_with(name));
        found.extend(known.iter().filter(meant).cloned());
    }
    found
}

/// What a path of names may mean in `module`.
fn meanings(package: &[String], module: &Module, names: &[String]) -> BTreeSet<Name> {
    let mut meanings = BTreeSet::from([[package, names].concat()]);
    if names.first().is_some_and(|first| first == "data") {
        meanings.insert(names[1..].to_vec());
    }
    for import in &module.imports {
        let Some(target) = path(&import.refr).filter(|target| target.first().is_some_and(|first| first == "data"))
        else {
            continue;
        };
        let alias = import.r#as.as_ref().map(|span| span.text().to_owned());
        if alias.as_ref().or(target.last()) == names.first() {
            meanings.insert([&target[1..], &names[1..]].concat());
        }
    }
    meanings
}
