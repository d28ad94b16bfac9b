//! What an author's fact counts for, and who may read and write a scope.

use std::collections::BTreeMap;

use super::{Authority, ChainEnd, KIND_ENTRY, KIND_ISSUED, KIND_ROOTS};
use crate::fact::Placed;
use crate::ids::{AuthorId, FactId};
use crate::planted;
use crate::scope::{Lane, Realm, Scope};
use crate::spiffe_id::Role;

/// What a stored fact counts for. Outcomes, debits and restrictions count whatever this says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It grants, decides and edits as its kind may.
    Counts,
    /// Its author is enrolled, but the enrolment is not in effect yet.
    Pending,
    /// It lies beyond its author's cut, or its incarnation's end: evidence only.
    BeyondCut,
    /// Its author is suspended: stored, granting nothing.
    Suspended,
    /// Its author is not enrolled here, or claims an incarnation that no entry began.
    Unknown,
}

/// Where the chains of one (author, incarnation) end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ends {
    by_scope: BTreeMap<Scope, (u64, Option<FactId>)>,
    named: bool,
    /// Ended by a cut, not by a new incarnation.
    pub(super) revoked: bool,
}

impl Ends {
    /// Joins another statement of ends: the lowest wins, and a scope that either leaves out ends at its start.
    pub(super) fn lower(&mut self, ends: &[ChainEnd]) {
        let stated: BTreeMap<Scope, (u64, Option<FactId>)> =
            ends.iter().map(|e| (e.scope.clone(), (e.seq, e.id))).collect();
        if self.named {
            self.by_scope.retain(|scope, _| stated.contains_key(scope));
            for (scope, end) in &mut self.by_scope {
                // At one position a named fact says more than none, and of two all nodes take the same.
                let rank = |(seq, id): &(u64, Option<FactId>)| (*seq, id.is_none(), *id);
                if let Some(other) = stated.get(scope).filter(|other| rank(other) < rank(end)) {
                    *end = *other;
                }
            }
        } else {
            self.by_scope = stated;
            self.named = true;
        }
    }

    /// The last position that counts in a scope; none when nothing was said of this life, or not of that scope.
    pub(super) fn end_of(&self, scope: &Scope) -> Option<u64> {
        self.by_scope.get(scope).map(|(seq, _)| *seq)
    }

    pub(super) fn covers(&self, at: &impl Placed, id: FactId) -> bool {
        match self.by_scope.get(at.scope()) {
            Some((seq, end)) => at.seq() < *seq || (at.seq() == *seq && end.is_none_or(|e| e == id)),
            None => false,
        }
    }
}

/// The planted bug `cut-ignored`: a cut is stored and means nothing.
fn planted_off(ends: &Ends) -> bool {
    ends.revoked && planted::active("cut-ignored")
}

impl Authority {
    /// What a fact counts for now.
    #[must_use]
    pub fn standing(&self, at: &impl Placed, id: FactId) -> Standing {
        let Some(member) = self.fold.members.get(at.author()) else { return Standing::Unknown };
        if at.incarnation() > member.incarnation {
            return Standing::Unknown;
        }
        let key = (*at.author(), at.incarnation());
        if self.fold.ends.get(&key).is_some_and(|ends| !ends.covers(at, id) && !planted_off(ends)) {
            return Standing::BeyondCut;
        }
        let forgotten = planted::active("cut-ignored") || planted::active("cut-beside-forgotten");
        if !self.within_beside(at, id) && !forgotten {
            return Standing::BeyondCut;
        }
        if self.suspended.get(at.author()).is_some_and(|ends| !ends.covers(at, id)) {
            return Standing::Suspended;
        }
        if self.in_effect(member.index) { Standing::Counts } else { Standing::Pending }
    }

    /// Whether a fact lies beyond the end that the authority chain names for its author's life. What stands beside the
    /// chain does not count here: not every node comes to know of it, and documents must be the same everywhere.
    #[must_use]
    pub fn is_beyond_end(&self, at: &impl Placed, id: FactId) -> bool {
        let ends = self.fold.ends.get(&(*at.author(), at.incarnation()));
        ends.is_some_and(|ends| !ends.covers(at, id) && !planted_off(ends))
    }

    /// The last position in `scope` that counts of each life that is over: cut, followed by another, or a sequencer's whose
    /// term is over. What stands beside the chain is among it.
    #[must_use]
    pub fn ends_in(&self, scope: &Scope) -> BTreeMap<(AuthorId, u32), u64> {
        let chained = self.fold.ends.iter().filter(|(_, ends)| !planted_off(ends));
        let mut all: BTreeMap<_, _> = chained.map(|(life, ends)| (*life, ends.end_of(scope).unwrap_or(0))).collect();
        let beside = self.beside.ends_in(scope);
        // A life that the council cut beside the chain without naming its end has none that counts.
        let gone = self.fold.members.iter().map(|(author, m)| ((*author, m.incarnation), 0));
        let gone = gone.filter(|((author, life), _)| self.beside.is_cut(author, *life));
        let named: BTreeMap<_, _> = gone.chain(beside).collect();
        for ((author, life), seq) in named {
            if !self.is_sequencer_life(&author, life) && !planted::active("cut-ignored") {
                let end = all.entry((author, life)).or_insert(seq);
                *end = seq.min(*end);
            }
        }
        all
    }

    /// The last position in `scope` that counts of each author that is suspended.
    pub fn suspended_in(&self, scope: &Scope) -> impl Iterator<Item = (AuthorId, u64)> {
        self.suspended.iter().map(move |(author, ends)| (*author, ends.end_of(scope).unwrap_or(0)))
    }

    /// Whether this life of the author was cut.
    #[must_use]
    pub fn is_cut(&self, author: &AuthorId, incarnation: u32) -> bool {
        let cut = self.fold.is_cut(author, incarnation)
            || (self.beside.is_cut(author, incarnation) && !self.is_sequencer_life(author, incarnation));
        cut && !planted::active("cut-ignored")
    }

    /// Whether a fact lies before every cut beside the chain.
    pub(super) fn within_beside(&self, at: &impl Placed, id: FactId) -> bool {
        self.beside.covers(at, id) || self.is_sequencer_life(at.author(), at.incarnation())
    }

    /// The present sequencer is cut by a term alone: the council named it since.
    fn is_sequencer_life(&self, author: &AuthorId, incarnation: u32) -> bool {
        (*author, incarnation) == (self.fold.sequencer(), self.fold.sequencer_life())
    }

    /// Whether the author is suspended.
    #[must_use]
    pub fn is_suspended(&self, author: &AuthorId) -> bool {
        self.suspended.contains_key(author)
    }

    /// Reader rule: whether an author may receive anything of `scope`. A cut author reads nothing.
    #[must_use]
    pub fn may_read(&self, author: &AuthorId, scope: &Scope) -> bool {
        let Some(member) = self.fold.members.get(author) else { return false };
        let inside = match scope.realm() {
            Realm::Mesh => true,
            Realm::Site(site) => member.role.is_mesh_coordinator() || member.role.site() == Some(site),
        };
        inside && !self.is_cut(author, member.incarnation)
    }

    /// Writer rule: whether a fact of `kind` in `scope` by this author is stored at all. Cut or not does not matter
    /// here: facts beyond a cut stay as evidence.
    #[must_use]
    pub fn may_write(&self, author: &AuthorId, scope: &Scope, kind: &str) -> bool {
        let Some(member) = self.fold.members.get(author) else { return false };
        let coordinates = matches!(member.role, Role::Coordinator { .. } | Role::SiteCoordinator { .. });
        match (scope.lane(), scope.realm()) {
            (Lane::Authority, _) => self.wrote_entries(author) && kind == KIND_ENTRY,
            (Lane::Restrict, Realm::Mesh) => coordinates && kind == "restriction",
            (Lane::Restrict, Realm::Site(site)) => self.belongs(&member.role, site) && kind == "restriction",
            (Lane::Data, Realm::Mesh) if [KIND_ROOTS, KIND_ISSUED].contains(&kind) => member.role.is_mesh_coordinator(),
            (Lane::Data, Realm::Mesh) => kind != KIND_ENTRY && kind != "restriction",
            (Lane::Data, Realm::Site(site)) => {
                self.belongs(&member.role, site) && kind != KIND_ENTRY && kind != "restriction"
            }
        }
    }

    /// The sequencer, and those before it: what they wrote is the chain.
    fn wrote_entries(&self, author: &AuthorId) -> bool {
        *author == self.fold.sequencer() || self.fold.outgoing.contains(author)
    }

    fn belongs(&self, role: &Role, site: &str) -> bool {
        role.is_mesh_coordinator() || role.site() == Some(site)
    }
}
