//! The sans-IO crates stay sans-IO: the simulator only proves what the binary does if a core sees nothing but its inputs.

use std::path::Path;

use super::source::{self, Code};
use super::{Report, Tree};
use crate::forward;

/// Package and folder of each sans-IO crate.
const CORES: [(&str, &str); 5] = [
    ("cauldron-identity", "identity"),
    ("cauldron-crdt", "crdt"),
    ("cauldron-coordinator", "coordinator"),
    ("cauldron-mesh-core", "mesh/core"),
    ("cauldron-node-core", "node/core"),
];

/// What a core's own code must not name, and what it uses instead.
const OUTSIDE: [(&str, &str); 12] = [
    ("HashMap", "its iteration order differs between runs: use BTreeMap"),
    ("HashSet", "its iteration order differs between runs: use BTreeSet"),
    ("std::time::Instant", "time is an input: take the Clock or a millisecond count as an argument"),
    ("Instant::now", "time is an input: take the Clock or a millisecond count as an argument"),
    ("SystemTime", "time is an input: take the Clock as an argument"),
    ("thread_rng", "chance is an input: take the bytes or the seed as an argument"),
    ("rand::rng", "chance is an input: take the bytes or the seed as an argument"),
    ("std::fs", "files belong to the shell: return an output that asks for it"),
    ("std::net::TcpStream", "sockets belong to the shell: return an output that asks for it"),
    ("std::net::UdpSocket", "sockets belong to the shell: return an output that asks for it"),
    ("std::thread", "a core has no tasks: return a timer or an output"),
    ("std::env", "the environment belongs to the shell: take the value as an argument"),
];

/// No core has tokio among its normal dependencies, on any platform.
pub fn without_tokio(tree: &Tree) -> Result<Report, String> {
    let mut report = Report { summary: format!("{} crates", CORES.len()), ..Report::default() };
    for (package, _) in CORES {
        let output = forward::cargo()
            .current_dir(&tree.root)
            .args(["tree", "--package", package, "--edges", "normal", "--target", "all", "--invert", "tokio"])
            .output()
            .map_err(|error| format!("cannot run cargo tree: {error}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        // Only this answer proves absence; any other failure of cargo would look the same by its exit code.
        if !said.contains("did not match any packages") {
            let why = if output.status.success() { String::from_utf8_lossy(&output.stdout) } else { said };
            report.findings.push(format!("{package} depends on tokio, or cargo could not tell:\n{why}"));
        }
    }
    Ok(report)
}

/// No core names a clock, a random source, a file, a socket, a thread or an unordered map outside its tests.
pub fn without_outside_world(tree: &Tree) -> Result<Report, String> {
    let mut report = Report::default();
    let mut files = 0;
    for (_, folder) in CORES {
        let sources = Path::new(folder).join("src");
        let tests = test_modules(tree, &sources)?;
        for file in tree.with_extension("rs").filter(|file| file.starts_with(&sources)) {
            if tests.iter().any(|test| file.starts_with(test) || file == test.with_extension("rs")) {
                continue;
            }
            files += 1;
            if let Some(text) = tree.text(file)? {
                let found = named_outside(&text);
                report
                    .findings
                    .extend(found.into_iter().map(|(line, what)| format!("{}:{line}: {what}", file.display())));
            }
        }
    }
    report.summary = format!("{files} files of {} crates", CORES.len());
    Ok(report)
}

/// Each core switches on the lints whose lists stand in `clippy.toml`: they see through imports and aliases.
pub fn deny_disallowed(tree: &Tree) -> Result<Report, String> {
    const ATTRIBUTE: &str = "#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]";
    let mut report = Report { summary: format!("{} crates", CORES.len()), ..Report::default() };
    for (_, folder) in CORES {
        let file = Path::new(folder).join("src/lib.rs");
        let text = tree.text(&file)?.unwrap_or_default();
        if !text.lines().any(|line| line == ATTRIBUTE) {
            report.findings.push(format!("{}: add {ATTRIBUTE}", file.display()));
        }
    }
    Ok(report)
}

fn named_outside(text: &str) -> Vec<(usize, String)> {
    let code = Code::of(text);
    let mut found = Vec::new();
    for (number, line) in code.lines_outside_tests() {
        let line = source::expand_groups(line);
        for (name, instead) in OUTSIDE {
            if source::names(&line, name) {
                found.push((number, format!("{name}: {instead}")));
            }
        }
    }
    found
}

/// Folders or files (without `.rs`) of modules that exist only under `#[cfg(test)]`.
fn test_modules(tree: &Tree, sources: &Path) -> Result<Vec<std::path::PathBuf>, String> {
    let mut modules = Vec::new();
    for file in tree.with_extension("rs").filter(|file| file.starts_with(sources)) {
        let Some(text) = tree.text(file)? else { continue };
        let folder = match file.file_name().and_then(|name| name.to_str()) {
            Some("lib.rs" | "mod.rs" | "main.rs") => file.parent().unwrap_or(sources).to_owned(),
            _ => file.with_extension(""),
        };
        modules.extend(Code::of(&text).test_module_files().into_iter().map(|name| folder.join(name)));
    }
    Ok(modules)
}

#[cfg(test)]
mod tests {
    use super::named_outside;

    fn check(text: &str, expected: &[(usize, &str)]) {
        let found = named_outside(text);
        let found: Vec<_> = found
            .iter()
            .map(|(line, what)| (*line, what.split_once(": ").map_or(what.as_str(), |(name, _)| name)))
            .collect();
        assert_eq!(found, expected, "in {text:?}");
    }

    #[test]
    fn names_in_code_are_found() {
        check("use std::collections::HashMap;\n", &[(1, "HashMap")]);
        check("fn f() {\n    let t = SystemTime::now();\n}\n", &[(2, "SystemTime")]);
        check("use std::time::{Duration, Instant};\n", &[(1, "std::time::Instant")]);
        check("use std::{fs, fmt};\n", &[(1, "std::fs")]);
        check("let t = Instant::now();\n", &[(1, "Instant::now")]);
    }

    #[test]
    fn our_own_types_and_prose_are_not() {
        check("pub struct Instant(u64);\nuse std::time::Duration;\n", &[]);
        check("// no HashMap here\n/// never `SystemTime`\n/* std::fs */\nlet s = \"thread_rng\";\n", &[]);
        check("let s = r#\"a \" HashMap\"#; let c = '\"'; let d = b'\\''; let l: &'static str = x;\n", &[]);
        check("struct MyHashMapper; std::thread_local! {}\n", &[]);
    }

    #[test]
    fn code_after_a_tricky_literal_is_still_seen() {
        check("let c = '\"'; HashMap::new(); let e = '\"';\n", &[(1, "HashMap")]);
        check("let s = \"\\\"\"; HashSet::new();\n", &[(1, "HashSet")]);
        check("/* a /* b */ c */ HashSet::new();\n", &[(1, "HashSet")]);
    }

    #[test]
    fn tests_may_use_them_but_what_follows_may_not() {
        let text = "#[cfg(test)]\nmod tests {\n    use std::fs;\n    fn f() { HashMap::new(); }\n}\nuse std::fs;\n";
        check(text, &[(6, "std::fs")]);
        check("#[cfg(test)]\nmod tests;\nuse std::env;\n", &[(3, "std::env")]);
    }
}
