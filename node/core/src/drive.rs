//! Routing between the cores: links, frames, sync, authority. What peers bring goes to [`crate::learn`], what it drives of
//! governance stands in [`crate::govern`].

use std::collections::BTreeSet;
use std::sync::Arc;

use cauldron_coordinator::planted;
use cauldron_crdt::{ChainId, SyncInput, SyncOutput};
use cauldron_identity::authority::{ChainEnd, Entry, EntryBody, Incarnate, KIND_ENTRY};
use cauldron_identity::codec::to_cbor;
use cauldron_identity::{AuthorId, Fact, PublicKey, Scope, SpiffeId};

use crate::core::{NodeCore, Peer};
use crate::frame::Frame;
use crate::input::{Event, LinkId, Timer};
use crate::skew::Skew;

/// How long a restored node waits before it asks again for its new incarnation, milliseconds.
const INCARNATE_EVERY_MS: u64 = 5_000;
/// How long a peer may speak before its enrolment has arrived here, milliseconds. Then it may dial again.
const STRANGER_MS_MAX: u64 = 60_000;
/// How often the sequencer begins a new life of one author at most, milliseconds.
const INCARNATE_MIN_MS: u64 = 60_000;

impl NodeCore {
    pub(crate) fn link_up(&mut self, link: LinkId, spiffe_id: SpiffeId, key: PublicKey) {
        self.link_up_on(link, spiffe_id, key, false);
    }

    fn link_up_on(&mut self, link: LinkId, spiffe_id: SpiffeId, key: PublicKey, facts_only: bool) {
        let author = key.author_id();
        self.flow_up(link, author, &spiffe_id);
        let shared = self.shared_with(&spiffe_id, key, &self.readable());
        if let Some(why) = self.shut_out(&author) {
            let detail = format!("{spiffe_id} {why}");
            self.close(link, detail);
        }
        if !shared.is_empty() {
            self.last_seen_ms.insert(author, self.now.wall_ms);
            self.admit(link, author, &shared);
            self.tell(Event::Peer { spiffe_id: spiffe_id.clone(), admitted: true });
        }
        let since_ms = self.now.boottime_ms;
        let converses = !shared.is_empty();
        self.links.insert(link, Peer { spiffe_id, author, key, shared, since_ms, facts_only, skew: Skew::default() });
        if converses && !facts_only {
            self.near_link(link, Some(author));
            self.ask_skew(link);
        }
    }

    /// On the data lane the enrolment says who the key is.
    pub(crate) fn data_link_up(&mut self, link: LinkId, key: PublicKey) {
        let Some(member) = self.authority.member(&key.author_id()) else {
            let detail = format!("author {} is not enrolled", key.author_id().short());
            return self.close(link, detail);
        };
        self.link_up_on(link, member.spiffe_id.clone(), key, true);
    }

    /// Changes what is shown and nothing else: there is nothing to drive.
    pub(crate) fn heard(&mut self, links: &[LinkId], at_ms: u64) {
        for peer in links.iter().filter_map(|link| self.links.get(link)).filter(|peer| !peer.shared.is_empty()) {
            let last_ms = self.last_seen_ms.entry(peer.author).or_default();
            *last_ms = at_ms.min(self.now.wall_ms).max(*last_ms);
        }
    }

    pub(crate) fn link_down(&mut self, link: LinkId) {
        self.flow_down(link);
        if let Some(peer) = self.links.remove(&link) {
            self.sync(SyncInput::LinkDown { link });
            self.near_link(link, None);
            self.bases_down(link);
            if !peer.shared.is_empty() {
                self.tell(Event::Peer { spiffe_id: peer.spiffe_id, admitted: false });
            }
        }
    }

    /// Whether this node holds a restriction that ends the author's connections, and which.
    pub(crate) fn shut_out(&self, author: &AuthorId) -> Option<&'static str> {
        let life = self.authority.member(author)?.incarnation;
        if planted::active("cut-ignored") {
            None
        } else if self.authority.is_cut(author, life) {
            Some("was cut")
        } else if self.authority.is_suspended(author) {
            Some("is suspended")
        } else {
            None
        }
    }

    fn admit(&mut self, link: LinkId, peer: cauldron_identity::AuthorId, shared: &[Scope]) {
        // Before anything else: what follows may rest on them.
        let terms: Vec<EntryBody> = self.authority.terms().map(|(_, body)| body.clone()).collect();
        for body in terms {
            self.send(link, &Frame::Term(Box::new(body)));
        }
        let scopes: BTreeSet<Scope> = shared.iter().cloned().collect();
        self.sync(SyncInput::LinkUp { link, peer, scopes });
        self.work.lease_at_ms = 0;
    }

    /// Which of `readable`, what this node may read, both ends may. Nothing, unless the SVID's name and the author key belong
    /// together in the authority chain: an SVID opens the door, the author key opens the scopes.
    fn shared_with(&self, spiffe_id: &SpiffeId, key: PublicKey, readable: &[Scope]) -> Vec<Scope> {
        let author = key.author_id();
        let enrolled = self.authority.member(&author).is_some_and(|m| m.spiffe_id == *spiffe_id && m.key == key);
        if !enrolled || author == self.me || self.shut_out(&author).is_some() {
            return Vec::new();
        }
        let both = |scope: &Scope| self.authority.may_read(&author, scope) || planted::active("private-scope-leaks");
        // A node that does not know its own enrolment yet has only what the charter seats, and shares the mesh with it.
        readable.iter().filter(|scope| both(scope)).cloned().collect()
    }

    /// After the authority changed: who may exchange what now, and what this node must say about it.
    pub(crate) fn authority_changed(&mut self) {
        self.recount = true;
        // Whose word counts is the chain's to say.
        self.work.line.all_moved();
        self.tend_members();
        let (links, readable) = (self.links.keys().copied().collect::<Vec<LinkId>>(), self.readable());
        for link in links {
            let Some((spiffe_id, key)) = self.links.get(&link).map(|p| (p.spiffe_id.clone(), p.key)) else { continue };
            if let Some(why) = self.shut_out(&key.author_id()) {
                let detail = format!("{spiffe_id} {why}");
                self.close(link, detail);
            }
            let shared = self.shared_with(&spiffe_id, key, &readable);
            let Some(peer) = self.links.get_mut(&link).filter(|p| p.shared != shared) else { continue };
            let before = std::mem::replace(&mut peer.shared, shared.clone());
            let (author, facts_only) = (peer.author, peer.facts_only);
            if before.iter().any(|scope| !shared.contains(scope)) {
                self.flow_scopes(link, &shared);
            }
            match (before.is_empty(), shared.is_empty()) {
                (true, false) => {
                    self.admit(link, author, &shared);
                    self.tell(Event::Peer { spiffe_id, admitted: true });
                    if !facts_only {
                        self.near_link(link, Some(author));
                        self.ask_skew(link);
                    }
                }
                (false, true) => {
                    self.sync(SyncInput::LinkDown { link });
                    self.near_link(link, None);
                    self.tell(Event::Peer { spiffe_id, admitted: false });
                }
                _ => self.sync(SyncInput::ScopesChanged { link, scopes: shared.into_iter().collect() }),
            }
        }
        self.work.lease_at_ms = self.work.lease_at_ms.min(self.now.boottime_ms);
    }

    pub(crate) fn frame(&mut self, link: LinkId, bytes: &[u8]) {
        let Some(peer) = self.links.get(&link) else { return };
        let stranger = peer.shared.is_empty();
        let over = stranger && self.now.boottime_ms.saturating_sub(peer.since_ms) > STRANGER_MS_MAX;
        // A term needs no trust in who brings it: its successor may not be enrolled here before it.
        if Frame::is_term(bytes)
            && !over
            && self.shut_out(&peer.author).is_none()
            && let Ok(Frame::Term(body)) = Frame::decode(bytes)
        {
            return self.term_told(link, &body);
        }
        // Nothing is listened to before the author key is known to belong to the SVID's name.
        if stranger {
            *self.refused.entry("not_enrolled".into()).or_default() += 1;
            if over {
                let detail = format!("{} has no enrolled author key", peer.spiffe_id);
                self.close(link, detail);
            }
            return;
        }
        let facts_only = peer.facts_only;
        self.received(link, bytes.len());
        let Some(peer) = self.links.get(&link) else { return };
        self.last_seen_ms.insert(peer.author, self.now.wall_ms);
        match Frame::decode(bytes) {
            Ok(frame) if facts_only && !matches!(frame, Frame::Sync(_)) => {
                *self.refused.entry("data_lane".into()).or_default() += 1;
                let detail = "a frame on the data lane is not one of sync".to_owned();
                self.close(link, detail);
            }
            Ok(Frame::Sync(bytes)) => {
                self.spoke = Some(link);
                self.sync(SyncInput::Frame { link, bytes: &bytes });
            }
            Ok(Frame::LeaseAsk(ask)) => self.lease_asked(link, &ask),
            Ok(Frame::LeaseGrant(grant)) => self.lease_granted(&grant),
            Ok(Frame::IncarnateAsk(incarnate)) => self.incarnate_asked(link, incarnate),
            Ok(Frame::TimeAsk(ask)) => self.time_asked(link, &ask),
            Ok(Frame::TimeTell(tell)) => self.time_told(link, &tell),
            Ok(Frame::BaseAsk(ask)) => self.base_asked(link, ask),
            Ok(Frame::BaseList(list)) => self.base_listed(link, list),
            Ok(Frame::BasePart(part)) => self.base_part(link, part),
            Ok(Frame::Presence(bytes)) => self.near(cauldron_mesh_core::Input::Frame { link, bytes: &bytes }),
            Ok(Frame::Term(_) | Frame::Unknown(_)) => *self.refused.entry("unknown_frame".into()).or_default() += 1,
            Err(why) => {
                *self.refused.entry("malformed_frame".into()).or_default() += 1;
                let detail = format!("a frame cannot be read: {why}");
                self.close(link, detail);
            }
        }
    }

    /// Feeds the sync core and carries out what it asks, until it asks nothing.
    pub(crate) fn sync(&mut self, input: SyncInput<'_>) {
        let now_ms = self.now.boottime_ms;
        self.sync.handle(now_ms, &self.log, input);
        while let Some(output) = self.sync.poll() {
            match output {
                SyncOutput::Send { link, bytes, rank, chain } => self.send_sync(link, bytes, rank, chain),
                SyncOutput::Offer { link, facts } => facts.into_iter().for_each(|fact| self.offered(link, fact)),
                SyncOutput::OfferRange { link, chain, from, facts } => self.offered_range(link, &chain, from, facts),
                SyncOutput::Settle => self.settle(),
                SyncOutput::Far { link, scope } => self.far(link, scope),
                SyncOutput::OfferEvidence { link, evidence } => self.offered_evidence(link, *evidence),
                SyncOutput::Close { link, code } => {
                    let detail = format!("sync: {code}");
                    self.close(link, detail);
                }
                SyncOutput::Timer { at_ms } => self.sync_at_ms = Some(at_ms),
            }
        }
    }

    /// Tells others of a fact. Its record was put out before, so it is durable before the frames leave.
    pub(crate) fn spread(&mut self, fact: &Arc<Fact>, source: Option<LinkId>) {
        self.sync(SyncInput::Spread { id: fact.id(), source });
    }

    /// Everything that follows from what is known now. Runs after each input until nothing new follows.
    pub(crate) fn drive(&mut self) {
        let now_ms = self.now.boottime_ms;
        if self.sync_at_ms.is_some_and(|at| at <= now_ms) {
            self.sync_at_ms = None;
            self.sync(SyncInput::Tick);
        }
        self.confirm();
        self.tend_bases();
        self.dirty |= self.deadline_at_ms.is_some_and(|at| at <= now_ms);
        self.dirty |= self.hold.wake_ms().is_some_and(|at| at <= now_ms);
        self.dirty |= self.seals.is_due(now_ms);
        self.dirty |= self.work.versions.wake_ms().is_some_and(|at| at <= now_ms);
        // Each round may write facts that make others possible; governance is a finite ladder, so this ends.
        while std::mem::take(&mut self.dirty) {
            if self.authority.index() != self.seen_index {
                self.seen_index = self.authority.index();
                // A restriction may have come before the entry that makes its signer count.
                self.suspend();
                self.authority_changed();
            }
            if std::mem::take(&mut self.links_dirty) {
                self.authority_changed();
            }
            self.tend_documents();
            self.seal();
            self.send_work();
            self.tend_budgets();
            self.tend_rights();
            self.look_at_budgets();
            self.hold();
            self.acknowledge();
            self.tend_ownership();
            self.write_issued();
            self.load_policy();
            self.report();
            self.resume_absent();
            self.tend_sagas();
            self.tend_aftermath();
            self.coordinate();
            self.open_glass();
            self.tend_needs();
            self.own();
            self.deadline_at_ms = self.next_deadline();
        }
        self.pack();
        self.tend_near();
        self.keep_lease();
        self.keep_time();
        self.keep_skews();
        self.flow();
        self.tell_attention();
        self.tell_state();
        self.set_timer();
    }

    /// Has a peer seen more of this node's chains than it has itself?
    fn confirm(&mut self) {
        let spoke = self.spoke.take();
        if self.life.is_confirmed() {
            // Nobody is left to be asked; but whoever has just spoken may claim more.
            if spoke.and_then(|link| self.claims_more(link)) == Some(true) {
                self.life.claimed(self.now.boottime_ms);
                self.rights_confirmed &= self.life.is_confirmed();
            }
            return;
        }
        let sequencer = self.authority.sequencer().author.author_id();
        let mut beyond = false;
        let mut asked: BTreeSet<&Scope> = BTreeSet::new();
        // Whoever has only just heard of a new life cannot know whether it was used: the sequencer that began it may.
        // The sequencer's own new life is the council's word, and nobody else began it.
        let mut knows_life = !self.new_life || self.is_sequencer();
        for (link, peer) in &self.links {
            if let Some(more) = self.claims_more(*link) {
                knows_life |= peer.author == sequencer;
                beyond |= more;
                asked.extend(&peer.shared);
            }
        }
        // Rights lie in the mesh alone, which everybody shares.
        let vouched = self.rights_confirmed || (knows_life && asked.contains(&Scope::mesh()));
        self.rights_confirmed = !beyond && vouched;
        // A peer vouches only for what it reads itself: each scope needs somebody who shares it.
        if beyond {
            self.life.claimed(self.now.boottime_ms);
        } else if knows_life && self.readable().iter().all(|scope| asked.contains(scope)) {
            self.dirty |= self.life.vouched();
        }
        self.dirty |= self.life.tick(self.now.boottime_ms);
        if self.life.caught_up(beyond, self.now.boottime_ms) {
            self.ask_for_incarnation();
        }
    }

    /// Whether the peer claims to hold more of this node's own chains than the store, or others; none before it has announced
    /// everything, or when nothing is shared.
    fn claims_more(&self, link: LinkId) -> Option<bool> {
        let shared = self.links.get(&link).map(|p| &p.shared).filter(|shared| !shared.is_empty())?;
        let mut more = false;
        for scope in shared {
            let chain = ChainId { scope: scope.clone(), author: self.me, incarnation: self.incarnation };
            more |= self.sync.shows_more(&self.log, link, &chain)?;
        }
        Some(more)
    }

    /// Everything of the old life is here: asks the sequencer to end it there and begin the next.
    fn ask_for_incarnation(&mut self) {
        let sequencer = self.authority.sequencer().author.author_id();
        if self.work.incarnate_at_ms > self.now.boottime_ms {
            return;
        }
        self.work.incarnate_at_ms = self.now.boottime_ms + INCARNATE_EVERY_MS;
        let Some(link) = self.links.iter().find(|(_, p)| p.author == sequencer && p.converses()).map(|(l, _)| *l)
        else {
            return;
        };
        let mesh = self.authority.mesh();
        let ends = self.readable().into_iter().filter_map(|scope| self.own_end(scope)).collect();
        let incarnate = Incarnate::new(&mesh, &self.key, self.incarnation + 1, ends);
        self.send(link, &Frame::IncarnateAsk(incarnate));
    }

    fn own_end(&self, scope: Scope) -> Option<ChainEnd> {
        let chain = ChainId { scope: scope.clone(), author: self.me, incarnation: self.incarnation };
        let head = self.log.head(&chain)?;
        Some(ChainEnd { scope, seq: head.seq, id: Some(head.id) })
    }

    fn incarnate_asked(&mut self, link: LinkId, incarnate: Incarnate) {
        let Some(author) = self.links.get(&link).map(|p| p.author) else { return };
        let mesh = self.authority.mesh();
        // Each entry costs every node a little for ever: one a minute, and no more than its author may read.
        let last_ms = self.work.incarnated_ms.get(&author).copied();
        if last_ms.is_some_and(|ms| self.now.boottime_ms < ms + INCARNATE_MIN_MS) || !self.ends_are_modest(&incarnate) {
            *self.refused.entry("incarnate".into()).or_default() += 1;
            return;
        }
        let fits = self.authority.member(&author).is_some_and(|m| {
            incarnate.author == author && incarnate.incarnation == m.incarnation + 1 && incarnate.proven(&mesh, &m.key)
        });
        if self.is_sequencer() && fits {
            // A refusal is the sequencer's own state (confirming); the node asks again.
            if self.write_entry(&Entry::Incarnate(incarnate)).is_ok() {
                self.work.incarnated_ms.insert(author, self.now.boottime_ms);
            }
        }
    }

    /// Names each scope at most once, and only scopes that the author may read.
    fn ends_are_modest(&self, incarnate: &Incarnate) -> bool {
        let scopes: BTreeSet<&Scope> = incarnate.ends.iter().map(|end| &end.scope).collect();
        scopes.len() == incarnate.ends.len() && scopes.iter().all(|s| self.authority.may_read(&incarnate.author, s))
    }

    /// Writes an entry that needs nobody's signature but the sequencer's.
    pub(crate) fn write_entry(&mut self, entry: &Entry) -> Result<Arc<Fact>, crate::Refusal> {
        let body = EntryBody::new(self.authority.head(), self.authority.index() + 1, entry);
        self.append(Scope::authority(), KIND_ENTRY, vec![], to_cbor(&body), None)
    }

    /// A new incarnation of this node is in the chain: the old life is over, the new one is confirmed like any start.
    pub(crate) fn become_incarnation(&mut self) {
        let Some(incarnation) = self.authority.member(&self.me).map(|m| m.incarnation) else { return };
        if incarnation != self.incarnation {
            let taken_back = incarnation < self.incarnation;
            self.incarnation = incarnation;
            self.docs.set_author(&self.me, incarnation);
            self.dirty = true;
            // Not taken on trust either: a store older than this entry may have used the new life already.
            if self.opened {
                self.life = crate::life::Life::at_start(true, self.now.boottime_ms);
                (self.new_life, self.rights_confirmed) = (true, false);
                // A term took the entry out of the chain that had ended this life: it was proven behind, and is again.
                if taken_back {
                    self.life.proven_behind(self.now.boottime_ms);
                }
            }
        }
    }

    fn tell_state(&mut self) {
        let (state, reason) = self.state();
        if state != self.state_told {
            self.state_told = state;
            self.tell(Event::State { state, reason });
        }
    }

    pub(crate) fn set_timer(&mut self) {
        let mut timers: Vec<(u64, Timer)> = vec![(self.work.lease_at_ms, Timer::Lease)];
        timers.extend((!self.wall_is_known()).then_some((self.vouching.at_ms, Timer::Time)));
        timers.push((self.skews_at_ms, Timer::Time));
        timers.push((self.near.wake_ms(), Timer::Presence));
        timers.extend(self.flow.wake_ms().map(|at| (at, Timer::Budget)));
        timers.extend(self.sync_at_ms.map(|at| (at, Timer::Sync)));
        timers.extend(self.bases.wake_ms().map(|at| (at, Timer::Sync)));
        timers.extend(self.deadline_at_ms.map(|at| (at, Timer::Expiry)));
        timers.extend(self.work.versions.wake_ms().map(|at| (at, Timer::Connector)));
        timers.extend(self.packing.wake_ms().map(|at| (at, Timer::Pack)));
        let speaks = [self.hold.wake_ms(), self.seals.wake_ms(self.now.boottime_ms)].into_iter().flatten().min();
        timers.extend(speaks.filter(|_| self.may_write().is_ok()).map(|at| (at, Timer::Hold)));
        timers.extend(self.life.wake_ms().map(|at| (at.max(self.work.incarnate_at_ms), Timer::Confirm)));
        let soonest = timers.into_iter().min();
        self.until = soonest.map(|(at, timer)| (at.max(self.now.boottime_ms + 1), timer));
    }
}

#[cfg(test)]
mod tests {
    use cauldron_coordinator::testkit::World;

    use crate::testing::lyon;
    use crate::{Input, Output};

    #[test]
    fn a_quiet_peer_is_seen_when_it_is_heard_and_never_later_than_now() {
        let world = World::new();
        let mut core = lyon(&world);
        let (author, member) =
            core.authority.members().find(|(a, _)| **a != core.me).map(|(a, m)| (*a, m.clone())).expect("a peer");
        let seen = |core: &crate::NodeCore, now| {
            let view = core.peers_view(now).into_iter().find(|p| p.author == author.to_string()).expect("its line");
            view.seen.map(|seen| (seen.as_of.0, seen.age_ms))
        };
        let mut now = world.clock;
        core.handle(now, Input::LinkUp { link: 1, spiffe_id: member.spiffe_id.clone(), author: member.key });
        while !matches!(core.poll(), Output::Idle { .. }) {}
        let up_ms = now.wall_ms;
        assert_eq!(seen(&core, now), Some((up_ms, 0)));
        now.wall_ms += 9_000;
        core.handle(now, Input::Heard { links: vec![1, 2], at_ms: up_ms + 8_000 });
        assert_eq!(seen(&core, now), Some((up_ms + 8_000, 1_000)));
        core.handle(now, Input::Heard { links: vec![1], at_ms: up_ms + 7_000 });
        assert_eq!(seen(&core, now), Some((up_ms + 8_000, 1_000)), "older news changes nothing");
        core.handle(now, Input::Heard { links: vec![1], at_ms: u64::MAX });
        assert_eq!(seen(&core, now), Some((up_ms + 9_000, 0)), "nothing is heard in the future");
        core.handle(now, Input::LinkDown { link: 1 });
        while !matches!(core.poll(), Output::Idle { .. }) {}
        core.handle(now, Input::Heard { links: vec![1], at_ms: now.wall_ms + 5 });
        now.wall_ms += 5;
        assert_eq!(seen(&core, now), Some((up_ms + 9_000, 5)), "a link that is gone is heard no more");
    }
}
