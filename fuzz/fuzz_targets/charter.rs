//! A signed charter, as it comes in a reply or from a file.
//!
//! Input: a door, then 0 a signed charter, 1 a charter's bytes, which the council signs.
#![no_main]

use cauldron_fuzz::cbor::one_encoding;
use cauldron_fuzz::chunks::door;
use cauldron_fuzz::hostile::DECODER;
use cauldron_fuzz::mesh::{BO, COUNCIL, FOUNDED, key};
use cauldron_fuzz::{hostile, ready};
use cauldron_identity::authority::Amend;
use cauldron_identity::charter::{CHARTER_NAMESPACE, Charter, KeySignature};
use cauldron_identity::{Authority, SignedCharter};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: ready(), |input: &[u8]| hostile(input, DECODER, |input| {
    let (door, rest) = door(input);
    if door % 2 == 0 {
        if let Some(signed) = one_encoding::<SignedCharter>(rest) {
            let _ = (signed.open(&FOUNDED.id), signed.signers(&[key(COUNCIL).public().into()]));
            opened(&signed);
        }
        return;
    }
    let _ = one_encoding::<Charter>(rest);
    let mut signed = SignedCharter { bytes: rest.to_vec(), signatures: vec![], founding: None };
    let message = signed.message();
    let sign = |n| KeySignature { key: key(n).public().into(), signature: key(n).sign_ssh(CHARTER_NAMESPACE, &message) };
    signed.signatures = vec![sign(COUNCIL), sign(BO)];
    opened(&signed);
}));

/// Whoever accepts a charter can build on it, and knows what changed since the founding one.
fn opened(signed: &SignedCharter) {
    let _ = signed.read();
    let Ok(charter) = signed.open(&signed.mesh_id()) else { return };
    let founding = FOUNDED.authority.founding();
    if let Ok(amend) = Amend::between(founding, &charter) {
        let after = amend.apply_to(founding).expect("a charter that opens keeps its rules");
        assert_eq!(after.council, charter.council, "an amendment that says something else");
    }
    let authority = Authority::new(signed.mesh_id(), charter).expect("a charter that opens has seats with roles");
    assert_eq!(authority.index(), 0);
}
