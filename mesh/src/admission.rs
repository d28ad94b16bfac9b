//! The first thing on a mesh connection: each side proves its author key over this very TLS session.
//!
//! An SVID opens the door, the author key opens the scopes, so a stolen certificate authority reads nothing. The dialer
//! speaks first, the listener answers only after it has checked and registered the dialer: so a dialer that reads a valid
//! answer knows that it is in (in TLS 1.3 the handshake alone does not say so).
//!
//! The frame, one per direction on the first unidirectional stream, 129 bytes:
//! `version (1) ‖ mesh id (32) ‖ author public key (32) ‖ signature (64)`, the signature over
//! `exporter (32) ‖ mesh id (32) ‖ role (1) ‖ own SPIFFE ID`, where the exporter is RFC 8446 §7.5 with label
//! `cauldron-admission`.
//!
//! On the data lane the same frame is the whole proof, in a domain of its own (`cauldron/data/v1`, exporter label
//! `cauldron-data`) and without a SPIFFE ID: there no certificate counts, so the enrolment alone says who the key is.

use cauldron_identity::{AuthorKey, MeshId, PublicKey, Signature, SpiffeId};

/// Version of the frame; a peer with another one is refused.
const VERSION: u8 = 1;
const DOMAIN: &str = "cauldron/admission/v1";
const DATA_DOMAIN: &str = "cauldron/data/v1";
/// Label of the TLS exporter.
pub(crate) const EXPORTER_LABEL: &[u8] = b"cauldron-admission";
/// Label of the TLS exporter on the data lane.
pub(crate) const DATA_EXPORTER_LABEL: &[u8] = b"cauldron-data";
/// Bytes of a frame.
pub(crate) const FRAME_BYTES: usize = 1 + 32 + 32 + 64;

/// Which end of the connection signs: a frame reflected to its sender proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Dialer,
    Listener,
}

impl Side {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Dialer => Self::Listener,
            Self::Listener => Self::Dialer,
        }
    }
}

/// Why a peer's admission frame is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum AdmissionError {
    #[error("its admission frame is damaged or cut off")]
    Damaged,
    #[error("it speaks admission version {0}, we speak {VERSION}")]
    Version(u8),
    #[error("it belongs to mesh {theirs}, we belong to mesh {ours}")]
    OtherMesh { theirs: MeshId, ours: MeshId },
    #[error("its author key is weak")]
    WeakKey,
    #[error("its proof of the author key does not verify for this connection")]
    Proof,
}

/// Makes our frame.
pub(crate) fn seal(
    key: &AuthorKey,
    mesh: &MeshId,
    side: Side,
    own: &SpiffeId,
    exporter: &[u8; 32],
) -> [u8; FRAME_BYTES] {
    frame(key, mesh, DOMAIN, &statement(mesh, side, Some(own), exporter))
}

/// Makes our frame for the data lane.
pub(crate) fn seal_data(key: &AuthorKey, mesh: &MeshId, side: Side, exporter: &[u8; 32]) -> [u8; FRAME_BYTES] {
    frame(key, mesh, DATA_DOMAIN, &statement(mesh, side, None, exporter))
}

fn frame(key: &AuthorKey, mesh: &MeshId, domain: &str, statement: &[u8]) -> [u8; FRAME_BYTES] {
    let signature = key.sign(domain, statement);
    let mut frame = [0; FRAME_BYTES];
    frame[0] = VERSION;
    frame[1..33].copy_from_slice(mesh.as_bytes());
    frame[33..65].copy_from_slice(key.public().as_bytes());
    frame[65..].copy_from_slice(signature.as_bytes());
    frame
}

/// Checks the peer's frame and returns its proven author key.
pub(crate) fn open(
    frame: &[u8; FRAME_BYTES],
    mesh: &MeshId,
    peer_side: Side,
    peer: &SpiffeId,
    exporter: &[u8; 32],
) -> Result<PublicKey, AdmissionError> {
    opened(frame, mesh, DOMAIN, &statement(mesh, peer_side, Some(peer), exporter))
}

/// Checks the peer's frame on the data lane and returns its proven author key.
pub(crate) fn open_data(
    frame: &[u8; FRAME_BYTES],
    mesh: &MeshId,
    peer_side: Side,
    exporter: &[u8; 32],
) -> Result<PublicKey, AdmissionError> {
    opened(frame, mesh, DATA_DOMAIN, &statement(mesh, peer_side, None, exporter))
}

fn opened(
    frame: &[u8; FRAME_BYTES],
    mesh: &MeshId,
    domain: &str,
    statement: &[u8],
) -> Result<PublicKey, AdmissionError> {
    let (version, rest) = (frame[0], &frame[1..]);
    if version != VERSION {
        return Err(AdmissionError::Version(version));
    }
    let (theirs, rest) = rest.split_first_chunk::<32>().ok_or(AdmissionError::Damaged)?;
    let (key, rest) = rest.split_first_chunk::<32>().ok_or(AdmissionError::Damaged)?;
    let signature = <[u8; 64]>::try_from(rest).map_err(|_| AdmissionError::Damaged)?;
    let theirs = MeshId::from_bytes(*theirs);
    if theirs != *mesh {
        return Err(AdmissionError::OtherMesh { theirs, ours: *mesh });
    }
    let key = PublicKey::from_bytes(*key);
    // A small-order key verifies one signature for every message: it would prove nothing.
    if key.is_weak() {
        return Err(AdmissionError::WeakKey);
    }
    key.verify(domain, statement, &Signature::from_bytes(signature)).map_err(|_| AdmissionError::Proof)?;
    Ok(key)
}

fn statement(mesh: &MeshId, side: Side, id: Option<&SpiffeId>, exporter: &[u8; 32]) -> Vec<u8> {
    let role = [match side {
        Side::Dialer => 0u8,
        Side::Listener => 1,
    }];
    let id = id.map(ToString::to_string).unwrap_or_default();
    [&exporter[..], mesh.as_bytes(), &role, id.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_holds_for_its_own_session_mesh_side_and_name_only() {
        let key = AuthorKey::from_seed(&[1; 32]);
        let (mesh, other) = (MeshId::of("t", b"a"), MeshId::of("t", b"b"));
        let id = |s: &str| SpiffeId::new(s).expect(s);
        let (me, you) = (id("spiffe://a.test/coordinator/x"), id("spiffe://a.test/coordinator/y"));
        let frame = seal(&key, &mesh, Side::Dialer, &me, &[9; 32]);
        assert_eq!(open(&frame, &mesh, Side::Dialer, &me, &[9; 32]), Ok(key.public()));

        assert_eq!(open(&frame, &mesh, Side::Dialer, &me, &[8; 32]), Err(AdmissionError::Proof));
        assert_eq!(open(&frame, &mesh, Side::Listener, &me, &[9; 32]), Err(AdmissionError::Proof));
        assert_eq!(open(&frame, &mesh, Side::Dialer, &you, &[9; 32]), Err(AdmissionError::Proof));
        let foreign = open(&frame, &other, Side::Dialer, &me, &[9; 32]);
        assert_eq!(foreign, Err(AdmissionError::OtherMesh { theirs: mesh, ours: other }));

        assert_eq!(open_data(&frame, &mesh, Side::Dialer, &[9; 32]), Err(AdmissionError::Proof), "another lane");
        let data = seal_data(&key, &mesh, Side::Dialer, &[9; 32]);
        assert_eq!(open_data(&data, &mesh, Side::Dialer, &[9; 32]), Ok(key.public()));
        assert_eq!(open_data(&data, &mesh, Side::Dialer, &[8; 32]), Err(AdmissionError::Proof));
        assert_eq!(open_data(&data, &mesh, Side::Listener, &[9; 32]), Err(AdmissionError::Proof));
        assert_eq!(open(&data, &mesh, Side::Dialer, &me, &[9; 32]), Err(AdmissionError::Proof));

        for at in 0..FRAME_BYTES {
            let mut bad = frame;
            bad[at] ^= 1;
            assert!(open(&bad, &mesh, Side::Dialer, &me, &[9; 32]).is_err(), "byte {at}");
        }
    }

    #[test]
    fn the_identity_point_proves_nothing() {
        let mesh = MeshId::of("t", b"a");
        let me = SpiffeId::new("spiffe://a.test/coordinator/x").expect("an id");
        let mut frame = [0; FRAME_BYTES];
        frame[0] = VERSION;
        frame[1..33].copy_from_slice(mesh.as_bytes());
        frame[33] = 1;
        frame[65] = 1;
        assert_eq!(open(&frame, &mesh, Side::Dialer, &me, &[0; 32]), Err(AdmissionError::WeakKey));
    }
}
