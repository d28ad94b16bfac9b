//! What a person found out about something of which nobody knows whether it happened.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cauldron_coordinator::bodies::{Word, WordStatement};
use cauldron_identity::authority::Credential;
use cauldron_identity::codec::to_cbor;
use cauldron_identity::{Digest, FactId};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::approvals::voter;
use super::decide::recorded;
use super::isolation::{place, signed};
use super::{Global, can_confirm, confirm, segment};
use crate::client::Client;
use crate::error::{CliError, Kind};
use crate::output::harmless;
use crate::signer::SignerArgs;
use crate::{chance, clock};

/// Whether it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Happened {
    Yes,
    No,
}

/// `reconcile`.
#[derive(Debug, Args)]
pub struct ReconcileArgs {
    /// Id of the proposal, or its first characters
    #[arg(value_name = "ID")]
    id: String,
    /// What you found at the target itself: whether it happened
    #[arg(long)]
    happened: Happened,
    /// How you know; goes into the record
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    signer: SignerArgs,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

pub(super) async fn reconcile(client: &Client, global: &Global, args: &ReconcileArgs) -> Result<(), CliError> {
    can_confirm(args.yes)?;
    let (person, key) = voter(client, &args.signer, &global.data_dir()).await?;
    let shown = client.get(&format!("/v1/proposals/{}", segment(&args.id))).await?;
    let text = |path: &str| harmless(shown.pointer(path).and_then(Value::as_str).unwrap_or("?"));
    let state = text("/summary/state");
    let started = shown.pointer("/status/started").and_then(Value::as_str);
    let Some(started) = started else {
        let what = format!("{} is {state}, and nothing here was started of it", args.id);
        return Err(CliError::new(Kind::Refused, what).hint("`cauldron why` says what it waits for"));
    };
    let started: FactId =
        started.parse().map_err(|_| CliError::integrity("the node's answer about that proposal cannot be read"))?;
    eprintln!("{} on {} ({state}): {}", text("/summary/operation"), text("/summary/target"), text("/summary/summary"));
    let what = match args.happened {
        Happened::Yes => "it happened",
        Happened::No => "it did not happen, and may be wanted again",
    };
    confirm(&format!("Say that {what}? You sign as {person}, and it cannot be taken back."), args.yes)?;
    let (mesh, authority_head) = place(client).await?;
    let statement = WordStatement {
        mesh,
        person,
        credential: Credential::of(key.public()).id(),
        authority_head,
        started,
        happened: args.happened == Happened::Yes,
        reason: args.reason.clone(),
        issued_ms: clock::wall_ms(),
        nonce: Digest::from_bytes(chance::bytes()),
    };
    let word: Word = signed(&statement, &key)?;
    let body = json!({ "word": BASE64_STANDARD.encode(to_cbor(&word)) });
    recorded(global.output, "said", &client.post("/v1/reconciliations", &body).await?)
}
