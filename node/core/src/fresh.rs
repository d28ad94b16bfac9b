//! How fresh this node's knowledge is: leases from coordinators, and the time from peers.

use std::collections::BTreeMap;

use cauldron_coordinator::bodies::RiskClass;
use cauldron_coordinator::lease::{LeaseAsk, LeaseError, LeaseGrant};
use cauldron_identity::{AuthorId, Digest, Lane, planted};

use crate::core::NodeCore;
use crate::frame::{Frame, TimeAsk, TimeTell};
use crate::input::{Event, LinkId, Refusal, Reply};
use crate::local;

/// How far apart two clocks may be that agree, milliseconds (architecture §4).
const AGREE_MS: u64 = 5 * 60 * 1000;
/// How many peers must agree with a clock that its own past does not explain.
const AGREE_MIN: usize = 2;
/// Between two rounds of asking for the time, milliseconds.
const TIME_EVERY_MS: u64 = 5_000;

/// Asking peers what time it is, while nobody vouches for this machine's clock.
#[derive(Debug, Default)]
pub(crate) struct Vouching {
    nonce: Option<Digest>,
    /// What each peer said last: its wall clock less this machine's boot clock, for the wall clock here may jump again.
    told: BTreeMap<AuthorId, i128>,
    pub(crate) at_ms: u64,
}

/// Between two asks, milliseconds: a third of the shortest class age (R3, 30 s), so that two may be lost.
const ASK_EVERY_MS: u64 = 10_000;
/// After a grant that knew more than this node, milliseconds: the sync under way needs about a round trip.
const ASK_AGAIN_MS: u64 = 1_000;

impl NodeCore {
    /// Asks every mesh coordinator that is connected, when it is time.
    pub(crate) fn keep_lease(&mut self) {
        if self.role.is_mesh_coordinator() || self.work.lease_at_ms > self.now.boottime_ms {
            if self.role.is_mesh_coordinator() {
                self.work.lease_at_ms = u64::MAX;
            }
            return;
        }
        self.work.lease_at_ms = self.now.boottime_ms + ASK_EVERY_MS;
        let coordinator =
            |author: &AuthorId| self.authority.member(author).is_some_and(|m| m.role.is_mesh_coordinator());
        let links: Vec<LinkId> =
            self.links.iter().filter(|(_, p)| p.converses() && coordinator(&p.author)).map(|(link, _)| *link).collect();
        if links.is_empty() {
            return;
        }
        let nonce = Digest::from_bytes(self.chance.bytes32());
        let ask = self.lease.ask(self.me, nonce, &self.now);
        for link in links {
            self.send(link, &Frame::LeaseAsk(ask.clone()));
        }
    }

    /// A mesh coordinator answers whoever is enrolled; the ask may have been relayed.
    pub(crate) fn lease_asked(&mut self, link: LinkId, ask: &LeaseAsk) {
        let enrolled =
            self.authority.member(&ask.node).is_some_and(|m| !self.authority.is_cut(&ask.node, m.incarnation))
                && !self.authority.is_suspended(&ask.node);
        let peer = self.links.get(&link).map(|p| p.author);
        // Whoever relays an ask must be allowed to read all that the digest covers.
        let scopes = self.log.scopes();
        let covered = scopes.iter().filter(|s| s.lane() == Lane::Restrict && self.authority.may_read(&ask.node, s));
        let relays = peer.is_some_and(|peer| covered.into_iter().all(|s| self.authority.may_read(&peer, s)));
        if !self.role.is_mesh_coordinator() || !enrolled || !relays || self.may_write().is_err() {
            return;
        }
        let restrictions = self.restrictions_digest(&ask.node);
        let grant = LeaseGrant::new(&self.authority.mesh(), &self.key, ask, self.authority.head(), restrictions);
        self.work.leases_given.insert(ask.node, self.now.wall_ms);
        self.send(link, &Frame::LeaseGrant(grant));
    }

    pub(crate) fn lease_granted(&mut self, grant: &LeaseGrant) {
        let holds = self.restrictions_digest(&self.me) == grant.restrictions;
        match self.lease.accept(&self.me, grant, &self.authority, holds) {
            Ok(()) => {
                let stored = self.lease.stored();
                self.persist(local::lease(stored));
                self.dirty = true;
            }
            Err(LeaseError::Behind) => self.work.lease_at_ms = self.now.boottime_ms + ASK_AGAIN_MS,
            Err(_) => *self.refused.entry("lease".into()).or_default() += 1,
        }
    }

    /// While this machine's clock disagrees with its own past, asks every admitted peer for the time. Two that agree with
    /// it vouch for it; one, where only one other is enrolled; nobody, where there is nobody.
    pub(crate) fn keep_time(&mut self) {
        if self.wall_is_known() {
            self.vouching = Vouching::default();
            return;
        }
        if self.vouching.at_ms > self.now.boottime_ms {
            return;
        }
        self.vouching.at_ms = self.now.boottime_ms + TIME_EVERY_MS;
        if self.vouched() {
            return;
        }
        let nonce = Digest::from_bytes(self.chance.bytes32());
        self.vouching.nonce = Some(nonce);
        let links: Vec<LinkId> = self.links.iter().filter(|(_, p)| p.converses()).map(|(l, _)| *l).collect();
        for link in links {
            self.send(link, &Frame::TimeAsk(TimeAsk { nonce }));
        }
    }

    /// The link is mutually authenticated and bound to the author key, so the answer needs no signature of its own.
    pub(crate) fn time_asked(&mut self, link: LinkId, ask: &TimeAsk) {
        self.send(link, &Frame::TimeTell(TimeTell { nonce: ask.nonce, wall_ms: self.now.wall_ms }));
    }

    pub(crate) fn time_told(&mut self, link: LinkId, tell: &TimeTell) {
        self.skew_told(link, tell);
        let Some(peer) = self.links.get(&link) else { return };
        if self.vouching.nonce == Some(tell.nonce) {
            let offset = i128::from(tell.wall_ms) - i128::from(self.now.boottime_ms);
            self.vouching.told.insert(peer.author, offset);
        }
        self.vouched();
    }

    /// How far a peer that is connected says that the wall clock here is off, milliseconds; positive when it is ahead.
    fn off_by(&self, author: &AuthorId) -> Option<i128> {
        let connected = self.links.values().any(|p| p.author == *author && p.converses());
        let told = self.vouching.told.get(author).filter(|_| connected)?;
        Some(i128::from(self.now.wall_ms) - i128::from(self.now.boottime_ms) - told)
    }

    fn agrees(&self, author: &AuthorId) -> bool {
        self.off_by(author).is_some_and(|off| off.unsigned_abs() <= u128::from(AGREE_MS))
    }

    /// Whether enough peers agree; says so to the shell, which then believes the clock.
    fn vouched(&mut self) -> bool {
        let cut = |(author, m): &(&AuthorId, &cauldron_identity::authority::Member)| {
            **author == self.me || self.authority.is_cut(author, m.incarnation)
        };
        let others = self.authority.members().filter(|m| !cut(m)).count();
        let agree = self.vouching.told.keys().filter(|author| self.agrees(author)).count();
        let enough = agree >= others.min(AGREE_MIN);
        if enough && !self.wall_is_known() {
            self.tell(Event::ClockVouched { wall_ms: self.now.wall_ms });
        }
        enough
    }

    /// The operator of this machine says that its wall clock is right now, whatever its own past says: `TimeReset`. A mesh
    /// coordinator has to agree, over its link, which is as good as its signature. Where none is heard, the operator's word
    /// is enough once the site is isolated, and at a coordinator.
    pub(crate) fn time_reset(&mut self) -> Result<Reply, Refusal> {
        if self.wall_is_known() {
            return Err(Refusal::new("time_known", "this node believes its wall clock; there is nothing to reset"));
        }
        let coordinators: Vec<AuthorId> =
            self.authority.members().filter(|(_, m)| m.role.is_mesh_coordinator()).map(|(author, _)| *author).collect();
        let agreed = coordinators.iter().any(|author| self.agrees(author)) || planted::active("time-reset-unheard");
        let off = coordinators.iter().find_map(|author| self.off_by(author));
        let alone = off.is_none() && (self.is_isolated() || self.role.is_mesh_coordinator());
        if !(agreed || alone) {
            let sentence = match off {
                Some(off) => format!(
                    "a coordinator says that this clock is {} s {}; set the machine's clock and try again",
                    off.unsigned_abs() / 1_000,
                    if off > 0 { "ahead" } else { "behind" }
                ),
                None => {
                    "no coordinator has said the time yet; try again in some seconds, or when one is connected. Your \
                         word alone is taken once this site is isolated"
                        .to_owned()
                }
            };
            return Err(Refusal::new("time_disputed", sentence));
        }
        self.tell(Event::ClockReset { wall_ms: self.now.wall_ms, isolated: !agreed });
        Ok(Reply::Ok)
    }

    /// Whether no lease covers the class that a site acts in by itself.
    fn is_isolated(&self) -> bool {
        !self.lease_age().covers(RiskClass::R1, &self.authority.charter().class_ages)
    }

    /// What `node` must hold of restrictions, by the reader rule, as this node holds it.
    fn restrictions_digest(&self, node: &AuthorId) -> Digest {
        let scopes = self.log.scopes();
        let theirs = scopes.iter().filter(|s| s.lane() == Lane::Restrict && self.authority.may_read(node, s));
        self.log.state_hash_of(theirs)
    }

    /// The node's state as the API names it, with a sentence.
    pub(crate) fn state(&self) -> (&'static str, String) {
        if let Some((state, reason)) = self.life.describe() {
            let sequencer = state == "read_only" && self.is_sequencer();
            let dead_end = "this node is the sequencer, and only the council can end its old life: have it sign a term \
                            for this node (`cauldron authority term`)";
            return (state, if sequencer { format!("{reason}; {dead_end}") } else { reason });
        }
        if !self.is_isolated() {
            return ("active", String::new());
        }
        let since = self.lease_age().ms().map_or_else(
            || "no coordinator has granted a lease since this machine booted".to_owned(),
            |ms| format!("the last lease is {} s old", ms / 1000),
        );
        let goes_on = |site: &str| self.authority.isolation_grant(site).is_some();
        let then = match self.role.site().filter(|site| goes_on(site)) {
            Some(_) => {
                "the site goes on as far as its isolation grant says, class by class (`cauldron isolation show`)"
                    .to_owned()
            }
            None => {
                let limit = self.authority.charter().class_ages.r1_ms / 1000;
                format!("actions of class R1 stop after {limit} s without one, and no isolation grant says otherwise")
            }
        };
        ("isolated", format!("{since}; {then}; recording and proposing go on"))
    }
}
