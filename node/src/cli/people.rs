//! Who may decide. Only the council enrols people: the entry is signed here, with the council's key, and the node carries it.

use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cauldron_identity::authority::{Credential, CredentialKind, Entry, EntryBody, Person};
use cauldron_identity::codec::to_cbor;
use cauldron_identity::scope::is_name;
use cauldron_identity::{AuthorKey, FactId, MeshId, PublicKey};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Global, decide::recorded};
use crate::client::Client;
use crate::error::CliError;
use crate::keyfile::{self, Purpose};
use crate::output::{As, Field, field, items, print, rows};

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
    Enrol(EnrolArgs),
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
    /// Their public key, 64 hex characters
    #[arg(long, value_name = "HEX", conflicts_with = "new_key", required_unless_present = "new_key")]
    public_key: Option<PublicKey>,
    /// Make a new key and write it here, for them alone
    #[arg(long, value_name = "PATH")]
    new_key: Option<PathBuf>,
    /// The council's key file
    #[arg(long, value_name = "PATH")]
    council_key: PathBuf,
}

pub(super) async fn run(client: &Client, global: &Global, command: Command) -> Result<(), CliError> {
    let authority = client.get("/v1/authority").await?;
    match command {
        Command::List => {
            let people = json!({ "items": authority.get("people").cloned().unwrap_or_else(|| json!([])) });
            print(global.output, &people, || {
                let shown: Vec<Value> = items(&people).iter().map(with_credentials).collect();
                rows(&shown, PEOPLE, "nobody is enrolled", Timestamp::now())
            })
        }
        Command::Enrol(args) => enrol(client, global, &args, &authority).await,
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

async fn enrol(client: &Client, global: &Global, args: &EnrolArgs, authority: &Value) -> Result<(), CliError> {
    if !is_name(&args.person) {
        return Err(CliError::usage(format!("{:?} is no id of a person", args.person))
            .hint("write 1 to 63 of a-z, 0-9 and '-', not at either end"));
    }
    let council = match keyfile::read(&args.council_key)? {
        (Purpose::Council(_), key) => key,
        (other, _) => {
            return Err(CliError::config(format!(
                "{} is a key for {other}, not a council key",
                args.council_key.display()
            )));
        }
    };
    let key = public_key(args)?;
    if key.is_weak() {
        return Err(CliError::usage("this public key is a weak point: anybody could sign for it"));
    }
    let body = entry(authority, &council, person(args, key))?;
    let answer =
        client.post("/v1/authority/entries", &json!({ "entry": BASE64_STANDARD.encode(to_cbor(&body)) })).await?;
    recorded(global.output, "enrolled", &answer)
}

fn public_key(args: &EnrolArgs) -> Result<PublicKey, CliError> {
    match (&args.public_key, &args.new_key) {
        (Some(key), _) => Ok(*key),
        (None, Some(path)) if path.exists() => {
            Err(CliError::usage(format!("{} exists", path.display())).hint("name a new file, or pass --public-key"))
        }
        (None, Some(path)) => {
            let key = keyfile::generate();
            keyfile::write(path, &Purpose::Person(args.person.clone()), &key)?;
            Ok(key.public())
        }
        (None, None) => Err(CliError::usage("a person needs a key").hint("pass --public-key HEX or --new-key PATH")),
    }
}

fn person(args: &EnrolArgs, key: PublicKey) -> Person {
    Person {
        id: args.person.clone(),
        name: args.name.clone().unwrap_or_else(|| args.person.clone()),
        groups: args.groups.clone(),
        credentials: vec![Credential { kind: CredentialKind::Software, key }],
    }
}

/// Puts the person behind the chain's present head and signs for the council.
fn entry(authority: &Value, council: &AuthorKey, person: Person) -> Result<EntryBody, CliError> {
    let bad = |name: &str| {
        CliError::integrity("the node's authority chain cannot be built on").detail(format!("`{name}` is malformed"))
    };
    let text = |name: &str| authority.get(name).and_then(Value::as_str);
    let mesh: MeshId = text("mesh").and_then(|t| t.parse().ok()).ok_or_else(|| bad("mesh"))?;
    let head: Option<FactId> = text("head").map(str::parse).transpose().map_err(|_| bad("head"))?;
    let index = authority.get("index").and_then(Value::as_u64).ok_or_else(|| bad("index"))?;
    let mut body = EntryBody::new(head, index + 1, &Entry::Person(person));
    body.sign(&mesh, council);
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_follows_the_head_and_carries_the_councils_signature() {
        let (mesh, head) = (MeshId::from_bytes([1; 32]), FactId::from_bytes([2; 32]));
        let authority = json!({ "mesh": mesh, "head": head, "index": 2 });
        let council = AuthorKey::from_seed(&[3; 32]);
        let bo =
            Person { id: "bo".into(), name: "Bo".into(), groups: vec!["security-duty".into()], credentials: vec![] };
        let body = entry(&authority, &council, bo.clone()).expect("built");
        assert_eq!((body.prev, body.index), (Some(head), 3));
        assert_eq!(body.signers(&mesh, &[council.public()]), 1);
        assert!(entry(&json!({ "mesh": mesh, "head": "x", "index": 2 }), &council, bo).is_err());
    }
}
