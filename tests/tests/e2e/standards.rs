//! `identity verify` over files that other software made, and over all three kinds and forms that ours makes.

use std::path::Path;

use cauldron_identity::jwt::{JwtAuthority, JwtKey};
use cauldron_identity::x509::{AuthorityCa, SvidKey, Validity, certificates_to_pem};
use cauldron_identity::{SpiffeId, TrustBundle, TrustDomain};
use cauldron_tests::{Ran, cauldron, shared, skipped};

const FIXTURES: &str = "data/spiffe/tests/testdata";

/// Runs in a folder without a node, as an auditor would.
fn verify(folder: &Path, args: &[&str]) -> Ran {
    cauldron(folder, &[&["identity", "verify", "-o", "json"], args].concat())
}

/// What is expected of each file at a time inside its validity: nothing for a good one, else words of the reason.
const X509: [(&str, &str, Option<&str>); 13] = [
    ("1-svid-chain.der", "2030-01-01T00:00:00Z", None),
    ("empty-subject-name.der", "2026-01-20T00:00:00Z", None),
    ("svid-with-dns.der", "2021-04-24T15:00:00Z", None),
    ("expired-svid-chain.der", "2021-02-09T19:00:00Z", None),
    ("wrong-intermediate-no-ca.der", "2021-01-01T00:00:00Z", Some("it is not a certificate authority")),
    ("wrong-intermediate-no-key-cert-sign.der", "2021-01-01T00:00:00Z", Some("its key usage lacks keyCertSign")),
    ("wrong-leaf-ca-true.der", "2021-01-01T00:00:00Z", Some("is a certificate authority's, not a workload's")),
    ("wrong-leaf-cert-sign.der", "2021-01-01T00:00:00Z", Some("keyCertSign is set")),
    ("wrong-leaf-crl-sign.der", "2021-01-01T00:00:00Z", Some("cRLSign is set")),
    ("wrong-leaf-empty-id.der", "2021-01-01T00:00:00Z", Some("carries no usable SPIFFE ID")),
    ("wrong-leaf-no-digital-signature.der", "2021-01-01T00:00:00Z", Some("digitalSignature is not set")),
    ("1-key.der", "2030-01-01T00:00:00Z", Some("it holds a private key")),
    ("svid-with-dns-key.der", "2021-04-24T15:00:00Z", Some("it holds a private key")),
];

#[test]
fn every_fixture_is_decided_for_the_reason_in_its_name() {
    let Some(root) = shared(FIXTURES) else { return skipped("SPIFFE fixtures", "no ../shared/data/spiffe") };
    let folder = tempfile::tempdir().expect("temporary directory");
    let path = |name: &str| root.join("svid/x509").join(name).display().to_string();
    for (name, at, reason) in X509 {
        let ran = verify(folder.path(), &["--at", at, &path(name)]);
        match reason {
            Some(reason) => assert!(ran.refused_with(6).contains(reason), "{name}: {}", ran.err),
            None => {
                let value = ran.clone().ok().json();
                assert_eq!((&value["kind"], &value["issuer"]), (&"x509-svid".into(), &"not checked".into()), "{name}");
                assert!(ran.err.contains("was not checked"), "{name}: {}", ran.err);
                let late = verify(folder.path(), &["--at", "2101-01-01T00:00:00Z", &path(name)]);
                assert!(late.refused_with(6).contains("expired at"), "{name}: {}", late.err);
                let early = verify(folder.path(), &["--at", "2001-01-01T00:00:00Z", &path(name)]);
                assert!(early.refused_with(6).contains("is valid from"), "{name}: {}", early.err);
            }
        }
    }
    // The rest of the folder: keys, and certificates of X.509 version 1, which cannot be roots (X509-SVID §4.1).
    for name in ["expired-key.der", "empty-subject-name-key.der"] {
        let ran = verify(folder.path(), &[&path(name)]);
        assert!(ran.refused_with(6).contains("it holds a private key"), "{name}: {}", ran.err);
    }
    for name in ["bundle.der", "cert1.der", "cert2.der"] {
        let path = root.join("bundle/x509").join(name).display().to_string();
        let ran = verify(folder.path(), &["--at", "2020-01-01T00:00:00Z", &path]);
        assert!(ran.refused_with(6).contains("no usable SPIFFE ID"), "{name}: {}", ran.err);
    }
    let decided = X509.len() + 2;
    let there = std::fs::read_dir(root.join("svid/x509")).expect("lists").count();
    assert_eq!(decided, there, "a fixture that nobody decides");
}

struct Domain {
    ca: AuthorityCa,
    jwt: JwtAuthority,
    bundle: TrustBundle,
}

const NOW: u64 = 1_790_000_000;
const AT: &str = "2026-09-21T14:13:20Z";

fn domain(name: &str) -> Domain {
    let domain = TrustDomain::new(name).expect("a trust domain");
    let validity = Validity { not_before_s: NOW - 1_000, not_after_s: NOW + 10_000 };
    let key = SvidKey::generate().expect("a key");
    let ca = AuthorityCa::self_signed(domain.clone(), key, validity, [3; 16]).expect("a root");
    let jwt = JwtAuthority::new(domain.clone(), JwtKey::generate().expect("a key"), NOW);
    let mut bundle = TrustBundle::new(domain);
    bundle.set_roots(vec![ca.certificate().clone()]).expect("a root");
    bundle.set_jwt_keys(jwt.public_keys());
    bundle.sequence = Some(7);
    Domain { ca, jwt, bundle }
}

#[test]
fn svids_tokens_and_bundles_are_decided_in_every_form() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let at = |name: &str| folder.path().join(name);
    let write = |name: &str, bytes: &[u8]| std::fs::write(at(name), bytes).expect("written");
    let (ours, other) = (domain("a.test"), domain("b.test"));
    let id = SpiffeId::new("spiffe://a.test/api").expect("a SPIFFE ID");
    let csr = SvidKey::generate().expect("a key").csr_der().expect("a request");
    let chain = ours.ca.issue(&csr, &id, NOW, 600, [1; 16]).expect("an SVID");
    write("svid.pem", certificates_to_pem(&chain).as_bytes());
    write("svid.der", &chain[0]);
    write("a.pem", ours.ca.certificate_pem().as_bytes());
    write("a.der", ours.ca.certificate());
    write("a.json", ours.bundle.to_jwks().as_bytes());
    write("b.json", other.bundle.to_jwks().as_bytes());
    write("empty.json", br#"{"keys":[]}"#);
    write("bad.json", br#"{"keys":[{"kty":"EC","use":"x509-svid","x5c":["AAAA"]}]}"#);
    let token = ours.jwt.issue(&id, &["reports".into()], NOW, 300).expect("a token");
    write("token.jwt", format!("{}\n", *token).as_bytes());
    let verify = |args: &[&str]| verify(folder.path(), &[&["--at", AT], args].concat());

    for svid in ["svid.pem", "svid.der"] {
        for bundle in ["a.pem", "a.der", "a.json"] {
            let value = verify(&[svid, "--bundle", bundle]).ok().json();
            assert_eq!((&value["spiffe_id"], &value["issuer"]), (&"spiffe://a.test/api".into(), &"trusted".into()));
        }
        let ran = verify(&[svid, "--bundle", "b.json"]);
        assert!(ran.refused_with(6).contains("belongs to trust domain `a.test`, we trust `b.test`"), "{}", ran.err);
        // A bundle does not become a.test's by being called so.
        let ran = verify(&[svid, "--bundle", "b.json", "--trust-domain", "a.test"]);
        assert!(ran.refused_with(6).contains("it names `spiffe://b.test`"), "{}", ran.err);
    }
    verify(&["svid.pem", "--bundle", "b.json", "--bundle", "a.json"]).ok();

    let value = verify(&["token.jwt", "--audience", "reports", "--bundle", "a.json"]).ok().json();
    assert_eq!((&value["kind"], &value["claims"]["sub"]), (&"jwt-svid".into(), &"spiffe://a.test/api".into()));
    let ran = verify(&["token.jwt", "--audience", "mail", "--bundle", "a.json"]);
    assert!(ran.refused_with(6).contains("is for `reports`, not for us"), "{}", ran.err);
    let ran = verify(&["token.jwt", "--audience", "reports", "--bundle", "b.json"]);
    assert!(ran.refused_with(6).contains("for which we hold no bundle"), "{}", ran.err);
    let ran = verify(&["token.jwt", "--audience", "reports", "--bundle", "a.pem"]);
    assert!(ran.refused_with(6).contains("has no ES256 key"), "{}", ran.err);
    verify(&["token.jwt", "--bundle", "a.json"]).refused_with(2);
    verify(&["token.jwt", "--audience", "reports"]).refused_with(2);

    let value = verify(&["a.json"]).ok().json();
    let shown = (&value["kind"], &value["x509_roots"], &value["jwt_keys"], &value["sequence"]);
    assert_eq!(shown, (&"bundle".into(), &1.into(), &1.into(), &7.into()));
    assert_eq!(verify(&["a.der"]).ok().json()["trust_domain"], "a.test");
    verify(&["empty.json"]).refused_with(2);
    let ran = verify(&["empty.json", "--trust-domain", "a.test"]).ok();
    assert!(ran.err.contains("verifies nothing"), "{}", ran.err);
    let ran = verify(&["bad.json", "--trust-domain", "a.test"]);
    assert!(ran.refused_with(6).contains("entry 0 of `keys` is refused"), "{}", ran.err);
    verify(&["svid.pem", "--node", "nowhere"]).refused_with(3);
}
