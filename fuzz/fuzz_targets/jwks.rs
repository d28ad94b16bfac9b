//! Trust bundles as SPIFFE JWK Sets, of this trust domain and of federated ones. What is read is published as it was read.
#![no_main]

use cauldron_fuzz::hostile::Memory;
use cauldron_fuzz::pki::PKI;
use cauldron_fuzz::{hostile, ready};
use cauldron_identity::TrustBundle;
use libfuzzer_sys::fuzz_target;

/// A number of one byte becomes a JSON value of 80 bytes in a list whose room doubles.
const JSON: Memory = Memory { base: 256 * 1024, per_byte: 512 };

fuzz_target!(init: ready(), |input: &[u8]| hostile(input, JSON, |input| {
    let domain = PKI.bundle.trust_domain();
    let Ok(bundle) = TrustBundle::from_jwks(domain.clone(), input) else { return };
    let again = TrustBundle::from_jwks(domain.clone(), bundle.to_jwks().as_bytes()).expect("what it published itself");
    assert!(again.same_keys(&bundle), "other keys than were read");
    assert_eq!((again.sequence, again.refresh_hint_s, again.ignored), (bundle.sequence, bundle.refresh_hint_s, 0));
    let _ = (bundle.refresh_s(), bundle.is_empty(), bundle.succeeds(&PKI.bundle));
}));
