//! The policies and the input that are measured.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use cauldron_coordinator::policy::Bundle;
use serde_json::{Value, json};

/// The rule that gathers all outcomes, for the bare interpreter.
pub(super) const VERDICT: &str = "data.cauldron.guardrail.verdict";
pub(super) const GATHERED: &str = "
defer contains \"never\" if false
modify contains \"never\" if false
step_up contains \"never\" if false
verdict := {\"deny\": deny, \"defer\": defer, \"modify\": modify, \"step_up\": step_up, \"allow\": allow}
";

/// How a rule reads its three fields.
#[derive(Clone, Copy)]
pub(super) enum Style {
    /// Comparisons.
    Compare,
    /// A call of a builtin, then comparisons.
    Call,
    /// A walk through a list, then comparisons: nothing that an index understands.
    Walk,
}

/// `rules` rules for one operation. All read three fields; the last allows, no other holds. `named` rules say for which
/// operation they are, as rules must where nothing else chooses them.
pub(super) fn text(operation: usize, rules: usize, style: Style, named: bool) -> String {
    let mut text = String::from("package cauldron.guardrail\n");
    for n in 0..rules {
        let last = n + 1 == rules;
        let set = if last { "allow" } else { "deny" };
        let most = if last { 0 } else { 1_000 + n };
        let first = match style {
            _ if named => format!("input.proposal.operation == \"shop.op{operation}\""),
            Style::Compare => "input.proposal.reversibility == \"reversible\"".to_owned(),
            Style::Call => "startswith(input.proposal.operation, \"shop.\")".to_owned(),
            Style::Walk => "some line in input.proposal.evidence\n\tline.kind == \"order\"".to_owned(),
        };
        let _ = write!(
            text,
            "{set} contains {{\"rule\": \"op{operation}.rule{n}\", \"why\": \"because\"}} if {{\n\t{first}\n\t\
             input.confidence.raw_ppm > 10\n\tinput.proposal.args.amount > {most}\n}}\n"
        );
    }
    text
}

/// A bundle with one class for each operation. Rules of several operations say for which they are, as OPA needs it.
pub(super) fn bundle(operations: usize, rules: usize, style: Style) -> Result<Bundle, String> {
    let mut files = BTreeMap::new();
    let mut classes = serde_json::Map::new();
    for n in 0..operations {
        let file = format!("op{n}.rego");
        classes.insert(format!("shop.op{n}/order"), json!({ "risk": "R1", "files": [&file] }));
        files.insert(file, text(n, rules, style, operations > 1).into_bytes());
    }
    let manifest = json!({ "version": "bench", "classes": classes });
    files.insert("manifest.json".to_owned(), manifest.to_string().into_bytes());
    Bundle::new(files).map_err(|e| e.to_string())
}

/// The same files for OPA, which merges them into one package.
pub(super) fn write(folder: &Path, operations: usize, rules: usize) -> Result<(), String> {
    for n in 0..operations {
        let text = text(n, rules, Style::Compare, operations > 1);
        std::fs::write(folder.join(format!("op{n}.rego")), text).map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// An input document of common size: every part that the coordinator builds is in it.
pub(super) fn document(operation: usize) -> Value {
    json!({
        "v": 1, "now": "2026-11-30T10:00:00Z", "now_ms": 1_796_032_800_000_u64, "clock": "believed",
        "node": {
            "site": "lyon", "spiffe": "spiffe://bench.example/site/lyon/node/lyon",
            "lease": { "age_ms": 1_200, "authority_index": 12 },
        },
        "proposal": {
            "action_class": format!("shop.op{operation}/order"), "operation": format!("shop.op{operation}"),
            "agent": "spiffe://bench.example/site/lyon/node/lyon/agent/clerk", "agent_build": "ab".repeat(32),
            "args": { "amount": 500, "currency": "EUR", "supplier": "s-4711", "order": "2026-0815" },
            "evidence": [{ "kind": "order", "source": "mail", "digest": "cd".repeat(32) }],
            "reversibility": "reversible", "undo_plan": "cancel the order", "resource": "orders",
            "created_ms": 1_796_032_700_000_u64, "expires_ms": 1_796_119_100_000_u64, "confidence_ppm": 900_000,
        },
        "agent": { "spiffe": "spiffe://bench.example/site/lyon/node/lyon/agent/clerk", "level": "L1", "killed": [] },
        "principal": {}, "confidence": { "raw_ppm": 900_000, "method": "frequency" },
        "history": [{ "operation": "mail.read", "taint": ["external"] }, { "operation": "stock.read", "taint": [] }],
        "taint": ["external"], "budgets": [],
        "resource": { "id": "orders", "owner": "spiffe://bench.example/site/lyon/node/lyon", "version": "7" },
        "votes": [],
    })
}
