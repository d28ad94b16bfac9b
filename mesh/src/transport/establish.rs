//! From a QUIC handshake to an admitted connection, within [`HANDSHAKE_TIME_MAX`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use cauldron_identity::SpiffeId;
use cauldron_identity::x509::CertificateDer;
use libp2p::PeerId;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::timeout;

use super::muxer::{Guarded, Muxer};
use super::wire::QuicWire;
use super::{EstablishError, Shared, endpoint};
use crate::admission::{self, AdmissionError, Hello, Lane, Side};
use crate::code::CloseCode;
use crate::limits::HANDSHAKE_TIME_MAX;
use crate::peer_id::{data_peer_id_of, peer_id_of};
use crate::registry::PeerInfo;
use crate::tls::{self, Report};

/// Dials and admits. Where a certificate stands in the way, its own or the peer's, the data lane carries facts until the
/// certificates are right again.
pub(super) async fn dial(
    shared: Arc<Shared>,
    endpoint: quinn::Endpoint,
    to: SocketAddr,
) -> Result<(PeerId, Muxer), EstablishError> {
    let refused = match dial_mesh(&shared, &endpoint, to).await {
        Err(e) if e.code() == CloseCode::Certificate && shared.enrolled.is_some() => e,
        result => return result,
    };
    match dial_data(&shared, &endpoint, to).await {
        Ok(admitted) => {
            shared.counters.count_refused(CloseCode::Certificate);
            tracing::info!(%to, why = %refused, "facts go over the data lane until certificates are right again");
            Ok(admitted)
        }
        Err(e) => {
            tracing::debug!(%to, why = %e, "no data lane either");
            Err(refused)
        }
    }
}

async fn dial_data(
    shared: &Arc<Shared>,
    endpoint: &quinn::Endpoint,
    to: SocketAddr,
) -> Result<(PeerId, Muxer), EstablishError> {
    let changes = shared.source.subscribe();
    let crypto = tls::data_client(&shared.terms).map_err(EstablishError::Tls)?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(shared.quic.clone());
    let connecting = endpoint.connect_with(config, to, tls::SERVER_NAME)?;
    let work = async {
        let connection = connecting.await.map_err(|e| EstablishError::of(e, None))?;
        admit(shared, connection, Side::Dialer, None, changes).await
    };
    timeout(HANDSHAKE_TIME_MAX, work).await.unwrap_or(Err(EstablishError::Timeout))
}

async fn dial_mesh(
    shared: &Arc<Shared>,
    endpoint: &quinn::Endpoint,
    to: SocketAddr,
) -> Result<(PeerId, Muxer), EstablishError> {
    let (report, changes) = (Report::default(), shared.source.subscribe());
    let crypto = tls::mesh_client(&shared.terms, &shared.source, &report).map_err(EstablishError::Tls)?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(shared.quic.clone());
    let connecting = endpoint.connect_with(config, to, tls::SERVER_NAME)?;
    let work = async {
        let connection = connecting.await.map_err(|e| EstablishError::of(e, report.refusal()))?;
        admit(shared, connection, Side::Dialer, Some(&report), changes).await
    };
    timeout(HANDSHAKE_TIME_MAX, work).await.unwrap_or(Err(EstablishError::Timeout))
}

/// Accepts and admits, or hands the connection to the enrol lane. Holds one of the handshake slots meanwhile.
pub(super) async fn accept(
    shared: Arc<Shared>,
    incoming: quinn::Incoming,
    slot: OwnedSemaphorePermit,
) -> Result<(PeerId, Muxer), EstablishError> {
    let _gauge = Gauge::up(&shared);
    let (report, changes) = (Report::default(), shared.source.subscribe());
    let work = async {
        let config = endpoint::server_config(&shared, &report)?;
        let connecting = incoming.accept_with(Arc::new(config)).map_err(|e| EstablishError::of(e, report.refusal()))?;
        let connection = connecting.await.map_err(|e| EstablishError::of(e, report.refusal()))?;
        if alpn(&connection).as_deref() == Some(tls::ALPN_ENROL) {
            shared.enrol.serve(connection);
            return Err(EstablishError::EnrolLane);
        }
        let report = (alpn(&connection).as_deref() != Some(tls::ALPN_DATA)).then_some(&report);
        admit(&shared, connection, Side::Listener, report, changes).await
    };
    let result = timeout(HANDSHAKE_TIME_MAX, work).await.unwrap_or(Err(EstablishError::Timeout));
    drop(slot);
    result
}

/// Reads who the peer is, exchanges admission frames, registers the connection. Without a report it is the data lane.
async fn admit(
    shared: &Arc<Shared>,
    connection: quinn::Connection,
    side: Side,
    report: Option<&Report>,
    changes: watch::Receiver<u64>,
) -> Result<(PeerId, Muxer), EstablishError> {
    let guard = CloseOnDrop(Some(connection.clone()));
    let result = match report {
        Some(report) => admitted(shared, connection, side, report, changes).await,
        None => admitted_to_data(shared, connection, side, changes).await,
    };
    match &result {
        Ok(_) => shared.counters.admitted.fetch_add(1, Relaxed),
        Err(error) => {
            guard.close(error);
            return result;
        }
    };
    guard.keep();
    result
}

async fn admitted(
    shared: &Arc<Shared>,
    connection: quinn::Connection,
    side: Side,
    report: &Report,
    changes: watch::Receiver<u64>,
) -> Result<(PeerId, Muxer), EstablishError> {
    let version = alpn(&connection).and_then(|name| shared.terms.version_of(&name)).ok_or(EstablishError::Alpn)?;
    let chain = peer_chain(&connection)?;
    let svid = report.svid().ok_or(EstablishError::NoCertificate)?;
    let id = svid.spiffe_id.clone();
    let peer = peer_id_of(&id);
    let mut exporter = [0; 32];
    let denied = |source| EstablishError::Admission { id: id.clone(), source };
    connection
        .export_keying_material(&mut exporter, admission::EXPORTER_LABEL, b"")
        .map_err(|_| denied(AdmissionError::Proof))?;
    let (mesh, process) = (&shared.mesh_id, &shared.process);
    let our_lane = Lane::Mesh(version, shared.source.spiffe_id());
    let own = admission::seal(our_lane, &shared.author, process, mesh, side, &exporter);
    let read = async |connection: &quinn::Connection| -> Result<Hello, EstablishError> {
        let lane = Lane::Mesh(version, &id);
        let frame = read_frame(connection, lane).await?;
        admission::open(lane, &frame, mesh, side.other(), &exporter).map_err(denied)
    };

    // The dialer's frame first; the listener answers only a dialer that it has let in.
    let register = async |hello: Hello| {
        if peer == shared.local_peer {
            return Err(met_ourselves(shared, &id, &hello));
        }
        let info = PeerInfo {
            spiffe_id: id.clone(),
            author: hello.author,
            svid_not_after_s: Some(svid.not_after_s),
            version: version.number(),
            process: hello.process,
        };
        Ok(shared.registry.admit(peer, info, Arc::new(QuicWire(connection.clone()))).await?)
    };
    let lease = match side {
        Side::Dialer => {
            write_frame(&connection, &own).await?;
            register(read(&connection).await?).await?
        }
        Side::Listener => {
            let lease = register(read(&connection).await?).await?;
            write_frame(&connection, &own).await?;
            lease
        }
    };
    let guarded = Guarded::Svid { chain, not_after_s: svid.not_after_s, changes };
    Ok((peer, Muxer::new(shared, connection, guarded, lease)))
}

/// Whom we meet under our own name: this process, a copy of it, or somebody with another author key.
fn met_ourselves(shared: &Shared, id: &SpiffeId, hello: &Hello) -> EstablishError {
    if hello.author != shared.author.public() {
        return EstablishError::OurName(id.clone());
    }
    match hello.process {
        Some(process) if process.nonce != shared.process.nonce => EstablishError::OurCopy(id.clone()),
        _ => EstablishError::Ourselves,
    }
}

/// The data lane: both sides prove an enrolled author key over the TLS exporter; nothing that expires is asked for.
async fn admitted_to_data(
    shared: &Arc<Shared>,
    connection: quinn::Connection,
    side: Side,
    changes: watch::Receiver<u64>,
) -> Result<(PeerId, Muxer), EstablishError> {
    if alpn(&connection).as_deref() != Some(tls::ALPN_DATA) {
        return Err(EstablishError::Alpn);
    }
    if shared.enrolled.is_none() {
        return Err(EstablishError::DataLaneClosed);
    }
    let denied = EstablishError::DataProof;
    let mut exporter = [0; 32];
    connection
        .export_keying_material(&mut exporter, admission::DATA_EXPORTER_LABEL, b"")
        .map_err(|_| denied(AdmissionError::Proof))?;
    let own = admission::seal(Lane::Data, &shared.author, &shared.process, &shared.mesh_id, side, &exporter);
    let read = async || -> Result<(PeerId, PeerInfo), EstablishError> {
        let frame = read_frame(&connection, Lane::Data).await?;
        let hello = admission::open(Lane::Data, &frame, &shared.mesh_id, side.other(), &exporter).map_err(denied)?;
        let Hello { author, process } = hello;
        if author == shared.author.public() {
            return Err(EstablishError::Ourselves);
        }
        let unknown = || EstablishError::NotEnrolled(author.author_id().short());
        let spiffe_id = shared.name_of(&author).ok_or_else(unknown)?;
        let info = PeerInfo { spiffe_id, author, svid_not_after_s: None, version: 1, process };
        Ok((data_peer_id_of(&info.spiffe_id), info))
    };
    let register = async |(peer, info): (PeerId, PeerInfo)| {
        let (author, wire) = (info.author, Arc::new(QuicWire(connection.clone())));
        Ok::<_, EstablishError>((peer, author, shared.registry.admit(peer, info, wire).await?))
    };
    // The dialer proves itself first: a stranger who dials learns no author key.
    let (peer, author, lease) = match side {
        Side::Dialer => {
            write_frame(&connection, &own).await?;
            register(read().await?).await?
        }
        Side::Listener => {
            let registered = register(read().await?).await?;
            write_frame(&connection, &own).await?;
            registered
        }
    };
    Ok((peer, Muxer::new(shared, connection, Guarded::Author { author, changes }, lease)))
}

/// Reads the peer's frame; one that is cut off comes as it is, and proves nothing.
async fn read_frame(connection: &quinn::Connection, lane: Lane<'_>) -> Result<Vec<u8>, EstablishError> {
    let closed = |e| EstablishError::of(e, None);
    let mut stream = connection.accept_uni().await.map_err(closed)?;
    let mut frame = vec![0; lane.frame_bytes()];
    match stream.read_exact(&mut frame).await {
        Ok(()) => Ok(frame),
        Err(quinn::ReadExactError::ReadError(quinn::ReadError::ConnectionLost(e))) => Err(closed(e)),
        Err(_) => Ok(Vec::new()),
    }
}

async fn write_frame(connection: &quinn::Connection, frame: &[u8]) -> Result<(), EstablishError> {
    let closed = |e| EstablishError::of(e, None);
    let mut stream = connection.open_uni().await.map_err(closed)?;
    if let Err(quinn::WriteError::ConnectionLost(e)) = stream.write_all(frame).await {
        return Err(closed(e));
    }
    // Fails only if the stream was finished or stopped already; the peer then says no by closing.
    let _ = stream.finish();
    Ok(())
}

fn alpn(connection: &quinn::Connection) -> Option<Vec<u8>> {
    let data = connection.handshake_data()?.downcast::<quinn::crypto::rustls::HandshakeData>().ok()?;
    data.protocol
}

fn peer_chain(connection: &quinn::Connection) -> Result<Vec<CertificateDer<'static>>, EstablishError> {
    connection
        .peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok())
        .map(|chain| *chain)
        .filter(|chain| !chain.is_empty())
        .ok_or(EstablishError::NoCertificate)
}

/// A connection whose admission is abandoned (time-out, node stops) is closed with a code, not left to idle.
struct CloseOnDrop(Option<quinn::Connection>);

impl CloseOnDrop {
    fn keep(mut self) {
        self.0 = None;
    }

    fn close(mut self, error: &EstablishError) {
        if let Some(connection) = self.0.take() {
            error.close(&connection);
        }
    }
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            EstablishError::Timeout.close(&connection);
        }
    }
}

struct Gauge(Arc<Shared>);

impl Gauge {
    fn up(shared: &Arc<Shared>) -> Self {
        shared.counters.handshakes_pending.fetch_add(1, Relaxed);
        Self(shared.clone())
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        self.0.counters.handshakes_pending.fetch_sub(1, Relaxed);
    }
}
