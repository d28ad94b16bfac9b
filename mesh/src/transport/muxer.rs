//! One admitted connection as libp2p sees it, with the guard that closes it when its reason to exist ends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use cauldron_identity::PublicKey;
use cauldron_identity::x509::{CertificateDer, SvidError};
use futures::future::BoxFuture;
use futures::{AsyncRead, AsyncWrite, FutureExt};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use quinn::ConnectionError;
use tokio::sync::watch;

use super::{EstablishError, Shared, multiaddr_of};
use crate::code::CloseCode;
use crate::limits::{DATA_LANE_TIME_MAX, GUARD_INTERVAL};
use crate::registry::Lease;

type Opening = BoxFuture<'static, Result<(quinn::SendStream, quinn::RecvStream), ConnectionError>>;

/// An admitted connection.
pub(crate) struct Muxer {
    connection: quinn::Connection,
    remote: std::net::SocketAddr,
    inbound: Option<Opening>,
    outbound: Option<Opening>,
    closing: Option<BoxFuture<'static, ConnectionError>>,
    guard: Option<BoxFuture<'static, EstablishError>>,
    shared: Arc<Shared>,
    _lease: Lease,
}

impl Muxer {
    pub(super) fn new(shared: &Arc<Shared>, connection: quinn::Connection, guarded: Guarded, lease: Lease) -> Self {
        Self {
            remote: connection.remote_address(),
            connection,
            inbound: None,
            outbound: None,
            closing: None,
            guard: Some(guard(shared.clone(), guarded).boxed()),
            shared: shared.clone(),
            _lease: lease,
        }
    }
}

/// What a live connection rests on. Changes are subscribed to before the handshake, so that none falls between
/// verification and guard.
pub(super) enum Guarded {
    /// The peer's SVID.
    Svid { chain: Vec<CertificateDer<'static>>, not_after_s: u64, changes: watch::Receiver<u64> },
    /// The peer's enrolment.
    Author { author: PublicKey, changes: watch::Receiver<u64> },
}

async fn guard(shared: Arc<Shared>, guarded: Guarded) -> EstablishError {
    match guarded {
        Guarded::Svid { chain, not_after_s, changes } => {
            EstablishError::Svid(guard_svid(shared, chain, not_after_s, changes).await)
        }
        Guarded::Author { author, changes } => guard_author(&shared, author, changes).await,
    }
}

/// Resolves when the peer is cut, when this node's own certificates change, and after a while: the mesh lane may work again.
async fn guard_author(shared: &Shared, author: PublicKey, mut changes: watch::Receiver<u64>) -> EstablishError {
    let over = tokio::time::sleep(DATA_LANE_TIME_MAX);
    tokio::pin!(over);
    loop {
        tokio::select! {
            () = &mut over => return EstablishError::LaneOver,
            _ = changes.changed() => return EstablishError::LaneOver,
            () = tokio::time::sleep(GUARD_INTERVAL) => {}
        }
        if shared.name_of(&author).is_none() {
            return EstablishError::NotEnrolled(author.author_id().short());
        }
    }
}

/// Resolves with the reason as soon as the chain no longer verifies. TLS verifies at the handshake only; without this an
/// expired or distrusted peer would keep its connection for ever.
async fn guard_svid(
    shared: Arc<Shared>,
    chain: Vec<CertificateDer<'static>>,
    not_after_s: u64,
    mut changes: watch::Receiver<u64>,
) -> SvidError {
    loop {
        let left = Duration::from_secs((not_after_s + 1).saturating_sub(shared.source.now_s()));
        tokio::select! {
            () = tokio::time::sleep(left.min(GUARD_INTERVAL)) => {}
            _ = changes.changed() => {}
        }
        if let Err(reason) = shared.source.verify(&chain) {
            return reason;
        }
        if left.is_zero() {
            // The clock stepped back across the end; look again soon, not at once.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

impl StreamMuxer for Muxer {
    type Substream = Stream;
    type Error = EstablishError;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Stream, EstablishError>> {
        let connection = self.connection.clone();
        let opening = self.inbound.get_or_insert_with(|| async move { connection.accept_bi().await }.boxed());
        let opened = ready!(opening.poll_unpin(cx));
        self.inbound = None;
        Poll::Ready(opened.map(Stream::new).map_err(|e| EstablishError::of(e, None)))
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Stream, EstablishError>> {
        let connection = self.connection.clone();
        let opening = self.outbound.get_or_insert_with(|| async move { connection.open_bi().await }.boxed());
        let opened = ready!(opening.poll_unpin(cx));
        self.outbound = None;
        Poll::Ready(opened.map(Stream::new).map_err(|e| EstablishError::of(e, None)))
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, EstablishError>> {
        // The planted bug: what TLS verified once is believed for ever.
        let asleep = cauldron_identity::planted::active("guard-off");
        if let Some(Poll::Ready(reason)) = self.guard.as_mut().filter(|_| !asleep).map(|guard| guard.poll_unpin(cx)) {
            self.guard = None;
            let code = match &reason {
                EstablishError::Svid(SvidError::Expired { .. }) => CloseCode::SvidExpired,
                EstablishError::Svid(_) => CloseCode::Untrusted,
                other => other.code(),
            };
            self.shared.counters.count_closed(code);
            self.connection.close(code.var_int(), code.label().as_bytes());
            return Poll::Ready(Err(reason));
        }
        let remote = self.connection.remote_address();
        if remote != self.remote {
            self.remote = remote;
            return Poll::Ready(Ok(StreamMuxerEvent::AddressChange(multiaddr_of(remote))));
        }
        Poll::Pending
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), EstablishError>> {
        let connection = self.connection.clone();
        let closing = self.closing.get_or_insert_with(|| {
            connection.close(CloseCode::Normal.var_int(), CloseCode::Normal.label().as_bytes());
            async move { connection.closed().await }.boxed()
        });
        match ready!(closing.poll_unpin(cx)) {
            ConnectionError::LocallyClosed => Poll::Ready(Ok(())),
            error => Poll::Ready(Err(EstablishError::of(error, None))),
        }
    }
}

/// One bidirectional QUIC stream.
pub(crate) struct Stream {
    send: quinn::SendStream,
    receive: quinn::RecvStream,
    closed: Option<Result<(), std::io::ErrorKind>>,
}

impl Stream {
    fn new((send, receive): (quinn::SendStream, quinn::RecvStream)) -> Self {
        Self { send, receive, closed: None }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<std::io::Result<usize>> {
        AsyncRead::poll_read(Pin::new(&mut self.receive), cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.send), cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.send), cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        // libp2p polls on after completion; quinn answers that with an error.
        if let Some(closed) = self.closed {
            return Poll::Ready(closed.map_err(Into::into));
        }
        let closed = ready!(AsyncWrite::poll_close(Pin::new(&mut self.send), cx));
        self.closed = Some(closed.as_ref().map_err(std::io::Error::kind).copied());
        Poll::Ready(closed)
    }
}
