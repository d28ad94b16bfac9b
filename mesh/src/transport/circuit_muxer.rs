//! Streams inside a circuit: yamux over TLS, closed and asked by the registry like a QUIC connection.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::task::AtomicWaker;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, FutureExt};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use tokio::sync::oneshot;

use super::EstablishError;
use crate::code::CloseCode;
use crate::limits::{BIDI_STREAMS_MAX, CIRCUIT_WINDOW_BYTES};
use crate::registry::{Traffic, Wire};

/// What multistream-select begins with, in both directions: the peer's libp2p answers it before anything is chosen.
const MULTISTREAM: &[u8; 20] = b"\x13/multistream/1.0.0\n";

/// A circuit as the registry uses it.
#[derive(Debug)]
pub(super) struct CircuitWire {
    relay: SocketAddr,
    /// Of libp2p's ping; yamux tells none.
    rtt_us: AtomicU64,
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
    state: Mutex<State>,
    waker: AtomicWaker,
}

#[derive(Debug, Default)]
struct State {
    /// Set once we end it.
    closed: bool,
    /// Set once it is over, with why, unless we ended it.
    over: Option<Option<String>>,
    /// Who waits for an answer of the other end.
    asked: Vec<oneshot::Sender<bool>>,
}

impl CircuitWire {
    pub(super) fn new(relay: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            relay,
            rtt_us: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            state: Mutex::default(),
            waker: AtomicWaker::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each critical section sets one field.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wire for CircuitWire {
    /// The peer learns no code: it sees its circuit end.
    fn close(&self, _: CloseCode, _: &str) {
        {
            let mut state = self.state();
            state.closed = true;
            state.over.get_or_insert(None);
        }
        self.waker.wake();
    }

    fn remote(&self) -> SocketAddr {
        self.relay
    }

    fn relayed(&self) -> bool {
        true
    }

    /// TLS records: nobody else can have sent them.
    fn signs_of_life(&self) -> u64 {
        self.bytes_in.load(Relaxed)
    }

    fn traffic(&self) -> Traffic {
        Traffic {
            rtt: Duration::from_micros(self.rtt_us.load(Relaxed)),
            bytes_out: self.bytes_out.load(Relaxed),
            bytes_in: self.bytes_in.load(Relaxed),
            ..Traffic::default()
        }
    }

    fn pinged(&self, rtt: Duration) {
        self.rtt_us.store(u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    fn over(&self) -> Option<Option<String>> {
        self.state().over.clone()
    }

    fn answers(&self) -> BoxFuture<'static, bool> {
        let (tell, told) = oneshot::channel();
        {
            let mut state = self.state();
            if state.over.is_some() {
                return std::future::ready(false).boxed();
            }
            state.asked.push(tell);
        }
        self.waker.wake();
        // The circuit ended without an answer.
        told.map(|told| told.unwrap_or(false)).boxed()
    }
}

/// The streams of a circuit.
pub(crate) struct CircuitMuxer<S> {
    connection: yamux::Connection<S>,
    wire: Arc<CircuitWire>,
    /// Streams that came while the connection was driven for another reason.
    inbound: VecDeque<yamux::Stream>,
    waiting: Option<Waker>,
    asking: Option<BoxFuture<'static, ()>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> CircuitMuxer<S> {
    pub(super) fn new(io: S, mode: yamux::Mode, wire: Arc<CircuitWire>) -> Self {
        let mut config = yamux::Config::default();
        config
            .set_max_num_streams(BIDI_STREAMS_MAX as usize)
            .set_max_connection_receive_window(Some(CIRCUIT_WINDOW_BYTES));
        let connection = yamux::Connection::new(io, config, mode);
        Self { connection, wire, inbound: VecDeque::new(), waiting: None, asking: None }
    }

    /// The next stream that the peer opens; drives everything else on the way.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<yamux::Stream, EstablishError>> {
        let why = match self.connection.poll_next_inbound(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(Ok(stream))) => return Poll::Ready(Ok(stream)),
            Poll::Ready(Some(Err(error))) => error.to_string(),
            Poll::Ready(None) => "the other end or the relay ended it".to_owned(),
        };
        let mut state = self.wire.state();
        let over = state.over.get_or_insert(Some(EstablishError::Circuit(why.clone()).to_string()));
        Poll::Ready(Err(if over.is_none() { EstablishError::ClosedHere } else { EstablishError::Circuit(why) }))
    }

    /// Asks the other end to answer, where somebody wants to know.
    fn poll_asked(&mut self, cx: &mut Context<'_>) {
        if self.asking.is_none()
            && !self.wire.state().asked.is_empty()
            && let Poll::Ready(Ok(stream)) = self.connection.poll_new_outbound(cx)
        {
            let asked = std::mem::take(&mut self.wire.state().asked);
            let ask = async move {
                let answered = ask(stream).await.is_ok();
                for tell in asked {
                    // Whoever asked may have given up.
                    let _ = tell.send(answered);
                }
            };
            self.asking = Some(ask.boxed());
        }
        if self.asking.as_mut().is_some_and(|asking| asking.poll_unpin(cx).is_ready()) {
            self.asking = None;
            // Somebody may have asked meanwhile.
            cx.waker().wake_by_ref();
        }
    }
}

async fn ask(mut stream: yamux::Stream) -> std::io::Result<()> {
    stream.write_all(MULTISTREAM).await?;
    stream.flush().await?;
    stream.read_exact(&mut [0; MULTISTREAM.len()]).await
}

impl<S: AsyncRead + AsyncWrite + Unpin> StreamMuxer for CircuitMuxer<S> {
    type Substream = yamux::Stream;
    type Error = EstablishError;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<yamux::Stream, EstablishError>> {
        if let Some(stream) = self.inbound.pop_front() {
            return Poll::Ready(Ok(stream));
        }
        let next = self.poll_next(cx);
        if next.is_pending() {
            self.waiting = Some(cx.waker().clone());
        }
        next
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<yamux::Stream, EstablishError>> {
        self.connection.poll_new_outbound(cx).map_err(|e| EstablishError::Circuit(e.to_string()))
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, EstablishError>> {
        self.wire.waker.register(cx.waker());
        if self.wire.state().closed {
            return Poll::Ready(Err(EstablishError::ClosedHere));
        }
        self.poll_asked(cx);
        match self.poll_next(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(stream)) => {
                // More than may be open at once cannot wait here, because yamux counts them.
                self.inbound.push_back(stream);
                if let Some(waiting) = self.waiting.take() {
                    waiting.wake();
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), EstablishError>> {
        self.connection.poll_close(cx).map_err(|e| EstablishError::Circuit(e.to_string()))
    }
}

impl<S> Drop for CircuitMuxer<S> {
    fn drop(&mut self) {
        let mut state = self.wire.state();
        state.over.get_or_insert(None);
        state.asked.clear();
    }
}
