//! What a node shows: the one definition of the API's types. Computed from state on demand, never stored.
//!
//! Everything observed carries [`Seen`]; unknown is `null`, never a healthy-looking default. Ids are lower-case hex,
//! times RFC 3339 in UTC, durations end in `_ms`.

use std::collections::BTreeMap;

use cauldron_identity::authority::{IssuedKind, RootState};
use serde::Serialize;
use utoipa::ToSchema;

mod alone;
mod budgets;
mod documents;
mod judged;
mod lanes;
mod mesh;
mod powers;

pub use alone::{AttentionView, ClassView, GlassView, IsolationView};
pub use budgets::{BudgetView, BudgetsView, ReservationView, ShareView};
pub use documents::{BlameView, DidView, DocStepView, DocSummary, DocView};
pub use judged::{JudgedView, VoteView};
pub use lanes::{FlowView, LaneView, MeterView};
pub use mesh::{LagView, MissingView, PartView, PartitionsView, PeerView, SkewView};
pub use powers::{AutonomyView, LiftedView, OfferView, RestrictionView, SiteStopView, StopsView, Waiting};

/// A moment: milliseconds since the Unix epoch here, RFC 3339 in UTC for whoever reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ToSchema)]
#[schema(value_type = String, format = DateTime)]
pub struct Time(pub u64);

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let moment = i64::try_from(self.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        match moment {
            Some(moment) => write!(f, "{moment:.3}"),
            None => f.write_str("beyond the year 9999"),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// Who saw a value, when, and by which way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Seen {
    /// When it was observed.
    pub as_of: Time,
    /// Whose observation it is.
    pub observer: String,
    /// How old it is now, milliseconds.
    pub age_ms: u64,
    /// `direct` from the thing itself, `peer` by replication, `bundle` from a file.
    pub source: &'static str,
}

/// `/v1/self`, the part that the core knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct SelfView {
    /// This node.
    pub spiffe_id: String,
    /// Its site; none for a mesh coordinator.
    pub site: Option<String>,
    /// `coordinator` or `node`.
    pub role: &'static str,
    /// Its author id.
    pub author: String,
    /// Its incarnation.
    pub incarnation: u32,
    /// The mesh id: the charter's hash.
    pub mesh: String,
    /// `active`, `confirming`, `read_only` or `isolated`.
    pub state: &'static str,
    /// Why it is not `active`, one sentence each.
    pub reasons: Vec<String>,
    /// The lease from a coordinator; a sequencer needs none.
    pub lease: Option<LeaseView>,
    /// What its site may do with that lease, and past it; none for a mesh coordinator.
    pub isolation: Option<IsolationView>,
    /// Uses of break-glass tokens that nobody has looked at yet.
    pub break_glass: u64,
    /// Actions that a person must look at, the most pressing 64.
    pub attention: Vec<AttentionView>,
    /// How many there are, by reason: `unknown`, `compensation_failed`, `verify_failed`, `contested`, `audit`.
    pub attention_counts: BTreeMap<&'static str, u64>,
    /// Version of the active policy.
    pub policy: Option<String>,
    /// How many facts are held.
    pub facts: u64,
    /// Facts whose clock runs more than five minutes ahead of ours.
    pub future_facts: u64,
    /// Refused facts and frames by code.
    pub refused: BTreeMap<String, u64>,
    /// When and by whom.
    #[serde(flatten)]
    pub seen: Seen,
}

/// One thing that runs out: when, and what stops then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct RunwayView {
    /// What.
    pub what: String,
    /// When; none for what never runs out, or has no beginning yet.
    pub expires: Option<Time>,
    /// How long that is, milliseconds: 0 once it is over.
    pub in_ms: Option<u64>,
    /// When it is renewed by itself, where it is.
    pub renews: Option<Time>,
    /// What stops then, and what goes on.
    pub stops: String,
}

impl RunwayView {
    /// Ends at `expires_ms`, seen at `now_ms`.
    #[must_use]
    pub fn until(what: impl Into<String>, expires_ms: u64, now_ms: u64, stops: impl Into<String>) -> Self {
        let in_ms = Some(expires_ms.saturating_sub(now_ms));
        Self { what: what.into(), expires: Some(Time(expires_ms)), in_ms, renews: None, stops: stops.into() }
    }

    /// Never ends.
    #[must_use]
    pub fn never(what: impl Into<String>, instead: impl Into<String>) -> Self {
        Self { what: what.into(), expires: None, in_ms: None, renews: None, stops: instead.into() }
    }
}

/// How fresh this node's authority is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct LeaseView {
    /// Since the nonce of the newest grant was sent; none without a grant.
    pub age_ms: Option<u64>,
    /// Beyond which age each class of action stops.
    pub limit_ms: BTreeMap<&'static str, u64>,
    /// Who granted it.
    pub granted_by: Option<String>,
}

/// A site's public line on the replicated board.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct SiteView {
    /// The site.
    pub site: String,
    /// What its nodes wrote.
    pub line: BTreeMap<String, String>,
    /// How far the restrictions in force have got there; none where there is none.
    pub stops: Option<StopsView>,
    /// When it was written and by whom.
    #[serde(flatten)]
    pub seen: Option<Seen>,
    /// How the site stands to the mesh's coordinators, and what it may do without them.
    pub isolation: IsolationView,
}

/// One fact in an audit listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AuditEntry {
    /// The fact.
    pub id: String,
    /// What it is.
    pub kind: String,
    /// Where.
    pub scope: String,
    /// Its author.
    pub author: String,
    /// The author's SPIFFE ID.
    pub spiffe_id: Option<String>,
    /// Incarnation and position in its chain.
    pub incarnation: u32,
    /// Position in its chain.
    pub seq: u64,
    /// The author's clock when it wrote.
    pub time: Time,
    /// What it says, for people.
    pub summary: String,
    /// What it counts for here.
    pub standing: &'static str,
    /// Its W3C `traceparent`.
    pub traceparent: Option<String>,
}

/// One check of `/v1/audit/verify`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// Whether it held.
    pub ok: bool,
    /// What was looked at, or what was wrong.
    pub detail: String,
}

/// `/v1/sync`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct SyncView {
    /// One hash per realm over the heads of all its chains: equal hashes, equal state.
    pub state_hash: BTreeMap<String, String>,
    /// Chains and facts per scope.
    pub scopes: Vec<ScopeView>,
    /// When and by whom.
    #[serde(flatten)]
    pub seen: Seen,
}

/// What is held of one scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ScopeView {
    /// The scope.
    pub scope: String,
    /// Chains in it.
    pub chains: u64,
    /// Facts in them.
    pub facts: u64,
}

/// `/v1/authority`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AuthorityView {
    /// The mesh id.
    pub mesh: String,
    /// The trust domain.
    pub trust_domain: String,
    /// Council keys and how many must sign.
    pub council: Vec<String>,
    /// How many must sign.
    pub threshold: u32,
    /// The SPIFFE ID of the sequencer.
    pub sequencer: String,
    /// The number of the sequencer's term; 0 is the founding's.
    pub term: u32,
    /// The position that the sequencer forked: no entry follows until the council names a new term.
    pub frozen: Option<u64>,
    /// Authors that signed two facts for one place, with the evidence.
    pub forks: Vec<ForkView>,
    /// The last entry.
    pub head: Option<String>,
    /// How many entries.
    pub index: u64,
    /// Every entry and what became of it.
    pub entries: Vec<EntryView>,
    /// Enrolled authors.
    pub members: Vec<MemberView>,
    /// Enrolled people.
    pub people: Vec<PersonView>,
    /// The policy in effect.
    pub policy: Option<PolicyView>,
    /// Roots of the certificate authority.
    pub roots: Vec<RootView>,
    /// What is wrong with who issues, in sentences.
    pub problems: Vec<String>,
}

/// A root of the certificate authority, and who goes by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct RootView {
    /// SHA-256 of its key's `SubjectPublicKeyInfo`, as the charter names it.
    pub key: String,
    /// `prepared`, `active`, `old` or `tainted`; none where the sequencer has said nothing of a key that the charter names.
    #[schema(value_type = Option<String>)]
    pub state: Option<RootState>,
    /// Whether the charter in effect names its key: without that nobody trusts it.
    pub named: bool,
    /// Last second of its certificate (RFC 3339).
    #[schema(value_type = Option<String>)]
    pub not_after: Option<Time>,
    /// How many members there are to trust it.
    pub of: usize,
    /// How many have said that they do.
    pub trusted_by: usize,
    /// Who has not.
    pub waiting: Vec<Waiting>,
    /// Members with a certificate that stands under it.
    pub under: Vec<String>,
}

/// One line of the log of everything issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct IssuanceView {
    /// The fact that says so.
    pub fact: String,
    /// When, by the issuer's clock (RFC 3339).
    #[schema(value_type = String)]
    pub issued: Time,
    /// Who issued it.
    pub by: String,
    /// `x509-svid`, `site-intermediate` or `jwt-svid`.
    #[schema(value_type = String)]
    pub kind: IssuedKind,
    /// To whom.
    pub spiffe_id: String,
    /// SHA-256 of the certificate (DER) or of the token.
    pub digest: String,
    /// Last second of validity (RFC 3339).
    #[schema(value_type = String)]
    pub not_after: Time,
    /// SHA-256 of the `SubjectPublicKeyInfo` of the key that signed it.
    pub signed_by: String,
}

/// Evidence that an author signed two facts for one place: its key is used twice, or its store was restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ForkView {
    /// The author's SPIFFE ID.
    pub author: String,
    /// Which life.
    pub incarnation: u32,
    /// Which chain.
    pub scope: String,
    /// Which position.
    pub seq: u64,
    /// The two facts.
    pub facts: Vec<String>,
}

/// One entry of the authority chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct EntryView {
    /// Its fact.
    pub id: String,
    /// Its place.
    pub index: u64,
    /// What it does, for people.
    pub summary: String,
    /// Whether it is in effect.
    pub in_effect: bool,
    /// Why it changed nothing, when it did not.
    pub refused: Option<String>,
}

/// One enrolled author.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct MemberView {
    /// Its SPIFFE ID.
    pub spiffe_id: String,
    /// Its author id.
    pub author: String,
    /// Its incarnation.
    pub incarnation: u32,
    /// `counts`, `pending`, `suspended` or `cut`.
    pub standing: &'static str,
}

/// One enrolled person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PersonView {
    /// Their id.
    pub id: String,
    /// Their name.
    pub name: String,
    /// Their groups.
    pub groups: Vec<String>,
    /// Their credentials: id and kind.
    pub credentials: Vec<CredentialView>,
}

/// One credential of a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct CredentialView {
    /// Hash of kind and key.
    pub id: String,
    /// `software`, `sk-ssh` or `passkey`.
    pub kind: String,
    /// How sure it makes that the person was there: `software` or `verified`.
    pub assurance: String,
    /// The public key: hex or the line of a `.pub` file; of a passkey its algorithm and, in base64url, its bytes.
    pub key: String,
    /// The authenticator's name for a passkey, in base64url as browsers write it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential_id: Option<String>,
}

/// The active policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PolicyView {
    /// Its version.
    pub version: String,
    /// The fact that carries it.
    pub bundle: String,
    /// Digest of its bytes.
    pub digest: String,
    /// Whether this node holds and could load it.
    pub loaded: bool,
}

/// One line of `/v1/proposals`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ProposalView {
    /// The proposal.
    pub id: String,
    /// The first characters of its id, which commands take too.
    pub short: String,
    /// Its lineage.
    pub lineage: String,
    /// `PROPOSED`, `PENDING_APPROVAL`, … as in the governance document.
    pub state: &'static str,
    /// A no arrived after the start.
    pub contested: bool,
    /// The effect has left by its own time limit.
    pub ended: bool,
    /// Somebody broke the glass for it: `waiting`, `refused`, `needs review` or `reviewed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub break_glass: Option<&'static str>,
    /// Which step of a saga it is, and what hangs on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saga: Option<String>,
    /// `<module>.<object>.<verb>`.
    pub operation: String,
    /// `<site>/<node>/<connector>/<object>`.
    pub target: String,
    /// One sentence.
    pub summary: String,
    /// The class that the proposer declared.
    pub class: String,
    /// The proposer's raw score, parts per million.
    pub confidence_ppm: u32,
    /// Who proposes.
    pub agent: String,
    /// The site.
    pub site: String,
    /// When it was made.
    pub opened: Time,
    /// When it lapses.
    pub expires: Time,
    /// Why it stands there, or what it waits for.
    pub why: Vec<String>,
    /// When and by whom.
    #[serde(flatten)]
    pub seen: Seen,
}

/// What a person must see to decide, and what their statement must name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ApprovalView {
    /// The proposal in short.
    pub proposal: ProposalView,
    /// Groups of which somebody may still take a seat, those included that were added in time.
    pub waiting_for: Vec<String>,
    /// The seats, in words.
    pub needs: Vec<String>,
    /// Groups of which anybody may object, while silence would allow it.
    pub objectors: Vec<String>,
    /// How sure an approval must be: `software` or `verified`.
    pub assurance: &'static str,
    /// Label and text in the order of reading; the digest is over exactly this.
    pub presentation: Vec<(String, String)>,
    /// Digest of the presentation.
    pub presentation_digest: String,
    /// The evidence, one line each.
    pub evidence: Vec<String>,
    /// What an approval agrees to.
    pub terms: String,
    /// The node that shows it, by author.
    pub served_by: String,
    /// The authority chain as that node holds it.
    pub authority_head: Option<String>,
    /// The mesh.
    pub mesh: String,
    /// Until when to decide.
    pub deadline: Time,
}
