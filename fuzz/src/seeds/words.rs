//! Names, OpenSSH's forms, admission frames, streams and log lines.

use cauldron_identity::authority::Credential;
use cauldron_identity::codec::to_cbor;
use cauldron_identity::passkey::authenticator::{cose, object};
use cauldron_identity::passkey::{Algorithm, CoseKey};
use cauldron_identity::seal::{Chance, Kdf, seal};
use cauldron_identity::{SignerKey, SshSignature, ssh};

use super::{Seed, seed};
use crate::chunks::{join, through};
use crate::mesh::{ANA, FOUNDED, LYON, key, spiffe_id};
use crate::passkey;

const NAMESPACE: &str = "cauldron/vote/v1";

pub(super) fn seeds() -> Vec<Seed> {
    [text(), people(), passkeys(), wires(), vec![seed("sshd", "attack", log())]].concat()
}

fn text() -> Vec<Seed> {
    let agent = format!("{}/agent/web", spiffe_id(LYON));
    let token = minicbor_token();
    let args = r#"{"address":"198.51.100.7","reason":"brute force","ttl_s":3600}"#;
    vec![
        seed("text", "id", through(0, &agent)),
        seed("text", "scope", through(1, "site/lyon#restrict")),
        seed("text", "resource", through(2, "lyon/lyon/blocklist/198.51.100.7")),
        seed("text", "hex", through(3, FOUNDED.id.to_string())),
        seed("text", "token-inside", through(5, token)),
        seed("text", "json", through(6, r#"{"a":[1,-2,null,true],"b":{"c":"\u0007é"}}"#)),
        seed("text", "args", through(7, args)),
    ]
}

/// What a join token carries: the map of docs/wire.md, "Join token".
fn minicbor_token() -> Vec<u8> {
    #[derive(minicbor::Encode)]
    #[cbor(map)]
    struct Token {
        #[n(0)]
        mesh: cauldron_identity::MeshId,
        #[n(1)]
        addresses: Vec<String>,
        #[cbor(n(2), with = "minicbor::bytes")]
        id: [u8; 16],
        #[cbor(n(3), with = "minicbor::bytes")]
        secret: [u8; 32],
        #[n(4)]
        spiffe_id: String,
        #[n(5)]
        expires_ms: u64,
    }
    let addresses = vec!["hq.example:7443".into(), "[2001:db8::1]:7443".into()];
    let spiffe_id = spiffe_id(LYON).to_string();
    to_cbor(&Token {
        mesh: FOUNDED.id,
        addresses,
        id: [2; 16],
        secret: [3; 32],
        spiffe_id,
        expires_ms: 1_800_000_000_000,
    })
}

fn people() -> Vec<Seed> {
    let plain: SignerKey = key(ANA).public().into();
    let token = SignerKey::Sk { point: key(ANA).public(), application: "ssh:cauldron".into() };
    let signature = key(ANA).sign_ssh(NAMESPACE, b"a statement");
    let touched = SshSignature::from_bytes(&[signature.to_bytes(), vec![1, 0, 0, 0, 9]].concat()).expect("69 bytes");
    let field = |bytes: &[u8]| [&u32::try_from(bytes.len()).expect("short").to_be_bytes(), bytes].concat();
    let mut all = Vec::new();
    for (name, key, signature) in [("plain", &plain, &signature), ("token", &token, &touched)] {
        let listed = [vec![12, 0, 0, 0, 1], field(&ssh::key_blob(key)), field(b"ana@example")].concat();
        let forms = [
            ssh::key_blob(key),
            ssh::signature_blob(signature),
            format!("{} ana@example", ssh::public_line(key)).into_bytes(),
            ssh::to_armour(key, NAMESPACE, signature).into_bytes(),
            listed,
            through(14, field(&ssh::signature_blob(signature))),
            to_cbor(key),
            to_cbor(signature),
            key.to_string().into_bytes(),
        ];
        all.extend((0..).zip(forms).map(|(door, form)| seed("ssh", format!("{name}-{door}"), through(door, form))));
    }
    let chance = Chance { salt: [1; 16], nonce: [2; 12] };
    let sealed = seal("node-key", b"a secret", &[3; 32], Kdf::Hkdf, chance).expect("it seals");
    all.push(seed("ssh", "sealed", through(9, sealed)));
    all
}

fn passkeys() -> Vec<Seed> {
    let mut all = Vec::new();
    for (name, authenticator) in [("es256", passkey::es256()), ("eddsa", passkey::eddsa())] {
        let mut parts = (vec![], String::new());
        let answer = authenticator.assert_with(&passkey::challenge(), |draft| {
            parts = (draft.authenticator_data.clone(), draft.client_data_json.clone());
        });
        let mut made = (vec![], String::new());
        let _ = authenticator.register_with(&passkey::challenge(), |draft| {
            made = (draft.authenticator_data.clone(), draft.client_data_json.clone());
        });
        let statement = &[0xa2, 0x63, b'a', b'l', b'g', 0x26, 0x63, b's', b'i', b'g', 0x41, 1];
        if name == "eddsa" {
            // The other's would differ from run to run.
            all.push(seed("passkey", "assertion", through(0, answer.to_bytes())));
        }
        let forms = [
            join([&parts.0[..], parts.1.as_bytes()]),
            join([&object("none", &[0xa0], &made.0)[..], made.1.as_bytes()]),
            cose(authenticator.passkey().key()),
            authenticator.passkey().to_line(passkey::RP_ID).into_bytes(),
            to_cbor(&Credential::Passkey(authenticator.passkey().clone())),
            join([&object("packed", statement, &made.0)[..], made.1.as_bytes()]),
        ];
        let doors = [1, 2, 3, 4, 5, 2];
        let numbered = doors.into_iter().zip(forms).enumerate();
        all.extend(numbered.map(|(n, (door, form))| seed("passkey", format!("{name}-{n}"), through(door, form))));
    }
    let rsa = CoseKey::new(Algorithm::Rs256, vec![0xff; 256]).expect("bounds");
    all.push(seed("passkey", "rs256", through(3, cose(&rsa))));
    all
}

fn wires() -> Vec<Seed> {
    let admission = [&[0], FOUNDED.id.as_bytes().as_slice(), key(LYON).public().as_bytes(), &[1; 64]].concat();
    let frame = |content: &[u8]| [&u32::try_from(content.len()).expect("short").to_be_bytes(), content].concat();
    let headers = [b"\x44\x02/a".as_slice(), b"\x41\x0ftmp%2Ffake.sock", b"\x83", b"\x40\x01x\x03%2F"].concat();
    let http2 = |kind: u8, flags: u8, payload: &[u8]| {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    };
    let stream = [vec![b'P'; 24], http2(4, 0, b"%%%"), http2(1, 4, &headers), http2(0, 1, b"%2F")].concat();
    vec![
        seed("wires", "admission", through(0, admission)),
        seed("wires", "proof", through(1, [0; 129])),
        seed("wires", "frames", through(2, [frame(b"a"), frame(&[7; 100])].concat())),
        seed("wires", "headers", through(3, stream)),
    ]
}

fn log() -> String {
    let mut lines = vec![
        "Nov 22 09:59:58 hq sshd[1]: Accepted publickey for ops from 192.0.2.9 port 40000 ssh2: ED25519 SHA256:x".to_owned(),
        "2026-11-22T10:00:00.123456+01:00 hq sshd-session[77]: Failed password for root from 2001:db8::7 port 1 ssh2".into(),
        "Nov 22 10:00:00 hq sshd[2]: message repeated 5 times: [ Failed password for root from 198.51.100.8 port 22 ssh2]".into(),
    ];
    let failed = |n: u32| {
        format!(
            "Nov 22 10:00:{n:02} hq sshd[{n}]: Failed password for invalid user admin from 198.51.100.7 port {n} ssh2"
        )
    };
    lines.extend((1..9).map(failed));
    lines.join("\n")
}
