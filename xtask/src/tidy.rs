//! Rules of the house that no compiler checks.
//!
//! Each rule is a function from the tracked files to a [`Report`]. A finding names the place, what is wrong there and what
//! to write instead; one finding makes the command fail.

mod cores;
mod dependencies;
mod lengths;
mod links;
mod locks;
mod places;
mod source;
mod tests_named;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::forward;

/// The tracked files of the repository.
pub struct Tree {
    root: PathBuf,
    files: Vec<PathBuf>,
}

/// What a rule says: one line about what it looked at, and what it found wrong.
#[derive(Debug, Default)]
pub struct Report {
    summary: String,
    findings: Vec<String>,
}

type Rule = fn(&Tree) -> Result<Report, String>;

const RULES: [(&str, Rule); 9] = [
    ("cores-without-tokio", cores::without_tokio),
    ("cores-without-clock-chance-io", cores::without_outside_world),
    ("cores-deny-disallowed", cores::deny_disallowed),
    ("dependencies-have-reasons", dependencies::report),
    ("what-is-fuzzed-ships", locks::report),
    ("file-length", lengths::report),
    ("no-machine-paths", places::report),
    ("links-resolve", links::report),
    ("named-tests-exist", tests_named::report),
];

/// Runs every rule, prints what each says, and fails if any has a finding.
pub fn run() -> Result<ExitCode, String> {
    let tree = Tree::tracked(forward::repository()?)?;
    let mut findings = 0;
    for (name, rule) in RULES {
        let report = rule(&tree).map_err(|error| format!("tidy rule {name} could not run: {error}"))?;
        let verdict = if report.findings.is_empty() { "ok  " } else { "FAIL" };
        println!("{verdict} {name}: {}", report.summary);
        for finding in &report.findings {
            println!("       {finding}");
        }
        findings += report.findings.len();
    }
    println!("tidy: {} rules, {findings} findings", RULES.len());
    Ok(if findings == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Tree {
    fn tracked(root: PathBuf) -> Result<Self, String> {
        let output = Command::new("git")
            .arg("-C")
            .arg(&root)
            .args(["ls-files", "-z", "--cached"])
            .output()
            .map_err(|error| format!("cannot run git: {error}"))?;
        if !output.status.success() {
            return Err(format!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr).trim()));
        }
        let names = String::from_utf8(output.stdout).map_err(|_| "a tracked file's name is not UTF-8".to_owned())?;
        // A file that was deleted but not yet committed is still listed.
        let files = names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from);
        Ok(Self { files: files.filter(|file| root.join(file).is_file()).collect(), root })
    }

    fn with_extension<'a>(&'a self, extension: &'a str) -> impl Iterator<Item = &'a Path> {
        self.files
            .iter()
            .map(PathBuf::as_path)
            .filter(move |file| file.extension().is_some_and(|found| found == extension))
    }

    /// The text of a tracked file, or `None` for one that is not UTF-8.
    fn text(&self, file: &Path) -> Result<Option<String>, String> {
        let bytes =
            std::fs::read(self.root.join(file)).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        Ok(String::from_utf8(bytes).ok())
    }
}
