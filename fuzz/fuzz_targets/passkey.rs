//! Passkeys: what a browser hands out, and how one is enrolled.
//!
//! Input: a door, then 0 an assertion, 1 authenticator data and clientDataJSON, which the authenticator signs: two messages, 2 an
//! attestation object and clientDataJSON: two messages, 3 a COSE key, 4 a passkey's line, 5 a credential in CBOR.
#![no_main]

use cauldron_fuzz::cbor::one_encoding;
use cauldron_fuzz::chunks::{chunks, door};
use cauldron_fuzz::hostile::DECODER;
use cauldron_fuzz::passkey::{ORIGIN, challenge, eddsa, with_party};
use cauldron_fuzz::{hostile, ready};
use cauldron_identity::Passkey;
use cauldron_identity::authority::Credential;
use cauldron_identity::passkey::authenticator::cose;
use cauldron_identity::passkey::{Assertion, CoseKey, Registration};
use libfuzzer_sys::fuzz_target;

/// What every assertion that counts carries: somebody was there, and the device knew who.
const PRESENT_AND_VERIFIED: u8 = 0x05;

fuzz_target!(init: ready(), |input: &[u8]| hostile(input, DECODER, |input| {
    let (door, rest) = door(input);
    let mut parts = chunks(rest);
    let mut part = || parts.next().unwrap_or_default().to_vec();
    match door % 6 {
        0 => drop(Assertion::from_bytes(rest).map(|assertion| {
            assert_eq!(Assertion::from_bytes(&assertion.to_bytes()).as_ref(), Ok(&assertion));
            let _ = with_party(|rp| assertion.verify(eddsa().passkey(), &challenge(), rp));
        })),
        1 => {
            let (data, client) = (part(), part());
            if let Ok(assertion) = eddsa().signed(data.clone(), client) {
                let verified = with_party(|rp| assertion.verify(eddsa().passkey(), &challenge(), rp));
                if let Ok(attested) = verified {
                    assert_eq!(attested.origin(), ORIGIN, "another page's");
                    assert_eq!(data[32] & PRESENT_AND_VERIFIED, PRESENT_AND_VERIFIED, "nobody was there");
                    let elsewhere = cauldron_identity::Digest::of("fuzz", b"another");
                    assert!(assertion.attest(eddsa().passkey(), &elsewhere).is_err(), "two challenges, one answer");
                }
            }
        }
        2 => drop(Registration::new(part(), part()).map(|registration| {
            let registered = with_party(|rp| registration.verify(&challenge(), rp));
            registered.map(|r| told(&r.passkey))
        })),
        3 => drop(CoseKey::from_cose(rest).map(|key| {
            let _ = (key.check(), key.verify(b"never signed", &[0x30; 64]));
            assert_eq!(cose(&key), rest, "two encodings of one key");
            assert_eq!(key.to_string().parse().as_ref(), Ok(&key));
        })),
        4 => drop(Passkey::parse_line(&String::from_utf8_lossy(rest)).map(|line| told(&line.passkey))),
        _ => drop(one_encoding::<Credential>(rest).map(|credential| {
            let _ = (credential.check(), credential.id(), credential.to_string());
            assert!(credential.clashes(&credential));
        })),
    }
}));

/// A passkey that was read travels on.
fn told(passkey: &Passkey) {
    assert_eq!(passkey.key().check(), Ok(()), "a weak key was taken");
    let line = Passkey::parse_line(&passkey.to_line("acme.example")).expect("its own line");
    assert_eq!(&line.passkey, passkey);
}
