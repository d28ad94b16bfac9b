//! Answers to questions: every view is computed from state, now, and none of it is stored.

use std::borrow::Cow;
use std::collections::BTreeMap;

use cauldron_coordinator::bodies::{Proposal, RiskClass};
use cauldron_coordinator::lease::age_ms_max;
use cauldron_coordinator::ledger::{Recorded, State, Status};
use cauldron_coordinator::signed::with_reason;
use cauldron_crdt::sync::SyncStats;
use cauldron_identity::authority::{Autonomy, ChainEnd, Entry, Fenced, Reassign};
use cauldron_identity::{Clock, FactId, Realm, Scope};

use crate::core::NodeCore;
use crate::enrol::{Believed, Have};
use crate::view::{
    AuthorityView, CredentialView, EntryView, ForkView, LeaseView, MemberView, PersonView, PolicyView, ScopeView, Seen,
    SelfView, SyncView, Time,
};

/// One thing that an agent proposed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentIntent {
    /// The proposal's intent key.
    pub intent_key: String,
    /// What it acts on inside its connector.
    pub object: String,
    /// Whether something still comes of it.
    pub busy: bool,
}

/// What a joining node must start with.
#[derive(Debug, Clone)]
pub struct Welcome {
    /// The founding charter.
    pub charter: cauldron_identity::SignedCharter,
    /// The authority chain behind what it has, as much as a reply carries.
    pub authority: Vec<cauldron_identity::SealedFact>,
    /// Whether there is more of it.
    pub more: bool,
    /// Terms of the council.
    pub terms: Vec<cauldron_identity::authority::EntryBody>,
    /// Whether the charter is no longer the founding one.
    pub amended: bool,
}

/// Half of what the enrol lane carries in a reply; the rest is room for charter, terms, chain and bundle.
const WELCOME_BYTES_MAX: usize = 128 * 1024;

/// The fewest characters of an id that may stand for the whole.
const PREFIX_LEN_MIN: usize = 4;

impl NodeCore {
    /// The W3C `traceparent` that a fact carries.
    #[must_use]
    pub fn traceparent_of(&self, fact: &FactId) -> Option<String> {
        self.log.get(fact)?.header().traceparent.clone()
    }

    pub(crate) fn seen(&self, now: Clock, as_of_ms: u64, observer: String, source: &'static str) -> Seen {
        Seen { as_of: Time(as_of_ms), observer, age_ms: now.wall_ms.saturating_sub(as_of_ms), source }
    }

    pub(crate) fn seen_here(&self, now: Clock) -> Seen {
        self.seen(now, now.wall_ms, self.spiffe_id.to_string(), "direct")
    }

    /// `/v1/self`.
    #[must_use]
    pub fn self_view(&self, now: Clock) -> SelfView {
        let (state, reason) = self.state();
        let mut reasons: Vec<String> = Some(reason).filter(|r| !r.is_empty()).into_iter().collect();
        if self.authority.member(&self.me).is_none() {
            reasons.push("this node's enrolment has not arrived here yet".into());
        }
        reasons.extend(self.policy.problem.clone());
        if now.confidence == cauldron_identity::Confidence::Unknown {
            reasons
                .push("this machine's clock disagrees with its own past; actions need a person's signed time".into());
        }
        let unreviewed = self.ledger.unreviewed(&self.authority).count();
        if unreviewed > 0 {
            reasons.push(format!(
                "somebody broke the glass {unreviewed} times, and nobody has looked at it: `cauldron break-glass list`"
            ));
        }
        let called = self.docket.calls().count();
        if called > 0 {
            reasons.push(format!("{called} actions need a person: `attention` says which, and what to do"));
        }
        reasons.extend(self.reason_of_coordinators(now));
        let ages = &self.authority.charter().class_ages;
        let classes = [("R0", RiskClass::R0), ("R1", RiskClass::R1), ("R2", RiskClass::R2), ("R3", RiskClass::R3)];
        let granted_by =
            self.lease.granted_by().and_then(|a| self.authority.member(&a)).map(|m| m.spiffe_id.to_string());
        let lease = LeaseView {
            age_ms: self.lease.age(&now).ms(),
            limit_ms: classes.into_iter().map(|(name, class)| (name, age_ms_max(class, ages))).collect(),
            granted_by,
        };
        SelfView {
            spiffe_id: self.spiffe_id.to_string(),
            site: self.role.site().map(str::to_owned),
            role: if self.coordinates() { "coordinator" } else { "node" },
            author: self.me.to_string(),
            incarnation: self.incarnation,
            mesh: self.authority.mesh().to_string(),
            state,
            reasons,
            lease: (!self.role.is_mesh_coordinator()).then_some(lease),
            isolation: self.isolation_view(now),
            break_glass: unreviewed as u64,
            attention: self.attention_view(),
            attention_counts: self.attention_counts(),
            policy: self.authority.policy().map(|p| p.activate.version),
            facts: self.log.len() as u64,
            future_facts: self.log.count_beyond(now.wall_ms.saturating_add(crate::hlc::AHEAD_MS_MAX)),
            refused: self.refused.clone(),
            seen: self.seen_here(now),
        }
    }

    pub(crate) fn standing_word(&self, author: &cauldron_identity::AuthorId) -> &'static str {
        let Some(member) = self.authority.member(author) else { return "unknown" };
        if self.authority.is_cut(author, member.incarnation) {
            "cut"
        } else if self.authority.is_suspended(author) {
            "suspended"
        } else if self.authority.in_effect(member.index) {
            "counts"
        } else {
            "pending"
        }
    }

    /// Hashes that must be equal at every node that shares the realm.
    #[must_use]
    pub fn sync_view(&self, now: Clock) -> SyncView {
        let scopes = self.log.scopes();
        let mut realms: BTreeMap<String, Vec<&Scope>> = BTreeMap::new();
        for scope in &scopes {
            let realm = match scope.realm() {
                Realm::Mesh => "mesh".to_owned(),
                Realm::Site(site) => format!("site/{site}"),
            };
            realms.entry(realm).or_default().push(scope);
        }
        let hash = |(realm, scopes): (String, Vec<&Scope>)| (realm, self.log.state_hash_of(scopes).to_string());
        let view = |scope: &Scope| ScopeView {
            scope: scope.to_string(),
            chains: self.log.vector(scope).len() as u64,
            facts: self.log.count_in(scope),
        };
        SyncView {
            state_hash: realms.into_iter().map(hash).collect(),
            scopes: scopes.iter().map(view).collect(),
            seen: self.seen_here(now),
        }
    }

    /// Counters of sync since the process started.
    #[must_use]
    pub fn sync_stats(&self) -> SyncStats {
        self.sync.stats()
    }

    /// Charter and authority chain.
    #[must_use]
    pub fn authority_view(&self, now: Clock) -> AuthorityView {
        let charter = self.authority.charter();
        let entries = self.authority.entries().enumerate().map(|(i, applied)| {
            let index = i as u64 + 1;
            EntryView {
                id: applied.id.to_string(),
                index,
                summary: applied.entry.as_ref().map_or_else(|| "an entry of a later version".into(), summary_of_entry),
                in_effect: self.authority.in_effect(index),
                refused: applied.refused.clone(),
            }
        });
        let members = self.authority.members().map(|(author, m)| MemberView {
            spiffe_id: m.spiffe_id.to_string(),
            author: author.to_string(),
            incarnation: m.incarnation,
            standing: self.standing_word(author),
        });
        let people = self.authority.people().into_iter().map(|p| PersonView {
            id: p.id.clone(),
            name: p.name.clone(),
            groups: p.groups.clone(),
            credentials: p.credentials.iter().map(credential_view).collect(),
        });
        AuthorityView {
            mesh: self.authority.mesh().to_string(),
            trust_domain: charter.trust_domain.clone(),
            council: charter.council.iter().map(ToString::to_string).collect(),
            threshold: charter.threshold,
            sequencer: self.authority.sequencer().spiffe_id.clone(),
            term: self.authority.term(),
            frozen: self.authority.frozen(),
            forks: self.forks(),
            head: self.authority.head().map(|h| h.to_string()),
            index: self.authority.index(),
            entries: entries.collect(),
            members: members.collect(),
            people: people.collect(),
            roots: self.roots_view(now),
            problems: self.authority_problems(),
            policy: self.authority.policy().map(|p| PolicyView {
                version: p.activate.version,
                bundle: p.activate.bundle.to_string(),
                digest: p.activate.digest.to_string(),
                loaded: self.policy.engine.is_some(),
            }),
        }
    }

    /// Every fork that this node holds evidence of: a clone, a restored store that wrote, or a liar.
    fn forks(&self) -> Vec<ForkView> {
        let scopes = self.log.scopes();
        let evidence = scopes.iter().flat_map(|scope| self.log.evidence(scope));
        let view = |evidence: &cauldron_crdt::Evidence| {
            let header = evidence.header()?;
            let member = self.authority.member(&header.author);
            Some(ForkView {
                author: member.map_or_else(|| header.author.to_string(), |m| m.spiffe_id.to_string()),
                incarnation: header.incarnation,
                scope: header.scope.to_string(),
                seq: header.seq,
                facts: evidence.ids().iter().map(ToString::to_string).collect(),
            })
        };
        evidence.filter_map(view).collect()
    }

    /// The authority chain as this node holds it.
    #[must_use]
    pub fn authority(&self) -> &cauldron_identity::Authority {
        &self.authority
    }

    /// The present life of this node.
    #[must_use]
    pub fn incarnation(&self) -> u32 {
        self.incarnation
    }

    /// The enrolled, uncut author that a person means by its SPIFFE ID or author id.
    #[must_use]
    pub fn member_named(&self, name: &str) -> Option<(cauldron_identity::AuthorId, cauldron_identity::SpiffeId)> {
        if let Ok(author) = name.parse() {
            return self.authority.member(&author).map(|m| (author, m.spiffe_id.clone()));
        }
        let id = cauldron_identity::SpiffeId::new(name).ok()?;
        self.authority.author_of(&id).map(|(author, _)| (*author, id))
    }

    /// Where authority is frozen: the last entry before the fork, which every node holds.
    #[must_use]
    pub fn common(&self) -> Option<(Option<FactId>, u64)> {
        let forked = self.authority.frozen()?;
        let sequencer = self.authority.sequencer().author.author_id();
        let incarnation = self.authority.member(&sequencer)?.incarnation;
        let scope = Scope::authority();
        let chain = cauldron_crdt::ChainId { scope, author: sequencer, incarnation };
        match self.log.id_at(&chain, forked.saturating_sub(1)) {
            Some(id) => Some((Some(id), self.authority.index_of(&id)?)),
            // The first entry of a term is forked: what the term itself built on.
            None => {
                let index = self.authority.term_begun();
                let term = usize::try_from(index).ok().and_then(|i| self.authority.entries().nth(i.checked_sub(1)?));
                Some((term.map(|applied| applied.id), index))
            }
        }
    }

    /// Where each chain of an author's present life ends, as far as this node reads it: what a `Suspend`, a `Cut` or a
    /// `Term` names.
    #[must_use]
    pub fn ends_of(&self, author: &cauldron_identity::AuthorId) -> Option<(u32, Vec<ChainEnd>)> {
        let incarnation = self.authority.member(author)?.incarnation;
        let end = |scope: Scope| {
            let chain = cauldron_crdt::ChainId { scope: scope.clone(), author: *author, incarnation };
            let head = self.log.head(&chain)?;
            Some(ChainEnd { scope, seq: head.seq, id: Some(head.id) })
        };
        Some((incarnation, self.readable().into_iter().filter_map(end).collect()))
    }

    /// The lineage of a proposal, or of whatever rests on one.
    #[must_use]
    pub fn lineage_of(&self, id: &FactId) -> Option<FactId> {
        if let Some(p) = self.ledger.proposal(id) {
            return Some(p.body.lineage(p.id));
        }
        if self.ledger.lineage(id).next().is_some() {
            return Some(*id);
        }
        let fact = self.log.get(id)?;
        fact.header().deps.iter().filter(|dep| *dep != id).find_map(|dep| self.lineage_of(dep))
    }

    /// The fact that `text` names: a whole id, or the first characters of exactly one.
    ///
    /// # Errors
    /// A sentence.
    pub fn find(&self, text: &str) -> Result<FactId, String> {
        if let Ok(id) = text.parse::<FactId>() {
            return Ok(id);
        }
        if text.len() < PREFIX_LEN_MIN || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(format!("{text:?} is no id; give at least its first {PREFIX_LEN_MIN} characters"));
        }
        let first = text.get(..2).and_then(|first| u8::from_str_radix(first, 16).ok());
        let near = self.log.rows().map(|row| row.id).filter(|id| id.as_bytes().first().copied() == first);
        let mut matches = near.filter(|id| id.to_string().starts_with(text));
        match (matches.next(), matches.next()) {
            (None, _) => Err(format!("no fact here begins with {text}")),
            (Some(id), None) => Ok(id),
            (Some(_), Some(_)) => Err(format!("several facts begin with {text}; give more characters")),
        }
    }

    /// What an agent of this node proposed within the last day: intent key, object, and whether something still comes of
    /// it (open, under way, or standing).
    #[must_use]
    pub fn agent_intents(&self, now: Clock, agent: &str) -> Vec<AgentIntent> {
        const DAY_MS: u64 = 24 * 60 * 60 * 1000;
        let agent = format!("{}/agent/{agent}", self.spiffe_id);
        let recent =
            |p: &&Recorded<Proposal>| p.body.agent == agent && p.body.created_ms.saturating_add(DAY_MS) >= now.wall_ms;
        let intent = |p: &Recorded<Proposal>| {
            let status = self.docket.status(&self.ledger, &self.authority, &p.id, now.wall_ms);
            let busy = |s: Cow<'_, Status>| {
                s.state.is_open() || (s.state.is_started() && !s.ended && s.state != State::Failed)
            };
            let object = p.body.resource.splitn(4, '/').nth(3).unwrap_or_default().to_owned();
            AgentIntent { intent_key: p.body.intent_key.clone(), object, busy: status.is_some_and(busy) }
        };
        self.ledger.proposals().filter(recent).map(intent).collect()
    }

    /// A value that the shell asked to be kept.
    #[must_use]
    pub fn note(&self, name: &str) -> Option<&[u8]> {
        self.notes.get(name).map(Vec::as_slice)
    }

    /// The charter, and what a joining node must start with: the chain in its own order, across authors, from where it has it.
    #[must_use]
    pub fn welcome(&self, have: Option<Have>) -> Welcome {
        let own = (self.authority.term(), self.authority.index());
        // Whoever has come further is not shown the past.
        let known = have
            .filter(|have| (have.term, have.index) >= own || self.authority.index_of(&have.head) == Some(have.index));
        let behind = usize::try_from(known.map_or(0, |have| have.index)).unwrap_or(usize::MAX);
        let (mut authority, mut bytes, mut more) = (Vec::new(), 0, false);
        for fact in self.authority.entries().skip(behind).filter_map(|applied| self.log.get(&applied.id)) {
            bytes += fact.sealed().wire_len();
            more = bytes > WELCOME_BYTES_MAX && !authority.is_empty();
            if more {
                break;
            }
            authority.push(fact.sealed().clone());
        }
        Welcome {
            charter: self.charter.clone(),
            authority,
            more,
            terms: self.authority.terms().map(|(_, body)| body.clone()).collect(),
            amended: self.authority.next_charter() != self.authority.founding(),
        }
    }

    /// Whom the data lane lets in: every enrolled, uncut author but this node, with the name it is enrolled under.
    #[must_use]
    pub fn enrolled(&self) -> Vec<(cauldron_identity::PublicKey, cauldron_identity::SpiffeId)> {
        let others = self.authority.members().filter(|(author, _)| **author != self.me);
        let uncut = others.filter(|(author, m)| !self.authority.is_cut(author, m.incarnation));
        uncut.map(|(_, m)| (m.key, m.spiffe_id.clone())).collect()
    }

    /// Whom this node believes when they renew what it holds: coordinators by its own authority chain, and who may answer for
    /// its site's intermediate, enrolled, uncut, of its site.
    #[must_use]
    pub fn believed(&self) -> Believed {
        let stands = |author, m: &cauldron_identity::authority::Member| {
            !self.authority.is_cut(author, m.incarnation) && !self.authority.is_suspended(author)
        };
        let of_site =
            |m: &cauldron_identity::authority::Member| self.role.site().is_some() && m.role.site() == self.role.site();
        let issuers = self.authority.members().filter(|(a, m)| of_site(m) && stands(a, m)).map(|(_, m)| m.key);
        Believed::new(issuers.collect(), Some(self.authority.clone()))
    }
}

fn credential_view(c: &cauldron_identity::authority::Credential) -> CredentialView {
    CredentialView {
        id: c.id().to_string(),
        kind: c.kind().name().into(),
        assurance: c.kind().assurance().name().into(),
        key: c.passkey().map_or_else(|| c.to_string(), |passkey| passkey.key().to_string()),
        credential_id: c.passkey().map(|passkey| passkey.credential_id_text()),
    }
}

/// What an entry does, in a sentence.
#[must_use]
pub fn summary_of_entry(entry: &Entry) -> String {
    match entry {
        Entry::Enrol(e) => format!("enrols {} as {}", e.author.author_id().short(), e.spiffe_id),
        Entry::Incarnate(i) => format!("begins incarnation {} of {}", i.incarnation, i.author.short()),
        Entry::Cut(c) => format!("cuts {} (incarnation {})", c.author.short(), c.incarnation),
        Entry::Person(p) => format!("enrols {} ({}) in {}", p.id, p.name, p.groups.join(", ")),
        Entry::RevokePerson(id) => format!("revokes {id}"),
        Entry::Amend(a) => format!("amends the charter: {}", a.fields().join(", ")),
        Entry::Term(t) => format!("begins term {} of {}", t.n, t.sequencer.spiffe_id),
        Entry::Activate(a) => format!("activates policy {} ({})", a.version, a.digest.short()),
        Entry::Lift(l) => {
            let ids: Vec<String> = l.restrictions.iter().map(FactId::short).map(|id| id.to_string()).collect();
            with_reason(format!("lifts {}", ids.join(", ")), &l.reason)
        }
        Entry::Autonomy(a) => autonomy_words(a),
        Entry::Reassign(r) => reassign_words(r),
        Entry::Mint(m) => format!("mints {} of {} for window {}, held by {}", m.amount, m.budget, m.window, m.holder),
        Entry::Isolation(g) => crate::alone::summary_of_grant(g),
        Entry::BreakGlass(b) => crate::alone::summary_of_tokens(b),
    }
}

fn autonomy_words(a: &Autonomy) -> String {
    let whose = format!("build {} for {} at {}", a.of.build.short(), a.of.action_class, a.of.site);
    match &a.grant {
        None => with_reason(format!("takes back the autonomy of {whose}"), &a.reason),
        Some(g) => format!(
            "grants {} to {whose} until {} (votes of R2: {}, of R3: {}): {}",
            g.level.name(),
            Time(g.expires_ms),
            g.votes_r2,
            g.votes_r3,
            a.reason
        ),
    }
}

fn reassign_words(r: &Reassign) -> String {
    let how = match (&r.handover, r.fencing) {
        (Some(_), _) => "by hand-over".to_owned(),
        (None, Some(Fenced::Local)) => "fenced local".to_owned(),
        (None, Some(Fenced::Native)) => "fenced native".to_owned(),
        (None, _) => format!("unfenced, {} say that its machine is off", r.attests.len()),
    };
    format!("moves {} from {} to {}, {how}", r.prefix, r.from, r.to)
}
