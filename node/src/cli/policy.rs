//! Guardrails on the desk: judge one input, compile a bundle, run its tests. Without a mesh.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cauldron_coordinator::input::Input;
use cauldron_coordinator::policy::{Bundle, Engine, check};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::json;

use super::Global;
use super::decide::read_json;
use super::look::tree;
use crate::error::CliError;
use crate::files;
use crate::output::{As, Field, field, print, rows};

const DEPTH_MAX: usize = 8;
const CASES: &[Field] =
    &[field("CASE", "/name", As::Text), field("HOLDS", "/ok", As::Text), field("FAILURE", "/failure", As::Text)];
const CLASSES: &[Field] = &[
    field("CLASS", "/class", As::Text),
    field("RISK", "/risk", As::Text),
    field("VERSION", "/version", As::Short),
    field("FILES", "/files", As::Text),
];

/// Which bundle.
#[derive(Debug, Args)]
pub struct Which {
    /// Folder with manifest.json and its files [default: the bundle this build carries]
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
}

/// `policy …`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What the guardrails say to one input document
    Eval {
        #[command(flatten)]
        which: Which,
        /// The input as JSON; `-` reads standard input
        #[arg(long, value_name = "FILE")]
        input: PathBuf,
    },
    /// Read and compile a bundle
    Check(Which),
    /// Run a bundle's own tests
    Test(Which),
}

pub(super) fn run(global: &Global, command: &Command) -> Result<(), CliError> {
    match command {
        Command::Eval { which, input } => {
            let engine = compile(&load(which)?)?;
            let evaluation = engine.evaluate(&Input::from_document(read_json(input)?));
            let value = serde_json::to_value(&evaluation)
                .map_err(|e| CliError::integrity("the evaluation cannot be shown").because(&e))?;
            print(global.output, &value, || tree(&value, 0))
        }
        Command::Check(which) => {
            let bundle = load(which)?;
            compile(&bundle)?;
            let classes: Vec<_> = bundle
                .classes()
                .iter()
                .map(|(name, c)| {
                    json!({ "class": name, "risk": c.risk, "files": c.files, "version": bundle.class_version(name) })
                })
                .collect();
            let value = json!({ "version": bundle.version(), "digest": bundle.digest(), "items": classes });
            print(global.output, &value, || {
                let table =
                    rows(&classes, CLASSES, "the bundle judges no class: it denies everything", Timestamp::now());
                format!("version {}  digest {}\n\n{table}", bundle.version(), bundle.digest())
            })
        }
        Command::Test(which) => test(global, &load(which)?),
    }
}

fn test(global: &Global, bundle: &Bundle) -> Result<(), CliError> {
    let results = check(bundle);
    let items: Vec<_> =
        results.iter().map(|r| json!({ "name": r.name, "ok": r.failure.is_none(), "failure": r.failure })).collect();
    let failed = results.iter().filter(|r| r.failure.is_some()).count();
    let value = json!({ "ok": failed == 0 && !results.is_empty(), "items": items });
    print(global.output, &value, || rows(&items, CASES, "the bundle has no test", Timestamp::now()))?;
    match (failed, results.len()) {
        (0, 1..) => Ok(()),
        (0, _) => {
            Err(CliError::check("the bundle has no test").hint("add rules named test_… to a file named …_test.rego"))
        }
        (n, all) => Err(CliError::check(format!("{n} of {all} tests do not hold"))),
    }
}

fn compile(bundle: &Bundle) -> Result<Engine, CliError> {
    Engine::new(bundle).map_err(|e| CliError::config("the bundle does not compile").because(&e))
}

/// Reads every file below the folder; names are paths with `/`.
fn load(which: &Which) -> Result<Bundle, CliError> {
    let Some(root) = &which.bundle else { return Ok(Bundle::default_bundle()) };
    let mut found = BTreeMap::new();
    collect(root, root, 0, &mut found)?;
    Bundle::new(found).map_err(|e| CliError::config(format!("{} is no policy bundle", root.display())).because(&e))
}

fn collect(root: &Path, dir: &Path, depth: usize, found: &mut BTreeMap<String, Vec<u8>>) -> Result<(), CliError> {
    let failed = |e: &std::io::Error| CliError::config(format!("cannot read {}", dir.display())).because(e);
    if depth > DEPTH_MAX {
        return Err(CliError::config(format!("{} is nested deeper than {DEPTH_MAX} folders", root.display())));
    }
    for entry in std::fs::read_dir(dir).map_err(|e| failed(&e))? {
        let entry = entry.map_err(|e| failed(&e))?;
        let path = entry.path();
        // Editors and version control leave hidden files; a bundle has none.
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if entry.file_type().map_err(|e| failed(&e))?.is_dir() {
            collect(root, &path, depth + 1, found)?;
        } else {
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            found.insert(name, files::read(&path)?);
        }
    }
    Ok(())
}
