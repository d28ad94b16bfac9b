//! Isolation grants and tokens: the council's alone, within the bounds of governance §4, for who is enrolled.

use super::*;
use crate::budget::{Budget, Life};
use crate::charter::ClassAges;
use crate::codec::{from_cbor, to_cbor};
use crate::isolation::{BreakGlass, GRANT_NAMES_MAX, HORIZONS_MAX, IsolationGrant, TOKENS_MAX, token_digest};

fn grant() -> IsolationGrant {
    IsolationGrant {
        site: "lyon".into(),
        acting: vec![node_id("lyon").to_string()],
        horizon: HORIZONS_MAX,
        groups: vec!["duty".into()],
        escrow: vec![Budget::new("blocks").expect("a name")],
        lift: 2,
    }
}

fn tokens(holder: &AuthorKey) -> BreakGlass {
    let holder = Life { author: holder.author_id(), incarnation: 0 };
    BreakGlass { site: "lyon".into(), holder, digests: vec![Digest::from_bytes([9; 32])], expires_ms: 5 }
}

fn with_lyon() -> (Mesh, AuthorKey, AuthorKey) {
    let (mut mesh, council, lyon) = (Mesh::found(), key(1), key(3));
    mesh.enrol(&lyon, "lyon");
    mesh.enrol(&key(4), "porto");
    (mesh, council, lyon)
}

#[test]
fn golden_bytes_of_a_grant_and_of_tokens() {
    let entry = Entry::Isolation(grant());
    let bytes = to_cbor(&entry);
    let id: String = node_id("lyon").to_string().bytes().map(|b| format!("{b:02x}")).collect();
    let golden = format!(
        "820981a60 0646c796f6e01817826{id}02a4001a9a7ec800011a240c8400021a0f73140003000381646475747904816 6626c6f636b730502"
    );
    assert_eq!(hex::encode(&bytes), golden.replace(' ', ""));
    assert_eq!(from_cbor::<Entry>(&bytes), Ok(entry));
    let holder = Life { author: AuthorId::from_bytes([7; 32]), incarnation: 1 };
    let entry = Entry::BreakGlass(BreakGlass { holder, ..tokens(&key(3)) });
    let bytes = to_cbor(&entry);
    let (author, digest) = ("07".repeat(32), "09".repeat(32));
    assert_eq!(hex::encode(&bytes), format!("820a81a400646c796f6e01a2005820{author}010102815820{digest}0305"));
    assert_eq!(from_cbor::<Entry>(&bytes), Ok(entry));
    let token = token_digest(&AuthorKey::from_seed(&[5; 32]).public());
    assert_eq!(token.to_string(), TOKEN);
}

const TOKEN: &str = "6406dddcaf2be055c4052273a681fbb2f122d540f8aecad5fd8597a52b622d12";

#[test]
fn a_grant_needs_the_council_and_stands_until_another_replaces_it() {
    let (mut mesh, council, lyon) = with_lyon();
    assert!(mesh.write(&Entry::Isolation(grant()), &[]).expect("refused").contains("needs the council"));
    assert!(mesh.write(&Entry::Isolation(grant()), &[&key(9)]).is_some(), "nobody else signs for it");
    assert_eq!(mesh.write(&Entry::Isolation(grant()), &[&council]), None);
    assert_eq!(mesh.authority.isolation_grant("lyon"), None, "nobody else holds it yet");
    mesh.hold(&lyon);
    assert_eq!(mesh.authority.isolation_grant("lyon"), Some(&grant()));
    assert_eq!(mesh.authority.isolation_grant("porto"), None);
    assert!(mesh.authority.ever_acting(&lyon.author_id(), "lyon"));
    let none = IsolationGrant { acting: vec![], ..grant() };
    assert_eq!(mesh.write(&Entry::Isolation(none), &[&council]), None);
    mesh.hold(&key(4));
    assert_eq!(mesh.authority.isolation_grant("lyon"), None, "withdrawn");
    assert!(mesh.authority.ever_acting(&lyon.author_id(), "lyon"), "what it denied stays denied");
    assert!(!mesh.authority.ever_acting(&key(4).author_id(), "lyon"));
}

#[test]
fn with_two_of_three_one_member_grants_nothing() {
    let (a, b) = (key(31), key(32));
    let council = [&a, &b, &key(33)].map(|k| k.public().into()).to_vec();
    let mut mesh = Mesh::found_with(|c| (c.council, c.threshold) = (council, 2));
    mesh.enrol(&key(3), "lyon");
    for entry in [Entry::Isolation(grant()), Entry::BreakGlass(tokens(&key(3)))] {
        assert!(mesh.write(&entry, &[&a]).expect("refused").contains("1 of 2"));
        assert!(mesh.write(&entry, &[&a, &a]).expect("refused").contains("1 of 2"), "twice is once");
        assert_eq!(mesh.write(&entry, &[&a, &b]), None);
    }
}

#[test]
fn a_grant_stays_within_its_bounds() {
    let (mut mesh, council, _) = with_lyon();
    let mut refused = |change: &dyn Fn(&mut IsolationGrant)| {
        let mut bad = grant();
        change(&mut bad);
        mesh.write(&Entry::Isolation(bad), &[&council]).expect("refused")
    };
    let most = HORIZONS_MAX;
    assert!(refused(&|g| g.horizon.r3_ms = 1).contains("R3 is never granted"));
    assert!(refused(&|g| g.horizon = ClassAges { r2_ms: most.r2_ms + 1, ..most }).contains("at most 72 h"));
    assert!(refused(&|g| g.horizon = ClassAges { r1_ms: most.r1_ms + 1, ..most }).contains("at most 168 h"));
    assert!(refused(&|g| g.horizon = ClassAges { r0_ms: most.r0_ms + 1, ..most }).contains("at most 720 h"));
    assert!(refused(&|g| g.groups.clear()).contains("own people"));
    assert!(refused(&|g| g.groups = vec!["g".into(); GRANT_NAMES_MAX + 1]).contains("at most 16"));
    assert!(
        refused(&|g| g.acting = vec![node_id("porto").to_string()]).contains("no node or coordinator of site lyon")
    );
    assert!(refused(&|g| g.acting = vec![node_id("later").to_string()]).contains("not enrolled"));
    assert!(
        refused(&|g| g.acting = vec!["spiffe://acme.test/coordinator/hq".into()]).contains("no node or coordinator")
    );
}

#[test]
fn tokens_are_a_present_lifes_of_the_site() {
    let (mut mesh, council, lyon) = with_lyon();
    let good = tokens(&lyon);
    let mut write = |tokens: BreakGlass, signed: bool| {
        let signers: &[&AuthorKey] = if signed { &[&council] } else { &[] };
        mesh.write(&Entry::BreakGlass(tokens), signers)
    };
    assert!(write(good.clone(), false).expect("refused").contains("needs the council"));
    assert!(write(tokens(&key(4)), true).expect("refused").contains("no node of site lyon"));
    assert!(
        write(tokens(&key(2)), true).expect("refused").contains("no node of site lyon"),
        "a coordinator owns nothing"
    );
    assert!(write(tokens(&key(9)), true).expect("refused").contains("not enrolled"));
    let twice = BreakGlass { digests: vec![Digest::from_bytes([9; 32]); 2], ..good.clone() };
    assert!(write(twice, true).expect("refused").contains("twice"));
    let many = (0..=TOKENS_MAX as u8).map(|n| Digest::from_bytes([n; 32])).collect();
    assert!(write(BreakGlass { digests: many, ..good.clone() }, true).expect("refused").contains("at most 16"));
    let next = Life { incarnation: 1, ..good.holder };
    assert!(write(BreakGlass { holder: next, ..good.clone() }, true).expect("refused").contains("is over"));
    assert_eq!(write(good.clone(), true), None);
    mesh.hold(&key(4));
    assert_eq!(mesh.authority.break_glass(&lyon.author_id(), 0), Some(&good));
    assert_eq!(mesh.authority.break_glass(&lyon.author_id(), 1), None, "a restored node holds none");
    assert_eq!(mesh.authority.break_glass_ever(&good.digests[0]).count(), 1);
}
