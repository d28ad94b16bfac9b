//! What somebody on this machine asks of a node core, and the answer.

use cauldron_coordinator::bodies::{BrokenGlass, Delegated, Deputy, Proposal, Returned, Review, SiteLift, Word};
use cauldron_coordinator::policy::Bundle;
use cauldron_coordinator::vote::SignedVote;
use cauldron_crdt::doc::{DocKey, Edit};
use cauldron_identity::authority::{EntryBody, Issuance, Trust};
use cauldron_identity::{Digest, FactId, SpiffeId};

use crate::budgets::BudgetAct;
use crate::enrol::{EnrolRequest, TokenId};
use crate::roots::RootStep;

/// For whom an agent works, and by what right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenSession {
    /// The agent's SPIFFE ID, below this node's.
    pub agent: String,
    /// For whom: a person's id, or a workload's SPIFFE ID.
    pub principal: String,
    /// In which role.
    pub role: String,
    /// How the principal's right came to the agent.
    pub delegation: Vec<Delegated>,
    /// What the principal asked for, in its own words.
    pub purpose: Option<String>,
}

/// What somebody on this machine asks for.
#[derive(Debug)]
pub enum Command {
    /// An agent or a program proposes an action.
    Propose {
        /// What it proposes; the core fills in who and when.
        proposal: Box<Proposal>,
        /// W3C `traceparent` of the observation.
        traceparent: Option<String>,
    },
    /// Several actions, each done after the one before, and all taken back when one is not.
    ProposeSaga {
        /// The steps, the first first; the core fills in who, when and how they hang together.
        steps: Vec<Proposal>,
        /// W3C `traceparent` of the observation.
        traceparent: Option<String>,
    },
    /// An agent begins to work for somebody: every call it makes is a step of this session.
    OpenSession(Box<OpenSession>),
    /// The next step of a session.
    Step {
        /// Which session.
        session: Digest,
        /// What it calls; the core fills in who, when and where in the session.
        proposal: Box<Proposal>,
        /// W3C `traceparent` of the call.
        traceparent: Option<String>,
    },
    /// What a read came to that [`Reply::Read`] let go ahead.
    Returned {
        /// Which.
        step: u64,
        /// What came back; its labels count also where nothing of use did.
        result: Option<Returned>,
        /// Why nothing of use did.
        problem: Option<String>,
    },
    /// A person wrote or edited a proposal: this node carries what they signed.
    ByHand(Box<Proposal>),
    /// A person named a deputy, or took one back.
    Deputy(Box<Deputy>),
    /// Brings a policy bundle into the mesh, so that policy authors can activate it.
    Bundle(Box<Bundle>),
    /// A person voted; this node carries the statement verbatim.
    Vote(Box<SignedVote>),
    /// Somebody uses a break-glass token.
    BreakGlass(Box<BrokenGlass>),
    /// A person looked at a use of a token.
    Review(Box<Review>),
    /// One of an isolated site's own people lifts what one of them restricted.
    SiteLift(Box<SiteLift>),
    /// A person found out what became of a start.
    Reconcile(Box<Word>),
    /// Somebody wants back what this node did: what the permit pre-authorised is carried out.
    Undo {
        /// What was done.
        proposal: FactId,
        /// Who asks.
        by: String,
        /// Why.
        reason: String,
        /// Of a saga's step also while later steps stand.
        out_of_turn: bool,
    },
    /// This node restricts: veto a lineage, kill a class, suspend an author.
    Restrict(Box<cauldron_coordinator::bodies::Restriction>),
    /// This node offers what it owns to another node of its site; to itself, it takes an offer back.
    Offer {
        /// `<site>/<node>/<connector>`.
        prefix: String,
        /// To whom.
        to: cauldron_identity::AuthorId,
    },
    /// This node takes what was offered to it.
    Accept {
        /// The offer.
        offer: FactId,
    },
    /// Mint a join token (sequencer only).
    Token {
        /// Its public name.
        id: TokenId,
        /// SHA-256 of its secret: the key of the proof that redeems it.
        secret_hash: [u8; 32],
        /// Whom it admits.
        spiffe_id: SpiffeId,
        /// Until when, milliseconds since the Unix epoch.
        expires_ms: u64,
    },
    /// A node asks on the enrol lane to be admitted, or to have its SVID renewed.
    Admit {
        /// The request, opened on its connection.
        request: Box<EnrolRequest>,
        /// The TLS exporter of that connection.
        exporter: [u8; 32],
    },
    /// Entries that people signed (sequencer only).
    Authority(Box<EntryBody>),
    /// A term that the council signed, from a file (any node).
    Term(Box<EntryBody>),
    /// The operator says that this machine's wall clock is right, though its own past disagrees.
    TimeReset,
    /// A step of a root's life (sequencer only).
    Root(RootStep),
    /// Which roots this node goes by from here on.
    Trust(Trust),
    /// What this node issued, for the log of everything issued.
    Issued(Vec<Issuance>),
    /// Write to a document in this node's name.
    Edit {
        /// Which.
        key: DocKey,
        /// What.
        edit: Edit,
        /// Only if the document still has this digest, in hex.
        if_digest: Option<String>,
    },
    /// Bring rights of a budget into being, hand them on, or use them.
    Budget(BudgetAct),
    /// Keep a value of the shell's own, e.g. how far a log was read. Replaces the one before.
    Remember {
        /// Its name.
        name: String,
        /// The value.
        value: Vec<u8>,
    },
}

/// An answer to a command. Given only when what it says is durable here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Recorded under this id at durability level `local`.
    Recorded(FactId),
    /// The same thing is recorded already, under this id.
    Already(FactId),
    /// Every step of a saga is recorded, under these ids.
    Saga(Vec<FactId>),
    /// A session is open under this name.
    Session(Digest),
    /// Policy lets it be read here and now: read it, and tell with [`Command::Returned`].
    Read {
        /// Which step.
        step: u64,
    },
    /// The token is good until its expiry.
    Minted,
    /// The author is enrolled; an SVID for this SPIFFE ID may be issued.
    Admitted {
        /// For whom.
        spiffe_id: SpiffeId,
    },
    /// Done.
    Ok,
}

/// Why a command was refused: a stable code, and a sentence that says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// Stable, for programs.
    pub code: &'static str,
    /// For people.
    pub reason: String,
}

impl Refusal {
    pub(crate) fn new(code: &'static str, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }
}
