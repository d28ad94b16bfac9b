//! Bundles as other software writes them, and all that must not pass for one.

use super::*;
use crate::jwt::JwtKey;
use crate::x509::{AuthorityCa, SvidKey, Validity};

fn domain(name: &str) -> TrustDomain {
    TrustDomain::new(name).expect("a trust domain")
}

fn ca(name: &str) -> AuthorityCa {
    let validity = Validity { not_before_s: 1_000, not_after_s: 4_000_000_000 };
    AuthorityCa::self_signed(domain(name), SvidKey::generate().expect("a key"), validity, [7; 16]).expect("a root")
}

fn x5c(ca: &AuthorityCa) -> String {
    STANDARD.encode(ca.certificate())
}

fn read(json: &Value) -> Result<TrustBundle, BundleError> {
    TrustBundle::from_jwks(domain("a.test"), json.to_string().as_bytes())
}

fn bundle() -> TrustBundle {
    let mut bundle = TrustBundle::new(domain("a.test"));
    bundle.set_roots(vec![ca("a.test").certificate().clone(), ca("a.test").certificate().clone()]).expect("roots");
    let keys = [JwtKey::generate().expect("a key"), JwtKey::generate().expect("a key")];
    bundle.set_jwt_keys(keys.iter().map(JwtKey::public));
    (bundle.sequence, bundle.refresh_hint_s) = (Some(u64::MAX), Some(300));
    bundle
}

#[test]
fn what_is_written_is_read_again_and_keeps_to_the_specification() {
    let bundle = bundle();
    let text = bundle.to_jwks();
    assert_eq!(TrustBundle::from_jwks(domain("a.test"), text.as_bytes()), Ok(bundle.clone()));
    let json: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(json["spiffe_sequence"], u64::MAX);
    let keys = json["keys"].as_array().expect("a list");
    assert_eq!(keys.len(), 4);
    for key in keys {
        assert_eq!((&key["kty"], &key["crv"]), (&"EC".into(), &"P-256".into()));
        let x509 = key["use"] == "x509-svid";
        // X509-SVID §6.1: no kid, one certificate. JWT-SVID §6.1: a kid.
        assert_eq!((key.get("kid").is_none(), key["x5c"].as_array().map(Vec::len)), (x509, x509.then_some(1)));
    }
    let (x509, jwt) = (&keys[0], &keys[2]);
    let point = ca("a.test").spki_der();
    assert_eq!(x509["x"].as_str().map(str::len), Some(43), "{}", point.len());
    assert_eq!(jwt["use"], "jwt-svid");
}

#[test]
fn no_keys_is_no_bundle_and_an_empty_list_trusts_nothing() {
    for bad in [json!({}), json!({ "keys": {} }), json!({ "keys": null }), json!([]), json!("keys")] {
        assert!(matches!(read(&bad), Err(BundleError::Malformed(_))), "{bad}");
    }
    let none = read(&json!({ "keys": [] })).expect("a bundle");
    assert!(none.is_empty() && none.x509().is_none());
    let svid = {
        let (ca, key) = (ca("a.test"), SvidKey::generate().expect("a key"));
        let id = spiffe::SpiffeId::new("spiffe://a.test/x").expect("an id");
        ca.issue(&key.csr_der().expect("a request"), &id, 2_000, 60, [1; 16]).expect("an SVID")
    };
    let bundles: TrustBundles = [none].into_iter().collect();
    assert!(crate::x509::verify_svid(&svid, &bundles.x509(), 2_000).is_err());
}

#[test]
fn unknown_entries_are_passed_over_and_counted() {
    let ca = ca("a.test");
    let key = Value::Object(JwtKey::generate().expect("a key").public().to_jwk());
    let with = |name: &str, value: &str| {
        let mut other = key.clone();
        other[name] = value.into();
        other
    };
    let mut no_use = key.clone();
    no_use.as_object_mut().expect("an object").remove("use");
    let set = json!({ "keys": [
        key,
        { "kty": "EC", "use": "x509-svid", "x5c": [x5c(&ca), "the second does not count"], "kid": "nor does this" },
        { "kty": "EC", "use": "x509-svid", "x5c": [x5c(&ca)] },
        { "kty": "EC", "use": "x509-svid" },
        { "kty": "EC", "use": "x509-svid", "x5c": [] },
        { "kty": "quantum", "use": "x509-svid", "x5c": [x5c(&ca)] },
        { "kty": "oct", "use": "jwt-svid", "kid": "1", "k": "AAAA" },
        { "use": "jwt-svid", "kid": "2" },
        no_use, with("use", "JWT-SVID"), with("use", "wit-svid"), with("crv", "secp256k1"), with("alg", "HS256"),
        { "kty": "RSA", "use": "jwt-svid", "kid": "weak", "n": URL_SAFE_NO_PAD.encode([0xff; 128]), "e": "AQAB" },
    ], "unknown": true });
    let bundle = read(&set).expect("a bundle");
    assert_eq!((bundle.roots().len(), bundle.jwt_keys().count(), bundle.ignored), (1, 1, 11));
    assert_eq!((bundle.sequence, bundle.refresh_hint_s), (None, None));
}

#[test]
fn a_bundle_that_claims_what_is_not_so_is_refused_whole() {
    let ca = ca("a.test");
    let key = JwtKey::generate().expect("a key").public().to_jwk();
    let x509 = |x5c: Value| json!({ "kty": "EC", "use": "x509-svid", "x5c": x5c });
    let jwt = |name: &str, value: Value| {
        let mut key = key.clone();
        key.insert(name.to_owned(), value);
        Value::Object(key)
    };
    let leaf = {
        let id = spiffe::SpiffeId::new("spiffe://a.test/x").expect("an id");
        let csr = SvidKey::generate().expect("a key").csr_der().expect("a request");
        STANDARD.encode(&ca.issue(&csr, &id, 2_000, 60, [1; 16]).expect("an SVID")[0])
    };
    let short = URL_SAFE_NO_PAD.encode([1; 31]);
    let cases = [
        (x509(json!(["!"])), "not base64"),
        (x509(json!("AAAA")), "no list"),
        (x509(json!([1])), "no text"),
        (x509(json!(["AAAA"])), "root"),
        (x509(json!([leaf])), "not a certificate authority"),
        (x509(json!([x5c(&self::ca("b.test"))])), "it names `spiffe://b.test`"),
        (jwt("kid", "".into()), "`kid` must have 1"),
        (jwt("kid", "k".repeat(256).into()), "`kid` must have 1"),
        (jwt("kid", Value::Null), "`kid` is missing"),
        (jwt("x", short.into()), "32 bytes"),
        (jwt("x", URL_SAFE_NO_PAD.encode([1; 32]).into()), "no point"),
        (jwt("y", "not base64".into()), "base64url"),
        (json!("text"), "no object"),
    ];
    for (entry, why) in cases {
        let error = read(&json!({ "keys": [entry] })).expect_err(why).to_string();
        assert!(error.contains(why), "{error}");
    }
    let twice = read(&json!({ "keys": [key, key] })).expect_err("the same kid twice").to_string();
    assert!(twice.contains("entry 1") && twice.contains("another entry's"), "{twice}");
}

#[test]
fn sizes_and_numbers_are_bounded() {
    let many = json!({ "keys": vec![json!({}); BUNDLE_KEYS_MAX + 1] });
    assert!(matches!(read(&many), Err(BundleError::TooLarge { what: "keys", .. })));
    let huge = vec![b' '; BUNDLE_BYTES_MAX + 1];
    let error = TrustBundle::from_jwks(domain("a.test"), &huge);
    assert!(matches!(error, Err(BundleError::TooLarge { what: "bytes", .. })));
    let deep = "[".repeat(100_000);
    assert!(TrustBundle::from_jwks(domain("a.test"), deep.as_bytes()).is_err());
    for bad in [json!(-1), json!(1.5), json!("1"), json!(1e30)] {
        assert!(read(&json!({ "keys": [], "spiffe_sequence": bad })).is_err(), "{bad}");
        assert!(read(&json!({ "keys": [], "spiffe_refresh_hint": bad })).is_err(), "{bad}");
    }
}

#[test]
fn bundles_never_count_for_another_trust_domain() {
    let (a, b) = (ca("a.test"), ca("b.test"));
    let bundle = |ca: &AuthorityCa| {
        let mut bundle = TrustBundle::new(ca.trust_domain().clone());
        bundle.set_roots(vec![ca.certificate().clone()]).expect("a root");
        bundle
    };
    let mut bundles: TrustBundles = [bundle(&a), bundle(&b)].into_iter().collect();
    assert_eq!(bundles.get(&domain("a.test")).map(|b| b.roots().len()), Some(1));
    let roots = bundles.x509();
    assert_eq!(roots.get(&domain("b.test")).map(|b| b.roots().to_vec()), Some(vec![b.certificate().clone()]));
    assert!(TrustBundle::new(domain("a.test")).set_roots(vec![b.certificate().clone()]).is_err());
    // A newer bundle replaces the older one, it is not added to it.
    bundles.insert(TrustBundle::new(domain("a.test")));
    assert!(bundles.x509().get(&domain("a.test")).is_none() && bundles.x509().get(&domain("b.test")).is_some());
}

#[test]
fn an_older_bundle_takes_no_newer_one_s_place_and_hints_are_held_in_bounds() {
    let with =
        |sequence, refresh_hint_s| TrustBundle { sequence, refresh_hint_s, ..TrustBundle::new(domain("a.test")) };
    for (new, held, ok) in [
        (None, None, true),
        (Some(0), None, true),
        (Some(7), Some(7), true),
        (Some(8), Some(7), true),
        (Some(6), Some(7), false),
        (None, Some(7), false),
        (Some(0), Some(u64::MAX), false),
    ] {
        assert_eq!(with(new, None).succeeds(&with(held, None)).is_ok(), ok, "{new:?} after {held:?}");
    }
    for (hint, waits) in [(None, 300), (Some(0), 5), (Some(60), 60), (Some(u64::MAX), 86_400)] {
        assert_eq!(with(None, hint).refresh_s(), waits);
    }
}

#[test]
fn roots_of_every_kind_of_key_survive_publication() {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose};
    for (algorithm, kty) in [
        (&rcgen::PKCS_ECDSA_P384_SHA384, "EC"),
        (&rcgen::PKCS_ECDSA_P521_SHA512, "EC"),
        (&rcgen::PKCS_ED25519, "OKP"),
        (&rcgen::PKCS_RSA_SHA256, "RSA"),
    ] {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = params.self_signed(&KeyPair::generate_for(algorithm).expect("a key")).expect("a root");
        let mut bundle = TrustBundle::new(domain("a.test"));
        bundle.set_roots(vec![root.der().clone()]).expect("a root");
        let text = bundle.to_jwks();
        assert_eq!(TrustBundle::from_jwks(domain("a.test"), text.as_bytes()), Ok(bundle));
        let json: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(json["keys"][0]["kty"], kty);
    }
}

#[test]
fn no_damage_to_a_bundle_panics_and_a_cut_one_is_none() {
    let text = bundle().to_jwks().into_bytes();
    for at in (0..text.len()).step_by(3) {
        for byte in [0, b'"', b'}', b'9', text[at] ^ 0x20] {
            let mut damaged = text.clone();
            damaged[at] = byte;
            if let Ok(read) = TrustBundle::from_jwks(domain("a.test"), &damaged) {
                let again = TrustBundle::from_jwks(domain("a.test"), read.to_jwks().as_bytes()).expect("what we write");
                assert!(again.same_keys(&read), "byte {at}");
            }
        }
        assert!(TrustBundle::from_jwks(domain("a.test"), &text[..at]).is_err());
    }
}
