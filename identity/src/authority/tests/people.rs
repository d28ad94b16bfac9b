//! Credentials of people: which are enrolled, and their bytes.

use super::*;
use crate::codec::{from_cbor, to_cbor};
use crate::passkey::authenticator::Authenticator;
use crate::passkey::{Algorithm, CoseKey, Passkey};
use crate::signer::SignerKey;

fn passkey(seed: u8) -> Passkey {
    Authenticator::es256(&[seed; 32], "localhost", "http://localhost:7480").passkey().clone()
}

fn sk(seed: u8) -> Credential {
    Credential::of(SignerKey::Sk { point: key(seed).public(), application: "ssh:".into() })
}

impl Mesh {
    fn enrolled(&mut self, id: &str, credentials: Vec<Credential>) -> Option<String> {
        let person = Person { id: id.into(), name: id.into(), groups: vec![], credentials };
        self.write(&Entry::Person(person), &[&key(1)])
    }
}

#[test]
fn golden_bytes_of_credentials() {
    let id = "11".repeat(16);
    let software = Credential::of(PublicKey::from_bytes([0x22; 32]).into());
    let token = Credential::of(SignerKey::Sk { point: PublicKey::from_bytes([0x22; 32]), application: "ssh:".into() });
    let eddsa = CoseKey::new(Algorithm::EdDsa, vec![0x22; 32]).expect("bounds");
    let passkey = Credential::Passkey(Passkey::new(vec![0x11; 16], eddsa).expect("bounds"));
    let point = "22".repeat(32);
    for (credential, golden) in [
        (software, format!("a20000015820{point}")),
        (token, format!("a30001015820{point}02647373683a")),
        (passkey, format!("a40002015820{point}03270450{id}")),
    ] {
        assert_eq!(hex::encode(to_cbor(&credential)), golden);
        assert_eq!(from_cbor(&to_cbor(&credential)), Ok(credential));
    }
}

#[test]
fn a_credential_has_the_fields_of_its_kind_alone() {
    let point = "22".repeat(32);
    let id = "11".repeat(16);
    for (bad, why) in [
        (format!("a20001015820{point}"), "a token without application"),
        (format!("a30000015820{point}02647373683a"), "software with one"),
        (format!("a20002015820{point}"), "a passkey without algorithm and id"),
        (format!("a30002015820{point}0327"), "a passkey without id"),
        (format!("a50002015820{point}02647373683a03270450{id}"), "a passkey with an application"),
        (format!("a40002015820{point}03260450{id}"), "an ES256 key of 32 bytes"),
        (format!("a40002015820{point}03280450{id}"), "an algorithm that nobody verifies"),
        (format!("a40002015820{point}0327044f{}", "11".repeat(15)), "an id that is too short"),
        (format!("a2000001581f{}", "22".repeat(31)), "a key of 31 bytes"),
    ] {
        let bytes = hex::decode(&bad).expect("hex");
        assert!(from_cbor::<Credential>(&bytes).is_err(), "{why}");
    }
}

#[test]
fn kinds_and_assurance_are_told() {
    let all = [Credential::of(key(50).public().into()), sk(51), Credential::Passkey(passkey(52))];
    let kinds = all.each_ref().map(|c| c.kind().name());
    assert_eq!(kinds, ["software", "sk-ssh", "passkey"]);
    let assurance = all.each_ref().map(|c| c.kind().assurance());
    assert_eq!(assurance, [Assurance::Software, Assurance::Verified, Assurance::Verified]);
    assert!(Assurance::Software < Assurance::Verified);
    assert_eq!("verified".parse(), Ok(Assurance::Verified));
    assert!("passkey".parse::<Assurance>().is_err());
}

#[test]
fn weak_keys_and_keys_of_others_are_not_enrolled() {
    let mut mesh = Mesh::found();
    let mut refused = |id: &str, credentials: Vec<Credential>, why: &str| {
        let found = mesh.enrolled(id, credentials).expect("refused");
        assert!(found.contains(why), "{found}");
    };
    let passkey_of = |algorithm, bytes: Vec<u8>| {
        Credential::Passkey(Passkey::new(vec![1; 32], CoseKey::new(algorithm, bytes).expect("bounds")).expect("bounds"))
    };
    refused("ana", vec![Credential::of(PublicKey::from_bytes([0; 32]).into())], "weak (small-order)");
    refused("ana", vec![passkey_of(Algorithm::EdDsa, vec![0; 32])], "weak (small-order)");
    refused("ana", vec![passkey_of(Algorithm::Es256, [&[4][..], &[1; 64]].concat())], "does not lie on P-256");
    refused("ana", vec![passkey_of(Algorithm::Rs256, vec![0xfe; 256])], "small divisor");
    let foreign = SignerKey::Sk { point: key(50).public(), application: "web:".into() };
    refused("ana", vec![Credential::of(foreign)], "application");
    refused("ana", vec![Credential::of(key(50).public().into()), sk(50)], "credential 2 of \"ana\"");
    let of_one_point = passkey_of(Algorithm::EdDsa, key(50).public().as_bytes().to_vec());
    refused("ana", vec![Credential::of(key(50).public().into()), of_one_point.clone()], "stands there twice");
    let many = (100..=116).map(|n| Credential::of(key(n).public().into())).collect();
    refused("ana", many, "at most 16");

    assert_eq!(mesh.enrolled("ana", vec![sk(50), Credential::Passkey(passkey(52))]), None);
    assert_eq!(mesh.enrolled("ana", vec![sk(50), Credential::Passkey(passkey(52))]), None, "she may be enrolled anew");
    let mut refused = |credential: Credential| {
        let found = mesh.enrolled("bo", vec![credential]).expect("refused");
        assert!(found.contains("is \"ana\"'s"), "{found}");
    };
    refused(Credential::of(key(50).public().into()));
    refused(of_one_point);
    refused(Credential::Passkey(passkey(52)));
    let one_id = Passkey::new(passkey(52).credential_id().to_vec(), passkey(53).key().clone()).expect("bounds");
    refused(Credential::Passkey(one_id));
    let one_key = Passkey::new(vec![9; 16], passkey(52).key().clone()).expect("bounds");
    refused(Credential::Passkey(one_key));
    assert_eq!(mesh.enrolled("bo", vec![Credential::Passkey(passkey(53))]), None);
    assert_eq!(mesh.write(&Entry::RevokePerson("ana".into()), &[&key(1)]), None);
    assert_eq!(mesh.enrolled("bo", vec![Credential::Passkey(passkey(52))]), None, "nobody's any longer");
}

#[test]
fn a_person_signs_in_with_their_passkey_and_on_the_meshs_pages_alone() {
    use crate::passkey::{PasskeyError, SignInError, sign_in, sign_in_challenge};
    let mut mesh = Mesh::found_with(|charter| charter.vote_origins = vec!["http://localhost:7480".into()]);
    let ana = Authenticator::eddsa(&[52; 32], "localhost", "http://localhost:7480");
    assert_eq!(mesh.enrolled("ana", vec![sk(50), Credential::Passkey(ana.passkey().clone())]), None);
    let (node, nonce) = (mesh.hq.author_id(), Digest::of("nonce", b"1"));
    let challenge = sign_in_challenge(&mesh.authority.mesh(), &node, &nonce);
    let id = ana.passkey().credential_id();
    let try_it = |id: &[u8], nonce: &Digest, assertion| sign_in(&mesh.authority, &node, nonce, id, &assertion);
    let signed_in = try_it(id, &nonce, ana.assert(&challenge)).expect("ana");
    assert_eq!((signed_in.person.as_str(), signed_in.attested.origin()), ("ana", "http://localhost:7480"));
    assert_eq!(signed_in.credential, Credential::Passkey(ana.passkey().clone()).id());
    assert_eq!(try_it(&[1; 32], &nonce, ana.assert(&challenge)), Err(SignInError::Unknown));
    let other = Digest::of("nonce", b"2");
    let refused = try_it(id, &other, ana.assert(&challenge));
    assert!(matches!(refused, Err(SignInError::Refused(PasskeyError::Challenge { .. }))), "{refused:?}");
    let elsewhere = Authenticator::eddsa(&[52; 32], "localhost", "http://localhost:9999");
    let refused = try_it(id, &nonce, elsewhere.assert(&challenge));
    assert!(matches!(refused, Err(SignInError::Refused(PasskeyError::Origin { .. }))), "{refused:?}");
    let stranger = Authenticator::eddsa(&[53; 32], "localhost", "http://localhost:7480");
    assert_eq!(try_it(id, &nonce, stranger.assert(&challenge)), Err(SignInError::Refused(PasskeyError::Signature)));
}
