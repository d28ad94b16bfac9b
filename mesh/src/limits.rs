//! Every bound a stranger or a peer meets, each with its reason. Source: the project's guarantees, section 4.

use std::time::Duration;

/// Handshakes in flight. One costs about 1 ms of CPU and some KiB; a flood of them must not grow memory.
pub const PENDING_HANDSHAKES_MAX: usize = 256;
/// Above this many handshakes in flight a stranger must prove its address first (QUIC Retry, RFC 9000 §8.1.2), so a
/// flood with invented addresses gets no cryptography out of us.
pub const PENDING_HANDSHAKES_RETRY: usize = 64;
/// TLS handshake and admission together: several round trips around the planet, with losses.
pub const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);

/// Both sides may dial at once; more than two connections of one kind, direct or relayed, to one peer serve nobody.
pub const CONNECTIONS_PER_PEER_MAX: usize = 2;
/// How long the process behind a link has to answer when another one with its identity knocks: several round trips around
/// the planet, with a loss; short enough that a node which was killed is back within the time of one handshake.
pub const ALIVE_TIME_MAX: Duration = Duration::from_secs(2);
/// A name for one run of a node: two never collide by chance.
pub const PROCESS_NONCE_BYTES: usize = 16;
/// Addresses that one node listens on: both families on a few interfaces, each with a socket of its own.
pub const LISTEN_ADDRESSES_MAX: usize = 16;
/// Peers that one relay keeps a way open to: an edge node's own connections, which each of them needs one of.
pub const RELAY_RESERVATIONS_MAX: usize = 128;
/// One per connection of a peer.
pub const RELAY_RESERVATIONS_PER_PEER_MAX: usize = CONNECTIONS_PER_PEER_MAX;
/// A reservation is renewed within it; a peer that went is forgotten after it at the latest.
pub const RELAY_RESERVATION_TIME: Duration = Duration::from_secs(3_600);
/// Circuits carried at once. Each takes one stream window in each direction: 32 MiB in all.
pub const RELAY_CIRCUITS_MAX: usize = 64;
/// Circuits that begin or end at one peer; each takes one of its streams.
pub const RELAY_CIRCUITS_PER_PEER_MAX: usize = 8;
/// How long a circuit lives: a hole is tried again with the next one, and no circuit outlives a default SVID.
pub const RELAY_CIRCUIT_TIME_MAX: Duration = Duration::from_secs(3_600);
/// Bytes of one circuit, both directions together: a day's backlog of a site. What needs more dials again.
pub const RELAY_CIRCUIT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How long a node that does not know yet how others see its address waits before it uses a relay: libp2p takes the addresses
/// to punch a hole from at the beginning of a circuit, and a peer tells them within a round trip of the link.
pub const OBSERVED_ADDRESS_TIME_MAX: Duration = Duration::from_secs(3);
/// Circuits and reservations that one peer may ask for at once after a pause: a gateway that lost its uplink comes back.
pub const RELAY_ASKS_BURST: u32 = 32;
/// One more after this long.
pub const RELAY_ASKS_REFILL: Duration = Duration::from_secs(5);
/// Unread bytes of one connection in a circuit: what yamux gives to each stream before it looks, 256 KiB.
pub const CIRCUIT_WINDOW_BYTES: usize = BIDI_STREAMS_MAX as usize * 256 * 1024;
/// Connections of an edge node, unless configured otherwise.
pub const CONNECTIONS_MAX_EDGE: usize = 128;
/// Connections of a hub, for its configuration.
pub const CONNECTIONS_MAX_HUB: usize = 1_024;

/// Sync (one each way), ping, identify and its push, with room for the next protocols.
pub const BIDI_STREAMS_MAX: u32 = 16;
/// One admission frame; the rest is room for later.
pub const UNI_STREAMS_MAX: u32 = 4;
/// Unread bytes of one stream: a little under one frame, so a slow reader holds back its own link soon.
pub const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// Unread bytes of one connection; quinn's default is unlimited.
pub const CONNECTION_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// Unacknowledged bytes that we keep for one connection.
pub const SEND_WINDOW_BYTES: u64 = 2 * 1024 * 1024;
/// The same where the path carries little: what a congestion window of any path outgrows within two seconds.
pub const SEND_WINDOW_BYTES_MIN: u64 = 64 * 1024;
const _: () = assert!(SEND_WINDOW_BYTES_MIN < SEND_WINDOW_BYTES);
/// Out-of-order TLS bytes; a certificate chain of 16 KiB fits.
pub const CRYPTO_BUFFER_BYTES: usize = 32 * 1024;
/// Datagrams that the system keeps while the node is busy. By default it keeps some 90, which thirty handshakes that begin at once
/// overflow, and each packet lost there waits a third of a second for its repetition. Memory of the system, taken when filled.
pub const SOCKET_BUFFER_BYTES: usize = 2 * 1024 * 1024;
/// Datagrams of connections that wait for their handshake slot.
pub const INCOMING_BUFFER_BYTES_TOTAL: u64 = 4 * 1024 * 1024;

/// Twice per idle time-out, so that one lost probe does not cost the link; also keeps NAT mappings alive. Costs some 50 bytes
/// per second on a link on which nothing else goes.
pub const KEEP_ALIVE: Duration = Duration::from_millis(2_500);
/// Silence after which a peer counts as gone. The first probe into the silence begins the time anew (RFC 9000 §10.1), so a dead
/// peer is known after this and [`KEEP_ALIVE`]: within [`DEAD_PEER_KNOWN_MAX`].
pub const IDLE_TIME_MAX: Duration = Duration::from_secs(7);
/// Guarantees, "connected nodes know within 10 s", also of a peer that is connected no more.
pub const DEAD_PEER_KNOWN_MAX: Duration = Duration::from_secs(10);
/// Between two looks at which peers were heard: status shows when, to this.
pub const LISTEN_EVERY: Duration = Duration::from_secs(1);
/// Largest time between two looks at a live connection's SVID; a stepped clock is noticed within it.
pub const GUARD_INTERVAL: Duration = Duration::from_secs(20);

/// How long a connection on the data lane lives: then the mesh lane, which carries more, is tried again.
pub const DATA_LANE_TIME_MAX: Duration = Duration::from_secs(300);

/// One sync frame: a chunk of 256 KiB with its envelope and 64 KiB of control beside it.
pub const FRAME_BYTES_MAX: usize = 320 * 1024;
/// From the first byte of a frame's header to its last.
pub const HEADER_TIME_MAX: Duration = Duration::from_secs(5);
/// From the header to the last byte of the frame, and for a written frame to be taken by the peer's window.
pub const FRAME_TIME_MAX: Duration = Duration::from_secs(30);
/// To open the link's stream and to be told that the peer reads it.
pub const STREAM_OPEN_TIME_MAX: Duration = Duration::from_secs(10);
/// Frames waiting for one link; a peer that stops reading loses its link, nothing else.
pub const SEND_QUEUE_FRAMES_MAX: usize = 1_024;
/// Bytes waiting for one link.
pub const SEND_QUEUE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Of them, bytes of producers that wait for room: as much as the peer's stream window takes, four times over, so that the link
/// never runs dry, and no more, because whatever is sent without waiting stands behind it.
pub const SEND_QUEUE_PACED_BYTES_MAX: usize = 1024 * 1024;
/// Free memory that the allocator may keep at the end of each heap: the frames of one busy link, both ways.
pub const ALLOCATOR_KEEPS_BYTES: usize = 8 * 1024 * 1024;
/// Frames received and not yet taken by the node, over all links; beyond it the links' windows hold the peers back.
pub const RECEIVED_FRAMES_MAX: usize = 64;
/// Events waiting for the node before reports of refused strangers are dropped (they stay counted).
pub const EVENTS_WAITING_MAX: usize = 1_024;
/// Reason text that travels with a close.
pub const CLOSE_REASON_BYTES_MAX: usize = 128;

/// First wait after a dial failed or a link went down; doubles up to [`REDIAL_WAIT_MAX`].
pub const REDIAL_WAIT_MIN: Duration = Duration::from_millis(250);
/// Longest wait between two dials: with the handshake behind it, a node that comes back after hours is linked and has caught up
/// within [`BACK_WITHIN`], also where it calls nobody and is only called. A call that nobody answers costs some 7 KB.
pub const REDIAL_WAIT_MAX: Duration = Duration::from_secs(15);
/// Equal state this long after the last fault, where there is little to catch up with.
pub const BACK_WITHIN: Duration = Duration::from_secs(30);
/// Addresses tried in one attempt to reach a member: both families of a few interfaces.
pub const SEEK_ADDRESSES_MAX: usize = 8;
/// A name lookup that takes longer has failed.
pub const RESOLVE_TIME_MAX: Duration = Duration::from_secs(10);

/// A certificate request with its proof.
pub const ENROL_REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Charter, chain, bundle and policy head.
pub const ENROL_REPLY_BYTES_MAX: usize = 256 * 1024;
/// One exchange, the authority's fsync included.
pub const ENROL_TIME_MAX: Duration = Duration::from_secs(10);
/// Exchanges served at once.
pub const ENROL_CONCURRENT_MAX: usize = 32;
/// Exchanges one address (IPv6: one /64) may make at once after a pause: a site behind one NAT that starts up.
pub const ENROL_BURST_PER_ADDRESS: u32 = 30;
/// One more exchange per address after this long.
pub const ENROL_REFILL: Duration = Duration::from_secs(1);
/// Addresses remembered for the rate; the least recent is forgotten first.
pub const ENROL_ADDRESSES_MAX: usize = 4_096;

const _: () = assert!(PENDING_HANDSHAKES_RETRY < PENDING_HANDSHAKES_MAX);
const _: () =
    assert!(ALIVE_TIME_MAX.as_millis() * 2 < HANDSHAKE_TIME_MAX.as_millis(), "the one that replaces is let in yet");
const _: () = assert!(KEEP_ALIVE.as_millis() * 2 < IDLE_TIME_MAX.as_millis());
const _: () = assert!(KEEP_ALIVE.as_millis() + IDLE_TIME_MAX.as_millis() < DEAD_PEER_KNOWN_MAX.as_millis());
const _: () = assert!(
    REDIAL_WAIT_MAX.as_secs() + HANDSHAKE_TIME_MAX.as_secs() + STREAM_OPEN_TIME_MAX.as_secs() <= BACK_WITHIN.as_secs()
);
const _: () = assert!(GUARD_INTERVAL.as_secs() < 60, "expiry closes a connection within 60 s");
const _: () = assert!(
    RELAY_CIRCUITS_PER_PEER_MAX + 6 <= BIDI_STREAMS_MAX as usize,
    "sync, ping, identify and hop have streams left"
);
const _: () = assert!(SEND_QUEUE_BYTES_MAX > FRAME_BYTES_MAX);
const _: () =
    assert!(SEND_QUEUE_PACED_BYTES_MAX > FRAME_BYTES_MAX && SEND_QUEUE_PACED_BYTES_MAX < SEND_QUEUE_BYTES_MAX / 2);
const _: () = assert!(CRYPTO_BUFFER_BYTES > cauldron_identity::x509::CHAIN_BYTES_MAX);
