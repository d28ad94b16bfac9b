mod alone;
mod losses;
mod topology;
mod world;

use std::collections::BTreeMap;

use cauldron_identity::{AuthorKey, SpiffeId};

use crate::Member;

/// A bug that `cargo xtask planted` wants caught is active in every thread of the process.
pub(crate) fn planted() {
    #[cfg(feature = "planted")]
    if let Ok(name) = std::env::var("CAULDRON_PLANTED") {
        assert!(cauldron_identity::planted::activate_everywhere(&name), "{name} is no bug of presence or topology");
    }
}

/// A member's key and entry, by name: `hq`, or `site/node`.
fn member(name: &str) -> (AuthorKey, Member) {
    let seed = cauldron_identity::ids::sha256(name.as_bytes());
    let key = AuthorKey::from_seed(&seed);
    let (site, path) = match name.split_once('/') {
        Some((site, node)) => (Some(site.to_owned()), format!("site/{site}/node/{node}")),
        None => (None, format!("coordinator/{name}")),
    };
    let spiffe_id = SpiffeId::new(format!("spiffe://mesh.test/{path}")).expect("an id");
    let member = Member { spiffe_id, key: key.public(), site, counts: true };
    (key, member)
}

fn members(names: &[&str]) -> BTreeMap<cauldron_identity::AuthorId, Member> {
    names.iter().map(|name| member(name)).map(|(key, member)| (key.author_id(), member)).collect()
}

#[test]
fn wire_v1_of_presence_is_pinned() {
    use crate::wire::{Frame, Have};
    use crate::{Announce, Sighting, Statement};
    use cauldron_identity::ids::sha256;

    let (key, _) = member("lyon/a");
    let (author, mesh) = (key.author_id(), cauldron_identity::MeshId::of("test", b"mesh"));
    let announce = Statement::Announce(Announce {
        author,
        n: 7,
        as_of_ms: 1_764_500_000_000,
        leaving: false,
        addresses: vec!["192.0.2.1:7443".to_owned(), "[2001:db8::1]:7443".to_owned()],
        region: "eu".to_owned(),
        hub: false,
        gateway: true,
        outside: true,
    });
    let subject = member("porto/a").0.author_id();
    let sighting = Statement::Sighting(Sighting { observer: author, subject, n: 9, as_of_ms: 1_764_500_000_001 });
    let sealed = [announce, sighting].map(|statement| statement.seal(&key, &mesh));
    for sealed in &sealed {
        sealed.check(&key.public(), &mesh).expect("its own signature");
        assert!(sealed.check(&key.public(), &cauldron_identity::MeshId::of("test", b"other")).is_err());
        assert!(sealed.check(&member("porto/a").0.public(), &mesh).is_err());
    }
    let have = Have { buckets: 5, marks: vec![1, u64::MAX] };
    let frames = [
        ("digest", Frame { digest: Some(vec![3; 256]), ..Frame::default() }),
        ("have", Frame { have: Some(have), ..Frame::default() }),
        ("statements", Frame { statements: Some(sealed.to_vec()), ..Frame::default() }),
        ("parting", Frame { parting: Some(true), ..Frame::default() }),
    ];
    let lines = frames.map(|(name, frame)| {
        let bytes = frame.encode();
        assert_eq!(Frame::decode(&bytes).as_ref(), Ok(&frame));
        let mut later = [&bytes[..], &[0x18, 0x63, 0x01]].concat();
        later[0] += 1;
        assert_eq!(Frame::decode(&later), Ok(frame), "a key of a later build is skipped");
        let hash: String = sha256(&bytes)[..8].iter().map(|b| format!("{b:02x}")).collect();
        format!("{name} {} {hash}\n", bytes.len())
    });
    expect_test::expect![[r#"
        digest 261 049ee7a89a735deb
        have 17 1ff19bd2fbaadc5f
        statements 326 27731d593e29f3ec
        parting 3 d172355d7b167c13
    "#]]
    .assert_eq(&lines.concat());
}
