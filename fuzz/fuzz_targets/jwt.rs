//! JWT-SVIDs.
//!
//! Input: a door, then 0 a token, 1 header and claims, which the authority signs: two messages.
#![no_main]

use cauldron_fuzz::chunks::{chunks, door};
use cauldron_fuzz::hostile::DECODER;
use cauldron_fuzz::pki::{NOW_S, PKI};
use cauldron_fuzz::{hostile, ready};
use cauldron_identity::TrustBundles;
use cauldron_identity::jwt::{LEEWAY_S, validate_jwt};
use libfuzzer_sys::fuzz_target;

const AUDIENCE: &str = "db";

fuzz_target!(init: ready(), |input: &[u8]| hostile(input, DECODER, |input| {
    let (door, rest) = door(input);
    let token = if door % 2 == 0 {
        String::from_utf8_lossy(rest).into_owned()
    } else {
        let mut parts = chunks(rest);
        PKI.signed_jwt(parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
    };
    let mut bundles = TrustBundles::new();
    bundles.insert(PKI.bundle.clone());
    if let Ok(verified) = validate_jwt(&token, &[AUDIENCE], &bundles, NOW_S, LEEWAY_S) {
        assert!(verified.expires_s + LEEWAY_S > NOW_S, "it is over");
        assert!(verified.audience.iter().any(|to| to == AUDIENCE), "it is for somebody else");
        assert_eq!(verified.spiffe_id.trust_domain(), PKI.bundle.trust_domain(), "another trust domain's");
    }
}));
