//! What the wire looks like in v1 before a frame travels: see `docs/wire.md`, "What pins it". A value that changes here is another
//! wire. `UPDATE_EXPECT=1 cargo test` writes them anew.

use cauldron_identity::ids::sha256;
use cauldron_identity::{AuthorKey, Digest, MeshId, SpiffeId};

use crate::CloseCode;
use crate::admission::{DATA_EXPORTER_LABEL, EXPORTER_LABEL, Hello, Lane, Process, Side, Version, open, seal};
use crate::hello::{Features, ProcessNonce};
use crate::peer_id::{data_peer_id_of, peer_id_of};
use crate::tls::{ALPN_DATA, ALPN_ENROL};

const PROCESS: Process =
    Process { nonce: ProcessNonce::from_bytes([0xab; 16]), features: Features(0x0123_4567_89ab_cdef) };

#[test]
fn wire_v1_of_connections_is_pinned() {
    let (key, mesh) = (AuthorKey::from_seed(&[1; 32]), MeshId::from_bytes([9; 32]));
    let me = SpiffeId::new("spiffe://acme.test/coordinator/hq").expect("an id");
    let mut text = String::new();
    let mut line = |what: String| text += &format!("{what}\n");
    for side in [Side::Dialer, Side::Listener] {
        let lanes = [("mesh", Lane::Mesh(Version::V1, &me)), ("data", Lane::Data)];
        for (lane, frame) in lanes.map(|(name, lane)| (name, seal(lane, &key, &PROCESS, &mesh, side, &[5; 32]))) {
            assert_eq!((frame[0], &frame[1..33], &frame[33..65]), (1, &[9; 32][..], &key.public().as_bytes()[..]));
            line(format!("admission, {lane}, {side:?} {} {}", frame.len(), Digest::from_bytes(sha256(&frame))));
        }
    }
    line(format!("peer {}", peer_id_of(&me)));
    line(format!("peer on the data lane {}", data_peer_id_of(&me)));
    for name in
        [Version::V1.alpn(), ALPN_ENROL, ALPN_DATA, EXPORTER_LABEL, DATA_EXPORTER_LABEL, crate::enrol::EXPORTER_LABEL]
    {
        line(String::from_utf8_lossy(name).into_owned());
    }
    line(crate::link::SYNC.to_string());
    let codes = CloseCode::ALL.map(|code| format!("{:#04x} {}", code as u32, code.label()));
    line(codes.join(", "));
    expect_test::expect![[r#"
        admission, mesh, Dialer 129 c295871eb615ea98e69e16ea6c1c2646d10a2b00c9ba8a246b55ec29576064af
        admission, data, Dialer 129 6faf7a5d811a8628ac56f0166e9ea5187d12d8aaaa1efd2afe1707680b4525e3
        admission, mesh, Listener 129 7aec0255f498c4dbbfdf84582898ac34a9911cb9bf560aeaf84660f627707bc3
        admission, data, Listener 129 7e99b9014bdf5e653bcb65b8a916d8da1c6d446cf071cdf827a50aea0bf40d24
        peer 12D3KooWGrqbWjWzUpK7YVmFj4CrevK8S3QFmm16KbdxPgEQX3Kj
        peer on the data lane 12D3KooWC6Pk1W4PFybRQ119XtSdxXvbQHKAv4dAyHdvs8tJxfzQ
        cauldron-mesh/1
        cauldron-enrol/1
        cauldron-data/1
        cauldron-admission
        cauldron-data
        cauldron-enrol
        /cauldron/sync/1
        0x00 normal, 0x01 shutdown, 0x10 certificate, 0x11 no_certificate, 0x12 admission, 0x13 wrong_mesh, 0x14 key_conflict, 0x15 too_many_connections, 0x16 busy, 0x17 handshake_timeout, 0x18 protocol, 0x19 ourselves, 0x1a second_process, 0x20 svid_expired, 0x21 untrusted, 0x22 lane_over, 0x23 replaced, 0x30 frame_too_large, 0x31 frame_truncated, 0x32 frame_empty, 0x33 frame_timeout, 0x34 queue_full, 0x35 link_restarted, 0x36 stream_lost, 0x40 bad_content, 0x41 not_enrolled, 0x50 enrol_closed, 0x51 enrol_busy, 0x52 enrol_rate, 0x53 enrol_request, 0x54 enrol_timeout
    "#]].assert_eq(&text);
}

/// Everything that both versions of the mesh lane say before libp2p speaks, byte by byte, in both directions; what is
/// pinned is read back, too, so that neither reader moves away from what was written.
#[test]
fn both_admissions_are_pinned_in_both_directions() {
    let (dialer, listener) = (AuthorKey::from_seed(&[1; 32]), AuthorKey::from_seed(&[2; 32]));
    let (mesh, exporter) = (MeshId::from_bytes([9; 32]), [5; 32]);
    let name = |text: &str| SpiffeId::new(text).expect("an id");
    let (hq, lyon) = (name("spiffe://acme.test/coordinator/hq"), name("spiffe://acme.test/site/lyon/node/gw"));
    let mut text = String::new();
    for version in Version::ALL {
        text += &format!("{}\n", String::from_utf8_lossy(version.alpn()));
        for (side, key, id) in [(Side::Dialer, &dialer, &lyon), (Side::Listener, &listener, &hq)] {
            let lane = Lane::Mesh(*version, id);
            let frame = seal(lane, key, &PROCESS, &mesh, side, &exporter);
            let process = (*version == Version::V2).then_some(PROCESS);
            assert_eq!(open(lane, &frame, &mesh, side, &exporter), Ok(Hello { author: key.public(), process }));
            text += &format!("{side:?}, {} bytes\n", frame.len());
            for line in frame.chunks(32) {
                text += &line.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
                text += "\n";
            }
        }
    }
    let refused = crate::transport::refusal(CloseCode::SecondProcess);
    text += &format!("refused in a circuit {refused:02x?}\n");
    text += &format!("features {} {}\n", Features::RELAY.0, Features::CIRCUITS.0);
    expect_test::expect![[r#"
        cauldron-mesh/2
        Dialer, 153 bytes
        0209090909090909090909090909090909090909090909090909090909090909
        098a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f
        5cabababababababababababababababab0123456789abcdefa531506cf53f1e
        c75ec798a85b499ce478ee290c2524337a514b040c2fb8ac0e8ad4d52de24799
        e9b9d4545ffb7c9003fd59c64b57be0e3e0a786bd46f941f0e
        Listener, 153 bytes
        0209090909090909090909090909090909090909090909090909090909090909
        098139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b3
        94abababababababababababababababab0123456789abcdef147bc1d0738ec4
        e9757319efcf9242c553ae72b915373f59007235b53ac64167a1049e536b4b86
        bd9a6207f2634637815f8a5e23c87d9767c44b61682740cb00
        cauldron-mesh/1
        Dialer, 129 bytes
        0109090909090909090909090909090909090909090909090909090909090909
        098a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f
        5c7190b34e8b4f3af6753003863f0ad39b48c939a3c01755322754c37e4e826b
        76db7530de52bab6db0fc281303d96ebbd62428903261711f6c7547aaad0e293
        03
        Listener, 129 bytes
        0109090909090909090909090909090909090909090909090909090909090909
        098139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b3
        949cdd15c79e014ce5fa635096460e368c60d189d3500bbb754e90f9936a63d2
        291504797e76d0f193677ad0d8527da14bbdcc391cd97d13d63137f3afebd762
        0c
        refused in a circuit [00, 00, 00, 00, 1a]
        features 1 2
    "#]]
    .assert_eq(&text);
}
