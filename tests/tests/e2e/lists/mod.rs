//! Lists of tests that nobody here wrote (`../shared/data/governance`): each item is a test that carries its id.

mod aarm;
mod adr0030;
mod external;
pub mod place;

use cauldron_tests::{shared, skipped};
use serde_json::Value;

/// Items without a test, and why.
const PENDING: [(&str, &str); 3] = [
    ("AARM-19", "R7 (SHOULD): nothing measures how far a session drifts yet; rules may count its history"),
    ("AARM-20", "R8 (SHOULD): there is no export to a SIEM yet; events go to OTLP, facts stay in the record"),
    ("AARM-21", "R9 (SHOULD): connectors use the node's own access; no credential is issued for one action yet"),
];

/// `AARM-07` is tested by `aarm_07_…`, and by nothing else.
#[test]
fn every_item_of_the_lists_has_one_test_or_a_reason() {
    let (aarm, adr) = (include_str!("aarm.rs"), include_str!("adr0030.rs"));
    for (file, source) in [("aarm.json", aarm), ("adr0030.json", adr)] {
        let Some(path) = shared(&format!("data/governance/{file}")) else {
            skipped(&format!("list {file}"), "needs ../shared/data/governance");
            continue;
        };
        let list: Value = serde_json::from_slice(&std::fs::read(path).expect("readable")).expect("JSON");
        let ids: Vec<&str> =
            list["tests"].as_array().expect("a list").iter().filter_map(|t| t["id"].as_str()).collect();
        assert!(ids.len() >= 11, "{ids:?}");
        for id in &ids {
            let name = format!("fn {}_", id.to_ascii_lowercase().replace('-', "_"));
            let pending = PENDING.iter().any(|(of, why)| of == id && !why.is_empty());
            let found = source.matches(&name).count();
            assert_eq!(found, usize::from(!pending), "{id} has {found} tests");
        }
        // Every test carries an id of the list.
        let tests = source.matches("#[test]").count();
        let pending = PENDING.iter().filter(|(id, _)| ids.contains(id)).count();
        assert_eq!(tests + pending, ids.len(), "{file}");
    }
}

/// What may be done with AgentDojo's tools follows from what they are, never from who wrote which task.
#[test]
fn no_rule_for_agentdojo_names_a_suite_a_task_or_a_tool() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/agentdojo.d");
    let rules = std::fs::read_to_string(folder.join("tools.rego")).expect("readable").to_lowercase();
    let table: Value =
        serde_json::from_str(&std::fs::read_to_string(folder.join("tools.json")).expect("readable")).expect("JSON");
    let tools = table["tools"].as_object().expect("a table");
    assert!(tools.len() > 60, "{}", tools.len());
    let values: String = tools.values().map(Value::to_string).collect();
    for word in
        ["travel", "workspace", "banking", "slack", "agentdojo", "user_task", "injection", "mark.black", "riverside"]
    {
        assert!(!rules.contains(word) && !values.contains(word), "a rule names {word}");
    }
    for tool in tools.keys().filter(|tool| *tool != "tell") {
        assert!(!rules.contains(tool.as_str()) && !rules.contains(&tool.replace('_', "-")), "a rule names {tool}");
    }
}
