//! Connections: accepted within bounds, each with its caller.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tonic::transport::server::Connected;

use crate::authority::Mended;
use crate::caller::Caller;

/// Connections at once. A workload needs one or two; a node has some tens of workloads.
pub(crate) const CONNECTIONS_MAX: usize = 256;
/// Of these, what one user may hold, so that none can shut the others out.
pub(crate) const CONNECTIONS_PER_USER_MAX: usize = 64;
/// After the system refused to accept.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
const _: () = assert!(CONNECTIONS_PER_USER_MAX * 2 <= CONNECTIONS_MAX);

/// How many connections each user holds.
#[derive(Debug, Default)]
pub(crate) struct Held(Mutex<BTreeMap<u32, usize>>);

impl Held {
    pub(crate) fn connections(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    fn take(self: &Arc<Self>, uid: u32) -> Option<Seat> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, own) = (held.values().sum::<usize>(), held.get(&uid).copied().unwrap_or(0));
        if all >= CONNECTIONS_MAX || own >= CONNECTIONS_PER_USER_MAX {
            return None;
        }
        held.insert(uid, own + 1);
        Some(Seat { held: self.clone(), uid })
    }
}

#[derive(Debug)]
struct Seat {
    held: Arc<Held>,
    uid: u32,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut held = self.held.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = held.get_mut(&self.uid) {
            *own -= 1;
            if *own == 0 {
                held.remove(&self.uid);
            }
        }
    }
}

/// The next connection within bounds; those beyond are closed at once.
pub(crate) async fn accept(listener: &UnixListener, held: &Arc<Held>) -> Connection {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(why) => {
                // Out of file descriptors, as a rule: others give some back.
                tracing::warn!(%why, "the Workload API cannot accept a connection");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let caller = match Caller::of(&stream) {
            Ok(caller) => caller,
            Err(why) => {
                tracing::warn!(%why, "a caller of the Workload API cannot be known");
                continue;
            }
        };
        match held.take(caller.uid()) {
            Some(seat) => {
                return Connection { stream, caller: Arc::new(caller), mended: Mended::default(), _seat: seat };
            }
            None => tracing::warn!(uid = caller.uid(), pid = caller.pid(), "too many connections to the Workload API"),
        }
    }
}

/// One connection.
pub(crate) struct Connection {
    stream: UnixStream,
    caller: Arc<Caller>,
    mended: Mended,
    _seat: Seat,
}

impl Connected for Connection {
    type ConnectInfo = Arc<Caller>;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.caller.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let Self { stream, mended, .. } = &mut *self;
        while mended.ready.is_empty() {
            let mut space = [0; 4096];
            let mut came = ReadBuf::new(&mut space);
            std::task::ready!(Pin::new(&mut *stream).poll_read(cx, &mut came))?;
            if came.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            mended.take(came.filled());
        }
        let now = mended.ready.len().min(buf.remaining());
        buf.put_slice(mended.ready.get(..now).unwrap_or_default());
        mended.ready.drain(..now);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
