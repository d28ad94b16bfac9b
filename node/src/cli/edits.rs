//! What people write themselves: proposals, edits of proposals, and who sits for them. Each is signed here, over exactly what was
//! shown.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cauldron_coordinator::bodies::{DEPUTY_MS_MAX, Deputy, DeputyStatement, Hand, HandStatement, Proposal};
use cauldron_coordinator::json::{canonical, from_canonical, merge_patch};
use cauldron_coordinator::signed::Statement;
use cauldron_coordinator::vote::present_proposal;
use cauldron_identity::authority::Credential;
use cauldron_identity::codec::{from_cbor, to_cbor};
use cauldron_identity::{Digest, FactId, MeshId};
use clap::Args;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::approvals::voter;
use super::decide::{read_json, recorded};
use super::{Global, can_confirm, confirm, segment};
use crate::client::Client;
use crate::error::CliError;
use crate::output::{As, Field, Format, field, harmless, items, print, rows, say};
use crate::signer::{Signer, SignerArgs};
use crate::{chance, clock};

const DEPUTIES: &[Field] = &[
    field("ID", "/id", As::Short),
    field("PERSON", "/person", As::Text),
    field("DEPUTY", "/to", As::Text),
    field("GROUPS", "/groups", As::Text),
    field("CLASSES", "/classes", As::Text),
    field("UNTIL", "/until", As::Time),
];

/// `approvals edit ID`.
#[derive(Debug, Args)]
pub struct EditArgs {
    /// Id of the proposal, or its first characters
    #[arg(value_name = "ID")]
    id: String,
    /// An argument and its new value, JSON or text; `null` takes it out. May be repeated
    #[arg(long = "set", value_name = "NAME=VALUE", required_unless_present = "file")]
    set: Vec<String>,
    /// All changes as a JSON merge patch (RFC 7396); `-` reads standard input
    #[arg(long, value_name = "FILE", conflicts_with = "set")]
    file: Option<std::path::PathBuf>,
    /// Why, in your words; goes into the record
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    signer: SignerArgs,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// `approvals delegate`.
#[derive(Debug, Args)]
pub struct DelegateArgs {
    /// Who sits for you, a person's id
    #[arg(long, value_name = "PERSON", required_unless_present = "take_back")]
    to: Option<String>,
    /// A group of yours in which they do; may be repeated
    #[arg(long = "group", value_name = "GROUP", required_unless_present = "take_back")]
    groups: Vec<String>,
    /// Only for this action class; may be repeated
    #[arg(long = "class", value_name = "CLASS")]
    classes: Vec<String>,
    /// For how long, at most 31d
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration, default_value = "1d")]
    lasts: Duration,
    /// Takes back what you said before, by its id (`approvals deputies`)
    #[arg(long, value_name = "ID", conflicts_with_all = ["to", "groups"])]
    take_back: Option<Digest>,
    #[command(flatten)]
    signer: SignerArgs,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// A draft as the node gave it, checked against what it claims.
struct Draft {
    proposal: Proposal,
    mesh: MeshId,
    head: Option<FactId>,
}

impl Draft {
    fn read(answer: &Value) -> Result<Self, CliError> {
        let parsed = || {
            let bytes = BASE64_STANDARD.decode(answer.get("proposal")?.as_str()?).ok()?;
            let head = match answer.get("authority_head") {
                None | Some(Value::Null) => None,
                Some(head) => Some(head.as_str()?.parse().ok()?),
            };
            Some(Self { proposal: from_cbor(&bytes).ok()?, mesh: answer.get("mesh")?.as_str()?.parse().ok()?, head })
        };
        parsed().ok_or_else(|| CliError::integrity("the node's draft cannot be signed"))
    }

    /// Shown from the bytes that are signed, not from what the node says of them.
    fn text(&self) -> String {
        let lines = present_proposal(&self.proposal).lines;
        let width = lines.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
        let line = |(label, text): &(String, String)| format!("{:<width$}  {}\n", harmless(label), harmless(text));
        lines.iter().map(line).collect()
    }

    async fn sign_and_send(
        mut self,
        client: &Client,
        global: &Global,
        (person, key): (&str, &Signer),
        reason: &str,
        verb: &str,
    ) -> Result<(), CliError> {
        let statement = HandStatement {
            mesh: self.mesh,
            person: person.to_owned(),
            credential: Credential::of(key.public()).id(),
            authority_head: self.head,
            content: self.proposal.content(),
            reason: reason.to_owned(),
            issued_ms: clock::wall_ms(),
            nonce: Digest::from_bytes(chance::bytes()),
        };
        let bytes = to_cbor(&statement);
        let signature = key.sign(HandStatement::DOMAIN, &bytes)?;
        self.proposal.hand = Some(Box::new(Hand::new(bytes, signature.to_bytes())));
        let body = json!({ "proposal": BASE64_STANDARD.encode(to_cbor(&self.proposal)) });
        recorded(global.output, verb, &client.post("/v1/proposals/signed", &body).await?)
    }
}

pub(super) async fn edit(client: &Client, global: &Global, args: &EditArgs) -> Result<(), CliError> {
    let patch = match &args.file {
        Some(path) => read_json(path)?,
        None => patch(&args.set)?,
    };
    can_confirm(args.yes)?;
    let (person, key) = voter(client, &args.signer, &global.data_dir()).await?;
    let shown = client.get(&format!("/v1/proposals/{}", segment(&args.id))).await?;
    let answer = client.post(&format!("/v1/proposals/{}/edits", segment(&args.id)), &json!({ "set": patch })).await?;
    let draft = Draft::read(&answer)?;
    // The node drafts; it must not slip in more than was asked for.
    let mut expected = shown.pointer("/proposal/args").cloned().unwrap_or_default();
    merge_patch(&mut expected, &patch);
    if canonical(&expected).ok().as_deref() != Some(&draft.proposal.args) {
        return Err(CliError::integrity("the node drafted other arguments than you asked for")
            .hint("do not edit here; try another node, and tell the security team"));
    }
    if global.output == Format::Table {
        say(&draft.text())?
    } else {
        eprint!("{}", draft.text())
    }
    confirm(&format!("Propose exactly this in its place? You sign as {person}, and others approve."), args.yes)?;
    draft.sign_and_send(client, global, (&person, &key), &args.reason, "edited").await
}

/// `NAME=VALUE` pairs as a merge patch.
fn patch(pairs: &[String]) -> Result<Value, CliError> {
    let mut map = Map::new();
    for pair in pairs {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(CliError::usage(format!("--set {pair:?} is no change")).hint("write --set NAME=VALUE"));
        };
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
        map.insert(name.to_owned(), value);
    }
    Ok(Value::Object(map))
}

/// Proposes what is in `request`, signed by a person.
pub(super) async fn propose(
    client: &Client,
    global: &Global,
    request: &Value,
    signer: &SignerArgs,
    yes: bool,
) -> Result<(), CliError> {
    can_confirm(yes)?;
    let (person, key) = voter(client, signer, &global.data_dir()).await?;
    let draft = Draft::read(&client.post("/v1/proposals/drafts", request).await?)?;
    let asked = request.get("args").cloned().unwrap_or_default();
    if from_canonical(&draft.proposal.args).ok() != Some(asked) {
        return Err(CliError::integrity("the node drafted other arguments than you asked for"));
    }
    if global.output == Format::Table {
        say(&draft.text())?
    } else {
        eprint!("{}", draft.text())
    }
    confirm(&format!("Propose exactly this? You sign as {person}, and others approve."), yes)?;
    let reason = request.get("rationale").and_then(Value::as_str).unwrap_or_default().to_owned();
    draft.sign_and_send(client, global, (&person, &key), &reason, "proposed").await
}

pub(super) async fn delegate(client: &Client, global: &Global, args: &DelegateArgs) -> Result<(), CliError> {
    let lasts_ms = u64::try_from(args.lasts.as_millis()).unwrap_or(u64::MAX);
    if lasts_ms == 0 || lasts_ms > DEPUTY_MS_MAX {
        return Err(CliError::usage("a deputy is named for at most 31 days").hint("say --for 7d, for example"));
    }
    can_confirm(args.yes)?;
    let (person, key) = voter(client, &args.signer, &global.data_dir()).await?;
    let authority = client.get("/v1/authority").await?;
    let parsed = |name: &str| authority.get(name).and_then(Value::as_str).map(str::to_owned);
    let mesh = parsed("mesh").and_then(|m| m.parse().ok());
    let mesh = mesh.ok_or_else(|| CliError::integrity("the node does not say which mesh it is of"))?;
    let head = parsed("head").map(|h| h.parse()).transpose();
    let head = head.map_err(|_| CliError::integrity("the node's authority head cannot be read"))?;
    let now_ms = clock::wall_ms();
    let statement = DeputyStatement {
        mesh,
        person: person.clone(),
        credential: Credential::of(key.public()).id(),
        authority_head: head,
        to: args.to.clone().unwrap_or_default(),
        groups: args.groups.clone(),
        classes: args.classes.clone(),
        from_ms: now_ms,
        until_ms: now_ms.saturating_add(lasts_ms),
        takes_back: args.take_back,
        nonce: Digest::from_bytes(chance::bytes()),
    };
    let what = match &args.take_back {
        Some(id) => format!("Take back {}?", id.short()),
        None => format!(
            "Let {} sit for you in {} for {}?",
            statement.to,
            args.groups.join(", "),
            humantime::format_duration(args.lasts)
        ),
    };
    confirm(&format!("{what} You sign as {person}."), args.yes)?;
    let bytes = to_cbor(&statement);
    let signature = key.sign(DeputyStatement::DOMAIN, &bytes)?;
    let deputy = Deputy::new(bytes, signature.to_bytes());
    let body = json!({ "deputy": BASE64_STANDARD.encode(to_cbor(&deputy)) });
    let verb = if args.take_back.is_some() { "taken back" } else { "handed on" };
    recorded(global.output, verb, &client.post("/v1/deputies", &body).await?)
}

pub(super) async fn deputies(client: &Client, format: Format) -> Result<(), CliError> {
    let answer = client.get("/v1/deputies").await?;
    print(format, &answer, || rows(items(&answer), DEPUTIES, "nobody sits for anybody", Timestamp::now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_json_where_they_can_be_and_text_otherwise() {
        let pairs = ["ttl_s=60", "reason=too long", "note=null", "text=a=b"].map(str::to_owned);
        assert_eq!(
            patch(&pairs).expect("pairs"),
            json!({ "ttl_s": 60, "reason": "too long", "note": null, "text": "a=b" })
        );
        assert!(patch(&["ttl_s".to_owned()]).is_err());
    }
}
