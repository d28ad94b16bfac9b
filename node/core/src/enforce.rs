//! Suspensions and cuts as this node enforces them, and who else says so.
//!
//! Whoever holds one closes the author's connections and takes no new one. That it does, each node says in a `held` fact: for
//! a cut by the head of the authority chain, for a suspension by its id, in the realm that carries it.

use std::collections::BTreeSet;

use cauldron_coordinator::bodies::{Order, Target};
use cauldron_identity::authority::{Cut, Entry, Held, KIND_HELD};
use cauldron_identity::codec::to_cbor;
use cauldron_identity::{AuthorId, Clock, FactId, Realm, Scope};

use crate::core::NodeCore;
use crate::view::{RestrictionView, Time, Waiting};

/// Suspensions named in one `held` fact; more follow in the next.
const NAMED_MAX: usize = 64;

impl NodeCore {
    /// Says which suspensions this node has come to enforce.
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

    /// Suspensions that this node holds and has not said so of, by the scope in which it will.
    fn unsaid(&self) -> Vec<(Scope, Vec<FactId>)> {
        let said = self.said_by(&self.me);
        let mut unsaid: Vec<(Scope, Vec<FactId>)> = Vec::new();
        for (restriction, order) in self.ledger.restrictions(&self.authority) {
            let suspends = matches!(order.target, Target::Author(..));
            let Some(scope) = data_scope(restriction.header.scope.realm()).filter(|_| suspends) else { continue };
            if said.contains(&restriction.id) {
                continue;
            }
            match unsaid.iter_mut().find(|(of, ids)| *of == scope && ids.len() < NAMED_MAX) {
                Some((_, ids)) => ids.push(restriction.id),
                None => unsaid.push((scope, vec![restriction.id])),
            }
        }
        unsaid
    }

    /// Suspensions of which an author says that it enforces them.
    fn said_by(&self, author: &AuthorId) -> BTreeSet<FactId> {
        self.acknowledged.get(author).cloned().unwrap_or_default()
    }

    /// Takes in what an author says that it enforces.
    pub(crate) fn heard_held(&mut self, fact: &cauldron_identity::Fact) {
        let Ok(held) = fact.decode_body::<Held>() else { return };
        if !held.suspensions.is_empty() {
            self.acknowledged.entry(fact.header().author).or_default().extend(held.suspensions);
        }
        if let Some(trust) = held.trust {
            self.roots.heard_trust(fact, trust);
        }
    }

    /// Every restriction and cut that this node holds, with who says to enforce it, newest first.
    #[must_use]
    pub fn restrictions_view(&self, now: Clock) -> Vec<RestrictionView> {
        let ordered = self.ledger.restrictions(&self.authority).map(|(r, order)| {
            let suspends = matches!(order.target, Target::Author(..)).then_some(r.id);
            let (kind, target) = self.words(&order.target);
            let waiting = suspends.map(|id| {
                let holds = |author: &AuthorId| self.said_by(author).contains(&id);
                self.waiting(now, r.header.scope.realm(), order_target(&order), holds)
            });
            self.restriction(r.id, kind, target, r.header.scope.to_string(), &order, waiting)
        });
        let mut views: Vec<RestrictionView> = ordered.collect();
        views.sort_by_key(|view| std::cmp::Reverse(view.issued.map(|t| t.0)));
        self.cuts(now).into_iter().chain(views).collect()
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
        let enforced = index.map(|index| {
            let holds = |author: &AuthorId| *author == writes || self.authority.holds(author) >= index;
            self.waiting(now, &Realm::Mesh, Some(*author), holds)
        });
        let of = enforced.as_ref().map(|(of, _)| *of);
        let waiting = enforced.map(|(_, waiting)| waiting).unwrap_or_default();
        RestrictionView {
            id: id.to_string(),
            kind: "cut",
            target: self.name_of(author),
            scope: Scope::authority().to_string(),
            by,
            reason,
            issued: None,
            of,
            enforced_by: of.map(|of| of - waiting.len()),
            waiting,
        }
    }

    fn restriction(
        &self,
        id: FactId,
        kind: &'static str,
        target: String,
        scope: String,
        order: &Order,
        enforced: Option<(usize, Vec<Waiting>)>,
    ) -> RestrictionView {
        let of = enforced.as_ref().map(|(of, _)| *of);
        let waiting = enforced.map(|(_, waiting)| waiting).unwrap_or_default();
        RestrictionView {
            id: id.to_string(),
            kind,
            target,
            scope,
            by: order.by.clone(),
            reason: order.reason.clone(),
            issued: Some(Time(order.issued_ms)),
            of,
            enforced_by: of.map(|of| of - waiting.len()),
            waiting,
        }
    }

    /// How many must enforce it, and who has not said so yet: readers of the realm in good standing, but the target.
    pub(crate) fn waiting(
        &self,
        now: Clock,
        realm: &Realm,
        target: Option<AuthorId>,
        holds: impl Fn(&AuthorId) -> bool,
    ) -> (usize, Vec<Waiting>) {
        let Some(scope) = data_scope(realm) else { return (0, vec![]) };
        let asked =
            |a: &AuthorId| Some(*a) != target && self.authority.may_read(a, &scope) && !self.authority.is_suspended(a);
        let asked: Vec<_> = self.authority.members().filter(|(author, _)| asked(author)).collect();
        let waiting = asked.iter().filter(|(author, _)| **author != self.me && !holds(author));
        let waiting = waiting.map(|(author, member)| {
            let last_ms = self.last_seen_ms.get(*author).copied();
            let seen = last_ms.map(|ms| self.seen(now, ms, self.spiffe_id.to_string(), "direct"));
            Waiting { spiffe_id: member.spiffe_id.to_string(), seen }
        });
        (asked.len(), waiting.collect())
    }

    fn words(&self, target: &Target) -> (&'static str, String) {
        match target {
            Target::Lineage(lineage) => ("veto", lineage.to_string()),
            Target::ActionClass(class) => ("kill-class", class.clone()),
            Target::Agent(agent) => ("kill-agent", agent.clone()),
            Target::Site(site) => ("kill-site", site.clone()),
            Target::All => ("kill-all", "everything".into()),
            Target::Author(author, _) => ("suspend", self.name_of(author)),
        }
    }

    pub(crate) fn name_of(&self, author: &AuthorId) -> String {
        self.authority.member(author).map_or_else(|| author.to_string(), |m| m.spiffe_id.to_string())
    }
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
