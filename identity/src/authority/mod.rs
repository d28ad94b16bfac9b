//! The authority chain folded into members, people and the active policy.
//!
//! A pure fold: feed it every fact of kind [`KIND_ENTRY`] in chain order and every [`KIND_HELD`] in any order. It
//! believes no entry that lacks the signatures of its kind (the table in [`entry`]); such an entry stays in the chain and
//! changes nothing. Nothing here reads a clock.

pub mod entry;
mod standing;

use std::collections::BTreeMap;

pub use entry::{
    Activate, ChainEnd, Credential, CredentialKind, Cut, ENTRY_NAMESPACE, Enrol, Entry, EntryBody, Held, Incarnate,
    KIND_ENTRY, KIND_HELD, Person, founding_entry,
};
pub use standing::Standing;

use crate::charter::Charter;
use crate::codec::from_cbor;
use crate::fact::Fact;
use crate::ids::{AuthorId, FactId, MeshId};
use crate::keys::PublicKey;
use crate::spiffe_id::{Role, SpiffeId};
use standing::Ends;

/// Who may write, read, vote and judge, as this node knows it.
#[derive(Debug, Clone)]
pub struct Authority {
    mesh: MeshId,
    charter: Charter,
    chain: Vec<Applied>,
    members: BTreeMap<AuthorId, Member>,
    ends: BTreeMap<(AuthorId, u32), Ends>,
    suspended: BTreeMap<AuthorId, Ends>,
    held: BTreeMap<AuthorId, Vec<Witness>>,
    /// Index of each entry, from 1.
    places: BTreeMap<FactId, u64>,
    /// The highest index that a witness covers; see [`Authority::find_covered`].
    covered: u64,
}

/// One author's word that it holds the chain up to somewhere, and where that word stands in its own chain.
#[derive(Debug, Clone)]
struct Witness {
    header: crate::fact::Header,
    fact: FactId,
    held: Held,
}

/// One entry of the chain and what became of it.
#[derive(Debug, Clone)]
pub struct Applied {
    /// The fact.
    pub id: FactId,
    /// The entry, unless this build cannot read its kind.
    pub entry: Option<Entry>,
    /// Why it changed nothing, when it did not.
    pub refused: Option<String>,
}

/// An enrolled author.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The author key.
    pub key: PublicKey,
    /// The SPIFFE ID it acts as.
    pub spiffe_id: SpiffeId,
    /// What the path says.
    pub role: Role,
    /// The present incarnation.
    pub incarnation: u32,
    /// Index of the enrolling entry; 0 for a coordinator seated by the charter.
    pub index: u64,
}

/// The policy that owners evaluate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActivePolicy {
    /// What was activated.
    pub activate: Activate,
    /// The entry that did it.
    pub entry: FactId,
    /// Its index.
    pub index: u64,
}

impl Authority {
    /// The state before the first entry: the coordinators that the charter seats.
    ///
    /// # Errors
    /// A sentence, when a seat of the charter names no role; [`crate::SignedCharter::open`] refuses such a charter.
    pub fn new(mesh: MeshId, charter: Charter) -> Result<Self, String> {
        let mut members = BTreeMap::new();
        for seat in &charter.coordinators {
            let member = member(seat.author, &seat.spiffe_id, 0)?;
            members.insert(seat.author.author_id(), member);
        }
        let (chain, ends) = (Vec::new(), BTreeMap::new());
        let (held, places) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { mesh, charter, chain, members, ends, suspended: BTreeMap::new(), held, places, covered: 0 })
    }

    /// Takes one fact in. Entries must come in chain order, as a gapless chain delivers them; every other kind but
    /// [`KIND_HELD`] is ignored. Returns whether anything may have changed.
    pub fn apply(&mut self, fact: &Fact) -> bool {
        let changed = match fact.header().kind.as_str() {
            KIND_ENTRY => self.apply_entry(fact),
            KIND_HELD => self.apply_held(fact),
            _ => false,
        };
        if changed {
            self.covered = self.find_covered();
        }
        changed
    }

    fn apply_held(&mut self, fact: &Fact) -> bool {
        let Ok(held) = fact.decode_body::<Held>() else { return false };
        let witnesses = self.held.entry(fact.header().author).or_default();
        if witnesses.iter().all(|w| w.fact != fact.id()) {
            witnesses.push(Witness { header: fact.header().clone(), fact: fact.id(), held });
        }
        true
    }

    fn apply_entry(&mut self, fact: &Fact) -> bool {
        let body = fact.decode_body::<EntryBody>();
        let entry = body.as_ref().ok().and_then(|b| from_cbor::<Entry>(b.entry_bytes()).ok());
        let verdict = match (&body, &entry) {
            (Err(e), _) => Err(format!("the entry cannot be read: {e}")),
            (Ok(_), None) => Err("this build does not know this kind of entry".to_owned()),
            _ if fact.header().incarnation != 0 => Err("not of the sequencer's one life".to_owned()),
            (Ok(body), Some(entry)) => self.judge(fact.header().author, body, entry),
        };
        if verdict.is_ok()
            && let Some(entry) = &entry
        {
            self.enact(entry);
        }
        self.places.insert(fact.id(), self.chain.len() as u64 + 1);
        self.chain.push(Applied { id: fact.id(), entry, refused: verdict.err() });
        true
    }

    /// What would become of an entry that the sequencer wrote now.
    ///
    /// # Errors
    /// Why it would change nothing.
    pub fn would_accept(&self, body: &EntryBody) -> Result<(), String> {
        let entry = from_cbor::<Entry>(body.entry_bytes()).map_err(|e| format!("the entry cannot be read: {e}"))?;
        self.judge(self.charter.sequencer.author.author_id(), body, &entry)
    }

    /// Whether an entry has the place and the signatures that its kind needs.
    fn judge(&self, author: AuthorId, body: &EntryBody, entry: &Entry) -> Result<(), String> {
        let sequencer = self.charter.sequencer.author.author_id();
        if author != sequencer {
            return Err("not written by the sequencer".into());
        }
        if body.prev != self.head() || body.index != self.index() + 1 {
            return Err("it does not follow the entry before it".into());
        }
        let council = body.signers(&self.mesh, &self.charter.council) >= self.charter.threshold as usize;
        let need_council = |what: &str| if council { Ok(()) } else { Err(format!("{what} needs the council")) };
        match entry {
            Entry::Enrol(enrol) => self.judge_enrol(enrol, council),
            Entry::Incarnate(incarnate) => self.judge_incarnate(incarnate),
            Entry::Cut(cut) if self.proves_fork(cut) => Ok(()),
            Entry::Cut(cut) if self.members.contains_key(&cut.author) => need_council("a cut without fork evidence"),
            Entry::Cut(_) => Err("it cuts an author that is not enrolled".into()),
            Entry::Person(_) | Entry::RevokePerson(_) => need_council("enrolling or revoking a person"),
            Entry::Activate(_) => {
                let needed = self.charter.policy_authors.len().min(2);
                let signed = body.signers(&self.mesh, &self.charter.policy_authors);
                if signed >= needed { Ok(()) } else { Err(format!("{signed} of {needed} policy authors signed")) }
            }
        }
    }

    fn judge_enrol(&self, enrol: &Enrol, council: bool) -> Result<(), String> {
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
        match self.members.iter().find(|(_, m)| m.spiffe_id == new.spiffe_id) {
            None => Ok(()),
            Some((author, m)) if self.is_cut(author, m.incarnation) && council => Ok(()),
            Some(_) => Err(format!("{} has an author; replacing it needs a cut and the council", new.spiffe_id)),
        }
    }

    fn judge_incarnate(&self, incarnate: &Incarnate) -> Result<(), String> {
        // The sequencer's chain is the authority chain: a second life of it would be a second chain.
        if incarnate.author == self.charter.sequencer.author.author_id() {
            return Err("the sequencer begins a new life by a Term of the council alone".into());
        }
        let member = self.members.get(&incarnate.author).ok_or("it names an author that is not enrolled")?;
        if incarnate.incarnation != member.incarnation + 1 {
            return Err(format!("incarnation {} does not follow {}", incarnate.incarnation, member.incarnation));
        }
        if self.is_cut(&incarnate.author, member.incarnation) {
            return Err("a cut author does not come back by itself".into());
        }
        if incarnate.proven(&self.mesh, &member.key) { Ok(()) } else { Err("the author did not sign".into()) }
    }

    /// Two different facts of one author at one place.
    fn proves_fork(&self, cut: &Cut) -> bool {
        let Some(member) = self.members.get(&cut.author) else { return false };
        let [a, b] = &cut.fork[..] else { return false };
        let (Ok(a), Ok(b)) = (a.clone().open(&member.key), b.clone().open(&member.key)) else { return false };
        let place = |f: &Fact| (f.header().incarnation, f.header().scope.clone(), f.header().seq);
        a.id() != b.id() && place(&a) == place(&b) && a.header().incarnation == cut.incarnation
    }

    fn enact(&mut self, entry: &Entry) {
        let index = self.index() + 1;
        match entry {
            Entry::Enrol(e) => {
                if let Ok(member) = member(e.author, &e.spiffe_id, index) {
                    self.members.insert(e.author.author_id(), member);
                }
            }
            Entry::Incarnate(i) => {
                if let Some(member) = self.members.get_mut(&i.author) {
                    let old = member.incarnation;
                    member.incarnation = i.incarnation;
                    self.ends.entry((i.author, old)).or_default().lower(&i.ends);
                }
            }
            Entry::Cut(c) => {
                let ends = self.ends.entry((c.author, c.incarnation)).or_default();
                ends.lower(&c.ends);
                ends.revoked = true;
            }
            Entry::Person(_) | Entry::RevokePerson(_) | Entry::Activate(_) => {}
        }
    }

    /// Takes the effect of a `Suspend` restriction: beyond these heads, and in unnamed scopes from the start, the
    /// author's facts grant nothing. Whether its signer may suspend is the caller's to judge.
    pub fn suspend(&mut self, author: AuthorId, ends: &[ChainEnd]) {
        self.suspended.entry(author).or_default().lower(ends);
    }

    /// The founding charter.
    #[must_use]
    pub fn charter(&self) -> &Charter {
        &self.charter
    }

    /// The mesh id.
    #[must_use]
    pub fn mesh(&self) -> MeshId {
        self.mesh
    }

    /// The last entry known.
    #[must_use]
    pub fn head(&self) -> Option<FactId> {
        self.chain.last().map(|a| a.id)
    }

    /// How many entries are known.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.chain.len() as u64
    }

    /// The position of an entry, from 1.
    #[must_use]
    pub fn index_of(&self, entry: &FactId) -> Option<u64> {
        self.places.get(entry).copied()
    }

    /// Every entry with what became of it, oldest first.
    pub fn entries(&self) -> impl Iterator<Item = &Applied> {
        self.chain.iter()
    }

    /// An enrolled author, cut or not.
    #[must_use]
    pub fn member(&self, author: &AuthorId) -> Option<&Member> {
        self.members.get(author)
    }

    /// All enrolled authors, in the order of their ids.
    pub fn members(&self) -> impl Iterator<Item = (&AuthorId, &Member)> {
        self.members.iter()
    }

    /// The uncut author that acts as `spiffe_id`.
    #[must_use]
    pub fn author_of(&self, spiffe_id: &SpiffeId) -> Option<(&AuthorId, &Member)> {
        self.members.iter().find(|(a, m)| m.spiffe_id == *spiffe_id && !self.is_cut(a, m.incarnation))
    }

    /// The newest policy in effect.
    #[must_use]
    pub fn policy(&self) -> Option<ActivePolicy> {
        self.in_force().rev().find_map(|(index, applied)| match &applied.entry {
            Some(Entry::Activate(activate)) => {
                Some(ActivePolicy { activate: activate.clone(), entry: applied.id, index })
            }
            _ => None,
        })
    }

    /// A person as of now.
    #[must_use]
    pub fn person(&self, id: &str) -> Option<&Person> {
        self.person_at(id, self.index())
    }

    /// A person as the chain's first `index` entries in effect describe them.
    #[must_use]
    pub fn person_at(&self, id: &str, index: u64) -> Option<&Person> {
        let newest = self.in_force().rev().filter(|(i, _)| *i <= index).find_map(|(_, a)| match &a.entry {
            Some(Entry::Person(person)) if person.id == id => Some(Some(person)),
            Some(Entry::RevokePerson(revoked)) if revoked == id => Some(None),
            _ => None,
        });
        newest.flatten()
    }

    /// Everything that the chain's first `index` accepted entries ever said of a person, in effect or not, newest first:
    /// what a no is judged by, which must not lapse when an entry comes into effect.
    pub fn person_ever(&self, id: &str, index: u64) -> impl Iterator<Item = &Person> {
        let accepted = self.chain.iter().take(usize::try_from(index).unwrap_or(usize::MAX)).rev();
        accepted.filter_map(move |a| match (&a.entry, &a.refused) {
            (Some(Entry::Person(person)), None) if person.id == id => Some(person),
            _ => None,
        })
    }

    /// Everybody enrolled and not revoked.
    #[must_use]
    pub fn people(&self) -> Vec<&Person> {
        let mut people: BTreeMap<&str, &Person> = BTreeMap::new();
        for (_, applied) in self.in_force() {
            match &applied.entry {
                Some(Entry::Person(person)) => {
                    people.insert(&person.id, person);
                }
                Some(Entry::RevokePerson(id)) => {
                    people.remove(id.as_str());
                }
                _ => {}
            }
        }
        people.into_values().collect()
    }

    /// Accepted entries in effect, with their indexes, oldest first.
    fn in_force(&self) -> impl DoubleEndedIterator<Item = (u64, &Applied)> {
        let covered = self.covered;
        let indexed = self.chain.iter().enumerate().map(|(i, a)| (i as u64 + 1, a));
        indexed.filter(move |(index, a)| a.refused.is_none() && self.effective(*index, a, covered))
    }

    /// Whether the entry at `index` is in effect: held by an enrolled, uncut author other than the sequencer, or of a
    /// kind that acts at once, or older than every such author.
    #[must_use]
    pub fn in_effect(&self, index: u64) -> bool {
        if index == 0 {
            return true;
        }
        let place = usize::try_from(index - 1).unwrap_or(usize::MAX);
        self.chain.get(place).is_some_and(|a| a.refused.is_none() && self.effective(index, a, self.covered))
    }

    fn effective(&self, index: u64, applied: &Applied, covered: u64) -> bool {
        let at_once = matches!(applied.entry, Some(Entry::Cut(_) | Entry::Incarnate(_)));
        at_once || index <= covered || self.first_other().is_none_or(|first| index < first)
    }

    /// Index of the first entry that enrolled an author other than the sequencer; a second seat of the charter is one
    /// from the start.
    fn first_other(&self) -> Option<u64> {
        let sequencer = self.charter.sequencer.author.author_id();
        self.members.iter().filter(|(a, _)| **a != sequencer).map(|(_, m)| m.index).min()
    }

    /// The highest index held by an enrolled author other than the sequencer that names the true entry there. What it said
    /// before its cut still counts: an entry that came into effect stays there.
    fn find_covered(&self) -> u64 {
        let sequencer = self.charter.sequencer.author.author_id();
        let witnesses =
            self.held.iter().filter(|(author, _)| **author != sequencer && self.members.contains_key(author));
        let counting = witnesses.flat_map(|(_, said)| said).filter(|w| {
            let ends = self.ends.get(&(w.header.author, w.header.incarnation));
            ends.is_none_or(|e| e.covers(&w.header, w.fact)) && self.index_of(&w.held.head) == Some(w.held.index)
        });
        counting.map(|w| w.held.index).max().unwrap_or(0)
    }
}

fn member(key: PublicKey, spiffe_id: &str, index: u64) -> Result<Member, String> {
    let id = SpiffeId::new(spiffe_id).map_err(|e| format!("{spiffe_id}: {e}"))?;
    let role = Role::of(&id).map_err(|e| e.to_string())?;
    Ok(Member { key, spiffe_id: id, role, incarnation: 0, index })
}

#[cfg(test)]
mod tests;
