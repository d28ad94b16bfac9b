//! The record: the newest facts, the story of one lineage, and whether all of it verifies.

use std::path::PathBuf;

use cauldron_identity::MeshId;
use clap::Subcommand;
use jiff::Timestamp;
use serde_json::Value;

use super::look::tree;
use super::segment;
use crate::client::Client;
use crate::error::CliError;
use crate::output::{As, Field, Format, field, harmless, items, print, rows, say};
use crate::{files, receipt};

const FACTS: &[Field] = &[
    field("TIME", "/time", As::Text),
    field("KIND", "/kind", As::Text),
    field("BY", "/spiffe_id", As::Text),
    field("WHAT", "/summary", As::Brief),
    field("SCOPE", "/scope", As::Text),
    field("ID", "/id", As::Short),
];
pub(super) const CHECKS: &[Field] =
    &[field("CHECK", "/name", As::Text), field("HOLDS", "/ok", As::Text), field("DETAIL", "/detail", As::Text)];

/// `audit …`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The newest facts
    Tail {
        /// How many
        #[arg(long, short = 'n', value_name = "N", default_value_t = 20)]
        limit: u32,
        /// Only this kind, such as proposal or permit
        #[arg(long, value_name = "KIND")]
        kind: Option<String>,
        /// Go on as facts arrive, until Ctrl-C
        #[arg(long, short)]
        follow: bool,
    },
    /// The whole story of one proposal
    Show {
        /// Any id of the lineage, or its first characters
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Check every chain, signature and step that this node holds
    Verify,
    /// Everything that proves the story of one action, in one file
    Receipt {
        /// Any id of the lineage, or its first characters
        #[arg(value_name = "ID")]
        id: String,
        /// Where to write it; standard output without
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Check a receipt; asks no node
    Check {
        /// The receipt
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The mesh that you believe in, 64 hex characters; without it, the one that the receipt names
        #[arg(long, value_name = "MESH")]
        mesh: Option<MeshId>,
    },
}

pub(super) async fn run(client: &Client, format: Format, command: &Command) -> Result<(), CliError> {
    match command {
        Command::Tail { limit, kind, follow } => tail(client, format, *limit, kind.as_deref(), *follow).await,
        Command::Show { id } => {
            let story = client.get(&format!("/v1/audit/{}", segment(id))).await?;
            print(format, &story, || rows(items(&story), FACTS, "nothing is known of it", Timestamp::now()))
        }
        Command::Verify => verify(client, format).await,
        Command::Receipt { id, out } => {
            let receipt = client.get(&format!("/v1/audit/{}/receipt", segment(id))).await?;
            let text = format!("{receipt:#}\n");
            match out {
                Some(out) => files::write_public(out, text.as_bytes()),
                None => say(&text),
            }
        }
        Command::Check { file, mesh } => {
            let receipt = serde_json::from_str(&files::read_text(file)?)
                .map_err(|e| CliError::integrity(format!("{} is no receipt", file.display())).because(&e))?;
            let says = receipt::check_file(&receipt, mesh.as_ref())?;
            print(format, &says, || tree(&says, 0))
        }
    }
}

async fn tail(client: &Client, format: Format, limit: u32, kind: Option<&str>, follow: bool) -> Result<(), CliError> {
    // Subscribed first, so that nothing falls between the listing and the stream.
    let events = if follow { Some(client.events().await?) } else { None };
    let filter = kind.map(|k| format!("&kind={}", segment(k))).unwrap_or_default();
    let facts = client.get(&format!("/v1/audit?limit={limit}{filter}")).await?;
    print(format, &facts, || rows(items(&facts), FACTS, "no fact yet", Timestamp::now()))?;
    let Some(mut events) = events else { return Ok(()) };
    while let Some(event) = events.next().await? {
        let text = |name: &str| harmless(event.data.get(name).and_then(Value::as_str).unwrap_or("-"));
        let wanted = event.event == "stored" && kind.is_none_or(|k| text("kind") == k);
        match (event.event.as_str(), format) {
            ("missed", _) => eprintln!("some facts came too fast to be shown; `cauldron audit tail` lists them"),
            (_, Format::Table) if wanted => {
                let id: String = text("id").chars().take(12).collect();
                say(&format!("{}  {}  {}  {id}\n", text("kind"), text("author"), text("scope")))?;
            }
            (_, Format::Json) if wanted => say(&format!("{}\n", event.data))?,
            (_, Format::Yaml) if wanted => print(format, &event.data, String::new)?,
            _ => {}
        }
    }
    Ok(())
}

async fn verify(client: &Client, format: Format) -> Result<(), CliError> {
    let answer = client.get("/v1/audit/verify").await?;
    let checks = answer.get("checks").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    print(format, &answer, || rows(checks, CHECKS, "nothing to check", Timestamp::now()))?;
    if answer.get("ok") == Some(&Value::Bool(true)) {
        return Ok(());
    }
    Err(CliError::integrity("the record does not verify")
        .hint("keep the data directory as evidence and compare with a peer"))
}
