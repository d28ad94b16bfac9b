//! Who is enrolled, and invitations for new nodes.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cauldron_identity::SpiffeId;
use clap::Subcommand;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Global, draft, duration, entries, roots, segment, spiffe_id};
use crate::client::Client;
use crate::error::CliError;
use crate::files;
use crate::output::{As, Field, field, harmless, print, record, rows};

const AUTHORITY: &[Field] = &[
    field("mesh", "/mesh", As::Text),
    field("trust domain", "/trust_domain", As::Text),
    field("sequencer", "/sequencer", As::Text),
    field("term", "/term", As::Text),
    field("frozen at", "/frozen", As::Text),
    field("threshold", "/threshold", As::Text),
    field("entries", "/index", As::Text),
    field("head", "/head", As::Short),
    field("policy", "/policy/version", As::Text),
];
const MEMBERS: &[Field] = &[
    field("MEMBER", "/spiffe_id", As::Text),
    field("AUTHOR", "/author", As::Short),
    field("LIFE", "/incarnation", As::Text),
    field("STANDING", "/standing", As::Text),
];
const ENTRIES: &[Field] = &[
    field("ENTRY", "/index", As::Text),
    field("ID", "/id", As::Short),
    field("WHAT", "/summary", As::Brief),
    field("IN EFFECT", "/in_effect", As::Text),
    field("REFUSED", "/refused", As::Brief),
];

/// `authority …`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Invite one node: a token for `cauldron node join`, shown once
    Token {
        /// The SPIFFE ID that it will have, such as spiffe://acme.example/site/lyon/node/lyon
        #[arg(value_name = "SPIFFE_ID", value_parser = spiffe_id)]
        spiffe_id: SpiffeId,
        /// How long the token is good
        #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
        ttl: Duration,
    },
    /// The authority chain: members and entries
    Show,
    /// A trust bundle as a SPIFFE JWK Set: what others need to verify this trust domain's SVIDs
    Bundle {
        /// The bundle that was fetched from this foreign trust domain instead
        #[arg(long, value_name = "TRUST_DOMAIN")]
        federated: Option<String>,
    },
    /// Draft the end of a member's right to write, for the council to sign
    Cut(draft::CutArgs),
    /// Draft a new term of the sequencer, when it is lost, restored or has lied, for the council to sign
    Term(draft::TermArgs),
    /// Write down the authority chain, for a new sequencer to start with when the present one is lost
    Export {
        /// Write it here
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Make the next root key of the certificate authority, and draft the amendment that names it
    Prepare(roots::PrepareArgs),
    /// Sign with the prepared root, once every member trusts it
    Activate(roots::ActivateArgs),
    /// Have everybody under an old root renew at once
    Taint(roots::TaintArgs),
    /// Draft the amendment that takes an old root key out of the charter
    Revoke(roots::RevokeArgs),
    /// What was issued, by whom and under which root
    Issued(roots::IssuedArgs),
    /// Add your signature to an entry that waits in a file, after looking at it
    Sign(entries::SignArgs),
    /// Hand in an entry that enough have signed: a term to any node, all others to the sequencer
    Submit {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

pub(super) async fn run(client: &Client, global: &Global, command: &Command) -> Result<(), CliError> {
    let format = global.output;
    match command {
        Command::Cut(args) => draft::cut(client, global, args).await,
        Command::Term(args) => draft::term(client, global, args).await,
        Command::Export { out } => {
            let answer = client.get("/v1/authority/export").await?;
            let unreadable = || CliError::integrity("the node's answer is no export");
            let bytes = answer["export"].as_str().and_then(|text| BASE64_STANDARD.decode(text).ok());
            files::write_public(out, &bytes.ok_or_else(unreadable)?)?;
            let told = json!({ "file": out, "entries": answer["entries"] });
            print(format, &told, || {
                format!("{} entries of the authority chain are in {}\n", told["entries"], out.display())
            })
        }
        Command::Prepare(args) => roots::prepare(client, global, args).await,
        Command::Activate(args) => roots::activate(client, global, args).await,
        Command::Taint(args) => roots::taint(client, global, args).await,
        Command::Revoke(args) => roots::revoke(client, global, args).await,
        Command::Issued(args) => roots::issued(client, global, args).await,
        Command::Sign(args) => entries::sign(global, args),
        Command::Submit { file } => entries::submit(client, global, file).await,
        Command::Token { spiffe_id, ttl } => {
            let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
            let answer = client
                .post("/v1/authority/tokens", &json!({ "spiffe_id": spiffe_id.to_string(), "ttl_ms": ttl_ms }))
                .await?;
            // The token alone, so that it can be piped.
            print(format, &answer, || format!("{}\n", harmless(answer["token"].as_str().unwrap_or_default())))
        }
        Command::Bundle { federated } => {
            let path = match federated {
                Some(name) => format!("/v1/bundle?trust_domain={}", segment(name)),
                None => "/v1/bundle".to_owned(),
            };
            let answer = client.get(&path).await?;
            // JSON in every form: it is for a machine to read.
            print(format, &answer, || format!("{answer:#}\n"))
        }
        Command::Show => {
            let answer = client.get("/v1/authority").await?;
            print(format, &answer, || {
                let (now, list) = (Timestamp::now(), |name| {
                    answer.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice)
                });
                let problems = list("problems").iter().filter_map(Value::as_str);
                let problems: String = problems.map(|problem| format!("! {}\n", harmless(problem))).collect();
                format!(
                    "{problems}{}\n{}\n{}\n{}",
                    record(&answer, AUTHORITY, now),
                    roots::table(&answer, now),
                    rows(list("members"), MEMBERS, "no member", now),
                    rows(list("entries"), ENTRIES, "no entry", now)
                )
            })
        }
    }
}
