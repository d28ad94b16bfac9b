//! The libp2p name of a SPIFFE ID.
//!
//! A `PeerId` is the id of a *synthetic* Ed25519 public key: a curve point found by hashing the SPIFFE ID. Nobody holds its
//! private key and nothing is ever signed with it; stock libp2p behaviours (identify, AutoNAT, DCUtR) accept it as the id
//! of a key. What makes it unforgeable is the SVID in the TLS handshake, from which the transport computes it.

use cauldron_identity::SpiffeId;
use cauldron_identity::ids::domain_hash;
use libp2p::PeerId;
use libp2p::identity::{PublicKey, ed25519};

/// The synthetic key of a SPIFFE ID, by hash and try: every second hash is a point.
pub(crate) fn synthetic_key_of(id: &SpiffeId) -> PublicKey {
    synthetic("cauldron/peer-id/v1", id)
}

fn synthetic(domain: &str, id: &SpiffeId) -> PublicKey {
    let id = id.to_string();
    for attempt in 0u32.. {
        let input = [&attempt.to_be_bytes()[..], id.as_bytes()].concat();
        if let Ok(key) = ed25519::PublicKey::try_from_bytes(&domain_hash(domain, &input)) {
            return key.into();
        }
    }
    unreachable!("2^32 hashes in a row that are no curve point")
}

/// The `PeerId` under which the same peer stands on the data lane: a link of its own, with less to say.
pub(crate) fn data_peer_id_of(id: &SpiffeId) -> PeerId {
    synthetic("cauldron/data-peer-id/v1", id).to_peer_id()
}

/// The `PeerId` of a SPIFFE ID: a pure function, so everyone can compute it from the name.
pub(crate) fn peer_id_of(id: &SpiffeId) -> PeerId {
    synthetic_key_of(id).to_peer_id()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_ids_are_stable_and_distinct() {
        let peer = |s: &str| peer_id_of(&SpiffeId::new(s).expect(s)).to_string();
        let hq = peer("spiffe://demo.cauldron.internal/coordinator/hq");
        assert_eq!(hq, peer("spiffe://demo.cauldron.internal/coordinator/hq"));
        assert_ne!(hq, peer("spiffe://demo.cauldron.internal/site/lyon/node/lyon"));
        assert!(hq.starts_with("12D3Koo"), "{hq}");
    }
}
