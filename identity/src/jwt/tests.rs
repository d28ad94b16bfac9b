//! Issuing, and the matrix of bad tokens, each refused for its own reason.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use spiffe::{SpiffeId, TrustDomain};

use super::*;
use crate::trust_bundle::{TrustBundle, TrustBundles};

const NOW: u64 = 1_790_000_000;
const API: &str = "spiffe://a.test/api";

fn domain(name: &str) -> TrustDomain {
    TrustDomain::new(name).expect("a trust domain")
}

fn id(text: &str) -> SpiffeId {
    SpiffeId::new(text).expect("a SPIFFE ID")
}

fn authority(name: &str) -> JwtAuthority {
    JwtAuthority::new(domain(name), JwtKey::generate().expect("a key"), NOW)
}

fn trust(authority: &JwtAuthority) -> TrustBundles {
    let mut bundle = TrustBundle::new(authority.trust_domain().clone());
    bundle.set_jwt_keys(authority.public_keys());
    [bundle].into_iter().collect()
}

/// A signer that signs whatever it is told, as an attacker's or another implementation's would.
struct Signer {
    pair: EcdsaKeyPair,
    bundles: TrustBundles,
}

impl Signer {
    fn new(algorithm: &'static EcdsaSigningAlgorithm, jwk: &[(&str, &str)]) -> Self {
        let pair = EcdsaKeyPair::generate(algorithm).expect("a key");
        let point = &pair.public_key().as_ref()[1..];
        let (x, y) = point.split_at(point.len() / 2);
        let mut all = Map::new();
        all.insert("kty".into(), "EC".into());
        all.insert("x".into(), URL_SAFE_NO_PAD.encode(x).into());
        all.insert("y".into(), URL_SAFE_NO_PAD.encode(y).into());
        all.extend(jwk.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))));
        let mut bundle = TrustBundle::new(domain("a.test"));
        bundle.set_jwt_keys([&JwtPublicKey::from_jwk(&all).expect("a key")]);
        Self { pair, bundles: [bundle].into_iter().collect() }
    }

    fn p256() -> Self {
        Self::new(&ECDSA_P256_SHA256_FIXED_SIGNING, &[("crv", "P-256"), ("kid", "k")])
    }

    fn token(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).expect("signs");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    fn validate(&self, header: &str, claims: &str) -> Result<VerifiedJwt, JwtError> {
        validate_jwt(&self.token(header, claims), &["us"], &self.bundles, NOW, LEEWAY_S)
    }
}

fn claims() -> String {
    json!({ "sub": API, "aud": ["us"], "exp": NOW + 60 }).to_string()
}

#[test]
fn an_issued_token_is_valid_for_its_audience_and_its_time_only() {
    let authority = authority("a.test");
    let token = authority.issue(&id(API), &["us".into(), "them".into()], NOW, 300).expect("a token");
    let bundles = trust(&authority);
    let valid = validate_jwt(&token, &["x", "us"], &bundles, NOW, LEEWAY_S).expect("valid");
    assert_eq!((valid.spiffe_id, valid.expires_s), (id(API), NOW + 300));
    assert_eq!(valid.audience, ["us", "them"]);
    assert_eq!((&valid.claims["iat"], &valid.claims["sub"]), (&json!(NOW), &json!(API)));
    for (at_s, ok) in [(NOW + 299, true), (NOW + 300 + LEEWAY_S - 1, true), (NOW + 300 + LEEWAY_S, false)] {
        assert_eq!(validate_jwt(&token, &["us"], &bundles, at_s, LEEWAY_S).is_ok(), ok, "{at_s}");
    }
    for audiences in [&["other"][..], &[], &[""]] {
        let refused = validate_jwt(&token, audiences, &bundles, NOW, LEEWAY_S);
        assert!(matches!(refused, Err(JwtError::Audience { .. })), "{refused:?}");
    }
    let long = authority.issue(&id(API), &["us".into()], NOW, u64::MAX).expect("a token");
    let valid = validate_jwt(&long, &["us"], &bundles, NOW, 0).expect("valid");
    assert_eq!(valid.expires_s, NOW + LIFETIME_S_MAX);
}

#[test]
fn the_authority_speaks_for_workloads_of_its_own_domain_and_for_somebody() {
    let authority = authority("a.test");
    for other in ["spiffe://b.test/api", "spiffe://a.test"] {
        let refused = authority.issue(&id(other), &["us".into()], NOW, 60);
        assert!(matches!(refused, Err(JwtIssueError::NotOurs { .. })), "{other}");
    }
    for audience in [vec![], vec![String::new()], vec!["x".repeat(256)], vec!["x".into(); 17]] {
        let refused = authority.issue(&id(API), &audience, NOW, 60);
        assert!(matches!(refused, Err(JwtIssueError::Audience { .. })), "{audience:?}");
    }
}

#[test]
fn the_subject_selects_the_bundle_and_no_other_domain_s_key_will_do() {
    let (a, b) = (authority("a.test"), authority("b.test"));
    let token = b.issue(&id("spiffe://b.test/api"), &["us".into()], NOW, 60).expect("a token");
    let refused = validate_jwt(&token, &["us"], &trust(&a), NOW, 0);
    assert!(matches!(refused, Err(JwtError::UnknownTrustDomain { .. })), "{refused:?}");
    // b.test signs for a.test: its key is in our hands, but in b.test's bundle.
    let signer = Signer::p256();
    let mut bundles = trust(&a);
    let mut foreign = TrustBundle::new(domain("b.test"));
    foreign.set_jwt_keys(signer.bundles.get(&domain("a.test")).expect("a bundle").jwt_keys());
    bundles.insert(foreign);
    let stolen = signer.token(r#"{"alg":"ES256"}"#, &claims());
    let refused = validate_jwt(&stolen, &["us"], &bundles, NOW, 0);
    assert_eq!(refused, Err(JwtError::Signature { id: id(API) }));
    let empty: TrustBundles = [TrustBundle::new(domain("a.test"))].into_iter().collect();
    assert!(matches!(validate_jwt(&stolen, &["us"], &empty, NOW, 0), Err(JwtError::NoKey { .. })));
}

#[test]
fn headers_are_refused_for_their_own_reason() {
    let signer = Signer::p256();
    for good in [
        r#"{"alg":"ES256"}"#,
        r#"{"alg":"ES256","kid":"k"}"#,
        r#"{"alg":"ES256","typ":"JWT"}"#,
        r#"{"alg":"ES256","typ":"JOSE","kid":"k"}"#,
    ] {
        signer.validate(good, &claims()).unwrap_or_else(|e| panic!("{good}: {e}"));
    }
    let cases = [
        (r#"{"alg":"none"}"#, "`none` is not one of"),
        (r#"{"alg":"HS256"}"#, "`HS256` is not one of"),
        (r#"{"alg":"EdDSA"}"#, "`EdDSA` is not one of"),
        (r#"{"alg":"es256"}"#, "`es256` is not one of"),
        (r#"{"alg":"ES384"}"#, "no ES384 key"),
        (r#"{"alg":"RS256","kid":"k"}"#, "no RS256 key `k`"),
        (r#"{"alg":"ES256","kid":"other"}"#, "no ES256 key `other`"),
        (r#"{"alg":"ES256","typ":"jwt"}"#, "`jwt` is neither"),
        (r#"{"alg":"ES256","typ":"wit+jwt"}"#, "neither JWT nor JOSE"),
        (r#"{"alg":"ES256","crit":["exp"]}"#, "unknown field `crit`"),
        (r#"{"alg":"ES256","jku":"https://evil.test"}"#, "unknown field `jku`"),
        (r#"{"alg":"ES256","jwk":{}}"#, "unknown field `jwk`"),
        (r#"{"alg":"ES256","alg":"none"}"#, "duplicate field `alg`"),
        (r#"{"kid":"k"}"#, "missing field `alg`"),
        ("[]", "cannot be read"),
        ("", "cannot be read"),
    ];
    for (header, why) in cases {
        let error = signer.validate(header, &claims()).expect_err(header).to_string();
        assert!(error.contains(why), "{header}: {error}");
    }
}

#[test]
fn claims_are_refused_for_their_own_reason() {
    let signer = Signer::p256();
    let header = r#"{"alg":"ES256","kid":"k"}"#;
    for good in [
        json!({ "sub": API, "aud": "us", "exp": NOW + 60 }),
        json!({ "sub": API, "aud": ["them", "us"], "exp": NOW as f64 + 60.5, "nbf": NOW, "act": { "sub": "x" } }),
        json!({ "sub": API, "aud": "us", "exp": u64::MAX, "nbf": NOW + LEEWAY_S }),
    ] {
        signer.validate(header, &good.to_string()).unwrap_or_else(|e| panic!("{good}: {e}"));
    }
    let cases = [
        (json!({ "aud": "us", "exp": NOW + 60 }), "missing field `sub`"),
        (json!({ "sub": API, "exp": NOW + 60 }), "missing field `aud`"),
        (json!({ "sub": API, "aud": "us" }), "missing field `exp`"),
        (json!({ "sub": "api", "aud": "us", "exp": NOW + 60 }), "scheme"),
        (json!({ "sub": "spiffe://a.test", "aud": "us", "exp": NOW + 60 }), "has no path"),
        (json!({ "sub": format!("{API}{}", "a".repeat(2048)), "aud": "us", "exp": NOW + 60 }), "at most 2048"),
        (json!({ "sub": API, "aud": [], "exp": NOW + 60 }), "names nobody"),
        (json!({ "sub": API, "aud": "", "exp": NOW + 60 }), "names nobody"),
        (json!({ "sub": API, "aud": 7, "exp": NOW + 60 }), "cannot be read"),
        (json!({ "sub": API, "aud": "usa", "exp": NOW + 60 }), "is for `usa`, not for us"),
        (json!({ "sub": API, "aud": "us", "exp": "never" }), "cannot be read"),
        (json!({ "sub": API, "aud": "us", "exp": NOW - LEEWAY_S }), "expired at"),
        (json!({ "sub": API, "aud": "us", "exp": -1 }), "expired at 1970"),
        (json!({ "sub": API, "aud": "us", "exp": NOW + 60, "nbf": NOW + LEEWAY_S + 1 }), "is valid from"),
        (json!([]), "cannot be read"),
    ];
    for (claims, why) in cases {
        let error = signer.validate(header, &claims.to_string()).expect_err(why).to_string();
        assert!(error.contains(why), "{claims}: {error}");
    }
    let twice = format!(r#"{{"sub":"{API}","sub":"spiffe://a.test/root","aud":"us","exp":{}}}"#, NOW + 60);
    let error = signer.validate(header, &twice).expect_err("twice").to_string();
    assert!(error.contains("duplicate field `sub`"), "{error}");
}

#[test]
fn only_the_compact_form_with_a_right_signature_passes() {
    let signer = Signer::p256();
    let good = signer.token(r#"{"alg":"ES256"}"#, &claims());
    let check = |token: &str| validate_jwt(token, &["us"], &signer.bundles, NOW, 0);
    assert!(check(&good).is_ok());
    let unsigned = good.rsplit_once('.').expect("three parts").0;
    for bad in [
        "",
        ".",
        "..",
        "a.b.c",
        unsigned,
        &format!("{unsigned}."),
        &format!("{good}."),
        &format!("{good}="),
        &format!(" {good}"),
        &format!("{good}\n"),
        r#"{"payload":"","signatures":[]}"#,
        &good.replace('.', ".."),
    ] {
        assert!(check(bad).is_err(), "{bad}");
    }
    let large = check(&"a".repeat(TOKEN_BYTES_MAX + 1));
    assert!(matches!(large, Err(JwtError::TooLarge { .. })), "{large:?}");
    // Every single changed character is noticed, except that the last one of a part also carries unused bits.
    for at in 0..good.len() {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).expect("ASCII");
        assert!(check(&changed).is_err(), "character {at}");
    }
}

#[test]
fn es512_and_the_key_s_own_algorithm_are_honoured() {
    let p521 = [("crv", "P-521"), ("kid", "k")];
    let signer = Signer::new(&ECDSA_P521_SHA512_FIXED_SIGNING, &p521);
    signer.validate(r#"{"alg":"ES512"}"#, &claims()).expect("valid");
    let signer = Signer::new(&ECDSA_P256_SHA256_FIXED_SIGNING, &[("crv", "P-256"), ("kid", "k"), ("alg", "ES384")]);
    let error = signer.validate(r#"{"alg":"ES256"}"#, &claims()).expect_err("another algorithm");
    assert!(matches!(error, JwtError::NoKey { .. }), "{error}");
}

#[test]
fn a_key_is_published_before_it_signs_and_after_it_signed_the_last_time() {
    let mut authority = authority("a.test");
    let first = authority.public_keys().next().expect("a key").kid().to_owned();
    let signed_by = |authority: &JwtAuthority, at_s: u64| {
        let token = authority.issue(&id(API), &["us".into()], at_s, LIFETIME_S_MAX).expect("a token");
        let header = URL_SAFE_NO_PAD.decode(token.split('.').next().expect("a header")).expect("base64");
        let header: Value = serde_json::from_slice(&header).expect("JSON");
        assert!(validate_jwt(&token, &["us"], &trust(authority), at_s, 0).is_ok());
        (header["kid"].as_str().expect("a kid").to_owned(), token)
    };
    assert_eq!(signed_by(&authority, NOW).0, first);
    assert!(!authority.needs_key(NOW + SIGNS_FOR_S - 1));

    let turn = NOW + SIGNS_FOR_S;
    assert!(authority.needs_key(turn));
    authority.publish(JwtKey::generate().expect("a key"), turn);
    assert!(!authority.needs_key(turn), "once is enough");
    // A validator that looked any time in the day before the change knows both keys.
    let known = trust(&authority);
    assert_eq!(signed_by(&authority, turn + PUBLISH_AHEAD_S - 1).0, first);
    let (second, token) = signed_by(&authority, turn + PUBLISH_AHEAD_S);
    assert_ne!(second, first);
    assert!(validate_jwt(&token, &["us"], &known, turn + PUBLISH_AHEAD_S, 0).is_ok());

    let last = turn + PUBLISH_AHEAD_S + LIFETIME_S_MAX;
    assert!(!authority.retire(last), "a token of the first key may still be valid");
    assert!(authority.retire(last + 3_600));
    assert_eq!(authority.public_keys().map(JwtPublicKey::kid).collect::<Vec<_>>(), [second]);
    assert!(!authority.retire(u64::MAX), "the last key stays");
}

#[test]
fn a_clock_that_was_years_ahead_does_not_stop_the_rotation() {
    const YEARS: u64 = 10 * 365 * 86_400;
    let mut authority = authority("a.test");
    authority.publish(JwtKey::generate().expect("a key"), NOW + YEARS);
    assert!(authority.needs_key(NOW), "once the clock is right again");
    authority.publish(JwtKey::generate().expect("a key"), NOW);
    assert!(!authority.needs_key(NOW) && authority.needs_key(NOW + SIGNS_FOR_S));
    assert_eq!(authority.public_keys().count(), 2);
    let token = authority.issue(&id(API), &["us".into()], NOW, 60).expect("a token");
    assert!(validate_jwt(&token, &["us"], &trust(&authority), NOW, 0).is_ok());
}

#[test]
fn the_keys_survive_their_file_and_are_never_printed() {
    let mut first = authority("a.test");
    first.publish(JwtKey::generate().expect("a key"), NOW + 5);
    let text = first.to_text();
    let second = JwtAuthority::from_text(domain("a.test"), &text).expect("reads");
    assert!(first.public_keys().eq(second.public_keys()));
    assert_eq!(*second.to_text(), *text);
    for bad in ["", "Published: x\n", "Published: 1\nnothing", &text.replace("MIG", "AAA")] {
        assert!(JwtAuthority::from_text(domain("a.test"), bad).is_err(), "{bad}");
    }
    let printed = format!("{first:?}");
    assert!(printed.contains("secret") && !printed.contains("PRIVATE"), "{printed}");
}
