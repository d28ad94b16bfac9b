//! Every crate we depend on has a reason: a line in the decision note, and a member of the workspace that uses it.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Report, Tree};

const NOTE: &str = "docs/decisions/0001-dependencies.md";

pub fn report(tree: &Tree) -> Result<Report, String> {
    let manifest = required(tree, "Cargo.toml")?;
    let declared = declared(&manifest);
    let explained = explained(&required(tree, NOTE)?);
    let used = used(tree)?;
    let mut report = Report { summary: format!("{} crates", declared.len()), ..Report::default() };
    for name in declared.difference(&explained) {
        report.findings.push(format!("{NOTE}: say why `{name}` is in Cargo.toml"));
    }
    for name in explained.difference(&declared) {
        report.findings.push(format!("{NOTE}: `{name}` is not in Cargo.toml any more"));
    }
    for name in declared.difference(&used) {
        report.findings.push(format!("Cargo.toml: no member uses {name}: drop it"));
    }
    Ok(report)
}

fn required(tree: &Tree, file: &str) -> Result<String, String> {
    tree.text(Path::new(file))?.ok_or_else(|| format!("{file} is not UTF-8"))
}

/// Crates from a registry in `[workspace.dependencies]`.
fn declared(manifest: &str) -> BTreeSet<String> {
    let section = manifest.lines().skip_while(|line| *line != "[workspace.dependencies]").skip(1);
    let entries = section.take_while(|line| !line.starts_with('['));
    entries
        .filter(|line| !line.contains("path = "))
        .filter_map(|line| Some(line.split_once(" = ")?.0.to_owned()))
        .collect()
}

/// Crates in the first column of the note's tables.
fn explained(note: &str) -> BTreeSet<String> {
    let cells = note.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" |"));
    cells.flat_map(|(cell, _)| cell.split(", ").map(|name| name.trim_matches('`').to_owned())).collect()
}

/// Crates that some member takes from the workspace.
fn used(tree: &Tree) -> Result<BTreeSet<String>, String> {
    let mut used = BTreeSet::new();
    for file in
        tree.with_extension("toml").filter(|file| file.ends_with("Cargo.toml") && *file != Path::new("Cargo.toml"))
    {
        let text = tree.text(file)?.unwrap_or_default();
        let lines = text.lines().filter(|line| line.contains("workspace = true"));
        used.extend(lines.filter_map(|line| line.split(['.', ' ']).next()).map(str::to_owned));
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::{declared, explained};

    #[test]
    fn the_manifest_and_the_note_are_read_alike() {
        let manifest = "[workspace]\nx = 1\n[workspace.dependencies]\nours = { path = \"ours\" }\na = \"1\"\nb-c = { version = \"2\" }\n\n[profile.dev]\nd = 1\n";
        let note = "| crate | why |\n|---|---|\n| `a`, `b-c` | `d` is not one |\n";
        assert_eq!(declared(manifest), explained(note));
        assert_eq!(declared(manifest).len(), 2);
    }
}
