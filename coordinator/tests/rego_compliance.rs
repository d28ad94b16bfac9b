//! Which Rego the guardrails speak: OPA's conformance suite through our interpreter.
//!
//! The page `docs/reference/rego.md` is what this test found. `UPDATE_EXPECT=1 cargo test -p cauldron-coordinator --test
//! rego_compliance` writes it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use cauldron_coordinator::policy::{MADE_MAX, bounded, conformant_engine, masked};
use regorus::Value;
use serde::Deserialize;

const SUITE: &str = "rego/ComplianceSuite/Tests/RegoComplianceTests/TestData/v1";
/// The folders that regorus itself claims.
const CLAIMED: &str = "rego/regorus-opa.passing";
const CASES: usize = 2_067;
/// Of its own claim, regorus 0.14.1 passes this many of 1,515, and of all cases this many.
const CLAIMED_MIN: usize = 1_487;
/// What the interpreter says to a call of a builtin that it does not have.
const LACKING: &str = "could not find function";
const ALL_MIN: usize = 1_593;

#[derive(Deserialize)]
struct File {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    note: String,
    query: String,
    #[serde(default)]
    modules: Vec<String>,
    data: Option<Value>,
    input: Option<Value>,
    input_term: Option<String>,
    want_result: Option<Value>,
    want_error: Option<String>,
    want_error_code: Option<String>,
    #[serde(default)]
    strict_error: bool,
    #[serde(default)]
    sort_bindings: bool,
}

impl Case {
    fn wants_error(&self) -> bool {
        self.want_error.is_some() || self.want_error_code.is_some()
    }
}

/// What became of a case.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Same,
    /// A builtin that this build lacks.
    Lacks,
    /// An error where OPA answers: a deny, or a bundle that does not load.
    Refused,
    /// Another answer than OPA's.
    Other,
}

#[derive(Default)]
struct Folder {
    cases: usize,
    same: usize,
    /// An error where OPA calls the result undefined: guardrails are strict.
    stricter: usize,
    lacks: usize,
    refused: usize,
    other: Vec<String>,
}

#[test]
fn the_published_list_is_what_the_interpreter_does() {
    let (Some(suite), Some(claimed)) = (shared(SUITE), shared(CLAIMED)) else {
        return skipped("rego_compliance", "needs ../shared/data/rego");
    };
    let claimed: BTreeSet<String> = std::fs::read_to_string(claimed)
        .expect("readable")
        .lines()
        .filter_map(|line| line.strip_prefix("v1/").map(str::to_owned))
        .collect();
    let mut folders: BTreeMap<String, Folder> = BTreeMap::new();
    // An error that OPA wants too, of a builtin that is not there: regorus counts it as passed, we do not.
    let (mut as_opa, mut as_opa_claimed, mut by_absence) = (0, 0, 0);
    let hook = std::panic::take_hook();
    // A case that panics is counted, not told.
    std::panic::set_hook(Box::new(|_| {}));
    for path in files(&suite) {
        let name = path.parent().and_then(Path::file_name).expect("a folder").to_string_lossy().into_owned();
        let file: File = serde_json::from_slice(&std::fs::read(&path).expect("readable")).expect("a file of cases");
        for case in &file.cases {
            let folder = folders.entry(name.clone()).or_default();
            folder.cases += 1;
            let lenient = judge(case, case.strict_error) == Found::Same;
            as_opa += usize::from(lenient);
            as_opa_claimed += usize::from(lenient && claimed.contains(&name));
            match judge(case, true) {
                Found::Same => folder.same += 1,
                _ if lenient => folder.stricter += 1,
                Found::Lacks => {
                    folder.lacks += 1;
                    by_absence += usize::from(case.wants_error());
                }
                Found::Refused => folder.refused += 1,
                Found::Other => folder.other.push(case.note.clone()),
            }
        }
    }
    std::panic::set_hook(hook);
    let cases: usize = folders.values().map(|f| f.cases).sum();
    assert_eq!(cases, CASES);
    assert!(as_opa_claimed >= CLAIMED_MIN, "{as_opa_claimed} of what regorus claims pass");
    assert!(as_opa + by_absence >= ALL_MIN, "{as_opa} and {by_absence} of all pass");
    expect_test::expect_file!["../../docs/reference/rego.md"].assert_eq(&page(&folders, as_opa));
}

fn judge(case: &Case, strict: bool) -> Found {
    match catch_unwind(AssertUnwindSafe(|| answer(case, strict))) {
        Ok(Ok(got)) => {
            let wanted = case.want_result.as_ref().map(|want| Value::from_json_str(&want.to_string()).expect("JSON"));
            let undefined = wanted.is_none() && !case.wants_error();
            let schema = case.note.starts_with("json_verify_schema") || case.note.starts_with("json_match_schema");
            match wanted {
                Some(want) if got == want => Found::Same,
                // The words of a schema's refusal differ; whether it refuses must not.
                Some(want) if schema && got[0]["x"][0] == want[0]["x"][0] => Found::Same,
                None if undefined && got == Value::new_array() => Found::Same,
                _ => Found::Other,
            }
        }
        Ok(Err(why)) => match () {
            () if why.contains(LACKING) => Found::Lacks,
            () if case.wants_error() => Found::Same,
            () => Found::Refused,
        },
        // A panic is a deny like any error.
        Err(_) => Found::Refused,
    }
}

fn answer(case: &Case, strict: bool) -> Result<Value, String> {
    let said = |e: &dyn std::fmt::Display| format!("{e:#}");
    let mut engine = conformant_engine();
    engine.set_strict_builtin_errors(strict);
    if let Some(data) = &case.data {
        engine.add_data(data.clone()).map_err(|e| said(&e))?;
    }
    engine.set_input(case.input.clone().unwrap_or(Value::Undefined));
    if let Some(term) = &case.input_term {
        let results = engine.eval_query(term.clone(), false).map_err(|e| said(&e))?;
        let value = results.result.last().and_then(|r| r.expressions.last()).map(|e| e.value.clone());
        engine.set_input(value.ok_or("the input term has no value")?);
    }
    for (n, module) in case.modules.iter().enumerate() {
        engine.add_policy(format!("module{n}.rego"), module.clone()).map_err(|e| said(&e))?;
    }
    let results = engine.eval_query(case.query.clone(), false).map_err(|e| said(&e))?;
    let one = |result: &regorus::QueryResult| {
        let mut bindings = result.bindings.clone();
        if bindings.as_object().is_ok_and(|b| !b.is_empty()) {
            if case.sort_bindings
                && let Ok(map) = bindings.as_object_mut()
            {
                map.iter_mut().filter_map(|(_, value)| value.as_array_mut().ok()).for_each(|items| items.sort());
            }
            return bindings;
        }
        result.expressions.last().map_or(Value::Undefined, |e| e.value.clone())
    };
    let values: Vec<Value> = results.result.iter().map(one).collect();
    // Through text, as OPA's results are JSON: sets become lists.
    Value::from_json_str(&Value::from(values).to_string()).map_err(|e| said(&e))
}

fn page(folders: &BTreeMap<String, Folder>, as_opa: usize) -> String {
    let mut out = String::from(HEAD);
    let cases: usize = folders.values().map(|f| f.cases).sum();
    let same: usize = folders.values().map(|f| f.same).sum();
    let _ = writeln!(
        out,
        "Of {cases} cases, {same} give OPA's answer as guardrails run, and {as_opa} with errors of builtins taken as OPA's \
         default takes them.\n"
    );
    let whole = |f: &Folder| f.same + f.stricter == f.cases;
    let names = |want: &dyn Fn(&Folder) -> bool| {
        let names: Vec<_> = folders.iter().filter(|(_, f)| want(f)).map(|(name, _)| format!("`{name}`")).collect();
        names.join(", ")
    };
    let _ = writeln!(
        out,
        "## Spoken in full\n\nA folder that asks for errors alone passes by any error.\n\n{}\n",
        wrap(&names(&whole))
    );
    let _ = writeln!(
        out,
        "## Not spoken\n\nThe builtins of these are not in this build.\n\n{}\n",
        wrap(&names(&|f| f.lacks == f.cases))
    );
    out.push_str(
        "## Spoken in part\n\nAn error is a deny, or a bundle that does not load; another answer is what an author must know.\n\n| folder | cases | OPA's answer | stricter | builtin lacking | another error | another answer |\n",
    );
    out.push_str("|---|---|---|---|---|---|---|\n");
    for (name, f) in folders.iter().filter(|(_, f)| !whole(f) && f.lacks < f.cases) {
        let (cases, same, stricter, lacks) = (f.cases, f.same, f.stricter, f.lacks);
        let (refused, other) = (f.refused, f.other.len());
        let _ = writeln!(out, "| `{name}` | {cases} | {same} | {stricter} | {lacks} | {refused} | {other} |");
    }
    out.push_str("\nThe cases with another answer:\n\n");
    for folder in folders.values() {
        for note in &folder.other {
            let _ = writeln!(out, "- `{}`", note.replace('`', "'"));
        }
    }
    out.push_str("\n## Masked and bounded\n\n| builtin | in a guardrail |\n|---|---|\n");
    for name in masked() {
        let _ = writeln!(out, "| `{name}` | an error, hence a deny: it is not pure |");
    }
    for name in bounded() {
        let _ = writeln!(
            out,
            "| `{name}` | an error when one call would make more than {MADE_MAX} elements or characters |"
        );
    }
    out
}

const HEAD: &str = "# Rego in guardrails

Guardrails speak Rego v1 as [regorus](https://github.com/microsoft/regorus) 0.14.1 does. This page is written and checked by a test that
runs OPA's conformance suite (`v1`, from swift-opa) through the interpreter as guardrails configure it, without the masks: see
`coordinator/tests/rego_compliance.rs`.

Guardrails are strict: where a builtin refuses its arguments, OPA's default makes the expression undefined; here it is an error, and an
error is a deny. \"Stricter\" counts the cases that differ by that alone.

Beyond the language: every file has a [package of its own](../decisions/0008-one-rego-package-per-file.md), rules that need themselves are
refused when a bundle is loaded, expressions nest up to 100 deep, a line has at most 1024 columns, and an evaluation has one second.
What an author may miss: string interpolation (`$\"…\"`), keywords as names of rules, and everything that reads certificates, tokens,
GraphQL or Rego itself.

";

/// Lines of at most 138 characters.
fn wrap(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("one line");
        if !line.is_empty() && line.len() + word.len() + 1 > 138 {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n")
}

fn files(suite: &Path) -> Vec<PathBuf> {
    let list = |dir: &Path| {
        let mut entries: Vec<PathBuf> =
            std::fs::read_dir(dir).expect("a folder").map(|e| e.expect("readable").path()).collect();
        entries.sort();
        entries
    };
    list(suite).iter().flat_map(|folder| list(folder)).filter(|p| p.extension().is_some_and(|e| e == "json")).collect()
}

fn shared(path: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(path);
    folder.exists().then_some(folder)
}

fn skipped(name: &str, reason: &str) {
    eprintln!("skipped: {name}: {reason}");
    if let Some(path) = std::env::var_os("CAULDRON_SKIPS") {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).expect("can be written");
        std::io::Write::write_all(&mut file, format!("skipped: {name}: {reason}\n").as_bytes())
            .expect("can be written");
    }
}
