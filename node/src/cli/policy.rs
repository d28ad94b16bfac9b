//! Guardrails on the desk: judge one input and say why, compile a bundle, run its tests, pack it. Without a mesh.

mod live;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cauldron_coordinator::input::Input;
use cauldron_coordinator::policy::{Bundle, Engine, check, untested};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::json;

use super::Global;
use super::decide::read_json;
use super::look::tree;
use crate::client::Client;
use crate::error::CliError;
use crate::files;
use crate::output::{As, Field, field, harmless, plain, print, rows};

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
    /// Folder with manifest.json and its files, or a packed bundle [default: the bundle this build carries]
    #[arg(long, value_name = "PATH")]
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
    /// Which rules hold for one input, where the others stop, and what would change the outcome
    Explain {
        #[command(flatten)]
        which: Which,
        /// The input as JSON; `-` reads standard input
        #[arg(long, value_name = "FILE")]
        input: PathBuf,
    },
    /// Read and compile a bundle; warns about classes without a test
    Check(Which),
    /// Pack a bundle into one file and print its digest
    Bundle {
        #[command(flatten)]
        which: Which,
        /// Where the packed bundle goes
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Run a bundle's own tests
    Test(Which),
    /// What a bundle would have said to everything that a node has judged
    Backtest {
        #[command(flatten)]
        which: Which,
    },
    /// Judge again, each under the bundle it was judged by, what a node has judged: it must come to the same
    Replay,
    /// Make a bundle the active one; policy authors sign
    Activate(Box<live::ActivateArgs>),
}

pub(super) async fn run(client: &Client, global: &Global, command: &Command) -> Result<(), CliError> {
    match command {
        Command::Backtest { which } => live::backtest(client, global, &load(which)?).await,
        Command::Replay => live::replay(client, global).await,
        Command::Activate(args) => live::activate(client, global, args).await,
        at_the_desk => run_at_the_desk(global, at_the_desk),
    }
}

fn run_at_the_desk(global: &Global, command: &Command) -> Result<(), CliError> {
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
            let warnings: Vec<_> = untested(&bundle).map(|class| format!("class {class} has no test")).collect();
            let value = json!({
                "version": bundle.version(), "digest": bundle.digest(), "items": classes, "warnings": warnings,
            });
            print(global.output, &value, || {
                let table =
                    rows(&classes, CLASSES, "the bundle judges no class: it denies everything", Timestamp::now());
                let warnings: String = warnings.iter().map(|w| format!("\nWarning: {w}")).collect();
                format!("version {}  digest {}\n\n{table}{warnings}", bundle.version(), bundle.digest())
            })
        }
        Command::Test(which) => test(global, &load(which)?),
        Command::Explain { which, input } => {
            let engine = compile(&load(which)?)?;
            explain(global, &engine, &Input::from_document(read_json(input)?))
        }
        Command::Bundle { which, out } => {
            let bundle = load(which)?;
            compile(&bundle)?;
            files::write_public(out, bundle.packed())?;
            let (version, digest) = (bundle.version(), bundle.digest());
            let value = json!({ "version": version, "digest": digest, "len": bundle.packed().len(), "file": out });
            print(global.output, &value, || format!("version {version}  digest {digest}"))
        }
        Command::Backtest { .. } | Command::Replay | Command::Activate(_) => {
            unreachable!("these ask a node, and are answered before")
        }
    }
}

fn explain(global: &Global, engine: &Engine, input: &Input) -> Result<(), CliError> {
    let Some(told) = engine.explain(input) else {
        let evaluation = engine.evaluate(input);
        return print(global.output, &json!({ "evaluation": evaluation }), || evaluation.rules.join("\n"));
    };
    let value =
        serde_json::to_value(&told).map_err(|e| CliError::integrity("the explanation cannot be shown").because(&e))?;
    print(global.output, &value, || {
        let mut text = tree(&value["evaluation"], 0);
        text.push_str("\nrules\n");
        for rule in &told.rules {
            let place = format!("{}:{}", rule.at.file, rule.at.line);
            let state = match (&rule.stopped, &rule.error) {
                (_, Some(error)) => format!("fails: {}", harmless(error)),
                (Some(stop), None) => format!("stops at {}:{}  {}", stop.file, stop.line, harmless(&stop.text)),
                (None, None) if rule.adds.is_empty() => "adds nothing".to_owned(),
                (None, None) => format!("holds  {}", harmless(&rule.adds.join("; "))),
            };
            text.push_str(&format!("  {:<8} {place:<32} {state}\n", rule.set));
        }
        text.push_str("\nwould be otherwise\n");
        for flip in &told.flips {
            let outcome = serde_json::to_value(flip.outcome).unwrap_or_default();
            text.push_str(&format!("  {:<8} if {}\n", plain(&outcome), harmless(&flip.to_string())));
        }
        if told.flips.is_empty() {
            text.push_str("  by no single change of a number, a truth or a member that the rules read\n");
        }
        text
    })
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

pub(super) fn compile(bundle: &Bundle) -> Result<Engine, CliError> {
    Engine::new(bundle).map_err(|e| CliError::config("the bundle does not compile").because(&e))
}

/// Reads a packed bundle, or every file below the folder; names are paths with `/`.
pub(super) fn load(which: &Which) -> Result<Bundle, CliError> {
    let Some(root) = &which.bundle else { return Ok(Bundle::default_bundle()) };
    if root.is_file() {
        let unpacked = Bundle::unpack(&files::read(root)?);
        return unpacked
            .map_err(|e| CliError::config(format!("{} is no packed policy bundle", root.display())).because(&e));
    }
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
