//! Issuing and the matrix of bad certificates, each made by hand with rcgen and refused for its own reason.

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use spiffe::{SpiffeId, TrustDomain};

use super::*;

const NOW: u64 = 1_790_000_000;
const NODE: &str = "spiffe://a.test/site/lyon/node/n1";

fn domain(name: &str) -> TrustDomain {
    TrustDomain::new(name).expect("a trust domain")
}

fn id(text: &str) -> SpiffeId {
    SpiffeId::new(text).expect("a SPIFFE ID")
}

fn ca(name: &str) -> AuthorityCa {
    let validity = Validity { not_before_s: NOW - 1_000, not_after_s: NOW + 10_000 };
    AuthorityCa::self_signed(domain(name), SvidKey::generate().expect("a key"), validity, [7; 16]).expect("a root")
}

fn trust(ca: &AuthorityCa) -> Bundles {
    ca.bundle().expect("a bundle").into()
}

fn csr() -> Vec<u8> {
    SvidKey::generate().expect("a key").csr_der().expect("a request")
}

#[test]
fn an_issued_svid_verifies_and_says_who_and_until_when() {
    let (ca, key) = (ca("a.test"), SvidKey::generate().expect("a key"));
    let chain =
        ca.issue(&key.csr_der().expect("a request"), &id(NODE), NOW, LIFETIME_S_DEFAULT, [1; 16]).expect("an SVID");
    let svid = verify_svid(&chain, &trust(&ca), NOW).expect("valid");
    assert_eq!(svid.spiffe_id, id(NODE));
    assert_eq!((svid.not_before_s, svid.not_after_s), (NOW - BACKDATE_S, NOW + LIFETIME_S_DEFAULT));
    assert_eq!(svid.spki_sha256, crate::ids::sha256(&key.spki_der()));
}

#[test]
fn validity_ends_are_inside_and_their_neighbours_outside() {
    let ca = ca("a.test");
    let chain = ca.issue(&csr(), &id(NODE), NOW, 100, [1; 16]).expect("an SVID");
    for (at_s, ok) in [(NOW - 61, false), (NOW - 60, true), (NOW + 100, true), (NOW + 101, false)] {
        assert_eq!(verify_svid(&chain, &trust(&ca), at_s).is_ok(), ok, "{at_s}");
    }
    let late = verify_svid(&chain, &trust(&ca), NOW + 101).expect_err("expired").to_string();
    assert_eq!(
        late,
        "the certificate of `spiffe://a.test/site/lyon/node/n1` expired at 2026-09-21T14:15:00Z, the clock says \
         2026-09-21T14:15:01Z"
    );
}

#[test]
fn a_chain_that_was_verified_is_known_in_its_time_and_against_the_same_bundles_alone() {
    let ca = ca("a.test");
    let chain = ca.issue(&csr(), &id(NODE), NOW, 100, [1; 16]).expect("an SVID");
    let verifier = Verifier::new(trust(&ca));
    let first = verifier.verify(&chain, NOW).expect("valid");
    assert_eq!(first, verify_svid(&chain, &trust(&ca), NOW).expect("valid"));
    for (at_s, ok) in [(NOW - 61, false), (NOW - 60, true), (NOW + 100, true), (NOW + 101, false), (NOW, true)] {
        let again = verifier.verify(&chain, at_s);
        assert_eq!(again.as_ref().ok(), ok.then_some(&first), "{at_s}: {again:?}");
    }
    // Below an intermediate that ends first.
    let site = site_ca(&ca, "lyon", NOW);
    let below = site.issue(&csr(), &id(NODE), NOW, 100, [2; 16]).expect("an SVID");
    verifier.verify(&below, NOW).expect("valid");
    let last = site.validity().not_after_s.min(NOW + 100);
    assert!(verifier.verify(&below, last).is_ok() && verifier.verify(&below, last + 1).is_err());
    // Another order, a piece, another trust: nothing of it is known.
    assert!(verifier.verify(&[below[1].clone(), below[0].clone()], NOW).is_err());
    assert!(verifier.verify(&below[..1], NOW).is_err());
    assert!(Verifier::new(Bundles::new()).verify(&chain, NOW).is_err());
    let mut damaged = chain[0].to_vec();
    *damaged.last_mut().expect("bytes") ^= 1;
    assert!(verifier.verify(&[CertificateDer::from(damaged)], NOW).is_err());
}

#[test]
fn the_root_of_a_chain_is_told_by_its_key_whenever_the_chain_holds() {
    let (ours, other) = (ca("a.test"), ca("a.test"));
    let both = vec![other.certificate().clone(), ours.certificate().clone()];
    let bundle = Bundle::new(domain("a.test"), both).expect("roots");
    let chain = ours.issue(&csr(), &id(NODE), NOW, 100, [1; 16]).expect("an SVID");
    assert_eq!(root_of(&chain, &bundle), Some(ours.key_digest()));
    assert_eq!(root_of(&chain, &other.bundle().expect("a root")), None);
    let site = site_ca(&ours, "lyon", NOW);
    let below = site.issue(&csr(), &id(NODE), NOW + 50, 100, [2; 16]).expect("an SVID");
    assert_eq!(root_of(&below, &bundle), Some(ours.key_digest()));
    assert_eq!(root_of(&[], &bundle), None);
}

#[test]
fn a_leaf_never_outlives_its_root() {
    let ca = ca("a.test");
    let chain = ca.issue(&csr(), &id(NODE), NOW, 1_000_000, [1; 16]).expect("an SVID");
    let svid = verify_svid(&chain, &trust(&ca), NOW).expect("valid");
    assert_eq!(svid.not_after_s, ca.validity().not_after_s);
    let dead = ca.issue(&csr(), &id(NODE), NOW + 10_000, 10, [1; 16]);
    assert!(matches!(dead, Err(CaError::OutOfTime { .. })), "{dead:?}");
}

#[test]
fn names_in_a_request_count_for_nothing() {
    let ca = ca("a.test");
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI("spiffe://a.test/coordinator/hq".try_into().expect("ascii"))];
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let greedy = params.serialize_request(&key).expect("a request");
    let chain = ca.issue(greedy.der(), &id(NODE), NOW, 60, [1; 16]).expect("an SVID");
    assert_eq!(verify_svid(&chain, &trust(&ca), NOW).expect("valid").spiffe_id, id(NODE));
}

#[test]
fn requests_with_other_keys_or_a_wrong_signature_are_refused() {
    let ca = ca("a.test");
    let issue = |csr: &[u8]| ca.issue(csr, &id(NODE), NOW, 60, [1; 16]);
    for algorithm in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let other = CertificateParams::default().serialize_request(&key).expect("a request");
        assert!(matches!(issue(other.der()), Err(CaError::KeyType { .. })));
    }
    let good = csr();
    // The last byte belongs to the signature; the byte before the middle to what it covers.
    for at in [good.len() - 1, good.len() / 3, good.len() / 2] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(issue(&bad).is_err(), "byte {at}");
    }
    assert!(issue(&good[..good.len() - 1]).is_err());
    assert!(issue(&[good.clone(), vec![0]].concat()).is_err());
    assert!(issue(&[]).is_err());
    assert!(issue(&vec![0x30; 100_000]).is_err());
    assert!(issue(&good).is_ok());
}

#[test]
fn an_authority_speaks_for_workloads_of_its_own_domain_only() {
    let ca = ca("a.test");
    for other in ["spiffe://b.test/node/n", "spiffe://a.test"] {
        let refused = ca.issue(&csr(), &id(other), NOW, 60, [1; 16]);
        assert!(matches!(refused, Err(CaError::NotOurs { .. })), "{other}");
    }
}

#[test]
fn an_authority_survives_its_files() {
    let first = ca("a.test");
    let second = AuthorityCa::from_pem(&first.key_pem().expect("held"), &first.certificate_pem()).expect("loads");
    assert_eq!((second.spki_der(), second.validity()), (first.spki_der(), first.validity()));
    let chain = second.issue(&csr(), &id(NODE), NOW, 60, [1; 16]).expect("an SVID");
    assert!(verify_svid(&chain, &trust(&first), NOW).is_ok());
    let mixed = AuthorityCa::from_pem(&ca("a.test").key_pem().expect("held"), &first.certificate_pem());
    assert_eq!(mixed.expect_err("another key"), CaError::KeyMismatch);
    assert!(AuthorityCa::from_pem("", &first.certificate_pem()).is_err());
    assert!(
        AuthorityCa::from_pem(
            &first.key_pem().expect("held"),
            "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n"
        )
        .is_err()
    );
}

#[test]
fn a_key_survives_its_file_and_is_not_printed() {
    let key = SvidKey::generate().expect("a key");
    let again = SvidKey::from_pkcs8_pem(&key.to_pkcs8_pem()).expect("loads");
    assert_eq!(again.spki_der(), key.spki_der());
    assert_eq!(SvidKey::from_pkcs8_der(&key.to_pkcs8_der()).expect("loads").spki_der(), key.spki_der());
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).expect("a key");
    assert!(SvidKey::from_pkcs8_der(&p384.serialize_der()).is_err());
    assert_eq!(format!("{key:?}"), "SvidKey(secret)");
}

/// A leaf that would be right; each case below breaks one thing.
fn leaf_params(uris: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2027, 1, 1);
    params.subject_alt_names = uris.iter().map(|u| SanType::URI((*u).try_into().expect("ascii"))).collect();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params
}

fn hand_made(ca: &AuthorityCa, params: &CertificateParams) -> Vec<CertificateDer<'static>> {
    let signer = KeyPair::from_pem(&ca.key_pem().expect("held")).expect("a key");
    let issuer = Issuer::from_ca_cert_der(ca.certificate(), &signer).expect("an issuer");
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    vec![params.signed_by(&key, &issuer).expect("a certificate").der().clone()]
}

#[test]
fn every_bad_leaf_is_refused_for_its_own_reason() {
    let ca = ca("a.test");
    let refused = |params: &CertificateParams| verify_svid(&hand_made(&ca, params), &trust(&ca), NOW);
    assert!(refused(&leaf_params(&[NODE])).is_ok(), "the untouched leaf is fine");

    for uris in [&[NODE, "spiffe://a.test/x"][..], &[], &["https://a.test/x"], &["spiffe://a.test/../x"]] {
        let found = refused(&leaf_params(uris));
        assert!(matches!(found, Err(SvidError::NoSpiffeId { .. })), "{uris:?}: {found:?}");
    }
    let found = refused(&leaf_params(&["spiffe://a.test"]));
    assert!(matches!(found, Err(SvidError::NoPath { .. })), "{found:?}");

    let mut params = leaf_params(&[NODE]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    assert!(matches!(refused(&params), Err(SvidError::LeafIsCa { .. })));

    use KeyUsagePurpose::{CrlSign, DigitalSignature, KeyAgreement, KeyCertSign};
    for usages in [&[][..], &[KeyAgreement], &[DigitalSignature, KeyCertSign], &[DigitalSignature, CrlSign]] {
        let mut params = leaf_params(&[NODE]);
        params.key_usages = usages.to_vec();
        assert!(matches!(refused(&params), Err(SvidError::KeyUsage { .. })), "{usages:?}");
    }
    for purpose in [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::CodeSigning] {
        let mut params = leaf_params(&[NODE]);
        params.extended_key_usages = vec![purpose];
        assert!(matches!(refused(&params), Err(SvidError::ExtendedKeyUsage { .. })));
    }
}

#[test]
fn only_a_root_of_the_leafs_own_trust_domain_counts() {
    let (a, impostor, b) = (ca("a.test"), ca("a.test"), ca("b.test"));
    let mut both = trust(&a);
    both.insert(b.bundle().expect("a bundle"));
    let chain = |ca: &AuthorityCa, name: &str| hand_made(ca, &leaf_params(&[name]));
    assert!(verify_svid(&chain(&a, NODE), &both, NOW).is_ok());
    assert!(verify_svid(&chain(&b, "spiffe://b.test/x"), &both, NOW).is_ok());

    let other_root = verify_svid(&chain(&impostor, NODE), &both, NOW);
    assert!(matches!(other_root, Err(SvidError::NotIssuedByTrustDomain { .. })), "{other_root:?}");
    let federated_signs_ours = verify_svid(&chain(&b, NODE), &both, NOW);
    assert!(matches!(federated_signs_ours, Err(SvidError::NotIssuedByTrustDomain { .. })));
    let stranger = verify_svid(&chain(&b, "spiffe://b.test/x"), &trust(&a), NOW).expect_err("unknown");
    assert_eq!(stranger.to_string(), "`spiffe://b.test/x` belongs to trust domain `b.test`, we trust `a.test`");
}

/// An intermediate for `name`, and a leaf under it.
fn through(
    ca: &AuthorityCa,
    name: Option<&str>,
    change: fn(&mut CertificateParams),
    leaf: &str,
) -> Vec<CertificateDer<'static>> {
    let signer = KeyPair::from_pem(&ca.key_pem().expect("held")).expect("a key");
    let root = Issuer::from_ca_cert_der(ca.certificate(), &signer).expect("an issuer");
    let mut params = leaf_params(&[]);
    params.subject_alt_names = name.into_iter().map(|n| SanType::URI(n.try_into().expect("ascii"))).collect();
    params.distinguished_name.push(rcgen::DnType::CommonName, "intermediate");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.not_before = rcgen::date_time_ymd(2026, 9, 1);
    params.not_after = rcgen::date_time_ymd(2026, 10, 1);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    change(&mut params);
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    let middle = params.signed_by(&key, &root).expect("a certificate");
    let issuer = Issuer::from_ca_cert_der(middle.der(), &key).expect("an issuer");
    let leaf_key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    let leaf = leaf_params(&[leaf]).signed_by(&leaf_key, &issuer).expect("a certificate");
    vec![leaf.der().clone(), middle.der().clone()]
}

#[test]
fn an_intermediate_signs_below_its_own_path_only() {
    let ca = ca("a.test");
    let check = |name: Option<&str>, leaf: &str| verify_svid(&through(&ca, name, |_| (), leaf), &trust(&ca), NOW);
    for name in [None, Some("spiffe://a.test"), Some("spiffe://a.test/site/lyon")] {
        assert!(check(name, NODE).is_ok(), "{name:?}");
    }
    for name in [
        "spiffe://a.test/site/porto",
        "spiffe://a.test/site/lyo",
        "spiffe://a.test/site/lyon/node/n1",
        "spiffe://b.test",
    ] {
        let found = check(Some(name), NODE);
        assert!(matches!(found, Err(SvidError::OutsideAuthority { .. })), "{name}: {found:?}");
    }
}

#[test]
fn an_intermediate_for_a_path_is_the_last_authority_and_short_lived() {
    let ca = ca("a.test");
    let site = Some("spiffe://a.test/site/lyon");
    let unbounded: fn(&mut CertificateParams) = |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let for_a_year: fn(&mut CertificateParams) = |p| p.not_before = rcgen::date_time_ymd(2026, 1, 1);
    for (change, word) in [(unbounded, "path length"), (for_a_year, "30 days")] {
        let found = verify_svid(&through(&ca, site, change, NODE), &trust(&ca), NOW).expect_err("refused");
        assert!(found.to_string().contains(word), "{found}");
        let none = verify_svid(&through(&ca, None, change, NODE), &trust(&ca), NOW);
        assert!(none.is_ok(), "one without a path may be anything that X.509 allows: {none:?}");
    }
}

fn site_ca(ca: &AuthorityCa, site: &str, now_s: u64) -> SiteCa {
    let key = SvidKey::generate().expect("a key");
    let certificate = ca.issue_site(&key.csr_der().expect("a request"), site, now_s, 600, [9; 16]).expect("signed");
    SiteCa::new(key, certificate).expect("an intermediate")
}

#[test]
fn a_site_intermediate_issues_for_its_site_and_for_nobody_else() {
    let ca = ca("a.test");
    let site = site_ca(&ca, "lyon", NOW);
    assert_eq!(site.site(), "lyon");
    let chain = site.issue(&csr(), &id(NODE), NOW, 600, [1; 16]).expect("an SVID");
    assert_eq!(chain.len(), 2);
    assert_eq!(verify_svid(&chain, &trust(&ca), NOW).expect("valid").spiffe_id, id(NODE));
    for other in ["spiffe://a.test/site/porto/node/n", "spiffe://a.test/site/lyon", "spiffe://a.test/coordinator/hq"] {
        let refused = site.issue(&csr(), &id(other), NOW, 600, [1; 16]);
        assert!(matches!(refused, Err(CaError::OutsideSite { .. })), "{other}");
    }
    // Its holder is free to sign what it likes; nobody believes it.
    let key = KeyPair::from_pem(&site.to_pem()).expect("a key");
    let issuer = Issuer::from_ca_cert_der(site.certificate(), &key).expect("an issuer");
    let leaf = leaf_params(&["spiffe://a.test/site/porto/node/n"]);
    let mine = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    let escape = vec![leaf.signed_by(&mine, &issuer).expect("signed").der().clone(), site.certificate().clone()];
    let found = verify_svid(&escape, &trust(&ca), NOW);
    assert!(matches!(found, Err(SvidError::OutsideAuthority { .. })), "{found:?}");
    let mut params = leaf_params(&[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(rcgen::DnType::CommonName, "below");
    let below = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    let second = params.signed_by(&below, &issuer).expect("signed");
    let issuer = Issuer::from_ca_cert_der(second.der(), &below).expect("an issuer");
    let leaf = leaf_params(&[NODE]).signed_by(&mine, &issuer).expect("signed");
    let long = vec![leaf.der().clone(), second.der().clone(), site.certificate().clone()];
    let found = verify_svid(&long, &trust(&ca), NOW);
    assert!(matches!(found, Err(SvidError::NotIssuedByTrustDomain { .. })), "{found:?}");
}

#[test]
fn nothing_outlives_what_signed_it_and_a_dying_authority_makes_no_intermediate() {
    let ca = ca("a.test");
    let site = site_ca(&ca, "lyon", NOW);
    assert_eq!(site.validity().not_after_s, ca.validity().not_after_s, "30 days would be longer than the root");
    let chain = site.issue(&csr(), &id(NODE), NOW, 1_000_000, [1; 16]).expect("an SVID");
    assert_eq!(verify_svid(&chain, &trust(&ca), NOW).expect("valid").not_after_s, site.validity().not_after_s);
    let end = ca.validity().not_after_s;
    let late = ca.issue_site(&csr(), "lyon", end - 599, 600, [9; 16]);
    assert_eq!(late, Err(CaError::TooShort { left_s: 599, needed_s: 600 }));
    assert!(matches!(ca.issue_site(&csr(), "../x", NOW, 600, [9; 16]), Err(CaError::Site { .. })));
    let dead = site.issue(&csr(), &id(NODE), end, 10, [1; 16]);
    assert!(matches!(dead, Err(CaError::OutOfTime { .. })), "{dead:?}");

    let long = Validity { not_before_s: NOW - 10, not_after_s: NOW + 100 * 86_400 };
    let (old, spki) = (trust(&ca), ca.spki_der());
    let again = ca.reissued(long, [4; 16]).expect("the same key");
    assert_eq!(again.spki_der(), spki);
    let site = site_ca(&again, "lyon", NOW);
    assert_eq!(site.validity().not_after_s, NOW + SITE_LIFETIME_S_MAX);
    let chain = site.issue(&csr(), &id(NODE), NOW, 600, [1; 16]).expect("an SVID");
    assert!(verify_svid(&chain, &old, NOW).is_ok(), "a bundle with the old certificate of the key knows it too");
}

#[test]
fn a_site_file_is_read_back_and_others_are_refused() {
    let ca = ca("a.test");
    let site = site_ca(&ca, "lyon", NOW);
    let back = SiteCa::from_pem(&site.to_pem()).expect("reads");
    assert_eq!((back.certificate(), back.site()), (site.certificate(), "lyon"));
    let other = SvidKey::generate().expect("a key");
    assert_eq!(SiteCa::new(other, site.certificate().clone()).err(), Some(CaError::KeyMismatch));
    let root = SvidKey::from_pkcs8_pem(&ca.key_pem().expect("held")).expect("a key");
    assert!(matches!(SiteCa::new(root, ca.certificate().clone()), Err(CaError::Intermediate(_))));
    assert!(SiteCa::from_pem("nonsense").is_err());
}

#[test]
fn an_intermediate_that_may_not_issue_is_refused() {
    let ca = ca("a.test");
    for change in [
        (|p: &mut CertificateParams| p.is_ca = IsCa::ExplicitNoCa) as fn(&mut CertificateParams),
        |p| p.key_usages = vec![KeyUsagePurpose::CrlSign],
        |p| p.key_usages = vec![],
    ] {
        let found = verify_svid(&through(&ca, None, change, NODE), &trust(&ca), NOW);
        assert!(matches!(found, Err(SvidError::Intermediate { index: 1, .. })), "{found:?}");
    }
}

#[test]
fn chains_are_bounded_and_damaged_bytes_never_panic() {
    let ca = ca("a.test");
    let trust = trust(&ca);
    let good = hand_made(&ca, &leaf_params(&[NODE]));
    assert_eq!(verify_svid(&[], &trust, NOW), Err(SvidError::Empty));
    let five = vec![good[0].clone(); 5];
    assert!(matches!(verify_svid(&five, &trust, NOW), Err(SvidError::TooDeep { depth: 5, max: 4 })));
    let fat = vec![CertificateDer::from(vec![0; CHAIN_BYTES_MAX + 1])];
    assert!(matches!(verify_svid(&fat, &trust, NOW), Err(SvidError::TooLarge { .. })));

    for cut in 0..good[0].len() {
        let short = [CertificateDer::from(good[0][..cut].to_vec())];
        assert!(verify_svid(&short, &trust, NOW).is_err(), "cut at {cut}");
    }
    for at in 0..good[0].len() {
        let mut flipped = good[0].to_vec();
        flipped[at] ^= 0x55;
        assert!(verify_svid(&[CertificateDer::from(flipped)], &trust, NOW).is_err(), "flipped {at}");
    }
}

#[test]
fn a_bundle_takes_roots_of_its_own_domain_only() {
    let (a, b) = (ca("a.test"), ca("b.test"));
    assert!(Bundle::new(domain("a.test"), vec![]).is_err());
    assert!(Bundle::new(domain("a.test"), vec![b.certificate().clone()]).is_err());
    let leaf = hand_made(&a, &leaf_params(&[NODE]));
    assert!(Bundle::new(domain("a.test"), leaf).is_err());
    assert!(Bundle::new(domain("a.test"), vec![CertificateDer::from(vec![1, 2, 3])]).is_err());
    let pem = certificates_to_pem(&[a.certificate().clone(), b.certificate().clone()]);
    let back = certificates_from_pem(&pem).expect("reads");
    assert_eq!(back, [a.certificate().clone(), b.certificate().clone()]);
    assert_eq!(spki_der(&back[0]).expect("reads"), a.spki_der());
}
