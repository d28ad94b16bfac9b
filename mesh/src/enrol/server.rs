//! The authority's side.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::EXPORTER_LABEL;
use super::rate::Rate;
use crate::code::CloseCode;
use crate::counters::Counters;
use crate::limits::{ENROL_CONCURRENT_MAX, ENROL_REPLY_BYTES_MAX, ENROL_REQUEST_BYTES_MAX, ENROL_TIME_MAX};

/// How long a peer may take to read the reply and close.
const LINGER: Duration = Duration::from_secs(3);

/// One enrolment to answer. Dropping it refuses the peer with [`CloseCode::EnrolTimeout`].
#[derive(Debug)]
pub struct EnrolRequest {
    /// Who asks, as far as UDP says.
    pub remote: SocketAddr,
    /// The TLS session's exporter: the same bytes that the joining side sees, if nobody stands between.
    pub exporter: [u8; 32],
    /// The request, as sent; nothing in it is verified yet.
    pub bytes: Vec<u8>,
    /// Takes the reply, at most 256 KiB.
    pub reply: oneshot::Sender<Vec<u8>>,
}

/// Serves the lane, within bounds, or turns it away where the node enrols nobody.
#[derive(Clone)]
pub(crate) struct EnrolLane {
    requests: Option<mpsc::Sender<EnrolRequest>>,
    slots: Arc<Semaphore>,
    rate: Arc<Mutex<Rate>>,
    counters: Arc<Counters>,
}

impl EnrolLane {
    pub(crate) fn new(requests: Option<mpsc::Sender<EnrolRequest>>, counters: Arc<Counters>) -> Self {
        let slots = Arc::new(Semaphore::new(ENROL_CONCURRENT_MAX));
        Self { requests, slots, rate: Arc::default(), counters }
    }

    /// Takes over a connection whose handshake is done.
    pub(crate) fn serve(&self, connection: quinn::Connection) {
        let refuse = |code: CloseCode| {
            self.counters.count_refused(code);
            connection.close(code.var_int(), code.label().as_bytes());
        };
        let Some(requests) = self.requests.clone() else { return refuse(CloseCode::EnrolClosed) };
        let remote = connection.remote_address();
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        if !rate.take(remote.ip(), Instant::now()) {
            return refuse(CloseCode::EnrolRate);
        }
        drop(rate);
        let Ok(slot) = self.slots.clone().try_acquire_owned() else { return refuse(CloseCode::EnrolBusy) };
        let counters = self.counters.clone();
        tokio::spawn(async move {
            let result = timeout(ENROL_TIME_MAX, exchange(&connection, remote, requests)).await;
            match result.unwrap_or(Err(CloseCode::EnrolTimeout)) {
                Ok(()) => {
                    counters.enrolments.fetch_add(1, Relaxed);
                    connection.close(CloseCode::Normal.var_int(), b"");
                }
                Err(code) => {
                    counters.count_refused(code);
                    connection.close(code.var_int(), code.label().as_bytes());
                }
            }
            drop(slot);
        });
    }
}

/// Reads one request, asks the node, writes its reply, and waits until the peer has it.
async fn exchange(
    connection: &quinn::Connection,
    remote: SocketAddr,
    requests: mpsc::Sender<EnrolRequest>,
) -> Result<(), CloseCode> {
    let mut exporter = [0; 32];
    connection.export_keying_material(&mut exporter, EXPORTER_LABEL, b"").map_err(|_| CloseCode::EnrolRequest)?;
    let (mut send, mut receive) = connection.accept_bi().await.map_err(|_| CloseCode::EnrolRequest)?;
    let bytes = receive.read_to_end(ENROL_REQUEST_BYTES_MAX).await.map_err(|_| CloseCode::EnrolRequest)?;
    let (reply, answer) = oneshot::channel();
    let request = EnrolRequest { remote, exporter, bytes, reply };
    requests.send(request).await.map_err(|_| CloseCode::EnrolClosed)?;
    let reply = answer.await.map_err(|_| CloseCode::EnrolTimeout)?;
    if reply.len() > ENROL_REPLY_BYTES_MAX {
        tracing::error!(bytes = reply.len(), "an enrolment reply is too long to send");
        return Err(CloseCode::EnrolTimeout);
    }
    send.write_all(&reply).await.map_err(|_| CloseCode::EnrolTimeout)?;
    send.finish().map_err(|_| CloseCode::EnrolTimeout)?;
    // Closing at once could discard what the peer has not read yet; it closes when it has.
    let _ = timeout(LINGER, connection.closed()).await;
    Ok(())
}
