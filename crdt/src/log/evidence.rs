//! Evidence of a fork: two branches of one chain, signed by its author.

use cauldron_identity::fact::FactError;
use cauldron_identity::{FactId, Header, MeshId, PublicKey, SealedFact};
use minicbor::{Decode, Encode};

use super::{Access, Refusal};
use crate::limits::VOUCH_SPAN;

/// Two different headers of one author for the same place in the same chain, each with what proves that the author wrote
/// it: its own signature, or the headers behind it up to one whose signature is good. It needs no trust: whoever has
/// the author's key can check it. Bodies are left out.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Evidence {
    /// The branch that begins with the smaller id.
    #[n(0)]
    a: Vec<SealedFact>,
    /// The other.
    #[n(1)]
    b: Vec<SealedFact>,
}

impl Evidence {
    /// From two branches that begin at one position; which was seen first does not show.
    #[must_use]
    pub fn new(one: &[SealedFact], other: &[SealedFact]) -> Self {
        let id = |branch: &[SealedFact]| branch.first().map(SealedFact::id);
        let (a, b) = if id(one) <= id(other) { (one, other) } else { (other, one) };
        let bare = |branch: &[SealedFact]| branch.iter().map(SealedFact::without_body).collect();
        Self { a: bare(a), b: bare(b) }
    }

    /// The ids of the two facts for one position.
    #[must_use]
    pub fn ids(&self) -> Vec<FactId> {
        [&self.a, &self.b].into_iter().filter_map(|branch| branch.first()).map(SealedFact::id).collect()
    }

    /// The header of the smaller id; none when it cannot be read, which [`Evidence::verify`] refuses.
    #[must_use]
    pub fn header(&self) -> Option<Header> {
        self.a.first()?.peek().ok()
    }

    /// The forked position.
    #[must_use]
    pub fn seq(&self) -> u64 {
        // Positions start at 1, so an unreadable header, which no verified evidence has, freezes all.
        self.header().map_or(1, |h| h.seq)
    }

    /// Checks that the two differ, name one position of one chain, and were both written by its author.
    ///
    /// # Errors
    /// [`Refusal::NoEvidence`], or why one of the two is no fact.
    pub fn verify(&self, mesh: MeshId, access: &dyn Access) -> Result<Header, Refusal> {
        let header = self.consistent()?;
        if header.mesh != mesh {
            return Err(Refusal::WrongMesh { found: header.mesh });
        }
        let key = access.author_key(&header.author).ok_or(Refusal::UnknownAuthor { author: header.author })?;
        let signed = |branch: &[SealedFact], key: &PublicKey| -> Result<(), FactError> {
            branch.last().map_or(Ok(()), |last| last.clone().open(key).map(drop))
        };
        signed(&self.a, &key)?;
        signed(&self.b, &key)?;
        Ok(header)
    }

    /// Checks all of [`Evidence::verify`] that needs no key.
    pub(super) fn consistent(&self) -> Result<Header, Refusal> {
        let (a, b) = (linked(&self.a)?, linked(&self.b)?);
        let id = |branch: &[SealedFact]| branch.first().map(SealedFact::id);
        if id(&self.a) >= id(&self.b) {
            return Err(Refusal::NoEvidence("the two are one, or in the wrong order"));
        }
        if place(&a) != place(&b) || a.seq != b.seq {
            return Err(Refusal::NoEvidence("the two stand at different positions"));
        }
        Ok(a)
    }
}

fn place(header: &Header) -> (MeshId, &cauldron_identity::Scope, cauldron_identity::AuthorId, u32) {
    (header.mesh, &header.scope, header.author, header.incarnation)
}

/// The first header of a branch that is one piece, and no longer than any node needs it to be.
fn linked(branch: &[SealedFact]) -> Result<Header, Refusal> {
    if branch.is_empty() || branch.len() as u64 > VOUCH_SPAN {
        return Err(Refusal::NoEvidence("a branch is empty or too long"));
    }
    let mut headers: Vec<Header> = Vec::with_capacity(branch.len());
    for (index, sealed) in branch.iter().enumerate() {
        if sealed.body().is_some() {
            return Err(Refusal::NoEvidence("it carries a body"));
        }
        let header = sealed.peek()?;
        let before = index.checked_sub(1).and_then(|i| Some((headers.get(i)?, branch.get(i)?)));
        let follows = before.is_none_or(|(before, sealed)| {
            place(&header) == place(before) && header.seq == before.seq + 1 && header.prev == Some(sealed.id())
        });
        if !follows {
            return Err(Refusal::NoEvidence("a branch is not one piece"));
        }
        headers.push(header);
    }
    headers.into_iter().next().ok_or(Refusal::NoEvidence("a branch is empty or too long"))
}
