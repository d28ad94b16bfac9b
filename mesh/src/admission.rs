//! The first thing on a mesh connection: each side proves its author key over this very TLS session.
//!
//! An SVID opens the door, the author key opens the scopes, so a stolen certificate authority reads nothing. The dialer
//! speaks first, the listener answers only after it has checked and registered the dialer: so a dialer that reads a valid
//! answer knows that it is in (in TLS 1.3 the handshake alone does not say so).
//!
//! The frame, one per direction on the first unidirectional stream. Which version is spoken is agreed by ALPN:
//! - `cauldron-mesh/1`, 129 bytes: `1 ‖ mesh id (32) ‖ author public key (32) ‖ signature (64)`, the signature over
//!   `exporter (32) ‖ mesh id (32) ‖ role (1) ‖ own SPIFFE ID`;
//! - `cauldron-mesh/2`, 153 bytes: `2 ‖ mesh id (32) ‖ author public key (32) ‖ process nonce (16) ‖ features (8) ‖
//!   signature (64)`, the signature over `exporter (32) ‖ mesh id (32) ‖ role (1) ‖ own SPIFFE ID ‖ process nonce (16) ‖
//!   features (8)`, in a domain of its own.
//!
//! The exporter is RFC 8446 §7.5 with label `cauldron-admission`.
//!
//! On the data lane the frame of version 1 is the whole proof, in a domain of its own (`cauldron/data/v1`, exporter label
//! `cauldron-data`) and without a SPIFFE ID: there no certificate counts, so the enrolment alone says who the key is.

use cauldron_identity::{AuthorKey, MeshId, PublicKey, Signature, SpiffeId};

use crate::hello::{Features, ProcessNonce};
use crate::limits::PROCESS_NONCE_BYTES;

/// Label of the TLS exporter.
pub(crate) const EXPORTER_LABEL: &[u8] = b"cauldron-admission";
/// Label of the TLS exporter on the data lane.
pub(crate) const DATA_EXPORTER_LABEL: &[u8] = b"cauldron-data";

const HEAD_BYTES: usize = 1 + 32 + 32;
const FEATURES_BYTES: usize = 8;
const SIGNATURE_BYTES: usize = 64;

/// A version of the mesh lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2,
}

impl Version {
    /// What this build speaks, the preferred one first: the newest and the one before it.
    pub(crate) const ALL: &'static [Self] = &[Self::V2, Self::V1];

    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }

    pub(crate) const fn alpn(self) -> &'static [u8] {
        match self {
            Self::V1 => b"cauldron-mesh/1",
            Self::V2 => b"cauldron-mesh/2",
        }
    }

    /// Bytes of the frame.
    pub(crate) const fn frame_bytes(self) -> usize {
        let said = match self {
            Self::V1 => 0,
            Self::V2 => PROCESS_NONCE_BYTES + FEATURES_BYTES,
        };
        HEAD_BYTES + said + SIGNATURE_BYTES
    }

    const fn domain(self) -> &'static str {
        match self {
            Self::V1 => "cauldron/admission/v1",
            Self::V2 => "cauldron/admission/v2",
        }
    }
}

/// On which lane a frame is exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane<'a> {
    /// The name is that of whoever signs.
    Mesh(Version, &'a SpiffeId),
    Data,
}

impl Lane<'_> {
    pub(crate) const fn frame_bytes(self) -> usize {
        self.version().frame_bytes()
    }

    const fn version(self) -> Version {
        match self {
            Self::Mesh(version, _) => version,
            Self::Data => Version::V1,
        }
    }

    const fn domain(self) -> &'static str {
        match self {
            Self::Mesh(version, _) => version.domain(),
            Self::Data => "cauldron/data/v1",
        }
    }
}

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

/// What a node says of its process; versions before 2 have no room for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) nonce: ProcessNonce,
    pub(crate) features: Features,
}

/// What a frame proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) author: PublicKey,
    /// None from a peer of version 1, and on the data lane.
    pub(crate) process: Option<Process>,
}

/// Why a peer's admission frame is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum AdmissionError {
    #[error("its admission frame is damaged or cut off")]
    Damaged,
    #[error("its admission frame has version {frame} on a connection of version {lane}")]
    Version { frame: u8, lane: u8 },
    #[error("it belongs to mesh {theirs}, we belong to mesh {ours}")]
    OtherMesh { theirs: MeshId, ours: MeshId },
    #[error("its author key is weak")]
    WeakKey,
    #[error("its proof of the author key does not verify for this connection")]
    Proof,
}

/// Makes our frame.
pub(crate) fn seal(
    lane: Lane<'_>,
    key: &AuthorKey,
    process: &Process,
    mesh: &MeshId,
    side: Side,
    exporter: &[u8; 32],
) -> Vec<u8> {
    let said = match lane.version() {
        Version::V1 => Vec::new(),
        Version::V2 => [&process.nonce.as_bytes()[..], &process.features.0.to_be_bytes()].concat(),
    };
    let signature = key.sign(lane.domain(), &statement(lane, mesh, side, &said, exporter));
    let version = [lane.version().number()];
    [&version[..], mesh.as_bytes(), key.public().as_bytes(), &said, signature.as_bytes()].concat()
}

/// Checks the peer's frame and returns what it proved.
pub(crate) fn open(
    lane: Lane<'_>,
    frame: &[u8],
    mesh: &MeshId,
    peer_side: Side,
    exporter: &[u8; 32],
) -> Result<Hello, AdmissionError> {
    let damaged = || AdmissionError::Damaged;
    let (frame_version, rest) = frame.split_first().ok_or_else(damaged)?;
    let wanted = lane.version().number();
    if *frame_version != wanted {
        return Err(AdmissionError::Version { frame: *frame_version, lane: wanted });
    }
    let (theirs, rest) = rest.split_first_chunk::<32>().ok_or_else(damaged)?;
    let (key, rest) = rest.split_first_chunk::<32>().ok_or_else(damaged)?;
    let (said, signature) = rest.split_last_chunk::<SIGNATURE_BYTES>().ok_or_else(damaged)?;
    let process = match lane.version() {
        Version::V1 if said.is_empty() => None,
        Version::V1 => return Err(damaged()),
        Version::V2 => Some(process(said).ok_or_else(damaged)?),
    };
    let theirs = MeshId::from_bytes(*theirs);
    if theirs != *mesh {
        return Err(AdmissionError::OtherMesh { theirs, ours: *mesh });
    }
    let author = PublicKey::from_bytes(*key);
    // A small-order key verifies one signature for every message: it would prove nothing.
    if author.is_weak() {
        return Err(AdmissionError::WeakKey);
    }
    let statement = statement(lane, mesh, peer_side, said, exporter);
    let signature = Signature::from_bytes(*signature);
    author.verify(lane.domain(), &statement, &signature).map_err(|_| AdmissionError::Proof)?;
    Ok(Hello { author, process })
}

fn process(said: &[u8]) -> Option<Process> {
    let (nonce, features) = said.split_first_chunk::<PROCESS_NONCE_BYTES>()?;
    let features = u64::from_be_bytes(features.try_into().ok()?);
    Some(Process { nonce: ProcessNonce::from_bytes(*nonce), features: Features(features) })
}

/// The name is the only part of unknown length, and what stands behind it has a length of its own per domain: no two
/// statements read the same.
fn statement(lane: Lane<'_>, mesh: &MeshId, side: Side, said: &[u8], exporter: &[u8; 32]) -> Vec<u8> {
    let role = [match side {
        Side::Dialer => 0u8,
        Side::Listener => 1,
    }];
    let id = match lane {
        Lane::Mesh(_, id) => id.to_string(),
        Lane::Data => String::new(),
    };
    [&exporter[..], mesh.as_bytes(), &role, id.as_bytes(), said].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Process = Process { nonce: ProcessNonce::from_bytes([7; 16]), features: Features(1 << 63) };

    fn id(text: &str) -> SpiffeId {
        SpiffeId::new(text).expect(text)
    }

    #[test]
    fn a_proof_holds_for_its_own_session_mesh_side_name_version_and_lane_only() {
        let key = AuthorKey::from_seed(&[1; 32]);
        let (mesh, other) = (MeshId::of("t", b"a"), MeshId::of("t", b"b"));
        let (me, you) = (id("spiffe://a.test/coordinator/x"), id("spiffe://a.test/coordinator/y"));
        let lanes = [Lane::Mesh(Version::V1, &me), Lane::Mesh(Version::V2, &me), Lane::Data];
        for lane in lanes {
            let frame = seal(lane, &key, &US, &mesh, Side::Dialer, &[9; 32]);
            assert_eq!(frame.len(), lane.frame_bytes());
            let said = matches!(lane, Lane::Mesh(Version::V2, _)).then_some(US);
            let hello = Hello { author: key.public(), process: said };
            assert_eq!(open(lane, &frame, &mesh, Side::Dialer, &[9; 32]), Ok(hello));

            assert_eq!(open(lane, &frame, &mesh, Side::Dialer, &[8; 32]), Err(AdmissionError::Proof));
            assert_eq!(open(lane, &frame, &mesh, Side::Listener, &[9; 32]), Err(AdmissionError::Proof));
            let foreign = open(lane, &frame, &other, Side::Dialer, &[9; 32]);
            assert_eq!(foreign, Err(AdmissionError::OtherMesh { theirs: mesh, ours: other }));
            if let Lane::Mesh(version, _) = lane {
                let of_another = open(Lane::Mesh(version, &you), &frame, &mesh, Side::Dialer, &[9; 32]);
                assert_eq!(of_another, Err(AdmissionError::Proof));
            }
            for elsewhere in lanes.into_iter().filter(|l| *l != lane) {
                assert!(open(elsewhere, &frame, &mesh, Side::Dialer, &[9; 32]).is_err(), "{lane:?} {elsewhere:?}");
            }
            for at in 0..frame.len() {
                let mut bad = frame.clone();
                bad[at] ^= 1;
                assert!(open(lane, &bad, &mesh, Side::Dialer, &[9; 32]).is_err(), "byte {at}");
                assert!(open(lane, &frame[..at], &mesh, Side::Dialer, &[9; 32]).is_err(), "{at} bytes");
            }
            let longer = [&frame[..], &[0]].concat();
            assert!(open(lane, &longer, &mesh, Side::Dialer, &[9; 32]).is_err());
        }
    }

    #[test]
    fn the_identity_point_proves_nothing() {
        let mesh = MeshId::of("t", b"a");
        let me = id("spiffe://a.test/coordinator/x");
        for version in Version::ALL {
            let mut frame = vec![0; version.frame_bytes()];
            frame[0] = version.number();
            frame[1..33].copy_from_slice(mesh.as_bytes());
            frame[33] = 1;
            let signature = frame.len() - SIGNATURE_BYTES;
            frame[signature] = 1;
            let opened = open(Lane::Mesh(*version, &me), &frame, &mesh, Side::Dialer, &[0; 32]);
            assert_eq!(opened, Err(AdmissionError::WeakKey));
        }
    }
}
