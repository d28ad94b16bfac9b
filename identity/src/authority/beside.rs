//! What lies beside the chain: entries that a term took out of it, or that an earlier sequencer wrote since.
//!
//! What they raised is gone. What people signed there to restrict stays in force, judged by the charter where it branched off. It
//! binds whom it names and nothing else: the chain itself is judged without it. So nobody whose term is over changes, by what
//! it shows later, which entries of the chain count, and all nodes come to the same whatever arrives first.

use std::collections::{BTreeMap, BTreeSet};

use super::entry::{Cut, Entry, EntryBody, Person};
use super::fold::{Fold, Pool};
use super::powers::PowersBeside;
use super::standing::Ends;
use crate::fact::Placed;
use crate::ids::{AuthorId, FactId};
use crate::scope::Scope;

/// Restrictions outside the chain, and where everything outside it branched off.
#[derive(Debug, Clone, Default)]
pub(super) struct Beside {
    branches: BTreeMap<FactId, u64>,
    cuts: BTreeMap<FactId, CutBeside>,
    ends: BTreeMap<(AuthorId, u32), Ends>,
    /// From which life on the council cut an author. In the chain a cut author begins no further life either.
    gone: BTreeMap<AuthorId, u32>,
    /// Who was revoked there, among those enrolled before this index.
    revoked: BTreeMap<FactId, (u64, String)>,
    people: BTreeMap<FactId, Person>,
    powers: PowersBeside,
    /// Entries that descend from something which is not here, and what that is.
    dangling: BTreeSet<FactId>,
    wanted: BTreeSet<FactId>,
}

/// A cut that counts although its entry is not in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutBeside {
    /// What it says.
    pub cut: Cut,
    /// Index of the chain's entry that it branched off behind; 0 for the founding.
    pub branch: u64,
}

impl Beside {
    /// Looks at everything that is outside.
    pub(super) fn of(fold: &Fold, pool: &Pool) -> Self {
        let mut beside = Self::default();
        if fold.term.0 > 0 {
            beside.look_at(fold, pool, pool.outside(fold));
        }
        beside
    }

    /// One entry arrived, and these are what it put into the chain.
    pub(super) fn look(&mut self, fold: &Fold, pool: &Pool, arrived: &FactId, chained: &[FactId]) {
        if fold.term.0 == 0 {
            return;
        }
        // One that many hang on is rare; a liar may have written thousands that hang on nothing.
        if self.wanted.contains(arrived) || chained.iter().any(|id| self.wanted.contains(id)) {
            self.dangling.clear();
            self.wanted.clear();
            self.look_at(fold, pool, pool.outside(fold));
        } else {
            self.look_at(fold, pool, pool.outside(fold).filter(|(id, _)| *id == arrived));
        }
    }

    fn look_at<'p>(
        &mut self,
        fold: &Fold,
        pool: &'p Pool,
        outside: impl Iterator<Item = (&'p FactId, Option<&'p EntryBody>)>,
    ) {
        for (id, body) in outside {
            if self.branches.contains_key(id) {
                continue;
            }
            let Some(body) = body else {
                self.branches.insert(*id, 0);
                continue;
            };
            match self.branch_of(fold, pool, body) {
                Some(branch) => self.take(fold, *id, body, branch),
                None => {
                    self.dangling.insert(*id);
                }
            }
        }
    }

    /// Index of the last entry of the chain that `body` descends from.
    fn branch_of(&mut self, fold: &Fold, pool: &Pool, body: &EntryBody) -> Option<u64> {
        let mut prev = body.prev;
        // A walk back cannot be longer than what is here, and a hash chain has no circle.
        for _ in 0..=pool.len() {
            let Some(id) = prev else { return Some(0) };
            if let Some(index) = fold.places.get(&id).or_else(|| self.branches.get(&id)) {
                return Some(*index);
            }
            if self.dangling.contains(&id) {
                return None;
            }
            match pool.outside_of(&id, fold) {
                Some(before) => prev = before.prev,
                None => {
                    self.wanted.insert(id);
                    return None;
                }
            }
        }
        None
    }

    fn take(&mut self, fold: &Fold, id: FactId, body: &EntryBody, branch: u64) {
        self.branches.insert(id, branch);
        let Ok(entry) = body.entry() else { return };
        let charter = fold.charter_at(branch);
        let council = body.signers(&fold.mesh, &charter.council) >= charter.threshold as usize;
        self.powers.take(&entry, council, branch);
        match entry {
            Entry::Cut(cut) if council || (fold.knew(&cut.author, branch) && fold.proves_fork(&cut)) => {
                self.cut(&cut, fold.life_at(&cut.author, branch), council);
                self.cuts.insert(id, CutBeside { cut, branch });
            }
            Entry::RevokePerson(person) if council => {
                self.revoked.insert(id, (branch + 1, person));
            }
            Entry::Person(person) if council => {
                self.people.insert(id, person);
            }
            _ => {}
        }
    }

    /// A cut of the life that its author had where the entry branched off, or of one that began outside, is meant for good. Proof
    /// of a fork is about one life.
    fn cut(&mut self, cut: &Cut, life: u32, council: bool) {
        let ends = self.ends.entry((cut.author, cut.incarnation)).or_default();
        ends.lower(&cut.ends);
        ends.revoked = true;
        if council && cut.incarnation >= life {
            let from = self.gone.entry(cut.author).or_insert(life);
            *from = life.min(*from);
        }
    }

    /// Whether this life of an author was cut there.
    pub(super) fn is_cut(&self, author: &AuthorId, life: u32) -> bool {
        self.gone.get(author).is_some_and(|from| life >= *from)
            || self.ends.get(&(*author, life)).is_some_and(|ends| ends.revoked)
    }

    /// Whether a fact lies within what is left of its author's life.
    pub(super) fn covers(&self, at: &impl Placed, id: FactId) -> bool {
        match self.ends.get(&(*at.author(), at.incarnation())) {
            Some(ends) => ends.covers(at, id),
            None => self.gone.get(at.author()).is_none_or(|from| at.incarnation() < *from),
        }
    }

    /// Where the lives that were cut end in `scope`, as far as their cuts name them.
    pub(super) fn ends_in(&self, scope: &Scope) -> impl Iterator<Item = ((AuthorId, u32), u64)> {
        self.ends.iter().map(move |(life, ends)| (*life, ends.end_of(scope).unwrap_or(0)))
    }

    /// Whether the person enrolled at `index` was revoked there.
    pub(super) fn is_revoked(&self, person: &Person, index: u64) -> bool {
        self.revoked.values().any(|(before, id)| *id == person.id && index < *before)
    }

    /// Whether the council said something else there of an agent's autonomy, after it was granted at `index`.
    pub(super) fn ends_autonomy(&self, of: &super::AutonomyOf, index: u64) -> bool {
        self.powers.ends_autonomy(of, index)
    }

    /// Whether resources were moved to this author there.
    pub(super) fn moved_to(&self, prefix: &str, author: &AuthorId) -> bool {
        self.powers.moved_to(prefix, author)
    }

    pub(super) fn people(&self) -> impl Iterator<Item = &Person> {
        self.people.values()
    }

    pub(super) fn branch(&self, id: &FactId) -> Option<u64> {
        self.branches.get(id).copied()
    }

    pub(super) fn cuts(&self) -> impl Iterator<Item = (&FactId, &CutBeside)> {
        self.cuts.iter()
    }
}
