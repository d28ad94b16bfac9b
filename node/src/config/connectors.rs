//! `[connectors]`: what a node acts with, and how long it waits for an answer.

use std::path::Path;
use std::time::Duration;

use cauldron_identity::Role;

use super::reader::Reader;
use super::{Connectors, Folder, Identity};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
/// A disk that spins up or a mount that comes back answers sooner; a person who waits wants to know by then.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

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
    Connectors { answer_within, folder: path.map(|path| Folder { path }) }
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
