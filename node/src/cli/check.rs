//! Whether a node is well, or could start: each check by name, exit 1 if one does not hold.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use cauldron_agents::connector::blocklist::Blocklist;
use cauldron_agents::connector::folder::Folder;
use cauldron_mesh::RealNet;
use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Global;
use super::audit::CHECKS;
use crate::client::Client;
use crate::config::{Config, Webhook};
use crate::error::CliError;
use crate::output::{Format, items, plain, print, relative, rows};
use crate::run::notify::Notifier;
use crate::run::page::Page;
use crate::{founding, keyfile};

/// `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Check what a start needs, without starting: configuration, data directory, keys, ports, files
    #[arg(long, requires = "config")]
    pre: bool,
    /// The configuration to check
    #[arg(long, value_name = "FILE", requires = "pre")]
    config: Option<PathBuf>,
}

impl CheckArgs {
    pub(super) fn is_pre(&self) -> bool {
        self.pre
    }
}

/// One finding: what was looked at, or what is wrong.
type Finding = Result<String, String>;

fn report(format: Format, findings: Vec<(&str, Finding)>) -> Result<(), CliError> {
    let checks: Vec<Value> = findings
        .iter()
        .map(|(name, f)| json!({ "name": name, "ok": f.is_ok(), "detail": f.clone().unwrap_or_else(|e| e) }))
        .collect();
    let verdict = verdict(&findings);
    print(format, &json!({ "ok": verdict.is_ok(), "checks": checks }), || rows(&checks, CHECKS, "", Timestamp::now()))?;
    verdict
}

fn verdict(findings: &[(&str, Finding)]) -> Result<(), CliError> {
    let failed: Vec<&str> = findings.iter().filter(|(_, f)| f.is_err()).map(|(name, _)| *name).collect();
    match failed[..] {
        [] => Ok(()),
        _ => Err(CliError::check(format!(
            "{} of {} checks do not hold: {}",
            failed.len(),
            findings.len(),
            failed.join(", ")
        ))),
    }
}

/// The checks of a running node. Nobody at the socket is exit 4, not a failed check.
pub(super) async fn running(client: &Client, format: Format) -> Result<(), CliError> {
    client.get("/v1/live").await?;
    let ready = match client.get("/v1/ready").await {
        Ok(_) => Ok("the node takes work".to_owned()),
        Err(e) => Err(e.one_line()),
    };
    let own = client.get("/v1/self").await?;
    let peers = client.get("/v1/peers").await?;
    let record = client.get("/v1/audit/verify").await?;
    let now = Timestamp::now();
    report(
        format,
        vec![
            ("ready", ready),
            ("state", state(&own)),
            ("svid", svid(&own, now)),
            ("lease", lease(&own)),
            ("peers", reachable(&peers)),
            ("record", verified(&record)),
            ("webhooks", webhooks(&own)),
        ],
    )
}

fn state(own: &Value) -> Finding {
    match own["state"].as_str() {
        Some("active") => Ok("active".into()),
        other => Err(format!("{}: {}", other.unwrap_or("unknown"), plain(&own["reasons"]))),
    }
}

fn svid(own: &Value, now: Timestamp) -> Finding {
    if let Some(problem) = own.pointer("/svid/problem").and_then(Value::as_str) {
        return Err(format!("{problem}; the node renews it as soon as the authority answers"));
    }
    let ends: Option<Timestamp> = own.pointer("/svid/not_after").and_then(Value::as_str).and_then(|t| t.parse().ok());
    match ends {
        Some(ends) if ends > now => Ok(format!("ends {}", relative(ends, now))),
        Some(ends) => {
            Err(format!("ended {}; the node renews it as soon as the authority answers", relative(ends, now)))
        }
        None => Err("unknown".to_owned()),
    }
}

fn lease(own: &Value) -> Finding {
    match &own["lease"] {
        Value::Null => Ok("needs none".into()),
        lease if lease["isolated"] == true => Err("too old: the node is isolated".into()),
        lease => match lease["age_ms"].as_u64() {
            Some(age) => Ok(format!("{} old", crate::output::millis(age))),
            None => Err("no coordinator has granted one yet".into()),
        },
    }
}

fn reachable(peers: &Value) -> Finding {
    let all = items(peers);
    let away: Vec<String> = all.iter().filter(|p| p["state"] != "alive").map(|p| plain(&p["spiffe_id"])).collect();
    match away[..] {
        [] => Ok(format!("{} of {} alive", all.len(), all.len())),
        _ => Err(format!("not reachable: {}", away.join(", "))),
    }
}

fn webhooks(own: &Value) -> Finding {
    let all = own["notify"].as_array().ok_or("unknown")?;
    let failing = all.iter().filter(|hook| hook["state"] != "ok");
    let failing: Vec<String> =
        failing.map(|hook| format!("{}: {}", plain(&hook["name"]), plain(&hook["last_error"]))).collect();
    match (all.len(), failing.is_empty()) {
        (0, _) => Ok("none: nobody is told what waits".into()),
        (n, true) => Ok(format!("{n} of {n} take messages, as far as is known")),
        (_, false) => Err(failing.join("; ")),
    }
}

fn verified(record: &Value) -> Finding {
    let failed = record["checks"].as_array().into_iter().flatten().filter(|c| c["ok"] != true);
    let failed: Vec<String> = failed.map(|c| format!("{}: {}", plain(&c["name"]), plain(&c["detail"]))).collect();
    if record["ok"] == true { Ok("it verifies".into()) } else { Err(failed.join("; ")) }
}

/// The checks before a start. A configuration with mistakes is exit 3 with all of them.
pub(super) fn before_start(global: &Global, args: &CheckArgs) -> Result<(), CliError> {
    let Some(path) = &args.config else { return Err(CliError::usage("check --pre needs --config FILE")) };
    let config = Config::load(path)?;
    let mut findings = vec![
        ("configuration", Ok(format!("{} is in order", config.path.display()))),
        ("directory", directory(&config)),
        ("author key", author_key(&config)),
        ("charter", charter(&config)),
    ];
    if config.authority.is_some() {
        findings.push(("root key", root_key(&config)));
    }
    findings.extend([("mesh port", mesh_port(&config)), ("socket", socket(&config.node.socket))]);
    let security = config.security.as_ref();
    if let Some(sshd) = security.and_then(|s| s.sshd.as_ref()) {
        findings.push(("sshd log", readable(&sshd.log)));
    }
    if let Some(blocklist) = security.and_then(|s| s.blocklist.as_ref()) {
        let examined = Blocklist::examine(&blocklist.path, &config.identity.spiffe_id);
        let shown = || blocklist.path.display().to_string();
        findings.push(("blocklist", examined.map(|()| shown()).map_err(|e| crate::run::chain(&e))));
    }
    if let Some(folder) = &config.connectors.folder {
        let examined = Folder::examine(&folder.path, &config.identity.spiffe_id);
        let shown = || folder.path.display().to_string();
        findings.push(("folder", examined.map(|()| shown()).map_err(|e| crate::run::chain(&e))));
    }
    if !config.notify.is_empty() {
        findings.extend([("webhooks", webhook_files(&config)), ("page links", Ok(page_links(&config)))]);
    }
    if let Some(serve) = &config.page.serve {
        let shown = |()| format!("would be served at {} on {}", serve.origin, serve.listen);
        findings.push(("approval page", Page::examine(serve).map(shown).map_err(|e| e.one_line())));
    }
    report(global.output, findings)
}

/// Secrets and root certificates; nobody is called.
fn webhook_files(config: &Config) -> Finding {
    let examined = config.notify.iter().map(|hook| (hook, Notifier::examine(hook)));
    let (good, bad): (Vec<_>, Vec<_>) = examined.partition(|(_, examined)| examined.is_ok());
    let line = |(hook, found): &(&Webhook, Finding)| {
        let (Ok(text) | Err(text)) = found;
        format!("{}: {text}", hook.name)
    };
    match bad.is_empty() {
        true => Ok(good.iter().map(line).collect::<Vec<_>>().join("; ")),
        false => Err(bad.iter().map(line).collect::<Vec<_>>().join("; ")),
    }
}

/// No failure: a message without a link still tells people.
fn page_links(config: &Config) -> String {
    let missing = "warning: page.url is not set, so messages carry no link to the page";
    config.page.url.as_ref().map_or_else(|| missing.to_owned(), |url| format!("lead to {url}"))
}

fn directory(config: &Config) -> Finding {
    let opened = config.node.dir.open(&config.identity.spiffe_id, config.mesh.charter.as_ref());
    opened.map(|b| format!("belongs to {} in mesh {}", b.spiffe_id, b.mesh.short())).map_err(|e| e.one_line())
}

fn author_key(config: &Config) -> Finding {
    let dir = &config.node.dir;
    let key = keyfile::read_author(dir).map_err(|e| e.one_line())?;
    match dir.binding() {
        Ok(Some(binding)) if binding.author != key.author_id() => Err(format!(
            "it is the key of author {}, the directory belongs to {}",
            key.author_id().short(),
            binding.author.short()
        )),
        _ => Ok(format!("author {}", key.author_id().short())),
    }
}

fn charter(config: &Config) -> Finding {
    let dir = &config.node.dir;
    let Ok(Some(binding)) = dir.binding() else { return Err("no mesh is pinned yet".into()) };
    if !dir.charter().exists() && dir.join_token().exists() {
        return Ok("comes with the join, its hash is pinned".into());
    }
    if !dir.charter().exists() && dir.draft().exists() {
        let (draft, content) = crate::draft::Draft::read(&dir.draft()).map_err(|e| e.one_line())?;
        return match draft.progress(&content.charter).missing() {
            Some(missing) => Err(format!("the council has not founded this mesh yet: {missing}")),
            None => Ok("signed by enough of the council, and taken over at the first start".into()),
        };
    }
    let opened = founding::read_charter(dir, &binding.mesh);
    opened
        .map(|(_, c)| format!("{} of {} council keys signed it", c.threshold, c.council.len()))
        .map_err(|e| e.one_line())
}

/// Reads the key, or lets the token sign once.
fn root_key(config: &Config) -> Finding {
    match crate::run::load_authority(config) {
        Ok(Some(ca)) if ca.key_pem().is_none() => Ok("in a token, which signs".into()),
        Ok(_) => Ok("belongs to ca/root.pem".into()),
        Err(e) => Err(e.one_line()),
    }
}

/// Binds the port and lets it go: only the operating system knows whether it is free.
fn mesh_port(config: &Config) -> Finding {
    for listen in &config.mesh.listen {
        if let Err(e) = RealNet::is_free(*listen) {
            return Err(format!("{listen}: {e}; stop what uses it, or change mesh.listen"));
        }
    }
    let listen: Vec<_> = config.mesh.listen.iter().map(ToString::to_string).collect();
    Ok(format!("{} is free", listen.join(", ")))
}

fn socket(path: &Path) -> Finding {
    if UnixStream::connect(path).is_ok() {
        return Err(format!("a process listens on {} already", path.display()));
    }
    folder_of(path)
}

fn folder_of(path: &Path) -> Finding {
    let folder = path.parent().unwrap_or(Path::new("/"));
    match std::fs::metadata(folder) {
        Ok(meta) if meta.is_dir() => Ok(path.display().to_string()),
        Ok(_) => Err(format!("{} is no folder", folder.display())),
        Err(e) => Err(format!("{}: {e}; create it for the node's user", folder.display())),
    }
}

fn readable(path: &Path) -> Finding {
    match File::open(path) {
        Ok(_) => Ok(path.display().to_string()),
        Err(e) => Err(format!("{}: {e}; the node will try again while it runs", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_is_never_green() {
        let now: Timestamp = "2026-11-24T10:00:00Z".parse().expect("a time");
        let empty = json!({});
        assert!(webhooks(&empty).is_err());
        let own = json!({ "notify": [{ "name": "a", "state": "ok" }, { "name": "b", "state": "gone", "last_error": "410" }] });
        assert_eq!(webhooks(&own), Err("b: 410".into()));
        assert!(state(&empty).is_err() && svid(&empty, now).is_err() && verified(&empty).is_err());
        assert!(lease(&json!({ "lease": { "age_ms": null } })).is_err());
        assert!(lease(&json!({ "lease": { "age_ms": 5, "isolated": true } })).is_err());
        assert!(svid(&json!({ "svid": { "not_after": "2026-11-24T09:00:00Z" } }), now).is_err());
        let peers =
            json!({ "items": [{ "spiffe_id": "a", "state": "alive" }, { "spiffe_id": "b", "state": "unreachable" }] });
        assert_eq!(reachable(&peers), Err("not reachable: b".into()));
    }

    #[test]
    fn a_failed_check_is_exit_1_and_named() {
        let error = verdict(&[("a", Ok("x".into())), ("b", Err("y".into()))]).expect_err("b");
        assert_eq!((error.kind().exit_code(), error.message()), (1, "1 of 2 checks do not hold: b"));
    }
}
