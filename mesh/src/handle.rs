//! What the node holds of the running mesh.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cauldron_identity::{PublicKey, SpiffeId};
use tokio::sync::{mpsc, oneshot};

use crate::code::CloseCode;
use crate::config::LinkPath;
use crate::counters::Counters;
use crate::hello::Features;
use crate::link::{Outbox, SendError};

/// A cheap handle on the mesh; every method returns at once or waits for the mesh's own task only.
#[derive(Debug, Clone)]
pub struct MeshHandle {
    // Not bounded: only our own node writes here, and one command per decision of it.
    commands: mpsc::UnboundedSender<Command>,
    outboxes: Outboxes,
    counters: Arc<Counters>,
}

pub(crate) enum Command {
    Dial(String),
    Seek { spiffe_id: SpiffeId, addresses: Vec<String> },
    DialThrough { relay: SpiffeId, target: SpiffeId },
    Reserve(SpiffeId),
    Close { link: u64, code: CloseCode, reason: String },
    Status(oneshot::Sender<MeshStatus>),
    Shutdown(oneshot::Sender<()>),
}

/// The state of the mesh at one moment.
#[derive(Debug, Clone, Default)]
pub struct MeshStatus {
    /// Addresses the node listens on.
    pub listening: Vec<SocketAddr>,
    /// Links that are up.
    pub links: Vec<LinkStatus>,
    /// Configured peers.
    pub targets: Vec<TargetStatus>,
    /// Relays through which this node wants to be reached.
    pub reservations: Vec<ReservationStatus>,
}

/// One relay that keeps a way open to this node, or should.
#[derive(Debug, Clone)]
pub struct ReservationStatus {
    /// The relay.
    pub relay: SpiffeId,
    /// Whether others reach this node through it now.
    pub held: bool,
    /// What went wrong last, in a sentence; `None` while it is held.
    pub last_error: Option<String>,
}

/// One link.
#[derive(Debug, Clone)]
pub struct LinkStatus {
    /// Its number.
    pub link: u64,
    /// The peer.
    pub spiffe_id: SpiffeId,
    /// The author key the peer has proven.
    pub author: PublicKey,
    /// When the peer's SVID runs out, Unix seconds; none on the data lane, where no SVID counts.
    pub svid_not_after_s: Option<u64>,
    /// Version of the lane that both ends speak.
    pub version: u8,
    /// What the peer says it can do; nothing where its version has no room for it.
    pub features: Features,
    /// Where the peer is now: it moves when the peer's address changes under a live connection. Of a relayed link, where its
    /// relay is.
    pub remote_addr: SocketAddr,
    /// How its packets travel.
    pub path: LinkPath,
    /// Whether we dialled.
    pub dialer: bool,
    /// Connections behind the link.
    pub connections: usize,
    /// Best round trip in milliseconds.
    pub rtt_ms: u64,
    /// Packets sent on the direct connections that live now; what a circuit loses its relay's links repair.
    pub packets_sent: u64,
    /// How many of these QUIC holds to be lost.
    pub packets_lost: u64,
    /// UDP payload sent on the connections that live now; of a circuit, TLS records.
    pub bytes_out: u64,
    /// The same, received.
    pub bytes_in: u64,
    /// Frames waiting to be written.
    pub queued_frames: usize,
    /// Bytes waiting to be written.
    pub queued_bytes: usize,
}

/// One configured peer address.
#[derive(Debug, Clone)]
pub struct TargetStatus {
    /// `host:port` as given, or `<SPIFFE ID> via <SPIFFE ID of the relay>`.
    pub address: String,
    /// Whether a link stands behind it.
    pub up: bool,
    /// What went wrong last, in a sentence; `None` while it is up.
    pub last_error: Option<String>,
    /// When it is dialled next.
    pub next_dial_in_ms: Option<u64>,
}

impl MeshHandle {
    pub(crate) fn new(counters: Arc<Counters>) -> (Self, mpsc::UnboundedReceiver<Command>, Outboxes) {
        let (commands, receiver) = mpsc::unbounded_channel();
        let outboxes = Outboxes::default();
        (Self { commands, outboxes: outboxes.clone(), counters }, receiver, outboxes)
    }

    /// Stays connected with `address` (`host:port`) from now on: names are looked up anew at every try, failures wait
    /// longer up to 30 s and are kept as [`TargetStatus::last_error`].
    pub fn dial(&self, address: impl Into<String>) {
        self.command(Command::Dial(address.into()));
    }

    /// Tries once to reach a member at `addresses`, one after the other; whoever else answers there is refused. An address is
    /// `host:port`, or `via <SPIFFE ID>` of a relay that keeps a way open to it ([`MeshHandle::reserve`]).
    /// Ends in a [`MeshEvent::LinkUp`](crate::MeshEvent::LinkUp) or in [`MeshEvent::DialFailed`](crate::MeshEvent::DialFailed).
    pub fn seek(&self, spiffe_id: SpiffeId, addresses: Vec<String>) {
        self.command(Command::Seek { spiffe_id, addresses });
    }

    /// Stays connected with `target` through `relay` from now on, which must be a peer on a direct link that carries
    /// circuits and that `target` can be reached through ([`MeshHandle::reserve`]). Rests while there is any link to `target`.
    pub fn dial_through(&self, relay: SpiffeId, target: SpiffeId) {
        self.command(Command::DialThrough { relay, target });
    }

    /// Can be reached through `relay` from now on, whenever there is a direct link to it. Both ends of a circuit then try to
    /// come to a direct connection, which takes the link over: [`MeshEvent::LinkDown`], and at once a new `LinkUp`.
    ///
    /// [`MeshEvent::LinkDown`]: crate::MeshEvent::LinkDown
    pub fn reserve(&self, relay: SpiffeId) {
        self.command(Command::Reserve(relay));
    }

    /// Queues one frame for a link.
    ///
    /// # Errors
    /// [`SendError::QueueFull`] also closes the link, counted as [`CloseCode::QueueFull`]; others are not touched.
    pub fn send(&self, link: u64, frame: Vec<u8>) -> Result<(), SendError> {
        let Some(outbox) = self.outboxes.get(link) else { return Err(SendError::LinkDown) };
        self.queued(link, outbox.push(frame))
    }

    /// Queues one frame for a link when there is room: what a producer of much calls, which would fill the queue otherwise.
    ///
    /// Frames that wait together hold at most [`crate::limits::SEND_QUEUE_PACED_BYTES_MAX`] of the queue, and get in in the order
    /// of the calls. One whose future is dropped while it waits was not sent.
    ///
    /// # Errors
    /// As [`MeshHandle::send`]; the queue is full only if others fill it without waiting.
    pub async fn send_paced(&self, link: u64, frame: Vec<u8>) -> Result<(), SendError> {
        let Some(outbox) = self.outboxes.get(link) else { return Err(SendError::LinkDown) };
        self.queued(link, outbox.push_paced(frame).await)
    }

    fn queued(&self, link: u64, result: Result<(), SendError>) -> Result<(), SendError> {
        // Whoever takes the outbox away reports the overflow: once per link.
        if result == Err(SendError::QueueFull) && self.outboxes.remove(link) {
            let reason = "its queue is full: the peer reads too slowly".to_owned();
            self.command(Command::Close { link, code: CloseCode::QueueFull, reason });
        }
        result
    }

    /// Ends a link. The peer reads code and reason (up to 128 bytes of it).
    pub fn close(&self, link: u64, code: CloseCode, reason: impl Into<String>) {
        self.outboxes.remove(link);
        self.command(Command::Close { link, code, reason: reason.into() });
    }

    /// Listening addresses, links and configured peers, now. Empty once the mesh has stopped.
    pub async fn status(&self) -> MeshStatus {
        let (tx, rx) = oneshot::channel();
        self.command(Command::Status(tx));
        rx.await.unwrap_or_default()
    }

    /// Addresses the node listens on.
    pub async fn listen_addrs(&self) -> Vec<SocketAddr> {
        self.status().await.listening
    }

    /// Counters for `/metrics`.
    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Closes every connection with [`CloseCode::Shutdown`] and stops.
    pub async fn shutdown(&self) {
        let (tx, rx) = oneshot::channel();
        self.command(Command::Shutdown(tx));
        // An error means that it had stopped already.
        let _ = rx.await;
    }

    fn command(&self, command: Command) {
        // Fails only after the mesh has stopped; every reply channel is then dropped, which the caller sees.
        let _ = self.commands.send(command);
    }
}

/// The queues of the links that are up, shared by handles and the mesh's task.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outboxes(Arc<Mutex<BTreeMap<u64, Outbox>>>);

impl Outboxes {
    pub(crate) fn insert(&self, link: u64, outbox: Outbox) {
        self.lock().insert(link, outbox);
    }

    pub(crate) fn remove(&self, link: u64) -> bool {
        self.lock().remove(&link).is_some()
    }

    fn get(&self, link: u64) -> Option<Outbox> {
        self.lock().get(&link).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Outbox>> {
        // A map operation cannot leave it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
