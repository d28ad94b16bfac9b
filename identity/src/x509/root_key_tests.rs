//! A root key that this process does not hold: it signs what a held one signs, and its failures are sentences.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use spiffe::{SpiffeId, TrustDomain};

use super::*;

const NOW: u64 = 1_790_000_000;
const SPAN: Validity = Validity { not_before_s: NOW - 1_000, not_after_s: NOW + 10_000 };
/// How a [`Keeper`] behaves.
const SIGNS: u8 = 0;
const FAILS: u8 = 1;
const SIGNS_SOMETHING_ELSE: u8 = 2;

/// Keeps a key by aws-lc, apart from rcgen.
#[derive(Debug)]
struct Keeper {
    pair: EcdsaKeyPair,
    point: [u8; POINT_LEN],
    mood: AtomicU8,
}

impl ExternalKey for Keeper {
    fn point(&self) -> &[u8; POINT_LEN] {
        &self.point
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        let message = match self.mood.load(Ordering::Relaxed) {
            FAILS => return Err("token `acme` is not there".to_owned()),
            SIGNS_SOMETHING_ELSE => &message[1..],
            _ => message,
        };
        let signature = self.pair.sign(&SystemRandom::new(), message).map_err(|e| e.to_string())?;
        Ok(signature.as_ref().to_vec())
    }
}

fn keeper() -> Arc<Keeper> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("a key");
    let point = pair.public_key().as_ref().try_into().expect("uncompressed");
    Arc::new(Keeper { pair, point, mood: AtomicU8::new(SIGNS) })
}

fn external(keeper: &Arc<Keeper>) -> Arc<dyn ExternalKey> {
    keeper.clone()
}

fn ca(keeper: &Arc<Keeper>) -> AuthorityCa {
    let domain = TrustDomain::new("a.test").expect("a trust domain");
    AuthorityCa::self_signed(domain, external(keeper), SPAN, [7; 16]).expect("a root")
}

fn issue(ca: &AuthorityCa) -> Result<Vec<CertificateDer<'static>>, CaError> {
    let id = SpiffeId::new("spiffe://a.test/site/lyon/node/n1").expect("a SPIFFE ID");
    ca.issue(&SvidKey::generate()?.csr_der()?, &id, NOW, 600, [1; 16])
}

#[test]
fn what_an_external_key_signs_verifies_and_the_key_is_nowhere() {
    let keeper = keeper();
    let first = ca(&keeper);
    assert!(first.key_pem().is_none());
    let again = AuthorityCa::with_key(external(&keeper), &first.certificate_pem()).expect("its own certificate");
    let bundles = Bundles::from(first.bundle().expect("a bundle"));
    assert!(verify_svid(&issue(&again).expect("an SVID"), &bundles, NOW).is_ok());
    let csr = SvidKey::generate().and_then(|key| key.csr_der()).expect("a request");
    let site = again.issue_site(&csr, "lyon", NOW, 600, [2; 16]).expect("an intermediate");
    assert_eq!(spiffe::cert::spiffe_id_from_der(&site).expect("named").path(), "/site/lyon");
    let spki = again.spki_der();
    let later = Validity { not_after_s: SPAN.not_after_s + 1, ..SPAN };
    let reissued = again.reissued(later, [3; 16]).expect("the same key");
    assert_eq!((reissued.spki_der(), reissued.validity()), (spki, later));
}

#[test]
fn a_key_that_does_not_sign_says_why_and_signs_again_later() {
    let keeper = keeper();
    let ca = ca(&keeper);
    keeper.mood.store(FAILS, Ordering::Relaxed);
    let told = CaError::External("token `acme` is not there".into());
    assert_eq!(issue(&ca).expect_err("away"), told);
    assert_eq!(AuthorityCa::with_key(external(&keeper), &ca.certificate_pem()).expect_err("away"), told);
    keeper.mood.store(SIGNS, Ordering::Relaxed);
    assert!(issue(&ca).is_ok());
}

#[test]
fn a_signature_is_not_believed_before_it_verifies() {
    let keeper = keeper();
    let ca = ca(&keeper);
    keeper.mood.store(SIGNS_SOMETHING_ELSE, Ordering::Relaxed);
    assert!(matches!(issue(&ca), Err(CaError::External(why)) if why.contains("does not verify")));
    let other = external(&self::keeper());
    assert_eq!(AuthorityCa::with_key(other, &ca.certificate_pem()).expect_err("another key"), CaError::KeyMismatch);
}
