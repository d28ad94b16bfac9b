//! The one task that owns the Swarm: it turns connections into links, and keeps the order of events.

mod dials;
mod relays;
mod reports;
mod seek;
mod status;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use cauldron_identity::{PublicKey, SpiffeId};
use futures::StreamExt;
use libp2p::core::ConnectedPoint;
use libp2p::core::transport::TransportError;
use libp2p::swarm::{ConnectionError, ConnectionId, Swarm, SwarmEvent};
use libp2p::{PeerId, Stream};
use libp2p_stream::{Control, IncomingStreams};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use crate::code::CloseCode;
use crate::config::{LinkPath, MeshError, MeshEvent};
use crate::dialler::Dialler;
use crate::handle::{Command, Outboxes};
use crate::hello::Features;
use crate::limits::{EVENTS_WAITING_MAX, LISTEN_EVERY, RECEIVED_FRAMES_MAX};
use crate::link::{self, Ended, Outbox, SYNC};
use crate::peer_id::peer_id_of;
use crate::registry::PeerInfo;
use crate::reservations::Reservations;
use crate::swarm::{Behaviour, BehaviourEvent};
use crate::transport::{EstablishError, Shared, multiaddr_of, relay_addr_of, socket_addr_of};
use dials::establish_error;

/// How long what was queued last may take to leave.
const LAST_WORDS_TIME_MAX: Duration = Duration::from_millis(300);
/// How long what was handed to QUIC is given to be sent, and how finely that is measured.
const LAST_WORDS_LINGER: Duration = Duration::from_millis(40);
const LAST_WORDS_STEP: Duration = Duration::from_millis(10);
/// How long stopping may wait for packets to leave.
const GOODBYE_TIME_MAX: Duration = Duration::from_secs(1);

/// Why a relayed link ends beside a direct connection.
const MOVED: &str = "moved: a direct connection takes over from the relayed one";

type Lookup = (String, Result<Vec<SocketAddr>, String>);

pub(crate) struct Driver {
    shared: Arc<Shared>,
    swarm: Swarm<Behaviour>,
    control: Control,
    streams: IncomingStreams,
    events: mpsc::Sender<MeshEvent>,
    /// Events that the node has not had room for yet.
    waiting: VecDeque<MeshEvent>,
    commands: mpsc::UnboundedReceiver<Command>,
    outboxes: Outboxes,
    frames: mpsc::Sender<(u64, Vec<u8>)>,
    received: mpsc::Receiver<(u64, Vec<u8>)>,
    /// What QUIC has taken of each link. Not bounded, and never longer than the queues of the links together.
    written: mpsc::UnboundedSender<(u64, usize)>,
    drained: mpsc::UnboundedReceiver<(u64, usize)>,
    links: BTreeMap<PeerId, Link>,
    numbers: BTreeMap<u64, PeerId>,
    next_link: u64,
    /// Streams that came before libp2p reported their connection.
    early: BTreeMap<PeerId, Stream>,
    tasks: JoinSet<Ended>,
    lookups: JoinSet<Lookup>,
    searches: JoinSet<seek::Found>,
    /// Attempts that the core waits for.
    sought: BTreeMap<ConnectionId, SpiffeId>,
    dialler: Dialler,
    listening: BTreeSet<SocketAddr>,
    reservations: Reservations,
    /// Whether a peer has told how it sees our address.
    observed: bool,
    /// Relayed connections, as libp2p knows them.
    circuits: BTreeMap<PeerId, BTreeSet<ConnectionId>>,
    /// Peers whose relayed link is down, and whose direct one begins when the last circuit is gone; with who dialled.
    moving: BTreeMap<PeerId, bool>,
}

struct Link {
    number: u64,
    info: PeerInfo,
    remote: SocketAddr,
    path: LinkPath,
    since: Instant,
    dialer: bool,
    outbox: Outbox,
    writer: AbortHandle,
    reader: Option<AbortHandle>,
    /// Set once it is to end; the link is down when libp2p has closed its last connection.
    closing: Option<Closing>,
}

/// Why a link ends, unless the end of its last connection says it better.
struct Closing(Option<String>);

impl Link {
    /// Whether circuits can be asked for over this link.
    fn carries_circuits(&self) -> bool {
        self.path == LinkPath::Direct && self.closing.is_none() && self.info.svid_not_after_s.is_some()
    }
}

impl Driver {
    pub(crate) fn new(
        shared: Arc<Shared>,
        events: mpsc::Sender<MeshEvent>,
        commands: mpsc::UnboundedReceiver<Command>,
        outboxes: Outboxes,
    ) -> Self {
        let swarm = crate::swarm::build(&shared);
        let mut control = swarm.behaviour().stream.new_control();
        let Ok(streams) = control.accept(SYNC) else { unreachable!("a new behaviour has no protocols yet") };
        let (frames, received) = mpsc::channel(RECEIVED_FRAMES_MAX);
        let (written, drained) = mpsc::unbounded_channel();
        Self {
            shared,
            swarm,
            control,
            streams,
            events,
            waiting: VecDeque::new(),
            commands,
            outboxes,
            frames,
            received,
            written,
            drained,
            links: BTreeMap::new(),
            numbers: BTreeMap::new(),
            next_link: 1,
            early: BTreeMap::new(),
            tasks: JoinSet::new(),
            lookups: JoinSet::new(),
            searches: JoinSet::new(),
            sought: BTreeMap::new(),
            dialler: Dialler::default(),
            listening: BTreeSet::new(),
            reservations: Reservations::default(),
            observed: false,
            circuits: BTreeMap::new(),
            moving: BTreeMap::new(),
        }
    }

    pub(crate) fn listen(&mut self, address: SocketAddr) -> Result<(), MeshError> {
        self.swarm.listen_on(multiaddr_of(address)).map(drop).map_err(|e| {
            let reason = match &e {
                TransportError::Other(io) => match establish_error(io) {
                    Some(EstablishError::Bind { source, .. }) => source.to_string(),
                    Some(other) => other.to_string(),
                    None => io.to_string(),
                },
                TransportError::MultiaddrNotSupported(_) => "not an address to listen on".to_owned(),
            };
            MeshError::Listen { address, reason }
        })
    }

    pub(crate) fn add_target(&mut self, address: String) {
        self.dialler.add(address, Instant::now());
    }

    /// Runs until it is told to stop or nobody listens any more.
    pub(crate) async fn run(mut self) {
        let events = self.events.clone();
        let (mut listen, mut listened) = (tokio::time::interval(LISTEN_EVERY), std::time::Instant::now());
        listen.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let stopped = loop {
            let linked = |peer: &PeerId| self.links.get(peer).is_some_and(Link::carries_circuits);
            let next_at = [self.dialler.next_at(), self.reservations.next_at(linked)].into_iter().flatten().min();
            tokio::select! {
                room = events.reserve(), if !self.waiting.is_empty() => match room {
                    Ok(room) => if let Some(event) = self.waiting.pop_front() { room.send(event) },
                    Err(_) => break None,
                },
                () = events.closed() => break None,
                event = self.swarm.select_next_some() => self.on_swarm(event),
                Some((peer, stream)) = self.streams.next() => self.on_stream(peer, stream),
                Some((link, bytes)) = self.received.recv(), if self.waiting.len() < RECEIVED_FRAMES_MAX =>
                    self.on_frame(link, bytes),
                Some((link, bytes)) = self.drained.recv() => self.on_drained(link, bytes),
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() =>
                    // An aborted task belongs to a link that is gone.
                    if let Ok(ended) = ended { self.on_ended(&ended) },
                Some(found) = self.lookups.join_next(), if !self.lookups.is_empty() =>
                    if let Ok((address, found)) = found { self.on_lookup(&address, found) },
                Some(found) = self.searches.join_next(), if !self.searches.is_empty() =>
                    if let Ok(found) = found { self.on_found(found) },
                command = self.commands.recv() => match command {
                    Some(Command::Dial(address)) => self.add_target(address),
                    Some(Command::Seek { spiffe_id, addresses }) => self.seek(spiffe_id, addresses),
                    Some(Command::DialThrough { relay, target }) => self.add_target_through(&relay, &target),
                    Some(Command::Reserve(relay)) => {
                        self.reservations.want(peer_id_of(&relay), relay, Instant::now());
                    }
                    Some(Command::Close { link, code, reason }) => self.close(link, code, &reason),
                    Some(Command::Status(reply)) => { let _ = reply.send(self.status()); }
                    Some(Command::Shutdown(done)) => break Some(done),
                    None => break None,
                },
                _ = listen.tick() => {
                    let before = std::mem::replace(&mut listened, std::time::Instant::now());
                    self.on_heard(before);
                    self.shared.registry.fit_send_windows();
                }
                () = sleep_until(next_at.unwrap_or_else(Instant::now)), if next_at.is_some() => {
                    self.look_up_due();
                    self.reserve_due();
                }
            }
        };
        self.stop().await;
        if let Some(done) = stopped {
            // The caller may have given up waiting.
            let _ = done.send(());
        }
    }

    /// Says goodbye on every connection and lets the packets out.
    async fn stop(mut self) {
        self.last_words().await;
        self.shared.registry.close_all(CloseCode::Shutdown);
        self.shared.counters.links.store(0, Relaxed);
        for link in self.links.values() {
            self.outboxes.remove(link.number);
        }
        let drained = async {
            while self.swarm.network_info().num_peers() > 0 {
                self.swarm.select_next_some().await;
            }
        };
        let _ = timeout(GOODBYE_TIME_MAX, drained).await;
        let endpoints = self.shared.endpoints();
        drop(self.swarm);
        for endpoint in endpoints {
            let _ = timeout(GOODBYE_TIME_MAX, endpoint.wait_idle()).await;
        }
    }

    /// What the node said last leaves before its connections do.
    async fn last_words(&mut self) {
        let until = Instant::now() + LAST_WORDS_TIME_MAX;
        let waiting = |links: &BTreeMap<PeerId, Link>| links.values().any(|link| link.outbox.depth().0 > 0);
        let mut linger = LAST_WORDS_LINGER;
        while Instant::now() < until && (waiting(&self.links) || !linger.is_zero()) {
            if !waiting(&self.links) {
                linger = linger.saturating_sub(LAST_WORDS_STEP);
            }
            // The swarm has to be asked, or nothing moves.
            let _ = timeout(LAST_WORDS_STEP, self.swarm.select_next_some()).await;
        }
    }

    fn report(&mut self, event: MeshEvent) {
        let flood = matches!(event, MeshEvent::Refused { .. }) && self.waiting.len() >= EVENTS_WAITING_MAX;
        if flood {
            self.shared.counters.reports_dropped.fetch_add(1, Relaxed);
        } else {
            self.waiting.push_back(event);
        }
    }

    fn on_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::NewListenAddr { address, listener_id } => {
                if self.reservations.held(listener_id) {
                    return;
                }
                if self.shared.relay {
                    // What reservations are granted for; libp2p's relay serves nobody without.
                    self.swarm.add_external_address(address.clone());
                }
                if let Some(address) = socket_addr_of(&address)
                    && self.listening.insert(address)
                {
                    self.dialler.hurry(Instant::now());
                    self.report(MeshEvent::Listening(address));
                }
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.swarm.remove_external_address(&address);
                if let Some(address) = socket_addr_of(&address) {
                    self.listening.remove(&address);
                }
            }
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_connected(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, cause, .. } => {
                self.on_closed(peer_id, connection_id);
                if num_established == 0 {
                    self.on_disconnected(peer_id, cause.as_ref());
                }
            }
            SwarmEvent::IncomingConnectionError { local_addr, send_back_addr, error, .. } => {
                let from = socket_addr_of(&send_back_addr).or_else(|| relay_addr_of(&local_addr));
                self.on_refused_inbound(from, &error);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                self.on_dial_failed(connection_id, peer_id, &error);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Punch(libp2p::dcutr::Event {
                remote_peer_id,
                result: Err(error),
            })) => {
                let peer = self.links.get(&remote_peer_id).map(|link| link.info.spiffe_id.to_string());
                tracing::info!(?peer, %error, "no direct connection comes about: the link stays with its relay");
            }
            SwarmEvent::NewExternalAddrCandidate { address } => self.observed |= socket_addr_of(&address).is_some(),
            SwarmEvent::Behaviour(BehaviourEvent::Ping(libp2p::ping::Event { peer, result: Ok(rtt), .. })) => {
                self.shared.registry.pinged(&peer, rtt);
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "the listener has a problem"),
            SwarmEvent::ListenerClosed { listener_id, addresses, reason } => {
                let why = reason.err().map(|error| match establish_error(&error) {
                    Some(own) => own.to_string(),
                    None => error.to_string(),
                });
                if self.reservations.closed(listener_id, why, Instant::now()) {
                    return;
                }
                tracing::error!(?addresses, "the listener is closed: nobody can reach this node any more");
            }
            _ => {}
        }
    }

    fn on_connected(&mut self, peer: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        self.dialler.connected(connection, peer);
        self.sought.remove(&connection);
        let relay = relay_addr_of(match endpoint {
            ConnectedPoint::Dialer { address, .. } => address,
            ConnectedPoint::Listener { local_addr, .. } => local_addr,
        });
        let path = if relay.is_some() { LinkPath::Relayed } else { LinkPath::Direct };
        if path == LinkPath::Relayed {
            self.circuits.entry(peer).or_default().insert(connection);
        }
        if self.moving.contains_key(&peer) {
            return self.shared.registry.close_relayed(&peer);
        }
        if let Some(link) = self.links.get(&peer) {
            match (link.path, path) {
                (LinkPath::Relayed, LinkPath::Direct) => self.move_link(peer, endpoint.is_dialer()),
                (LinkPath::Direct, LinkPath::Relayed) => self.shared.registry.close_relayed(&peer),
                // The new connection would be taken for the old link; the peer comes back when that one is gone.
                _ if link.closing.is_some() => {
                    self.shared.registry.close(&peer, CloseCode::LinkRestarted, "the old link is still closing");
                }
                _ => {}
            }
            return;
        }
        if let Some(remote) = relay.or_else(|| socket_addr_of(endpoint.get_remote_address())) {
            self.start_link(peer, remote, path, endpoint.is_dialer());
        }
    }

    fn start_link(&mut self, peer: PeerId, remote: SocketAddr, path: LinkPath, dialer: bool) {
        // No entry: the connection died before we heard of it, and its end is on the way.
        let Some(info) = self.shared.registry.info(&peer) else { return };
        let number = self.next_link;
        self.next_link += 1;
        let (outbox, reader) = link::outbox();
        let counters = self.shared.counters.clone();
        counters.links.fetch_add(1, Relaxed);
        let writer =
            self.tasks.spawn(link::write(number, peer, self.control.clone(), reader, self.written.clone(), counters));
        self.outboxes.insert(number, outbox.clone());
        let (spiffe_id, author) = (info.spiffe_id.clone(), info.author);
        let features = info.process.map_or(Features::NONE, |process| process.features);
        self.report(match info.svid_not_after_s {
            Some(svid_not_after_s) => {
                let remote_addr = remote;
                MeshEvent::LinkUp {
                    link: number,
                    spiffe_id,
                    author,
                    svid_not_after_s,
                    remote_addr,
                    dialer,
                    path,
                    features,
                }
            }
            None => MeshEvent::DataLinkUp { link: number, spiffe_id, author, remote_addr: remote, dialer },
        });
        self.numbers.insert(number, peer);
        let since = Instant::now();
        let link = Link { number, info, remote, path, since, dialer, outbox, writer, reader: None, closing: None };
        self.links.insert(peer, link);
        self.shared.registry.link_up(peer);
        self.dialler.link_up(peer);
        if let Some(stream) = self.early.remove(&peer) {
            self.on_stream(peer, stream);
        }
        self.one_lane(author);
    }

    /// A link on the mesh lane carries all that one on the data lane does: the latter ends.
    fn one_lane(&mut self, author: PublicKey) {
        let of_author = || self.links.values().filter(|l| l.info.author == author && l.closing.is_none());
        let on_mesh = of_author().any(|l| l.info.svid_not_after_s.is_some());
        let on_data: Vec<u64> = of_author().filter(|l| l.info.svid_not_after_s.is_none()).map(|l| l.number).collect();
        for number in on_data.into_iter().filter(|_| on_mesh) {
            self.close(number, CloseCode::LaneOver, "the mesh lane is up");
        }
    }

    fn on_disconnected(&mut self, peer: PeerId, cause: Option<&ConnectionError>) {
        self.early.remove(&peer);
        self.moving.remove(&peer);
        let reason = match cause {
            Some(ConnectionError::IO(e)) => e.to_string(),
            Some(ConnectionError::KeepAliveTimeout) => "nothing was going on".to_owned(),
            None => "the connection was closed".to_owned(),
        };
        self.finish_link(peer, &reason);
    }

    /// The link is down: with this reason, unless a better one is known.
    fn finish_link(&mut self, peer: PeerId, reason: &str) {
        let Some(link) = self.links.remove(&peer) else { return };
        self.numbers.remove(&link.number);
        self.outboxes.remove(link.number);
        link.writer.abort();
        if let Some(reader) = link.reader {
            reader.abort();
        }
        self.shared.counters.links.fetch_sub(1, Relaxed);
        let replaced = self.shared.registry.link_down(&peer);
        if replaced.is_some() {
            self.shared.counters.count_closed(CloseCode::Replaced);
        }
        let closing = link.closing.and_then(|closing| closing.0);
        let reason = replaced.or(closing).unwrap_or_else(|| reason.to_owned());
        self.dialler.link_down(peer, &reason, Instant::now());
        self.report(MeshEvent::LinkDown { link: link.number, reason });
    }

    fn on_stream(&mut self, peer: PeerId, stream: Stream) {
        let Some(link) = self.links.get_mut(&peer) else {
            // A stream can also come late, after its connection; it must not become the next link's.
            if !self.moving.contains_key(&peer) && self.swarm.is_connected(&peer) {
                self.early.insert(peer, stream);
            }
            return;
        };
        if link.reader.is_some() && link.path == LinkPath::Relayed && self.shared.registry.is_direct(&peer) {
            // The peer has moved already. It opens another one for the link that comes, when this one is dropped.
            return;
        }
        if link.reader.is_some() {
            let number = link.number;
            return self.close(number, CloseCode::LinkRestarted, "the peer opened the link's stream a second time");
        }
        let task = link::read(link.number, stream, self.frames.clone(), self.shared.counters.clone());
        link.reader = Some(self.tasks.spawn(task));
    }

    /// Ends a link; it is reported down when its last connection is gone.
    fn close(&mut self, number: u64, code: CloseCode, reason: &str) {
        let Some(peer) = self.live(number) else { return };
        self.end(peer, Closing(Some(format!("{code}: {reason}"))));
        self.shared.counters.count_closed(code);
        self.shared.registry.close(&peer, code, reason);
    }

    fn end(&mut self, peer: PeerId, why: Closing) {
        if let Some(link) = self.links.get_mut(&peer) {
            self.outboxes.remove(link.number);
            link.closing = Some(why);
        }
    }

    /// The peer of a link that is up and not ending.
    fn live(&self, number: u64) -> Option<PeerId> {
        let peer = self.numbers.get(&number)?;
        self.links.get(peer).filter(|link| link.closing.is_none()).map(|_| *peer)
    }
}
