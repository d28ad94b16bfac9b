//! What waits for a person, and the person's signed decision.
//!
//! The statement is built and signed here, not on the node: the node shows, the person's key decides. Before anything is
//! signed the digest is computed from exactly the lines that were shown; a node that shows one thing and asks for a signature
//! over another is refused.

use std::path::PathBuf;
use std::time::Instant;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cauldron_coordinator::vote::{Choice, Presentation, SignedVote, VOTE_DOMAIN, VoteStatement};
use cauldron_identity::Digest;
use cauldron_identity::authority::Credential;
use cauldron_identity::codec::to_cbor;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::decide::recorded;
use super::{Global, can_confirm, confirm, edits, segment};
use crate::client::Client;
use crate::error::CliError;
use crate::keyfile::{self, Purpose};
use crate::output::{As, Field, Format, field, harmless, items, plain, print, relative, rows, say};
use crate::paths::DataDir;
use crate::sealing::Unlock;
use crate::signer::{Signer, SignerArgs};
use crate::{chance, clock};

const APPROVALS: &[Field] = &[
    field("ID", "/short", As::Text),
    field("OPERATION", "/operation", As::Text),
    field("TARGET", "/target", As::Text),
    field("CLASS", "/class", As::Text),
    field("SURE", "/confidence_ppm", As::Percent),
    field("SUMMARY", "/summary", As::Brief),
    field("EXPIRES", "/expires", As::Time),
];

/// `approvals …`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What waits for a person
    List,
    /// What a decision is about, exactly as it will be signed
    Show {
        /// Id of the proposal, or its first characters
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Say yes, to exactly what is shown
    Approve(VoteArgs),
    /// Say no, for good
    Deny(VoteArgs),
    /// Leave it to others; takes back what you approved
    Abstain(VoteArgs),
    /// Say that silence shall not allow it: people must decide
    Object(VoteArgs),
    /// Leave a remark for those who decide
    Comment(VoteArgs),
    /// Change the arguments: a proposal of your own in place of it, for others to approve
    Edit(edits::EditArgs),
    /// Let somebody sit for you for a while, or take that back
    Delegate(edits::DelegateArgs),
    /// Who sits for whom
    Deputies,
}

/// How to vote.
#[derive(Debug, Args)]
pub struct VoteArgs {
    /// Ids of proposals, or their first characters; each is shown, asked about and signed by itself
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    /// Why, in your words; goes into the record
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    // Without either: the only key in people/ of the node's data directory.
    #[command(flatten)]
    signer: SignerArgs,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

pub(super) async fn run(client: &Client, global: &Global, command: Command) -> Result<(), CliError> {
    let format = global.output;
    match command {
        Command::List => {
            let waiting = client.get("/v1/approvals").await?;
            print(format, &waiting, || rows(items(&waiting), APPROVALS, "nothing waits for a person", Timestamp::now()))
        }
        Command::Show { id } => {
            let answer = client.get(&format!("/v1/approvals/{}", segment(&id))).await?;
            let shown = Shown::parse(&answer)?;
            print(format, &answer, || shown.text(Timestamp::now()))
        }
        Command::Approve(args) => votes(client, global, &args, Choice::Approve).await,
        Command::Deny(args) => votes(client, global, &args, Choice::Deny).await,
        Command::Abstain(args) => votes(client, global, &args, Choice::Abstain).await,
        Command::Object(args) => votes(client, global, &args, Choice::Object).await,
        Command::Comment(args) if args.reason.trim().is_empty() => {
            Err(CliError::usage("a remark needs words").hint("give them with --reason TEXT"))
        }
        Command::Comment(args) => votes(client, global, &args, Choice::Comment).await,
        Command::Edit(args) => edits::edit(client, global, &args).await,
        Command::Delegate(args) => edits::delegate(client, global, &args).await,
        Command::Deputies => edits::deputies(client, format).await,
    }
}

async fn votes(client: &Client, global: &Global, args: &VoteArgs, choice: Choice) -> Result<(), CliError> {
    // Before anything is shown: nobody should read a page and then learn that they cannot decide.
    can_confirm(args.yes)?;
    let (person, key) = voter(client, &args.signer, &global.data_dir()).await?;
    for id in &args.ids {
        vote(client, global, args, choice, id, (&person, &key)).await?;
    }
    Ok(())
}

async fn vote(
    client: &Client,
    global: &Global,
    args: &VoteArgs,
    choice: Choice,
    id: &str,
    (person, key): (&str, &Signer),
) -> Result<(), CliError> {
    let answer = client.get(&format!("/v1/approvals/{}", segment(id))).await?;
    let shown = Shown::parse(&answer)?;
    let opened = Instant::now();
    let (question, verb) = match choice {
        Choice::Deny => ("Deny this, for good?", "denied"),
        Choice::Abstain => ("Leave this to others?", "abstained"),
        Choice::Object => ("Object, so that people must decide?", "objected"),
        Choice::Comment => ("Leave this remark?", "remarked"),
        Choice::Approve | Choice::Withdraw => ("Approve exactly this?", "approved"),
    };
    if global.output == Format::Table || !args.yes {
        let text = shown.text(Timestamp::now());
        if global.output == Format::Table { say(&text)? } else { eprint!("{text}") }
    }
    confirm(&format!("{question} You sign as {person}."), args.yes)?;
    let dwell_ms = u64::try_from(opened.elapsed().as_millis()).unwrap_or(u64::MAX);
    let ballot = Ballot { person, key, choice, reason: &args.reason, dwell_ms };
    let vote = shown.sign(&ballot, clock::wall_ms(), chance::bytes())?;
    let body = json!({ "vote": BASE64_STANDARD.encode(to_cbor(&vote)) });
    let answer = client.post(&format!("/v1/approvals/{}/votes", shown.proposal), &body).await?;
    recorded(global.output, verb, &answer)?;
    match answer.pointer("/vote/says").and_then(Value::as_str) {
        Some(says) if global.output == Format::Table => say(&format!("{}\n", harmless(says))),
        _ => Ok(()),
    }
}

/// Who signs, and with what. A key file names its person; of a key in an agent the node knows whose credential it is, and the
/// statement names the person beside the key, so that a lie is refused everywhere.
pub(super) async fn voter(client: &Client, args: &SignerArgs, dir: &DataDir) -> Result<(String, Signer), CliError> {
    if args.agent.is_none() {
        return credential(args, dir);
    }
    let signer = args.open()?;
    let id = Credential::of(signer.public()).id().to_string();
    let authority = client.get("/v1/authority").await?;
    let people = authority["people"].as_array().into_iter().flatten();
    let holds = |p: &&Value| p["credentials"].as_array().into_iter().flatten().any(|c| c["id"] == *id);
    let person = people.filter(holds).find_map(|p| p["id"].as_str()).map(str::to_owned);
    let person = person.ok_or_else(|| {
        CliError::new(crate::error::Kind::Refused, "nobody is enrolled with this key")
            .hint("the council enrols it: cauldron people enrol PERSON --public-key \"$(cat KEY.pub)\"")
    })?;
    Ok((person, signer))
}

/// The key file to sign with: named, or the only credential that `init` or `people enrol` left in the data directory.
fn credential(args: &SignerArgs, dir: &DataDir) -> Result<(String, Signer), CliError> {
    let path = match &args.key {
        Some(path) => path.clone(),
        None => only_key(dir)?,
    };
    match keyfile::read(&path, Unlock::Person(&args.passphrase))? {
        (Purpose::Person(person), key) => Ok((person.clone(), Signer::File(Purpose::Person(person), Box::new(key)))),
        (other, _) => Err(CliError::config(format!("{} is a key for {other}; nobody votes with it", path.display()))
            .hint("name the key file of a person with --key")),
    }
}

fn only_key(dir: &DataDir) -> Result<PathBuf, CliError> {
    let listed = std::fs::read_dir(dir.people()).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    let is_credential = |path: &PathBuf| {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        name.ends_with(".key") && !name.ends_with(".council.key")
    };
    let mut found: Vec<PathBuf> = listed.filter(is_credential).collect();
    found.sort();
    match &found[..] {
        [one] => Ok(one.clone()),
        [] => Err(CliError::usage(format!("no key file in {}", dir.people().display()))
            .hint("name yours with --key PATH or CAULDRON_KEY")),
        many => Err(CliError::usage(format!("{} key files in {}", many.len(), dir.people().display()))
            .hint("say which one is yours with --key PATH or CAULDRON_KEY")),
    }
}

/// What the node shows for a decision, parsed, and its digest found true.
#[derive(Debug)]
struct Shown {
    presentation: Presentation,
    proposal: cauldron_identity::FactId,
    lineage: cauldron_identity::FactId,
    mesh: cauldron_identity::MeshId,
    terms: Digest,
    served_by: cauldron_identity::AuthorId,
    authority_head: Option<cauldron_identity::FactId>,
    waiting_for: String,
    deadline: Timestamp,
    /// Until when an approval may be used: as long as the proposal itself.
    expires: Timestamp,
}

struct Ballot<'a> {
    person: &'a str,
    key: &'a Signer,
    choice: Choice,
    reason: &'a str,
    dwell_ms: u64,
}

impl Shown {
    fn parse(answer: &Value) -> Result<Self, CliError> {
        let shown = Self::fields(answer).map_err(|name| {
            CliError::integrity("the node's answer cannot be signed")
                .detail(format!("`{name}` is missing or malformed"))
        })?;
        let claimed = answer.get("presentation_digest").and_then(Value::as_str).unwrap_or_default();
        let digest = shown.presentation.digest().to_string();
        if claimed != digest {
            return Err(CliError::integrity("the node shows one thing and asks for a signature over another")
                .detail(format!("what is shown has digest {digest}, it claims {}", harmless(claimed)))
                .hint("do not decide here; show the proposal on another node, and tell the security team"));
        }
        // The page must be about the proposal that the statement names.
        let line =
            |label: &str| shown.presentation.lines.iter().find(|(l, _)| l == label).map(|(_, text)| text.as_str());
        if line("proposal") != Some(&shown.proposal.to_string()) || line("lineage") != Some(&shown.lineage.to_string())
        {
            return Err(CliError::integrity(
                "what the node shows is about another proposal than the one it asks you to sign",
            ));
        }
        Ok(shown)
    }

    fn fields(answer: &Value) -> Result<Self, &'static str> {
        fn text<'v>(answer: &'v Value, pointer: &'static str) -> Result<&'v str, &'static str> {
            answer.pointer(pointer).and_then(Value::as_str).ok_or(pointer)
        }
        fn parsed<T: std::str::FromStr>(answer: &Value, pointer: &'static str) -> Result<T, &'static str> {
            text(answer, pointer)?.parse().map_err(|_| pointer)
        }
        let lines = answer.get("presentation").cloned().unwrap_or_default();
        let lines: Vec<(String, String)> = serde_json::from_value(lines).map_err(|_| "/presentation")?;
        let head = match answer.get("authority_head") {
            None | Some(Value::Null) => None,
            Some(_) => Some(parsed(answer, "/authority_head")?),
        };
        let deadline: Timestamp = parsed(answer, "/deadline")?;
        let expires: Timestamp = parsed(answer, "/proposal/expires")?;
        Ok(Self {
            presentation: Presentation { lines },
            proposal: parsed(answer, "/proposal/id")?,
            lineage: parsed(answer, "/proposal/lineage")?,
            mesh: parsed(answer, "/mesh")?,
            terms: parsed(answer, "/terms")?,
            served_by: parsed(answer, "/served_by")?,
            authority_head: head,
            waiting_for: answer.get("waiting_for").map(plain).unwrap_or_default(),
            deadline,
            expires: expires.max(deadline),
        })
    }

    /// Every line as it is signed, each made harmless for the terminal, then what it takes.
    fn text(&self, now: Timestamp) -> String {
        let width = self.presentation.lines.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
        let lines: String = self
            .presentation
            .lines
            .iter()
            .map(|(label, text)| format!("{:<width$}  {}\n", harmless(label), harmless(text)))
            .collect();
        let digest = self.presentation.digest();
        let deadline = relative(self.deadline, now);
        format!("{lines}\ndigest of the lines above: {digest}\nwaits for: {} (decide {deadline})\n", self.waiting_for)
    }

    fn sign(&self, ballot: &Ballot<'_>, now_ms: u64, nonce: [u8; 32]) -> Result<SignedVote, CliError> {
        let credential = Credential::of(ballot.key.public());
        let statement = VoteStatement {
            mesh: self.mesh,
            person: ballot.person.to_owned(),
            credential: credential.id(),
            lineage: self.lineage,
            proposal: self.proposal,
            terms: self.terms,
            presentation: self.presentation.digest(),
            served_by: self.served_by,
            authority_head: self.authority_head,
            choice: ballot.choice,
            reason: ballot.reason.to_owned(),
            dwell_ms: ballot.dwell_ms,
            issued_ms: now_ms,
            expires_ms: u64::try_from(self.expires.as_millisecond()).unwrap_or(0),
            nonce: Digest::from_bytes(nonce),
        };
        let statement = to_cbor(&statement);
        let signature = ballot.key.sign(VOTE_DOMAIN, &statement)?;
        Ok(SignedVote::new(statement, signature.to_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cauldron_identity::{AuthorId, FactId, MeshId};
    use std::path::Path;

    fn answer() -> Value {
        let id = FactId::from_bytes([3; 32]).to_string();
        let lines = vec![
            ("action".to_owned(), "security.address.block on lyon/lyon/blocklist/198.51.100.7".to_owned()),
            ("evidence".to_owned(), "auth.log:7 Failed password for \u{1b}[2Jroot".to_owned()),
            ("proposal".to_owned(), id.clone()),
            ("lineage".to_owned(), id.clone()),
        ];
        let digest = Presentation { lines: lines.clone() }.digest().to_string();
        json!({
            "proposal": { "id": id, "lineage": id, "expires": "2026-11-24T11:00:00.000Z" },
            "presentation": lines, "presentation_digest": digest, "waiting_for": ["security-duty"],
            "terms": Digest::from_bytes([4; 32]), "served_by": AuthorId::from_bytes([5; 32]),
            "authority_head": FactId::from_bytes([6; 32]), "mesh": MeshId::from_bytes([7; 32]),
            "deadline": "2026-11-24T10:30:00.000Z",
        })
    }

    #[test]
    fn what_is_shown_is_what_is_signed() {
        let shown = Shown::parse(&answer()).unwrap_or_else(|e| panic!("{e}"));
        let text = shown.text("2026-11-24T10:00:00Z".parse().expect("a time"));
        assert!(
            text.contains("decide in 30 min") && text.contains("\\u{1b}[2Jroot") && !text.contains('\u{1b}'),
            "{text}"
        );
        let key = cauldron_identity::AuthorKey::from_seed(&[1; 32]);
        let key = Signer::File(Purpose::Person("ana".into()), Box::new(key));
        let ballot = Ballot { person: "ana", key: &key, choice: Choice::Approve, reason: "seen it", dwell_ms: 1_200 };
        let vote = shown.sign(&ballot, 5, [9; 32]).expect("signed");
        let statement = vote.statement().expect("readable");
        assert_eq!(statement.presentation.to_string(), answer()["presentation_digest"]);
        assert_eq!((statement.person.as_str(), statement.choice, statement.issued_ms), ("ana", Choice::Approve, 5));
        assert_eq!(statement.expires_ms, 1_795_518_000_000);
    }

    #[test]
    fn a_node_that_shows_something_else_is_refused() {
        let changed = |change: &dyn Fn(&mut Value)| {
            let mut answer = answer();
            change(&mut answer);
            Shown::parse(&answer).expect_err("refused")
        };
        let error =
            changed(&|a| a["presentation"][0][1] = "security.address.block on lyon/lyon/blocklist/192.0.2.1".into());
        assert_eq!(error.kind().exit_code(), 6);
        assert!(error.to_string().contains("shows one thing and asks for a signature over another"), "{error}");
        let other = FactId::from_bytes([8; 32]).to_string();
        let error = changed(&|a| a["proposal"]["id"] = other.clone().into());
        assert!(error.to_string().contains("about another proposal"), "{error}");
        let error = changed(&|a| a["terms"] = "x".into());
        assert!(error.to_string().contains("`/terms` is missing or malformed"), "{error}");
    }

    #[test]
    fn the_only_key_is_found_and_a_choice_is_never_guessed() {
        let temporary = tempfile::tempdir().expect("temporary directory");
        let dir = DataDir::new(temporary.path());
        let args = |key: Option<PathBuf>| SignerArgs { key, agent: None, passphrase: Default::default() };
        let credential = |key| super::credential(&args(key), &dir);
        assert!(credential(None).expect_err("none").to_string().contains("no key file"));
        crate::files::create_dir(&dir.people()).expect("created");
        let write = |path: &Path, purpose| keyfile::write(path, &purpose, &keyfile::generate(), None).expect("written");
        write(&dir.person_key("ana"), Purpose::Person("ana".into()));
        write(&dir.council_key("ana"), Purpose::Council("ana".into()));
        assert_eq!(credential(None).map(|(person, _)| person), Ok("ana".into()));
        let error = credential(Some(dir.council_key("ana"))).expect_err("a council key");
        assert!(error.to_string().contains("nobody votes with it"), "{error}");
        write(&dir.person_key("bo"), Purpose::Person("bo".into()));
        assert!(credential(None).expect_err("two").to_string().contains("2 key files"));
    }
}
