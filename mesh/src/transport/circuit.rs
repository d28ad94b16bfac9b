//! From a relay's byte stream to an admitted connection: TLS by SVIDs, the same admission, streams. The relay carries
//! records that it can neither read nor change.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use cauldron_identity::x509::CertificateDer;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use futures_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use libp2p::PeerId;
use rustls_pki_types::ServerName;
use tokio::time::timeout;

use super::admit::{self, Session};
use super::circuit_muxer::{CircuitMuxer, CircuitWire};
use super::guard::Guarded;
use super::{EstablishError, Shared};
use crate::admission::{Lane, Side};
use crate::code::CloseCode;
use crate::limits::HANDSHAKE_TIME_MAX;
use crate::registry::Wire;
use crate::tls::{self, Report};

/// First byte of what a listener sends instead of its admission frame when it refuses; the code follows. No version of the
/// frame begins with it.
const REFUSED: u8 = 0;

/// What a listener sends instead of its frame.
pub(crate) fn refusal(code: CloseCode) -> [u8; 5] {
    let [a, b, c, d] = (code as u32).to_be_bytes();
    [REFUSED, a, b, c, d]
}

/// An admitted connection through a relay.
pub(crate) type Circuit<S> = Guarded<CircuitMuxer<TlsStream<Counted<S>>>>;

/// Which end of a circuit we are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    /// We asked the relay for this peer, and take nobody else.
    Dialer(PeerId),
    Listener,
}

/// Shakes hands, admits and guards, within [`HANDSHAKE_TIME_MAX`].
pub(crate) async fn establish<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    shared: Arc<Shared>,
    io: S,
    end: End,
    relay: SocketAddr,
) -> Result<(PeerId, Circuit<S>), EstablishError> {
    let work = async {
        // A dialler pays for its own handshakes; what comes in takes a slot as any other does.
        let _slot = match end {
            End::Dialer(_) => None,
            End::Listener => {
                let slot = shared.handshakes.clone().try_acquire_owned();
                Some(slot.map_err(|_| EstablishError::Busy)?)
            }
        };
        let (peer, circuit) = admitted(&shared, io, end, relay).await?;
        shared.counters.admitted.fetch_add(1, Relaxed);
        Ok((peer, circuit))
    };
    timeout(HANDSHAKE_TIME_MAX, work).await.unwrap_or(Err(EstablishError::Timeout))
}

async fn admitted<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    shared: &Arc<Shared>,
    io: S,
    end: End,
    relay: SocketAddr,
) -> Result<(PeerId, Circuit<S>), EstablishError> {
    let (report, changes) = (Report::default(), shared.source.subscribe());
    let wire = CircuitWire::new(relay);
    let io = Counted { io, wire: wire.clone() };
    let failed = |e: std::io::Error| EstablishError::of_tls(&e, report.refusal());
    let (stream, side, wanted, mode) = match end {
        End::Dialer(wanted) => {
            let config = tls::circuit_client(&shared.terms, &shared.source, &report).map_err(EstablishError::Tls)?;
            let name = ServerName::try_from(tls::SERVER_NAME).map_err(|_| EstablishError::Alpn)?;
            let stream = TlsConnector::from(Arc::new(config)).connect(name, io).await.map_err(failed)?;
            (TlsStream::Client(stream), Side::Dialer, Some(wanted), yamux::Mode::Client)
        }
        End::Listener => {
            let config = tls::circuit_server(&shared.terms, &shared.source, &report).map_err(EstablishError::Tls)?;
            let stream = TlsAcceptor::from(Arc::new(config)).accept(io).await.map_err(failed)?;
            (TlsStream::Server(stream), Side::Listener, None, yamux::Mode::Server)
        }
    };
    let mut session = CircuitSession { stream, wire: wire.clone() };
    match admit::to_mesh(shared, &mut session, side, &report, changes, wanted).await {
        Ok(admitted) => {
            let peer = admitted.peer;
            let muxer = CircuitMuxer::new(session.stream, mode, wire.clone());
            Ok((peer, Guarded::new(shared, muxer, wire, admitted)))
        }
        Err(error) => {
            if side == Side::Listener {
                session.refuse(error.code()).await;
            }
            Err(error)
        }
    }
}

struct CircuitSession<S> {
    stream: TlsStream<Counted<S>>,
    wire: Arc<CircuitWire>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> CircuitSession<S> {
    /// Tells the dialler why it is not let in. It may be gone already.
    async fn refuse(&mut self, code: CloseCode) {
        if self.stream.write_all(&refusal(code)).await.is_ok() {
            let _ = self.stream.close().await;
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Session for CircuitSession<S> {
    fn alpn(&self) -> Option<Vec<u8>> {
        self.stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec)
    }

    fn peer_chain(&self) -> Option<Vec<CertificateDer<'static>>> {
        self.stream.get_ref().1.peer_certificates().map(<[_]>::to_vec)
    }

    fn exporter(&self, label: &[u8]) -> Option<[u8; 32]> {
        let out = [0; 32];
        match &self.stream {
            TlsStream::Client(stream) => stream.get_ref().1.export_keying_material(out, label, Some(b"")),
            TlsStream::Server(stream) => stream.get_ref().1.export_keying_material(out, label, Some(b"")),
        }
        .ok()
    }

    async fn read(&mut self, lane: Lane<'_>) -> Result<Vec<u8>, EstablishError> {
        let failed = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => EstablishError::Circuit("the other end said nothing".to_owned()),
            _ => EstablishError::of_tls(&e, None),
        };
        let mut first = [0];
        self.stream.read_exact(&mut first).await.map_err(failed)?;
        if first == [REFUSED] {
            let mut code = [0; 4];
            self.stream.read_exact(&mut code).await.map_err(failed)?;
            return Err(EstablishError::closed_by_peer(u32::from_be_bytes(code).into(), ""));
        }
        let mut frame = vec![0; lane.frame_bytes()];
        let (head, rest) = frame.split_at_mut(1);
        head.copy_from_slice(&first);
        self.stream.read_exact(rest).await.map_err(failed)?;
        Ok(frame)
    }

    async fn write(&mut self, frame: &[u8]) -> Result<(), EstablishError> {
        let failed = |e: std::io::Error| EstablishError::of_tls(&e, None);
        self.stream.write_all(frame).await.map_err(failed)?;
        self.stream.flush().await.map_err(failed)
    }

    fn wire(&self) -> Arc<dyn Wire> {
        self.wire.clone()
    }
}

/// Counts what the relay carries.
pub(crate) struct Counted<S> {
    io: S,
    wire: Arc<CircuitWire>,
}

impl<S> Counted<S> {
    fn count(counter: &AtomicU64, done: Poll<std::io::Result<usize>>) -> Poll<std::io::Result<usize>> {
        if let Poll::Ready(Ok(n)) = done {
            counter.fetch_add(n as u64, Relaxed);
        }
        done
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<std::io::Result<usize>> {
        let done = Pin::new(&mut self.io).poll_read(cx, buffer);
        Self::count(&self.wire.bytes_in, done)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let done = Pin::new(&mut self.io).poll_write(cx, bytes);
        Self::count(&self.wire.bytes_out, done)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}
