//! From a QUIC handshake to an admitted connection, within [`HANDSHAKE_TIME_MAX`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use cauldron_identity::x509::CertificateDer;
use libp2p::PeerId;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::timeout;

use super::admit::{self, Session};
use super::guard::Guarded;
use super::muxer::QuicMuxer;
use super::wire::QuicWire;
use super::{EstablishError, Shared, endpoint};
use crate::admission::{Lane, Side};
use crate::code::CloseCode;
use crate::limits::HANDSHAKE_TIME_MAX;
use crate::registry::Wire;
use crate::tls::{self, Report};

/// An admitted connection of our own UDP sockets.
pub(crate) type Direct = Guarded<QuicMuxer>;

/// Dials and admits. Where a certificate stands in the way, its own or the peer's, the data lane carries facts until the
/// certificates are right again.
pub(super) async fn dial(
    shared: Arc<Shared>,
    endpoint: quinn::Endpoint,
    to: SocketAddr,
) -> Result<(PeerId, Direct), EstablishError> {
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
) -> Result<(PeerId, Direct), EstablishError> {
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
) -> Result<(PeerId, Direct), EstablishError> {
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
) -> Result<(PeerId, Direct), EstablishError> {
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
) -> Result<(PeerId, Direct), EstablishError> {
    let guard = CloseOnDrop(Some(connection.clone()));
    let mut session = QuicSession(connection.clone());
    let result = match report {
        Some(report) => admit::to_mesh(shared, &mut session, side, report, changes, None).await,
        None => admit::to_data(shared, &mut session, side, changes).await,
    };
    match result {
        Ok(admitted) => {
            shared.counters.admitted.fetch_add(1, Relaxed);
            guard.keep();
            let peer = admitted.peer;
            let wire = session.wire();
            Ok((peer, Guarded::new(shared, QuicMuxer::new(connection), wire, admitted)))
        }
        Err(error) => {
            guard.close(&error);
            Err(error)
        }
    }
}

struct QuicSession(quinn::Connection);

impl Session for QuicSession {
    fn alpn(&self) -> Option<Vec<u8>> {
        alpn(&self.0)
    }

    fn peer_chain(&self) -> Option<Vec<CertificateDer<'static>>> {
        self.0.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok().map(|chain| *chain)
    }

    fn exporter(&self, label: &[u8]) -> Option<[u8; 32]> {
        let mut out = [0; 32];
        self.0.export_keying_material(&mut out, label, b"").ok().map(|()| out)
    }

    async fn read(&mut self, lane: Lane<'_>) -> Result<Vec<u8>, EstablishError> {
        let closed = |e| EstablishError::of(e, None);
        let mut stream = self.0.accept_uni().await.map_err(closed)?;
        let mut frame = vec![0; lane.frame_bytes()];
        match stream.read_exact(&mut frame).await {
            Ok(()) => Ok(frame),
            Err(quinn::ReadExactError::ReadError(quinn::ReadError::ConnectionLost(e))) => Err(closed(e)),
            Err(_) => Ok(Vec::new()),
        }
    }

    async fn write(&mut self, frame: &[u8]) -> Result<(), EstablishError> {
        let closed = |e| EstablishError::of(e, None);
        let mut stream = self.0.open_uni().await.map_err(closed)?;
        if let Err(quinn::WriteError::ConnectionLost(e)) = stream.write_all(frame).await {
            return Err(closed(e));
        }
        // Fails only if the stream was finished or stopped already; the peer then says no by closing.
        let _ = stream.finish();
        Ok(())
    }

    fn wire(&self) -> Arc<dyn Wire> {
        Arc::new(QuicWire(self.0.clone()))
    }
}

fn alpn(connection: &quinn::Connection) -> Option<Vec<u8>> {
    let data = connection.handshake_data()?.downcast::<quinn::crypto::rustls::HandshakeData>().ok()?;
    data.protocol
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
