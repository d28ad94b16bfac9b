//! The one task that owns the Swarm: it turns connections into links, and keeps the order of events.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use cauldron_identity::PublicKey;
use futures::StreamExt;
use libp2p::core::ConnectedPoint;
use libp2p::core::transport::TransportError;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionError, ConnectionId, DialError, ListenError, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Stream};
use libp2p_stream::{Control, IncomingStreams};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use crate::code::CloseCode;
use crate::config::{Direction, MeshError, MeshEvent};
use crate::dialler::Dialler;
use crate::handle::{Command, LinkStatus, MeshStatus, Outboxes, TargetStatus};
use crate::limits::{EVENTS_WAITING_MAX, LISTEN_EVERY, RECEIVED_FRAMES_MAX, RESOLVE_TIME_MAX};
use crate::link::{self, Ended, Outbox, SYNC};
use crate::registry::PeerInfo;
use crate::swarm::{Behaviour, BehaviourEvent};
use crate::transport::{EstablishError, Shared, multiaddr_of, socket_addr_of};

/// How long stopping may wait for packets to leave.
const GOODBYE_TIME_MAX: Duration = Duration::from_secs(1);

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
    links: BTreeMap<PeerId, Link>,
    numbers: BTreeMap<u64, PeerId>,
    next_link: u64,
    /// Streams that came before libp2p reported their connection.
    early: BTreeMap<PeerId, Stream>,
    tasks: JoinSet<Ended>,
    lookups: JoinSet<Lookup>,
    dialler: Dialler,
    listening: BTreeSet<SocketAddr>,
}

struct Link {
    number: u64,
    info: PeerInfo,
    remote: SocketAddr,
    dialer: bool,
    outbox: Outbox,
    writer: AbortHandle,
    reader: Option<AbortHandle>,
    /// Set once it is to end; the link is down when libp2p has closed its last connection.
    closing: Option<Closing>,
}

/// Why a link ends, unless the end of its last connection says it better.
struct Closing(Option<String>);

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
            links: BTreeMap::new(),
            numbers: BTreeMap::new(),
            next_link: 1,
            early: BTreeMap::new(),
            tasks: JoinSet::new(),
            lookups: JoinSet::new(),
            dialler: Dialler::default(),
            listening: BTreeSet::new(),
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
            let dial_at = self.dialler.next_at();
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
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() =>
                    // An aborted task belongs to a link that is gone.
                    if let Ok(ended) = ended { self.on_ended(&ended) },
                Some(found) = self.lookups.join_next(), if !self.lookups.is_empty() =>
                    if let Ok((address, found)) = found { self.on_lookup(&address, found) },
                command = self.commands.recv() => match command {
                    Some(Command::Dial(address)) => self.add_target(address),
                    Some(Command::Close { link, code, reason }) => self.close(link, code, &reason),
                    Some(Command::Status(reply)) => { let _ = reply.send(self.status()); }
                    Some(Command::Shutdown(done)) => break Some(done),
                    None => break None,
                },
                _ = listen.tick() => {
                    let before = std::mem::replace(&mut listened, std::time::Instant::now());
                    self.on_heard(before);
                }
                () = sleep_until(dial_at.unwrap_or_else(Instant::now)), if dial_at.is_some() => self.look_up_due(),
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
            SwarmEvent::NewListenAddr { address, .. } => {
                if let Some(address) = socket_addr_of(&address)
                    && self.listening.insert(address)
                {
                    self.dialler.hurry(Instant::now());
                    self.report(MeshEvent::Listening(address));
                }
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                if let Some(address) = socket_addr_of(&address) {
                    self.listening.remove(&address);
                }
            }
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_connected(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, cause, .. } => {
                self.on_disconnected(peer_id, cause.as_ref());
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                self.on_refused_inbound(&send_back_addr, &error);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                self.on_dial_failed(connection_id, peer_id, &error);
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "the listener has a problem"),
            SwarmEvent::ListenerClosed { addresses, .. } => {
                tracing::error!(?addresses, "the listener is closed: nobody can reach this node any more");
            }
            _ => {}
        }
    }

    fn on_connected(&mut self, peer: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        self.dialler.connected(connection, peer);
        if let Some(link) = self.links.get(&peer) {
            if link.closing.is_some() {
                // The new connection would be taken for the old link; the peer comes back when that one is gone.
                self.shared.registry.close(&peer, CloseCode::LinkRestarted, "the old link is still closing");
            }
            return;
        }
        // No entry: the connection died before we heard of it, and its end is on the way.
        let (Some(info), Some(remote)) =
            (self.shared.registry.info(&peer), socket_addr_of(endpoint.get_remote_address()))
        else {
            return;
        };
        let number = self.next_link;
        self.next_link += 1;
        let (outbox, reader) = link::outbox();
        let counters = self.shared.counters.clone();
        counters.links.fetch_add(1, Relaxed);
        let writer = self.tasks.spawn(link::write(number, peer, self.control.clone(), reader, counters));
        self.outboxes.insert(number, outbox.clone());
        let (spiffe_id, author, dialer) = (info.spiffe_id.clone(), info.author, endpoint.is_dialer());
        self.report(match info.svid_not_after_s {
            Some(svid_not_after_s) => {
                MeshEvent::LinkUp { link: number, spiffe_id, author, svid_not_after_s, remote_addr: remote, dialer }
            }
            None => MeshEvent::DataLinkUp { link: number, spiffe_id, author, remote_addr: remote, dialer },
        });
        self.numbers.insert(number, peer);
        self.links.insert(peer, Link { number, info, remote, dialer, outbox, writer, reader: None, closing: None });
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
        let Some(link) = self.links.remove(&peer) else { return };
        self.numbers.remove(&link.number);
        self.outboxes.remove(link.number);
        link.writer.abort();
        if let Some(reader) = link.reader {
            reader.abort();
        }
        self.shared.counters.links.fetch_sub(1, Relaxed);
        let reason = link.closing.and_then(|closing| closing.0).unwrap_or_else(|| match cause {
            Some(ConnectionError::IO(e)) => e.to_string(),
            Some(ConnectionError::KeepAliveTimeout) => "nothing was going on".to_owned(),
            None => "the connection was closed".to_owned(),
        });
        self.dialler.link_down(peer, &reason, Instant::now());
        self.report(MeshEvent::LinkDown { link: link.number, reason });
    }

    fn on_stream(&mut self, peer: PeerId, stream: Stream) {
        let Some(link) = self.links.get_mut(&peer) else {
            // A stream can also come late, after its connection; it must not become the next link's.
            if self.swarm.is_connected(&peer) {
                self.early.insert(peer, stream);
            }
            return;
        };
        if link.reader.is_some() {
            let number = link.number;
            return self.close(number, CloseCode::LinkRestarted, "the peer opened the link's stream a second time");
        }
        let task = link::read(link.number, stream, self.frames.clone(), self.shared.counters.clone());
        link.reader = Some(self.tasks.spawn(task));
    }

    fn on_frame(&mut self, link: u64, bytes: Vec<u8>) {
        // Frames of a link that is going down are dropped: the next one syncs anew.
        if self.live(link).is_some() {
            self.report(MeshEvent::Frame { link, bytes });
        }
    }

    /// What came since `since` came at that time at the earliest, and nobody is said to have been heard later than he was.
    fn on_heard(&mut self, since: std::time::Instant) {
        let heard = self.shared.registry.heard();
        let links: Vec<u64> = heard.iter().filter_map(|peer| self.links.get(peer)).map(|link| link.number).collect();
        // A node that takes no events has newer ones to read first.
        if !links.is_empty() && self.waiting.len() < RECEIVED_FRAMES_MAX {
            self.report(MeshEvent::Heard { links, since });
        }
    }

    fn on_ended(&mut self, ended: &Ended) {
        let Some(peer) = self.live(ended.link) else { return };
        let lost = if ended.code == CloseCode::StreamLost { self.shared.registry.lost(&peer) } else { None };
        match lost {
            // The stream broke because its connection did; a second connection cannot carry the link on without a gap.
            Some(reason) => {
                self.end(peer, Closing(reason));
                self.shared.registry.close(&peer, CloseCode::LinkRestarted, "the link's other connection was lost");
            }
            None => self.close(ended.link, ended.code, &ended.reason),
        }
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

    fn look_up_due(&mut self) {
        for address in self.dialler.due(Instant::now()) {
            self.lookups.spawn(async move {
                let found = match timeout(RESOLVE_TIME_MAX, tokio::net::lookup_host(&address)).await {
                    Ok(Ok(found)) => Ok(found.collect()),
                    Ok(Err(e)) => Err(e.to_string()),
                    Err(_) => Err("the name server does not answer".to_owned()),
                };
                (address, found)
            });
        }
    }

    fn on_lookup(&mut self, address: &str, found: Result<Vec<SocketAddr>, String>) {
        if let Some(to) = self.dialler.resolved(address, found, Instant::now()) {
            self.dial(address, to);
        }
    }

    fn dial(&mut self, address: &str, to: SocketAddr) {
        if self.listening.contains(&to) {
            return self.dialler.not_started(address, format!("{to}: the address is our own"), Instant::now());
        }
        let opts = DialOpts::unknown_peer_id().address(multiaddr_of(to)).build();
        let connection = opts.connection_id();
        match self.swarm.dial(opts) {
            Ok(()) => self.dialler.dialling(address, connection),
            Err(e) => self.dialler.not_started(address, format!("{to}: {}", dial_reason(&e).1), Instant::now()),
        }
    }

    fn on_dial_failed(&mut self, connection: ConnectionId, peer: Option<PeerId>, error: &DialError) {
        let (code, reason) = dial_reason(error);
        let remote = match error {
            DialError::Transport(tried) => tried.first().and_then(|(address, _)| socket_addr_of(address)),
            DialError::LocalPeerId { address } | DialError::WrongPeerId { address, .. } => socket_addr_of(address),
            _ => None,
        };
        if let Some(code) = code {
            self.shared.counters.count_refused(code);
            if let Some(remote) = remote {
                let direction = Direction::Outbound;
                self.report(MeshEvent::Refused { direction, remote, reason: reason.clone(), code });
            }
        }
        let sentence = remote.map_or_else(|| reason.clone(), |remote| format!("{remote}: {reason}"));
        if let Some((address, next)) = self.dialler.dial_failed(connection, peer, &sentence, Instant::now()) {
            self.dial(&address, next);
        }
        if let Some(peer) = peer.filter(|peer| self.links.contains_key(peer)) {
            self.dialler.link_up(peer);
        }
    }

    fn on_refused_inbound(&mut self, from: &Multiaddr, error: &ListenError) {
        let (code, reason) = match error {
            ListenError::Transport(TransportError::Other(io)) => match establish_error(io) {
                Some(EstablishError::EnrolLane) => return,
                Some(e) => (e.code(), e.to_string()),
                None => (CloseCode::Protocol, io.to_string()),
            },
            ListenError::Denied { cause } => (CloseCode::TooManyConnections, cause.to_string()),
            ListenError::LocalPeerId { .. } => (CloseCode::Ourselves, "the address is our own".to_owned()),
            other => (CloseCode::Protocol, other.to_string()),
        };
        self.shared.counters.count_refused(code);
        if let Some(remote) = socket_addr_of(from) {
            self.report(MeshEvent::Refused { direction: Direction::Inbound, remote, reason, code });
        }
    }

    fn status(&self) -> MeshStatus {
        let now = Instant::now();
        let links = self.links.iter().map(|(peer, link)| {
            let route = self.shared.registry.route(peer);
            let (queued_frames, queued_bytes) = link.outbox.depth();
            LinkStatus {
                link: link.number,
                spiffe_id: link.info.spiffe_id.clone(),
                author: link.info.author,
                svid_not_after_s: link.info.svid_not_after_s,
                remote_addr: route.map_or(link.remote, |route| route.remote),
                dialer: link.dialer,
                connections: route.map_or(0, |route| route.connections),
                rtt_ms: route.map_or(0, |route| u64::try_from(route.rtt.as_millis()).unwrap_or(u64::MAX)),
                queued_frames,
                queued_bytes,
            }
        });
        let targets = self.dialler.targets().map(|(address, target)| {
            let (up, wait) = target.status(now);
            TargetStatus {
                address: address.clone(),
                up,
                last_error: target.last_error.clone(),
                next_dial_in_ms: wait.map(|w| u64::try_from(w.as_millis()).unwrap_or(u64::MAX)),
            }
        });
        MeshStatus {
            listening: self.listening.iter().copied().collect(),
            links: links.collect(),
            targets: targets.collect(),
        }
    }
}

/// Our own error inside libp2p's boxes.
fn establish_error(io: &std::io::Error) -> Option<&EstablishError> {
    io.get_ref()?.downcast_ref()
}

/// The sentence for a failed dial, and a code if somebody refused somebody (an address that nobody answers at is no
/// refusal).
fn dial_reason(error: &DialError) -> (Option<CloseCode>, String) {
    match error {
        DialError::Transport(tried) => match tried.first().map(|(_, e)| e) {
            Some(TransportError::Other(io)) => match establish_error(io) {
                Some(e @ (EstablishError::Timeout | EstablishError::Connect(_) | EstablishError::Bind { .. })) => {
                    (None, e.to_string())
                }
                Some(EstablishError::Quic(quinn::ConnectionError::TimedOut)) => (None, "no answer".to_owned()),
                Some(e) => (Some(e.code()), e.to_string()),
                None => (None, io.to_string()),
            },
            Some(TransportError::MultiaddrNotSupported(_)) => (None, "not an address to dial".to_owned()),
            None => (None, "no address".to_owned()),
        },
        DialError::Denied { cause } => (Some(CloseCode::TooManyConnections), cause.to_string()),
        DialError::LocalPeerId { .. } => (Some(CloseCode::Ourselves), "the address is our own".to_owned()),
        other => (None, other.to_string()),
    }
}
