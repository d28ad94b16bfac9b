//! Tokens that the `spiffe` crate tests itself with, made by other software than ours.

use std::path::PathBuf;

use serde_json::Value;
use spiffe::TrustDomain;

use super::*;
use crate::trust_bundle::{TrustBundle, TrustBundles};

const NOW: u64 = 1_790_000_000;

fn fixtures() -> Option<Vec<Value>> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/data/spiffe/tests/testdata/jwt/authority-policy.json");
    let Ok(bytes) = std::fs::read(&file) else {
        println!("skipped authority-policy.json: no file {}", file.display());
        return None;
    };
    Some(serde_json::from_slice(&bytes).expect("JSON"))
}

/// What must become of each row, by its name; anything unnamed must be valid.
fn expected(name: &str) -> Option<&'static str> {
    let by_key = |bits: &[&str]| bits.iter().any(|b| name.starts_with(&format!("rsa_{b}_")));
    match name {
        "control_missing_sub" => Some("missing field `sub`"),
        "control_missing_aud" => Some("missing field `aud`"),
        "control_missing_exp" => Some("missing field `exp`"),
        "control_expired" => Some("expired at"),
        "control_domain" => Some("for which we hold no bundle"),
        "control_audience" => Some("not for us"),
        "control_empty_audience" => Some("names nobody"),
        "control_wrong_signature" => Some("not signed by a key"),
        "control_wrong_kid" => Some("no ES256 key `missing`"),
        // Below 2048 bits, or with the exponent 3: such keys are passed over.
        _ if by_key(&["1024", "1536", "2040", "2047", "e3"]) => Some("has no"),
        _ => None,
    }
}

#[test]
fn every_token_made_elsewhere_is_decided_as_its_name_says() {
    let Some(rows) = fixtures() else { return };
    let domain = TrustDomain::new("example.org").expect("a trust domain");
    for row in &rows {
        let text = |name: &str| row[name].as_str().unwrap_or_else(|| panic!("no {name}"));
        let mut bundle = TrustBundle::new(domain.clone());
        if let Ok(key) = JwtPublicKey::from_jwk(row["jwk"].as_object().expect("a JWK")) {
            bundle.set_jwt_keys([&key]);
        }
        let bundles: TrustBundles = [bundle].into_iter().collect();
        let result = validate_jwt(text("token"), &["receiver"], &bundles, NOW, LEEWAY_S);
        match (expected(text("name")), result) {
            (None, Ok(valid)) => assert_eq!(valid.spiffe_id.to_string(), "spiffe://example.org/workload"),
            (Some(why), Err(e)) => assert!(e.to_string().contains(why), "{}: {e}", text("name")),
            (_, result) => panic!("{}: {result:?}", text("name")),
        }
    }
    println!("{} tokens", rows.len());
}
