//! What goes into a node core and what comes out.

mod ask;

use cauldron_coordinator::bodies::Checked;
use cauldron_coordinator::ledger::Call;
use cauldron_coordinator::owner::{VerifiedPermit, VerifiedUndo};
use cauldron_crdt::doc::{What, Work};
use cauldron_identity::{FactId, PublicKey, SpiffeId};

pub use ask::{Command, OpenSession, Refusal, Reply};

/// A connection to one peer, named by the shell; never reused within a process.
pub type LinkId = u64;
/// Names one command, so that its answer finds its way back.
pub type Ticket = u64;

/// Chance, injected: everything a core draws comes from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub [u8; 32]);

/// One thing that happened.
#[derive(Debug)]
pub enum Input {
    /// A connection is up. The transport has proven both the SPIFFE ID (by SVID) and the author key (over the TLS exporter).
    LinkUp {
        /// Its name.
        link: LinkId,
        /// Who the SVID says it is.
        spiffe_id: SpiffeId,
        /// Which author key it holds.
        author: PublicKey,
    },
    /// A connection is up on the data lane: the transport has proven the author key and nothing else. It carries facts alone.
    DataLinkUp {
        /// Its name.
        link: LinkId,
        /// Which author key the peer holds.
        author: PublicKey,
    },
    /// A connection is gone.
    LinkDown {
        /// Its name.
        link: LinkId,
    },
    /// What [`Output::Dial`] asked came to nothing.
    DialFailed {
        /// Whom it was to reach.
        spiffe_id: SpiffeId,
    },
    /// Where this node can be reached, `host:port`, best first.
    Addresses(Vec<String>),
    /// The node is about to stop on purpose.
    Leave,
    /// Bytes of one frame from a peer.
    Frame {
        /// From whom.
        link: LinkId,
        /// The frame.
        bytes: Vec<u8>,
    },
    /// Something came over these links that is no frame: their peers live.
    Heard {
        /// The links.
        links: Vec<LinkId>,
        /// When, by this node's wall clock in milliseconds; when at the earliest, where that is not known exactly.
        at_ms: u64,
    },
    /// The transport got rid of so much of what [`Output::Send`] gave it: it lies with QUIC, or is on its way.
    Drained {
        /// The link.
        link: LinkId,
        /// Bytes of whole frames, in the order in which they were sent.
        bytes: usize,
    },
    /// Somebody on this machine asks for something.
    Command {
        /// For the answer.
        ticket: Ticket,
        /// What.
        command: Box<Command>,
    },
    /// A connector finished what [`Output::Execute`] asked.
    Executed {
        /// The permit.
        permit: FactId,
        /// What came of it.
        result: EffectResult,
    },
    /// A connector answered what [`Output::Probe`] asked.
    Probed {
        /// The permit.
        permit: FactId,
        /// Whether its effect is there.
        probe: Probe,
    },
    /// A connector answered what [`Output::Version`] asked.
    Version {
        /// The permit.
        permit: FactId,
        /// The version of its resource, where it has one; or why that cannot be told.
        version: Result<Option<String>, String>,
    },
    /// A connector answered what [`Output::Check`] asked.
    Checked {
        /// The permit.
        permit: FactId,
        /// What it saw, check by check.
        checks: Vec<Checked>,
    },
    /// A connector finished what [`Output::Undo`] asked.
    Undone {
        /// The permit whose effect was to be taken back.
        permit: FactId,
        /// What came of it; done is taken back.
        result: EffectResult,
    },
    /// A connector removed an effect whose time was over.
    Ended {
        /// The permit it was carried out under.
        permit: FactId,
    },
    /// A document that [`Output::Work`] sent out is built.
    Worked(Box<Work>),
    /// The time asked for in [`Output::Idle`] has come.
    Tick,
}

/// What a connector did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EffectResult {
    /// The effect is there.
    Done(Box<Happened>),
    /// It is certain that nothing happened.
    Failed {
        /// Why.
        reason: String,
        /// Labels of what came back all the same.
        labels: Vec<String>,
    },
    /// Nobody knows.
    Unknown {
        /// Why.
        reason: String,
        /// Labels of what came back all the same.
        labels: Vec<String>,
    },
}

impl EffectResult {
    /// Nothing happened and nothing came back.
    #[must_use]
    pub fn failed(reason: impl Into<String>) -> Self {
        Self::Failed { reason: reason.into(), labels: Vec::new() }
    }

    /// Nobody knows, and nothing came back.
    #[must_use]
    pub fn unknown(reason: impl Into<String>) -> Self {
        Self::Unknown { reason: reason.into(), labels: Vec::new() }
    }
}

/// What a connector did, or found done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Happened {
    /// Where it can be seen.
    pub effect_ref: String,
    /// What happened, for people; for a read, what it brought.
    pub note: Vec<u8>,
    /// When it ends by itself, milliseconds since the Unix epoch.
    pub until_ms: Option<u64>,
    /// The resource's version before, where the connector tells.
    pub before_version: Option<String>,
    /// The resource's version after.
    pub after_version: Option<String>,
    /// Labels of what came back.
    pub labels: Vec<String>,
}

impl From<Happened> for EffectResult {
    fn from(happened: Happened) -> Self {
        Self::Done(Box::new(happened))
    }
}

/// Whether an effect is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// It is.
    Applied,
    /// It was, and is over.
    Ended,
    /// It is not, and never was.
    Absent,
    /// The connector cannot tell.
    Unclear,
}

/// One record of the node's store. Keys are unique; a later value replaces an earlier one, `None` removes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where.
    pub key: Vec<u8>,
    /// What.
    pub value: Option<Vec<u8>>,
}

/// Why the core wants to be woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// Ask the coordinators for a fresh lease.
    Lease,
    /// The sync core: time-outs and repair.
    Sync,
    /// A proposal, vote or permit runs out.
    Expiry,
    /// Ask peers for the time.
    Time,
    /// Nobody has confirmed this node's own heads; go on alone.
    Confirm,
    /// Say how far this node holds the authority chain, or that an epoch of a document ends.
    Hold,
    /// Go on packing the facts of epochs that ended.
    Pack,
    /// Ask a connector again for what it could not tell.
    Connector,
    /// The mesh core: presence, topology, dialling.
    Presence,
    /// The budget of a link allows more.
    Budget,
}

/// What the shell must do next, in this order.
#[derive(Debug)]
pub enum Output {
    /// Must be durable before any output behind it is carried out.
    Persist(Record),
    /// Send one frame, in this order; answered with [`Input::Drained`]. There is never more of a link under way than
    /// [`cauldron_mesh_core::lanes::WINDOW_MAX`] and one frame.
    Send {
        /// To whom.
        link: LinkId,
        /// How urgent it was.
        lane: cauldron_mesh_core::lanes::Lane,
        /// The frame.
        bytes: Vec<u8>,
    },
    /// Close a connection: its peer sent what cannot be read, or its session stalled.
    Close {
        /// Which.
        link: LinkId,
        /// The detail, for the local log only.
        detail: String,
    },
    /// Try once to connect with a member; answered with [`Input::LinkUp`] or [`Input::DialFailed`].
    Dial {
        /// Whom: anybody else who answers is refused.
        spiffe_id: SpiffeId,
        /// Where, `host:port`, best first.
        addresses: Vec<String>,
    },
    /// End a connection that nobody needs any more.
    Release {
        /// Which.
        link: LinkId,
    },
    /// Execute a permit: its `Started` is durable.
    Execute(Box<VerifiedPermit>),
    /// Find out whether the effect of a permit is there: this process does not know what became of a `Started`.
    Probe {
        /// The permit.
        permit: FactId,
        /// Whose connector to ask, `<module>.<object>.<verb>`.
        operation: String,
        /// What the connector recognises the effect by.
        idempotency_key: String,
    },
    /// Find out at which version the resource of a permit is: it counts on one alone.
    Version {
        /// The permit.
        permit: FactId,
        /// Whose connector to ask, `<module>.<object>.<verb>`.
        operation: String,
        /// Of what.
        object: String,
    },
    /// Find out whether the checks hold that a permit asks for after its effect.
    Check {
        /// The permit.
        permit: FactId,
        /// Whose connector to ask.
        operation: String,
        /// What the connector recognises the effect by.
        idempotency_key: String,
        /// Names of the checks.
        names: Vec<String>,
    },
    /// Take an effect back: that this is being done is durable.
    Undo(Box<VerifiedUndo>),
    /// Build, pack or unpack a document beside the loop, with [`Work::run`]; answered with [`Input::Worked`].
    Work(Box<Work>),
    /// Answer a command.
    Reply {
        /// Which.
        ticket: Ticket,
        /// The answer.
        result: Result<Reply, Refusal>,
    },
    /// Something an operator or a program may want to know.
    Event(Event),
    /// Nothing to do until then.
    Idle {
        /// Boot time in milliseconds, and why.
        until: Option<(u64, Timer)>,
    },
}

/// What an operator or a program may want to know; every one is derived from state that [`crate::view`] also shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A fact was stored here for the first time.
    Stored {
        /// Its id.
        id: FactId,
        /// Its kind.
        kind: String,
        /// Its scope.
        scope: String,
        /// Its author's SPIFFE ID.
        author: String,
        /// Its `traceparent`.
        traceparent: Option<String>,
    },
    /// A peer passed or lost admission.
    Peer {
        /// Who.
        spiffe_id: SpiffeId,
        /// Whether it may exchange facts now.
        admitted: bool,
    },
    /// A fact was refused.
    Refused {
        /// A stable code.
        code: &'static str,
        /// What was wrong.
        detail: String,
    },
    /// A document may say something different: a change took effect or was taken out, many came at once in one piece, or another
    /// epoch is in use.
    Document {
        /// Its scope.
        scope: String,
        /// Its name.
        doc: String,
        /// Which.
        what: What,
    },
    /// An author signed two facts for one place.
    Fork {
        /// The author's SPIFFE ID.
        author: String,
    },
    /// The council named a new term of the sequencer.
    Term {
        /// Its number.
        n: u32,
        /// Who writes the authority chain now.
        sequencer: String,
    },
    /// The sequencer forked the authority chain: it is frozen until the council names a new term.
    Frozen {
        /// The forked position in the sequencer's chain.
        seq: u64,
    },
    /// Enough peers agree with this machine's clock, which its own past did not explain: from here on it may be believed.
    ClockVouched {
        /// The reading they agree with, milliseconds since the Unix epoch.
        wall_ms: u64,
    },
    /// Somebody broke the glass: a token is used for a proposal, without the approvals that policy asks for.
    BrokenGlass {
        /// The use.
        id: FactId,
        /// The proposal.
        proposal: FactId,
        /// Why, in their words.
        reason: String,
    },
    /// A person must look at an action.
    Attention {
        /// The proposal.
        proposal: FactId,
        /// Why.
        call: Call,
        /// What they can do.
        how: String,
    },
    /// The operator reset the clock.
    ClockReset {
        /// The wall clock that counts from here on, milliseconds since the Unix epoch.
        wall_ms: u64,
        /// On the operator's word alone: no coordinator agreed.
        isolated: bool,
    },
    /// The node changed between active, confirming, read-only and isolated.
    State {
        /// Its name, as in `/v1/self`.
        state: &'static str,
        /// Why.
        reason: String,
    },
}
