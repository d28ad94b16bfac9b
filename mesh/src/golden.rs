//! What the wire looks like in v1 before a frame travels: see `docs/wire.md`, "What pins it". A value that changes here is another
//! wire. `UPDATE_EXPECT=1 cargo test` writes them anew.

use cauldron_identity::ids::sha256;
use cauldron_identity::{AuthorKey, Digest, MeshId, SpiffeId};

use crate::CloseCode;
use crate::admission::{DATA_EXPORTER_LABEL, EXPORTER_LABEL, Side, seal, seal_data};
use crate::peer_id::{data_peer_id_of, peer_id_of};
use crate::tls::{ALPN_DATA, ALPN_ENROL, ALPN_MESH};

#[test]
fn wire_v1_of_connections_is_pinned() {
    let (key, mesh) = (AuthorKey::from_seed(&[1; 32]), MeshId::from_bytes([9; 32]));
    let me = SpiffeId::new("spiffe://acme.test/coordinator/hq").expect("an id");
    let mut text = String::new();
    let mut line = |what: String| text += &format!("{what}\n");
    for side in [Side::Dialer, Side::Listener] {
        for (lane, frame) in
            [("mesh", seal(&key, &mesh, side, &me, &[5; 32])), ("data", seal_data(&key, &mesh, side, &[5; 32]))]
        {
            assert_eq!((frame[0], &frame[1..33], &frame[33..65]), (1, &[9; 32][..], &key.public().as_bytes()[..]));
            line(format!("admission, {lane}, {side:?} {} {}", frame.len(), Digest::from_bytes(sha256(&frame))));
        }
    }
    line(format!("peer {}", peer_id_of(&me)));
    line(format!("peer on the data lane {}", data_peer_id_of(&me)));
    for name in [ALPN_MESH, ALPN_ENROL, ALPN_DATA, EXPORTER_LABEL, DATA_EXPORTER_LABEL, crate::enrol::EXPORTER_LABEL] {
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
        0x00 normal, 0x01 shutdown, 0x10 certificate, 0x11 no_certificate, 0x12 admission, 0x13 wrong_mesh, 0x14 key_conflict, 0x15 too_many_connections, 0x16 busy, 0x17 handshake_timeout, 0x18 protocol, 0x19 ourselves, 0x20 svid_expired, 0x21 untrusted, 0x22 lane_over, 0x30 frame_too_large, 0x31 frame_truncated, 0x32 frame_empty, 0x33 frame_timeout, 0x34 queue_full, 0x35 link_restarted, 0x36 stream_lost, 0x40 bad_content, 0x41 not_enrolled, 0x50 enrol_closed, 0x51 enrol_busy, 0x52 enrol_rate, 0x53 enrol_request, 0x54 enrol_timeout
    "#]].assert_eq(&text);
}
