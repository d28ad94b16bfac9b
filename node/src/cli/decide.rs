//! Commands that propose or stop: propose, veto, kill.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Value, json};

use super::{Global, can_confirm, confirm};
use crate::client::Client;
use crate::error::{CliError, Kind};
use crate::files;
use crate::output::{Format, harmless, print};
use crate::sealing::PassphraseArgs;
use crate::signer::SignerArgs;

/// A proposal is a few hundred bytes.
const INPUT_BYTES_MAX: u64 = 256 * 1024;
/// Between two looks at how far a restriction has got: nodes of one room say so within some 10 ms.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// `propose --file F`.
#[derive(Debug, Args)]
pub struct ProposeArgs {
    /// JSON, or TOML in a file called so, with operation, args and rationale, or with the steps of a saga; `-` reads JSON from
    /// standard input
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// Propose in your own name: it is signed with your key, and others approve
    #[arg(long)]
    signed: bool,
    #[command(flatten)]
    signer: SignerArgs,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// `undo ID`.
#[derive(Debug, Args)]
pub struct UndoArgs {
    /// The proposal that was carried out, or its first characters
    #[arg(value_name = "ID")]
    id: String,
    /// Why; goes into the record
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who asks; goes into the record
    #[arg(long, value_name = "NAME", env = "USER", default_value = "operator")]
    by: String,
    /// Of a saga's step: also while later steps stand, in whatever order their owners take those back
    #[arg(long)]
    out_of_turn: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// `veto ID`.
#[derive(Debug, Args)]
pub struct VetoArgs {
    /// Any id of the lineage, or its first characters
    #[arg(value_name = "ID")]
    id: String,
    /// Why; goes into the record
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    stop: StopArgs,
}

/// How a stop is ordered, and how long to look after it.
#[derive(Debug, Args)]
pub struct StopArgs {
    /// Look until every node says that it enforces it, at most so long; exit code 1 if not
    #[arg(long, value_name = "DURATION", value_parser = super::duration, conflicts_with = "out")]
    wait: Option<Duration>,
    /// Do nothing yet: write the order here, for the council to sign with `authority sign`
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Order it in your own name, as somebody on duty: signed with your key, carried by this node as far as it may write
    #[arg(long, conflicts_with = "out")]
    signed: bool,
    /// With --signed: your key file
    #[arg(long, value_name = "PATH", env = "CAULDRON_KEY")]
    key: Option<PathBuf>,
    /// With --signed: your public key, of which your ssh-agent holds the secret half; goes before --key
    // `--agent` names whom `kill` stops.
    #[arg(long, value_name = "KEY")]
    key_in_agent: Option<String>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

impl StopArgs {
    fn signer(&self) -> SignerArgs {
        SignerArgs { key: self.key.clone(), agent: self.key_in_agent.clone(), passphrase: self.passphrase.clone() }
    }
}

/// `kill`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(false).args(["class", "agent", "build", "feature", "site", "all"]))]
pub struct KillArgs {
    /// An action class, such as security.address.block
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// An agent's SPIFFE ID
    #[arg(long, value_name = "SPIFFE_ID")]
    agent: Option<String>,
    /// Every agent of one build, by its digest
    #[arg(long, value_name = "HEX")]
    build: Option<String>,
    /// A feature: sessions, approval-page, autonomy or connector/NAME
    #[arg(long, value_name = "FEATURE")]
    feature: Option<String>,
    /// A whole site
    #[arg(long, value_name = "SITE")]
    site: Option<String>,
    /// Everything, everywhere
    #[arg(long)]
    all: bool,
    /// Why; goes into the record
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    stop: StopArgs,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// `suspend`.
#[derive(Debug, Args)]
pub struct SuspendArgs {
    /// The member's SPIFFE ID or author id
    #[arg(value_name = "MEMBER")]
    member: String,
    /// Why; goes into the record
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    stop: StopArgs,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// Reads JSON from a file, or from standard input for `-`.
pub(super) fn read_json(path: &Path) -> Result<Value, CliError> {
    let text = if path == Path::new("-") {
        let mut text = String::new();
        let read = std::io::stdin().take(INPUT_BYTES_MAX).read_to_string(&mut text);
        read.map_err(|e| CliError::config("cannot read standard input").because(&e))?;
        text
    } else {
        files::read_text(path)?
    };
    if path.extension().is_some_and(|ext| ext == "toml") {
        let read = toml::from_str(&text);
        return read.map_err(|e| CliError::config(format!("{} is not TOML", path.display())).because(&e));
    }
    serde_json::from_str(&text).map_err(|e| CliError::config(format!("{} is not JSON", path.display())).because(&e))
}

pub(super) async fn propose(client: &Client, global: &Global, args: &ProposeArgs) -> Result<(), CliError> {
    let proposal = read_json(&args.file)?;
    if proposal.get("steps").is_some() {
        if args.signed {
            return Err(CliError::usage("the steps of a saga are proposed by an agent, and signed by nobody")
                .hint("leave --signed out; whoever approves a step signs for it"));
        }
        return propose_saga(client, global.output, &proposal).await;
    }
    if args.signed {
        return super::edits::propose(client, global, &proposal, &args.signer, args.yes).await;
    }
    recorded(global.output, "proposed", &client.post("/v1/proposals", &proposal).await?)
}

/// All steps at once, each under an id of its own.
async fn propose_saga(client: &Client, format: Format, saga: &Value) -> Result<(), CliError> {
    let answer = client.post("/v1/sagas", saga).await?;
    print(format, &answer, || {
        let ids = answer.get("steps").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let level = harmless(answer.get("level").and_then(Value::as_str).unwrap_or("?"));
        let line = |(n, id): (usize, &Value)| {
            format!("proposed step {n} of {}: {} (durable: {level})\n", ids.len(), harmless(id.as_str().unwrap_or("?")))
        };
        (1..).zip(ids).map(line).collect()
    })
}

pub(super) async fn undo(client: &Client, format: Format, args: &UndoArgs) -> Result<(), CliError> {
    confirm(&format!("Take back what was done under {}?", args.id), args.yes)?;
    let body = json!({ "by": args.by, "reason": args.reason, "out_of_turn": args.out_of_turn });
    recorded(format, "being taken back", &client.post(&format!("/v1/proposals/{}/undo", args.id), &body).await?)
}

pub(super) async fn veto(client: &Client, global: &Global, args: &VetoArgs) -> Result<(), CliError> {
    let body = json!({ "kind": "veto", "target": args.id, "reason": args.reason });
    stop(client, global, "vetoed", &body, &args.stop).await
}

pub(super) async fn kill(client: &Client, global: &Global, args: &KillArgs) -> Result<(), CliError> {
    let named = [
        ("kill-class", &args.class),
        ("kill-agent", &args.agent),
        ("kill-build", &args.build),
        ("stop-feature", &args.feature),
        ("kill-site", &args.site),
    ];
    let (kind, target) = named.into_iter().find(|(_, target)| target.is_some()).unwrap_or(("kill-all", &None));
    let what = target.as_ref().map_or_else(|| "everything, everywhere".to_owned(), |t| format!("{t} ({kind})"));
    if args.stop.out.is_none() {
        confirm(&format!("Stop {what}? Only the council lifts it."), args.yes)?;
    }
    let body = json!({ "kind": kind, "target": target, "reason": args.reason });
    stop(client, global, "stopped", &body, &args.stop).await
}

/// Restricts and says how far that has got, or drafts the order for the council.
async fn stop(client: &Client, global: &Global, verb: &str, body: &Value, args: &StopArgs) -> Result<(), CliError> {
    if let Some(out) = &args.out {
        return super::orders::draft(client, global, body, out).await;
    }
    let answer = match args.signed {
        true => super::orders::in_own_name(client, global, body, &args.signer()).await?,
        false => client.post("/v1/restrictions", body).await?,
    };
    told(client, global.output, verb, answer, args.wait).await
}

/// Says under which id a restriction stands and how far it has got; with a time to wait, until it is closed everywhere.
pub(super) async fn told(
    client: &Client,
    format: Format,
    verb: &str,
    mut answer: Value,
    wait: Option<Duration>,
) -> Result<(), CliError> {
    let id = answer.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
    let until = Instant::now() + wait.unwrap_or_default();
    let restriction = loop {
        let restriction = client.get(&format!("/v1/restrictions/{}", super::segment(&id))).await?;
        if restriction["state"] == "CLOSED" || Instant::now() >= until {
            break restriction;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    let closed = restriction["state"] == "CLOSED";
    if let Some(map) = answer.as_object_mut() {
        map.insert("restriction".into(), restriction.clone());
    }
    print(format, &answer, || {
        let text = |name: &str| harmless(answer.get(name).and_then(Value::as_str).unwrap_or("?"));
        let again = if answer.get("already") == Some(&Value::Bool(true)) { ", as before" } else { "" };
        let reach = super::look::reach(&restriction, jiff::Timestamp::now());
        format!("{verb}{again}: {} (durable: {})\n{reach}\n", text("id"), text("level"))
    })?;
    if wait.is_some() && !closed {
        let state = restriction["state"].as_str().unwrap_or("UNKNOWN").to_owned();
        return Err(CliError::new(
            Kind::Check,
            format!("it is recorded, and {state}: not every node says to enforce it"),
        )
        .hint(format!("`cauldron restrictions {id}` goes on telling")));
    }
    Ok(())
}

/// `clock …`.
#[derive(Debug, Subcommand)]
pub enum ClockCommand {
    /// Believe the wall clock as it stands, though this node's own past rules it out; set the machine's clock first
    Reset(ClockResetArgs),
}

/// `clock reset`.
#[derive(Debug, Args)]
pub struct ClockResetArgs {
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

pub(super) async fn suspend(client: &Client, global: &Global, args: &SuspendArgs) -> Result<(), CliError> {
    if args.stop.out.is_none() {
        confirm(&format!("Suspend {}? Only the council lifts it.", args.member), args.yes)?;
    }
    let body = json!({ "kind": "suspend", "target": args.member, "reason": args.reason });
    stop(client, global, "suspended", &body, &args.stop).await
}

/// Has the node believe its machine's wall clock, which its own past rules out.
pub(super) async fn clock_reset(client: &Client, format: Format, args: &ClockResetArgs) -> Result<(), CliError> {
    can_confirm(args.yes)?;
    let shown = client.get("/v1/self").await?;
    let now = harmless(shown.pointer("/wall_clock/now").and_then(Value::as_str).unwrap_or("?"));
    confirm(&format!("The node's machine says that it is {now}. Is it?"), args.yes)?;
    let answer = client.post("/v1/clock/reset", &json!({})).await?;
    print(format, &answer, || "the node believes its wall clock again\n".to_owned())
}

/// Says under which id something stands, and how safe it is.
pub(super) fn recorded(format: Format, verb: &str, answer: &Value) -> Result<(), CliError> {
    print(format, answer, || {
        let text = |name: &str| harmless(answer.get(name).and_then(Value::as_str).unwrap_or("?"));
        let again = if answer.get("already") == Some(&Value::Bool(true)) { ", as before" } else { "" };
        format!("{verb}{again}: {} (durable: {})\n", text("id"), text("level"))
    })
}
