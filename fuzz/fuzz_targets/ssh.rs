//! Keys and signatures of people in OpenSSH's forms (files, agents, tokens), and a sealed key file.
//!
//! Input: a door, then 0 a key blob, 1 a signature blob, 2 a key line, 3 an armoured signature, 4 an agent's keys, 5 an agent's
//! signature, 6 a signer key in CBOR, 7 a signer's signature in CBOR, 8 a signer key as text, 9 a sealed file.
#![no_main]

use cauldron_fuzz::cbor::one_encoding;
use cauldron_fuzz::chunks::door;
use cauldron_fuzz::hostile::DECODER;
use cauldron_fuzz::{hostile, ready};
use cauldron_identity::{SignerKey, SshSignature, seal, ssh};
use libfuzzer_sys::fuzz_target;

const NAMESPACE: &str = "cauldron/vote/v1";

fuzz_target!(init: ready(), |input: &[u8]| hostile(input, DECODER, |input| {
    let (door, rest) = door(input);
    let text = || String::from_utf8_lossy(rest).into_owned();
    match door % 10 {
        0 => drop(ssh::key_from_blob(rest).map(|key| {
            assert_eq!(ssh::key_blob(&key), rest);
            told(&key);
        })),
        1 => drop(ssh::signature_from_blob(rest).map(|signature| assert_eq!(ssh::signature_blob(&signature), rest))),
        2 => drop(ssh::key_from_line(&text()).map(|key| told(&key))),
        3 => drop(ssh::from_armour(&text(), NAMESPACE).map(|(key, signature)| {
            let again = ssh::to_armour(&key, NAMESPACE, &signature);
            assert_eq!(ssh::from_armour(&again, NAMESPACE).as_ref(), Ok(&(key.clone(), signature)));
            verified(&key, &signature);
        })),
        4 => drop(ssh::agent_keys(rest).map(|keys| keys.iter().for_each(|(key, _)| told(key)))),
        5 => drop(ssh::agent_signature(rest)),
        6 => drop(one_encoding::<SignerKey>(rest).map(|key| told(&key))),
        7 => drop(one_encoding::<SshSignature>(rest).map(|it| assert_eq!(SshSignature::from_bytes(&it.to_bytes()), Some(it)))),
        8 => drop(text().parse::<SignerKey>().map(|key| told(&key))),
        _ => drop(seal::read(&text()).map(|sealed| sealed.purpose.len())),
    }
}));

/// A key that was read is written in every form, and read again.
fn told(key: &SignerKey) {
    let _ = key.check();
    assert_eq!(ssh::key_from_blob(&ssh::key_blob(key)).as_ref(), Ok(key));
    assert_eq!(ssh::key_from_line(&ssh::public_line(key)).as_ref(), Ok(key));
    assert_eq!(key.to_string().parse::<SignerKey>().as_ref(), Ok(key));
}

fn verified(key: &SignerKey, signature: &SshSignature) {
    assert!(key.check().is_err() || key.verify(NAMESPACE, b"never signed", signature).is_err(), "a forged signature");
}
