//! Who may decide. Only the council enrols people: the entry is signed here, with the council's key, and the node carries it.

use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use cauldron_identity::authority::{Credential, Entry, Person};
use cauldron_identity::charter::Charter;
use cauldron_identity::passkey::{Passkey, PasskeyLine};
use cauldron_identity::scope::is_name;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::entries::{Base, Pending};
use super::look::tree;
use super::{Global, can_confirm, confirm};
use crate::client::Client;
use crate::error::{CliError, Kind};
use crate::files;
use crate::keyfile::{self, Purpose};
use crate::output::{As, Field, field, items, print, rows};
use crate::sealing::PassphraseArgs;
use crate::signer::{self, SignerArgs};

/// A passkey's line is far below.
const INPUT_BYTES_MAX: u64 = 64 * 1024;

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
    #[arg(long = "group", value_name = "GROUP", required_unless_present = "add")]
    groups: Vec<String>,
    #[command(flatten)]
    with: With,
    /// Keep the credentials that they have, and name and groups unless given; shows the whole entry and asks
    #[arg(long)]
    add: bool,
    /// Do not ask
    #[arg(long, short, requires = "add")]
    yes: bool,
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

/// What they sign with.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct With {
    /// Their public key: a .pub file (ssh-ed25519, sk-ssh-ed25519), its line, or 64 hex characters
    #[arg(long, value_name = "KEY")]
    public_key: Option<String>,
    /// Make a new key and write it here, for them alone
    #[arg(long, value_name = "PATH")]
    new_key: Option<PathBuf>,
    /// Their passkey: the line that the registration page handed out, in a file, or `-` for standard input
    #[arg(long, value_name = "FILE")]
    passkey: Option<PathBuf>,
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
    if args.add {
        can_confirm(args.yes)?;
    }
    let base = Base::ask(client).await?;
    let before = if args.add { Some(enrolled(client, &args.person).await?) } else { None };
    let person = described(args, credential(args, &base.charter)?, before);
    if args.add && !args.yes {
        eprint!("{}", tree(&json!(person), 0));
    }
    if args.add {
        confirm("Enrol them with exactly this?", args.yes)?;
    }
    let mut pending = Pending::new(&base, &Entry::Person(person));
    if let Some(council) = &council {
        pending.sign(council)?;
    }
    match &args.out {
        None => pending.submit(client, global, "enrolled").await,
        Some(path) => pending.put(global, path),
    }
}

fn credential(args: &EnrolArgs, charter: &Charter) -> Result<Credential, CliError> {
    let With { public_key, new_key, passkey } = &args.with;
    match (public_key, new_key, passkey) {
        (Some(named), ..) => signer::public_key(named).map(Credential::of),
        (_, Some(path), _) if path.exists() => {
            Err(CliError::usage(format!("{} exists", path.display())).hint("name a new file, or pass --public-key"))
        }
        (_, Some(path), _) => {
            let key = keyfile::generate();
            keyfile::write(path, &Purpose::Person(args.person.clone()), &key, None)?;
            Ok(Credential::of(key.public().into()))
        }
        (.., Some(path)) => admitted(&line(path)?, charter),
        (None, None, None) => {
            Err(CliError::usage("a person needs a key").hint("pass --public-key, --new-key or --passkey"))
        }
    }
}

fn line(path: &Path) -> Result<String, CliError> {
    if path != Path::new("-") {
        return files::read_text(path);
    }
    let mut text = String::new();
    let read = std::io::stdin().take(INPUT_BYTES_MAX).read_to_string(&mut text);
    read.map(|_| text).map_err(|e| CliError::usage("cannot read the passkey from standard input").because(&e))
}

/// A passkey that can vote in this mesh.
fn admitted(line: &str, charter: &Charter) -> Result<Credential, CliError> {
    let PasskeyLine { rp_id, passkey } = Passkey::parse_line(line).map_err(|e| {
        CliError::usage("this is no passkey that can be enrolled")
            .because(&e)
            .hint("pass the whole line that the registration page handed out; it begins with `cauldron-passkey:v1:`")
    })?;
    if rp_id != charter.rp_id {
        let what = format!("the passkey was made for {rp_id:?}; the pages of this mesh belong to {:?}", charter.rp_id);
        return Err(CliError::new(Kind::Refused, "a browser would never use this passkey on a page of this mesh")
            .detail(what)
            .hint("make one on the registration page of this mesh"));
    }
    Ok(Credential::Passkey(passkey))
}

/// A person with a new credential: all that is known of them, or what is added to that.
fn described(args: &EnrolArgs, credential: Credential, before: Option<Person>) -> Person {
    let before = before.unwrap_or_else(|| Person {
        id: args.person.clone(),
        name: args.person.clone(),
        groups: vec![],
        credentials: vec![],
    });
    let groups = if args.groups.is_empty() { before.groups } else { args.groups.clone() };
    let mut credentials = before.credentials;
    credentials.push(credential);
    Person { id: before.id, name: args.name.clone().unwrap_or(before.name), groups, credentials }
}

/// Whoever signs believes the node in this: so the entry is shown before.
async fn enrolled(client: &Client, id: &str) -> Result<Person, CliError> {
    let authority = client.get("/v1/authority").await?;
    let mut people = authority["people"].as_array().into_iter().flatten();
    let person = people.find(|p| p["id"] == id).ok_or_else(|| {
        CliError::new(Kind::Refused, format!("nobody is enrolled as {id:?}"))
            .hint("leave --add out and name their groups; `cauldron people list` shows who is enrolled")
    })?;
    read(person).ok_or_else(|| {
        CliError::integrity(format!("what the node says of {id:?} cannot be read"))
            .hint("use a `cauldron` of the node's own version")
    })
}

/// A person as the node shows them. Each credential's id is its hash, so that nothing is lost on the way.
fn read(person: &Value) -> Option<Person> {
    let text = |name: &str| person[name].as_str().map(str::to_owned);
    let groups = person["groups"].as_array()?.iter().map(|g| g.as_str().map(str::to_owned)).collect::<Option<_>>()?;
    let credentials = person["credentials"].as_array()?.iter().map(read_credential).collect::<Option<_>>()?;
    Some(Person { id: text("id")?, name: text("name")?, groups, credentials })
}

fn read_credential(shown: &Value) -> Option<Credential> {
    let key = shown["key"].as_str()?;
    let credential = match shown["credential_id"].as_str() {
        None => Credential::of(key.parse().ok()?),
        Some(id) => {
            let id = BASE64_URL_SAFE_NO_PAD.decode(id).ok()?;
            Credential::Passkey(Passkey::new(id, key.parse().ok()?).ok()?)
        }
    };
    (shown["id"].as_str()? == credential.id().to_string()).then_some(credential)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::entries::tests::base;
    use cauldron_identity::passkey::authenticator::Authenticator;
    use cauldron_identity::{AuthorKey, SignerKey};

    fn passkey(rp_id: &str) -> Passkey {
        Authenticator::es256(&[7; 32], rp_id, "http://localhost:7480").passkey().clone()
    }

    #[test]
    fn a_passkey_of_this_mesh_is_admitted_and_no_other() {
        let charter = base().charter;
        let line = passkey("localhost").to_line("localhost");
        assert_eq!(admitted(&format!("{line}\n"), &charter).expect("ours").passkey(), Some(&passkey("localhost")));
        let other = admitted(&passkey("acme.example").to_line("acme.example"), &charter).expect_err("another mesh's");
        assert!(format!("{other:?}").contains("acme.example"), "{other:?}");
        for text in ["", "ssh-ed25519 AAAA", &line[..40]] {
            assert!(admitted(text, &charter).is_err(), "{text}");
        }
    }

    #[test]
    fn a_person_is_read_back_as_the_node_shows_them() {
        let point = AuthorKey::from_seed(&[8; 32]).public();
        let credentials = vec![
            Credential::of(point.into()),
            Credential::of(SignerKey::Sk { point, application: "ssh:".into() }),
            Credential::Passkey(passkey("localhost")),
        ];
        let shown = |c: &Credential| {
            let key = c.passkey().map_or_else(|| c.to_string(), |p| p.key().to_string());
            json!({ "id": c.id(), "kind": c.kind(), "key": key, "credential_id": c.passkey().map(Passkey::credential_id_text) })
        };
        let all: Vec<Value> = credentials.iter().map(shown).collect();
        let mut person = json!({ "id": "ana", "name": "Ana", "groups": ["hr"], "credentials": all });
        let read_back = read(&person).expect("readable");
        assert_eq!((read_back.credentials, read_back.groups), (credentials, vec!["hr".to_owned()]));
        person["credentials"][0]["id"] = person["credentials"][1]["id"].clone();
        assert_eq!(read(&person), None, "another key under that id");
    }
}
