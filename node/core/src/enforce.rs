//! Restrictions and cuts as this node enforces them, and who else says so.
//!
//! Whoever holds a kill or a veto starts nothing that it stops; whoever holds a suspension or a cut closes the author's connections and
//! takes no new one. That it does, each node says in a `held` fact: for a cut by the head of the authority chain, for a restriction by
//! its id, in the realm that carries it.

use std::collections::BTreeMap;

use cauldron_coordinator::bodies::{Order, Restriction, RiskClass, Target};
use cauldron_coordinator::ledger::Recorded;
use cauldron_identity::authority::{Cut, Entry, Held, KIND_HELD};
use cauldron_identity::codec::to_cbor;
use cauldron_identity::{AuthorId, Clock, FactId, Realm, Scope};

use crate::core::NodeCore;
use crate::halt::{CLASSES, Halt, classes_of};
use crate::view::{LiftedView, RestrictionView, SiteStopView, StopsView, Time, Waiting};

/// Restrictions named in one `held` fact; more follow in the next.
const NAMED_MAX: usize = 64;

impl NodeCore {
    /// Says which restrictions this node has come to enforce.
    pub(crate) fn acknowledge(&mut self) {
        let Some(head) = self.authority.head().filter(|_| self.may_write().is_ok()) else { return };
        for (scope, suspensions) in self.unsaid() {
            let held = Held { head, index: self.authority.index(), suspensions: suspensions.clone(), trust: None };
            let deps = if suspensions.len() <= cauldron_identity::fact::DEPS_MAX { suspensions } else { vec![] };
            if let Err(why) = self.append(scope, KIND_HELD, deps, to_cbor(&held), None) {
                return self.count_refusal(why.code, why.reason);
            }
        }
    }

    /// Restrictions in force that this life of the node holds and has not said so of, by the scope in which it will.
    fn unsaid(&self) -> Vec<(Scope, Vec<FactId>)> {
        let mut unsaid: Vec<(Scope, Vec<FactId>)> = Vec::new();
        for (restriction, _) in self.ledger.in_force(&self.authority).filter(|(_, o)| o.target.is_enforced()) {
            let Some(scope) = data_scope(restriction.header.scope.realm()) else { continue };
            if self.enforces_since(&self.me, &restriction.id).is_some() {
                continue;
            }
            match unsaid.iter_mut().find(|(of, ids)| *of == scope && ids.len() < NAMED_MAX) {
                Some((_, ids)) => ids.push(restriction.id),
                None => unsaid.push((scope, vec![restriction.id])),
            }
        }
        unsaid
    }

    /// Since when the present life of an author says that it enforces a restriction, milliseconds since the Unix epoch. What an
    /// earlier life said counts no more: whoever was restored may have lost it.
    fn enforces_since(&self, author: &AuthorId, restriction: &FactId) -> Option<u64> {
        let life = self.authority.member(author)?.incarnation;
        self.acknowledged.get(&(*author, life))?.get(restriction).copied()
    }

    /// Takes in what an author says that it enforces.
    pub(crate) fn heard_held(&mut self, fact: &cauldron_identity::Fact) {
        let Ok(held) = fact.decode_body::<Held>() else { return };
        let header = fact.header();
        if !held.suspensions.is_empty() {
            let said = self.acknowledged.entry((header.author, header.incarnation)).or_default();
            for id in held.suspensions {
                let first_ms = said.entry(id).or_insert(header.wall_ms());
                *first_ms = header.wall_ms().min(*first_ms);
            }
        }
        if let Some(trust) = held.trust {
            self.roots.heard_trust(fact, trust);
        }
    }

    /// Every restriction and cut that this node holds, with how far each has got, newest first.
    #[must_use]
    pub fn restrictions_view(&self, now: Clock) -> Vec<RestrictionView> {
        let ordered = self.ledger.restrictions(&self.authority).map(|(r, order)| self.restriction(now, r, &order));
        let mut views: Vec<RestrictionView> = ordered.collect();
        views.sort_by_key(|view| std::cmp::Reverse(view.issued.map(|t| t.0)));
        self.cuts(now).into_iter().chain(views).collect()
    }

    /// One of them, by its id or the first characters of that.
    ///
    /// # Errors
    /// A sentence.
    pub fn restriction_view(&self, now: Clock, id: &str) -> Result<RestrictionView, String> {
        let id = self.find(id)?.to_string();
        let found = self.restrictions_view(now).into_iter().find(|view| view.id == id);
        found.ok_or_else(|| format!("{id} restricts nothing; `cauldron restrictions` lists what does"))
    }

    /// For each site, what the restrictions in force have come to there.
    pub(crate) fn stops(&self, now: Clock) -> BTreeMap<String, StopsView> {
        let mut sites: BTreeMap<String, (Halt, usize)> = BTreeMap::new();
        for view in self.restrictions_view(now).into_iter().filter(|view| view.lifted.is_none()) {
            for site in view.sites {
                let halt = Halt { state: site.state, latest_ms: site.latest_by.map(|t| t.0) };
                let slot = sites.entry(site.site);
                slot.and_modify(|(all, n)| (*all, *n) = (all.clone().and(halt.clone()), *n + 1)).or_insert((halt, 1));
            }
        }
        let view = |(site, (halt, restrictions)): (String, (Halt, usize))| {
            (site, StopsView { state: halt.state, restrictions, latest_by: halt.latest_ms.map(Time) })
        };
        sites.into_iter().map(view).collect()
    }

    /// Every cut that counts: of the authority chain, by a term that named another sequencer, and beside the chain.
    fn cuts(&self, now: Clock) -> Vec<RestrictionView> {
        let mut cuts = Vec::new();
        let mut sequencer = self.authority.founding().sequencer.author.author_id();
        for (applied, index) in self.authority.entries().zip(1..).filter(|(applied, _)| applied.refused.is_none()) {
            let reason = format!("authority entry {index}");
            match &applied.entry {
                Some(Entry::Cut(cut)) => {
                    cuts.push(self.cut_view(now, applied.id, &cut.author, word(cut), reason, Some(index)));
                }
                Some(Entry::Term(term)) => {
                    let before = std::mem::replace(&mut sequencer, term.sequencer.author.author_id());
                    if before != sequencer {
                        let by = format!("term {} of the council", term.n);
                        cuts.push(self.cut_view(now, applied.id, &before, by, reason, Some(index)));
                    }
                }
                _ => {}
            }
        }
        let beside = self.authority.cuts_beside().map(|(id, beside)| {
            let reason = format!("beside the authority chain, which it left behind entry {}", beside.branch);
            self.cut_view(now, *id, &beside.cut.author, word(&beside.cut), reason, None)
        });
        cuts.extend(beside);
        cuts
    }

    /// Nodes say how far they hold the chain; what lies beside it they do not acknowledge.
    fn cut_view(
        &self,
        now: Clock,
        id: FactId,
        author: &AuthorId,
        by: String,
        reason: String,
        index: Option<u64>,
    ) -> RestrictionView {
        let writes = self.authority.sequencer().author.author_id();
        let written_ms =
            index.and_then(|i| self.authority.entries().nth(usize::try_from(i - 1).ok()?)).map(|a| a.at_ms);
        let enforces = |who: &AuthorId| match index {
            Some(_) if *who == writes => written_ms,
            Some(index) => self.authority.holds_since(who, index),
            None => None,
        };
        let reach = self.reach(now, &Realm::Mesh, Some(*author), &CLASSES, &enforces);
        let known = index.is_some();
        RestrictionView {
            id: id.to_string(),
            kind: "cut",
            target: self.name_of(author),
            scope: Scope::authority().to_string(),
            by,
            reason,
            issued: None,
            state: if known { reach.halt.state } else { "UNKNOWN" },
            latest_by: reach.halt.latest_ms.filter(|_| known).map(Time),
            of: known.then_some(reach.of),
            enforced_by: known.then(|| reach.of - reach.waiting.len()),
            waiting: if known { reach.waiting } else { vec![] },
            sites: if known { reach.sites } else { vec![] },
            lifted: None,
        }
    }

    fn restriction(&self, now: Clock, r: &Recorded<Restriction>, order: &Order) -> RestrictionView {
        let (kind, target) = self.words(&order.target);
        let enforces = |author: &AuthorId| self.enforces_since(author, &r.id);
        let classes = classes_of(self, &order.target);
        let reach = self.reach(now, r.header.scope.realm(), order_target(order), &classes, &enforces);
        let lifted = self.authority.lifted(&r.id).filter(|_| !order.target.is_final());
        let by_council = r.body.is_of_council(&self.authority);
        RestrictionView {
            id: r.id.to_string(),
            kind,
            target,
            scope: r.header.scope.to_string(),
            by: if by_council { "the council".into() } else { order.by.clone() },
            reason: order.reason.clone(),
            issued: Some(Time(order.issued_ms)),
            state: reach.halt.state,
            latest_by: reach.halt.latest_ms.map(Time),
            of: Some(reach.of),
            enforced_by: Some(reach.of - reach.waiting.len()),
            waiting: reach.waiting,
            sites: reach.sites,
            lifted: lifted.map(|l| LiftedView { entry: l.index, at: Time(l.at_ms), reason: l.reason.to_owned() }),
        }
    }

    /// How far something has got among the readers of a realm, and in each site. `target` is who it is about: until its own
    /// lease has ended, nothing is closed.
    fn reach(
        &self,
        now: Clock,
        realm: &Realm,
        target: Option<AuthorId>,
        classes: &[RiskClass],
        enforces: &dyn Fn(&AuthorId) -> Option<u64>,
    ) -> Reach {
        let holds = |author: &AuthorId| enforces(author).is_some();
        let (asked, mut waiting) = self.asked(now, realm, target, holds);
        let mut halt = self.halt(now, classes, &mut waiting, enforces);
        if let Some(target) = target {
            let ends_ms = self.ends_by(now, &target, classes, enforces);
            let over = ends_ms.is_some_and(|ms| ms <= now.wall_ms);
            halt = halt.and(Halt::of(if over { &[] } else { std::slice::from_ref(&ends_ms) }));
        }
        let mut sites = BTreeMap::<&str, (usize, Vec<Option<u64>>)>::new();
        for author in &asked {
            if let Some(site) = self.authority.member(author).and_then(|m| m.role.site()) {
                let (of, bounds) = sites.entry(site).or_default();
                *of += 1;
                bounds.extend(waiting.iter().find(|(w, _)| w == author).map(|(_, w)| w.latest_by.map(|t| t.0)));
            }
        }
        let site = |(site, (of, bounds)): (&str, (usize, Vec<Option<u64>>))| {
            let halt = Halt::of(&bounds);
            SiteStopView {
                site: site.to_owned(),
                state: halt.state,
                of,
                enforced_by: of - bounds.len(),
                latest_by: halt.latest_ms.map(Time),
            }
        };
        let sites = sites.into_iter().map(site).collect();
        Reach { of: asked.len(), halt, waiting: waiting.into_iter().map(|(_, w)| w).collect(), sites }
    }

    /// How many must do something, and who has not said so yet: readers of the realm in good standing, but the target.
    pub(crate) fn waiting(
        &self,
        now: Clock,
        realm: &Realm,
        target: Option<AuthorId>,
        holds: impl Fn(&AuthorId) -> bool,
    ) -> (usize, Vec<Waiting>) {
        let (asked, waiting) = self.asked(now, realm, target, holds);
        (asked.len(), waiting.into_iter().map(|(_, shown)| shown).collect())
    }

    fn asked(
        &self,
        now: Clock,
        realm: &Realm,
        target: Option<AuthorId>,
        holds: impl Fn(&AuthorId) -> bool,
    ) -> (Vec<AuthorId>, Vec<(AuthorId, Waiting)>) {
        let Some(scope) = data_scope(realm) else { return (vec![], vec![]) };
        let asked =
            |a: &AuthorId| Some(*a) != target && self.authority.may_read(a, &scope) && !self.authority.is_suspended(a);
        let asked: Vec<_> = self.authority.members().filter(|(author, _)| asked(author)).collect();
        let waiting = asked.iter().filter(|(author, _)| **author != self.me && !holds(author));
        let waiting = waiting.map(|(author, member)| {
            let last_ms = self.last_seen_ms.get(*author).copied();
            let seen = last_ms.map(|ms| self.seen(now, ms, self.spiffe_id.to_string(), "direct"));
            (**author, Waiting { spiffe_id: member.spiffe_id.to_string(), seen, latest_by: None })
        });
        let waiting = waiting.collect();
        (asked.into_iter().map(|(author, _)| *author).collect(), waiting)
    }

    fn words(&self, target: &Target) -> (&'static str, String) {
        match target {
            Target::Lineage(lineage) => ("veto", lineage.to_string()),
            Target::ActionClass(class) => ("kill-class", class.clone()),
            Target::Agent(agent) => ("kill-agent", agent.clone()),
            Target::Site(site) => ("kill-site", site.clone()),
            Target::All => ("kill-all", "everything".into()),
            Target::Author(author, _) => ("suspend", self.name_of(author)),
            Target::Feature(name) => ("stop-feature", name.clone()),
            Target::Build(build) => ("kill-build", build.to_string()),
        }
    }

    pub(crate) fn name_of(&self, author: &AuthorId) -> String {
        self.authority.member(author).map_or_else(|| author.to_string(), |m| m.spiffe_id.to_string())
    }
}

/// How far something has got.
struct Reach {
    of: usize,
    halt: Halt,
    waiting: Vec<Waiting>,
    sites: Vec<SiteStopView>,
}

/// Whose word a cut is.
fn word(cut: &Cut) -> String {
    if cut.fork.is_empty() { "the council".into() } else { "proof of a fork".into() }
}

fn order_target(order: &Order) -> Option<AuthorId> {
    match &order.target {
        Target::Author(author, _) => Some(*author),
        _ => None,
    }
}

/// Where the nodes of a realm speak to each other.
fn data_scope(realm: &Realm) -> Option<Scope> {
    match realm {
        Realm::Mesh => Some(Scope::mesh()),
        Realm::Site(site) => Scope::site(site).ok(),
    }
}
