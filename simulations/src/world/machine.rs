//! One machine: a disk, clocks, a blocklist file, and at most one process that runs a node core.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use cauldron_crdt::Packs;
use cauldron_identity::authority::EntryBody;
use cauldron_identity::codec::from_cbor;
use cauldron_identity::{AuthorId, AuthorKey, FactId, PublicKey, Scope, SealedFact, SpiffeId};
use cauldron_node_core::{Input, LinkId, NodeCore, Output, Timer};

use crate::clock::MachineClock;
use crate::disk::{Commit, Disk};
use crate::facts::{FACT_PREFIX, Facts};
use crate::network::Place;
use crate::queue::Ms;
use crate::world::blocklist::Blocklist;
use crate::world::roots::Shell;

/// Where a node keeps terms.
pub const TERM_PREFIX: &[u8] = b"l/term/";

/// A machine in the world.
#[derive(Debug)]
pub struct Machine {
    /// Its name: `hq`, `lyon`, `lyon-2`.
    pub name: String,
    /// Its site; none for coordinators.
    pub site: Option<String>,
    /// The SPIFFE ID it acts as.
    pub spiffe_id: SpiffeId,
    /// Seed of its author key.
    pub seed: [u8; 32],
    /// Its author's public key.
    pub public: PublicKey,
    /// Its author.
    pub author: AuthorId,
    /// What survives.
    pub disk: Disk,
    /// An older copy of the disk, as a backup job took it.
    pub backup: Option<Disk>,
    /// Wall and boot clock.
    pub clock: MachineClock,
    /// The outside world that its connector changes. No crash and no restore touches it.
    pub blocklist: Blocklist,
    /// Facts it starts with; none until it was admitted.
    pub bootstrap: Option<Arc<[SealedFact]>>,
    /// The running process.
    pub core: Option<NodeCore>,
    /// Counts processes; what was meant for an earlier one reaches nobody.
    pub process: u64,
    /// A story's wish: the process dies before its output with this number, counted from now.
    pub dies_at: Option<u32>,
    /// Outputs not carried out yet.
    pub outbox: VecDeque<Output>,
    /// The commit that is running.
    pub commit: Option<Commit>,
    /// Inputs that wait for a commit to end or for the machine to wake.
    pub inbox: VecDeque<Arriving>,
    /// Suspended.
    pub frozen: bool,
    /// When the process started on a store that an earlier one had used; none on a fresh store.
    pub resumed_at: Option<Ms>,
    /// In which life the disk was when the process started.
    pub life_at_start: u32,
    /// Machines whose frames of sync this process has heard: no other kind says what its sender holds.
    pub spoken: BTreeSet<Place>,
    /// When the process asked to be woken.
    pub wake_at: Option<Ms>,
    /// What for, most recently.
    pub wake_for: Option<Timer>,
    /// The running second, and how often the process was woken in it.
    pub woken: (u64, u32),
    /// Links this process believes in, and to whom.
    pub links: BTreeMap<LinkId, Place>,
    /// Facts this process has said it keeps; on disk or on their way.
    pub known: Facts,
    /// Authors that a cut on this disk ends, and in which life.
    pub cut_known: BTreeSet<(AuthorId, u32)>,
    /// Whether its token was minted, as far as the new node knows.
    pub has_token: bool,
    /// Facts on disk.
    pub durable: BTreeSet<FactId>,
    /// The newest moment at a coordinator of which anything here can know.
    pub fresh_at: Ms,
    /// What was lost by a restore, and since when nobody can have said so.
    pub restored: Option<Restored>,
    /// Facts of its own that it wrote, ever.
    pub written: u64,
    /// What became of permits in this process: handed to the connector, not yet answered.
    pub in_hand: BTreeSet<FactId>,
    /// Roots, as its shell goes by them.
    pub shell: Shell,
}

/// An input on its way to the core.
#[derive(Debug)]
pub struct Arriving {
    /// The input.
    pub input: Input,
    /// The newest moment at a coordinator of which its sender knew.
    pub fresh_at: Ms,
    /// Whether it came from a link without an enrolled key.
    pub stranger: bool,
}

/// After a restore: what the node wrote once and has no more.
#[derive(Debug, Clone, Default)]
pub struct Restored {
    /// Its own lost facts.
    pub lost: BTreeMap<FactId, Scope>,
    /// Scopes in which somebody who holds a lost fact has shown its heads since.
    pub told: BTreeSet<Scope>,
    /// The node itself has said that it lies behind.
    pub admitted: bool,
    /// Frames heard since, by link.
    pub heard: BTreeMap<LinkId, u32>,
}

impl From<Input> for Arriving {
    fn from(input: Input) -> Self {
        Self { input, fresh_at: 0, stranger: false }
    }
}

impl Machine {
    /// A machine that has never run a process.
    #[must_use]
    pub fn new(name: &str, site: Option<&str>, spiffe_id: SpiffeId, seed: [u8; 32], clock: MachineClock) -> Self {
        let public = AuthorKey::from_seed(&seed).public();
        Self {
            name: name.to_owned(),
            site: site.map(str::to_owned),
            spiffe_id,
            seed,
            public,
            author: public.author_id(),
            disk: Disk::default(),
            backup: None,
            clock,
            blocklist: Blocklist::default(),
            bootstrap: None,
            core: None,
            process: 0,
            dies_at: None,
            outbox: VecDeque::new(),
            commit: None,
            inbox: VecDeque::new(),
            frozen: false,
            resumed_at: None,
            life_at_start: 0,
            spoken: BTreeSet::new(),
            wake_at: None,
            wake_for: None,
            woken: (0, 0),
            links: BTreeMap::new(),
            known: Facts::new(),
            cut_known: BTreeSet::new(),
            has_token: false,
            durable: BTreeSet::new(),
            fresh_at: 0,
            restored: None,
            written: 0,
            in_hand: BTreeSet::new(),
            shell: Shell::default(),
        }
    }

    /// Its author key.
    #[must_use]
    pub fn key(&self) -> AuthorKey {
        AuthorKey::from_seed(&self.seed)
    }

    /// Whether a process runs.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.core.is_some()
    }

    /// Whether it was admitted.
    #[must_use]
    pub fn has_joined(&self) -> bool {
        self.bootstrap.is_some()
    }

    /// Whether this machine's node may read `scope`.
    #[must_use]
    pub fn reads(&self, scope: &Scope) -> bool {
        scope.site_name().is_none() || self.site.is_none() || self.site.as_deref() == scope.site_name()
    }

    /// Reads the facts on its disk, as a new process finds them.
    pub fn recall(&mut self) {
        self.known = Facts::new();
        let packs = Packs::default();
        for (key, value) in self.disk.records() {
            if key.starts_with(FACT_PREFIX)
                && let Some(fact) = self.disk.fact(&packs, &key, &value)
            {
                self.known.insert(fact.id, Arc::new(fact));
            }
        }
        self.durable = self.known.keys().copied().collect();
    }

    /// Terms of the council on its disk.
    #[must_use]
    pub fn terms(&self) -> Vec<EntryBody> {
        let kept = self.disk.records().into_iter().filter(|(key, _)| key.starts_with(TERM_PREFIX));
        kept.filter_map(|(_, value)| from_cbor(&value).ok()).collect()
    }

    /// Everything that dies with a process.
    pub fn forget_process(&mut self) {
        self.core = None;
        self.process += 1;
        self.outbox.clear();
        self.inbox.clear();
        self.wake_at = None;
        self.links.clear();
        self.spoken.clear();
        self.in_hand.clear();
        self.frozen = false;
        self.dies_at = None;
    }
}
