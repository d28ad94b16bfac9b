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
    for name in [ALPN_MESH, ALPN_ENROL, ALPN_DATA, EXPORTER_LABEL, DATA_EXPORTER_LABEL] {
        line(String::from_utf8_lossy(name).into_owned());
    }
    line(crate::link::SYNC.to_string());
    let codes = CloseCode::ALL.map(|code| format!("{:#04x} {}", code as u32, code.label()));
    line(codes.join(", "));
    expect_test::expect![[r#""#]].assert_eq(&text);
}
