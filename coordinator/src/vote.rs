//! Votes: statements signed by people, bound to the terms and the page they saw.
//!
//! A vote fact only carries a statement; who carries it does not matter. Its identity is the hash of the statement, a
//! person is an id of the charter's, and a credential must be enrolled at the head the statement names *and* now.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::OnceLock;

use cauldron_identity::authority::{Authority, Credential, CredentialKind, Person};
use cauldron_identity::codec::{CodecError, from_cbor, to_cbor};
use cauldron_identity::passkey::{Assertion, Attested, PasskeyError};
use cauldron_identity::{AuthorId, AuthorKey, Digest, FactId, MeshId, PublicKey, SshSignature};
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use serde::Serialize;

use crate::bodies::{Decision, Evaluation, Proposal};
use crate::json::rfc3339;

/// Namespace of a vote's signature (`SSHSIG`), and domain of its id, which is the challenge that a passkey answers.
pub const VOTE_DOMAIN: &str = "cauldron/vote/v1";
/// How far a person's device may run ahead of ours, milliseconds.
pub const SKEW_MS_MAX: u64 = 5 * 60 * 1000;

/// What a person says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// Yes, to exactly these terms.
    #[n(0)]
    Approve,
    /// Seen, not decided.
    #[n(1)]
    Abstain,
    /// Takes an earlier approval back; heard until the effect starts.
    #[n(2)]
    Withdraw,
    /// No. Final, whatever else is said.
    #[n(3)]
    Deny,
    /// Not by silence: ends a veto window, and people must approve.
    #[n(4)]
    Object,
    /// A remark for those who decide; it changes nothing.
    #[n(5)]
    Comment,
}

/// What the person signs.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct VoteStatement {
    /// The mesh.
    #[n(0)]
    pub mesh: MeshId,
    /// The person's id.
    #[n(1)]
    pub person: String,
    /// The credential, [`cauldron_identity::authority::Credential::id`].
    #[n(2)]
    pub credential: Digest,
    /// The proposal's lineage.
    #[n(3)]
    pub lineage: FactId,
    /// The proposal.
    #[n(4)]
    pub proposal: FactId,
    /// H(proposal, policy version, outcome, obligations).
    #[n(5)]
    pub terms: Digest,
    /// Digest of what was shown, [`Presentation::digest`].
    #[n(6)]
    pub presentation: Digest,
    /// The node that showed it.
    #[n(7)]
    pub served_by: AuthorId,
    /// The authority chain as that node held it.
    #[n(8)]
    pub authority_head: Option<FactId>,
    /// The choice.
    #[n(9)]
    pub choice: Choice,
    /// Why, in the person's words.
    #[n(10)]
    pub reason: String,
    /// How long the page was open, milliseconds.
    #[n(11)]
    pub dwell_ms: u64,
    /// When it was signed, milliseconds since the Unix epoch.
    #[n(12)]
    pub issued_ms: u64,
    /// Until when an approval may be used.
    #[n(13)]
    pub expires_ms: u64,
    /// Makes each statement unique.
    #[n(14)]
    pub nonce: Digest,
}

impl Choice {
    /// Whether it only ever holds back.
    #[must_use]
    pub fn restricts(self) -> bool {
        matches!(self, Self::Deny | Self::Object)
    }
}

/// A statement as signed: body of a `vote` fact.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(map)]
pub struct SignedVote {
    /// The encoded [`VoteStatement`].
    #[n(0)]
    statement: ByteVec,
    /// The credential's signature: in OpenSSH's form, or of a passkey [`Assertion::to_bytes`].
    #[n(1)]
    signature: ByteVec,
    /// What the signature came to, looked at once. The statement names the credential by its hash, so that never changes, and a vote is looked
    /// at for as long as its proposal is open.
    #[cbor(skip)]
    verified: Known,
}

/// What a passkey said, once verified, or that another key signed; no part of what it belongs to.
#[derive(Debug, Clone, Default)]
struct Known(OnceLock<Result<Option<Attested>, VoteError>>);

impl PartialEq for Known {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Known {}

impl PartialOrd for Known {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Known {
    fn cmp(&self, _: &Self) -> Ordering {
        Ordering::Equal
    }
}

/// A vote whose signature and signer were checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifiedVote {
    /// Hash of the statement.
    pub id: Digest,
    /// What was said.
    pub statement: VoteStatement,
    /// Groups the person belonged to at the named head and, unless [`VerifiedVote::revoked`], belongs to now.
    pub groups: BTreeSet<String>,
    /// Groups at the named head alone.
    pub groups_then: BTreeSet<String>,
    /// What the credential is made of.
    pub kind: CredentialKind,
    /// The Ed25519 key that signed; none for a passkey of another algorithm.
    #[serde(skip)]
    pub key: Option<PublicKey>,
    /// The person or this credential is enrolled no longer, or the charter has moved its approval pages elsewhere since: an
    /// approval counts no more, a denial still does.
    pub revoked: bool,
}

/// Why a vote does not count.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum VoteError {
    /// The statement cannot be read.
    #[error("the statement cannot be read")]
    Encoding(#[from] CodecError),
    /// Another mesh's.
    #[error("it was cast in another mesh")]
    Mesh,
    /// Names an authority entry that is not here yet: it may count later.
    #[error("it names an authority entry that has not arrived here")]
    HeadUnknown,
    /// No such person at that head.
    #[error("{0:?} is not enrolled")]
    Person(String),
    /// Not one of the person's credentials.
    #[error("the credential is not enrolled for {0:?}")]
    Credential(String),
    /// The signature does not verify.
    #[error("the signature does not verify")]
    Signature,
    /// The passkey's answer does not verify, or was made elsewhere than on the pages of this mesh.
    #[error("the passkey's answer is refused")]
    Passkey(#[from] PasskeyError),
}

impl VoteStatement {
    /// Hash of the encoded statement: the vote's identity.
    #[must_use]
    pub fn id(&self) -> Digest {
        Digest::of(VOTE_DOMAIN, &to_cbor(self))
    }

    /// Signs with a key at hand.
    #[must_use]
    pub fn sign(&self, key: &AuthorKey) -> SignedVote {
        let statement = to_cbor(self);
        let signature = key.sign_ssh(VOTE_DOMAIN, &statement);
        SignedVote::new(statement, signature.to_bytes())
    }

    /// What a passkey answered whose challenge was [`VoteStatement::id`].
    #[must_use]
    pub fn answered(&self, assertion: &Assertion) -> SignedVote {
        SignedVote::new(to_cbor(self), assertion.to_bytes())
    }
}

impl SignedVote {
    /// Puts a statement and a signature made elsewhere together.
    #[must_use]
    pub fn new(statement: Vec<u8>, signature: Vec<u8>) -> Self {
        Self { statement: statement.into(), signature: signature.into(), verified: Known::default() }
    }

    /// Hash of the statement.
    #[must_use]
    pub fn id(&self) -> Digest {
        Digest::of(VOTE_DOMAIN, &self.statement)
    }

    /// The statement, unjudged.
    ///
    /// # Errors
    /// [`VoteError::Encoding`].
    pub fn statement(&self) -> Result<VoteStatement, VoteError> {
        Ok(from_cbor(&self.statement)?)
    }

    /// Checks signature and signer against the authority chain as held here.
    ///
    /// # Errors
    /// [`VoteError`].
    pub fn verify(&self, authority: &Authority) -> Result<VerifiedVote, VoteError> {
        let statement = self.statement()?;
        if statement.mesh != authority.mesh() {
            return Err(VoteError::Mesh);
        }
        let index = match statement.authority_head {
            // A no needs no head: one that names an entry of a branch which is not held here would lapse here.
            Some(_) if statement.choice.restricts() => authority.index(),
            Some(head) => authority.index_of(&head).ok_or(VoteError::HeadUnknown)?,
            None => 0,
        };
        let has_it = |p: &&Person| p.credentials.iter().any(|c| c.id() == statement.credential);
        // An approval needs a person in good standing; a no counts for good, whatever became of who said it.
        let then = match statement.choice {
            Choice::Deny | Choice::Object => authority.person_ever(&statement.person, index).find(has_it),
            Choice::Approve | Choice::Abstain | Choice::Withdraw | Choice::Comment => {
                authority.person_at(&statement.person, index)
            }
        };
        let then = then.ok_or_else(|| VoteError::Person(statement.person.clone()))?;
        let credential = then.credentials.iter().find(|c| c.id() == statement.credential);
        let credential = credential.ok_or_else(|| VoteError::Credential(statement.person.clone()))?;
        let attested = self.signed_by(credential)?;
        let moved = match attested {
            Some(attested) => is_elsewhere(attested, authority)?,
            None => false,
        };
        let now = authority.person(&statement.person);
        let now = now.filter(|p| p.credentials.iter().any(|c| c.id() == statement.credential));
        Ok(VerifiedVote {
            id: self.id(),
            groups: groups(then, now),
            groups_then: groups(then, None),
            kind: credential.kind(),
            key: credential.ed25519(),
            revoked: now.is_none() || moved,
            statement,
        })
    }

    /// Whether the credential that the statement names signed exactly this statement, and what its passkey said. Looked at once, good or
    /// bad: the statement names its credential by hash, and whoever floods others with forgeries must not keep them busy.
    fn signed_by(&self, credential: &Credential) -> Result<&Option<Attested>, VoteError> {
        self.verified.0.get_or_init(|| self.check(credential)).as_ref().map_err(Clone::clone)
    }

    fn check(&self, credential: &Credential) -> Result<Option<Attested>, VoteError> {
        match credential {
            Credential::Signer(key) => {
                let signature = SshSignature::from_bytes(&self.signature).ok_or(VoteError::Signature)?;
                let good = key.verify(VOTE_DOMAIN, &self.statement, &signature);
                good.map(|()| None).map_err(|_| VoteError::Signature)
            }
            Credential::Passkey(passkey) => {
                Ok(Some(Assertion::from_bytes(&self.signature)?.attest(passkey, &self.id())?))
            }
        }
    }
}

/// Whether the answer was made for pages that are the mesh's no longer. A no has to outlast that, so a charter of before is enough for
/// it to be heard.
fn is_elsewhere(attested: &Attested, authority: &Authority) -> Result<bool, PasskeyError> {
    match attested.is_for(&authority.charter().relying_party()) {
        Ok(()) => Ok(false),
        Err(_) if authority.charters_ever().any(|c| attested.is_for(&c.relying_party()).is_ok()) => Ok(true),
        Err(error) => Err(error),
    }
}

fn groups(then: &Person, now: Option<&Person>) -> BTreeSet<String> {
    let held = |g: &&String| now.is_none_or(|p| p.groups.contains(g));
    then.groups.iter().filter(held).cloned().collect()
}

/// What a person is shown: a deterministic list of labelled lines, so that every screen and every judge has the same
/// bytes. The page may lay it out, it may not change it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct Presentation {
    /// Label and text, in the order of reading.
    #[n(0)]
    pub lines: Vec<(String, String)>,
}

impl Presentation {
    /// What a vote names as shown.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of("cauldron/presentation/v1", &to_cbor(self))
    }

    /// As plain text, one line per entry.
    #[must_use]
    pub fn text(&self) -> String {
        self.lines.iter().map(|(label, text)| format!("{label:<12} {text}\n")).collect()
    }
}

/// What a proposal says, whatever policy says of it.
#[must_use]
pub fn present_proposal(p: &Proposal) -> Presentation {
    let mut lines = Vec::new();
    let mut line = |label: &str, text: String| lines.push((label.to_owned(), text));
    line("action", format!("{} on {}", p.operation, p.resource));
    line("arguments", String::from_utf8_lossy(&p.args).into_owned());
    // Line by line: what would change is read as it will stand there.
    p.dry_run.iter().flat_map(|text| text.lines()).for_each(|text| line("change", text.to_owned()));
    p.expected_version.iter().for_each(|version| line("only at version", version.clone()));
    p.saga.iter().for_each(|step| line("saga", step.says()));
    line("why", p.rationale.clone());
    line("agent", format!("{} build {}", p.agent, p.agent_build.short()));
    for (label, who) in [("for", p.on_behalf_of.clone()), ("written by", written_by(p))] {
        who.into_iter().for_each(|who| line(label, who));
    }
    for b in &p.blast {
        line("reaches", format!("{} {}", b.n, b.what));
    }
    for b in &p.budgets {
        line("takes", format!("{} of {}", b.amount, b.budget));
    }
    line(
        "confidence",
        format!("{}.{:04} % ({})", p.confidence_ppm / 10_000, p.confidence_ppm % 10_000, p.confidence_method),
    );
    line("undo", format!("{:?}: {}", p.reversibility, p.undo_plan));
    for instead in &p.alternatives {
        line("instead", instead.clone());
    }
    line("from outside", p.taint.join(", "));
    for e in &p.evidence {
        line("evidence", format!("{}:{} [{}] {}", e.source, e.line_no, e.digest.short(), e.text));
    }
    Presentation { lines }
}

/// What is shown for one proposal under one evaluation.
#[must_use]
pub fn present(id: &FactId, p: &Proposal, evaluation: &Evaluation) -> Presentation {
    let Presentation { mut lines } = present_proposal(p);
    let mut line = |label: &str, text: String| lines.push((label.to_owned(), text));
    line("risk", format!("{:?} declared, {:?} by policy", p.risk, evaluation.risk));
    for rule in &evaluation.rules {
        line("rule", rule.clone());
    }
    for need in &evaluation.obligations.approvals {
        line("needs", need.to_string());
    }
    if let Some(veto) = &evaluation.obligations.veto {
        line(
            "silence",
            format!("allows it after {} s, unless somebody of {} objects", veto.ms / 1_000, veto.groups.join(", ")),
        );
    }
    for b in &evaluation.obligations.reserve {
        line("sets aside", format!("{} of {}", b.amount, b.budget));
    }
    for sandbox in &evaluation.obligations.sandbox {
        line("runs under", sandbox.clone());
    }
    line("decide by", rfc3339(evaluation.obligations.decide_by_ms));
    line("proposal", id.to_string());
    line("lineage", p.lineage(*id).to_string());
    line("digest", p.args_digest.to_string());
    Presentation { lines }
}

/// Who wrote or edited it, and why, where a person did.
fn written_by(p: &Proposal) -> Option<String> {
    let statement = p.hand.as_ref()?.statement().ok()?;
    Some(format!("{}: {}", statement.person, statement.reason))
}

/// What is shown for a decision: the same for every decision that says the same.
#[must_use]
pub fn present_decision(p: &Proposal, decision: &Decision) -> Presentation {
    present(&decision.proposal, p, &decision.evaluation())
}

#[cfg(test)]
mod tests;
