//! What a site may do when nobody outside can be asked: isolation grants, tokens that break the glass, lifts at the site.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cauldron_coordinator::bodies::{BrokenGlass, Review, ReviewStatement, SiteLift, SiteLiftStatement};
use cauldron_coordinator::signed::{Signed, Statement};
use cauldron_identity::authority::{Credential, Entry};
use cauldron_identity::budget::{Budget, Life};
use cauldron_identity::charter::ClassAges;
use cauldron_identity::codec::to_cbor;
use cauldron_identity::isolation::{BreakGlass, IsolationGrant, TOKENS_MAX, token_digest};
use cauldron_identity::{AuthorKey, Digest, FactId, MeshId, SpiffeId};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::approvals::voter;
use super::decide::recorded;
use super::draft::Out;
use super::entries::{Base, Pending};
use super::{Global, can_confirm, confirm, segment, spiffe_id};
use crate::client::Client;
use crate::error::{CliError, Kind};
use crate::output::{As, Field, field, harmless, items, print, rows};
use crate::signer::SignerArgs;
use crate::{chance, clock, files};

/// Begins the text of a token, so that nobody takes it for something else.
const TOKEN_PREFIX: &str = "cauldron-break-glass1.";

const CLASSES: &[Field] = &[
    field("SITE", "/site", As::Text),
    field("STATE", "/state", As::Text),
    field("SINCE", "/since", As::Time),
    field("CLASS", "/class", As::Text),
    field("UNDER", "/under", As::Text),
    field("UNTIL", "/until", As::Time),
    field("SAYS", "/says", As::Brief),
];
const GLASS: &[Field] = &[
    field("ID", "/id", As::Short),
    field("PROPOSAL", "/proposal", As::Short),
    field("USED", "/used", As::Time),
    field("STATE", "/state", As::Text),
    field("REVIEW", "/review", As::Brief),
    field("REASON", "/reason", As::Brief),
    field("WHY", "/why", As::Brief),
];

/// `isolation …`.
#[derive(Debug, Subcommand)]
pub enum Isolation {
    /// What each site may still do, class by class, and until when
    Show,
    /// Draft what a site may do past its lease, for the council to sign; it replaces what stood before
    Grant(Box<GrantArgs>),
    /// At an isolated site: lift what one of the site's own people restricted, with as many of them as the grant names
    Lift(LiftArgs),
}

/// `isolation grant`.
#[derive(Debug, Args)]
pub struct GrantArgs {
    /// The site
    #[arg(value_name = "SITE")]
    site: String,
    /// SPIFFE ID of a node or coordinator of the site that decides there meanwhile, the owner's own node too; may be repeated
    #[arg(long = "acting", value_name = "SPIFFE_ID", value_parser = spiffe_id, required_unless_present = "withdraw")]
    acting: Vec<SpiffeId>,
    /// How old the lease may be for reads, at most 30d; none without
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    r0: Option<Duration>,
    /// For what is reversible and small, at most 7d
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    r1: Option<Duration>,
    /// For what can be compensated, at most 72h; it needs two of the site's own people, and escrow
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    r2: Option<Duration>,
    /// A group of the site's own people; may be repeated
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// A budget that it may draw on; may be repeated
    #[arg(long = "escrow", value_name = "BUDGET", value_parser = budget)]
    escrow: Vec<Budget>,
    /// How many of its own people lift what one of them restricted; 0 for none can
    #[arg(long, value_name = "N", default_value_t = 0)]
    lift: u32,
    /// Take the grant back
    #[arg(long, conflicts_with_all = ["acting", "r0", "r1", "r2", "groups", "escrow", "lift"])]
    withdraw: bool,
    #[command(flatten)]
    out: Out,
}

/// `isolation lift`.
#[derive(Debug, Args)]
pub struct LiftArgs {
    /// Id of the restriction, whole (`cauldron restrictions -o json`)
    #[arg(value_name = "RESTRICTION")]
    restriction: FactId,
    /// Why; goes into the record
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    signer: SignerArgs,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// `break-glass …`.
#[derive(Debug, Subcommand)]
pub enum Glass {
    /// Make sealed tokens for one node, and draft the entry by which the council gives them to it
    Issue(IssueArgs),
    /// Use a token for one proposal, offline too: it skips the approvals alone, and somebody must look at it afterwards
    Use(UseArgs),
    /// Where somebody broke the glass
    List,
    /// Say that you have looked at a use of a token, at an action that is audited, or at a failure that shall stand
    Review(ReviewArgs),
}

/// `break-glass issue`.
#[derive(Debug, Args)]
pub struct IssueArgs {
    /// The node that owns what may be acted on
    #[arg(value_name = "SPIFFE_ID", value_parser = spiffe_id)]
    holder: SpiffeId,
    /// How many, 1 to 16; none takes back those that are not used
    #[arg(long, value_name = "N", default_value_t = 3)]
    count: usize,
    /// How long they are good
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration, default_value = "90d")]
    lasts: Duration,
    /// Write each token into a file of its own in this new folder, readable by you alone: to be sealed and kept at the site
    #[arg(long, value_name = "DIR")]
    tokens: PathBuf,
    #[command(flatten)]
    out: Out,
}

/// `break-glass use`.
#[derive(Debug, Args)]
pub struct UseArgs {
    /// The file with the token
    #[arg(long, value_name = "FILE")]
    token: PathBuf,
    /// Id of the proposal, or its first characters
    #[arg(long, value_name = "ID")]
    proposal: String,
    /// Why; goes into the record
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// `break-glass review`.
#[derive(Debug, Args)]
pub struct ReviewArgs {
    /// Id of the use, or of the action (`break-glass list`, `status`), or its first characters
    #[arg(value_name = "ID")]
    id: String,
    /// What you found; goes into the record
    #[arg(long, value_name = "TEXT")]
    note: String,
    #[command(flatten)]
    signer: SignerArgs,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

fn budget(text: &str) -> Result<Budget, String> {
    Budget::new(text).map_err(|e| e.to_string())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

pub(super) async fn isolation(client: &Client, global: &Global, command: Isolation) -> Result<(), CliError> {
    match command {
        Isolation::Show => show(client, global).await,
        Isolation::Grant(args) => grant(client, global, &args).await,
        Isolation::Lift(args) => lift(client, global, &args).await,
    }
}

pub(super) async fn glass(client: &Client, global: &Global, command: Glass) -> Result<(), CliError> {
    match command {
        Glass::Issue(args) => issue(client, global, &args).await,
        Glass::Use(args) => use_token(client, global, &args).await,
        Glass::List => list(client, global).await,
        Glass::Review(args) => review(client, global, &args).await,
    }
}

async fn show(client: &Client, global: &Global) -> Result<(), CliError> {
    let sites = client.get("/v1/sites").await?;
    print(global.output, &sites, || {
        let lines: Vec<Value> = items(&sites).iter().flat_map(class_lines).collect();
        rows(&lines, CLASSES, "no site is enrolled", Timestamp::now())
    })
}

/// One line for each class of a site.
fn class_lines(site: &Value) -> Vec<Value> {
    let of = |name: &str| site.pointer(&format!("/isolation/{name}")).cloned().unwrap_or_default();
    let classes = of("classes").as_array().cloned().unwrap_or_default();
    let line = |class: &Value| {
        let mut line = class.clone();
        if let Some(map) = line.as_object_mut() {
            map.insert("site".into(), site["site"].clone());
            map.insert("state".into(), of("state"));
            map.insert("since".into(), of("since"));
        }
        line
    };
    classes.iter().map(line).collect()
}

async fn grant(client: &Client, global: &Global, args: &GrantArgs) -> Result<(), CliError> {
    let ms = |time: Option<Duration>| time.map_or(0, millis);
    let grant = IsolationGrant {
        site: args.site.clone(),
        acting: args.acting.iter().map(ToString::to_string).collect(),
        horizon: ClassAges { r0_ms: ms(args.r0), r1_ms: ms(args.r1), r2_ms: ms(args.r2), r3_ms: 0 },
        groups: args.groups.clone(),
        escrow: args.escrow.clone(),
        lift: args.lift,
    };
    grant.fits().map_err(|why| CliError::usage("this grant would be refused").detail(why))?;
    if !args.withdraw && grant.horizon.by_class().iter().all(|(_, ms)| *ms == 0) {
        return Err(CliError::usage("this grant gives nothing").hint("name a class: --r1 24h; or say --withdraw"));
    }
    Pending::new(&Base::ask(client).await?, &Entry::Isolation(grant)).put(global, args.out.path())
}

async fn issue(client: &Client, global: &Global, args: &IssueArgs) -> Result<(), CliError> {
    if args.count > TOKENS_MAX {
        return Err(CliError::usage(format!("--count {}: at most {TOKENS_MAX} at a time", args.count)));
    }
    let base = Base::ask(client).await?;
    let authority = client.get("/v1/authority").await?;
    let name = args.holder.to_string();
    let member = authority["members"].as_array().into_iter().flatten();
    let member = member.filter(|m| m["standing"] != "cut").find(|m| m["spiffe_id"].as_str() == Some(&name));
    let read = |m: &Value| {
        let author = m["author"].as_str()?.parse().ok()?;
        Some(Life { author, incarnation: u32::try_from(m["incarnation"].as_u64()?).ok()? })
    };
    let holder = member.and_then(read).ok_or_else(|| {
        CliError::usage(format!("{name} is no enrolled member")).hint("`cauldron authority show` names them")
    })?;
    let Ok(cauldron_identity::Role::Node { site, .. }) = cauldron_identity::Role::of(&args.holder) else {
        return Err(CliError::usage(format!("{name} is no node of a site: it owns nothing that could be acted on")));
    };
    if files::is_occupied(&args.tokens)? {
        return Err(CliError::usage(format!("{} is not empty", args.tokens.display())).hint("name a new folder"));
    }
    let seeds: Vec<[u8; 32]> = (0..args.count).map(|_| chance::bytes()).collect();
    let digests = seeds.iter().map(|seed| token_digest(&AuthorKey::from_seed(seed).public())).collect();
    let expires_ms = clock::wall_ms().saturating_add(millis(args.lasts));
    let entry = Entry::BreakGlass(BreakGlass { site, holder, digests, expires_ms });
    files::create_dir(&args.tokens)?;
    for (n, seed) in (1..).zip(&seeds) {
        let text = format!("{TOKEN_PREFIX}{}\n", hex::encode(seed));
        files::write_private(&args.tokens.join(format!("token-{n}")), text.as_bytes())?;
    }
    eprintln!("{} tokens are in {}: seal each, and keep them at the site", args.count, args.tokens.display());
    Pending::new(&base, &entry).put(global, args.out.path())
}

fn read_token(path: &std::path::Path) -> Result<AuthorKey, CliError> {
    let text = files::read_secret(path)?;
    let seed = text.trim().strip_prefix(TOKEN_PREFIX).and_then(|hex| hex::decode(hex).ok());
    let seed: Option<[u8; 32]> = seed.and_then(|seed| seed.try_into().ok());
    let seed = seed.ok_or_else(|| {
        CliError::config(format!("{} holds no break-glass token", path.display()))
            .hint("a token is one line that begins with cauldron-break-glass1.")
    })?;
    Ok(AuthorKey::from_seed(&seed))
}

/// Mesh and authority head, as the node holds them.
pub(super) async fn place(client: &Client) -> Result<(MeshId, Option<FactId>), CliError> {
    let authority = client.get("/v1/authority").await?;
    let text = |name: &str| authority.get(name).and_then(Value::as_str).map(str::to_owned);
    let unread = || CliError::integrity("the node's answer about its authority chain cannot be read");
    let mesh = text("mesh").and_then(|m| m.parse().ok()).ok_or_else(unread)?;
    let head = text("head").map(|h| h.parse()).transpose().map_err(|_| unread())?;
    Ok((mesh, head))
}

async fn use_token(client: &Client, global: &Global, args: &UseArgs) -> Result<(), CliError> {
    can_confirm(args.yes)?;
    let token = read_token(&args.token)?;
    let (mesh, _) = place(client).await?;
    let shown = client.get(&format!("/v1/proposals/{}", segment(&args.proposal))).await?;
    let id = |name: &str| shown.pointer(&format!("/status/{name}")).and_then(Value::as_str)?.parse().ok();
    let (proposal, lineage): (FactId, FactId) = id("id")
        .zip(id("lineage"))
        .ok_or_else(|| CliError::integrity("the node's answer about that proposal cannot be read"))?;
    let text = |name: &str| harmless(shown.pointer(&format!("/summary/{name}")).and_then(Value::as_str).unwrap_or("?"));
    eprintln!("{} on {} ({}): {}", text("operation"), text("target"), text("class"), text("summary"));
    confirm("Break the glass for exactly this? It is told to everybody, and somebody must look at it.", args.yes)?;
    let used = BrokenGlass::new(&token, &mesh, (proposal, lineage), &args.reason, clock::wall_ms());
    let body = json!({ "use": BASE64_STANDARD.encode(to_cbor(&used)) });
    recorded(global.output, "the glass is broken", &client.post("/v1/break-glass", &body).await?)
}

async fn list(client: &Client, global: &Global) -> Result<(), CliError> {
    let uses = client.get("/v1/break-glass").await?;
    print(global.output, &uses, || {
        let with_review = |use_: &Value| {
            let mut line = use_.clone();
            let groups = use_["reviewers"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let review = match (use_["needs_review"] == true, use_["reviewed"].as_str()) {
                (true, _) => format!("NEEDED, by one of {}", groups.collect::<Vec<_>>().join(", ")),
                (false, Some(who)) => who.to_owned(),
                (false, None) => "none".to_owned(),
            };
            if let Some(map) = line.as_object_mut() {
                map.insert("review".into(), review.into());
            }
            line
        };
        let lines: Vec<Value> = items(&uses).iter().map(with_review).collect();
        rows(&lines, GLASS, "nobody broke the glass", Timestamp::now())
    })
}

/// Signs a statement with a person's key.
pub(super) fn signed<T: Statement>(statement: &T, key: &crate::signer::Signer) -> Result<Signed<T>, CliError> {
    let bytes = to_cbor(statement);
    let signature = key.sign(T::DOMAIN, &bytes)?;
    Ok(Signed::new(bytes, signature.to_bytes()))
}

async fn review(client: &Client, global: &Global, args: &ReviewArgs) -> Result<(), CliError> {
    can_confirm(args.yes)?;
    let (person, key) = voter(client, &args.signer, &global.data_dir()).await?;
    let uses = client.get("/v1/break-glass").await?;
    let named = |u: &&Value| u["id"].as_str().is_some_and(|id| id.starts_with(&args.id)) && args.id.len() >= 4;
    let found: Vec<&Value> = items(&uses).iter().filter(named).collect();
    let looked: Option<Vec<FactId>> = match &found[..] {
        [found] => {
            let said = |name: &str| harmless(found[name].as_str().unwrap_or("?"));
            eprintln!("proposal {}: {} ({})", said("proposal"), said("reason"), said("state"));
            found["id"].as_str().and_then(|id| id.parse().ok()).map(|id| vec![id])
        }
        // No use of a token: an action that is to be looked at.
        [] => {
            let shown = client.get(&format!("/v1/proposals/{}", segment(&args.id))).await?;
            let said = |name: &str| harmless(shown["summary"][name].as_str().unwrap_or("?"));
            eprintln!("{} on {} ({}): {}", said("operation"), said("target"), said("state"), said("summary"));
            to_review(&shown, &args.id)?
        }
        found => {
            let what = format!("{} uses of a token begin with {:?}", found.len(), args.id);
            return Err(CliError::new(Kind::Refused, what).hint("`cauldron break-glass list -o json` has whole ids"));
        }
    };
    let looked = looked.ok_or_else(|| CliError::integrity("the node's answer about that use cannot be read"))?;
    confirm(&format!("Say that you have looked at it? You sign as {person}."), args.yes)?;
    let (mesh, authority_head) = place(client).await?;
    for used in looked {
        let statement = ReviewStatement {
            mesh,
            person: person.clone(),
            credential: Credential::of(key.public()).id(),
            authority_head,
            used,
            note: args.note.clone(),
            issued_ms: clock::wall_ms(),
            nonce: Digest::from_bytes(chance::bytes()),
        };
        let review: Review = signed(&statement, &key)?;
        let body = json!({ "review": BASE64_STANDARD.encode(to_cbor(&review)) });
        recorded(global.output, "reviewed", &client.post("/v1/break-glass/reviews", &body).await?)?;
    }
    Ok(())
}

/// The facts that whoever looks at an action names, after what it is was shown: its start, or each failure that nobody has accepted.
fn to_review(shown: &Value, id: &str) -> Result<Option<Vec<FactId>>, CliError> {
    let Some(ids) = shown["review"].as_array() else { return Ok(None) };
    if ids.is_empty() {
        let what = format!("nobody has to look at {id}, or a look alone does not settle it");
        return Err(CliError::new(Kind::Refused, what).hint(format!("`cauldron why {id}` says what does")));
    }
    let told = shown["timeline"].as_array().into_iter().flatten();
    for event in told.filter(|event| ids.contains(&event["id"])) {
        eprintln!("  {}", harmless(event["says"].as_str().unwrap_or("?")));
    }
    Ok(ids.iter().map(|id| id.as_str()?.parse().ok()).collect())
}

async fn lift(client: &Client, global: &Global, args: &LiftArgs) -> Result<(), CliError> {
    can_confirm(args.yes)?;
    let (person, key) = voter(client, &args.signer, &global.data_dir()).await?;
    let all = client.get("/v1/restrictions").await?;
    let wanted = args.restriction.to_string();
    let found = items(&all).iter().find(|r| r["id"].as_str() == Some(&wanted));
    let found = found.ok_or_else(|| CliError::new(Kind::Refused, format!("no restriction {wanted} is here")))?;
    let said = |name: &str| harmless(found[name].as_str().unwrap_or("?"));
    eprintln!("{} {} by {}: {}", said("kind"), said("target"), said("by"), said("reason"));
    confirm(&format!("Lift it at this site, while the site is isolated? You sign as {person}."), args.yes)?;
    let (mesh, authority_head) = place(client).await?;
    let statement = SiteLiftStatement {
        mesh,
        person,
        credential: Credential::of(key.public()).id(),
        authority_head,
        restriction: args.restriction,
        reason: args.reason.clone(),
        issued_ms: clock::wall_ms(),
        nonce: Digest::from_bytes(chance::bytes()),
    };
    let lift: SiteLift = signed(&statement, &key)?;
    let body = json!({ "lift": BASE64_STANDARD.encode(to_cbor(&lift)) });
    recorded(global.output, "lifted for your part", &client.post("/v1/isolation/lifts", &body).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_line_that_says_what_it_is() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("token-1");
        let write = |text: &str| files::write_private(&path, text.as_bytes()).expect("written");
        write(&format!("{TOKEN_PREFIX}{}\n", hex::encode([7; 32])));
        assert_eq!(read_token(&path).expect("a token").public(), AuthorKey::from_seed(&[7; 32]).public());
        for text in ["", "cauldron1.abc", "cauldron-break-glass1.0707", "cauldron-break-glass1.zz"] {
            write(text);
            assert!(read_token(&path).expect_err(text).to_string().contains("no break-glass token"), "{text}");
        }
    }
}
