//! The authority chain folded into members, people and the active policy.
//!
//! A pure fold over a set: feed it every fact of kind [`KIND_ENTRY`] and [`KIND_HELD`] and every [`Term`], in any order. It
//! believes no entry that lacks the signatures of its kind (the [`table`]); such an entry stays in the chain and changes
//! nothing. Nothing here reads a clock.

mod alone;
mod amend;
mod beside;
mod credential;
pub mod entry;
mod fold;
mod judge;
mod powers;
mod roots;
mod standing;
pub mod table;
mod terms;

use std::collections::BTreeMap;

pub use amend::{Amend, Term};
pub use beside::CutBeside;
pub use credential::{Assurance, CREDENTIALS_MAX, Credential, CredentialKind};
pub use entry::{
    Activate, ChainEnd, Cut, ENTRY_NAMESPACE, Enrol, Entry, EntryBody, Held, Incarnate, KIND_ENTRY, KIND_HELD, Person,
    founding_entry,
};
pub use powers::{
    Accept, Attest, Autonomous, Autonomy, AutonomyGrant, AutonomyOf, BOX_OFF_NAMESPACE, Fenced, Handover,
    KIND_HANDOVER, KIND_TAKEOVER, LIFTS_MAX, Level, Lift, Lifted, Offer, Reassign, VOTES_R2, VOTES_R3, prefix_of,
};
pub use roots::{
    ISSUED_MAX, Issuance, Issued, IssuedKind, KIND_ISSUED, KIND_ROOTS, ROOTS_MAX, Root, RootState, Roots, Trust,
};
pub use standing::Standing;
pub use terms::TermOutcome;

use crate::budget::{Budget, Mint};
use crate::charter::{Charter, Seat};
use crate::fact::Fact;
use crate::ids::{AuthorId, FactId, MeshId};
use crate::keys::PublicKey;
use crate::spiffe_id::{Role, SpiffeId};
use beside::Beside;
use fold::{Fold, Pool};
use standing::Ends;

/// Who may write, read, vote and judge, as this node knows it.
#[derive(Debug, Clone)]
pub struct Authority {
    founding: Charter,
    pool: Pool,
    fold: Fold,
    beside: Beside,
    suspended: BTreeMap<AuthorId, Ends>,
    held: BTreeMap<AuthorId, Vec<Witness>>,
    /// Chains of entries that their author is proven to have forked, and from which position on.
    forked: BTreeMap<(AuthorId, u32), u64>,
    /// The highest index that a witness or a term covers; see [`Authority::find_covered`].
    covered: u64,
    /// See [`Authority::revision`].
    revision: u64,
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
    /// Whether it takes effect without being held by anybody else.
    at_once: bool,
    /// When the sequencer wrote it, milliseconds since the Unix epoch; 0 for a term.
    pub at_ms: u64,
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
    pub fn new(mesh: MeshId, founding: Charter) -> Result<Self, String> {
        let fold = Fold::new(mesh, founding.clone())?;
        let (suspended, held, forked) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Ok(Self {
            founding,
            pool: Pool::default(),
            fold,
            beside: Beside::default(),
            suspended,
            held,
            forked,
            covered: 0,
            revision: 0,
        })
    }

    /// Takes one fact in; every kind but [`KIND_ENTRY`] and [`KIND_HELD`] is ignored. Returns whether anything may have
    /// changed.
    pub fn apply(&mut self, fact: &Fact) -> bool {
        match fact.header().kind.as_str() {
            KIND_ENTRY => {
                let changed = self.apply_entry(fact);
                if changed {
                    self.covered = self.find_covered();
                    self.revision += 1;
                }
                changed
            }
            KIND_HELD => self.apply_held(fact),
            _ => false,
        }
    }

    fn apply_held(&mut self, fact: &Fact) -> bool {
        let Ok(held) = fact.decode_body::<Held>() else { return false };
        let witness = Witness { header: fact.header().clone(), fact: fact.id(), held };
        // One more witness takes nothing from the others: no need to ask them all again.
        if self.witnesses(&witness) && witness.held.index > self.covered {
            self.covered = witness.held.index;
            self.revision += 1;
        }
        let said = self.held.entry(witness.header.author).or_default();
        if said.iter().all(|w| w.fact != witness.fact) {
            said.push(witness);
        }
        true
    }

    fn apply_entry(&mut self, fact: &Fact) -> bool {
        if !self.pool.insert(fact) {
            return false;
        }
        let (term, from) = (self.fold.term, self.fold.chain.len());
        self.fold.extend(&self.pool);
        // It may lead to a change of the council, or to a higher term, which the present term may not take out.
        let beside = self.fold.term.0 > 0 && !self.fold.places.contains_key(&fact.id());
        if beside && (self.pool.amends_beside(&self.fold) || self.pool.waiting(&self.fold).next().is_some()) {
            self.rebuild();
        } else if self.fold.term != term {
            // A term that waited for this entry leaves others beside it.
            self.beside = Beside::of(&self.fold, &self.pool);
        } else {
            let chained: Vec<FactId> = self.fold.chain.iter().skip(from).map(|a| a.id).collect();
            self.beside.look(&self.fold, &self.pool, &fact.id(), &chained);
        }
        true
    }

    /// The fold as it was after `index` entries.
    fn replay(&self, index: u64) -> Result<Fold, String> {
        let mut fold = Fold::new(self.fold.mesh, self.founding.clone())?;
        fold.extend_to(&self.pool, index);
        Ok(fold)
    }

    fn rebuild(&mut self) {
        self.revision += 1;
        // The founding charter was opened before: its seats have roles.
        let Ok(mut fold) = Fold::new(self.fold.mesh, self.founding.clone()) else { return };
        fold.extend(&self.pool);
        self.fold = fold;
        self.beside = Beside::of(&self.fold, &self.pool);
        self.covered = self.find_covered();
    }

    /// What would become of an entry that the sequencer wrote now.
    ///
    /// # Errors
    /// Why it would change nothing.
    pub fn would_accept(&self, body: &EntryBody) -> Result<(), String> {
        let entry = body.entry().map_err(|e| format!("the entry cannot be read: {e}"))?;
        self.fold.judge(body, &entry)?;
        // The chain is judged without what lies beside it; whoever writes it goes by both.
        match &entry {
            Entry::Incarnate(i) if self.member(&i.author).is_some_and(|m| self.is_cut(&i.author, m.incarnation)) => {
                Err("a cut author does not come back by itself".into())
            }
            Entry::Mint(mint) => self.never_minted(mint),
            Entry::Reassign(reassign) => self.never_moved(reassign),
            _ => Ok(()),
        }
    }

    /// A mint that a term took out of the chain may have been spent: its window is never minted again.
    fn never_minted(&self, mint: &Mint) -> Result<(), String> {
        let same = |body: &EntryBody| matches!(body.entry(), Ok(Entry::Mint(m)) if (&m.budget, m.window) == (&mint.budget, mint.window));
        let mut outside = self.pool.outside(&self.fold);
        match outside.find(|(_, body)| body.is_some_and(same)) {
            Some((id, _)) => Err(format!(
                "entry {} minted {} for window {} on a branch that a term ended: what it gave may be spent",
                id.short(),
                mint.budget,
                mint.window
            )),
            None => Ok(()),
        }
    }

    /// Takes the effect of a `Suspend` restriction: beyond these heads, and in unnamed scopes from the start, the
    /// author's facts grant nothing. Whether its signer may suspend is the caller's to judge.
    pub fn suspend(&mut self, author: AuthorId, ends: &[ChainEnd]) {
        let suspended = self.suspended.entry(author).or_default();
        let before = suspended.clone();
        suspended.lower(ends);
        self.revision += u64::from(*suspended != before);
    }

    /// Grows whenever anything may have changed that this says of a fact, a person or an entry: what was computed from it before
    /// still holds while this is the same. Of one process alone.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The same of all authors that are suspended now: whoever is not among them is suspended no more.
    pub fn suspend_only(&mut self, all: impl IntoIterator<Item = (AuthorId, Vec<ChainEnd>)>) {
        self.suspended.clear();
        all.into_iter().for_each(|(author, ends)| self.suspend(author, &ends));
    }

    /// The charter in effect: the founding one with every amendment and term that is in effect here.
    #[must_use]
    pub fn charter(&self) -> &Charter {
        let in_effect = self.fold.charters.iter().rev().find(|(index, _)| self.in_effect(*index));
        in_effect.map_or(&self.founding, |(_, charter)| charter)
    }

    /// Every charter that the council ever signed here, in effect or not, also on branches that a term took out: what a no is
    /// judged by, as by [`Authority::person_ever`].
    pub fn charters_ever(&self) -> impl Iterator<Item = &Charter> {
        self.fold.charters.iter().map(|(_, charter)| charter).chain(&self.fold.explored)
    }

    /// Every root key that a charter in effect ever named.
    #[must_use]
    pub fn root_keys_ever(&self) -> Vec<crate::ids::Digest> {
        let amended = self.fold.charters.iter().filter(|(index, _)| self.in_effect(*index)).map(|(_, charter)| charter);
        std::iter::once(&self.founding).chain(amended).flat_map(|charter| charter.root_keys.iter().copied()).collect()
    }

    /// The charter that the chain's newest entry leaves, in effect or not: what the next entry is judged by.
    #[must_use]
    pub fn next_charter(&self) -> &Charter {
        &self.fold.charter
    }

    /// The founding charter, whose hash is the mesh id.
    #[must_use]
    pub fn founding(&self) -> &Charter {
        &self.founding
    }

    /// Who writes the authority chain.
    #[must_use]
    pub fn sequencer(&self) -> &Seat {
        &self.fold.charter.sequencer
    }

    /// The mesh id.
    #[must_use]
    pub fn mesh(&self) -> MeshId {
        self.fold.mesh
    }

    /// How far an author says that it holds the chain.
    #[must_use]
    pub fn holds(&self, author: &AuthorId) -> u64 {
        let said = self.held.get(author).into_iter().flatten();
        let true_of_this_chain = said.filter(|w| self.fold.places.get(&w.held.head) == Some(&w.held.index));
        true_of_this_chain.map(|w| w.held.index).max().unwrap_or(0)
    }

    /// The last entry known.
    #[must_use]
    pub fn head(&self) -> Option<FactId> {
        self.fold.chain.last().map(|a| a.id)
    }

    /// How many entries are known.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.fold.chain.len() as u64
    }

    /// The position of an entry, from 1. One that a term took out of the chain stands where it branched off: whoever named
    /// it knew the chain up to there.
    #[must_use]
    pub fn index_of(&self, entry: &FactId) -> Option<u64> {
        self.fold.places.get(entry).copied().or_else(|| self.beside.branch(entry))
    }

    /// Every entry with what became of it, oldest first.
    pub fn entries(&self) -> impl Iterator<Item = &Applied> {
        self.fold.chain.iter()
    }

    /// An enrolled author, cut or not.
    #[must_use]
    pub fn member(&self, author: &AuthorId) -> Option<&Member> {
        self.fold.members.get(author)
    }

    /// All enrolled authors, in the order of their ids.
    pub fn members(&self) -> impl Iterator<Item = (&AuthorId, &Member)> {
        self.fold.members.iter()
    }

    /// The uncut author that acts as `spiffe_id`.
    #[must_use]
    pub fn author_of(&self, spiffe_id: &SpiffeId) -> Option<(&AuthorId, &Member)> {
        self.fold.members.iter().find(|(a, m)| m.spiffe_id == *spiffe_id && !self.is_cut(a, m.incarnation))
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

    /// The highest index that a witness or a term covers: what is in effect changes with it and with the chain alone.
    #[must_use]
    pub fn covered(&self) -> u64 {
        self.covered
    }

    /// The mints in effect, with their entries and places, oldest first.
    pub fn mints(&self) -> impl Iterator<Item = (u64, FactId, &Mint)> {
        let covered = self.covered;
        let indexed = (1..).zip(&self.fold.chain);
        indexed.filter_map(move |(index, applied)| match &applied.entry {
            Some(Entry::Mint(mint)) if applied.refused.is_none() && self.effective(index, applied, covered) => {
                Some((index, applied.id, mint))
            }
            _ => None,
        })
    }

    /// Every budget of which something was minted, with the length of its windows in milliseconds, 0 without time.
    pub fn budgets(&self) -> impl Iterator<Item = (&Budget, u64)> {
        self.fold.minted.iter().map(|(budget, minted)| (budget, minted.window_ms))
    }

    /// How long the windows of a budget are, milliseconds; 0 without time. None for one of which nothing was minted.
    #[must_use]
    pub fn window_ms(&self, budget: &Budget) -> Option<u64> {
        self.fold.minted.get(budget).map(|minted| minted.window_ms)
    }

    /// A person as of now.
    #[must_use]
    pub fn person(&self, id: &str) -> Option<&Person> {
        self.person_at(id, self.index())
    }

    /// A person as the chain's first `index` entries in effect describe them.
    #[must_use]
    pub fn person_at(&self, id: &str, index: u64) -> Option<&Person> {
        let newest = self.in_force().rev().filter(|(i, _)| *i <= index).find_map(|(at, a)| match &a.entry {
            Some(Entry::Person(person)) if person.id == id => Some(Some(person).filter(|p| !self.is_revoked(p, at))),
            Some(Entry::RevokePerson(revoked)) if revoked == id => Some(None),
            _ => None,
        });
        newest.flatten()
    }

    /// Whether an entry that a term took out of the chain had revoked the person enrolled at `index`.
    fn is_revoked(&self, person: &Person, index: u64) -> bool {
        self.beside.is_revoked(person, index)
    }

    /// Cuts that count although a term took their entries out of the chain, or an earlier sequencer wrote them since.
    pub fn cuts_beside(&self) -> impl Iterator<Item = (&FactId, &CutBeside)> {
        self.beside.cuts()
    }

    /// Everything that the chain's first `index` accepted entries ever said of a person, in effect or not, newest first:
    /// what a no is judged by, which must not lapse when an entry comes into effect.
    pub fn person_ever(&self, id: &str, index: u64) -> impl Iterator<Item = &Person> {
        let accepted = self.fold.chain.iter().take(usize::try_from(index).unwrap_or(usize::MAX)).rev();
        let said = accepted.filter_map(move |a| match (&a.entry, &a.refused) {
            (Some(Entry::Person(person)), None) if person.id == id => Some(person),
            _ => None,
        });
        said.chain(self.beside.people().filter(move |p| p.id == id))
    }

    /// Everybody enrolled and not revoked.
    #[must_use]
    pub fn people(&self) -> Vec<&Person> {
        let mut people: BTreeMap<&str, &Person> = BTreeMap::new();
        for (index, applied) in self.in_force() {
            match &applied.entry {
                Some(Entry::Person(person)) if !self.is_revoked(person, index) => {
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
        let indexed = self.fold.chain.iter().enumerate().map(|(i, a)| (i as u64 + 1, a));
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
        self.fold.chain.get(place).is_some_and(|a| a.refused.is_none() && self.effective(index, a, self.covered))
    }

    fn effective(&self, index: u64, applied: &Applied, covered: u64) -> bool {
        applied.at_once || index <= covered || self.first_other().is_none_or(|first| index < first)
    }

    /// Index of the first entry that enrolled an author other than the sequencer; a second seat of the charter is one
    /// from the start.
    fn first_other(&self) -> Option<u64> {
        let sequencer = self.fold.sequencer();
        let others = self.fold.members.iter().filter(|(a, _)| **a != sequencer && !self.fold.outgoing.contains(*a));
        others.map(|(_, m)| m.index).min()
    }

    /// The highest index held by an enrolled author other than the sequencer that names the true entry there. What it said
    /// before its cut still counts: an entry that came into effect stays there.
    fn find_covered(&self) -> u64 {
        let counting = self.held.values().flatten().filter(|w| self.witnesses(w));
        // The council vouches for all that its term builds on.
        counting.map(|w| w.held.index).max().unwrap_or(0).max(self.fold.term.1)
    }

    fn witnesses(&self, w: &Witness) -> bool {
        let author = w.header.author;
        let ends = self.fold.ends.get(&(author, w.header.incarnation));
        author != self.fold.sequencer()
            && self.fold.members.contains_key(&author)
            && ends.is_none_or(|e| e.covers(&w.header, w.fact))
            && self.within_beside(&w.header, w.fact)
            && self.fold.places.get(&w.held.head) == Some(&w.held.index)
    }
}

fn member(key: PublicKey, spiffe_id: &str, index: u64) -> Result<Member, String> {
    let id = SpiffeId::new(spiffe_id).map_err(|e| format!("{spiffe_id}: {e}"))?;
    let role = Role::of(&id).map_err(|e| e.to_string())?;
    Ok(Member { key, spiffe_id: id, role, incarnation: 0, index })
}

#[cfg(test)]
mod tests;
