//! What the wire looks like in v1, to the byte: see `docs/wire.md`, "What pins it". A value that changes here is another wire.
//! `UPDATE_EXPECT=1 cargo test` writes them anew.

use super::*;
use crate::authority::{
    Accept, Attest, AutonomyGrant, AutonomyOf, ChainEnd, Fenced, Handover, Issuance, Issued, IssuedKind, KIND_ISSUED,
    KIND_ROOTS, Level, Offer, Root, RootState, Roots, Trust,
};
use crate::budget::{Budget, Life, Mint};
use crate::charter::{CHARTER_NAMESPACE, ClassAges, KeySignature, Seat, founding_digest};
use crate::codec::{check, from_cbor, to_cbor};
use crate::ids::sha256;
use crate::isolation::{BreakGlass, IsolationGrant, sign_use, token_digest, use_message};
use crate::passkey::authenticator::Authenticator;
use crate::passkey::{registration_challenge, sign_in_challenge};
use crate::signer::tests::token;

/// A line of a golden list: a short value in full, a long one by length and hash.
fn line(name: &str, bytes: &[u8]) -> String {
    if bytes.len() <= 64 {
        return format!("{name} {}\n", hex::encode(bytes));
    }
    format!("{name} {} bytes, SHA-256 {}\n", bytes.len(), hex::encode(sha256(bytes)))
}

fn d(n: u8) -> Digest {
    Digest::from_bytes([n; 32])
}

fn life(n: u8) -> Life {
    Life { author: key(n).author_id(), incarnation: 1 }
}

fn seat(n: u8) -> Seat {
    Seat { author: key(n).public(), spiffe_id: "spiffe://acme.test/coordinator/hq".into() }
}

fn ends() -> Vec<ChainEnd> {
    let end = |seq, id| ChainEnd { scope: Scope::mesh(), seq, id };
    vec![end(9, Some(SOME)), end(0, None)]
}

const MESH: MeshId = MeshId::from_bytes([9; 32]);
const AT_MS: u64 = 1_800_000_000_000;

/// One entry of each kind at least, with every field that may be absent there and, where it says another thing, absent.
fn entries() -> Vec<(&'static str, Entry)> {
    let sealed = |n: u8, kind: &str| {
        seal(&key(3), MESH, Scope::site("lyon").expect("a name"), 1, None, kind, &n).sealed().clone()
    };
    let (signer, touched) = token(&[3; 32], CHARTER_NAMESPACE, b"a message", 1);
    let passkey = Authenticator::eddsa(&[4; 32], "localhost", "http://localhost:7480").passkey().clone();
    let credentials =
        vec![Credential::of(key(50).public().into()), Credential::of(signer.clone()), Credential::Passkey(passkey)];
    let of = |model| AutonomyOf {
        build: d(1),
        model,
        prompt: model,
        tools: model,
        action_class: "security.address.block/blocklist".into(),
        site: "lyon".into(),
    };
    let grant = AutonomyGrant { level: Level::L3, votes_r2: 0, votes_r3: 2, expires_ms: AT_MS, evidence: Some(d(3)) };
    let handover = Handover { offer: sealed(1, "handover"), accept: sealed(2, "takeover") };
    let mut by_council = Reassign {
        prefix: "lyon/lyon/blocklist".into(),
        from: life(3),
        to: life(4),
        handover: None,
        fencing: Some(Fenced::None),
        attests: vec![Attest { person: "bo".into(), key: signer, signature: touched }],
    };
    let by_owner = Reassign { handover: Some(handover), fencing: None, attests: vec![], ..by_council.clone() };
    by_council.attest(&MESH, "ana", &key(50));
    let keys = || Some(vec![key(1).public().into()]);
    let amend = Amend {
        root_keys: Some(vec![d(1)]),
        council: keys(),
        threshold: Some(1),
        recovery: keys(),
        coordinators: Some(vec![seat(2)]),
        policy_authors: keys(),
        rp_id: Some("acme.test".into()),
        vote_origins: Some(vec!["https://acme.test".into()]),
        class_ages: Some(ClassAges::default()),
        retention_floor_days: Some(90),
    };
    let budget = || Budget::new("blocks").expect("a name");
    vec![
        ("Enrol", Entry::Enrol(Enrol::new(&MESH, &key(3), &node_id("lyon")))),
        ("Incarnate", Entry::Incarnate(Incarnate::new(&MESH, &key(3), 1, ends()))),
        (
            "Cut",
            Entry::Cut(Cut {
                author: key(3).author_id(),
                incarnation: 0,
                ends: ends(),
                fork: vec![sealed(1, "note"), sealed(2, "note")],
            }),
        ),
        (
            "Person",
            Entry::Person(Person { id: "ana".into(), name: "Ana".into(), groups: vec!["hr".into()], credentials }),
        ),
        ("RevokePerson", Entry::RevokePerson("ana".into())),
        ("Activate", Entry::Activate(Activate { bundle: SOME, digest: d(1), version: "2".into() })),
        ("Amend", Entry::Amend(Box::new(amend))),
        ("Amend nothing", Entry::Amend(Box::default())),
        ("Term", Entry::Term(Term { n: 2, sequencer: seat(4), ends: ends(), root_keys: vec![d(1)] })),
        (
            "Mint",
            Entry::Mint(Mint { budget: budget(), window: 7, amount: 200, holder: life(3), window_ms: 86_400_000 }),
        ),
        (
            "Isolation",
            Entry::Isolation(IsolationGrant {
                site: "lyon".into(),
                acting: vec![node_id("lyon").to_string()],
                horizon: ClassAges::default(),
                groups: vec!["hr".into()],
                escrow: vec![budget()],
                lift: 2,
            }),
        ),
        (
            "BreakGlass",
            Entry::BreakGlass(BreakGlass {
                site: "lyon".into(),
                holder: life(3),
                digests: vec![token_digest(&key(60).public())],
                expires_ms: AT_MS,
            }),
        ),
        ("Lift", Entry::Lift(Lift { restrictions: vec![SOME], reason: "over".into() })),
        ("Autonomy", Entry::Autonomy(Autonomy { of: of(Some(d(2))), grant: Some(grant), reason: "good".into() })),
        ("Autonomy ends", Entry::Autonomy(Autonomy { of: of(None), grant: None, reason: "bad".into() })),
        ("Reassign by hand-over", Entry::Reassign(Box::new(by_owner))),
        ("Reassign by the council", Entry::Reassign(Box::new(by_council))),
    ]
}

/// The number that says which kind of entry it is.
fn number(bytes: &[u8]) -> u64 {
    let mut decoder = minicbor::Decoder::new(bytes);
    assert_eq!(decoder.array().expect("a choice"), Some(2));
    decoder.u64().expect("its number")
}

#[test]
fn wire_v1_of_entries_is_pinned() {
    let mut text = String::new();
    let mut pinned = std::collections::BTreeSet::new();
    for (name, entry) in entries() {
        let bytes = to_cbor(&entry);
        pinned.insert(number(&bytes));
        text += &line(&format!("{} {name}", number(&bytes)), &bytes);
        assert_eq!(from_cbor::<Entry>(&bytes), Ok(entry));
    }
    expect_test::expect![[r#"
        0 Enrol 147 bytes, SHA-256 ac4d139ff287b132c4b07c2bf17e0be199b22a9e544156994421168335cb2a31
        1 Incarnate 163 bytes, SHA-256 a3c407d97c74f44d0c37f63b043dfe14cbc0e75116bd05e07a4d45fd5d76e267
        2 Cut 516 bytes, SHA-256 61a91c91f0022801cb8e665bb331b3965755ccb90cc4327cdc144f907bc31b89
        3 Person 178 bytes, SHA-256 f48fa8347086002337e1828f5648a6d5976078d24dbc19bdc515b06e7c71d2ce
        4 RevokePerson 82048163616e61
        5 Activate 77 bytes, SHA-256 0f88b817569d2a438ea42baff7a0d31eb1b525b828b302e9367e62347a55e0a4
        6 Amend 282 bytes, SHA-256 72c2a765399aed47634eed1129690bc3756fec0d0aca5d123430ee24370cd3b1
        6 Amend nothing 820681a0
        7 Term 170 bytes, SHA-256 a8ecd7a750c9aa295b54cfbe14da4d74af17005e029fef40f2f9770b0ca75f04
        8 Mint 820881a50066626c6f636b7301070218c803a2005820699041ebb085061455772bd6ceb9c980ac479fafb07dd22d76d27a151d21a5da0101041a05265c00
        9 Isolation 92 bytes, SHA-256 6bf73f662368726c6f1258ec28ce463a0eba7d12af7deefd21339de9c7678ff4
        10 BreakGlass 95 bytes, SHA-256 d651ac2d00ffcf3cb8ebe01b8361b479ef31d4491bd897efa74b4521e152e441
        11 Lift 820b81a200815820070707070707070707070707070707070707070707070707070707070707070701646f766572
        12 Autonomy 246 bytes, SHA-256 003ca97329d039a2750445faab7803aa971dc1ec1d68d0e554743474186db047
        12 Autonomy ends 87 bytes, SHA-256 a50892fefa257a4da9c3d1e5e269a7880f34c9a9bb74ca8a63b0d3b825e420b5
        13 Reassign by hand-over 535 bytes, SHA-256 cebad0ae5c9159d20ecc8a30064139db926f8489e6e77b5b0ab3da1c3ec7aada
        13 Reassign by the council 333 bytes, SHA-256 f55abe61f9b04d869344761fdb3ca097a49b1b673ad9a7acb58e474723257403
    "#]].assert_eq(&text);
    let is_known = |n: &u64| {
        let tried = from_cbor::<Entry>(&to_cbor(&(*n, Vec::<u8>::new())));
        !tried.expect_err("it has no fields").to_string().contains("unknown")
    };
    let known: std::collections::BTreeSet<u64> = (0..256).filter(is_known).collect();
    assert_eq!(known, pinned, "every kind of entry has a line in `entries`");
}

#[test]
fn wire_v1_of_charters_chains_and_people_is_pinned() {
    let (council, other, hq) = (key(1), key(5), key(2));
    let mut charter = sample(&[&council, &other], 2, &hq);
    charter.recovery = vec![key(6).public().into()];
    charter.vote_origins = vec!["http://localhost:7480".into()];
    let (signer, touched) = token(&[3; 32], CHARTER_NAMESPACE, b"a message", 1);
    charter.policy_authors.push(signer.clone());
    let signed = SignedCharter::sign(&charter, &[&council, &other]);
    let [(_, first), .., (_, last)] = &entries()[..] else { panic!("several") };
    let founding = [first, last].map(founding_entry).to_vec();
    let touched = KeySignature { key: signer, signature: touched };
    let founded = SignedCharter {
        founding: Some(founding_digest(&founding)),
        signatures: vec![touched.clone()],
        bytes: signed.bytes.clone(),
    };
    let mut body = EntryBody::new(Some(SOME), 7, first);
    body.sign(&MESH, &council);
    let founded_body = EntryBody::founded(None, 1, first, founding, vec![touched]);
    let held = Held {
        head: SOME,
        index: 7,
        suspensions: vec![SOME],
        trust: Some(Trust { roots: vec![d(1)], under: vec![d(2)] }),
    };
    let bare = Held { suspensions: vec![], trust: None, ..held.clone() };
    let roots = [RootState::Prepared, RootState::Active, RootState::Old, RootState::Tainted];
    let root = |state| Root { key: d(1), certificate: vec![1, 2].into(), state, not_after_s: 1_800_000_000 };
    let issued = [IssuedKind::X509Svid, IssuedKind::SiteIntermediate, IssuedKind::JwtSvid];
    let spiffe_id = node_id("lyon").to_string();
    let issuance = |kind| Issuance {
        kind,
        spiffe_id: spiffe_id.clone(),
        digest: d(1),
        not_after_s: 1_800_000_000,
        signed_by: d(2),
    };
    let glass = sign_use(&key(60), &use_message(&MESH, &SOME, &SOME, "now"));
    let Some(Entry::Reassign(moved)) = entries().pop().map(|(_, entry)| entry) else { panic!("the last one") };
    let authenticator = Authenticator::eddsa(&[4; 32], "localhost", "http://localhost:7480");
    let credential = Credential::Passkey(authenticator.passkey().clone());
    let node = hq.author_id();
    let term =
        EntryBody::new(Some(SOME), 7, &Entry::Term(Term { n: 2, sequencer: seat(4), ends: vec![], root_keys: vec![] }));
    let all = [
        line("charter", &signed.bytes),
        line("mesh id", signed.mesh_id().as_bytes()),
        line("signed charter", &to_cbor(&signed)),
        line("signed charter with founding entries", &to_cbor(&founded)),
        line("entry body", &to_cbor(&body)),
        line("what is signed of it", &body.message(&MESH)),
        line("founded entry body", &to_cbor(&founded_body)),
        line("id of a term", Term::id(&MESH, &term).as_bytes()),
        line(KIND_HELD, &to_cbor(&bare)),
        line(KIND_HELD, &to_cbor(&held)),
        line(KIND_ROOTS, &to_cbor(&Roots { roots: roots.map(root).to_vec() })),
        line(KIND_ISSUED, &to_cbor(&Issued { issued: issued.map(issuance).to_vec() })),
        line(KIND_HANDOVER, &to_cbor(&Offer { prefix: "lyon/lyon/blocklist".into(), to: life(4) })),
        line(KIND_TAKEOVER, &to_cbor(&Accept { offer: SOME })),
        line("author id", node.as_bytes()),
        line("credential id", credential.id().as_bytes()),
        line("that a machine is off", &moved.box_off(&MESH)),
        line("use of a break-glass token", glass.as_bytes()),
        line("challenge to sign in", sign_in_challenge(&MESH, &node, &d(1)).as_bytes()),
        line("challenge to make a passkey", registration_challenge(&MESH, &node, &d(1)).as_bytes()),
        line("passkey's signature", &authenticator.assert(&d(1)).to_bytes()),
        format!("passkey's line {}\n", authenticator.passkey().to_line("localhost")),
    ];
    expect_test::expect![[r#"
        charter 453 bytes, SHA-256 87ae2219b183b38bd5f0c88bb3a3f870db868d3f0447fbdf5fc58cc1ad8dc437
        mesh id 87ae2219b183b38bd5f0c88bb3a3f870db868d3f0447fbdf5fc58cc1ad8dc437
        signed charter 666 bytes, SHA-256 4d7b998f31973ecb17ebc2175048d7dab72223258199be52a2c884d5083600de
        signed charter with founding entries 609 bytes, SHA-256 dcf255372cf678c0188f2903b762c767cb09d58ac920afed61a3f7444e3560f2
        entry body 293 bytes, SHA-256 f1a8203ea4207c0cfc1320f601d390981d96fec44a561c591f26b2a207631906
        what is signed of it 211 bytes, SHA-256 4f5b188c1bfde06152a75359d35bd94ba5972eedd099a6eb426d46d817aad2d4
        founded entry body 339 bytes, SHA-256 3a94d43e0bd21ad32450012de8dd5c527b13acca564f6e094435b9252bdd1501
        id of a term 080d3920aa6186ed6097f0eee2d687c189711a1d2134ebc7d620f091c076c8a0
        held a3005820070707070707070707070707070707070707070707070707070707070707070701070280
        held 148 bytes, SHA-256 127d34365eb5fb3a1ff98eae3a8e971f2b8de5e48ed8f00b9b95b1b0d677b800
        authority.roots 195 bytes, SHA-256 296929e89b29a65584ccff7475d148448f1d19b0767c390983f760ddd8348905
        authority.issued 363 bytes, SHA-256 84ee5e47195f72401341e696619e78d0113955319b2afb8579f9185f3f391feb
        handover a200736c796f6e2f6c796f6e2f626c6f636b6c69737401a2005820ba4881f4eadcb9e02b42161302c5969bc2122105f7dd2ca05f6b20b25592b7430101
        takeover a10058200707070707070707070707070707070707070707070707070707070707070707
        author id 6b049a8d3abaa0f661cc94e3c0f34819c266107430dc6da9819e333b07d31cb2
        credential id 7f0766a678bc3871deb2ccc48bf34d9f3baecc41f37b7268178536e931ed3388
        that a machine is off 93 bytes, SHA-256 ce8d8e8af7cea895c280f8a2d9f1713ec876d2523451f9a8d837e7c6677c6e01
        use of a break-glass token 88f3a5e70ae786cfef075f06ad774801469eca10a8ce038a3f1b0476c4ef581611c5ff684a46278f563efe2077d27f143b447ac63d15642e09c6ec7f54586d0b
        challenge to sign in b730db587b7fba8a51aba56d34835652bc44c780da301512b4511d97712dd695
        challenge to make a passkey df0a5d979d64b3fa780b9f1ee766f6fd9cc36be4a9172fc59df7c13b915cc4dd
        passkey's signature 245 bytes, SHA-256 be6419e6b265e8ec2e25ff8c5b877d315525429621737509037f130299258ab5
        passkey's line cauldron-passkey:v1:pABpbG9jYWxob3N0AVgg5xhlsE7xRxlY9xxeaw86mwwPKiYkgI7Z8yOrO7yI6x4CJwNYIMqTrBcFGHBx1nuDx_8O_oEI6OxFMFdddyaHkzPb2r58
    "#]].assert_eq(&all.concat());
}

/// Key 99 with value 1, behind the others: what a later build may have added.
fn with_a_later_key(mut map: Vec<u8>) -> Vec<u8> {
    assert!((0xa0..0xb7).contains(&map[0]), "a small map");
    map[0] += 1;
    map.extend_from_slice(&[0x18, 0x63, 0x01]);
    map
}

#[test]
fn keys_of_later_builds_are_skipped_in_entries_and_bodies() {
    let enrol = Enrol::new(&MESH, &key(3), &node_id("lyon"));
    let bytes = [&[0x82, 0x00, 0x81][..], &with_a_later_key(to_cbor(&enrol))].concat();
    assert_eq!(from_cbor::<Entry>(&bytes), Ok(Entry::Enrol(enrol)));
    let credential = Credential::of(key(50).public().into());
    assert_eq!(from_cbor::<Credential>(&with_a_later_key(to_cbor(&credential))), Ok(credential));
    let held = Held { head: SOME, index: 7, suspensions: vec![], trust: None };
    assert_eq!(from_cbor::<Held>(&with_a_later_key(to_cbor(&held))), Ok(held));
    let body = EntryBody::new(None, 1, &Entry::RevokePerson("ana".into()));
    assert_eq!(from_cbor::<EntryBody>(&with_a_later_key(to_cbor(&body))), Ok(body));
    let signed = SignedCharter::sign(&sample(&[&key(1)], 1, &key(2)), &[]);
    let later = with_a_later_key(signed.bytes.clone());
    assert_eq!(SignedCharter { bytes: later, ..signed.clone() }.read(), signed.read());
}

/// The sequencer is a build ahead: its entry is held, changes nothing, and the next one follows it.
#[test]
fn an_entry_of_a_later_build_stays_in_the_chain_and_changes_nothing() {
    let mut mesh = Mesh::found();
    assert_eq!(mesh.enrol(&key(3), "lyon"), None);
    let later = [0x82, 0x18, 0xc8, 0x81, 0xa1, 0x00, 0x01]; // [200, [{0: 1}]]
    check(&later).expect("deterministic");
    let (head, members) = (mesh.authority.head().expect("entries"), mesh.authority.members().count());
    let body =
        [&[0xa4, 0x00, 0x58, 0x20][..], head.as_bytes(), &[0x01, 0x02, 0x02, 0x47], &later, &[0x03, 0x80]].concat();
    let body: EntryBody = from_cbor(&body).expect("a body, whatever the entry");
    let fact = seal(&mesh.hq, mesh.authority.mesh(), Scope::authority(), 2, mesh.last, KIND_ENTRY, &body);
    mesh.last = Some(fact.id());
    mesh.authority.apply(&fact);
    assert_eq!((mesh.authority.head(), mesh.authority.index()), (Some(fact.id()), 2));
    assert_eq!(mesh.authority.members().count(), members);
    let applied = mesh.authority.entries().last().expect("it is there");
    assert!(
        applied.entry.is_none() && applied.refused.as_ref().is_some_and(|why| why.contains("does not know")),
        "{applied:?}"
    );
    assert_eq!(mesh.enrol(&key(4), "porto"), None);
    assert_eq!(mesh.authority.index(), 3);
}
