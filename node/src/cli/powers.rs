//! What the council lifts, grants and moves: drafts of entries, and what has come of them.

use std::path::PathBuf;
use std::time::Duration;

use cauldron_identity::authority::{
    Attest, Autonomy, AutonomyGrant, AutonomyOf, BOX_OFF_NAMESPACE, Entry, Fenced, Level, Lift, Reassign, VOTES_R2,
    VOTES_R3,
};
use cauldron_identity::budget::Life;
use cauldron_identity::{AuthorId, Digest, FactId};
use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::draft::Out;
use super::entries::{Base, Pending};
use super::{Global, confirm, duration, segment};
use crate::client::Client;
use crate::error::CliError;
use crate::output::{As, Field, field, items, print, rows};
use crate::signer::SignerArgs;

const AUTONOMY: &[Field] = &[
    field("BUILD", "/build", As::Short),
    field("CLASS", "/action_class", As::Text),
    field("SITE", "/site", As::Text),
    field("LEVEL", "/level", As::Text),
    field("R2 VOTES", "/votes_r2", As::Text),
    field("R3 VOTES", "/votes_r3", As::Text),
    field("EXPIRES", "/expires", As::Time),
    field("OVER", "/expired", As::Text),
    field("ENTRY", "/entry", As::Text),
    field("WHY", "/reason", As::Brief),
];
const OFFERS: &[Field] = &[
    field("ID", "/id", As::Short),
    field("RESOURCES", "/prefix", As::Text),
    field("FROM", "/from", As::Text),
    field("TO", "/to", As::Text),
    field("OFFERED", "/offered", As::Time),
];

/// `lift ID…`.
#[derive(Debug, Args)]
pub struct LiftArgs {
    /// The restrictions, by their ids or first characters
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    /// Why; goes into the record
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    out: Out,
}

/// `autonomy …`.
#[derive(Debug, Subcommand)]
pub enum AutonomyCommand {
    /// What was granted, to whom, and until when
    List,
    /// Draft a grant, for the council to sign
    Grant(GrantArgs),
    /// Draft the end of a grant, for the council to sign
    Revoke(RevokeArgs),
}

/// Whose autonomy.
#[derive(Debug, Args)]
pub struct WhoseArgs {
    /// Digest of the agent's build, as its proposals name it
    #[arg(long, value_name = "HEX")]
    build: Digest,
    /// Digest of its model, where its proposals name one
    #[arg(long, value_name = "HEX")]
    model: Option<Digest>,
    /// Digest of its prompt, where its proposals name one
    #[arg(long, value_name = "HEX")]
    prompt: Option<Digest>,
    /// Digest of its tool schemas, where its proposals name them
    #[arg(long, value_name = "HEX")]
    tools: Option<Digest>,
    /// The class of action, such as security.address.block/blocklist
    #[arg(long = "class", value_name = "CLASS")]
    action_class: String,
    /// The site
    #[arg(long, value_name = "SITE")]
    site: String,
    /// Why; goes into the record
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    out: Out,
}

/// A level as people type it.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum LevelArg {
    /// Observes only
    #[value(name = "L0")]
    L0,
    /// Proposes
    #[value(name = "L1")]
    L1,
    /// Acts after a time to object
    #[value(name = "L2")]
    L2,
    /// Acts and tells
    #[value(name = "L3")]
    L3,
    /// Acts inside a budget
    #[value(name = "L4")]
    L4,
}

/// `autonomy grant`.
#[derive(Debug, Args)]
pub struct GrantArgs {
    #[command(flatten)]
    whose: WhoseArgs,
    /// How far it may go
    #[arg(long, value_enum, value_name = "LEVEL")]
    level: LevelArg,
    /// How long
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    lasts: Duration,
    /// Human votes that code still asks for of class R2
    #[arg(long, value_name = "N", default_value_t = VOTES_R2)]
    votes_r2: u32,
    /// The same of class R3
    #[arg(long, value_name = "N", default_value_t = VOTES_R3)]
    votes_r3: u32,
    /// Digest of the evidence that the signers go by
    #[arg(long, value_name = "HEX")]
    evidence: Option<Digest>,
}

/// `autonomy revoke`.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    #[command(flatten)]
    whose: WhoseArgs,
}

/// `ownership …`.
#[derive(Debug, Subcommand)]
pub enum OwnershipCommand {
    /// Resources that were offered and that nobody has taken yet
    List,
    /// Offer all resources of one connector of this node to another node of its site
    Offer {
        /// <site>/<node>/<connector>
        #[arg(value_name = "RESOURCES")]
        prefix: String,
        /// The next owner's SPIFFE ID or author id; this node's own takes an offer back
        #[arg(long, value_name = "MEMBER")]
        to: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Take what was offered to this node
    Accept {
        /// The offer, or its first characters
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Draft the move of a cut node's resources, for the council to sign
    Reassign(ReassignArgs),
    /// Say with your key that the old owner's machine is off, in a draft that nobody has signed yet
    Attest {
        /// What `reassign` wrote
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Who you are, as you are enrolled
        #[arg(long, value_name = "PERSON")]
        person: String,
        #[command(flatten)]
        signer: SignerArgs,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// How a connector keeps a stale owner from acting.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum FencingArg {
    /// Only the owner's own machine reaches the resources
    Local,
    /// They check a fencing token themselves
    Native,
    /// They take commands from anyone: two people attest that the old machine is off
    None,
}

/// `ownership reassign`.
#[derive(Debug, Args)]
pub struct ReassignArgs {
    /// <site>/<node>/<connector>
    #[arg(value_name = "RESOURCES")]
    prefix: String,
    /// Who owned them: the author id of a member that was cut
    #[arg(long, value_name = "AUTHOR")]
    from: AuthorId,
    /// Who owns them from here on: a node of the site, by SPIFFE ID or author id
    #[arg(long, value_name = "MEMBER")]
    to: String,
    /// What the connector declares
    #[arg(long, value_enum)]
    fencing: FencingArg,
    #[command(flatten)]
    out: Out,
}

/// Drafts the end of restrictions, each of which must be here and liftable.
pub(super) async fn lift(client: &Client, global: &Global, args: &LiftArgs) -> Result<(), CliError> {
    let mut restrictions = Vec::new();
    for id in &args.ids {
        let found = client.get(&format!("/v1/restrictions/{}", segment(id))).await?;
        let id = found.get("id").and_then(Value::as_str).and_then(|id| id.parse::<FactId>().ok());
        restrictions.push(id.ok_or_else(|| CliError::integrity("the node's answer about a restriction has no id"))?);
        if found["kind"] == "veto" {
            return Err(CliError::usage("a veto of a lineage is a deny: nothing lifts it")
                .hint("let it be proposed anew: that is another lineage"));
        }
        if found["kind"] == "cut" {
            return Err(CliError::usage("a cut is no restriction that a lift ends")
                .hint("whoever was cut is enrolled anew, with the council's word"));
        }
    }
    let lift = Lift { restrictions, reason: args.reason.clone() };
    lift.fits().map_err(|why| CliError::usage("this lifts nothing").detail(why))?;
    Pending::new(&Base::ask(client).await?, &Entry::Lift(lift)).put(global, args.out.path())
}

impl WhoseArgs {
    fn of(&self) -> AutonomyOf {
        AutonomyOf {
            build: self.build,
            model: self.model,
            prompt: self.prompt,
            tools: self.tools,
            action_class: self.action_class.clone(),
            site: self.site.clone(),
        }
    }

    async fn put(&self, client: &Client, global: &Global, grant: Option<AutonomyGrant>) -> Result<(), CliError> {
        let autonomy = Autonomy { of: self.of(), grant, reason: self.reason.clone() };
        autonomy.fits().map_err(|why| CliError::usage("nobody can grant this").detail(why))?;
        Pending::new(&Base::ask(client).await?, &Entry::Autonomy(autonomy)).put(global, self.out.path())
    }
}

/// `autonomy …`.
pub(super) async fn autonomy(client: &Client, global: &Global, command: &AutonomyCommand) -> Result<(), CliError> {
    match command {
        AutonomyCommand::List => {
            let all = client.get("/v1/autonomy").await?;
            print(global.output, &all, || {
                rows(items(&all), AUTONOMY, "every agent is at L1: it proposes", Timestamp::now())
            })
        }
        AutonomyCommand::Grant(args) => {
            let lasts_ms = i64::try_from(args.lasts.as_millis()).unwrap_or(i64::MAX);
            let expires = Timestamp::now().as_millisecond().saturating_add(lasts_ms);
            let level = match args.level {
                LevelArg::L0 => Level::L0,
                LevelArg::L1 => Level::L1,
                LevelArg::L2 => Level::L2,
                LevelArg::L3 => Level::L3,
                LevelArg::L4 => Level::L4,
            };
            let grant = AutonomyGrant {
                level,
                votes_r2: args.votes_r2,
                votes_r3: args.votes_r3,
                expires_ms: u64::try_from(expires).unwrap_or(0),
                evidence: args.evidence,
            };
            args.whose.put(client, global, Some(grant)).await
        }
        AutonomyCommand::Revoke(args) => args.whose.put(client, global, None).await,
    }
}

async fn life(client: &Client, member: &str) -> Result<Life, CliError> {
    let answer = client.get(&format!("/v1/authority/ends/{}", segment(member))).await?;
    let read = || {
        let author = answer.get("author")?.as_str()?.parse().ok()?;
        let incarnation = u32::try_from(answer.get("incarnation")?.as_u64()?).ok()?;
        Some(Life { author, incarnation })
    };
    read().ok_or_else(|| CliError::integrity("the node's answer about that member cannot be read"))
}

/// `ownership …`.
pub(super) async fn ownership(client: &Client, global: &Global, command: &OwnershipCommand) -> Result<(), CliError> {
    let recorded = |verb: &str, answer: &Value| super::decide::recorded(global.output, verb, answer);
    match command {
        OwnershipCommand::List => {
            let all = client.get("/v1/ownership/offers").await?;
            print(global.output, &all, || rows(items(&all), OFFERS, "nothing is offered", Timestamp::now()))
        }
        OwnershipCommand::Offer { prefix, to, yes } => {
            confirm(&format!("Start nothing on {prefix} from here on, and give it to {to}?"), *yes)?;
            recorded("offered", &client.post("/v1/ownership/offers", &json!({ "prefix": prefix, "to": to })).await?)
        }
        OwnershipCommand::Accept { id } => {
            let path = format!("/v1/ownership/offers/{}/accept", segment(id));
            recorded("accepted", &client.post(&path, &json!({})).await?)
        }
        OwnershipCommand::Reassign(args) => {
            let fencing = match args.fencing {
                FencingArg::Local => Fenced::Local,
                FencingArg::Native => Fenced::Native,
                FencingArg::None => Fenced::None,
            };
            let (from, to) = (life(client, &args.from.to_string()).await?, life(client, &args.to).await?);
            let prefix = args.prefix.clone();
            let entry = Reassign { prefix, from, to, handover: None, fencing: Some(fencing), attests: vec![] };
            Pending::new(&Base::ask(client).await?, &Entry::Reassign(Box::new(entry))).put(global, args.out.path())
        }
        OwnershipCommand::Attest { file, person, signer, yes } => {
            let (pending, mesh, mut entry) = Pending::unsigned_reassign(file)?;
            let what = format!("Is the machine off that {} owned {} from?", entry.from, entry.prefix);
            confirm(&what, *yes)?;
            let signer = signer.open()?;
            let signature = signer.sign(BOX_OFF_NAMESPACE, &entry.box_off(&mesh))?;
            entry.attests.push(Attest { person: person.clone(), key: signer.public(), signature });
            pending.with(&Entry::Reassign(Box::new(entry))).put(global, file)
        }
    }
}
