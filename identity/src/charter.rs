//! The charter: one root, held by people. Its hash is the mesh id that every token and every node pins.

use std::collections::BTreeSet;

use minicbor::{Decode, Encode};

use crate::codec::{CodecError, from_cbor, to_cbor};
use crate::ids::{Digest, MeshId, sha256};
use crate::keys::{AuthorKey, PublicKey, Signature};
use crate::spiffe_id::{Role, SpiffeId, TrustDomain};

const SIGN_DOMAIN: &str = "cauldron/charter/v0";
/// Council keys of one charter: people, not machines.
pub const COUNCIL_MAX: usize = 32;

/// A coordinator named by the charter: no coordinator can name another.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Seat {
    /// Its author key.
    #[n(0)]
    pub author: PublicKey,
    /// Its SPIFFE ID, `/coordinator/<name>` or `/site/<site>/coordinator/<name>`.
    #[n(1)]
    pub spiffe_id: String,
}

/// How old a node's lease may be for a class of action, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ClassAges {
    /// R0, reads.
    #[n(0)]
    pub r0_ms: u64,
    /// R1, reversible and small.
    #[n(1)]
    pub r1_ms: u64,
    /// R2, compensable.
    #[n(2)]
    pub r2_ms: u64,
    /// R3, irreversible or wide.
    #[n(3)]
    pub r3_ms: u64,
}

impl Default for ClassAges {
    /// Governance §4.
    fn default() -> Self {
        const MINUTE_MS: u64 = 60_000;
        Self { r0_ms: 24 * 60 * MINUTE_MS, r1_ms: 60 * MINUTE_MS, r2_ms: 10 * MINUTE_MS, r3_ms: MINUTE_MS / 2 }
    }
}

/// What the council founded.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Charter {
    /// Format version.
    #[n(0)]
    pub v: u8,
    /// The SPIFFE trust domain.
    #[n(1)]
    pub trust_domain: String,
    /// SHA-256 of the SubjectPublicKeyInfo of each root *key*: the authority may re-issue a certificate of one.
    #[n(2)]
    pub root_keys: Vec<Digest>,
    /// Council keys, which no node holds.
    #[n(3)]
    pub council: Vec<PublicKey>,
    /// How many council keys must sign; more than half.
    #[n(4)]
    pub threshold: u32,
    /// Keys that may replace a lost council, and name a sequencer in its place; more than half of them sign.
    #[n(5)]
    pub recovery: Vec<PublicKey>,
    /// The coordinator that writes the authority chain.
    #[n(6)]
    pub sequencer: Seat,
    /// All coordinators, the sequencer among them.
    #[n(7)]
    pub coordinators: Vec<Seat>,
    /// Who may activate policy; two sign, or the only one.
    #[n(8)]
    pub policy_authors: Vec<PublicKey>,
    /// WebAuthn relying party id of the approval pages.
    #[n(9)]
    pub rp_id: String,
    /// Origins from which a passkey vote counts.
    #[n(10)]
    pub vote_origins: Vec<String>,
    /// How old a lease may be, by class.
    #[n(11)]
    pub class_ages: ClassAges,
    /// How long governance and authority facts are kept at least, days.
    #[n(12)]
    pub retention_floor_days: u32,
    /// When it was founded, milliseconds since the Unix epoch: the first mark of every clock.
    #[n(13)]
    pub created_ms: u64,
}

/// One signature and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct KeySignature {
    /// The signer.
    #[n(0)]
    pub key: PublicKey,
    /// The signature.
    #[n(1)]
    pub signature: Signature,
}

/// A charter's bytes and the council's signatures. The mesh id is the hash of the bytes alone, so that a signature can
/// be added without changing it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SignedCharter {
    /// The encoded [`Charter`].
    #[cbor(n(0), with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
    /// Signatures over the mesh id.
    #[n(1)]
    pub signatures: Vec<KeySignature>,
}

/// Why a charter is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum CharterError {
    /// Not strictly encoded or of another shape.
    #[error("the charter cannot be read")]
    Encoding(#[source] CodecError),
    /// A rule about its content is broken.
    #[error("the charter is not valid: {0}")]
    Content(String),
    /// Not enough council members signed.
    #[error("{signed} of {threshold} needed council keys signed the charter")]
    Threshold {
        /// Distinct valid council signatures.
        signed: usize,
        /// How many are needed.
        threshold: u32,
    },
    /// Its hash is not the pinned one.
    #[error("the charter's hash is {found}, but {pinned} is pinned: this is another mesh")]
    Pin {
        /// Hash of the bytes at hand.
        found: MeshId,
        /// The pinned hash.
        pinned: MeshId,
    },
}

impl SignedCharter {
    /// Encodes `charter` and signs it with `keys`.
    #[must_use]
    pub fn sign(charter: &Charter, keys: &[&AuthorKey]) -> Self {
        let bytes = to_cbor(charter);
        let mesh = MeshId::from_bytes(sha256(&bytes));
        let signatures = keys
            .iter()
            .map(|key| KeySignature { key: key.public(), signature: key.sign(SIGN_DOMAIN, mesh.as_bytes()) })
            .collect();
        Self { bytes, signatures }
    }

    /// SHA-256 of the charter's bytes.
    #[must_use]
    pub fn mesh_id(&self) -> MeshId {
        MeshId::from_bytes(sha256(&self.bytes))
    }

    /// Checks the pin, the encoding, the content and the council's signatures.
    ///
    /// # Errors
    /// [`CharterError`].
    pub fn open(&self, pinned: &MeshId) -> Result<Charter, CharterError> {
        let found = self.mesh_id();
        if found != *pinned {
            return Err(CharterError::Pin { found, pinned: *pinned });
        }
        let charter: Charter = from_cbor(&self.bytes).map_err(CharterError::Encoding)?;
        charter.check().map_err(CharterError::Content)?;
        let signed = council_signers(&charter.council, &self.signatures, SIGN_DOMAIN, found.as_bytes());
        if signed < charter.threshold as usize {
            return Err(CharterError::Threshold { signed, threshold: charter.threshold });
        }
        Ok(charter)
    }
}

/// How many distinct keys of `allowed` signed `message` under `domain`.
#[must_use]
pub fn council_signers(allowed: &[PublicKey], signatures: &[KeySignature], domain: &str, message: &[u8]) -> usize {
    let valid: BTreeSet<PublicKey> = signatures
        .iter()
        .filter(|s| allowed.contains(&s.key) && s.key.verify(domain, message, &s.signature).is_ok())
        .map(|s| s.key)
        .collect();
    valid.len()
}

impl Charter {
    /// The trust domain, parsed.
    ///
    /// # Errors
    /// A sentence, when it is no SPIFFE trust domain name.
    pub fn trust_domain(&self) -> Result<TrustDomain, String> {
        TrustDomain::new(&self.trust_domain).map_err(|e| format!("trust domain {:?}: {e}", self.trust_domain))
    }

    /// Whether a charter's content keeps its own rules, as it is founded and after each amendment.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.v != crate::fact::VERSION {
            return Err(format!("version {}; this build reads version {}", self.v, crate::fact::VERSION));
        }
        let domain = self.trust_domain()?;
        let members: BTreeSet<_> = self.council.iter().collect();
        let (n, m) = (self.council.len(), self.threshold as usize);
        if n == 0 || n > COUNCIL_MAX || members.len() != n {
            return Err(format!("the council must be 1 to {COUNCIL_MAX} distinct keys, found {n}"));
        }
        if m > n || m * 2 <= n {
            return Err(format!("the threshold must be more than half of {n} council keys, found {m}"));
        }
        if !self.coordinators.contains(&self.sequencer) {
            return Err("the sequencer is not among the coordinators".into());
        }
        if self.root_keys.is_empty() || self.policy_authors.is_empty() {
            return Err("root keys and policy authors must not be empty".into());
        }
        let names: BTreeSet<_> = self.coordinators.iter().map(|seat| &seat.spiffe_id).collect();
        let keys: BTreeSet<_> = self.coordinators.iter().map(|seat| seat.author).collect();
        if names.len() != self.coordinators.len() || keys.len() != names.len() {
            return Err("two seats have one name or one author key".into());
        }
        for seat in &self.coordinators {
            let id = SpiffeId::new(&seat.spiffe_id).map_err(|e| format!("{}: {e}", seat.spiffe_id))?;
            let coordinates = matches!(Role::of(&id), Ok(Role::Coordinator { .. } | Role::SiteCoordinator { .. }));
            if !coordinates || *id.trust_domain() != domain {
                return Err(format!("{} is no coordinator of {domain}", seat.spiffe_id));
            }
            if seat.author.is_weak() {
                return Err(format!("the author key of {} is weak", seat.spiffe_id));
            }
        }
        let people = self.council.iter().chain(&self.recovery).chain(&self.policy_authors);
        if people.into_iter().any(PublicKey::is_weak) {
            return Err("a council, recovery or policy key is weak".into());
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample(council: &[&AuthorKey], threshold: u32, sequencer: &AuthorKey) -> Charter {
        let seat = Seat { author: sequencer.public(), spiffe_id: "spiffe://acme.test/coordinator/hq".into() };
        Charter {
            v: 0,
            trust_domain: "acme.test".into(),
            root_keys: vec![Digest::of("root", b"1")],
            council: council.iter().map(|k| k.public()).collect(),
            threshold,
            recovery: vec![],
            sequencer: seat.clone(),
            coordinators: vec![seat],
            policy_authors: vec![council[0].public()],
            rp_id: "localhost".into(),
            vote_origins: vec![],
            class_ages: ClassAges::default(),
            retention_floor_days: 180,
            created_ms: 1_700_000_000_000,
        }
    }

    fn key(n: u8) -> AuthorKey {
        AuthorKey::from_seed(&[n; 32])
    }

    #[test]
    fn m_of_n_council_signatures_open_it_and_duplicates_count_once() {
        let (a, b, c, hq) = (key(1), key(2), key(3), key(9));
        let charter = sample(&[&a, &b, &c], 2, &hq);
        let open = |keys: &[&AuthorKey]| {
            let signed = SignedCharter::sign(&charter, keys);
            signed.open(&signed.mesh_id())
        };
        assert_eq!(open(&[&a, &b]), Ok(charter.clone()));
        assert_eq!(open(&[&a, &a]), Err(CharterError::Threshold { signed: 1, threshold: 2 }));
        assert_eq!(open(&[&a, &hq]), Err(CharterError::Threshold { signed: 1, threshold: 2 }));
    }

    #[test]
    fn another_mesh_is_named_as_such() {
        let (a, hq) = (key(1), key(9));
        let signed = SignedCharter::sign(&sample(&[&a], 1, &hq), &[&a]);
        let pinned = MeshId::from_bytes([0; 32]);
        assert_eq!(signed.open(&pinned), Err(CharterError::Pin { found: signed.mesh_id(), pinned }));
    }

    #[test]
    fn content_rules_hold() {
        let (a, b, hq) = (key(1), key(2), key(9));
        let bad = |change: &dyn Fn(&mut Charter)| {
            let mut charter = sample(&[&a, &b], 2, &hq);
            change(&mut charter);
            let signed = SignedCharter::sign(&charter, &[&a, &b]);
            assert!(matches!(signed.open(&signed.mesh_id()), Err(CharterError::Content(_))), "{charter:?}");
        };
        bad(&|c| c.v = 1);
        bad(&|c| c.threshold = 1);
        bad(&|c| c.threshold = 3);
        bad(&|c| c.council.push(a.public()));
        bad(&|c| c.coordinators.clear());
        bad(&|c| c.trust_domain = "Not A Domain".into());
        bad(&|c| c.council.push(PublicKey::from_bytes([0; 32])));
        bad(&|c| {
            c.sequencer.spiffe_id = "spiffe://acme.test/site/lyon/node/lyon".into();
            c.coordinators = vec![c.sequencer.clone()];
        });
    }
}
