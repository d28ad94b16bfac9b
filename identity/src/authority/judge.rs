//! Whether an entry has the place, the content and the signatures that the [table](super::table) asks for.

use std::collections::BTreeMap;

use super::entry::{Cut, Enrol, Entry, EntryBody, Incarnate};
use super::fold::Fold;
use super::member;
use super::table::{Kind, Rule, Signers};
use super::{Amend, CREDENTIALS_MAX, Person, Term};
use crate::budget::Mint;
use crate::charter::Seat;
use crate::fact::Fact;
use crate::isolation::{BreakGlass, IsolationGrant};
use crate::planted;
use crate::spiffe_id::Role;

impl Fold {
    /// Whether an entry by the sequencer follows the head and counts.
    pub(super) fn judge(&self, body: &EntryBody, entry: &Entry) -> Result<&'static Rule, String> {
        if body.prev != self.head() || body.index != self.index() + 1 {
            return Err("it does not follow the entry before it".into());
        }
        if body.is_founded() && self.term.0 > 0 {
            return Err("what was founded with the charter has its place before any term".into());
        }
        let kind = match entry {
            Entry::Enrol(enrol) => self.judge_enrol(enrol)?,
            Entry::Incarnate(incarnate) => self.judge_incarnate(incarnate)?,
            Entry::Cut(cut) => self.judge_cut(cut)?,
            Entry::Person(person) => self.judge_person(person)?,
            Entry::RevokePerson(_) => Kind::RevokePerson,
            Entry::Activate(_) => Kind::Activate,
            Entry::Amend(amend) => self.judge_amend(amend)?,
            Entry::Mint(mint) => self.judge_mint(mint)?,
            Entry::Lift(lift) => self.judge_lift(lift)?,
            Entry::Autonomy(autonomy) => self.judge_autonomy(autonomy)?,
            Entry::Reassign(reassign) => self.judge_reassign(reassign)?,
            Entry::Isolation(grant) => self.judge_isolation(grant)?,
            Entry::BreakGlass(tokens) => self.judge_break_glass(tokens)?,
            Entry::Term(_) => return Err("a term is handed in as it is: no sequencer writes it".into()),
        };
        self.signed(kind, body, entry)
    }

    /// Whether a term may begin at this head.
    pub(super) fn judge_term(&self, body: &EntryBody, term: &Term) -> Result<&'static Rule, String> {
        if body.prev != self.head() {
            return Err("it builds on another entry than the head".into());
        }
        if term.n <= self.term.0 {
            return Err(format!("term {} is not above term {}", term.n, self.term.0));
        }
        term.apply_to(&self.charter)?;
        self.judge_seat(&term.sequencer, &self.charter.sequencer)?;
        let (author, role) = (term.sequencer.author.author_id(), seat_role(&term.sequencer)?);
        if !role.is_mesh_coordinator() {
            return Err(format!("{} is no coordinator of the mesh", term.sequencer.spiffe_id));
        }
        if self.members.get(&author).is_some_and(|m| self.is_cut(&author, m.incarnation)) {
            return Err("it names an author that was cut".into());
        }
        self.signed(Kind::Term, body, &Entry::Term(term.clone()))
    }

    /// Whether one of the ways that the table gives is gone to its end.
    fn signed(&self, kind: Kind, body: &EntryBody, entry: &Entry) -> Result<&'static Rule, String> {
        let rule = kind.rule();
        let whole = |way: &&[Signers]| way.iter().all(|signers| self.has(*signers, body, entry));
        if rule.ways.iter().any(whole) {
            return Ok(rule);
        }
        let case = if rule.case.is_empty() { String::new() } else { format!(" {}", rule.case) };
        Err(format!("{}{case} needs {}; {}", rule.name, rule.needs(), self.present(body)))
    }

    fn has(&self, signers: Signers, body: &EntryBody, entry: &Entry) -> bool {
        let signed = |keys: &[crate::signer::SignerKey]| body.signers(&self.mesh, keys);
        match (signers, entry) {
            (Signers::Council, Entry::Person(_)) if planted::active("coordinator-may-enrol-people") => true,
            (Signers::Council, Entry::Term(_)) if planted::active("term-by-anybody") => true,
            (Signers::Council, Entry::Lift(_)) if planted::active("lift-without-quorum") => true,
            (Signers::Council, _) => signed(&self.charter.council) >= self.charter.threshold as usize,
            (Signers::Recovery, _) => {
                let keys = &self.charter.recovery;
                !keys.is_empty() && signed(keys) * 2 > keys.len()
            }
            (Signers::PolicyAuthors, _) => {
                signed(&self.charter.policy_authors) >= self.charter.policy_authors.len().min(2)
            }
            (Signers::NewCouncilKeys, Entry::Amend(amend)) => {
                let new: Vec<_> =
                    amend.council.iter().flatten().filter(|k| !self.charter.council.contains(k)).collect();
                new.into_iter().all(|key| signed(std::slice::from_ref(key)) == 1)
            }
            (Signers::Author, Entry::Enrol(enrol)) => enrol.proven(&self.mesh),
            (Signers::Author, Entry::Incarnate(incarnate)) => {
                self.members.get(&incarnate.author).is_some_and(|m| incarnate.proven(&self.mesh, &m.key))
            }
            (Signers::ForkEvidence, Entry::Cut(cut)) => self.proves_fork(cut),
            // Both facts were opened before: nothing else makes it a hand-over.
            (Signers::OwnerAndNext, Entry::Reassign(reassign)) => reassign.handover.is_some(),
            (Signers::TwoPeople, Entry::Reassign(reassign)) => self.attested_by(reassign) >= 2,
            _ => false,
        }
    }

    /// Who did sign, for whoever has to collect the rest.
    fn present(&self, body: &EntryBody) -> String {
        let c = &self.charter;
        let signed = |keys: &[crate::signer::SignerKey]| body.signers(&self.mesh, keys);
        format!(
            "signed so far: {} of {} council keys, {} of {} recovery keys, {} of {} policy authors",
            signed(&c.council),
            c.threshold,
            signed(&c.recovery),
            if c.recovery.is_empty() { 0 } else { c.recovery.len() / 2 + 1 },
            signed(&c.policy_authors),
            c.policy_authors.len().min(2)
        )
    }

    fn judge_enrol(&self, enrol: &Enrol) -> Result<Kind, String> {
        let new = member(enrol.author, &enrol.spiffe_id, self.index() + 1)?;
        if enrol.author.is_weak() {
            return Err("the author key is a weak point".into());
        }
        if !enrol.proven(&self.mesh) {
            return Err("the author did not prove its key".into());
        }
        if new.spiffe_id.trust_domain().as_str() != self.charter.trust_domain {
            return Err(format!("{} is outside the trust domain {}", new.spiffe_id, self.charter.trust_domain));
        }
        if !matches!(new.role, Role::Node { .. }) {
            return Err(format!("{} is not a node: only the charter seats coordinators", new.spiffe_id));
        }
        if self.members.contains_key(&enrol.author.author_id()) {
            return Err("this author is enrolled already".into());
        }
        let before: Vec<_> = self.members.iter().filter(|(_, m)| m.spiffe_id == new.spiffe_id).collect();
        match before.iter().find(|(author, m)| !self.is_cut(author, m.incarnation)) {
            Some(_) => Err(format!("{} has an author; replacing it needs a cut and the council", new.spiffe_id)),
            None if before.is_empty() => Ok(Kind::EnrolNew),
            None => Ok(Kind::EnrolReplacement),
        }
    }

    /// Every key is one that only its holder signs for, and no other person's: else one of them would vote for two.
    fn judge_person(&self, person: &Person) -> Result<Kind, String> {
        let n = person.credentials.len();
        if n > CREDENTIALS_MAX {
            return Err(format!("{n} credentials: a person has at most {CREDENTIALS_MAX}"));
        }
        let others = self.people_but(&person.id);
        for (place, credential) in person.credentials.iter().enumerate() {
            let named = |why| format!("credential {} of {:?}: {why}", place + 1, person.id);
            credential.check().map_err(named)?;
            if person.credentials[..place].iter().any(|other| other.clashes(credential)) {
                return Err(named("its key or passkey id stands there twice".into()));
            }
            if let Some(other) = others.iter().find(|p| p.credentials.iter().any(|c| c.clashes(credential))) {
                return Err(named(format!("its key or passkey id is {:?}'s: make another", other.id)));
            }
        }
        Ok(Kind::Person)
    }

    /// Everybody else by the accepted entries, in effect or not.
    pub(super) fn people_but(&self, id: &str) -> Vec<&Person> {
        let mut people: BTreeMap<&str, &Person> = BTreeMap::new();
        for applied in self.chain.iter().filter(|a| a.refused.is_none()) {
            match &applied.entry {
                Some(Entry::Person(person)) => drop(people.insert(&person.id, person)),
                Some(Entry::RevokePerson(revoked)) => drop(people.remove(revoked.as_str())),
                _ => {}
            }
        }
        people.remove(id);
        people.into_values().collect()
    }

    fn judge_incarnate(&self, incarnate: &Incarnate) -> Result<Kind, String> {
        // The sequencer's chain is the authority chain: a second life of it would be a second chain.
        if incarnate.author == self.sequencer() {
            return Err("the sequencer begins a new life by a Term of the council alone".into());
        }
        let member = self.members.get(&incarnate.author).ok_or("it names an author that is not enrolled")?;
        if incarnate.incarnation != member.incarnation + 1 {
            return Err(format!("incarnation {} does not follow {}", incarnate.incarnation, member.incarnation));
        }
        if self.is_cut(&incarnate.author, member.incarnation) {
            return Err("a cut author does not come back by itself".into());
        }
        Ok(Kind::Incarnate)
    }

    fn judge_cut(&self, cut: &Cut) -> Result<Kind, String> {
        let member = self.members.get(&cut.author).ok_or("it cuts an author that is not enrolled")?;
        if cut.author == self.sequencer() {
            return Err("the sequencer is cut by a Term that names another".into());
        }
        if cut.incarnation > member.incarnation {
            return Err(format!("incarnation {} has not begun", cut.incarnation));
        }
        Ok(Kind::Cut)
    }

    /// A second mint for one budget and window changes nothing, whoever holds it: what a life that is over held of the first
    /// is lost for that window.
    fn judge_mint(&self, mint: &Mint) -> Result<Kind, String> {
        mint.fits()?;
        let (budget, holder) = (&mint.budget, mint.holder);
        let member = self.members.get(&holder.author).ok_or("it names a holder that is not enrolled")?;
        if holder.incarnation != member.incarnation || self.is_cut(&holder.author, member.incarnation) {
            return Err(format!("the life {holder} of its holder is over: what it is given would be lost"));
        }
        let Some(minted) = self.minted.get(budget) else { return Ok(Kind::Mint) };
        if minted.window_ms != mint.window_ms {
            return Err(format!("windows of {budget} last {} ms, not {}", minted.window_ms, mint.window_ms));
        }
        match minted.windows.get(&mint.window) {
            Some(entry) => Err(format!("entry {entry} minted {budget} for window {} already", mint.window)),
            None => Ok(Kind::Mint),
        }
    }

    /// Whoever decides for a site past its lease is enrolled there by then: a name that is free would be the sequencer's to give.
    fn judge_isolation(&self, grant: &IsolationGrant) -> Result<Kind, String> {
        grant.fits()?;
        for id in &grant.acting {
            let member = self.members.values().find(|m| m.spiffe_id.to_string() == *id);
            let role = &member.ok_or_else(|| format!("{id} is not enrolled: it could not decide for the site"))?.role;
            let decides = matches!(role, Role::Node { .. } | Role::SiteCoordinator { .. });
            if !decides || role.site() != Some(&grant.site) {
                return Err(format!("{id} is no node or coordinator of site {}", grant.site));
            }
        }
        Ok(Kind::Isolation)
    }

    fn judge_break_glass(&self, tokens: &BreakGlass) -> Result<Kind, String> {
        tokens.fits()?;
        let holder = tokens.holder;
        let member = self.members.get(&holder.author).ok_or("it names a holder that is not enrolled")?;
        if !matches!(&member.role, Role::Node { site, .. } if *site == tokens.site) {
            return Err(format!(
                "{} is no node of site {}: nothing of the site is its to act on",
                member.spiffe_id, tokens.site
            ));
        }
        if holder.incarnation != member.incarnation || self.is_cut(&holder.author, member.incarnation) {
            return Err(format!("the life {holder} of its holder is over: it could use no token"));
        }
        Ok(Kind::BreakGlass)
    }

    fn judge_amend(&self, amend: &Amend) -> Result<Kind, String> {
        if amend.fields().is_empty() {
            return Err("it changes nothing".into());
        }
        let new = amend.apply_to(&self.charter)?;
        for seat in self.charter.coordinators.iter().filter(|seat| !new.coordinators.contains(seat)) {
            let author = seat.author.author_id();
            if !self.members.get(&author).is_some_and(|m| self.is_cut(&author, m.incarnation)) {
                return Err(format!("{} keeps its seat until its author is cut", seat.spiffe_id));
            }
        }
        for seat in new.coordinators.iter().filter(|seat| !self.charter.coordinators.contains(seat)) {
            self.judge_seat(seat, seat)?;
        }
        Ok(if amend.is_council_only() { Kind::AmendCouncil } else { Kind::Amend })
    }

    /// One active author per SPIFFE ID, and one SPIFFE ID per author, for ever. `leaving` gives its name up.
    fn judge_seat(&self, seat: &Seat, leaving: &Seat) -> Result<(), String> {
        let author = seat.author.author_id();
        if let Some(m) = self.members.get(&author).filter(|m| m.spiffe_id.to_string() != seat.spiffe_id) {
            return Err(format!("the author of {} is enrolled as {}", seat.spiffe_id, m.spiffe_id));
        }
        let other = self.members.iter().find(|(a, m)| {
            **a != author && m.spiffe_id.to_string() == seat.spiffe_id && !self.is_cut(a, m.incarnation)
        });
        match other {
            Some((a, _)) if *a != leaving.author.author_id() => {
                Err(format!("{} has an author already; cut it first", seat.spiffe_id))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn is_cut(&self, author: &crate::ids::AuthorId, incarnation: u32) -> bool {
        self.ends.get(&(*author, incarnation)).is_some_and(|ends| ends.revoked)
    }

    /// Two different facts of one author at one place.
    pub(super) fn proves_fork(&self, cut: &Cut) -> bool {
        let Some(member) = self.members.get(&cut.author) else { return false };
        let [a, b] = &cut.fork[..] else { return false };
        let (Ok(a), Ok(b)) = (a.clone().open(&member.key), b.clone().open(&member.key)) else { return false };
        let place = |f: &Fact| (f.header().incarnation, f.header().scope.clone(), f.header().seq);
        a.id() != b.id() && place(&a) == place(&b) && a.header().incarnation == cut.incarnation
    }
}

fn seat_role(seat: &Seat) -> Result<Role, String> {
    Ok(member(seat.author, &seat.spiffe_id, 0)?.role)
}
