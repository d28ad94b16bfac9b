//! A byte stream in memory whose carrier sees everything and may change it, as a relay can.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use futures::{AsyncRead, AsyncWrite};

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Flow {
    bytes: VecDeque<u8>,
    reader: Option<Waker>,
    closed: bool,
    /// Everything that ever went over it.
    pub(super) seen: Vec<u8>,
    /// Turns one bit of the next bytes.
    pub(super) tamper: bool,
}

/// One end of a pipe.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) reads: Arc<Mutex<Flow>>,
    pub(super) writes: Arc<Mutex<Flow>>,
}

pub(super) fn pipe() -> (Pipe, Pipe) {
    let (there, back) = (Arc::<Mutex<Flow>>::default(), Arc::<Mutex<Flow>>::default());
    (Pipe { reads: back.clone(), writes: there.clone() }, Pipe { reads: there, writes: back })
}

pub(super) fn lock(flow: &Mutex<Flow>) -> MutexGuard<'_, Flow> {
    flow.lock().expect("no test panics here")
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut flow = lock(&self.reads);
        if flow.bytes.is_empty() && !flow.closed {
            flow.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let n = buffer.len().min(flow.bytes.len());
        for (to, from) in buffer.iter_mut().zip(flow.bytes.drain(..n)) {
            *to = from;
        }
        Poll::Ready(Ok(n))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut flow = lock(&self.writes);
        if flow.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut bytes = bytes.to_vec();
        flow.seen.extend(&bytes);
        if flow.tamper {
            flow.tamper = false;
            if let Some(last) = bytes.last_mut() {
                *last ^= 1;
            }
        }
        flow.bytes.extend(&bytes);
        if let Some(reader) = flow.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut flow = lock(&self.writes);
        flow.closed = true;
        if let Some(reader) = flow.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        for flow in [&self.reads, &self.writes] {
            let mut flow = lock(flow);
            flow.closed = true;
            if let Some(reader) = flow.reader.take() {
                reader.wake();
            }
        }
    }
}
