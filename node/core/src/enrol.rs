//! The enrol lane (`cauldron-enrol/1`): how a new node is admitted, and how an enrolled one renews its SVID.
//!
//! Neither side has a certificate the other could check: the joining node has none, and an expired node must still be
//! able to renew. So both prove themselves over the TLS exporter of the connection with keys that do not expire: the
//! server with a coordinator's author key that the pinned charter names, the node with its own author key.

use cauldron_identity::authority::{Enrol, EntryBody};
use cauldron_identity::charter::Charter;
use cauldron_identity::codec::{CodecError, from_cbor, to_cbor};
use cauldron_identity::ids::{hmac_sha256, hmac_sha256_holds, sha256};
use cauldron_identity::{AuthorKey, MeshId, PublicKey, SealedFact, Signature, SignedCharter};
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

pub use crate::believed::{Believed, Have, Part};

const REQUEST_DOMAIN: &str = "cauldron/enrol-request/v1";
const REPLY_DOMAIN: &str = "cauldron/enrol-reply/v1";

/// What a node asks for.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct EnrolRequest {
    /// The mesh it wants to be in.
    #[n(0)]
    pub mesh: MeshId,
    /// Proof of a join token when it joins; nothing when an enrolled author renews.
    #[n(1)]
    pub token: Option<TokenProof>,
    /// Author key, SPIFFE ID and proof of possession.
    #[n(2)]
    pub enrol: Enrol,
    /// PKCS#10 request for the SVID; only its key is used.
    #[n(3)]
    csr: ByteVec,
    /// The author's signature over the TLS exporter and the CSRs: a request cannot be replayed on another connection.
    #[n(4)]
    pub proof: Signature,
    /// PKCS#10 request for its site's intermediate, from a node that holds one.
    #[n(5)]
    site_csr: Option<ByteVec>,
    /// The SVID is not for the author itself but for a workload on its machine.
    #[n(6)]
    pub workload: Option<Workload>,
    /// How far it holds the authority chain: the reply carries what follows. Not signed: what comes is judged by itself.
    #[n(7)]
    pub have: Option<Have>,
}

/// An identity below the author's own: `<its SPIFFE ID>/agent/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Workload {
    /// The SPIFFE ID.
    #[n(0)]
    pub spiffe_id: String,
    /// Lifetime wanted, seconds; what the authority gives to nodes is the longest.
    #[n(1)]
    pub lifetime_s: Option<u64>,
    /// A JWT-SVID for this audience instead of an X.509-SVID; empty for the latter.
    #[n(2)]
    pub audience: Vec<String>,
}

/// Proof that the sender knows a join token's secret. The secret itself never travels: the server is not proven yet when
/// this is sent, and whoever stands in between must not be able to redeem the token.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct TokenProof {
    /// Which token.
    #[n(0)]
    pub id: TokenId,
    /// HMAC-SHA-256 under the secret's hash over TLS exporter, author key and CSR.
    #[cbor(n(1), with = "minicbor::bytes")]
    tag: [u8; 32],
}

impl TokenProof {
    /// Proves knowledge of `secret` for one request on one connection.
    #[must_use]
    pub fn new(id: TokenId, secret: &[u8; 32], author: &PublicKey, csr: &[u8], exporter: &[u8; 32]) -> Self {
        Self { id, tag: hmac_sha256(&sha256(secret), &token_message(author, csr, exporter)) }
    }

    /// Whether the sender of `request` knew the secret with this hash.
    #[must_use]
    pub fn holds(&self, secret_hash: &[u8; 32], request: &EnrolRequest, exporter: &[u8; 32]) -> bool {
        let message = token_message(&request.enrol.author, request.csr(), exporter);
        hmac_sha256_holds(secret_hash, &message, &self.tag)
    }
}

fn token_message(author: &PublicKey, csr: &[u8], exporter: &[u8; 32]) -> Vec<u8> {
    [b"cauldron/token/v1\0".as_slice(), exporter, author.as_bytes(), &sha256(csr)].concat()
}

/// The public name of a join token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub struct TokenId(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 16]);

impl std::fmt::Debug for TokenId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for byte in &self.0[..6] {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// What the authority answers.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct EnrolReply {
    /// The granted request, or why not.
    #[n(0)]
    pub outcome: Outcome,
    /// A charter coordinator, or an author of the asking node's site that holds its intermediate.
    #[n(1)]
    pub server: PublicKey,
    /// Its signature over the TLS exporter and the outcome.
    #[n(2)]
    pub proof: Signature,
}

/// Granted or refused.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Outcome {
    /// An SVID was issued.
    #[n(0)]
    Granted(#[n(0)] Box<Grant>),
    /// Nothing was issued.
    #[n(1)]
    Refused(#[n(0)] RefusedBecause),
    /// Nothing was issued yet: first the asker must see whom the charter names by now. It asks again with what it has then.
    #[n(2)]
    Part(#[n(0)] Box<Part>),
}

/// What a granted request brings.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Grant {
    /// The charter; its hash is the pinned mesh id.
    #[n(0)]
    pub charter: SignedCharter,
    /// The SVID, leaf first, DER.
    #[n(1)]
    pub chain: Vec<ByteVec>,
    /// Root certificates of the trust domain, DER.
    #[n(2)]
    pub bundle: Vec<ByteVec>,
    /// The authority chain behind what the asker has, so that the node starts with what it must hold.
    #[n(3)]
    pub authority: Vec<SealedFact>,
    /// The server's wall clock, milliseconds since the Unix epoch: the first mark of the node's clock.
    #[n(4)]
    pub time_ms: u64,
    /// The site's intermediate for the second request, DER; none where none was asked for or the authority grants none.
    #[n(5)]
    pub site: Option<ByteVec>,
    /// The trust domain's JWT keys, a JWK Set, where the server has them.
    #[n(6)]
    pub jwt_bundle: Option<ByteVec>,
    /// The JWT-SVID, where one was asked for; `chain` is empty then.
    #[n(7)]
    pub token: Option<String>,
    /// Terms of the council.
    #[n(8)]
    #[cbor(default)]
    pub terms: Vec<EntryBody>,
}

impl Grant {
    /// The charter as the reply's authority chain, on top of what the asker believes, leaves it; with the term and the length of
    /// that chain.
    ///
    /// # Errors
    /// [`EnrolError::Charter`] when the founding charter is not the pinned one.
    pub fn charter_in_effect(&self, pinned: &MeshId, believed: &Believed) -> Result<(Charter, u32, u64), EnrolError> {
        believed.charter_with(pinned, &self.charter, &self.authority, &self.terms)
    }
}

/// Why nothing was issued.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct RefusedBecause {
    /// A stable code.
    #[n(0)]
    pub code: String,
    /// A sentence that says what to do.
    #[n(1)]
    pub reason: String,
}

/// Why a request or reply is not believed.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum EnrolError {
    /// Not strictly encoded, or of another shape.
    #[error("the enrol message cannot be read")]
    Encoding(#[source] CodecError),
    /// The request's author key did not sign this connection.
    #[error("the author did not prove its key on this connection")]
    NotTheAuthor,
    /// The reply carries another charter than the pinned one, or an invalid one.
    #[error("the server does not hold the pinned charter")]
    Charter(#[source] cauldron_identity::charter::CharterError),
    /// The reply is not signed by a coordinator of the charter or a believed site issuer, on this connection.
    #[error("the server did not prove that the charter, or this node's site, names it")]
    NotACoordinator,
}

impl EnrolRequest {
    /// Signs a request for this connection.
    #[must_use]
    pub fn new(
        mesh: MeshId,
        token: Option<TokenProof>,
        enrol: Enrol,
        csr: Vec<u8>,
        key: &AuthorKey,
        exporter: &[u8; 32],
    ) -> Self {
        let proof = key.sign(REQUEST_DOMAIN, &requested(exporter, &csr, None, None));
        Self { mesh, token, enrol, csr: ByteVec::from(csr), proof, site_csr: None, workload: None, have: None }
    }

    /// The same request, which also asks for the site's intermediate.
    #[must_use]
    pub fn with_site(mut self, site_csr: Vec<u8>, key: &AuthorKey, exporter: &[u8; 32]) -> Self {
        self.proof = key.sign(REQUEST_DOMAIN, &requested(exporter, &self.csr, Some(&site_csr), None));
        self.site_csr = Some(ByteVec::from(site_csr));
        self
    }

    /// Signs a request for a workload's identity, as an enrolled author.
    #[must_use]
    pub fn for_workload(
        mesh: MeshId,
        enrol: Enrol,
        csr: Vec<u8>,
        workload: Workload,
        key: &AuthorKey,
        exporter: &[u8; 32],
    ) -> Self {
        let proof = key.sign(REQUEST_DOMAIN, &requested(exporter, &csr, None, Some(&workload)));
        let (csr, workload) = (ByteVec::from(csr), Some(workload));
        Self { mesh, token: None, enrol, csr, proof, site_csr: None, workload, have: None }
    }

    /// The same request, from an asker that holds this much of the authority chain.
    #[must_use]
    pub fn with_chain(self, have: Option<Have>) -> Self {
        Self { have, ..self }
    }

    /// Encodes it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        to_cbor(self)
    }

    /// Decodes a request and checks that its author speaks on this connection.
    ///
    /// # Errors
    /// [`EnrolError::Encoding`] or [`EnrolError::NotTheAuthor`].
    pub fn open(bytes: &[u8], exporter: &[u8; 32]) -> Result<Self, EnrolError> {
        let request: Self = from_cbor(bytes).map_err(EnrolError::Encoding)?;
        let key = request.enrol.author;
        let message = requested(exporter, &request.csr, request.site_csr(), request.workload.as_ref());
        if key.is_weak() || key.verify(REQUEST_DOMAIN, &message, &request.proof).is_err() {
            return Err(EnrolError::NotTheAuthor);
        }
        Ok(request)
    }

    /// The certificate request, DER.
    #[must_use]
    pub fn csr(&self) -> &[u8] {
        &self.csr
    }

    /// The certificate request for the site's intermediate, DER.
    #[must_use]
    pub fn site_csr(&self) -> Option<&[u8]> {
        self.site_csr.as_deref().map(|csr| csr.as_slice())
    }
}

impl EnrolReply {
    /// Signs an outcome for this connection.
    #[must_use]
    pub fn new(outcome: Outcome, key: &AuthorKey, exporter: &[u8; 32]) -> Self {
        let proof = key.sign(REPLY_DOMAIN, &bound(exporter, &to_cbor(&outcome)));
        Self { outcome, server: key.public(), proof }
    }

    /// Encodes it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        to_cbor(self)
    }

    /// Decodes a reply; a grant must carry the pinned charter and be signed by a coordinator which it names, or by one of
    /// `issuers`: enrolled authors of this node's own site. A refusal is only a text for a person and is returned as it is; so is
    /// a part of the chain, which [`Believed::learn`] judges.
    ///
    /// # Errors
    /// [`EnrolError`].
    pub fn open(
        bytes: &[u8],
        pinned: &MeshId,
        exporter: &[u8; 32],
        believed: &Believed,
    ) -> Result<Outcome, EnrolError> {
        let reply: Self = from_cbor(bytes).map_err(EnrolError::Encoding)?;
        let Outcome::Granted(grant) = &reply.outcome else { return Ok(reply.outcome) };
        let (charter, ..) = grant.charter_in_effect(pinned, believed)?;
        let seated = charter.coordinators.iter().any(|seat| seat.author == reply.server);
        let named = seated || believed.issuers.contains(&reply.server);
        let message = bound(exporter, &to_cbor(&reply.outcome));
        if !named || reply.server.verify(REPLY_DOMAIN, &message, &reply.proof).is_err() {
            return Err(EnrolError::NotACoordinator);
        }
        Ok(reply.outcome)
    }
}

/// What the author of a request signs: this connection, the keys to certify, and for whom it is if not for itself.
fn requested(exporter: &[u8; 32], csr: &[u8], site_csr: Option<&[u8]>, workload: Option<&Workload>) -> Vec<u8> {
    let mut message = bound(exporter, csr);
    message.extend(site_csr.map(sha256).into_iter().flatten());
    if let Some(workload) = workload {
        message.extend(b"workload");
        message.extend(sha256(&to_cbor(workload)));
    }
    message
}

fn bound(exporter: &[u8; 32], bytes: &[u8]) -> Vec<u8> {
    [exporter.as_slice(), &sha256(bytes)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cauldron_identity::Authority;
    use cauldron_identity::authority::{Entry, Term, TermOutcome};
    use cauldron_identity::charter::{ClassAges, Seat};
    use cauldron_identity::{Digest, SpiffeId};

    fn charter(hq: &AuthorKey, council: &AuthorKey) -> SignedCharter {
        let seat = Seat { author: hq.public(), spiffe_id: "spiffe://acme.test/coordinator/hq".into() };
        let charter = Charter {
            v: cauldron_identity::fact::VERSION,
            trust_domain: "acme.test".into(),
            root_keys: vec![Digest::of("root", b"")],
            council: vec![council.public().into()],
            threshold: 1,
            recovery: vec![],
            sequencer: seat.clone(),
            coordinators: vec![seat],
            policy_authors: vec![council.public().into()],
            rp_id: "localhost".into(),
            vote_origins: vec![],
            class_ages: ClassAges::default(),
            retention_floor_days: 1,
            created_ms: 0,
        };
        SignedCharter::sign(&charter, &[council])
    }

    #[test]
    fn a_request_counts_on_its_own_connection_only() {
        let key = AuthorKey::from_seed(&[3; 32]);
        let mesh = MeshId::from_bytes([9; 32]);
        let id = SpiffeId::new("spiffe://acme.test/site/a/node/a").expect("id");
        let request = EnrolRequest::new(mesh, None, Enrol::new(&mesh, &key, &id), vec![1, 2], &key, &[5; 32]);
        let bytes = request.to_bytes();
        assert_eq!(EnrolRequest::open(&bytes, &[5; 32]), Ok(request));
        assert_eq!(EnrolRequest::open(&bytes, &[6; 32]), Err(EnrolError::NotTheAuthor));

        let plain = EnrolRequest::new(mesh, None, Enrol::new(&mesh, &key, &id), vec![1, 2], &key, &[5; 32]);
        let both = plain.clone().with_site(vec![3], &key, &[5; 32]);
        assert_eq!(EnrolRequest::open(&both.to_bytes(), &[5; 32]).expect("its own").site_csr(), Some(&[3][..]));
        let slipped_in = EnrolRequest { proof: plain.proof, ..both };
        assert_eq!(EnrolRequest::open(&slipped_in.to_bytes(), &[5; 32]), Err(EnrolError::NotTheAuthor));
    }

    #[test]
    fn whom_an_svid_is_for_is_signed_too() {
        let key = AuthorKey::from_seed(&[3; 32]);
        let mesh = MeshId::from_bytes([9; 32]);
        let id = SpiffeId::new("spiffe://acme.test/site/a/node/a").expect("id");
        let workload = Workload { spiffe_id: format!("{id}/agent/web"), lifetime_s: Some(60), audience: vec![] };
        let enrol = Enrol::new(&mesh, &key, &id);
        let request = EnrolRequest::for_workload(mesh, enrol, vec![1, 2], workload, &key, &[5; 32]);
        assert_eq!(EnrolRequest::open(&request.to_bytes(), &[5; 32]).as_ref(), Ok(&request));
        let mut other = request.clone();
        other.workload = None;
        assert_eq!(EnrolRequest::open(&other.to_bytes(), &[5; 32]), Err(EnrolError::NotTheAuthor));
        other.workload = Some(Workload { spiffe_id: format!("{id}/agent/db"), lifetime_s: Some(60), audience: vec![] });
        assert_eq!(EnrolRequest::open(&other.to_bytes(), &[5; 32]), Err(EnrolError::NotTheAuthor));
    }

    #[test]
    fn a_token_proof_counts_for_one_author_one_request_and_one_connection() {
        let (key, eve) = (AuthorKey::from_seed(&[3; 32]), AuthorKey::from_seed(&[4; 32]));
        let mesh = MeshId::from_bytes([9; 32]);
        let id = SpiffeId::new("spiffe://acme.test/site/a/node/a").expect("id");
        let (secret, csr, exporter) = ([6; 32], vec![1, 2], [5; 32]);
        let proof = TokenProof::new(TokenId([1; 16]), &secret, &key.public(), &csr, &exporter);
        let request = |by: &AuthorKey, csr: &[u8]| {
            EnrolRequest::new(mesh, Some(proof.clone()), Enrol::new(&mesh, by, &id), csr.to_vec(), by, &exporter)
        };
        assert!(proof.holds(&sha256(&secret), &request(&key, &csr), &exporter));
        assert!(!proof.holds(&sha256(&secret), &request(&key, &csr), &[8; 32]), "another connection");
        assert!(!proof.holds(&sha256(&secret), &request(&eve, &csr), &exporter), "another author");
        assert!(!proof.holds(&sha256(&secret), &request(&key, &[7]), &exporter), "another key to certify");
        assert!(!proof.holds(&sha256(&[0; 32]), &request(&key, &csr), &exporter), "another secret");
        let bytes = request(&key, &csr).to_bytes();
        assert!(!bytes.windows(32).any(|w| w == secret), "the secret does not travel");
    }

    #[test]
    fn a_grant_needs_the_pinned_charter_and_a_coordinator_of_it() {
        let (hq, council, eve) =
            (AuthorKey::from_seed(&[1; 32]), AuthorKey::from_seed(&[2; 32]), AuthorKey::from_seed(&[4; 32]));
        let signed = charter(&hq, &council);
        let pin = signed.mesh_id();
        let grant = || {
            Outcome::Granted(Box::new(Grant {
                charter: signed.clone(),
                chain: vec![],
                bundle: vec![],
                authority: vec![],
                time_ms: 1,
                terms: vec![],
                site: None,
                jwt_bundle: None,
                token: None,
            }))
        };
        let exporter = [7; 32];
        let from = |key: &AuthorKey, pin: &MeshId, at: &[u8; 32], issuers: &[PublicKey]| {
            let believed = Believed::new(issuers.to_vec(), None);
            EnrolReply::open(&EnrolReply::new(grant(), key, &exporter).to_bytes(), pin, at, &believed)
        };
        let open = |key: &AuthorKey, pin: &MeshId, at: &[u8; 32]| from(key, pin, at, &[]);
        assert!(from(&eve, &pin, &exporter, &[eve.public()]).is_ok(), "an issuer of the own site");
        assert_eq!(from(&eve, &pin, &exporter, &[council.public()]), Err(EnrolError::NotACoordinator));
        // A reply that has come less far than the asker's own chain is judged by that: its server was replaced.
        let mut own = Authority::new(pin, signed.open(&pin).expect("the pinned one")).expect("seats");
        let seat = Seat { author: eve.public(), spiffe_id: "spiffe://acme.test/coordinator/eve".into() };
        let term = Term { n: 1, sequencer: seat, ends: vec![], root_keys: vec![] };
        let mut body = EntryBody::new(None, 1, &Entry::Term(term));
        body.sign(&pin, &council);
        assert_eq!(own.apply_term(&body), TermOutcome::Began(1));
        let later = Believed::new(vec![], Some(own));
        let reply = |key: &AuthorKey| EnrolReply::new(grant(), key, &exporter).to_bytes();
        assert_eq!(EnrolReply::open(&reply(&hq), &pin, &exporter, &later), Err(EnrolError::NotACoordinator));
        assert!(EnrolReply::open(&reply(&eve), &pin, &exporter, &later).is_ok());
        assert!(open(&hq, &pin, &exporter).is_ok());
        assert_eq!(open(&eve, &pin, &exporter), Err(EnrolError::NotACoordinator));
        assert_eq!(open(&hq, &pin, &[8; 32]), Err(EnrolError::NotACoordinator));
        assert!(matches!(open(&hq, &MeshId::from_bytes([0; 32]), &exporter), Err(EnrolError::Charter(_))));
    }
}
