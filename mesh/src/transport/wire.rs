//! A QUIC connection as the registry uses it.

use std::net::SocketAddr;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::EstablishError;
use crate::code::CloseCode;
use crate::limits::{SEND_WINDOW_BYTES, SEND_WINDOW_BYTES_MIN};
use crate::registry::{Traffic, Wire};

#[derive(Debug)]
pub(super) struct QuicWire(pub(super) quinn::Connection);

impl Wire for QuicWire {
    fn close(&self, code: CloseCode, reason: &str) {
        self.0.close(code.var_int(), reason.as_bytes());
    }

    fn remote(&self) -> SocketAddr {
        self.0.remote_address()
    }

    fn relayed(&self) -> bool {
        false
    }

    fn traffic(&self) -> Traffic {
        let stats = self.0.stats();
        Traffic {
            rtt: stats.path.rtt,
            packets_sent: stats.path.sent_packets,
            packets_lost: stats.path.lost_packets,
            bytes_out: stats.udp_tx.bytes,
            bytes_in: stats.udp_rx.bytes,
        }
    }

    /// Every packet of a live peer brings one of these, and frames are counted once their packet has been decrypted: what
    /// somebody else sends in its name does not count.
    fn signs_of_life(&self) -> u64 {
        let frames = self.0.stats().frame_rx;
        frames.acks + frames.ping + frames.stream + frames.crypto + frames.max_data + frames.max_stream_data
    }

    /// What QUIC has taken and not sent yet stands before every frame to come: on a thin path two congestion windows are enough to
    /// keep it busy, and no restriction waits behind more.
    fn fit_send_window(&self) {
        let window = self.0.stats().path.cwnd.saturating_mul(2);
        self.0.set_send_window(window.clamp(SEND_WINDOW_BYTES_MIN, SEND_WINDOW_BYTES));
    }

    fn over(&self) -> Option<Option<String>> {
        Some(match self.0.close_reason()? {
            quinn::ConnectionError::LocallyClosed => None,
            error => Some(EstablishError::of(error, None).to_string()),
        })
    }

    /// An empty stream that the peer acknowledges: only a process that holds this connection's keys and runs can. It asks
    /// nothing of the peer's version: libp2p takes an empty stream for one that came to nothing, and gives it back.
    fn answers(&self) -> BoxFuture<'static, bool> {
        let connection = self.0.clone();
        async move {
            let Ok((mut send, _receive)) = connection.open_bi().await else { return false };
            // Fails only for a stream that was finished or stopped already.
            let _ = send.finish();
            match send.stopped().await {
                Ok(_) => true,
                Err(quinn::StoppedError::ConnectionLost(_) | quinn::StoppedError::ZeroRttRejected) => false,
            }
        }
        .boxed()
    }
}
