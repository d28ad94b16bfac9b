//! Who is who: SPIFFE IDs, SVIDs, author keys, the charter, the authority chain and sealed facts.
//!
//! Sans-IO: no sockets, no clock, no tasks, no files. It knows nothing of peers or documents.
//!
//! * [`charter`]: the root held by people; its hash is the mesh id.
//! * [`authority`]: the pure fold of the authority chain into members, people and the active policy.
//! * [`budget`]: how rights to spend come into being; [`isolation`]: what a site may do when nobody can be asked.
//! * [`fact`]: headers, signatures and bodies; [`codec`] makes their encoding unique.
//! * [`x509`]: X.509-SVIDs, the embedded certificate authority, and what a verifier must check;
//! * [`jwt`]: JWT-SVIDs and the keys that sign them; [`trust_bundle`]: what a trust domain publishes of both.
//! * [`signer`]: how people sign, with a file, an agent or a token; [`ssh`] has OpenSSH's forms.
//! * [`passkey`]: how people sign on a page, with a WebAuthn passkey.
//! * [`seal`]: secrets at rest.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

pub mod authority;
pub mod budget;
pub mod charter;
pub mod clock;
pub mod codec;
pub mod fact;
#[cfg(test)]
mod fixtures;
pub mod ids;
pub mod isolation;
pub mod jwt;
pub mod keys;
pub mod memo;
pub mod passkey;
pub mod planted;
pub mod scope;
pub mod seal;
pub mod signer;
pub mod spiffe_id;
pub mod ssh;
pub mod trust_bundle;
pub mod x509;

pub use authority::Authority;
pub use charter::{Charter, SignedCharter};
pub use clock::{Clock, Confidence};
pub use fact::{Fact, Header, HeaderDraft, Placed, SealedFact};
pub use ids::{AuthorId, BodyHash, Digest, FactId, MeshId};
pub use keys::{AuthorKey, PublicKey, Signature};
pub use passkey::Passkey;
pub use scope::{Lane, Realm, Scope};
pub use signer::{SignerKey, SshSignature};
pub use spiffe_id::{Role, SpiffeId, TrustDomain};
pub use trust_bundle::{TrustBundle, TrustBundles};
