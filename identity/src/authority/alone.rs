//! What the chain says of sites that are cut off: isolation grants, and sealed tokens.

use super::{Authority, Entry};
use crate::isolation::{BreakGlass, IsolationGrant};
use crate::{AuthorId, Digest, planted};

impl Authority {
    /// What a site may do past its lease, where the newest entry in effect about it gives anything.
    #[must_use]
    pub fn isolation_grant(&self, site: &str) -> Option<&IsolationGrant> {
        let stands = |grant: &IsolationGrant| !(planted::active("withdrawn-grant-stands") && grant.is_withdrawn());
        let newest = self.in_force().rev().find_map(|(_, applied)| match &applied.entry {
            Some(Entry::Isolation(grant)) if grant.site == site && stands(grant) => Some(grant),
            _ => None,
        });
        newest.filter(|grant| !grant.is_withdrawn())
    }

    /// Whether an accepted entry, in effect or not, ever let an author decide for a site past its lease: what it said no to then
    /// stays, whatever became of the grant.
    #[must_use]
    pub fn ever_acting(&self, author: &AuthorId, site: &str) -> bool {
        let Some(member) = self.member(author) else { return false };
        let id = member.spiffe_id.to_string();
        let accepted = self.fold.chain.iter().filter(|a| a.refused.is_none());
        accepted.into_iter().any(|a| match &a.entry {
            Some(Entry::Isolation(grant)) => grant.site == site && grant.acting.contains(&id),
            _ => false,
        })
    }

    /// The tokens that a node's life holds now: those of the newest entry in effect about it.
    #[must_use]
    pub fn break_glass(&self, author: &AuthorId, incarnation: u32) -> Option<&BreakGlass> {
        self.in_force().rev().find_map(|(_, applied)| match &applied.entry {
            Some(Entry::BreakGlass(b)) if (b.holder.author, b.holder.incarnation) == (*author, incarnation) => Some(b),
            _ => None,
        })
    }

    /// Whose tokens these ever were, newest first: for people who ask about one.
    pub fn break_glass_ever(&self, token: &Digest) -> impl Iterator<Item = &BreakGlass> {
        let accepted = self.fold.chain.iter().rev().filter(|a| a.refused.is_none());
        accepted.filter_map(move |a| match &a.entry {
            Some(Entry::BreakGlass(b)) if b.digests.contains(token) => Some(b),
            _ => None,
        })
    }
}
