//! Who may decide. Only the council enrols people: the entry is signed here, with the council's key, and the node carries it.

use std::path::PathBuf;

use cauldron_identity::SignerKey;
use cauldron_identity::authority::{Credential, Entry, Person};
use cauldron_identity::scope::is_name;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Global;
use super::entries::{Base, Pending};
use crate::client::Client;
use crate::error::CliError;
use crate::keyfile::{self, Purpose};
use crate::output::{As, Field, field, items, print, rows};
use crate::sealing::PassphraseArgs;
use crate::signer::{self, SignerArgs};

const PEOPLE: &[Field] = &[
    field("PERSON", "/id", As::Text),
    field("NAME", "/name", As::Text),
    field("GROUPS", "/groups", As::Text),
    field("CREDENTIALS", "/shown", As::Text),
];

/// `people …`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Everybody enrolled
    List,
    /// Enrol a person, or replace what is known of them
    Enrol(Box<EnrolArgs>),
    /// Draft a person's removal, for the council to sign
    Revoke {
        /// Their id
        #[arg(value_name = "PERSON")]
        person: String,
        #[command(flatten)]
        out: super::draft::Out,
    },
}

/// `people enrol`.
#[derive(Debug, Args)]
pub struct EnrolArgs {
    /// Their id: 1 to 63 of a-z, 0-9 and '-'
    #[arg(value_name = "PERSON")]
    person: String,
    /// What people call them [default: their id]
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// An approver group they belong to; may be repeated
    #[arg(long = "group", value_name = "GROUP", required = true)]
    groups: Vec<String>,
    /// Their public key: a .pub file (ssh-ed25519, sk-ssh-ed25519), its line, or 64 hex characters
    #[arg(long, value_name = "KEY", conflicts_with = "new_key", required_unless_present = "new_key")]
    public_key: Option<String>,
    /// Make a new key and write it here, for them alone
    #[arg(long, value_name = "PATH")]
    new_key: Option<PathBuf>,
    /// Write the entry here for others to sign (`authority sign`), instead of handing it to the node
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
    /// A council member's key file
    #[arg(long, value_name = "PATH", required_unless_present_any = ["council_agent", "out"])]
    council_key: Option<PathBuf>,
    /// A council member's public key, of which your ssh-agent holds the secret half: a .pub file or its line
    #[arg(long, value_name = "KEY", conflicts_with = "council_key")]
    council_agent: Option<String>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

pub(super) async fn run(client: &Client, global: &Global, command: Command) -> Result<(), CliError> {
    match command {
        Command::List => {
            let authority = client.get("/v1/authority").await?;
            let people = json!({ "items": authority.get("people").cloned().unwrap_or_else(|| json!([])) });
            print(global.output, &people, || {
                let shown: Vec<Value> = items(&people).iter().map(with_credentials).collect();
                rows(&shown, PEOPLE, "nobody is enrolled", Timestamp::now())
            })
        }
        Command::Enrol(args) => enrol(client, global, &args).await,
        Command::Revoke { person, out } => super::draft::revoke(client, global, &person, &out).await,
    }
}

/// A person with a column that fits: kind and short id of each credential.
fn with_credentials(person: &Value) -> Value {
    let text = |c: &Value, name: &str| c.get(name).and_then(Value::as_str).unwrap_or("?").to_owned();
    let short = |c: &Value| format!("{} {}", text(c, "kind"), text(c, "id").chars().take(12).collect::<String>());
    let shown: Vec<String> = person["credentials"].as_array().into_iter().flatten().map(short).collect();
    let mut person = person.clone();
    if let Some(map) = person.as_object_mut() {
        map.insert("shown".into(), shown.into());
    }
    person
}

async fn enrol(client: &Client, global: &Global, args: &EnrolArgs) -> Result<(), CliError> {
    if !is_name(&args.person) {
        return Err(CliError::usage(format!("{:?} is no id of a person", args.person))
            .hint("write 1 to 63 of a-z, 0-9 and '-', not at either end"));
    }
    let council = SignerArgs {
        key: args.council_key.clone(),
        agent: args.council_agent.clone(),
        passphrase: args.passphrase.clone(),
    };
    let signs = council.key.is_some() || council.agent.is_some();
    let council = if signs { Some(council.open()?.for_council()?) } else { None };
    let entry = Entry::Person(person(args, public_key(args)?));
    let mut pending = Pending::new(&Base::ask(client).await?, &entry);
    if let Some(council) = &council {
        pending.sign(council)?;
    }
    match &args.out {
        None => pending.submit(client, global, "enrolled").await,
        Some(path) => pending.put(global, path),
    }
}

fn public_key(args: &EnrolArgs) -> Result<SignerKey, CliError> {
    match (&args.public_key, &args.new_key) {
        (Some(named), _) => signer::public_key(named),
        (None, Some(path)) if path.exists() => {
            Err(CliError::usage(format!("{} exists", path.display())).hint("name a new file, or pass --public-key"))
        }
        (None, Some(path)) => {
            let key = keyfile::generate();
            keyfile::write(path, &Purpose::Person(args.person.clone()), &key, None)?;
            Ok(key.public().into())
        }
        (None, None) => Err(CliError::usage("a person needs a key").hint("pass --public-key KEY or --new-key PATH")),
    }
}

fn person(args: &EnrolArgs, key: SignerKey) -> Person {
    Person {
        id: args.person.clone(),
        name: args.name.clone().unwrap_or_else(|| args.person.clone()),
        groups: args.groups.clone(),
        credentials: vec![Credential::of(key)],
    }
}
