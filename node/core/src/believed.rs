//! What the asking side of the enrol lane believes: the authority chain, as people signed it, and whom that names.
//!
//! A chain is longer than a reply. Before an asker can see that the server is one whom the amended charter names, it needs every
//! entry up to there: it says how far it has come ([`Have`]) and gets the next [`Part`], until the rest fits beside a grant.
//! Nothing in a part is believed that its author, and the council, did not sign; who hands it over does not matter.

use cauldron_identity::authority::EntryBody;
use cauldron_identity::charter::{Charter, CharterError};
use cauldron_identity::{Authority, FactId, MeshId, PublicKey, Scope, SealedFact, SignedCharter};
use minicbor::{Decode, Encode};

use crate::enrol::EnrolError;

/// How far the asker holds the authority chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Have {
    /// The last entry.
    #[n(0)]
    pub head: FactId,
    /// Its index.
    #[n(1)]
    pub index: u64,
    /// The number of its term.
    #[n(2)]
    pub term: u32,
}

/// The next stretch of an authority chain that does not fit into one reply.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Part {
    /// The founding charter.
    #[n(0)]
    pub charter: SignedCharter,
    /// Entries behind what the asker has.
    #[n(1)]
    pub authority: Vec<SealedFact>,
    /// Terms of the council.
    #[n(2)]
    #[cbor(default)]
    pub terms: Vec<EntryBody>,
}

/// What an asker knows already; nothing, when it joins.
#[derive(Debug, Clone, Default)]
pub struct Believed {
    /// Who may answer beside the coordinators: authors of its own site.
    pub(crate) issuers: Vec<PublicKey>,
    /// Its own authority chain, with what it was told on this errand.
    authority: Option<Authority>,
    /// What it was told on this errand.
    told: Vec<SealedFact>,
}

impl Believed {
    /// Whom a node believes that holds this chain.
    #[must_use]
    pub fn new(issuers: Vec<PublicKey>, authority: Option<Authority>) -> Self {
        Self { issuers, authority, told: Vec::new() }
    }

    /// How far it has come.
    #[must_use]
    pub fn have(&self) -> Option<Have> {
        let authority = self.authority.as_ref()?;
        Some(Have { head: authority.head()?, index: authority.index(), term: authority.term() })
    }

    /// Takes in a part of the chain. False when it brought nothing: to ask again would bring the same.
    ///
    /// # Errors
    /// [`EnrolError::Charter`] when the founding charter is not the pinned one.
    pub fn learn(&mut self, pinned: &MeshId, part: Part) -> Result<bool, EnrolError> {
        let before = self.have();
        let mut authority = self.authority_of(pinned, &part.charter)?;
        let taken = extend(&mut authority, &part.authority, &part.terms);
        self.authority = Some(authority);
        self.told.extend(part.authority.into_iter().zip(&taken).filter_map(|(fact, new)| new.then_some(fact)));
        Ok(self.have() != before)
    }

    /// All entries that it was told, these behind them: what a newcomer starts with.
    #[must_use]
    pub fn told_with(&self, rest: Vec<SealedFact>) -> Vec<SealedFact> {
        self.told.iter().cloned().chain(rest).collect()
    }

    /// The charter as all that is known and these entries leave it: nothing in it is believed that people did not sign, and a
    /// coordinator that they replaced cannot bring the past back. With it, the term and the length of the chain.
    pub(crate) fn charter_with(
        &self,
        pinned: &MeshId,
        charter: &SignedCharter,
        entries: &[SealedFact],
        terms: &[EntryBody],
    ) -> Result<(Charter, u32, u64), EnrolError> {
        let mut authority = self.authority_of(pinned, charter)?;
        extend(&mut authority, entries, terms);
        Ok((authority.next_charter().clone(), authority.term(), authority.index()))
    }

    fn authority_of(&self, pinned: &MeshId, charter: &SignedCharter) -> Result<Authority, EnrolError> {
        let founding = charter.open(pinned).map_err(EnrolError::Charter)?;
        let no_role = |why| EnrolError::Charter(CharterError::Content(why));
        self.authority.clone().map_or_else(|| Authority::new(*pinned, founding).map_err(no_role), Ok)
    }
}

/// The authority that these signed entries and terms make, from the founding charter on, and how many entries could not be believed.
///
/// # Errors
/// A sentence: the charter is not that of `mesh`.
pub fn authority_told(
    mesh: &MeshId,
    charter: &SignedCharter,
    entries: &[SealedFact],
    terms: &[EntryBody],
) -> Result<(Authority, usize), String> {
    let founding = charter.open(mesh).map_err(|e| e.to_string())?;
    let mut authority = Authority::new(*mesh, founding)?;
    let taken = extend(&mut authority, entries, terms);
    Ok((authority, taken.into_iter().filter(|taken| !taken).count()))
}

/// Adds entries and terms; says of each entry whether it was new.
fn extend(authority: &mut Authority, entries: &[SealedFact], terms: &[EntryBody]) -> Vec<bool> {
    let mut taken: Vec<Option<bool>> = vec![None; entries.len()];
    // A term says who may have written the entries behind it, and an entry whose signature a later term needs.
    loop {
        authority.apply_terms(terms);
        let mut progress = false;
        for (sealed, taken) in entries.iter().zip(&mut taken).filter(|(_, taken)| taken.is_none()) {
            let Ok(header) = sealed.peek() else { continue };
            let writes =
                header.scope == Scope::authority() && authority.may_write(&header.author, &header.scope, &header.kind);
            let key = authority.member(&header.author).filter(|_| writes).map(|m| m.key);
            if let Some(Ok(fact)) = key.map(|key| sealed.clone().open(&key)) {
                *taken = Some(authority.apply(&fact));
                progress = true;
            }
        }
        if !progress {
            return taken.into_iter().map(|taken| taken == Some(true)).collect();
        }
    }
}
