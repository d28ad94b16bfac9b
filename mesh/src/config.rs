//! How a mesh is started, and what it reports.

use std::net::SocketAddr;
use std::sync::Arc;

use cauldron_identity::{AuthorKey, MeshId, PublicKey, SpiffeId};
use tokio::sync::mpsc;

use crate::admission::Version;
use crate::code::CloseCode;
use crate::counters::Counters;
use crate::driver::Driver;
use crate::enrol::EnrolRequest;
use crate::handle::MeshHandle;
use crate::hello::{Features, ProcessNonce};
use crate::limits::{CONNECTIONS_MAX_EDGE, LISTEN_ADDRESSES_MAX, RECEIVED_FRAMES_MAX};
use crate::net::{Net, RealNet};
use crate::source::SvidSource;
use crate::tls::PostQuantum;
use crate::transport::Shared;

/// Asks the authority chain, as it stands at that moment.
type NameOf = dyn Fn(&PublicKey) -> Option<SpiffeId> + Send + Sync;

/// Names the SPIFFE ID under which an author key is enrolled and not cut; nothing for any other key.
#[derive(Clone)]
pub struct Enrolled(Arc<NameOf>);

impl Enrolled {
    /// Wraps the question.
    pub fn new(name_of: impl Fn(&PublicKey) -> Option<SpiffeId> + Send + Sync + 'static) -> Self {
        Self(Arc::new(name_of))
    }

    pub(crate) fn name_of(&self, author: &PublicKey) -> Option<SpiffeId> {
        (self.0)(author)
    }
}

impl std::fmt::Debug for Enrolled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Enrolled")
    }
}

/// Versions of the mesh lane that a node speaks.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Versions(pub(crate) &'static [Version]);

impl Default for Versions {
    fn default() -> Self {
        Self(Version::ALL)
    }
}

/// What a node's side of the mesh needs.
#[derive(Debug)]
pub struct MeshConfig {
    /// UDP addresses to listen on, and to dial from, one socket each; at least one. Port 0 takes any free one; a wildcard
    /// address follows the interfaces of its family.
    pub listen: Vec<SocketAddr>,
    /// Which mesh this is; peers of another one are refused.
    pub mesh_id: MeshId,
    /// The node's long-lived author key, proven on every connection.
    pub author: Arc<AuthorKey>,
    /// The node's SVID and whom it trusts.
    pub source: Arc<SvidSource>,
    /// `host:port` of peers to stay connected with.
    pub peers: Vec<String>,
    /// Connections in all; see [`crate::limits`] for the two usual values.
    pub connections_max: usize,
    /// Who is enrolled, for the data lane; `None` turns it away.
    pub enrolled: Option<Enrolled>,
    /// Where enrolment requests go; `None` turns the lane away.
    pub enrol: Option<mpsc::Sender<EnrolRequest>>,
    /// Whether circuits between other peers are carried, within [`crate::limits`].
    pub relay: bool,
    /// Whether peers without a post-quantum key exchange are let in.
    pub post_quantum: PostQuantum,
    /// Which process this is; drawn by [`MeshConfig::new`].
    pub process: ProcessNonce,
    /// What peers are told that this node can do; bits that the node's core defines are its own.
    pub features: Features,
    /// Sockets and interfaces.
    pub net: Arc<dyn Net>,
    /// For tests of neighbouring versions.
    #[doc(hidden)]
    pub versions: Versions,
}

impl MeshConfig {
    /// An edge node that dials nobody and enrols nobody, on the machine's own network.
    #[must_use]
    pub fn new(listen: SocketAddr, mesh_id: MeshId, author: Arc<AuthorKey>, source: Arc<SvidSource>) -> Self {
        Self::on(vec![listen], mesh_id, author, source)
    }

    /// The same, on several addresses.
    #[must_use]
    pub fn on(listen: Vec<SocketAddr>, mesh_id: MeshId, author: Arc<AuthorKey>, source: Arc<SvidSource>) -> Self {
        Self {
            listen,
            mesh_id,
            author,
            source,
            peers: Vec::new(),
            connections_max: CONNECTIONS_MAX_EDGE,
            enrolled: None,
            enrol: None,
            relay: false,
            post_quantum: PostQuantum::default(),
            process: ProcessNonce::draw(),
            features: Features::NONE,
            net: Arc::new(RealNet),
            versions: Versions::default(),
        }
    }
}

/// Why the mesh cannot start.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// The UDP address is taken, or not ours.
    #[error("cannot listen on UDP {address}: {reason}")]
    Listen {
        /// The address from the configuration.
        address: SocketAddr,
        /// The system's words.
        reason: String,
    },
    /// No address to listen on, or too many.
    #[error("a node listens on 1 to {LISTEN_ADDRESSES_MAX} UDP addresses, {0} are given")]
    Addresses(usize),
}

/// How the packets of a link travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LinkPath {
    /// Between our sockets and the peer's.
    Direct,
    /// Through a relay, which carries TLS that it cannot read.
    Relayed,
}

/// Which side opened a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The peer dialled us.
    Inbound,
    /// We dialled.
    Outbound,
}

/// What happened, in order. Frames of a link come after its `LinkUp` and never after its `LinkDown`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MeshEvent {
    /// The node is reachable at this address.
    Listening(SocketAddr),
    /// A peer is connected.
    LinkUp {
        /// Number of the link, never used again.
        link: u64,
        /// Who the peer's SVID says it is.
        spiffe_id: SpiffeId,
        /// The author key it has proven to hold; not yet judged.
        author: PublicKey,
        /// When its SVID runs out, Unix seconds; the connection ends within 60 s of it.
        svid_not_after_s: u64,
        /// Where it is; of a relayed link, where its relay is.
        remote_addr: SocketAddr,
        /// Whether we dialled.
        dialer: bool,
        /// How its packets travel.
        path: LinkPath,
        /// What the peer says it can do; nothing where its version has no room for it.
        features: Features,
    },
    /// A peer is connected on the data lane: its author key is enrolled, and it may exchange facts and nothing else.
    DataLinkUp {
        /// Number of the link, never used again.
        link: u64,
        /// Under which name the key is enrolled.
        spiffe_id: SpiffeId,
        /// The author key it has proven to hold.
        author: PublicKey,
        /// Where it is.
        remote_addr: SocketAddr,
        /// Whether we dialled.
        dialer: bool,
    },
    /// The peer is gone, or was sent away.
    LinkDown {
        /// Number of the link.
        link: u64,
        /// Why, for people.
        reason: String,
    },
    /// What [`MeshHandle::seek`] asked came to nothing.
    DialFailed {
        /// Whom it was to reach.
        spiffe_id: SpiffeId,
    },
    /// One whole frame.
    Frame {
        /// The link it came over.
        link: u64,
        /// Its content, 1 byte to 320 KiB, not looked at.
        bytes: Vec<u8>,
    },
    /// QUIC has taken frames of a link: they cannot be overtaken any more, and there is room for others.
    Drained {
        /// The link.
        link: u64,
        /// Bytes of whole frames, in the order in which they were sent.
        bytes: usize,
    },
    /// Something came over these links, were it an acknowledgement; about once a second.
    Heard {
        /// Their numbers.
        links: Vec<u64>,
        /// When at the earliest.
        since: std::time::Instant,
    },
    /// A connection did not come about.
    Refused {
        /// Who dialled.
        direction: Direction,
        /// The other end, as far as UDP says.
        remote: SocketAddr,
        /// Why, in a sentence that stays on this node.
        reason: String,
        /// What was counted.
        code: CloseCode,
    },
}

/// The mesh of one node.
#[derive(Debug)]
pub struct Mesh;

impl Mesh {
    /// Opens the port and starts the task that owns the connections. It stops when [`MeshHandle::shutdown`] is called, all
    /// handles are dropped, or the events' receiver is. Needs a tokio runtime with time and IO.
    ///
    /// # Errors
    /// [`MeshError::Listen`] when a UDP address cannot be opened, [`MeshError::Addresses`] for none or too many.
    pub fn start(config: MeshConfig) -> Result<(MeshHandle, mpsc::Receiver<MeshEvent>), MeshError> {
        let (listen, peers) = (config.listen.clone(), config.peers.clone());
        if listen.is_empty() || listen.len() > LISTEN_ADDRESSES_MAX {
            return Err(MeshError::Addresses(listen.len()));
        }
        let counters = Arc::new(Counters::default());
        let shared = Shared::new(config, counters.clone());
        let (events, receiver) = mpsc::channel(RECEIVED_FRAMES_MAX);
        let (handle, commands, outboxes) = MeshHandle::new(counters);
        let mut driver = Driver::new(shared, events, commands, outboxes);
        for address in listen {
            driver.listen(address)?;
        }
        for peer in peers {
            driver.add_target(peer);
        }
        tokio::spawn(driver.run());
        Ok((handle, receiver))
    }
}
