//! The composed node: opening it from its store, and one door for inputs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use cauldron_coordinator::lease::LeaseState;
use cauldron_coordinator::ledger::{Docket, Ledger};
use cauldron_crdt::escrow::KIND_RESERVE;
use cauldron_crdt::{Access, ChainId, Documents, Draft, Escrow, FactLog, Inserted, Record as LogRecord, Sync};
use cauldron_identity::authority::{EntryBody, Term};
use cauldron_identity::{
    AuthorId, AuthorKey, Authority, Clock, Confidence, Fact, FactId, Lane, PublicKey, Role, Scope, SealedFact,
    SignedCharter, SpiffeId, planted,
};

use crate::chance::Chance;
use crate::config::{Misbehave, NodeConfig, OpenError};
use crate::enrol::TokenId;
use crate::fresh::Vouching;
use crate::hlc::Hlc;
use crate::hold::Hold;
use crate::input::{Event, Input, LinkId, Output, Record, Refusal, Reply, Ticket};
use crate::life::Life;
use crate::local::{self, Local, Token};
use crate::opening::Opening;
use crate::roots::RootsKnown;
use crate::work::{Policy, Work};

/// A peer at the other end of a link.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) spiffe_id: SpiffeId,
    pub(crate) author: AuthorId,
    pub(crate) key: PublicKey,
    /// Scopes that both sides may read; empty until the peer is enrolled here.
    pub(crate) shared: Vec<Scope>,
    /// Boot time, milliseconds, when it came up.
    pub(crate) since_ms: u64,
    /// It came over the data lane: restrictions, then facts, and nothing else.
    pub(crate) facts_only: bool,
    /// How far its clock is from the one here.
    pub(crate) skew: crate::skew::Skew,
}

impl Peer {
    /// Whether leases, times and lives may be spoken of with it.
    pub(crate) fn converses(&self) -> bool {
        !self.shared.is_empty() && !self.facts_only
    }
}

/// One node without its IO. See the crate's contract.
#[derive(Debug)]
pub struct NodeCore {
    pub(crate) key: AuthorKey,
    pub(crate) me: AuthorId,
    pub(crate) spiffe_id: SpiffeId,
    pub(crate) role: Role,
    pub(crate) boot_id: String,
    pub(crate) now: Clock,
    pub(crate) authority: Authority,
    pub(crate) charter: SignedCharter,
    pub(crate) log: FactLog,
    pub(crate) sync: Sync,
    pub(crate) ledger: Ledger,
    /// What is open, as last computed.
    pub(crate) docket: Docket,
    pub(crate) docs: Documents,
    pub(crate) escrow: Escrow,
    pub(crate) bases: crate::bases::Bases,
    pub(crate) far_facts: u64,
    pub(crate) policy: Policy,
    pub(crate) hands: cauldron_coordinator::owner::Hands,
    pub(crate) lease: LeaseState,
    pub(crate) vouching: Vouching,
    /// When peers are asked for the time next, to show how far it is from the time here; boot time in milliseconds.
    pub(crate) skews_at_ms: u64,
    pub(crate) life: Life,
    pub(crate) incarnation: u32,
    pub(crate) hlc: Hlc,
    pub(crate) chance: Chance,
    pub(crate) notes: BTreeMap<String, Vec<u8>>,
    pub(crate) tokens: BTreeMap<TokenId, Token>,
    pub(crate) links: BTreeMap<LinkId, Peer>,
    pub(crate) near: cauldron_mesh_core::MeshCore,
    pub(crate) flow: crate::flow::Flow,
    /// The authority chain as the members were told to it.
    pub(crate) near_at: Option<(u64, u64)>,
    pub(crate) last_seen_ms: BTreeMap<AuthorId, u64>,
    pub(crate) refused: BTreeMap<String, u64>,
    pub(crate) work: Work,
    pub(crate) sessions: crate::sessions::Sessions,
    pub(crate) hold: Hold,
    pub(crate) seals: crate::seals::Seals,
    /// Closed epochs whose facts are being packed.
    pub(crate) packing: crate::closing::Packing,
    /// Who spoke last of what it holds, and has not been asked yet what it knows of this node's own chains.
    pub(crate) spoke: Option<LinkId>,
    /// Restrictions that each life of an author says it enforces, and when it said so first, milliseconds since the Unix epoch.
    pub(crate) acknowledged: BTreeMap<(AuthorId, u32), BTreeMap<FactId, u64>>,
    pub(crate) roots: RootsKnown,
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) until: Option<(u64, crate::Timer)>,
    pub(crate) state_told: &'static str,
    pub(crate) sync_at_ms: Option<u64>,
    /// Whether [`NodeCore::open`] is done: what is folded before is the past, not news.
    pub(crate) opened: bool,
    /// Whether the present life began while this process ran.
    pub(crate) new_life: bool,
    pub(crate) seen_index: u64,
    /// The term of the sequencer that was told of last.
    pub(crate) term_seen: u32,
    /// Facts, authority, lease or life changed since governance was last driven.
    pub(crate) dirty: bool,
    /// A cut or a fork may have changed which changes of documents count.
    pub(crate) recount: bool,
    /// Mints, lives and suspensions may have changed whose rights count.
    pub(crate) rights_moved: bool,
    /// Whether a peer has vouched that nothing is missing of what this life wrote about its rights.
    pub(crate) rights_confirmed: bool,
    /// Restrictions may have changed who is suspended.
    pub(crate) links_dirty: bool,
    pub(crate) deadline_at_ms: Option<u64>,
    #[cfg_attr(not(feature = "fault-points"), expect(dead_code, reason = "there is nothing in it then"))]
    pub(crate) misbehave: Misbehave,
}

/// Answers the log's questions about authors from the authority chain.
pub(crate) struct Writers<'a>(pub(crate) &'a Authority);

impl Access for Writers<'_> {
    fn author_key(&self, author: &AuthorId) -> Option<PublicKey> {
        self.0.member(author).map(|m| m.key)
    }

    fn may_write(&self, author: &AuthorId, scope: &Scope, kind: &str) -> bool {
        self.0.may_write(author, scope, kind)
    }
}

impl NodeCore {
    /// Opens a node from the records of its store, in any order, and keeps all facts in memory.
    ///
    /// # Errors
    /// [`OpenError`]; nothing is written then.
    pub fn open(
        config: NodeConfig,
        records: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>,
        now: Clock,
    ) -> Result<Self, OpenError> {
        let mut opening = Opening::new(config.mesh);
        records.into_iter().try_for_each(|(key, value)| opening.take(&key, &value))?;
        Self::open_with(config, opening, now)
    }

    /// Opens a node from what was taken of its store.
    ///
    /// # Errors
    /// [`OpenError`]; nothing is written then.
    pub fn open_with(config: NodeConfig, mut opening: Opening, now: Clock) -> Result<Self, OpenError> {
        let charter = config.charter.open(&config.mesh).map_err(OpenError::Charter)?;
        let role = Role::of(&config.spiffe_id).map_err(|e| OpenError::Role(e.to_string()))?;
        let me = config.key.author_id();
        let authority = Authority::new(config.mesh, charter).map_err(OpenError::Role)?;
        let locals = std::mem::take(&mut opening.locals);
        let indexed = opening.knows_facts();
        let (log, no_index) = opening.done()?;
        let born = locals.contains(&Local::Born);
        let behind = locals.iter().find_map(|l| if let Local::Behind(life) = l { Some(*life) } else { None });
        let used_before = born || config.used_before;
        let mut core = Self {
            me,
            role,
            docs: Documents::with_epoch(config.epoch_changes),
            escrow: Escrow::new(),
            bases: crate::bases::Bases::default(),
            far_facts: config.far_facts,
            ledger: Ledger::new(),
            docket: Docket::new(crate::govern::LIMITS),
            sync: Sync::with_far(config.far_facts).ranked(crate::flow::ranks()),
            lease: LeaseState::new(&config.boot_id),
            vouching: Vouching::default(),
            skews_at_ms: u64::MAX,
            life: Life::at_start(used_before, now.boottime_ms),
            key: config.key,
            spiffe_id: config.spiffe_id,
            boot_id: config.boot_id,
            now,
            authority,
            charter: config.charter,
            log,
            policy: Policy::default(),
            hands: config.hands,
            incarnation: 0,
            hlc: Hlc::default(),
            chance: Chance::of(config.seed),
            notes: BTreeMap::new(),
            tokens: BTreeMap::new(),
            links: BTreeMap::new(),
            near: cauldron_mesh_core::MeshCore::new(me, config.mesh, config.place, config.seed.0),
            flow: crate::flow::Flow::new(config.budgets, config.window_max),
            near_at: None,
            last_seen_ms: BTreeMap::new(),
            refused: BTreeMap::new(),
            work: Work::default(),
            sessions: crate::sessions::Sessions::default(),
            hold: Hold::default(),
            seals: crate::seals::Seals::default(),
            packing: crate::closing::Packing::default(),
            spoke: None,
            acknowledged: BTreeMap::new(),
            roots: RootsKnown::default(),
            outputs: VecDeque::new(),
            until: None,
            state_told: "",
            sync_at_ms: None,
            opened: false,
            new_life: false,
            seen_index: 0,
            term_seen: 0,
            dirty: true,
            links_dirty: false,
            recount: true,
            rights_moved: true,
            rights_confirmed: false,
            deadline_at_ms: None,
            misbehave: config.misbehave,
        };
        core.rights_confirmed = core.life.is_confirmed();
        no_index.into_iter().for_each(|record| core.persist(record));
        let (aside, marks) = core.log.left_aside();
        aside.into_iter().for_each(|key| core.persist(Record { key, value: None }));
        marks.iter().for_each(|mark| core.keep(mark));
        let (terms, whole) = core.restore_locals(locals);
        core.refold(&terms, indexed && whole)?;
        core.bootstrap(config.bootstrap, &config.terms)?;
        core.check_seat()?;
        core.settle_in(born, behind);
        core.opened = true;
        core.drive();
        Ok(core)
    }

    /// Returns the terms that were kept: they are judged once the entries are folded. And whether all that was kept of closed
    /// epochs is of use.
    fn restore_locals(&mut self, locals: Vec<Local>) -> (Vec<EntryBody>, bool) {
        let (mut terms, mut epochs) = (Vec::new(), Vec::new());
        for local in locals {
            match local {
                Local::Token(id, token) => {
                    self.tokens.insert(id, token);
                }
                // Unreadable is as good as none: the node asks for a new one.
                Local::Lease(bytes) => {
                    self.lease =
                        LeaseState::restore(&bytes, &self.boot_id).unwrap_or_else(|_| LeaseState::new(&self.boot_id));
                }
                Local::Note(name, value) => {
                    self.notes.insert(name, value);
                }
                Local::Term(body) => {
                    self.work.stored_terms.insert(Term::id(&self.authority.mesh(), &body));
                    terms.push(*body);
                }
                Local::Epoch(record) => epochs.push(record),
                Local::Meter(author, saved) => _ = self.flow.saved.insert(author, saved),
                Local::Born | Local::Behind(_) | Local::Unknown => {}
            }
        }
        let whole = self.restore_closed(epochs);
        (terms, whole)
    }

    /// Takes the facts the node starts with; those already held are skipped. A term among the entries says who may have written
    /// those behind it.
    fn bootstrap(&mut self, facts: Vec<SealedFact>, terms: &[EntryBody]) -> Result<(), OpenError> {
        self.take_terms(terms);
        for sealed in facts {
            let known = sealed.peek().ok().is_some_and(|header| self.authority.member(&header.author).is_some());
            if !known && !terms.is_empty() {
                self.take_terms(terms);
            }
            match self.log.insert(sealed, &Writers(&self.authority)) {
                Ok(Inserted::New(fact)) => self.stored(&fact),
                Ok(Inserted::Duplicate | Inserted::Mended(_)) => {}
                Ok(Inserted::Fork(_)) => return Err(OpenError::Bootstrap("it contradicts the store".into())),
                Err(why) => return Err(OpenError::Bootstrap(why.to_string())),
            }
        }
        self.take_terms(terms);
        Ok(())
    }

    /// A seat of the charter in effect belongs to one author: a copied name is not enough.
    fn check_seat(&self) -> Result<(), OpenError> {
        let name = self.spiffe_id.to_string();
        let seat = self.authority.next_charter().coordinators.iter().find(|seat| seat.spiffe_id == name);
        match seat {
            // An author whose seat went to another may start, to be told so by its peers and by its own status.
            Some(seat) if seat.author != self.key.public() && self.authority.member(&self.me).is_none() => {
                Err(OpenError::Seat(name))
            }
            _ => Ok(()),
        }
    }

    fn settle_in(&mut self, born: bool, behind: Option<u32>) {
        // Proof that this life lies behind its own past does not go away with a restart; only a new incarnation ends it.
        let own = |s: Scope| ChainId { scope: s, author: self.me, incarnation: self.incarnation };
        let forked = self.readable().into_iter().any(|s| self.log.fork_seq(&own(s)).is_some());
        if forked || behind == Some(self.incarnation) {
            self.life.proven_behind(self.now.boottime_ms);
        }
        if !born {
            self.persist(local::born());
        }
        self.docs.set_author(&self.me, self.incarnation);
        self.work.old_permits = self.ledger.unstarted(&self.me, 0).map(|p| p.id).collect();
        self.work.line.all_moved();
        self.recall_held();
        self.probe_started();
    }

    /// Takes one input in. Drain [`NodeCore::poll`] afterwards.
    pub fn handle(&mut self, now: Clock, input: Input) {
        self.now = now;
        self.log.chill();
        match input {
            Input::LinkUp { link, spiffe_id, author } => self.link_up(link, spiffe_id, author),
            Input::DataLinkUp { link, author } => self.data_link_up(link, author),
            Input::LinkDown { link } => self.link_down(link),
            Input::DialFailed { spiffe_id } => self.dial_failed(&spiffe_id),
            Input::Addresses(addresses) => self.near(cauldron_mesh_core::Input::Addresses(addresses)),
            Input::Leave => self.near(cauldron_mesh_core::Input::Leave),
            Input::Frame { link, bytes } => self.frame(link, &bytes),
            Input::Heard { links, at_ms } => return self.heard(&links, at_ms),
            Input::Drained { link, bytes } => return self.drained(link, bytes),
            Input::Command { ticket, command } => self.command(ticket, *command),
            Input::Executed { permit, result } => self.executed(permit, result),
            Input::Probed { permit, probe } => self.probed(permit, probe),
            Input::Ended { permit } => self.ended(permit),
            Input::Version { permit, version } => self.version_told(permit, version),
            Input::Checked { permit, checks } => self.checked(permit, checks),
            Input::Undone { permit, result } => self.undone(permit, result),
            Input::Worked(work) => self.worked(*work),
            Input::Tick => {}
        }
        self.drive();
    }

    /// The next output, or [`Output::Idle`].
    #[must_use]
    pub fn poll(&mut self) -> Output {
        self.outputs.pop_front().unwrap_or(Output::Idle { until: self.until })
    }

    pub(crate) fn persist(&mut self, record: Record) {
        self.outputs.push_back(Output::Persist(record));
    }

    pub(crate) fn reply(&mut self, ticket: Ticket, result: Result<Reply, Refusal>) {
        if planted::active("ack-before-durable") {
            self.outputs.push_front(Output::Reply { ticket, result });
            return;
        }
        self.outputs.push_back(Output::Reply { ticket, result });
    }

    pub(crate) fn tell(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    pub(crate) fn count_refusal(&mut self, code: &'static str, detail: String) {
        *self.refused.entry(code.to_owned()).or_default() += 1;
        self.tell(Event::Refused { code, detail });
    }

    /// A fact that is new here: on disk first, then folded, then spread.
    pub(crate) fn stored(&mut self, fact: &Arc<Fact>) {
        let record = LogRecord::Fact(fact.sealed().clone());
        let header = fact.header();
        let lost = planted::active("reserve-not-durable") && header.kind == KIND_RESERVE;
        if let Ok(key) = record.key()
            && !lost
        {
            self.persist(Record { key, value: Some(record.value()) });
        }
        self.hlc.observe(header.hlc, self.now.wall_ms);
        let author = self.authority.member(&header.author).map(|m| m.spiffe_id.to_string());
        self.tell(Event::Stored {
            id: fact.id(),
            kind: header.kind.clone(),
            scope: header.scope.to_string(),
            author: author.unwrap_or_else(|| header.author.to_string()),
            traceparent: header.traceparent.clone(),
        });
        if header.scope == Scope::authority() {
            self.authority.apply(fact);
            self.after_entries();
        } else {
            self.fold(fact);
        }
    }

    /// Writes a fact of this node's own.
    pub(crate) fn append(
        &mut self,
        scope: Scope,
        kind: &str,
        deps: Vec<FactId>,
        body: Vec<u8>,
        traceparent: Option<String>,
    ) -> Result<Arc<Fact>, Refusal> {
        self.may_write()?;
        let hlc = self.hlc.tick(self.now.wall_ms);
        let kind = kind.to_owned();
        let draft = Draft { scope, incarnation: self.incarnation, kind, deps, body, hlc, traceparent };
        let fact = self.log.append(&self.key, draft).map_err(|why| Refusal::new(why.code(), why.to_string()))?;
        self.stored(&fact);
        // Before anything else leaves: it may have cut or suspended the peer that would receive it.
        if fact.header().scope.lane() != Lane::Data {
            self.authority_changed();
        }
        self.spread(&fact, None);
        Ok(fact)
    }

    pub(crate) fn may_write(&self) -> Result<(), Refusal> {
        match self.life.describe() {
            Some((code, reason)) => Err(Refusal::new(code, reason)),
            None if self.authority.member(&self.me).is_none() => Err(Refusal::new(
                "not_enrolled",
                "this node has not received its own enrolment yet; it waits for a coordinator",
            )),
            None => Ok(()),
        }
    }

    /// Every scope this node may read.
    pub(crate) fn readable(&self) -> Vec<Scope> {
        let mut scopes = vec![Scope::mesh_restrict(), Scope::authority(), Scope::mesh()];
        let sites: BTreeSet<&str> = match self.role.site() {
            Some(site) => BTreeSet::from([site]),
            None => self.authority.members().filter_map(|(_, m)| m.role.site()).collect(),
        };
        for site in sites {
            scopes.extend(Scope::site(site).into_iter().chain(Scope::site_restrict(site)));
        }
        scopes.sort();
        scopes
    }

    pub(crate) fn is_sequencer(&self) -> bool {
        self.authority.sequencer().author.author_id() == self.me
    }

    pub(crate) fn coordinates(&self) -> bool {
        matches!(self.role, Role::Coordinator { .. } | Role::SiteCoordinator { .. })
    }

    pub(crate) fn wall_is_known(&self) -> bool {
        self.now.confidence != Confidence::Unknown
    }
}
