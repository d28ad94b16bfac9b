//! What the sequencer publishes of its certificate authority: root certificates, where each stands, and what was issued.
//!
//! Facts, not entries: whom to trust is the charter's to say (`root_keys`), which the council alone changes. A statement about
//! a key that the charter does not name is an announcement that nobody acts on.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::ids::Digest;

/// Fact kind of [`Roots`], in `mesh`, by the sequencer.
pub const KIND_ROOTS: &str = "authority.roots";
/// Fact kind of [`Issued`], in the narrowest scope that contains whom it was issued to, by whoever signed it.
pub const KIND_ISSUED: &str = "authority.issued";
/// The longest list of roots: one that signs, one that is prepared, and what is on its way out.
pub const ROOTS_MAX: usize = 8;
/// Certificates in one [`Issued`].
pub const ISSUED_MAX: usize = 64;

/// Where a root stands. One after the other, and none is skipped on the way in: a key signs only once everybody trusts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, serde::Serialize)]
#[cbor(index_only)]
#[serde(rename_all = "kebab-case")]
pub enum RootState {
    /// It signs nothing yet; trusted as soon as the charter names its key.
    #[n(0)]
    Prepared,
    /// It signs. There is one at most.
    #[n(1)]
    Active,
    /// It signs no more; what it signed runs out by itself.
    #[n(2)]
    Old,
    /// It signs no more, and whoever lives under it renews now.
    #[n(3)]
    Tainted,
}

/// One root of the trust domain.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Root {
    /// SHA-256 of its key's `SubjectPublicKeyInfo`, as the charter names it. Whoever takes the certificate compares.
    #[n(0)]
    pub key: Digest,
    /// The certificate, DER.
    #[n(1)]
    pub certificate: ByteVec,
    /// Where it stands.
    #[n(2)]
    pub state: RootState,
    /// Last second of the certificate, Unix seconds.
    #[n(3)]
    pub not_after_s: u64,
}

/// Body of a [`KIND_ROOTS`] fact: all roots from here on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Roots {
    /// In the order in which they came.
    #[n(0)]
    pub roots: Vec<Root>,
}

/// What an author says of the roots that it goes by, inside its `held` facts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Trust {
    /// Keys of the roots that it accepts certificates under now, in ascending order.
    #[n(0)]
    pub roots: Vec<Digest>,
    /// Keys of the roots under which its own certificates stand: its SVID, those of its workloads, its site's intermediate.
    #[n(1)]
    pub under: Vec<Digest>,
}

/// What kind of credential was issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, serde::Serialize)]
#[cbor(index_only)]
#[serde(rename_all = "kebab-case")]
pub enum IssuedKind {
    /// An X.509-SVID.
    #[n(0)]
    X509Svid,
    /// A site's intermediate.
    #[n(1)]
    SiteIntermediate,
    /// A JWT-SVID.
    #[n(2)]
    JwtSvid,
}

/// One credential that was issued.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Issuance {
    /// What it is.
    #[n(0)]
    pub kind: IssuedKind,
    /// To whom.
    #[n(1)]
    pub spiffe_id: String,
    /// SHA-256 of the certificate (DER) or of the token: what a holder of either compares with.
    #[n(2)]
    pub digest: Digest,
    /// Last second of validity, Unix seconds.
    #[n(3)]
    pub not_after_s: u64,
    /// SHA-256 of the `SubjectPublicKeyInfo` of the key that signed it.
    #[n(4)]
    pub signed_by: Digest,
}

/// Body of a [`KIND_ISSUED`] fact.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Issued {
    /// At most [`ISSUED_MAX`].
    #[n(0)]
    pub issued: Vec<Issuance>,
}

impl Roots {
    /// The root that signs.
    #[must_use]
    pub fn active(&self) -> Option<&Root> {
        self.roots.iter().find(|root| root.state == RootState::Active)
    }

    /// The root with this key.
    #[must_use]
    pub fn get(&self, key: &Digest) -> Option<&Root> {
        self.roots.iter().find(|root| root.key == *key)
    }
}
