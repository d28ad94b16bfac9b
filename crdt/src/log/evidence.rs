//! Evidence of a fork: two signed headers for one position.

use cauldron_identity::{Header, MeshId, SealedFact};
use minicbor::{Decode, Encode};

use super::{Access, Refusal};

/// Two different headers that one author signed for the same place in the same chain. It needs no trust: whoever has
/// the author's key can check it. Bodies are left out.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Evidence {
    /// The one with the smaller id.
    #[n(0)]
    a: SealedFact,
    /// The other.
    #[n(1)]
    b: SealedFact,
}

impl Evidence {
    /// From two facts for one position; which was seen first does not show.
    #[must_use]
    pub fn new(one: &SealedFact, other: &SealedFact) -> Self {
        let (a, b) = if one.id() <= other.id() { (one, other) } else { (other, one) };
        Self { a: a.without_body(), b: b.without_body() }
    }

    /// Both headers with their signatures.
    #[must_use]
    pub fn both(&self) -> [&SealedFact; 2] {
        [&self.a, &self.b]
    }

    /// The header of the smaller id; none when it cannot be read, which [`Evidence::verify`] refuses.
    #[must_use]
    pub fn header(&self) -> Option<Header> {
        self.a.peek().ok()
    }

    /// The forked position.
    #[must_use]
    pub fn seq(&self) -> u64 {
        // Positions start at 1, so an unreadable header, which no verified evidence has, freezes all.
        self.header().map_or(1, |h| h.seq)
    }

    /// Checks that the two differ, name one position of one chain, and were both signed by its author.
    ///
    /// # Errors
    /// [`Refusal::NoEvidence`], or why one of the two is no fact.
    pub fn verify(&self, mesh: MeshId, access: &dyn Access) -> Result<Header, Refusal> {
        let (a, b) = (self.consistent()?, self.b.peek()?);
        if a.mesh != mesh || b.mesh != mesh {
            return Err(Refusal::WrongMesh { found: a.mesh });
        }
        let key = access.author_key(&a.author).ok_or(Refusal::UnknownAuthor { author: a.author })?;
        self.a.clone().open(&key)?;
        self.b.clone().open(&key)?;
        Ok(a)
    }

    /// Checks all of [`Evidence::verify`] that needs no key.
    pub(super) fn consistent(&self) -> Result<Header, Refusal> {
        let (a, b) = (self.a.peek()?, self.b.peek()?);
        if self.a.body().is_some() || self.b.body().is_some() {
            return Err(Refusal::NoEvidence("it carries a body"));
        }
        if self.a.id() >= self.b.id() {
            return Err(Refusal::NoEvidence("the two are one, or in the wrong order"));
        }
        if (&a.scope, a.author, a.incarnation, a.seq) != (&b.scope, b.author, b.incarnation, b.seq) {
            return Err(Refusal::NoEvidence("the two stand at different positions"));
        }
        Ok(a)
    }
}
