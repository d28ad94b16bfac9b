//! A site that is alone for days: what the council granted it before, what its people do, and what the others do meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use cauldron_coordinator::bodies::{
    BrokenGlass, Order, Permit, Proposal, Restriction, Review, ReviewStatement, SiteLift, SiteLiftStatement, Started,
    Target,
};
use cauldron_coordinator::vote::Choice;
use cauldron_crdt::escrow::{Budget, Life};
use cauldron_identity::authority::{Credential, Entry, EntryBody, KIND_ENTRY};
use cauldron_identity::isolation::{BreakGlass, IsolationGrant, token_digest};
use cauldron_identity::{AuthorId, AuthorKey, Digest, FactId};
use cauldron_node_core::{BudgetAct, Command};

use super::people::Odd;
use super::{Asked, HQ, Happening, World};
use crate::clock::EPOCH_MS;
use crate::facts::of_kind;
use crate::founding::{BLOCKS, DUTY};
use crate::network::Place;
use crate::queue::Ms;
use crate::reached;
use crate::weather::Alone;

/// Between two things that the council signs.
const SIGN_MS: Ms = 1_500;
/// A leap towards the end of a horizon ends so long before it.
const BEFORE_THE_END_MS: Ms = 12_000;
/// Tokens are good for so long: all of a world.
const TOKENS_MS: Ms = 90 * 86_400_000;

/// Steps of an isolation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The council signs what sites lack of grants and tokens.
    Sign,
    /// hq hands rights to the site.
    Stock,
    /// The site is cut off.
    Part,
    /// Days pass; towards the end of a horizon, where there is one in reach.
    Leap {
        /// How long, at most.
        ms: Ms,
    },
    /// Agents of the site propose.
    Propose,
    /// Two of the site's own people look at all that waits for them there.
    Approve,
    /// Somebody uses a token.
    Glass,
    /// Somebody looks at a use of one.
    Review {
        /// Where.
        place: Place,
        /// Which.
        used: FactId,
    },
    /// One of the site's own people stops something.
    Stop,
    /// One of them lifts it.
    Lift {
        /// Who.
        person: usize,
    },
    /// The council takes the grant back; what is alone then does not hear of it.
    TakeBack,
    /// Somebody cuts one of the site's nodes.
    Cut,
}

/// What the council gave, and who is alone.
#[derive(Debug, Default)]
pub(crate) struct Isolation {
    /// Time leapt over and not yet accounted for.
    pub(crate) leapt_ms: Ms,
    /// Which site will be cut off, and is.
    site: String,
    island: BTreeSet<Place>,
    until: Ms,
    since: Ms,
    taken_back: BTreeSet<String>,
    /// Sealed tokens: in which life of which machine each is good, and its secret.
    tokens: Vec<(Place, u32, [u8; 32])>,
    /// What people of the site ordered.
    pub(crate) orders: Vec<Order>,
}

impl World {
    /// Plans the isolation of one site, where there is one in this world.
    pub(crate) fn schedule_alone(&mut self) {
        let Some(alone) = self.weather.alone else { return };
        let span = self.weather.turbulence_ms;
        let at_sites: Vec<Place> = self.at_sites().collect();
        let Some(place) = self.rng.pick(&at_sites).copied() else { return };
        self.alone.site = self.machines[place].site.clone().unwrap_or_default();
        self.queue.at(7_000, Happening::Alone(Step::Sign));
        let part = self.rng.between(span / 4, span / 3);
        self.queue.at(part - 8_000, Happening::Alone(Step::Stock));
        self.queue.at(part, Happening::Alone(Step::Part));
        if alone.taken_early {
            self.queue.at(part - 6_000, Happening::Alone(Step::TakeBack));
        }
        if alone.tokens > 0 {
            let at = self.rng.between(part - 5_000, span);
            self.queue.at(at, Happening::Alone(Step::Glass));
        }
    }

    /// Whether a machine belongs to a site that is cut off now.
    pub(crate) fn is_alone(&self, place: Place) -> bool {
        self.alone.island.contains(&place) && self.alone.until > self.now()
    }

    pub(crate) fn step_alone(&mut self, step: Step) {
        let Some(alone) = self.weather.alone.filter(|_| !self.calm) else { return };
        match step {
            Step::Sign => self.sign_for_sites(&alone),
            Step::Stock => self.stock(),
            Step::Part => self.leave_alone(&alone),
            Step::Leap { ms } => self.leap_ahead(&alone, ms),
            Step::Propose => self.propose_alone(),
            Step::Approve => self.approve_alone(),
            Step::Glass => self.break_glass(),
            Step::Review { place, used } => self.review(place, used),
            Step::Stop => self.stop_at_site(),
            Step::Lift { person } => self.lift_at_site(person),
            Step::TakeBack => {
                self.alone.taken_back.insert(self.alone.site.clone());
                self.queue.after(0, Happening::Alone(Step::Sign));
            }
            Step::Cut => {
                let island: Vec<Place> = self.alone.island.iter().copied().collect();
                if let Some(place) = self.rng.pick(&island).copied() {
                    self.cut_author(place);
                }
            }
        }
    }

    fn after_alone(&mut self, delay: Ms, step: Step) {
        self.queue.after(delay, Happening::Alone(step));
    }

    /// What the council wants a site to have.
    fn wanted(&self, alone: &Alone, site: &str) -> IsolationGrant {
        let nodes = self.machines.iter().filter(|m| m.site.as_deref() == Some(site));
        let acting: Vec<String> = nodes.map(|m| m.spiffe_id.to_string()).collect();
        let acting = if alone.all_act { acting } else { acting.into_iter().take(1).collect() };
        let gone = self.alone.taken_back.contains(site);
        IsolationGrant {
            site: site.to_owned(),
            acting: if gone { vec![] } else { acting },
            horizon: alone.horizon,
            groups: vec![DUTY.to_owned()],
            escrow: if alone.escrow { vec![Budget::new(BLOCKS).expect("a name")] } else { vec![] },
            lift: alone.lift,
        }
    }

    /// One entry at a time: the next needs the head that this one makes.
    fn sign_for_sites(&mut self, alone: &Alone) {
        self.after_alone(SIGN_MS, Step::Sign);
        let sites: BTreeSet<String> = self.machines.iter().filter_map(|m| m.site.clone()).collect();
        let Some(authority) = self.machines[HQ].core.as_ref().map(cauldron_node_core::NodeCore::authority) else {
            return;
        };
        let enrolled = |site: &String| {
            let mut nodes = self.machines.iter().filter(|m| m.site.as_ref() == Some(site));
            nodes.all(|m| authority.member(&m.author).is_some())
        };
        // In the chain, in effect or not yet: where nobody else hears of it, it stays without effect.
        let mut signed: BTreeMap<(String, AuthorId, u32), (u64, Entry)> = BTreeMap::new();
        for (_, body) in of_kind::<EntryBody>(&self.machines[HQ].known, KIND_ENTRY) {
            let Ok(entry) = body.entry() else { continue };
            let about = match &entry {
                Entry::Isolation(grant) => (grant.site.clone(), self.machines[HQ].author, 0),
                Entry::BreakGlass(tokens) => (String::new(), tokens.holder.author, tokens.holder.incarnation),
                _ => continue,
            };
            let newest = signed.entry(about).or_insert((body.index, entry.clone()));
            if newest.0 <= body.index {
                *newest = (body.index, entry);
            }
        }
        let lacks = |site: &String| {
            let wanted = self.wanted(alone, site);
            match signed.get(&(site.clone(), self.machines[HQ].author, 0)) {
                Some((_, Entry::Isolation(grant))) => *grant != wanted,
                _ => !wanted.is_withdrawn(),
            }
        };
        if let Some(site) = sites.iter().find(|site| enrolled(site) && lacks(site)) {
            let grant = self.wanted(alone, site);
            if grant.is_withdrawn() && self.alone.island.iter().all(|p| self.is_alone(*p)) {
                reached!(self, "alone.taken_back_unheard");
            }
            self.council_entry(&Entry::Isolation(grant));
            return;
        }
        let life = |place: Place| {
            let author = self.machines[place].author;
            let member = authority.member(&author)?;
            let gone = authority.is_cut(&author, member.incarnation);
            let has = signed.contains_key(&(String::new(), author, member.incarnation));
            (!gone && !has && alone.tokens > 0).then_some((place, member.incarnation))
        };
        let due = self.at_sites().find_map(life);
        let Some((place, incarnation)) = due else { return };
        let secrets: Vec<[u8; 32]> = (0..alone.tokens).map(|_| self.rng.bytes()).collect();
        let mut digests: Vec<Digest> =
            secrets.iter().map(|secret| token_digest(&AuthorKey::from_seed(secret).public())).collect();
        digests.sort();
        let m = &self.machines[place];
        let tokens = BreakGlass {
            site: m.site.clone().unwrap_or_default(),
            holder: Life { author: m.author, incarnation },
            digests,
            expires_ms: EPOCH_MS + TOKENS_MS,
        };
        self.alone.tokens.extend(secrets.into_iter().map(|secret| (place, incarnation, secret)));
        self.council_entry(&Entry::BreakGlass(tokens));
    }

    /// What the site may draw on while it is alone has to be there before.
    fn stock(&mut self) {
        let (Some(takes), true) = (self.weather.takes, self.machines[HQ].is_up()) else { return };
        let owners: Vec<Place> =
            self.at_sites().filter(|p| self.machines[*p].site.as_ref() == Some(&self.alone.site)).collect();
        let amount = (takes.limit / (owners.len() as u64 + 1)).max(1);
        for place in owners {
            let budget = Budget::new(BLOCKS).expect("a name");
            let act = BudgetAct::Grant { budget, window: None, amount, to: self.machines[place].author };
            self.ask(HQ, Command::Budget(act), Asked::Rights);
        }
    }

    /// The site is cut off until shortly before the calm, and most of that time is leapt over.
    fn leave_alone(&mut self, alone: &Alone) {
        let span = self.weather.turbulence_ms;
        let lasts = span.saturating_sub(self.now()).saturating_mul(self.rng.between(60, 85)) / 100;
        self.alone.island =
            self.at_sites().filter(|p| self.machines[*p].site.as_ref() == Some(&self.alone.site)).collect();
        let island = self.alone.island.clone();
        (self.alone.since, self.alone.until) = (self.now(), self.now() + lasts);
        self.cut_off(&island, lasts);
        self.after_alone(2_000, Step::Propose);
        let part = lasts / (alone.leaps + 1);
        for n in 1..=alone.leaps {
            let ms = alone.apart_ms / alone.leaps;
            self.after_alone(part * n, Step::Leap { ms });
            self.after_alone(part * n + 500, Step::Propose);
            if alone.tokens > 0 {
                let at = self.rng.between(1_500, 4_000);
                self.after_alone(part * n + at, Step::Glass);
                self.after_alone(part * n + at + 1_500, Step::Glass);
            }
        }
        if alone.lift > 0 || self.rng.percent(20) {
            self.after_alone(part + 1_000, Step::Stop);
        }
        if alone.taken_back {
            self.after_alone(part / 2, Step::TakeBack);
        }
        if alone.cut {
            self.after_alone(part / 2, Step::Cut);
        }
    }

    /// Days pass, in which everything sleeps. Where the site's grant ends in them, mostly they end shortly before it does.
    fn leap_ahead(&mut self, alone: &Alone, ms: Ms) {
        let horizons = [alone.horizon.r1_ms, alone.horizon.r2_ms];
        let horizon = *self.rng.pick(&horizons).unwrap_or(&0);
        let towards = self.rng.percent(60);
        let fresh_at = self.alone.island.iter().map(|p| self.machines[*p].fresh_at).max().unwrap_or(0);
        let to_the_end = (fresh_at + horizon).checked_sub(self.now() + BEFORE_THE_END_MS);
        let ms = to_the_end.filter(|end| towards && *end < ms).unwrap_or(ms);
        self.trace.note(self.queue.now(), "world", "leaps", &ms.to_be_bytes(), || format!("{ms} ms"));
        for link in self.network.links() {
            let Some([a, b]) = self.network.session(link).map(|s| s.ends) else { continue };
            if !self.network.is_open(a, b) {
                self.end_session(link);
            }
        }
        self.queue.leap(ms);
        self.alone.leapt_ms += ms;
        self.alone.until += ms;
        let now = self.queue.now();
        if now.saturating_sub(self.alone.since) > 7 * 86_400_000 {
            reached!(self, "alone.for_a_week");
        }
        for place in 0..self.machines.len() {
            let m = &mut self.machines[place];
            if m.is_up() && !m.frozen {
                m.wake_at = Some(now);
                let process = m.process;
                self.queue.at(now, Happening::Tick { place, process });
            }
        }
    }

    fn propose_alone(&mut self) {
        for delay in [2_500, 5_000, 9_000, 16_000] {
            self.after_alone(delay, Step::Approve);
        }
        let up: Vec<Place> = self.alone.island.iter().copied().filter(|p| self.machines[*p].is_up()).collect();
        for _ in 0..self.rng.between(2, 3) {
            let Some(place) = self.rng.pick(&up).copied() else { return };
            let intent = self.new_intent(place);
            self.propose_intent(place, &intent);
        }
    }

    fn approve_alone(&mut self) {
        let up: Vec<Place> = self.alone.island.iter().copied().filter(|p| self.machines[*p].is_up()).collect();
        let Some(place) = self.rng.pick(&up).copied() else { return };
        for person in 0..2 {
            for proposal in self.waiting_at(place, person) {
                if self.rng.percent(60) {
                    self.ballots.insert((person, proposal));
                    self.vote(place, person, proposal, Choice::Approve, Odd::Right);
                }
            }
        }
    }

    /// Proposals at a machine that its disk knows no start of, with their lineage.
    fn not_started(&self, place: Place) -> Vec<(FactId, FactId)> {
        let known = &self.machines[place].known;
        let started: BTreeSet<FactId> = of_kind::<Started>(known, "started").map(|(_, s)| s.proposal).collect();
        let of_site = |p: &Proposal| Some(&p.site) == self.machines[place].site.as_ref();
        let open = of_kind::<Proposal>(known, "proposal").filter(|(f, p)| !started.contains(&f.id) && of_site(p));
        open.map(|(f, p)| (f.id, p.lineage(f.id))).collect()
    }

    /// Somebody at a site opens an envelope. Now and then they use what is in it again, for something else or elsewhere.
    fn break_glass(&mut self) {
        let up: Vec<Place> = self.at_sites().filter(|p| self.machines[*p].is_up()).collect();
        let here: Vec<Place> = up.iter().copied().filter(|p| self.is_alone(*p)).collect();
        let Some(place) = self.rng.pick(if here.is_empty() { &up } else { &here }).copied() else { return };
        let site = self.machines[place].site.clone();
        let near: Vec<(Place, u32, [u8; 32])> =
            self.alone.tokens.iter().filter(|(at, ..)| self.machines[*at].site == site).copied().collect();
        let Some((owner, _, secret)) = self.rng.pick(&near).copied() else { return };
        let (key, mesh) = (AuthorKey::from_seed(&secret), self.founding.mesh);
        for _ in 0..self.rng.between(1, 3) {
            // Mostly for what the token is good for.
            let all = self.not_started(place);
            let its: Vec<(FactId, FactId)> = all.iter().copied().filter(|(id, _)| self.is_for(owner, *id)).collect();
            let open = if self.rng.percent(80) { its } else { all };
            let Some(of) = self.rng.pick(&open).copied() else { return };
            let used = BrokenGlass::new(&key, &mesh, of, "the pump runs dry", 0);
            self.note(place, "glass", of.0.as_bytes(), || of.0.short());
            self.ask(place, Command::BreakGlass(Box::new(used)), Asked::Glass);
        }
    }

    fn is_for(&self, owner: Place, proposal: FactId) -> bool {
        let m = &self.machines[owner];
        let mine = format!("{}/{}/", m.site.as_deref().unwrap_or_default(), m.name);
        let body = self.history.facts.get(&proposal).and_then(|f| f.body::<Proposal>());
        body.is_some_and(|p| p.resource.starts_with(&mine))
    }

    pub(crate) fn glass_broken(&mut self, place: Place, used: FactId) {
        reached!(self, "glass.broken");
        let delay = self.rng.between(1_000, 20_000);
        self.after_alone(delay, Step::Review { place, used });
    }

    fn review(&mut self, place: Place, used: FactId) {
        let (person, nonce) = (self.rng.index(self.founding.people.len()), Digest::from_bytes(self.rng.bytes()));
        let m = &self.machines[place];
        let Some(core) = m.core.as_ref() else { return };
        let voter = &self.founding.people[person];
        let statement = ReviewStatement {
            mesh: self.founding.mesh,
            person: voter.id.clone(),
            credential: Credential::of(voter.keys[0].public().into()).id(),
            authority_head: core.authority().head(),
            used,
            note: "right".into(),
            issued_ms: m.clock.wall(self.queue.now()),
            nonce,
        };
        let review = Review::sign(&statement, &voter.keys[0]);
        self.ask(place, Command::Review(Box::new(review)), Asked::Review);
    }

    /// One of the site's own people stops an agent; others lift that.
    fn stop_at_site(&mut self) {
        let up: Vec<Place> = self.alone.island.iter().copied().filter(|p| self.machines[*p].is_up()).collect();
        let Some(place) = self.rng.pick(&up).copied() else { return };
        let m = &self.machines[place];
        let order = Order {
            mesh: self.founding.mesh,
            target: Target::Agent(format!("{}/agent/sshd-bruteforce", m.spiffe_id)),
            by: self.founding.people[0].id.clone(),
            reason: "smoke in the hall".into(),
            issued_ms: m.clock.wall(self.queue.now()),
        };
        let restriction = Restriction::by_person(&order, &self.founding.people[0].keys[0]);
        self.alone.orders.push(order);
        self.ask(place, Command::Restrict(Box::new(restriction)), Asked::Restriction);
        for person in 0..2 {
            let delay = self.rng.between(2_000, 6_000);
            self.after_alone(delay, Step::Lift { person });
        }
        self.after_alone(7_000, Step::Propose);
    }

    fn lift_at_site(&mut self, person: usize) {
        let nonce = Digest::from_bytes(self.rng.bytes());
        let up: Vec<Place> = self.alone.island.iter().copied().filter(|p| self.machines[*p].is_up()).collect();
        let Some(place) = self.rng.pick(&up).copied() else { return };
        let m = &self.machines[place];
        let Some(core) = m.core.as_ref() else { return };
        let ordered = of_kind::<Restriction>(&m.known, "restriction");
        let ours: Vec<FactId> = ordered
            .filter(|(_, r)| r.order().is_ok_and(|order| self.alone.orders.contains(&order)))
            .map(|(f, _)| f.id)
            .collect();
        let Some(restriction) = ours.first().copied() else { return };
        let voter = &self.founding.people[person];
        let statement = SiteLiftStatement {
            mesh: self.founding.mesh,
            person: voter.id.clone(),
            credential: Credential::of(voter.keys[0].public().into()).id(),
            authority_head: core.authority().head(),
            restriction,
            reason: "it was toast".into(),
            issued_ms: m.clock.wall(self.queue.now()),
            nonce,
        };
        let lift = SiteLift::sign(&statement, &voter.keys[0]);
        self.ask(place, Command::SiteLift(Box::new(lift)), Asked::SiteLift);
    }

    /// The public half of each token that was ever sealed, by digest: whose it is.
    pub(crate) fn sealed_tokens(&self) -> BTreeMap<Digest, (Place, u32)> {
        let of = |(place, life, secret): &(Place, u32, [u8; 32])| {
            (token_digest(&AuthorKey::from_seed(secret).public()), (*place, *life))
        };
        self.alone.tokens.iter().map(of).collect()
    }

    /// The token on which a permit rests.
    pub(crate) fn token_of(&self, permit: &Permit) -> Option<Digest> {
        let used = self.history.facts.get(&permit.break_glass?)?.body::<BrokenGlass>()?;
        Some(used.digest())
    }
}
