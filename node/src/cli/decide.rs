//! Commands that propose or stop: propose, veto, kill.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Value, json};

use super::{Global, can_confirm, confirm};
use crate::client::Client;
use crate::error::CliError;
use crate::files;
use crate::output::{Format, harmless, print};
use crate::signer::SignerArgs;

/// A proposal is a few hundred bytes.
const INPUT_BYTES_MAX: u64 = 256 * 1024;

/// `propose --file F`.
#[derive(Debug, Args)]
pub struct ProposeArgs {
    /// JSON with operation, args and rationale; `-` reads standard input
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
}

/// `kill`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(false).args(["class", "agent", "site", "all"]))]
pub struct KillArgs {
    /// An action class, such as security.address.block
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// An agent's SPIFFE ID
    #[arg(long, value_name = "SPIFFE_ID")]
    agent: Option<String>,
    /// A whole site
    #[arg(long, value_name = "SITE")]
    site: Option<String>,
    /// Everything, everywhere
    #[arg(long)]
    all: bool,
    /// Why; goes into the record
    #[arg(long, value_name = "TEXT")]
    reason: String,
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
    serde_json::from_str(&text).map_err(|e| CliError::config(format!("{} is not JSON", path.display())).because(&e))
}

pub(super) async fn propose(client: &Client, global: &Global, args: &ProposeArgs) -> Result<(), CliError> {
    let proposal = read_json(&args.file)?;
    if args.signed {
        return super::edits::propose(client, global, &proposal, &args.signer, args.yes).await;
    }
    recorded(global.output, "proposed", &client.post("/v1/proposals", &proposal).await?)
}

pub(super) async fn undo(client: &Client, format: Format, args: &UndoArgs) -> Result<(), CliError> {
    confirm(&format!("Take back what was done under {}?", args.id), args.yes)?;
    let body = json!({ "by": args.by, "reason": args.reason });
    recorded(format, "being taken back", &client.post(&format!("/v1/proposals/{}/undo", args.id), &body).await?)
}

pub(super) async fn veto(client: &Client, format: Format, args: &VetoArgs) -> Result<(), CliError> {
    let body = json!({ "kind": "veto", "target": args.id, "reason": args.reason });
    recorded(format, "vetoed", &client.post("/v1/restrictions", &body).await?)
}

pub(super) async fn kill(client: &Client, format: Format, args: &KillArgs) -> Result<(), CliError> {
    let (kind, target) = match (&args.class, &args.agent, &args.site) {
        (Some(class), ..) => ("kill-class", Some(class)),
        (_, Some(agent), _) => ("kill-agent", Some(agent)),
        (_, _, Some(site)) => ("kill-site", Some(site)),
        _ => ("kill-all", None),
    };
    let what = target.map_or_else(|| "everything, everywhere".to_owned(), |t| format!("{t} ({kind})"));
    confirm(&format!("Stop {what}? Nothing in this version takes it back."), args.yes)?;
    let body = json!({ "kind": kind, "target": target, "reason": args.reason });
    recorded(format, "stopped", &client.post("/v1/restrictions", &body).await?)
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

pub(super) async fn suspend(client: &Client, format: Format, args: &SuspendArgs) -> Result<(), CliError> {
    confirm(&format!("Suspend {}? Nothing in this version takes it back.", args.member), args.yes)?;
    let body = json!({ "kind": "suspend", "target": args.member, "reason": args.reason });
    recorded(format, "suspended", &client.post("/v1/restrictions", &body).await?)
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
