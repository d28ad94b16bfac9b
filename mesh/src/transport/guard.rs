//! What closes a connection when its reason to exist ends, whatever carries it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use cauldron_identity::PublicKey;
use cauldron_identity::x509::{CertificateDer, SvidError};
use futures::FutureExt;
use futures::future::BoxFuture;
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use tokio::sync::watch;

use super::admit::Admitted;
use super::{EstablishError, Shared};
use crate::code::CloseCode;
use crate::limits::{DATA_LANE_TIME_MAX, GUARD_INTERVAL};
use crate::registry::{Lease, Wire};

/// An admitted connection: the muxer underneath, watched.
pub(crate) struct Guarded<M> {
    inner: M,
    guard: Option<BoxFuture<'static, EstablishError>>,
    wire: Arc<dyn Wire>,
    shared: Arc<Shared>,
    _lease: Lease,
}

impl<M> Guarded<M> {
    pub(super) fn new(shared: &Arc<Shared>, inner: M, wire: Arc<dyn Wire>, admitted: Admitted) -> Self {
        let guard = Some(guard(shared.clone(), admitted.grounds).boxed());
        Self { inner, guard, wire, shared: shared.clone(), _lease: admitted.lease }
    }
}

/// What a live connection rests on. Changes are subscribed to before the handshake, so that none falls between
/// verification and guard.
pub(super) enum Grounds {
    /// The peer's SVID.
    Svid { chain: Vec<CertificateDer<'static>>, not_after_s: u64, changes: watch::Receiver<u64> },
    /// The peer's enrolment.
    Author { author: PublicKey, changes: watch::Receiver<u64> },
}

async fn guard(shared: Arc<Shared>, grounds: Grounds) -> EstablishError {
    match grounds {
        Grounds::Svid { chain, not_after_s, changes } => {
            EstablishError::Svid(guard_svid(shared, chain, not_after_s, changes).await)
        }
        Grounds::Author { author, changes } => guard_author(&shared, author, changes).await,
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

impl<M: StreamMuxer<Error = EstablishError> + Unpin> StreamMuxer for Guarded<M> {
    type Substream = M::Substream;
    type Error = EstablishError;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<M::Substream, EstablishError>> {
        Pin::new(&mut self.inner).poll_inbound(cx)
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<M::Substream, EstablishError>> {
        Pin::new(&mut self.inner).poll_outbound(cx)
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
            self.wire.close(code, code.label());
            return Poll::Ready(Err(reason));
        }
        Pin::new(&mut self.inner).poll(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), EstablishError>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}
