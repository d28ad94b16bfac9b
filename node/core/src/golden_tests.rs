//! What the wire looks like in v1 on links and at enrolment: see `docs/wire.md`, "What pins it". A value that changes here is another
//! wire. `UPDATE_EXPECT=1 cargo test` writes them anew.

use std::collections::BTreeSet;

use cauldron_coordinator::lease::{LeaseAsk, LeaseGrant};
use cauldron_identity::authority::{Enrol, Entry, EntryBody, Incarnate, Term};
use cauldron_identity::charter::Seat;
use cauldron_identity::codec::{from_cbor, to_cbor};
use cauldron_identity::ids::sha256;
use cauldron_identity::{Digest, Fact, FactId, HeaderDraft, MeshId, Scope, SpiffeId};

use crate::enrol::{
    EnrolReply, EnrolRequest, Grant, Have, Outcome, Part, RefusedBecause, TokenId, TokenProof, Workload,
};
use crate::frame::{BaseAsk, BaseList, BaseOffer, BasePart, Frame, TimeAsk, TimeTell};
use crate::testing::{charter, key};

const MESH: MeshId = MeshId::from_bytes([9; 32]);
const ID: FactId = FactId::from_bytes([7; 32]);
const EXPORTER: [u8; 32] = [5; 32];
const AT_MS: u64 = 1_800_000_000_000;

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

fn lyon() -> SpiffeId {
    SpiffeId::new("spiffe://acme.test/site/lyon/node/lyon").expect("an id")
}

fn seat() -> Seat {
    Seat { author: key(1).public(), spiffe_id: "spiffe://acme.test/coordinator/hq".into() }
}

fn term() -> EntryBody {
    let term = Term { n: 1, sequencer: seat(), ends: vec![], root_keys: vec![] };
    let mut body = EntryBody::new(Some(ID), 7, &Entry::Term(term));
    body.sign(&MESH, &key(2));
    body
}

#[test]
fn wire_v1_of_link_frames_is_pinned() {
    let ask = LeaseAsk { node: key(4).author_id(), nonce: d(1) };
    let base = |doc: Option<&str>, of| BaseAsk { scope: Scope::mesh(), doc: doc.map(str::to_owned), at: 7, of };
    let offer = BaseOffer { doc: "notes/a".into(), changes: 9 };
    let part = BasePart { scope: Scope::mesh(), doc: "notes/a".into(), of: d(1), len: 9, at: 7, bytes: vec![1, 2] };
    let frames = [
        Frame::Sync(vec![1, 6]),
        Frame::LeaseAsk(ask.clone()),
        Frame::LeaseGrant(LeaseGrant::new(&MESH, &key(1), &ask, Some(ID), d(2))),
        Frame::IncarnateAsk(Incarnate::new(&MESH, &key(4), 1, vec![])),
        Frame::TimeAsk(TimeAsk { nonce: d(1) }),
        Frame::TimeTell(TimeTell { nonce: d(1), wall_ms: AT_MS }),
        Frame::Term(Box::new(term())),
        Frame::BaseAsk(base(None, None)),
        Frame::BaseAsk(base(Some("notes/a"), Some(d(1)))),
        Frame::BaseList(BaseList { scope: Scope::mesh(), docs: vec![offer] }),
        Frame::BasePart(part),
        // What is in it is the mesh core's, and pinned there.
        Frame::Presence(vec![0xa0]),
    ];
    let (mut text, mut pinned) = (String::new(), BTreeSet::new());
    for frame in frames {
        let bytes = frame.encode();
        pinned.insert(bytes[0]);
        text += &line(&bytes[0].to_string(), &bytes);
        assert_eq!(Frame::decode(&bytes).as_ref(), Ok(&frame));
        let mut later = bytes.clone();
        later.extend([0x18, 0x63, 0x01]); // 99: 1
        later[1] += 1;
        if !matches!(frame, Frame::Sync(_) | Frame::Presence(_)) {
            assert_eq!(Frame::decode(&later), Ok(frame), "a key of a later build is skipped");
        }
    }
    expect_test::expect![[r#"
        0 000106
        1 72 bytes, SHA-256 da2122e6dd8604615db73764f1822b70bb6bff61d3e268b5aa961eb8f7152bf3
        2 246 bytes, SHA-256 27ec4ea39a359a8fc27617687aaad55212db550c73c1e618bfb5bf53ab236c81
        3 108 bytes, SHA-256 ce947a09ee3bb3a1df144e06b10ad7f68e0e2a017339ac13c6df6d86e7a7ca2e
        4 04a10058200101010101010101010101010101010101010101010101010101010101010101
        5 05a20058200101010101010101010101010101010101010101010101010101010101010101011b000001a3185c5000
        6 230 bytes, SHA-256 cfd3cb187d0677d0879401e96eb84e87e3b2837a341bcc7ba0729e55d421ac90
        7 07a200646d6573680207
        7 07a400646d65736801676e6f7465732f6102070358200101010101010101010101010101010101010101010101010101010101010101
        8 08a200646d6573680181a200676e6f7465732f610109
        9 09a600646d65736801676e6f7465732f6102582001010101010101010101010101010101010101010101010101010101010101010309040705420102
        10 0aa0
    "#]].assert_eq(&text);
    let known: BTreeSet<u8> = (0..=255).filter(|n| Frame::decode(&[*n]) != Ok(Frame::Unknown(*n))).collect();
    assert_eq!(known, pinned, "every kind of frame has a line here");
}

#[test]
fn wire_v1_of_enrolment_is_pinned() {
    let node = key(4);
    let enrol = || Enrol::new(&MESH, &node, &lyon());
    let token = TokenProof::new(TokenId([1; 16]), &[6; 32], &node.public(), &[1, 2], &EXPORTER);
    let have = Have { head: ID, index: 7, term: 1 };
    let audience = vec!["spiffe://acme.test/db".to_owned()];
    let workload = Workload { spiffe_id: format!("{}/agent/web", lyon()), lifetime_s: Some(60), audience };
    let joins = EnrolRequest::new(MESH, Some(token.clone()), enrol(), vec![1, 2], &node, &EXPORTER);
    let renews = EnrolRequest::new(MESH, None, enrol(), vec![1, 2], &node, &EXPORTER)
        .with_site(vec![3], &node, &EXPORTER)
        .with_chain(Some(have));
    let for_agent = EnrolRequest::for_workload(MESH, enrol(), vec![1, 2], workload, &node, &EXPORTER);
    let mut text = line("token proof", &to_cbor(&token));
    for (name, request) in [("joins", joins), ("renews", renews), ("for an agent", for_agent)] {
        text += &line(name, &request.to_bytes());
        assert_eq!(EnrolRequest::open(&request.to_bytes(), &EXPORTER), Ok(request));
    }
    let draft = HeaderDraft {
        mesh: MESH,
        scope: Scope::authority(),
        incarnation: 0,
        seq: 1,
        prev: None,
        hlc: 0,
        kind: "authority.entry".into(),
        deps: vec![],
        traceparent: None,
    };
    let entry = Fact::seal(&key(1), draft, vec![0x80]).sealed().clone();
    let grant = Grant {
        charter: charter(seat()),
        chain: vec![vec![1].into()],
        bundle: vec![vec![2].into()],
        authority: vec![entry.clone()],
        time_ms: AT_MS,
        site: Some(vec![3].into()),
        jwt_bundle: Some(b"{}".to_vec().into()),
        token: Some("a.b.c".into()),
        terms: vec![term()],
    };
    let bare = Grant { site: None, jwt_bundle: None, token: None, terms: vec![], ..grant.clone() };
    let outcomes = [
        ("granted", Outcome::Granted(Box::new(grant))),
        ("granted without what may be absent", Outcome::Granted(Box::new(bare))),
        ("refused", Outcome::Refused(RefusedBecause { code: "token".into(), reason: "it ran out".into() })),
        (
            "part",
            Outcome::Part(Box::new(Part { charter: charter(seat()), authority: vec![entry], terms: vec![term()] })),
        ),
    ];
    for (name, outcome) in outcomes {
        let reply = EnrolReply::new(outcome, &key(1), &EXPORTER);
        text += &line(name, &reply.to_bytes());
        assert_eq!(from_cbor::<EnrolReply>(&reply.to_bytes()), Ok(reply));
    }
    expect_test::expect![[r#"
        token proof a2005001010101010101010101010101010101015820cc0ba061a795aebbef0b2166435a2689e9c0ec8cc246ceeed7ceaae95ebb828c
        joins 307 bytes, SHA-256 ab076461743672617988b6c2eec991e5a508e2bfbc3f8208dc316627daceec08
        renews 296 bytes, SHA-256 4d23717c6dbb4267daaf1061f85e8d7cc70574bf7339bfa25d1dc14e8bcf04a7
        for an agent 332 bytes, SHA-256 ccf4d105397a9f1117597fe35d598c3d5eedcea637b86cc80666eb1d1fdf14ed
        granted 1057 bytes, SHA-256 34b71888dff014b7505030c5f853065d0e1c3ab0950be03a2df8b523b7fe8d77
        granted without what may be absent 814 bytes, SHA-256 70c2a96ed24656e0ad3c10f065f1603dc2935aecfc7250460021f347e9a15067
        refused 127 bytes, SHA-256 1f86d71ebf82c27b810be06b06eefb0aec776f6b995f03bb06d01db7e3318d1a
        part 1025 bytes, SHA-256 82bf5cb25c1c482f4fd205b6c21f7bd56968e77922c8e6fbe47eb51e90e391d2
    "#]].assert_eq(&text);
}
