//! Commands that begin something: `init`, `node run`, `node join`.

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use cauldron_coordinator::policy::Bundle;
use cauldron_identity::charter::ClassAges;
use cauldron_identity::scope::is_name;
use cauldron_identity::{MeshId, SpiffeId, TrustDomain};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::json;

use super::Global;
use crate::clock;
use crate::config::{Config, PeerAddr, SecurityTemplate, Template};
use crate::error::CliError;
use crate::files;
use crate::founding::{Council, Founded, Join, Request, found, prepare_join};
use crate::output::{As, Field, field, print, record};
use crate::paths::DataDir;
use crate::root_key;
use crate::sealing::PassphraseArgs;
use crate::signer::public_key;
use crate::successor::{self, Export, Prepared};
use crate::token::JoinToken;

const FOUNDED: &[Field] = &[
    field("mesh", "/mesh", As::Text),
    field("first node", "/spiffe_id", As::Text),
    field("founder", "/person", As::Text),
    field("directory", "/dir", As::Text),
    field("configuration", "/config", As::Text),
    field("your vote key", "/person_key", As::Text),
    field("council key", "/council_key", As::Text),
    field("to be signed", "/draft", As::Text),
];

const SUCCESSOR: &[Field] = &[
    field("mesh", "/mesh", As::Text),
    field("successor", "/spiffe_id", As::Text),
    field("author key", "/author_key", As::Text),
    field("root key", "/root_key", As::Text),
    field("directory", "/dir", As::Text),
    field("configuration", "/config", As::Text),
];

const SEAT: &[Field] = &[
    field("mesh", "/mesh", As::Text),
    field("coordinator", "/spiffe_id", As::Text),
    field("author key", "/author_key", As::Text),
    field("directory", "/dir", As::Text),
    field("configuration", "/config", As::Text),
];

const SEALED: &str = "It is sealed: nobody can restore it without the passphrase.";
const PLAIN: &str = "It is a plain file, mode 0600: whoever reads it is the council.\n\
                     Seal it with `cauldron key seal`.";

/// `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Found a new mesh with this node as its first coordinator
    #[arg(long, required_unless_present_any = ["successor", "coordinator"])]
    first: bool,
    /// Prepare this box to succeed the mesh's sequencer, with what `cauldron authority export` wrote; the council then names it
    #[arg(
        long,
        value_name = "FILE",
        requires = "join",
        conflicts_with_all = ["first", "trust_domain", "person", "person_name", "council", "person_key", "passphrase_file", "no_passphrase"]
    )]
    successor: Option<PathBuf>,
    /// Prepare this box as one more coordinator of a mesh, with what `cauldron authority export` wrote; the council then seats it
    #[arg(
        long,
        value_name = "FILE",
        requires = "join",
        conflicts_with_all = ["first", "successor", "trust_domain", "person", "person_name", "council", "person_key", "passphrase_file",
            "no_passphrase", "root_key"]
    )]
    coordinator: Option<PathBuf>,
    /// Where a member of the mesh listens, host:port; for a successor or one more coordinator; may be repeated
    #[arg(long, value_name = "ADDR", conflicts_with = "first")]
    join: Vec<PeerAddr>,
    /// The new data directory [default: the node's name]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Name of the coordinator
    #[arg(long, value_name = "NAME", default_value = "hq")]
    name: String,
    /// The mesh's SPIFFE trust domain, such as acme.example
    #[arg(long, value_name = "NAME", value_parser = trust_domain, required_unless_present_any = ["successor", "coordinator"])]
    trust_domain: Option<TrustDomain>,
    /// UDP address for peers and joining nodes
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:7443")]
    listen: SocketAddr,
    /// Where others reach this node, host:port; goes into join tokens; may be repeated
    #[arg(long, value_name = "ADDR")]
    advertise: Vec<PeerAddr>,
    /// Loopback address for HTTP beside the socket
    #[arg(long, value_name = "ADDR")]
    api: Option<SocketAddr>,
    /// Id of the founder: council, policy author and first approver in one [default: your login name]
    #[arg(long, value_name = "PERSON")]
    person: Option<String>,
    /// What people call the founder [default: the id]
    #[arg(long, value_name = "TEXT")]
    person_name: Option<String>,
    /// Approver groups of the founder
    #[arg(long = "group", value_name = "GROUP", default_value = "security-duty")]
    groups: Vec<String>,
    /// WebAuthn relying party id of the approval pages
    #[arg(long, value_name = "DOMAIN", default_value = "localhost")]
    rp_id: String,
    /// An origin from which a passkey vote counts; may be repeated
    #[arg(long = "vote-origin", value_name = "URL")]
    vote_origins: Vec<String>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// A council member's public key: a .pub file, its line or 64 hex characters; repeated. Without, you are the council alone
    #[arg(long = "council", value_name = "KEY")]
    council: Vec<String>,
    /// How many of the council must sign [default: more than half]
    #[arg(long, value_name = "N", requires = "council")]
    threshold: Option<u32>,
    /// The founder's public key for votes [default: a new key in people/]
    #[arg(long, value_name = "KEY")]
    person_key: Option<String>,
    /// A root key in a token that the node signs with, as a pkcs11: URI [default: a new key in ca/root.key]
    #[arg(long, value_name = "URI")]
    root_key: Option<String>,
    /// Make the key pair that --root-key names; it must not be there yet
    #[arg(long, requires = "root_key")]
    root_key_generate: bool,
    /// Leave the council key in a plain file: whoever reads it can act as the council
    #[arg(long)]
    no_passphrase: bool,
}

/// `node …`.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Run a node until it is told to stop
    Run {
        /// Its configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Prepare a data directory for a node that a token invites; the first run redeems it
    Join(JoinArgs),
}

/// `node join`.
#[derive(Debug, Args)]
pub struct JoinArgs {
    /// What `cauldron authority token` printed; `-` reads it from standard input
    #[arg(value_name = "TOKEN")]
    token: String,
    /// The data directory [default: the node's name]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Where to write the configuration [default: node.toml in the data directory]
    #[arg(long, value_name = "OUT")]
    config: Option<PathBuf>,
    /// UDP address for peers
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:7443")]
    listen: SocketAddr,
    /// Loopback address for HTTP beside the socket
    #[arg(long, value_name = "ADDR")]
    api: Option<SocketAddr>,
    /// The log of sshd, for the security agent
    #[arg(long, value_name = "FILE", requires = "blocklist")]
    auth_log: Option<PathBuf>,
    /// The file that the firewall reads, for the blocklist connector
    #[arg(long, value_name = "FILE", requires = "auth_log")]
    blocklist: Option<PathBuf>,
    /// A folder whose files the node may write, for the folder connector
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

fn trust_domain(text: &str) -> Result<TrustDomain, String> {
    TrustDomain::new(text).map_err(|e| e.to_string())
}

pub(super) fn init(global: &Global, args: InitArgs) -> Result<(), CliError> {
    let trust_domain = match (&args.successor, &args.coordinator, &args.trust_domain) {
        (Some(export), ..) => return succeed(global, &args, export),
        (None, Some(export), _) => return sit_beside(global, &args, export),
        (None, None, Some(trust_domain)) => trust_domain.clone(),
        (None, None, None) => return Err(CliError::usage("--trust-domain is missing")),
    };
    let person = match args.person.clone() {
        Some(person) if is_name(&person) => person,
        Some(person) => {
            return Err(CliError::usage(format!("{person:?} is no id of a person"))
                .hint("write 1 to 63 of a-z, 0-9 and '-', not at either end"));
        }
        None => std::env::var("USER").ok().filter(|user| is_name(user)).unwrap_or_else(|| "founder".into()),
    };
    let root_key = args.root_key.as_deref().map(root_key::from_command_line).transpose()?;
    let council = council(&args)?;
    let dir = DataDir::new(absolute(args.dir.unwrap_or_else(|| PathBuf::from(&args.name))));
    let template = Template {
        name: args.name.clone(),
        site: None,
        dir: None,
        trust_domain: trust_domain.to_string(),
        listen: args.listen,
        advertise: args.advertise,
        join: Vec::new(),
        charter: None,
        first: true,
        authority: false,
        root_key: args.root_key,
        api: args.api,
        security: None,
        folder: None,
    };
    let ending = match &council {
        Council::Alone(Some(_)) => SEALED,
        Council::Alone(None) => PLAIN,
        Council::Keys(..) => "",
    };
    let person_key = args.person_key.as_deref().map(public_key).transpose()?;
    // A configuration that the node would refuse must not be founded on.
    Config::parse(&template.render(), &dir.config())?;
    let root_key = match root_key {
        None => None,
        Some(uri) => {
            // No key is made in a token for a directory that would then be refused.
            dir.create_new()?;
            Some(root_key::open_token(&uri, args.root_key_generate)?)
        }
    };
    let request = Request {
        name: args.name,
        trust_domain,
        person_name: args.person_name.unwrap_or_else(|| person.clone()),
        person: person.clone(),
        groups: args.groups,
        rp_id: args.rp_id,
        vote_origins: args.vote_origins,
        class_ages: ClassAges::default(),
        bundle: Bundle::default_bundle(),
        council,
        person_key,
        root_key,
        now_ms: clock::wall_ms(),
    };
    let founded = found(&dir, &request)?;
    let pinned = Template { charter: Some(founded.mesh.to_string()), ..template };
    files::write_public(&dir.config(), pinned.render().as_bytes())?;
    let value = founded_json(&founded, &dir, &person);
    print(global.output, &value, || {
        let shown = record(&value, FOUNDED, Timestamp::now());
        match founded.progress.missing() {
            None => format!(
                "{shown}\nThis mesh has a council of one: whoever holds the council key decides who may decide. Move it to a medium of its own\n\
                 before the mesh does real work. {ending}\n\n\
                 Next: cauldron node run --config {}\n",
                shell(&dir.config())
            ),
            Some(missing) => format!(
                "{shown}\nThe council founds this mesh: {missing}.\n\
                 Next: pass {draft} around; each member runs `cauldron charter sign FILE --key KEY` (or --agent KEY).\n\
                 Put it back, then: cauldron node run --config {config}\n",
                draft = shell(&dir.draft()),
                config = shell(&dir.config())
            ),
        }
    })
}

/// Prepares a box that the council can name as the new sequencer.
fn succeed(global: &Global, args: &InitArgs, export: &Path) -> Result<(), CliError> {
    let token = args.root_key.as_deref().map(root_key::from_command_line).transpose()?;
    let export = Export::read(export)?;
    let dir = DataDir::new(absolute(args.dir.clone().unwrap_or_else(|| PathBuf::from(&args.name))));
    let external = token.map(|uri| root_key::open_token(&uri, args.root_key_generate)).transpose()?;
    let prepared = successor::prepare(&dir, &export, &args.name, external, clock::wall_ms())?;
    configure(&dir, args, &prepared)?;
    let value = json!({
        "mesh": prepared.mesh, "spiffe_id": prepared.spiffe_id.to_string(), "author_key": prepared.author,
        "root_key": prepared.root_key, "dir": dir.root(), "config": dir.config(),
    });
    print(global.output, &value, || {
        format!(
            "{shown}\nIt is nobody until the council names it. At a member that still runs:\n\n  \
             cauldron authority term --sequencer {id} --author-key {author} --root-key {root} --out term.entry\n\n\
             Enough of the council sign it with `cauldron authority sign term.entry`. Start this node, then hand the term in\n\
             with `cauldron authority submit term.entry`, here and at a member of every part of the mesh.\n\n\
             Next: cauldron node run --config {config}\n",
            shown = record(&value, SUCCESSOR, Timestamp::now()),
            id = prepared.spiffe_id,
            author = prepared.author,
            root = prepared.root_key.map(|key| key.to_string()).unwrap_or_default(),
            config = shell(&dir.config())
        )
    })
}

/// Prepares a box that the council can seat beside the sequencer.
fn sit_beside(global: &Global, args: &InitArgs, export: &Path) -> Result<(), CliError> {
    let export = Export::read(export)?;
    let dir = DataDir::new(absolute(args.dir.clone().unwrap_or_else(|| PathBuf::from(&args.name))));
    let prepared = successor::prepare_seat(&dir, &export, &args.name)?;
    configure(&dir, args, &prepared)?;
    let value = json!({
        "mesh": prepared.mesh, "spiffe_id": prepared.spiffe_id.to_string(), "author_key": prepared.author,
        "dir": dir.root(), "config": dir.config(),
    });
    print(global.output, &value, || {
        format!(
            "{shown}\nIt is nobody until the council seats it. At a member of the mesh:\n\n  \
             cauldron charter amend --print > charter.toml\n  \
             printf '\\n[[coordinators]]\\nspiffe_id = \"{id}\"\\nauthor_key = \"{author}\"\\n' >> charter.toml\n  \
             cauldron charter amend charter.toml --out seat.entry\n\n\
             Enough of the council sign it with `cauldron authority sign seat.entry`; hand it in at the sequencer with\n\
             `cauldron authority submit seat.entry`. Then start this node.\n\n\
             Next: cauldron node run --config {config}\n",
            shown = record(&value, SEAT, Timestamp::now()),
            id = prepared.spiffe_id,
            author = prepared.author,
            config = shell(&dir.config())
        )
    })
}

/// Writes the configuration of a coordinator that is not the first.
fn configure(dir: &DataDir, args: &InitArgs, prepared: &Prepared) -> Result<(), CliError> {
    let template = Template {
        name: args.name.clone(),
        site: None,
        dir: None,
        trust_domain: prepared.trust_domain.to_string(),
        listen: args.listen,
        advertise: args.advertise.clone(),
        join: args.join.clone(),
        charter: Some(prepared.mesh.to_string()),
        first: false,
        authority: prepared.root_key.is_some(),
        root_key: args.root_key.clone(),
        api: args.api,
        security: None,
        folder: None,
    };
    Config::parse(&template.render(), &dir.config())?;
    files::write_public(&dir.config(), template.render().as_bytes())
}

/// Who founds: the keys named, else the founder alone.
fn council(args: &InitArgs) -> Result<Council, CliError> {
    if !args.council.is_empty() {
        let keys: Vec<_> = args.council.iter().map(|named| public_key(named)).collect::<Result<_, _>>()?;
        let majority = u32::try_from(keys.len() / 2 + 1).unwrap_or(u32::MAX);
        return Ok(Council::Keys(keys, args.threshold.unwrap_or(majority)));
    }
    match !args.no_passphrase && args.passphrase.is_there() {
        true => Ok(Council::Alone(Some(args.passphrase.choose("the council key")?))),
        false => Ok(Council::Alone(None)),
    }
}

fn founded_json(founded: &Founded, dir: &DataDir, person: &str) -> serde_json::Value {
    let made = |path: PathBuf| path.exists().then_some(path);
    json!({
        "mesh": founded.mesh, "spiffe_id": founded.spiffe_id.to_string(), "person": person, "credential": founded.credential,
        "dir": dir.root(), "config": dir.config(),
        "person_key": made(dir.person_key(person)), "council_key": made(dir.council_key(person)), "draft": made(dir.draft()),
    })
}

pub(super) fn node(global: &Global, command: NodeCommand) -> Result<(), CliError> {
    match command {
        NodeCommand::Run { config } => crate::run::run(Config::load(&config)?),
        NodeCommand::Join(args) => join(global, args),
    }
}

fn join(global: &Global, args: JoinArgs) -> Result<(), CliError> {
    let text = if args.token == "-" { stdin()? } else { args.token };
    let token = JoinToken::decode(&text).map_err(|e| {
        CliError::usage("this is no join token")
            .because(&e)
            .hint("copy the whole word that `cauldron authority token` printed")
    })?;
    let (mesh, spiffe_id): (MeshId, SpiffeId) =
        (token.mesh, token.spiffe_id().map_err(|e| CliError::usage("this is no join token").because(&e))?);
    let name = spiffe_id.path().rsplit('/').next().unwrap_or("node").to_owned();
    let dir = DataDir::new(absolute(args.dir.unwrap_or_else(|| PathBuf::from(name))));
    let mut template = prepare_join(&dir, &Join { token, listen: args.listen })?;
    template.api = args.api;
    template.security = args.auth_log.zip(args.blocklist).map(|(log, blocklist)| SecurityTemplate {
        log: absolute(log),
        blocklist: absolute(blocklist),
        ttl: None,
    });
    template.folder = args.folder.map(absolute);
    let path = args.config.map_or_else(|| dir.config(), absolute);
    if path.parent() != Some(dir.root()) {
        template.dir = Some(dir.root().to_owned());
    }
    let text = template.render();
    Config::parse(&text, &path)?;
    files::write_public(&path, text.as_bytes())?;
    let value = json!({ "mesh": mesh, "spiffe_id": spiffe_id.to_string(), "dir": dir.root(), "config": path });
    print(global.output, &value, || {
        format!(
            "{spiffe_id} is ready to join mesh {}.\n\nNext: cauldron node run --config {}\n",
            mesh.short(),
            shell(&path)
        )
    })
}

fn stdin() -> Result<String, CliError> {
    let mut text = String::new();
    let read = std::io::stdin().take(64 * 1024).read_to_string(&mut text);
    read.map_err(|e| {
        CliError::usage("cannot read the token from standard input")
            .because(&e)
            .hint("pipe in the word that `cauldron authority token` printed, as plain text, or write it instead of `-`")
    })?;
    Ok(text)
}

fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

/// A path as a shell takes it back.
fn shell(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+,=:@".contains(&b);
    if text.bytes().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
pub(crate) fn request_for_tests() -> Request {
    Request {
        name: "hq".into(),
        trust_domain: TrustDomain::new("acme.test").expect("a trust domain"),
        person: "ana".into(),
        person_name: "Ana".into(),
        groups: vec!["security-duty".into()],
        rp_id: "localhost".into(),
        vote_origins: vec![],
        class_ages: ClassAges::default(),
        bundle: Bundle::default_bundle(),
        council: Council::Alone(None),
        person_key: None,
        root_key: None,
        now_ms: clock::wall_ms(),
    }
}
