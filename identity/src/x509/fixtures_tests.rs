//! The certificates that the `spiffe` crate tests itself with, made by other software than ours.

use std::path::PathBuf;

use spiffe::TrustDomain;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::*;

/// The day the `wrong-*` files and the good chain are all in time.
const AT_S: u64 = 1_600_000_000;

/// The DER certificates of one file, one behind the other, or `None` where the data is not at hand.
fn fixture(name: &str) -> Option<Vec<CertificateDer<'static>>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/spiffe/tests/testdata/svid/x509");
    let Ok(bytes) = std::fs::read(folder.join(name)) else {
        println!("skipped {name}: no folder {}", folder.display());
        return None;
    };
    let (mut rest, mut chain) = (&bytes[..], Vec::new());
    while let Ok((behind, _)) = X509Certificate::from_der(rest) {
        chain.push(CertificateDer::from(rest[..rest.len() - behind.len()].to_vec()));
        rest = behind;
    }
    Some(chain)
}

/// Trusts the last certificate of a chain, as the fixtures carry their own authority.
fn trusting_last(chain: &[CertificateDer<'static>]) -> Bundles {
    let domain = TrustDomain::new("example.org").expect("a trust domain");
    chain.last().and_then(|root| Bundle::new(domain, vec![root.clone()]).ok()).map(Bundles::from).unwrap_or_default()
}

#[test]
fn a_chain_made_elsewhere_verifies() {
    let Some(chain) = fixture("1-svid-chain.der") else { return };
    let svid = verify_svid(&chain, &trusting_last(&chain), 1_790_000_000).expect("valid");
    assert_eq!(svid.spiffe_id.to_string(), "spiffe://example.org/service");
    let untrusted = verify_svid(&chain, &Bundles::new(), 1_790_000_000);
    assert!(matches!(untrusted, Err(SvidError::UnknownTrustDomain { .. })), "{untrusted:?}");
}

#[test]
fn bad_certificates_made_elsewhere_are_refused_for_their_own_reason() {
    type Reason = fn(&SvidError) -> bool;
    let ca = {
        let validity = Validity { not_before_s: 0, not_after_s: 4_000_000_000 };
        let domain = TrustDomain::new("example.org").expect("a trust domain");
        AuthorityCa::self_signed(domain, SvidKey::generate().expect("a key"), validity, [3; 16]).expect("a root")
    };
    let trust: Bundles = ca.bundle().expect("a bundle").into();
    let cases: [(&str, Reason); 8] = [
        ("wrong-leaf-ca-true.der", |e| matches!(e, SvidError::LeafIsCa { .. })),
        ("wrong-leaf-cert-sign.der", |e| matches!(e, SvidError::KeyUsage { detail: "keyCertSign is set", .. })),
        ("wrong-leaf-crl-sign.der", |e| matches!(e, SvidError::KeyUsage { detail: "cRLSign is set", .. })),
        ("wrong-leaf-no-digital-signature.der", |e| matches!(e, SvidError::KeyUsage { .. })),
        ("wrong-leaf-empty-id.der", |e| matches!(e, SvidError::NoSpiffeId { .. })),
        ("wrong-intermediate-no-ca.der", |e| matches!(e, SvidError::Intermediate { index: 1, .. })),
        ("wrong-intermediate-no-key-cert-sign.der", |e| matches!(e, SvidError::Intermediate { index: 1, .. })),
        ("expired-svid-chain.der", |e| matches!(e, SvidError::NotYetValid { .. } | SvidError::Expired { .. })),
    ];
    for (name, reason) in cases {
        let Some(chain) = fixture(name) else { continue };
        let error = verify_svid(&chain, &trust, AT_S).expect_err(name);
        assert!(reason(&error), "{name}: {error:?}");
    }
}

#[test]
fn a_spiffe_id_in_a_certificate_has_at_most_2048_bytes() {
    let validity = Validity { not_before_s: 0, not_after_s: 4_000_000_000 };
    let domain = TrustDomain::new("a.test").expect("a trust domain");
    let key = SvidKey::generate().expect("a key");
    let ca = AuthorityCa::self_signed(domain, key, validity, [3; 16]).expect("a root");
    let trust: Bundles = ca.bundle().expect("a bundle").into();
    let csr = SvidKey::generate().expect("a key").csr_der().expect("a request");
    for (bytes, ok) in [(2_048, true), (2_049, false)] {
        let path = "a".repeat(bytes - "spiffe://a.test/".len());
        let id = spiffe::SpiffeId::new(format!("spiffe://a.test/{path}")).expect("the parser has no limit");
        let chain = ca.issue(&csr, &id, AT_S, 60, [1; 16]).expect("an SVID");
        assert_eq!(verify_svid(&chain, &trust, AT_S).is_ok(), ok, "{bytes}");
    }
}
