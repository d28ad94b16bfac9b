//! The rotation of the certificate authority's root key, step by step: prepare, activate, taint, revoke. Each step says what
//! comes next.

use cauldron_identity::authority::{Amend, Entry};
use cauldron_identity::charter::Charter;
use cauldron_identity::{Digest, SpiffeId};
use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::draft::Out;
use super::entries::{Base, Pending};
use super::{Global, confirm, segment, spiffe_id};
use crate::client::Client;
use crate::error::{CliError, Kind};
use crate::output::{As, Field, field, items, print, rows};

const ROOTS: &[Field] = &[
    field("ROOT KEY", "/key", As::Short),
    field("STATE", "/state", As::Text),
    field("IN CHARTER", "/named", As::Text),
    field("TRUSTED BY", "/trusted", As::Text),
    field("CERTIFICATES UNDER IT", "/lives", As::Text),
    field("ENDS", "/not_after", As::Time),
];
const ISSUED: &[Field] = &[
    field("ISSUED", "/issued", As::Time),
    field("KIND", "/kind", As::Text),
    field("TO", "/spiffe_id", As::Text),
    field("ENDS", "/not_after", As::Time),
    field("BY", "/by", As::Text),
    field("UNDER", "/signed_by", As::Short),
    field("SHA-256", "/digest", As::Short),
];

/// `authority prepare`.
#[derive(Debug, Args)]
pub struct PrepareArgs {
    /// A key in a token that is to sign, as a pkcs11: URI [default: a new key in the data directory]
    #[arg(long, value_name = "URI")]
    root_key: Option<String>,
    /// Make the key pair that --root-key names; it must not be there yet
    #[arg(long, requires = "root_key")]
    root_key_generate: bool,
    #[command(flatten)]
    out: Out,
}

/// `authority activate`.
#[derive(Debug, Args)]
pub struct ActivateArgs {
    /// The root key, or its first characters [default: the prepared one]
    #[arg(value_name = "KEY")]
    key: Option<String>,
    /// Do not wait for members that have not said to trust it; they refuse what it signs until they hear of it
    #[arg(long)]
    force: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// `authority taint`.
#[derive(Debug, Args)]
pub struct TaintArgs {
    /// The root key, or its first characters [default: the one that signed before]
    #[arg(value_name = "KEY")]
    key: Option<String>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// `authority revoke`.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// The root key, or its first characters [default: the tainted one]
    #[arg(value_name = "KEY")]
    key: Option<String>,
    /// Although members still have certificates under it; they are refused until they renew
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    out: Out,
}

/// `authority issued`.
#[derive(Debug, Args)]
pub struct IssuedArgs {
    /// What was issued to this SPIFFE ID alone
    #[arg(long, value_name = "SPIFFE_ID", value_parser = spiffe_id)]
    to: Option<SpiffeId>,
    /// At most so many, the newest
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
}

/// Makes the next root key on the authority's machine, and drafts the amendment that names it in the charter.
pub(super) async fn prepare(client: &Client, global: &Global, args: &PrepareArgs) -> Result<(), CliError> {
    // A draft that cannot be made is found before a key is.
    Base::ask(client).await?;
    let body = json!({ "root_key": args.root_key, "generate": args.root_key_generate });
    let answer = client.post("/v1/authority/roots/prepare", &body).await?;
    let key = key_of(&answer)?;
    let base = Base::ask(client).await?;
    let mut keys = base.charter.root_keys.clone();
    keys.push(key);
    amended(&base, keys, args.out.path(), global)?;
    hint(
        global,
        &format!(
            "root {} is prepared; once the amendment is in, `cauldron authority activate` signs with it as soon as every member trusts it",
            key.short()
        ),
    )
}

/// Signs with the prepared root.
pub(super) async fn activate(client: &Client, global: &Global, args: &ActivateArgs) -> Result<(), CliError> {
    super::can_confirm(args.yes)?;
    confirm("Sign with this root from here on?", args.yes)?;
    let body = json!({ "key": args.key, "force": args.force });
    let answer = client.post("/v1/authority/roots/activate", &body).await?;
    super::decide::recorded(global.output, "activated", &answer)?;
    hint(global, "renewals move everybody over by themselves; `cauldron authority taint` has them renew at once")
}

/// Has everybody leave an old root at once.
pub(super) async fn taint(client: &Client, global: &Global, args: &TaintArgs) -> Result<(), CliError> {
    super::can_confirm(args.yes)?;
    confirm("Have everybody under this root renew now?", args.yes)?;
    let answer = client.post("/v1/authority/roots/taint", &json!({ "key": args.key })).await?;
    super::decide::recorded(global.output, "tainted", &answer)?;
    hint(
        global,
        "once `cauldron authority show` lists nobody under it, `cauldron authority revoke` takes it out of the charter",
    )
}

/// Drafts the amendment that takes a root key out of the charter.
pub(super) async fn revoke(client: &Client, global: &Global, args: &RevokeArgs) -> Result<(), CliError> {
    let answer = client.get("/v1/authority").await?;
    let root = the_root(&answer, args.key.as_deref())?;
    let key = key_of(root)?;
    let refused = |what: String| CliError::new(Kind::Refused, what);
    if root["state"] == "active" {
        return Err(refused(format!("root {} signs now", key.short()))
            .hint("activate another first; if the key is lost, `cauldron authority term --root-key` replaces it"));
    }
    let under: Vec<&str> = root["under"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !under.is_empty() && !args.force {
        return Err(refused(format!("{} of the mesh still have certificates under root {}", under.len(), key.short()))
            .detail(under.join(", "))
            .hint("`cauldron authority taint` has them renew at once; --force refuses them until they do"));
    }
    let base = Base::ask(client).await?;
    let mut keys = base.charter.root_keys.clone();
    keys.retain(|named| *named != key);
    amended(&base, keys, args.out.path(), global)?;
    hint(global, "once the amendment is in, nobody trusts this root, and its key is destroyed where it lies in ca/")
}

fn amended(base: &Base, root_keys: Vec<Digest>, out: &std::path::Path, global: &Global) -> Result<(), CliError> {
    let wanted = Charter { root_keys, ..base.charter.clone() };
    let amend =
        Amend::between(&base.charter, &wanted).map_err(|why| CliError::usage("this is no amendment").detail(why))?;
    let applied = amend.apply_to(&base.charter);
    applied.map_err(|why| CliError::usage("the charter would not be valid").detail(why))?;
    if amend.fields().is_empty() {
        return Err(CliError::new(Kind::Refused, "the charter says so already"));
    }
    Pending::new(base, &Entry::Amend(Box::new(amend))).put(global, out)
}

/// What comes next, for people; not for programs.
fn hint(global: &Global, text: &str) -> Result<(), CliError> {
    match global.output {
        crate::output::Format::Table => crate::output::say(&format!("{text}\n")),
        _ => Ok(()),
    }
}

/// The root that is meant: by its key, or the tainted one.
fn the_root<'a>(authority: &'a Value, key: Option<&str>) -> Result<&'a Value, CliError> {
    let roots = authority["roots"].as_array().map(Vec::as_slice).unwrap_or_default();
    let meant = |root: &&Value| match key {
        Some(key) => key.len() >= 4 && root["key"].as_str().is_some_and(|known| known.starts_with(key)),
        None => root["state"] == "tainted",
    };
    let mut found = roots.iter().filter(meant);
    match (found.next(), found.next()) {
        (Some(root), None) => Ok(root),
        (None, _) => Err(CliError::new(Kind::Refused, "there is no such root")
            .hint("`cauldron authority show` lists them; taint one first, or name it by its key")),
        (Some(_), Some(_)) => Err(CliError::usage("several roots are meant").hint("name one by its key")),
    }
}

fn key_of(answer: &Value) -> Result<Digest, CliError> {
    let key = answer["key"].as_str().and_then(|key| key.parse().ok());
    key.ok_or_else(|| CliError::integrity("the node's answer about its roots cannot be read"))
}

/// The roots, for `authority show`.
pub(super) fn table(authority: &Value, now: Timestamp) -> String {
    let roots: Vec<Value> = authority["roots"].as_array().into_iter().flatten().map(told).collect();
    rows(&roots, ROOTS, "no root", now)
}

fn told(root: &Value) -> Value {
    let names = |list: &Value, of: fn(&Value) -> Option<&str>| {
        list.as_array().into_iter().flatten().filter_map(of).map(str::to_owned).collect::<Vec<_>>()
    };
    let waiting = names(&root["waiting"], |w| w["spiffe_id"].as_str());
    let under = names(&root["under"], Value::as_str);
    let mut told = root.clone();
    let not_yet = if waiting.is_empty() { String::new() } else { format!(", not yet {}", brief(&waiting)) };
    told["trusted"] = json!(format!("{} of {}{not_yet}", root["trusted_by"], root["of"]));
    told["lives"] = json!(if under.is_empty() { "nobody's".to_owned() } else { brief(&under) });
    if root["state"].is_null() {
        told["state"] = json!("named only");
    }
    told
}

/// The first few names, without their trust domain.
fn brief(names: &[String]) -> String {
    let short = |name: &String| name.splitn(4, '/').nth(3).unwrap_or(name).to_owned();
    let shown: Vec<String> = names.iter().take(3).map(short).collect();
    let more = names.len().saturating_sub(shown.len());
    if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
}

/// The log of everything issued.
pub(super) async fn issued(client: &Client, global: &Global, args: &IssuedArgs) -> Result<(), CliError> {
    let to = args.to.as_ref().map(|id| format!("&spiffe_id={}", segment(&id.to_string()))).unwrap_or_default();
    let answer = client.get(&format!("/v1/authority/issued?limit={}{to}", args.limit)).await?;
    print(global.output, &answer, || {
        rows(items(&answer), ISSUED, "nothing was issued that this node may read", Timestamp::now())
    })
}
