//! Who is connected now: written before libp2p hears of a connection, cleared when its muxer goes.
//!
//! One identity is one process. Two connections whose peers name the same process stand side by side. Where another process
//! knocks with the identity of one that is connected, that one is asked first: if it answers, the later is turned away;
//! if it does not (it was killed, or its machine is gone), it is replaced, and its link goes down before the new one
//! comes up.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cauldron_identity::{PublicKey, SpiffeId};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use libp2p::PeerId;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::admission::Process;
use crate::code::CloseCode;
use crate::limits::{ALIVE_TIME_MAX, CLOSE_REASON_BYTES_MAX, CONNECTIONS_PER_PEER_MAX};

/// What the handshake and the admission frame proved about a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeerInfo {
    pub(crate) spiffe_id: SpiffeId,
    pub(crate) author: PublicKey,
    /// None on the data lane, where no SVID counts.
    pub(crate) svid_not_after_s: Option<u64>,
    /// Version of the lane.
    pub(crate) version: u8,
    /// None where the peer's version has no room for it.
    pub(crate) process: Option<Process>,
}

/// One connection, as far as the registry uses it.
pub(crate) trait Wire: Debug + Send + Sync {
    /// Ends the connection; the peer may read code and reason.
    fn close(&self, code: CloseCode, reason: &str);
    /// Where the other end is, as of now.
    fn remote(&self) -> SocketAddr;
    /// Whether it runs through a relay; `remote` is then the relay's.
    fn relayed(&self) -> bool;
    fn traffic(&self) -> Traffic;
    /// Grows with each thing that only the peer can have sent.
    fn signs_of_life(&self) -> u64;
    /// Has the connection keep little more than what is on its way; for wires that can.
    fn fit_send_window(&self) {}
    /// libp2p's ping took this long; for wires that cannot measure it themselves.
    fn pinged(&self, _rtt: Duration) {}
    /// Why it is over; the inner value is `None` if we ended it ourselves.
    fn over(&self) -> Option<Option<String>>;
    /// Resolves to whether the process at the other end answers; not before it does, and not in bounded time.
    fn answers(&self) -> BoxFuture<'static, bool>;
}

/// What one connection has carried, packets and UDP payload, and how long a round trip takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) rtt: Duration,
    pub(crate) packets_sent: u64,
    pub(crate) packets_lost: u64,
    pub(crate) bytes_out: u64,
    pub(crate) bytes_in: u64,
}

/// The connections of one peer together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path {
    /// Of the direct connection with the shortest round trip; of its relay where there is none.
    pub(crate) remote: SocketAddr,
    pub(crate) relayed: bool,
    pub(crate) connections: usize,
    /// Sums, but for the round trip, which is the shortest.
    pub(crate) traffic: Traffic,
}

/// Why a proven peer gets no connection.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum RegistryError {
    #[error(
        "`{id}` is already connected with author key {known}, this one has {new}: a data directory was copied, or the \
         node was set up anew while the old one runs"
    )]
    KeyConflict { id: SpiffeId, known: String, new: String },
    #[error(
        "`{0}` is already connected from another process, and that one answers: its data directory was copied and the \
         copy runs beside the original, or two processes run from one directory. The later one is turned away until the \
         first stops"
    )]
    SecondProcess(SpiffeId),
    #[error("`{0}` already has {CONNECTIONS_PER_PEER_MAX} connections")]
    PerPeer(SpiffeId),
    #[error("all {0} connections are taken")]
    Total(usize),
}

impl RegistryError {
    pub(crate) fn code(&self) -> CloseCode {
        match self {
            Self::KeyConflict { .. } => CloseCode::KeyConflict,
            Self::SecondProcess(_) => CloseCode::SecondProcess,
            Self::PerPeer(_) | Self::Total(_) => CloseCode::TooManyConnections,
        }
    }
}

/// All admitted connections, by peer.
#[derive(Debug)]
pub(crate) struct Registry {
    connections_max: usize,
    inner: Mutex<Inner>,
    /// A connection or a link went.
    gone: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    peers: BTreeMap<PeerId, Vec<Live>>,
    /// Peers whose link is up, or ends and was not reported down yet; with why, where the registry ended it.
    links: BTreeMap<PeerId, Option<String>>,
}

#[derive(Debug)]
struct Live {
    lease: u64,
    info: PeerInfo,
    wire: Arc<dyn Wire>,
    /// What had come when it was last looked.
    signs: u64,
}

enum Added {
    In(Lease),
    /// Another process of the same identity holds these.
    Rivals(Vec<Arc<dyn Wire>>),
}

impl Registry {
    pub(crate) fn new(connections_max: usize) -> Arc<Self> {
        Arc::new(Self { connections_max, inner: Mutex::default(), gone: Notify::new() })
    }

    /// Registers a connection while the lease lives. Takes up to [`ALIVE_TIME_MAX`] where another process holds the place.
    pub(crate) async fn admit(
        self: &Arc<Self>,
        peer: PeerId,
        info: PeerInfo,
        wire: Arc<dyn Wire>,
    ) -> Result<Lease, RegistryError> {
        loop {
            let rivals = match self.add(peer, &info, &wire)? {
                Added::In(lease) => return Ok(lease),
                Added::Rivals(rivals) => rivals,
            };
            if any_answers(&rivals).await {
                return Err(RegistryError::SecondProcess(info.spiffe_id));
            }
            tracing::warn!(
                peer = %info.spiffe_id, remote = %wire.remote(),
                "its process does not answer any more; another one takes its place"
            );
            self.replace(&peer, &rivals);
            self.until_gone(&peer).await;
        }
    }

    fn add(self: &Arc<Self>, peer: PeerId, info: &PeerInfo, wire: &Arc<dyn Wire>) -> Result<Added, RegistryError> {
        let mut inner = self.lock();
        let total: usize = inner.peers.values().map(Vec::len).sum();
        let known = inner.peers.get(&peer).map_or(&[][..], Vec::as_slice);
        if let Some(other) = known.iter().find(|live| live.info.author != info.author) {
            let (known, new) = (other.info.author.author_id().short(), info.author.author_id().short());
            return Err(RegistryError::KeyConflict { id: info.spiffe_id.clone(), known, new });
        }
        let nonce = |info: &PeerInfo| info.process.map(|process| process.nonce);
        let others = known.iter().filter(|live| nonce(&live.info) != nonce(info)).map(|live| live.wire.clone());
        let others: Vec<_> = others.collect();
        // The planted bug: a copy of a data directory runs beside its original.
        if !others.is_empty() && !cauldron_identity::planted::active("clone-let-in") {
            return Ok(Added::Rivals(others));
        }
        let of_this_kind = known.iter().filter(|live| live.wire.relayed() == wire.relayed()).count();
        if of_this_kind >= CONNECTIONS_PER_PEER_MAX {
            return Err(RegistryError::PerPeer(info.spiffe_id.clone()));
        }
        if total >= self.connections_max {
            return Err(RegistryError::Total(self.connections_max));
        }
        let lease = inner.next;
        inner.next += 1;
        inner.peers.entry(peer).or_default().push(Live { lease, info: info.clone(), wire: wire.clone(), signs: 0 });
        Ok(Added::In(Lease { registry: self.clone(), peer, lease }))
    }

    fn replace(&self, peer: &PeerId, rivals: &[Arc<dyn Wire>]) {
        let why = "its process did not answer any more, and another one with its identity took its place";
        if let Some(link) = self.lock().links.get_mut(peer) {
            *link = Some(format!("{}: {why}", CloseCode::Replaced));
        }
        for wire in rivals {
            wire.close(CloseCode::Replaced, "another process of this node took its place");
        }
    }

    async fn until_gone(&self, peer: &PeerId) {
        loop {
            let changed = self.gone.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            {
                let inner = self.lock();
                if !inner.peers.contains_key(peer) && !inner.links.contains_key(peer) {
                    return;
                }
            }
            changed.await;
        }
    }

    /// The driver reports a link to this peer.
    pub(crate) fn link_up(&self, peer: PeerId) {
        self.lock().links.insert(peer, None);
    }

    /// The driver has reported the link's end; returns why, if the registry ended it.
    pub(crate) fn link_down(&self, peer: &PeerId) -> Option<String> {
        let why = self.lock().links.remove(peer).flatten();
        self.gone.notify_waiters();
        why
    }

    /// What is known of a connected peer; the newest connection's SVID counts.
    pub(crate) fn info(&self, peer: &PeerId) -> Option<PeerInfo> {
        self.lock().peers.get(peer)?.last().map(|live| live.info.clone())
    }

    pub(crate) fn path(&self, peer: &PeerId) -> Option<Path> {
        let inner = self.lock();
        let live = inner.peers.get(peer)?;
        let each = || live.iter().map(|l| (l.wire.traffic(), &l.wire));
        let (best, wire) = each().min_by_key(|(traffic, wire)| (wire.relayed(), traffic.rtt))?;
        let traffic = each().map(|(traffic, _)| traffic).fold(Traffic::default(), |sum, one| Traffic {
            rtt: best.rtt,
            packets_sent: sum.packets_sent + one.packets_sent,
            packets_lost: sum.packets_lost + one.packets_lost,
            bytes_out: sum.bytes_out + one.bytes_out,
            bytes_in: sum.bytes_in + one.bytes_in,
        });
        Some(Path { remote: wire.remote(), relayed: wire.relayed(), connections: live.len(), traffic })
    }

    /// A ping of this peer came back.
    pub(crate) fn pinged(&self, peer: &PeerId, rtt: Duration) {
        for live in self.lock().peers.get(peer).into_iter().flatten() {
            live.wire.pinged(rtt);
        }
    }

    /// Fits what each connection keeps to how much its path carries.
    pub(crate) fn fit_send_windows(&self) {
        self.lock().peers.values().flatten().for_each(|live| live.wire.fit_send_window());
    }

    /// Whether a direct connection of this peer is there and not over.
    pub(crate) fn is_direct(&self, peer: &PeerId) -> bool {
        let direct = |live: &Live| !live.wire.relayed() && live.wire.over().is_none();
        self.lock().peers.get(peer).is_some_and(|live| live.iter().any(direct))
    }

    /// Closes a peer's relayed connections, because a direct one carries the link.
    pub(crate) fn close_relayed(&self, peer: &PeerId) {
        for live in self.lock().peers.get(peer).into_iter().flatten().filter(|live| live.wire.relayed()) {
            live.wire.close(CloseCode::Normal, CloseCode::Normal.label());
        }
    }

    /// Peers of which anything came since the last call: also what carries no content, so that a quiet peer is not taken for
    /// one that nobody has heard for long.
    pub(crate) fn heard(&self) -> Vec<PeerId> {
        let mut heard = Vec::new();
        for (peer, live) in &mut self.lock().peers {
            let mut any = false;
            for live in live {
                let signs = live.wire.signs_of_life();
                any |= std::mem::replace(&mut live.signs, signs) != signs;
            }
            heard.extend(any.then_some(*peer));
        }
        heard
    }

    /// Why a connection of this peer is over although its muxer is still here; `Some(None)` if we closed it ourselves.
    pub(crate) fn lost(&self, peer: &PeerId) -> Option<Option<String>> {
        let inner = self.lock();
        let Some(live) = inner.peers.get(peer) else { return Some(None) };
        live.iter().find_map(|l| l.wire.over())
    }

    /// Closes every connection of a peer with a code and a reason that it may read.
    pub(crate) fn close(&self, peer: &PeerId, code: CloseCode, reason: &str) {
        let mut end = reason.len().min(CLOSE_REASON_BYTES_MAX);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let reason = reason.get(..end).unwrap_or_default();
        for live in self.lock().peers.get(peer).into_iter().flatten() {
            live.wire.close(code, reason);
        }
    }

    /// Closes everything, when the node stops.
    pub(crate) fn close_all(&self, code: CloseCode) {
        for live in self.lock().peers.values().flatten() {
            live.wire.close(code, code.label());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in a critical section can leave the map half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether any of these connections answers within [`ALIVE_TIME_MAX`].
async fn any_answers(wires: &[Arc<dyn Wire>]) -> bool {
    let mut asked: FuturesUnordered<_> = wires.iter().map(|wire| wire.answers()).collect();
    let answered = async {
        while let Some(answered) = asked.next().await {
            if answered {
                return true;
            }
        }
        false
    };
    timeout(ALIVE_TIME_MAX, answered).await.unwrap_or(false)
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
        {
            let mut inner = self.registry.lock();
            if let Some(live) = inner.peers.get_mut(&self.peer) {
                live.retain(|l| l.lease != self.lease);
                if live.is_empty() {
                    inner.peers.remove(&self.peer);
                }
            }
        }
        self.registry.gone.notify_waiters();
    }
}
