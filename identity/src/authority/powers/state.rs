//! What the accepted entries have come to, and what of it is in effect.

use std::collections::{BTreeMap, BTreeSet};

use super::judge::named_owner;
use super::{Autonomy, AutonomyGrant, AutonomyOf, Fenced, Level, Lift, Reassign};
use crate::authority::{Authority, Entry, Member};
use crate::budget::Life;
use crate::fact::Placed;
use crate::ids::{AuthorId, FactId};
use crate::planted;

/// Lifts, autonomy and moves of the accepted entries, in effect or not.
#[derive(Debug, Clone, Default)]
pub(in crate::authority) struct Powers {
    /// Index of the entry that lifts each restriction.
    pub(super) lifts: BTreeMap<FactId, u64>,
    /// Indexes of the entries about each agent, oldest first.
    pub(super) autonomy: BTreeMap<AutonomyOf, Vec<u64>>,
    /// By prefix, oldest first.
    pub(super) moves: BTreeMap<String, Vec<Moved>>,
}

/// One move of resources.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moved {
    pub(super) index: u64,
    pub(super) to: Life,
    /// Whose offer it spent, and the place of that offer in its author's chain.
    offer: Option<(Life, u64)>,
}

/// A restriction that is lifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifted<'a> {
    /// Index of the entry that lifts it.
    pub index: u64,
    /// When the sequencer wrote that, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Why.
    pub reason: &'a str,
}

/// Autonomy that was granted, or taken back, and what is left of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Autonomous<'a> {
    /// Whose.
    pub of: &'a AutonomyOf,
    /// What.
    pub grant: &'a AutonomyGrant,
    /// Index of the entry.
    pub index: u64,
    /// The entry.
    pub entry: FactId,
    /// Why.
    pub reason: &'a str,
}

impl Powers {
    pub(in crate::authority) fn lift(&mut self, lift: &Lift, index: u64) {
        for id in &lift.restrictions {
            self.lifts.entry(*id).or_insert(index);
        }
    }

    pub(in crate::authority) fn autonomy(&mut self, autonomy: &Autonomy, index: u64) {
        self.autonomy.entry(autonomy.of.clone()).or_default().push(index);
    }

    pub(in crate::authority) fn reassign(&mut self, reassign: &Reassign, index: u64) {
        let offer = reassign.handover.as_ref().and_then(|h| h.offer.peek().ok());
        let offer = offer.map(|header| (Life { author: header.author, incarnation: header.incarnation }, header.seq));
        let moved = Moved { index, to: reassign.to, offer };
        self.moves.entry(reassign.prefix.clone()).or_default().push(moved);
    }

    /// The place of the last offer of a life for these resources that was spent.
    pub(super) fn spent(&self, prefix: &str, life: Life) -> Option<u64> {
        let spent = self.moves.get(prefix).into_iter().flatten().filter_map(|moved| moved.offer);
        spent.filter(|(of, _)| *of == life).map(|(_, seq)| seq).max()
    }
}

impl Authority {
    /// Whether a restriction is lifted by an entry in effect.
    #[must_use]
    pub fn lifted(&self, restriction: &FactId) -> Option<Lifted<'_>> {
        let index = *self.fold.powers.lifts.get(restriction)?;
        let applied = self.entry_in_effect(index)?;
        let Some(Entry::Lift(lift)) = &applied.entry else { return None };
        Some(Lifted { index, at_ms: applied.at_ms, reason: &lift.reason })
    }

    /// What an agent was granted and holds at `now_ms` (milliseconds since the Unix epoch): the newest entry in effect about it.
    #[must_use]
    pub fn autonomy(&self, of: &AutonomyOf, now_ms: u64) -> Option<Autonomous<'_>> {
        let any_build = |other: &&AutonomyOf| {
            planted::active("autonomy-any-build") && (&other.action_class, &other.site) == (&of.action_class, &of.site)
        };
        let known = self.fold.powers.autonomy.get_key_value(of);
        let known = known.or_else(|| self.fold.powers.autonomy.iter().find(|(other, _)| any_build(other)));
        let (of, indexes) = known?;
        self.newest_grant(of, indexes).filter(|held| now_ms < held.grant.expires_ms)
    }

    /// The newest grant of every agent that was not taken back, expired or not, in the order of their names.
    pub fn autonomies(&self) -> impl Iterator<Item = Autonomous<'_>> {
        self.fold.powers.autonomy.iter().filter_map(|(of, indexes)| self.newest_grant(of, indexes))
    }

    fn newest_grant<'a>(&'a self, of: &'a AutonomyOf, indexes: &[u64]) -> Option<Autonomous<'a>> {
        let newest =
            indexes.iter().rev().find_map(|index| self.entry_in_effect(*index).map(|applied| (*index, applied)));
        let (index, applied) = newest?;
        let Some(Entry::Autonomy(Autonomy { grant: Some(grant), reason, .. })) = &applied.entry else { return None };
        // What the council took back, or granted anew, in entries that a term took out of the chain: nothing grants it again.
        if self.beside.ends_autonomy(of, index) {
            return None;
        }
        Some(Autonomous { of, grant, index, entry: applied.id, reason })
    }

    /// The node that may act on these resources (`<site>/<node>/<connector>`): whom the last move names once that is in effect, else
    /// the node of that name. Nobody in between, or when it was cut.
    #[must_use]
    pub fn owner_of_prefix(&self, prefix: &str) -> Option<(AuthorId, &Member)> {
        let (author, index) = self.fold.chained_owner(prefix)?;
        if index == 0 {
            let named = named_owner(prefix, &self.charter().trust_domain)?;
            return self.author_of(&named).map(|(author, member)| (*author, member));
        }
        let member = self.member(&author)?;
        (self.in_effect(index) && !self.is_cut(&author, member.incarnation)).then_some((author, member))
    }

    /// Index of the last accepted move of these resources; 0 for none. Whoever did not know of it knows another owner.
    #[must_use]
    pub fn moved_at(&self, prefix: &str) -> u64 {
        self.fold.powers.moves.get(prefix).and_then(|moves| moves.last()).map_or(0, |moved| moved.index)
    }

    /// What the council said, when it moved these resources last, keeps their old owner from acting, whoever handed them on since; none
    /// where it never moved them.
    #[must_use]
    pub fn fencing_of(&self, prefix: &str) -> Option<Fenced> {
        let mut moves = self.fold.powers.moves.get(prefix)?.iter().rev();
        moves.find_map(|moved| match &self.entry_in_effect(moved.index)?.entry {
            Some(Entry::Reassign(reassign)) => reassign.fencing,
            _ => None,
        })
    }

    /// Whether an author owns these resources, or ever did, as far as any entry says.
    #[must_use]
    pub fn ever_owned(&self, author: &AuthorId, prefix: &str) -> bool {
        let named = named_owner(prefix, &self.charter().trust_domain);
        let by_name = self.member(author).is_some_and(|m| named.as_ref() == Some(&m.spiffe_id));
        let moves = self.fold.powers.moves.get(prefix).into_iter().flatten();
        by_name || moves.map(|moved| moved.to.author).any(|to| to == *author) || self.beside.moved_to(prefix, author)
    }

    /// Whether an offer (`handover`) that stands there still binds its author: it is of the author's present life, not beyond a cut,
    /// and neither it nor a later one for these resources was spent.
    #[must_use]
    pub fn offer_is_open(&self, at: &impl Placed, id: FactId, prefix: &str) -> bool {
        let life = Life { author: *at.author(), incarnation: at.incarnation() };
        let present = self.member(at.author()).is_some_and(|m| m.incarnation == at.incarnation());
        let spent = self.fold.powers.spent(prefix, life).is_some_and(|seq| at.seq() <= seq);
        let beyond = self.is_cut(at.author(), at.incarnation()) && self.is_beyond_end(at, id);
        present && !spent && !beyond
    }

    /// Whom a term took a reassignment from may still act on it.
    pub(in crate::authority) fn never_moved(&self, reassign: &Reassign) -> Result<(), String> {
        let other = |body: &crate::authority::EntryBody| {
            body.entry().is_ok_and(|entry| self.fold.moves_elsewhere(reassign, &entry))
        };
        let mut outside = self.pool.outside(&self.fold);
        match outside.find(|(_, body)| body.is_some_and(other)) {
            Some((id, _)) => Err(format!(
                "entry {} moved {} to another node on a branch that a term ended: name that node, or cut it first",
                id.short(),
                reassign.prefix
            )),
            None => Ok(()),
        }
    }

    /// Since when an author's present life says that it holds the chain up to `index`, milliseconds since the Unix epoch.
    #[must_use]
    pub fn holds_since(&self, author: &AuthorId, index: u64) -> Option<u64> {
        let life = self.member(author)?.incarnation;
        let said = self.held.get(author).into_iter().flatten().filter(|w| {
            w.header.incarnation == life
                && w.held.index >= index
                && self.fold.places.get(&w.held.head) == Some(&w.held.index)
        });
        said.map(|w| w.header.wall_ms()).min()
    }

    /// An accepted entry in effect, by its index.
    fn entry_in_effect(&self, index: u64) -> Option<&crate::authority::Applied> {
        self.in_effect(index).then(|| self.fold.chain.get(usize::try_from(index - 1).ok()?)).flatten()
    }

    /// The councils that the charter ever named, each with its threshold: what they stopped stays stopped.
    pub fn councils_ever(&self) -> impl Iterator<Item = (&[crate::signer::SignerKey], usize)> {
        let charters = std::iter::once(&self.founding).chain(self.fold.charters.iter().map(|(_, charter)| charter));
        charters.map(|charter| (charter.council.as_slice(), charter.threshold as usize))
    }
}

/// What was said of autonomy and ownership in entries that a term took out of the chain.
#[derive(Debug, Clone, Default)]
pub(in crate::authority) struct PowersBeside {
    /// Grants before this index are over.
    autonomy: BTreeMap<AutonomyOf, u64>,
    moves: BTreeSet<(String, AuthorId)>,
}

impl PowersBeside {
    /// Takes an entry in that branched off behind the chain's entry `branch`.
    pub(in crate::authority) fn take(&mut self, entry: &Entry, council: bool, branch: u64) {
        match entry {
            Entry::Autonomy(autonomy) if council => {
                let before = self.autonomy.entry(autonomy.of.clone()).or_default();
                *before = (branch + 1).max(*before);
            }
            Entry::Reassign(reassign) => {
                self.moves.insert((reassign.prefix.clone(), reassign.to.author));
            }
            _ => {}
        }
    }

    pub(in crate::authority) fn ends_autonomy(&self, of: &AutonomyOf, index: u64) -> bool {
        self.autonomy.get(of).is_some_and(|before| index < *before)
    }

    pub(in crate::authority) fn moved_to(&self, prefix: &str, author: &AuthorId) -> bool {
        self.moves.iter().any(|(of, to)| of == prefix && to == author)
    }
}

impl Level {
    /// `L0` to `L4`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::L0 => "L0",
            Self::L1 => "L1",
            Self::L2 => "L2",
            Self::L3 => "L3",
            Self::L4 => "L4",
        }
    }
}
