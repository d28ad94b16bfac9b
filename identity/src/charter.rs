//! The charter: one root, held by people. Its hash is the mesh id that every token and every node pins.

use std::collections::BTreeSet;

use minicbor::{Decode, Encode};

use crate::codec::{CodecError, from_cbor, to_cbor};
use crate::ids::{Digest, MeshId, sha256};
use crate::keys::{AuthorKey, PublicKey};
use crate::passkey::RelyingParty;
use crate::signer::{SignerKey, SshSignature};
use crate::spiffe_id::{Role, SpiffeId, TrustDomain};

/// Namespace of signatures over a charter.
pub const CHARTER_NAMESPACE: &str = "cauldron/charter/v1";
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

impl ClassAges {
    /// Each class's name and age, from R0 to R3.
    #[must_use]
    pub fn by_class(&self) -> [(&'static str, u64); 4] {
        [("R0", self.r0_ms), ("R1", self.r1_ms), ("R2", self.r2_ms), ("R3", self.r3_ms)]
    }
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
    pub council: Vec<SignerKey>,
    /// How many council keys must sign; more than half.
    #[n(4)]
    pub threshold: u32,
    /// Keys that may replace a lost council, and name a sequencer in its place; more than half of them sign.
    #[n(5)]
    pub recovery: Vec<SignerKey>,
    /// The coordinator that writes the authority chain.
    #[n(6)]
    pub sequencer: Seat,
    /// All coordinators, the sequencer among them.
    #[n(7)]
    pub coordinators: Vec<Seat>,
    /// Who may activate policy; two sign, or the only one.
    #[n(8)]
    pub policy_authors: Vec<SignerKey>,
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
    pub key: SignerKey,
    /// The signature.
    #[n(1)]
    pub signature: SshSignature,
}

/// A charter's bytes and the council's signatures. The mesh id is the hash of the bytes alone, so that a signature can
/// be added without changing it. What the council founds beside the charter is under the same signatures.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SignedCharter {
    /// The encoded [`Charter`].
    #[cbor(n(0), with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
    /// Signatures over [`SignedCharter::message`].
    #[n(1)]
    pub signatures: Vec<KeySignature>,
    /// [`founding_digest`] of the first entries of the authority chain, where the council founded them with the charter.
    #[n(2)]
    pub founding: Option<Digest>,
}

/// Names the first entries of an authority chain, each by the digest of its bytes, in order.
#[must_use]
pub fn founding_digest(entries: &Vec<Digest>) -> Digest {
    Digest::of("cauldron/founding/v1", &to_cbor(entries))
}

/// What the council signs when it founds a mesh.
pub(crate) fn founding_message(mesh: &MeshId, founding: Option<&Digest>) -> Vec<u8> {
    [mesh.as_bytes().as_slice(), founding.map_or(&[][..], |digest| digest.as_bytes())].concat()
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
    /// Encodes `charter`, for the council to sign.
    #[must_use]
    pub fn draft(charter: &Charter, founding: Option<Digest>) -> Self {
        Self { bytes: to_cbor(charter), signatures: Vec::new(), founding }
    }

    /// Encodes `charter` and signs it with `keys`.
    #[must_use]
    pub fn sign(charter: &Charter, keys: &[&AuthorKey]) -> Self {
        let mut signed = Self::draft(charter, None);
        let message = signed.message();
        let sign = |key: &&AuthorKey| KeySignature {
            key: key.public().into(),
            signature: key.sign_ssh(CHARTER_NAMESPACE, &message),
        };
        signed.signatures = keys.iter().map(sign).collect();
        signed
    }

    /// SHA-256 of the charter's bytes.
    #[must_use]
    pub fn mesh_id(&self) -> MeshId {
        MeshId::from_bytes(sha256(&self.bytes))
    }

    /// What a member signs for [`CHARTER_NAMESPACE`]: the mesh id, and what is founded with it.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        founding_message(&self.mesh_id(), self.founding.as_ref())
    }

    /// Checks the encoding and the content, and not who signed.
    ///
    /// # Errors
    /// [`CharterError::Encoding`], [`CharterError::Content`].
    pub fn read(&self) -> Result<Charter, CharterError> {
        let charter: Charter = from_cbor(&self.bytes).map_err(CharterError::Encoding)?;
        charter.check().map_err(CharterError::Content)?;
        Ok(charter)
    }

    /// How many distinct keys of `allowed` signed it.
    #[must_use]
    pub fn signers(&self, allowed: &[SignerKey]) -> usize {
        council_signers(allowed, &self.signatures, CHARTER_NAMESPACE, &self.message())
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
        let charter = self.read()?;
        let signed = self.signers(&charter.council);
        if signed < charter.threshold as usize {
            return Err(CharterError::Threshold { signed, threshold: charter.threshold });
        }
        Ok(charter)
    }
}

/// How many distinct keys of `allowed` signed `message` for `namespace`.
#[must_use]
pub fn council_signers(allowed: &[SignerKey], signatures: &[KeySignature], namespace: &str, message: &[u8]) -> usize {
    let valid: BTreeSet<&SignerKey> = signatures
        .iter()
        .filter(|s| allowed.contains(&s.key) && s.key.verify(namespace, message, &s.signature).is_ok())
        .map(|s| &s.key)
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

    /// For whom passkeys sign, and where.
    #[must_use]
    pub fn relying_party(&self) -> RelyingParty<'_> {
        RelyingParty { rp_id: &self.rp_id, origins: &self.vote_origins }
    }

    /// Whether a charter's content keeps its own rules, as it is founded and after each amendment.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.v != crate::fact::VERSION {
            return Err(format!("version {}; this build reads version {}", self.v, crate::fact::VERSION));
        }
        let domain = self.trust_domain()?;
        // By point: a key that lies in a token under two applications is still one person's.
        let members: BTreeSet<_> = self.council.iter().map(SignerKey::point).collect();
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
        self.relying_party().check()?;
        let authors: BTreeSet<_> = self.policy_authors.iter().map(SignerKey::point).collect();
        if authors.len() != self.policy_authors.len() {
            return Err("a policy author is named twice: two must be two people".into());
        }
        let recovery: BTreeSet<_> = self.recovery.iter().map(SignerKey::point).collect();
        if recovery.len() != self.recovery.len() {
            return Err("a recovery key is named twice: a majority must be as many people".into());
        }
        let mut people = self.council.iter().chain(&self.recovery).chain(&self.policy_authors);
        people.try_for_each(|key| key.check().map_err(|why| format!("council, recovery or policy key {key}: {why}")))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample(council: &[&AuthorKey], threshold: u32, sequencer: &AuthorKey) -> Charter {
        let seat = Seat { author: sequencer.public(), spiffe_id: "spiffe://acme.test/coordinator/hq".into() };
        Charter {
            v: crate::fact::VERSION,
            trust_domain: "acme.test".into(),
            root_keys: vec![Digest::of("root", b"1")],
            council: council.iter().map(|k| k.public().into()).collect(),
            threshold,
            recovery: vec![],
            sequencer: seat.clone(),
            coordinators: vec![seat],
            policy_authors: vec![council[0].public().into()],
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
    fn a_member_may_hold_a_token_and_must_touch_it() {
        let (a, hq) = (key(1), key(9));
        let token = |flags, message: &[u8]| crate::signer::tests::token(&[3; 32], CHARTER_NAMESPACE, message, flags);
        let mut charter = sample(&[&a], 2, &hq);
        charter.council.push(token(1, b"").0);
        for (flags, signed) in [(0x01, 2), (0x04, 1)] {
            let mut file = SignedCharter::sign(&charter, &[&a]);
            let (key, signature) = token(flags, file.mesh_id().as_bytes());
            file.signatures.push(KeySignature { key, signature });
            let file: SignedCharter = from_cbor(&to_cbor(&file)).expect("its own encoding");
            match file.open(&file.mesh_id()) {
                Ok(opened) => assert_eq!((signed, opened), (2, charter.clone())),
                Err(error) => assert_eq!(error, CharterError::Threshold { signed, threshold: 2 }),
            }
        }
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
        bad(&|c| c.v = 2);
        bad(&|c| c.threshold = 1);
        bad(&|c| c.threshold = 3);
        bad(&|c| c.council.push(a.public().into()));
        bad(&|c| c.council.push(SignerKey::Sk { point: a.public(), application: "ssh:".into() }));
        bad(&|c| c.policy_authors.push(SignerKey::Sk { point: a.public(), application: "ssh:".into() }));
        bad(&|c| c.recovery.push(SignerKey::Sk { point: a.public(), application: "web:".into() }));
        bad(&|c| c.coordinators.clear());
        bad(&|c| c.rp_id = "Acme Test".into());
        bad(&|c| c.vote_origins = vec!["http://hq.acme.test".into()]);
        bad(&|c| c.vote_origins = vec!["https://elsewhere.test".into()]);
        bad(&|c| c.trust_domain = "Not A Domain".into());
        bad(&|c| c.council.push(PublicKey::from_bytes([0; 32]).into()));
        bad(&|c| {
            c.sequencer.spiffe_id = "spiffe://acme.test/site/lyon/node/lyon".into();
            c.coordinators = vec![c.sequencer.clone()];
        });
    }
}
