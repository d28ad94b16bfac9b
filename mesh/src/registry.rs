//! Who is connected now: written before libp2p hears of a connection, cleared when its muxer goes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cauldron_identity::{PublicKey, SpiffeId};
use libp2p::PeerId;

use crate::code::CloseCode;
use crate::limits::{CLOSE_REASON_BYTES_MAX, CONNECTIONS_PER_PEER_MAX};
use crate::transport::EstablishError;

/// What the handshake and the admission frame proved about a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeerInfo {
    pub(crate) spiffe_id: SpiffeId,
    pub(crate) author: PublicKey,
    /// None on the data lane, where no SVID counts.
    pub(crate) svid_not_after_s: Option<u64>,
}

/// Why a proven peer gets no connection.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum RegistryError {
    #[error(
        "`{id}` is already connected with author key {known}, this one has {new}: a data directory was copied, or the \
         node was set up anew while the old one runs"
    )]
    KeyConflict { id: SpiffeId, known: String, new: String },
    #[error("`{0}` already has {CONNECTIONS_PER_PEER_MAX} connections")]
    PerPeer(SpiffeId),
    #[error("all {0} connections are taken")]
    Total(usize),
}

impl RegistryError {
    pub(crate) fn code(&self) -> CloseCode {
        match self {
            Self::KeyConflict { .. } => CloseCode::KeyConflict,
            Self::PerPeer(_) | Self::Total(_) => CloseCode::TooManyConnections,
        }
    }
}

/// All admitted connections, by peer.
#[derive(Debug)]
pub(crate) struct Registry {
    connections_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    peers: BTreeMap<PeerId, Vec<Live>>,
}

#[derive(Debug)]
struct Live {
    lease: u64,
    info: PeerInfo,
    connection: quinn::Connection,
    /// QUIC frames that had come when it was last looked.
    frames_in: u64,
}

/// How a peer is reached at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route {
    /// The best round trip.
    pub(crate) rtt: std::time::Duration,
    /// Where its packets come from now: behind a NAT that changes.
    pub(crate) remote: std::net::SocketAddr,
    /// How many connections there are.
    pub(crate) connections: usize,
}

impl Registry {
    pub(crate) fn new(connections_max: usize) -> Arc<Self> {
        Arc::new(Self { connections_max, inner: Mutex::default() })
    }

    /// Registers a connection while the lease lives.
    pub(crate) fn add(
        self: &Arc<Self>,
        peer: PeerId,
        info: PeerInfo,
        connection: quinn::Connection,
    ) -> Result<Lease, RegistryError> {
        let mut inner = self.lock();
        let total: usize = inner.peers.values().map(Vec::len).sum();
        let known = inner.peers.get(&peer).map_or(&[][..], Vec::as_slice);
        if let Some(other) = known.iter().find(|live| live.info.author != info.author) {
            let (known, new) = (other.info.author.author_id().short(), info.author.author_id().short());
            return Err(RegistryError::KeyConflict { id: info.spiffe_id, known, new });
        }
        if known.len() >= CONNECTIONS_PER_PEER_MAX {
            return Err(RegistryError::PerPeer(info.spiffe_id));
        }
        if total >= self.connections_max {
            return Err(RegistryError::Total(self.connections_max));
        }
        let lease = inner.next;
        inner.next += 1;
        inner.peers.entry(peer).or_default().push(Live { lease, info, connection, frames_in: 0 });
        Ok(Lease { registry: self.clone(), peer, lease })
    }

    /// What is known of a connected peer; the newest connection's SVID counts.
    pub(crate) fn info(&self, peer: &PeerId) -> Option<PeerInfo> {
        self.lock().peers.get(peer)?.last().map(|live| live.info.clone())
    }

    /// How a peer is reached; the connection with the best round trip says where it is.
    pub(crate) fn route(&self, peer: &PeerId) -> Option<Route> {
        let inner = self.lock();
        let live = inner.peers.get(peer)?;
        let best = live.iter().map(|l| &l.connection).min_by_key(|connection| connection.rtt())?;
        Some(Route { rtt: best.rtt(), remote: best.remote_address(), connections: live.len() })
    }

    /// Peers of which anything came since the last call: also what carries no content, so that a quiet peer is not taken for
    /// one that nobody has heard for long.
    pub(crate) fn heard(&self) -> Vec<PeerId> {
        let mut heard = Vec::new();
        for (peer, live) in &mut self.lock().peers {
            let mut any = false;
            for live in live {
                let frames_in = authenticated_frames(&live.connection.stats().frame_rx);
                any |= frames_in != live.frames_in;
                live.frames_in = frames_in;
            }
            heard.extend(any.then_some(*peer));
        }
        heard
    }

    /// Why a connection of this peer is over although its muxer is still here; `Some(None)` if we closed it ourselves.
    pub(crate) fn lost(&self, peer: &PeerId) -> Option<Option<String>> {
        let inner = self.lock();
        let Some(live) = inner.peers.get(peer) else { return Some(None) };
        let over = live.iter().find_map(|l| l.connection.close_reason())?;
        Some(match over {
            quinn::ConnectionError::LocallyClosed => None,
            error => Some(EstablishError::of(error, None).to_string()),
        })
    }

    /// Closes every connection of a peer with a code and a reason that it may read.
    pub(crate) fn close(&self, peer: &PeerId, code: CloseCode, reason: &str) {
        let mut end = reason.len().min(CLOSE_REASON_BYTES_MAX);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let reason = reason.get(..end).unwrap_or_default();
        for live in self.lock().peers.get(peer).into_iter().flatten() {
            live.connection.close(code.var_int(), reason.as_bytes());
        }
    }

    /// Closes everything, when the node stops.
    pub(crate) fn close_all(&self, code: CloseCode) {
        for live in self.lock().peers.values().flatten() {
            live.connection.close(code.var_int(), code.label().as_bytes());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in a critical section can leave the map half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every packet of a live peer brings one of these, and frames are counted once their packet has been decrypted: what
/// somebody else sends in its name does not count.
fn authenticated_frames(stats: &quinn::FrameStats) -> u64 {
    stats.acks + stats.ping + stats.stream + stats.crypto + stats.max_data + stats.max_stream_data
}

/// Keeps one connection registered; dropped with its muxer.
#[derive(Debug)]
pub(crate) struct Lease {
    registry: Arc<Registry>,
    peer: PeerId,
    lease: u64,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut inner = self.registry.lock();
        if let Some(live) = inner.peers.get_mut(&self.peer) {
            live.retain(|l| l.lease != self.lease);
            if live.is_empty() {
                inner.peers.remove(&self.peer);
            }
        }
    }
}
