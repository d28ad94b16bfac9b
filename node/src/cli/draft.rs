//! What the council changes: each command drafts one entry of the authority chain into a file that goes round, see
//! [`entries`](super::entries).

use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cauldron_identity::authority::{Amend, ChainEnd, Cut, Entry, Term};
use cauldron_identity::charter::{Charter, ClassAges, Seat};
use cauldron_identity::codec::from_cbor;
use cauldron_identity::{AuthorId, Digest, PublicKey, SignerKey, SpiffeId};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::entries::{Base, Pending};
use super::{Global, segment};
use crate::client::Client;
use crate::error::CliError;
use crate::files;
use crate::output::print;

/// Where a draft goes.
#[derive(Debug, Clone, Args)]
pub struct Out {
    /// Write the draft here
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl Out {
    pub(super) fn path(&self) -> &std::path::Path {
        &self.out
    }
}

/// `authority cut`.
#[derive(Debug, Args)]
pub struct CutArgs {
    /// Whose right to write ends: a member's SPIFFE ID or author id
    #[arg(value_name = "MEMBER")]
    member: String,
    #[command(flatten)]
    out: Out,
}

/// `authority term`.
#[derive(Debug, Args)]
pub struct TermArgs {
    /// Who writes the authority chain from here on, such as spiffe://acme.example/coordinator/hq-2 [default: the present one, restored]
    #[arg(long, value_name = "SPIFFE_ID", requires = "author_key")]
    sequencer: Option<SpiffeId>,
    /// Its author key, 64 hex characters
    #[arg(long, value_name = "HEX", requires = "sequencer")]
    author_key: Option<PublicKey>,
    /// A root key that certificates are trusted by from here on, SHA-256 of its SPKI; may be repeated, and replaces all
    #[arg(long = "root-key", value_name = "HEX")]
    root_keys: Vec<Digest>,
    #[command(flatten)]
    out: Out,
}

/// `charter amend`.
#[derive(Debug, Args)]
pub struct AmendArgs {
    /// The charter as it shall be, edited from what --print gave
    #[arg(value_name = "FILE", required_unless_present = "print")]
    file: Option<PathBuf>,
    /// Print the charter as it is, to be edited
    #[arg(long, conflicts_with_all = ["file", "out"])]
    print: bool,
    /// Write the draft here
    #[arg(long, value_name = "FILE", required_unless_present = "print")]
    out: Option<PathBuf>,
}

/// A charter as people edit it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CharterFile {
    threshold: u32,
    council: Vec<SignerKey>,
    recovery: Vec<SignerKey>,
    policy_authors: Vec<SignerKey>,
    root_keys: Vec<Digest>,
    rp_id: String,
    vote_origins: Vec<String>,
    retention_floor_days: u32,
    lease_age_ms: LeaseAges,
    coordinators: Vec<SeatFile>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LeaseAges {
    r0: u64,
    r1: u64,
    r2: u64,
    r3: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SeatFile {
    spiffe_id: String,
    author_key: PublicKey,
}

struct Member {
    author: AuthorId,
    incarnation: u32,
    ends: Vec<ChainEnd>,
}

async fn member(client: &Client, name: &str) -> Result<Member, CliError> {
    let answer = client.get(&format!("/v1/authority/ends/{}", segment(name))).await?;
    let read = || {
        Some(Member {
            author: answer.get("author")?.as_str()?.parse().ok()?,
            incarnation: u32::try_from(answer.get("incarnation")?.as_u64()?).ok()?,
            ends: from_cbor(&BASE64_STANDARD.decode(answer.get("ends")?.as_str()?).ok()?).ok()?,
        })
    };
    read().ok_or_else(|| CliError::integrity("the node's answer about that member cannot be read"))
}

/// Drafts the end of an author's right to write, at the heads that this node holds.
pub(super) async fn cut(client: &Client, global: &Global, args: &CutArgs) -> Result<(), CliError> {
    let (base, member) = (Base::ask(client).await?, member(client, &args.member).await?);
    let cut = Cut { author: member.author, incarnation: member.incarnation, ends: member.ends, fork: vec![] };
    Pending::new(&base, &Entry::Cut(cut)).put(global, &args.out.out)
}

/// Drafts a new term. On a frozen chain it builds on the last entry before the fork, which every node holds.
pub(super) async fn term(client: &Client, global: &Global, args: &TermArgs) -> Result<(), CliError> {
    let base = Base::ask(client).await?;
    let present = &base.charter.sequencer;
    let sequencer = match (&args.sequencer, args.author_key) {
        (Some(id), Some(author)) => Seat { author, spiffe_id: id.to_string() },
        _ => present.clone(),
    };
    let outgoing = member(client, &present.author.author_id().to_string()).await?;
    let term = Term { n: base.term + 1, sequencer, ends: outgoing.ends, root_keys: args.root_keys.clone() };
    let after = term.apply_to(&base.charter);
    after.map_err(|why| CliError::usage("the charter would not be valid under this term").detail(why))?;
    Pending::new(&base, &Entry::Term(term)).put(global, &args.out.out)
}

/// Drafts a person's removal.
pub(super) async fn revoke(client: &Client, global: &Global, person: &str, out: &Out) -> Result<(), CliError> {
    let base = Base::ask(client).await?;
    Pending::new(&base, &Entry::RevokePerson(person.to_owned())).put(global, &out.out)
}

/// Prints the charter for editing, or drafts the amendment that an edited one amounts to.
pub(super) async fn amend(client: &Client, global: &Global, args: &AmendArgs) -> Result<(), CliError> {
    let base = Base::ask(client).await?;
    let (Some(file), Some(out)) = (&args.file, &args.out) else {
        let text = toml::to_string(&CharterFile::of(&base.charter))
            .map_err(|e| CliError::integrity("the charter cannot be printed").because(&e))?;
        return print(global.output, &json!({ "charter": text }), || text.clone());
    };
    let text = files::read_text(file)?;
    let wanted: CharterFile =
        toml::from_str(&text).map_err(|e| CliError::config(format!("{} is no charter", file.display())).because(&e))?;
    let amend = Amend::between(&base.charter, &wanted.into_charter(&base.charter))
        .map_err(|why| CliError::usage("this is no amendment").detail(why))?;
    if amend.fields().is_empty() {
        return Err(CliError::usage(format!("{} is the charter as it is; edit it first", file.display())));
    }
    let applied = amend.apply_to(&base.charter);
    applied.map_err(|why| CliError::usage("the charter would not be valid").detail(why))?;
    Pending::new(&base, &Entry::Amend(Box::new(amend))).put(global, out)
}

impl CharterFile {
    fn of(charter: &Charter) -> Self {
        let ages = &charter.class_ages;
        let seat = |s: &Seat| SeatFile { spiffe_id: s.spiffe_id.clone(), author_key: s.author };
        Self {
            threshold: charter.threshold,
            council: charter.council.clone(),
            recovery: charter.recovery.clone(),
            policy_authors: charter.policy_authors.clone(),
            root_keys: charter.root_keys.clone(),
            rp_id: charter.rp_id.clone(),
            vote_origins: charter.vote_origins.clone(),
            retention_floor_days: charter.retention_floor_days,
            lease_age_ms: LeaseAges { r0: ages.r0_ms, r1: ages.r1_ms, r2: ages.r2_ms, r3: ages.r3_ms },
            coordinators: charter.coordinators.iter().map(seat).collect(),
        }
    }

    fn into_charter(self, present: &Charter) -> Charter {
        let ages = &self.lease_age_ms;
        let seat = |s: SeatFile| Seat { author: s.author_key, spiffe_id: s.spiffe_id };
        Charter {
            class_ages: ClassAges { r0_ms: ages.r0, r1_ms: ages.r1, r2_ms: ages.r2, r3_ms: ages.r3 },
            threshold: self.threshold,
            council: self.council,
            recovery: self.recovery,
            policy_authors: self.policy_authors,
            root_keys: self.root_keys,
            rp_id: self.rp_id,
            vote_origins: self.vote_origins,
            retention_floor_days: self.retention_floor_days,
            coordinators: self.coordinators.into_iter().map(seat).collect(),
            ..present.clone()
        }
    }
}
