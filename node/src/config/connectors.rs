//! `[connectors]`: what a node acts with, and how long it waits for an answer.

use std::path::Path;
use std::time::Duration;

use cauldron_agents::connector::Fencing;
use cauldron_coordinator::action::Catalogue;
use cauldron_identity::Role;
use cauldron_identity::scope::is_name;

use super::read::NAME_HINT;
use super::reader::{Item, Reader};
use super::{Connectors, External, Folder, Identity};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
/// A disk that spins up or a mount that comes back answers sooner; a person who waits wants to know by then.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

const EXTERNAL: &str = "connectors.external";
/// A call is short; whoever needs longer says that it began, and asks again.
const REPORT_WITHIN: Duration = Duration::from_secs(60);
const EXTERNALS_MAX: usize = 64;
const LABEL_LEN_MAX: usize = 256;

pub(super) fn read(r: &Reader<'_>, base: &Path, identity: Option<&Identity>) -> Connectors {
    let answer_within = r.duration("connectors.answer_within", SECOND, HOUR).unwrap_or(ANSWER_WITHIN);
    let path = r.path("connectors.folder.path", base);
    let configured = r.has_section("connectors.folder");
    if configured && !r.has("connectors.folder.path") {
        let hint = "name the folder whose files this node may write, such as \"/etc/nginx/conf.d\"";
        r.problem("connectors.folder.path", "is missing", hint);
    }
    if let Some(identity) = identity.filter(|identity| configured && matches!(identity.role, Role::Coordinator { .. }))
    {
        let what = format!("is set, but {} belongs to no site", identity.spiffe_id);
        r.problem("connectors.folder.path", &what, "act on a node with node.site; a mesh coordinator has none");
    }
    Connectors { answer_within, folder: path.map(|path| Folder { path }), externals: externals(r, identity) }
}

fn externals(r: &Reader<'_>, identity: Option<&Identity>) -> Vec<External> {
    let read = r.tables(EXTERNAL, &["name", "operations", "labels", "report_within", "fencing", "sandboxes"], external);
    if read.len() > EXTERNALS_MAX {
        r.problem(EXTERNAL, &format!("has more than {EXTERNALS_MAX} entries"), "let one connector do more operations");
    }
    if let Some(identity) = identity.filter(|i| !read.is_empty() && matches!(i.role, Role::Coordinator { .. })) {
        let what = format!("is set, but {} belongs to no site", identity.spiffe_id);
        r.problem(EXTERNAL, &what, "act on a node with node.site; a mesh coordinator has none");
    }
    let all = |of: fn(&External) -> Vec<&String>| {
        let mut names: Vec<&String> = read.iter().flat_map(of).collect();
        names.sort_unstable();
        names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0].clone())
    };
    if let Some(twice) = all(|of| vec![&of.name]) {
        r.problem(EXTERNAL, &format!("names `{twice}` twice"), "give each connector a name of its own");
    }
    if let Some(twice) = all(|of| of.operations.iter().collect()) {
        r.problem(EXTERNAL, &format!("has `{twice}` twice"), "let one connector do it");
    }
    read
}

fn external(item: &Item<'_, '_>) -> Option<External> {
    for (key, hint) in [
        ("name", "name it as the action schemas do, such as \"mail\""),
        ("operations", "write operations that have an action schema, such as [\"office.mail.send\"]"),
    ] {
        if !item.has(key) {
            item.problem(&format!("has no {key}"), hint);
        }
    }
    let a_name = |text: &str| match Catalogue::built_in().schemas().any(|s| s.about().connector == text) {
        true => Err("is a connector of this build"),
        false if is_name(text) => Ok(text.to_owned()),
        false => Err("is no name"),
    };
    let an_operation = |text: &str| match Catalogue::built_in().of_operation(text).next() {
        Some(_) => Err("is done by a connector of this build"),
        None if text.split('.').count() >= 3 && text.split('.').all(is_name) => Ok(text.to_owned()),
        None => Err("is not <module>.<object>.<verb>"),
    };
    let a_label = |text: &str| match text.trim().is_empty() || text.len() > LABEL_LEN_MAX {
        true => Err("is no label"),
        false => Ok(text.to_owned()),
    };
    let within = |text: &str| match humantime::parse_duration(text) {
        Ok(d) if (SECOND..=HOUR).contains(&d) => Ok(d),
        _ => Err("is no duration from 1s to 1h"),
    };
    let fencing = |text: &str| match text {
        "none" => Ok(Fencing::None),
        "local" => Ok(Fencing::Local),
        "native" => Ok(Fencing::Native),
        _ => Err("is no way to keep a stale owner from acting"),
    };
    let name = item.parsed("name", a_name, NAME_HINT);
    let operations = item.list("operations", an_operation, "write operations that an action schema names");
    if operations.as_ref().is_some_and(Vec::is_empty) {
        item.problem("does nothing: its operations are empty", "write operations that an action schema names");
    }
    let labels = item.list("labels", a_label, "write labels that policy knows, such as \"untrusted:mail\"");
    let report_within = item.parsed("report_within", within, "write a duration, such as \"60s\"");
    let a_sandbox = |text: &str| match text.split_once(':') {
        Some((kind, value)) if is_name(kind) && !value.is_empty() && text.len() <= LABEL_LEN_MAX => Ok(text.to_owned()),
        _ => Err("is no sandbox"),
    };
    let sandboxes = item.list(
        "sandboxes",
        a_sandbox,
        "write what policy asks for, such as \"net:none\", or \"path:*\" for every value",
    );
    let fencing = item.parsed("fencing", fencing, "write \"none\", \"local\" or \"native\"");
    Some(External {
        name: name?,
        operations: operations?,
        labels: labels.unwrap_or_default(),
        report_within: report_within.unwrap_or(REPORT_WITHIN),
        fencing: fencing.unwrap_or(Fencing::None),
        sandboxes: sandboxes.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::Config;
    use crate::error::CliError;

    const LYON: &str =
        "[node]\nname = \"lyon\"\nsite = \"lyon\"\n[mesh]\ntrust_domain = \"acme.test\"\njoin = [\"a:1\"]\n";

    fn parse(text: &str) -> Result<Config, CliError> {
        Config::parse(text, Path::new("/etc/cauldron/node.toml"))
    }

    #[test]
    fn a_folder_is_configured_and_an_answer_is_waited_for_a_minute() {
        let config = parse(&format!("{LYON}[connectors.folder]\npath = \"conf.d\"\n")).expect("valid").connectors;
        assert_eq!(config.folder.map(|f| f.path).as_deref(), Some(Path::new("/etc/cauldron/conf.d")));
        assert_eq!(config.answer_within.as_secs(), 60);
        let config = parse(&format!("{LYON}[connectors]\nanswer_within = \"2s\"\n")).expect("valid").connectors;
        assert_eq!((config.folder, config.answer_within.as_secs()), (None, 2));
    }

    #[test]
    fn an_external_connector_has_operations_of_its_own() {
        let text = format!(
            "{LYON}[[connectors.external]]\nname = \"mail\"\noperations = [\"office.mail.send\"]\nlabels = [\"untrusted:mail\"]\nreport_within = \"5s\"\nfencing = \"native\"\n"
        );
        let config = parse(&text).expect("valid").connectors;
        let mail = &config.externals[0];
        assert_eq!((mail.name.as_str(), mail.report_within.as_secs()), ("mail", 5));
        assert_eq!((mail.operations.len(), mail.labels.len(), mail.fencing), (1, 1, super::Fencing::Native));
        let text = format!(
            "{LYON}[[connectors.external]]\nname = \"folder\"\noperations = [\"devops.file.write\", \"mail\", \"a.b.c\", \"a.b.c\"]\n\
             [[connectors.external]]\nname = \"a\"\noperations = [\"a.b.d\"]\nreport_within = \"2h\"\nfencing = \"hope\"\n\
             [[connectors.external]]\nname = \"a\"\noperations = [\"a.b.d\"]\nlabels = [\" \"]\n[[connectors.external]]\n"
        );
        let problems = parse(&text).expect_err("mistakes").to_string();
        for part in [
            "is a connector of this build",
            "is done by a connector of this build",
            "is not <module>.<object>.<verb>",
            "names `a` twice",
            "has `a.b.d` twice",
            "is no duration from 1s to 1h",
            "is no way to keep a stale owner",
            "is no label",
            "has no name",
            "has no operations",
        ] {
            assert!(problems.contains(part), "{part}: {problems}");
        }
        let hq = "[node]\nname = \"hq\"\n[mesh]\ntrust_domain = \"acme.test\"\nfirst = true\n[authority]\nenabled = true\n[[connectors.external]]\nname = \"a\"\noperations = [\"a.b.c\"]\n";
        assert!(parse(hq).expect_err("a mistake").to_string().contains("belongs to no site"));
    }

    #[test]
    fn mistakes_are_told_together() {
        let text = format!("{LYON}[connectors]\nanswer_within = \"1ms\"\n[connectors.folder]\npaht = \"x\"\n");
        let problems = parse(&text).expect_err("mistakes").to_string();
        for part in [
            "connectors.answer_within = \"1ms\"",
            "connectors.folder.paht is no key",
            "connectors.folder.path is missing",
        ] {
            assert!(problems.contains(part), "{part}: {problems}");
        }
        let hq = "[node]\nname = \"hq\"\n[mesh]\ntrust_domain = \"acme.test\"\nfirst = true\n[authority]\nenabled = true\n[connectors.folder]\npath = \"x\"\n";
        let problems = parse(hq).expect_err("a mistake").to_string();
        assert!(problems.contains("belongs to no site"), "{problems}");
    }
}
