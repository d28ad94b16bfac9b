//! Each rule broken by one case that breaks nothing else.

use proptest::prelude::*;

use super::authenticator::{Authenticator, Draft, cose, object};
use super::*;
use crate::codec::CodecError;
use crate::ids::{AuthorId, Digest, MeshId};

const RP_ID: &str = "acme.example";
const ORIGIN: &str = "https://hq.acme.example";
/// Where the flags stand in authenticator data.
const FLAGS: usize = 32;
const CREDENTIAL: usize = 37;

type Change = Box<dyn Fn(&mut Draft)>;

fn challenge() -> Digest {
    Digest::of("test", b"what is asked")
}

fn with_party<T>(look: impl FnOnce(&RelyingParty<'_>) -> T) -> T {
    let origins = [ORIGIN.to_owned(), "https://lyon.acme.example:8443".to_owned()];
    let rp = RelyingParty { rp_id: RP_ID, origins: &origins };
    assert_eq!(rp.check(), Ok(()));
    look(&rp)
}

fn es256() -> Authenticator {
    Authenticator::es256(&[7; 32], RP_ID, ORIGIN)
}

fn eddsa() -> Authenticator {
    Authenticator::eddsa(&[7; 32], RP_ID, ORIGIN)
}

fn judged(authenticator: &Authenticator, change: impl FnOnce(&mut Draft)) -> Result<Attested, PasskeyError> {
    let assertion = authenticator.assert_with(&challenge(), change);
    let read = Assertion::from_bytes(&assertion.to_bytes()).expect("its own encoding");
    assert_eq!(read, assertion);
    with_party(|rp| read.verify(authenticator.passkey(), &challenge(), rp))
}

fn admitted(authenticator: &Authenticator, change: impl FnOnce(&mut Draft)) -> Result<Registered, PasskeyError> {
    let registration = authenticator.register_with(&challenge(), change);
    with_party(|rp| registration.verify(&challenge(), rp))
}

/// A change of the browser's words.
fn client(from: &'static str, to: &'static str) -> impl Fn(&mut Draft) {
    move |draft| {
        assert!(draft.client_data_json.contains(from), "{}", draft.client_data_json);
        draft.client_data_json = draft.client_data_json.replacen(from, to, 1);
    }
}

#[test]
fn what_a_passkey_signs_is_told_and_its_counter_decides_nothing() {
    for authenticator in [es256(), eddsa()] {
        let attested = judged(&authenticator, |_| {}).expect("good");
        assert_eq!((attested.origin(), attested.counter()), (ORIGIN, 9));
        assert!(attested.backup_eligible() && attested.backed_up());
        let again = judged(&authenticator, |d| d.authenticator_data[33..37].fill(0)).expect("good");
        assert_eq!(again.counter(), 0);
        let alone = judged(&authenticator, |d| d.authenticator_data[FLAGS] = 0x05).expect("good");
        assert!(!alone.backup_eligible() && !alone.backed_up());
        judged(&authenticator, client("}", r#","other_keys_can_be_added_here":{"a":[1]}}"#)).expect("members may come");
        judged(&authenticator, client(r#","crossOrigin":false"#, "")).expect("older browsers leave it out");
    }
    judged(&Authenticator::es256(&[7; 32], RP_ID, "https://lyon.acme.example:8443"), |_| {}).expect("another page");
}

#[test]
fn every_rule_of_client_data_holds_in_both_ceremonies() {
    use PasskeyError as E;
    let data = |why: &str| E::ClientData(why.into());
    let brackets = "it does not begin with { and end with }";
    let cases: Vec<(Change, PasskeyError)> = vec![
        (Box::new(client(r#"crossOrigin":false"#, r#"crossOrigin":true"#)), E::CrossOrigin),
        (Box::new(client("}", r#","topOrigin":"https://evil.example"}"#)), E::TopOrigin),
        (Box::new(client("}", r#","topOrigin":null}"#)), E::TopOrigin),
        (Box::new(client("{", " {")), data(brackets)),
        (Box::new(client("}", "}\n")), data(brackets)),
        (Box::new(client("{", "\u{feff}{")), data(brackets)),
        (Box::new(|d| d.client_data_json = r#"["webauthn.get","x","https://hq.acme.example"]"#.into()), data(brackets)),
        (Box::new(client("}", "}{}")), data("trailing characters at line 1 column 136")),
        (
            Box::new(client("}", r#","origin":"https://hq.acme.example"}"#)),
            data("duplicate field `origin` at line 1 column 144"),
        ),
        (Box::new(client(r#""origin":"#, r#""from":"#)), data("missing field `origin` at line 1 column 133")),
        (Box::new(client("crossOrigin\":false", "crossOrigin\":null")), data("")),
        (
            Box::new(client("https://hq.acme.example", "https://acme.example")),
            E::Origin {
                found: "https://acme.example".into(),
                allowed: "https://hq.acme.example, https://lyon.acme.example:8443".into(),
            },
        ),
        (
            Box::new(client("hq.acme.example", "hq.acme.example/")),
            E::Origin {
                found: "https://hq.acme.example/".into(),
                allowed: "https://hq.acme.example, https://lyon.acme.example:8443".into(),
            },
        ),
    ];
    // serde tells where it stopped, which the longer type of a registration moves.
    let alike = |found: Option<E>, wanted: &E| match (&found, wanted) {
        (Some(E::ClientData(found)), E::ClientData(wanted)) => {
            found.split(" at line").next() == wanted.split(" at line").next() || wanted.is_empty()
        }
        (found, wanted) => found.as_ref() == Some(wanted),
    };
    for (n, (change, wanted)) in cases.iter().enumerate() {
        let found = judged(&es256(), change).err();
        assert!(alike(found.clone(), wanted), "assertion, case {n}: {found:?}");
        let found = admitted(&es256(), change).err();
        assert!(alike(found.clone(), wanted), "registration, case {n}: {found:?}");
    }
    assert_eq!(
        judged(&es256(), client("webauthn.get", "webauthn.create")).err(),
        Some(E::Type { found: "webauthn.create".into(), wanted: "webauthn.get" })
    );
    assert_eq!(
        admitted(&es256(), client("webauthn.create", "payment.get")).err(),
        Some(E::Type { found: "payment.get".into(), wanted: "webauthn.create" })
    );
    let long = format!("{{{}}}", " ".repeat(4095)).into_bytes();
    let length = Some(E::Length { what: "clientDataJSON", found: 4097, min: 2, max: 4096 });
    assert_eq!(es256().signed(vec![0; 37], long.clone()).err(), length);
    assert_eq!(Registration::new(vec![0xa0], long).err(), length);
}

#[test]
fn a_challenge_is_answered_exactly() {
    let wanted = "challenge\":\"";
    for to in ["challenge\":\"A", "challenge\":\"=", "challenge\":\" "] {
        assert!(matches!(judged(&es256(), client(wanted, to)), Err(PasskeyError::Challenge { .. })), "{to}");
    }
    let padded = |d: &mut Draft| d.client_data_json = d.client_data_json.replacen("\",\"origin", "=\",\"origin", 1);
    assert!(matches!(judged(&es256(), padded), Err(PasskeyError::Challenge { .. })));
    let assertion = es256().assert(&challenge());
    let other = Digest::of("test", b"something else");
    let found = with_party(|rp| assertion.verify(es256().passkey(), &other, rp));
    assert!(matches!(found, Err(PasskeyError::Challenge { .. })));
}

#[test]
fn every_rule_of_authenticator_data_holds() {
    use PasskeyError as E;
    let flags = |flags: u8| move |d: &mut Draft| d.authenticator_data[FLAGS] = flags;
    let cbor = |what, source| E::Cbor { what, source };
    for authenticator in [es256(), eddsa()] {
        let refused = |change: &dyn Fn(&mut Draft)| judged(&authenticator, change).err();
        assert_eq!(refused(&flags(0x04)), Some(E::NotPresent));
        assert_eq!(refused(&flags(0x01)), Some(E::NotVerified));
        assert_eq!(refused(&flags(0x15)), Some(E::Backup));
        assert_eq!(refused(&flags(0x45)), Some(E::AttestedData { found: "set" }));
        assert_eq!(refused(&|d| d.authenticator_data[0] ^= 1), Some(E::RpId { wanted: RP_ID.into() }));
        assert_eq!(
            refused(&|d| d.authenticator_data.push(0xa0)),
            Some(E::Trailing { what: "authenticator data", bytes: 1 })
        );
        let extended = |extensions: &'static [u8]| {
            move |d: &mut Draft| {
                d.authenticator_data[FLAGS] |= 0x80;
                d.authenticator_data.extend_from_slice(extensions);
            }
        };
        assert_eq!(refused(&extended(b"\xa1\x6bcredProtect\x03")), None);
        assert_eq!(refused(&extended(b"")), Some(E::Length { what: "extensions", found: 0, min: 1, max: 1024 }));
        assert_eq!(refused(&extended(b"\xa0\xa0")), Some(cbor("extensions", CodecError::Trailing(1))));
        assert_eq!(refused(&extended(b"\xbf\xff")), Some(cbor("extensions", CodecError::Unsupported(0))));
        assert!(matches!(refused(&extended(b"\x80")), Some(E::Cbor { what: "extensions", .. })));
        let long = Assertion::new(vec![0; 37 + 1025], vec![b' '; 2], vec![1]).err();
        assert_eq!(long, Some(E::Length { what: "authenticator data", found: 1062, min: 37, max: 1061 }));
    }
}

#[test]
fn a_signature_is_the_passkeys_over_both_parts() {
    let (ours, other) = (es256(), Authenticator::es256(&[8; 32], RP_ID, ORIGIN));
    let verify =
        |assertion: &Assertion, passkey: &Passkey| with_party(|rp| assertion.verify(passkey, &challenge(), rp));
    let good = ours.assert(&challenge());
    assert!(verify(&good, ours.passkey()).is_ok());
    assert_eq!(verify(&good, other.passkey()), Err(PasskeyError::Signature));
    assert!(matches!(verify(&good, eddsa().passkey()), Err(PasskeyError::Length { what: "signature", .. })));
    let parts = |n: usize| Assertion::new(vec![0; n], vec![b' '; 2], vec![0; 64]);
    assert!(parts(37).is_ok() && parts(36).is_err());
    assert!(Assertion::new(vec![0; 37], vec![b' '], vec![0; 64]).is_err());
    assert!(Assertion::new(vec![0; 37], vec![b' '; 2], vec![]).is_err());
    assert!(Assertion::new(vec![0; 37], vec![b' '; 2], vec![0; 513]).is_err());
    let longest = Assertion::new(vec![0; 37 + 1024], vec![b' '; 4096], vec![0; 512]).expect("bounds");
    assert!(longest.to_bytes().len() <= ASSERTION_BYTES_MAX);
}

#[test]
fn every_rule_of_a_registration_holds() {
    use PasskeyError as E;
    for authenticator in [es256(), eddsa()] {
        let registered = admitted(&authenticator, |_| {}).expect("good");
        assert_eq!(&registered.passkey, authenticator.passkey());
        assert_eq!((registered.format.as_str(), registered.counter, registered.aaguid), ("none", 9, [7; 16]));
    }
    let refused = |change: &dyn Fn(&mut Draft)| admitted(&es256(), change).err();
    assert_eq!(refused(&|d| d.authenticator_data[FLAGS] = 0x44), Some(E::NotPresent));
    assert_eq!(refused(&|d| d.authenticator_data[FLAGS] = 0x41), Some(E::NotVerified));
    assert_eq!(refused(&|d| d.authenticator_data[FLAGS] = 0x55), Some(E::Backup));
    assert_eq!(refused(&|d| d.authenticator_data[FLAGS] = 0x05), Some(E::AttestedData { found: "not set" }));
    assert_eq!(refused(&|d| d.authenticator_data[0] ^= 1), Some(E::RpId { wanted: RP_ID.into() }));
    assert_eq!(refused(&|d| d.authenticator_data.push(0)), Some(E::Trailing { what: "authenticator data", bytes: 1 }));
    let id_length = |length: u16| {
        move |d: &mut Draft| {
            d.authenticator_data[CREDENTIAL + 16..CREDENTIAL + 18].copy_from_slice(&length.to_be_bytes())
        }
    };
    let length = |found| Some(E::Length { what: "credential id", found, min: 16, max: 1023 });
    assert_eq!(refused(&id_length(15)), length(15));
    assert_eq!(refused(&id_length(1024)), length(1024));
    assert_eq!(refused(&id_length(1023)), Some(E::CutOff("the credential id")));
    let cut = |at: usize| move |d: &mut Draft| d.authenticator_data.truncate(at);
    assert_eq!(refused(&cut(CREDENTIAL + 15)), Some(E::CutOff("the AAGUID")));
    assert_eq!(refused(&cut(CREDENTIAL + 17)), Some(E::CutOff("the credential id's length")));
    for end in CREDENTIAL + 18 + 32..CREDENTIAL + 18 + 32 + cose(es256().passkey().key()).len() {
        assert!(matches!(refused(&cut(end)), Some(E::Cbor { what: "credential public key", .. })), "cut at {end}");
    }
    let key = |bytes: Vec<u8>| {
        move |d: &mut Draft| d.authenticator_data.splice(CREDENTIAL + 50.., bytes.clone()).for_each(drop)
    };
    let mut off_curve = cose(es256().passkey().key());
    *off_curve.last_mut().expect("bytes") ^= 1;
    assert_eq!(refused(&key(off_curve)), Some(E::Key("its point does not lie on P-256")));
    let weak = CoseKey::new(Algorithm::EdDsa, vec![0; 32]).expect("32 bytes");
    assert!(matches!(refused(&key(cose(&weak))), Some(E::Key(_))));
}

#[test]
fn an_attestation_object_is_canonical_and_its_statement_is_passed_over() {
    let mut data = Vec::new();
    let registration = es256().register_with(&challenge(), |d| data = d.authenticator_data.clone());
    let mut client = String::new();
    let _ = es256().register_with(&challenge(), |d| client = d.client_data_json.clone());
    let judge = |object: Vec<u8>| {
        let registration = Registration::new(object, client.clone().into_bytes()).expect("bounds");
        with_party(|rp| registration.verify(&challenge(), rp)).map(|r| r.format)
    };
    with_party(|rp| registration.verify(&challenge(), rp)).expect("good");
    assert_eq!(judge(object("packed", b"\xa1\x63alg\x26", &data)).as_deref(), Ok("packed"));
    assert_eq!(judge(object("none", b"\xa1\x63alg\x26", &data)), Err(PasskeyError::Attestation));
    for (form, statement) in [("none", &b"\x80"[..]), ("", b"\xa0"), ("packed", b"\xbf\xff")] {
        assert!(judge(object(form, statement, &data)).is_err(), "{form:?} {statement:?}");
    }
    assert!(judge([object("none", b"\xa0", &data), vec![0]].concat()).is_err());
    let swapped =
        [&b"\xa3\x67attStmt\xa0\x63fmt\x64none\x68authData"[..], b"\x58", &[data.len() as u8], &data].concat();
    assert!(matches!(judge(swapped), Err(PasskeyError::Cbor { source: CodecError::KeyOrder(_), .. })));
}

#[test]
fn keys_are_of_three_kinds_in_one_form_and_none_that_others_sign_for() {
    use PasskeyError as E;
    let modulus = |low: u8| [&[0xff; 255][..], &[low]].concat();
    let rsa = |n: Vec<u8>| CoseKey::new(Algorithm::Rs256, n);
    for key in [es256().passkey().key().clone(), eddsa().passkey().key().clone(), rsa(modulus(0x61)).expect("bounds")] {
        assert_eq!(CoseKey::from_cose(&cose(&key)).as_ref(), Ok(&key));
        assert_eq!(key.to_string().parse().as_ref(), Ok(&key));
        assert!(CoseKey::from_cose(&[&cose(&key)[..], &[0]].concat()).is_err());
    }
    let edited = |key: &CoseKey, at: usize, to: u8| {
        let mut bytes = cose(key);
        bytes[at] = to;
        CoseKey::from_cose(&bytes)
    };
    let (es, ed) = (es256(), eddsa());
    let (es, ed) = (es.passkey().key(), ed.passkey().key());
    assert_eq!(edited(es, 4, 0x28), Err(E::Algorithm(-9)));
    assert!(matches!(edited(es, 2, 0x01), Err(E::Key(_))), "key type of another algorithm");
    assert!(matches!(edited(es, 6, 0x02), Err(E::Key(_))), "P-384");
    assert!(matches!(edited(ed, 6, 0x07), Err(E::Key(_))), "Ed448");
    assert!(CoseKey::new(Algorithm::Es256, vec![2; 65]).is_err());
    assert!(rsa(vec![0xff; 255]).is_err() && rsa(vec![0xff; 513]).is_err() && rsa(vec![0; 256]).is_err());
    let mut exponent = cose(&rsa(modulus(0x61)).expect("bounds"));
    *exponent.last_mut().expect("bytes") = 3;
    assert_eq!(CoseKey::from_cose(&exponent), Err(E::Key("its exponent is not 65537")));
    assert_eq!(rsa(modulus(0x62)).expect("bounds").check(), Err(E::Key("its modulus has a small divisor")));
}

/// A modulus as the faulty library made them is 1, a power of 65537, modulo every small prime.
#[test]
fn moduli_of_the_faulty_library_are_told() {
    const PRIMES: [u32; 39] = [
        2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107,
        109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
    ];
    let times = |n: Vec<u8>, by: u32| {
        let mut carry = 0;
        let mut out: Vec<u8> = n
            .into_iter()
            .rev()
            .map(|byte| {
                carry += u32::from(byte) * by;
                let low = carry as u8;
                carry >>= 8;
                low
            })
            .collect();
        out.extend(carry.to_le_bytes());
        while out.last() == Some(&0) {
            out.pop();
        }
        out.into_iter().rev().collect()
    };
    let mut n = PRIMES.into_iter().fold([&[0x9d; 240][..], &[0]].concat(), times);
    *n.last_mut().expect("bytes") += 1;
    let key = CoseKey::new(Algorithm::Rs256, n).expect("bounds");
    assert!(matches!(key.check(), Err(PasskeyError::Key(why)) if why.contains("CVE-2017-15361")));
}

#[test]
fn a_passkey_travels_in_one_line() {
    for authenticator in [es256(), eddsa()] {
        let line = authenticator.passkey().to_line(RP_ID);
        assert!(line.starts_with(LINE_PREFIX) && !line.contains(char::is_whitespace));
        let read = Passkey::parse_line(&format!("\n{line}\n")).expect("its own line");
        assert_eq!((read.rp_id.as_str(), &read.passkey), (RP_ID, authenticator.passkey()));
        for text in ["", "ssh-ed25519 AAAA", &line[..line.len() - 4], &format!("{line}="), &format!("{line} ana")] {
            assert!(Passkey::parse_line(text).is_err(), "{text}");
        }
    }
    let weak = Passkey::new(vec![1; 16], CoseKey::new(Algorithm::EdDsa, vec![0; 32]).expect("bytes")).expect("bytes");
    assert!(matches!(Passkey::parse_line(&weak.to_line(RP_ID)), Err(PasskeyError::Key(_))));
}

#[test]
fn signing_in_registering_and_voting_never_answer_each_other() {
    let (mesh, node) = (MeshId::from_bytes([1; 32]), AuthorId::from_bytes([2; 32]));
    let vote = Digest::of("cauldron/vote/v1", b"a statement");
    let (sign_in, registration) = (sign_in_challenge(&mesh, &node, &vote), registration_challenge(&mesh, &node, &vote));
    assert!(sign_in != vote && registration != vote && sign_in != registration);
    let elsewhere = sign_in_challenge(&mesh, &AuthorId::from_bytes([3; 32]), &vote);
    assert_ne!(sign_in, elsewhere);
    let assertion = es256().assert(&sign_in);
    let answers = |challenge: &Digest| with_party(|rp| assertion.verify(es256().passkey(), challenge, rp)).is_ok();
    assert!(answers(&sign_in) && !answers(&vote) && !answers(&registration) && !answers(&elsewhere));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_mutation_of_a_good_assertion_verifies(at in any::<prop::sample::Index>(), bit in 0u8..8, cut: bool, curve: bool) {
        let authenticator = if curve { es256() } else { eddsa() };
        let mut bytes = authenticator.assert(&challenge()).to_bytes();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
        let read = Assertion::from_bytes(&bytes);
        let verified = read.and_then(|a| with_party(|rp| a.verify(authenticator.passkey(), &challenge(), rp)));
        prop_assert!(verified.is_err(), "byte {at} bit {bit}");
    }

    #[test]
    fn nothing_from_outside_ends_the_process(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Assertion::from_bytes(&bytes);
        let _ = CoseKey::from_cose(&bytes);
        let judge = |r: Registration| with_party(|rp| r.verify(&challenge(), rp));
        prop_assert!(Registration::new(bytes.clone(), bytes).and_then(judge).is_err());
    }
}
