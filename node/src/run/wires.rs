//! Between the mesh and the core: frames out, events in.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use cauldron_identity::SpiffeId;
use cauldron_mesh::{CloseCode, MeshEvent, MeshHandle};
use cauldron_node_core::{Input, LinkId};
use tokio::sync::{mpsc, watch};

use super::engine::{Handle, Wire};
use super::quiet;
use super::refusals::Refusals;
use crate::clock;

/// How often this node looks at which addresses it has.
const ADDRESSES_EVERY: Duration = Duration::from_secs(10);

/// The wires as the loop sees them.
pub(super) struct Wires(pub(super) MeshHandle);

impl Wire for Wires {
    fn send(&self, link: LinkId, bytes: Vec<u8>) {
        // A link that is gone, or whose queue is full and which is closed for it, is reported as an event.
        let _ = self.0.send(link, bytes);
    }

    fn close(&self, link: LinkId, detail: &str) {
        tracing::warn!(link, detail, "closing a link");
        // The detail stays here: a stranger learns the code alone.
        self.0.close(link, CloseCode::BadContent, "");
    }

    fn release(&self, link: LinkId) {
        tracing::info!(link, "nobody needs this link any more");
        self.0.close(link, CloseCode::Normal, "not needed any more");
    }

    fn seek(&self, spiffe_id: SpiffeId, addresses: Vec<String>) {
        self.0.seek(spiffe_id, addresses);
    }
}

/// Where this node can be reached: what the configuration says, or every address that it listens on and that others can use.
pub(super) fn addresses(configured: &[String], listening: &[SocketAddr]) -> Vec<String> {
    let configured: Vec<String> = configured.iter().filter(|address| !address.ends_with(":0")).cloned().collect();
    if !configured.is_empty() {
        return configured;
    }
    let only_here = listening.iter().all(|address| address.ip().is_loopback());
    let usable = |address: &&SocketAddr| only_here || !(address.ip().is_loopback() || is_link_local(address.ip()));
    listening.iter().filter(usable).map(ToString::to_string).collect()
}

/// An address that means something on one cable alone.
fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// Where the configuration says that this node can be reached.
pub(super) struct Advertised {
    /// `host:port`; empty for the addresses that it listens on.
    pub(super) configured: Vec<String>,
    /// `via` and the SPIFFE ID of a relay.
    pub(super) via: Vec<String>,
}

/// Tells the core where this node can be reached, as interfaces come and go.
pub(super) async fn keep_addresses(
    mesh: MeshHandle,
    node: Handle,
    advertised: Advertised,
    mut stop: watch::Receiver<bool>,
) {
    let mut told = None;
    loop {
        let mut now = addresses(&advertised.configured, &mesh.listen_addrs().await);
        now.extend_from_slice(&advertised.via);
        if told.as_ref() != Some(&now) && !now.is_empty() {
            if node.input_async(Input::Addresses(now.clone())).await.is_err() {
                return;
            }
            told = Some(now);
        }
        // Until there is a first address it is looked at often.
        let pause = if told.is_some() { ADDRESSES_EVERY } else { ADDRESSES_EVERY / 50 };
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Carries what happens on the wires to the core.
pub(super) async fn pump(mut events: mpsc::Receiver<MeshEvent>, node: Handle, refusals: Refusals) {
    let mut quiet = quiet::Quiet::default();
    while let Some(event) = events.recv().await {
        let input = match event {
            MeshEvent::LinkUp { link, spiffe_id, author, remote_addr, .. } => {
                tracing::info!(link, peer = %spiffe_id, remote = %remote_addr, "link up");
                Input::LinkUp { link, spiffe_id, author }
            }
            MeshEvent::DataLinkUp { link, spiffe_id, author, remote_addr, .. } => {
                tracing::info!(link, peer = %spiffe_id, remote = %remote_addr, "link up on the data lane");
                Input::DataLinkUp { link, author }
            }
            MeshEvent::LinkDown { link, reason } => {
                tracing::info!(link, reason, "link down");
                Input::LinkDown { link }
            }
            MeshEvent::DialFailed { spiffe_id } => Input::DialFailed { spiffe_id },
            MeshEvent::Drained { link, bytes } => Input::Drained { link, bytes },
            MeshEvent::Frame { link, bytes } => Input::Frame { link, bytes },
            MeshEvent::Heard { links, since } => {
                let ago_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
                Input::Heard { links, at_ms: clock::wall_ms().saturating_sub(ago_ms) }
            }
            MeshEvent::Listening(address) => {
                tracing::info!(%address, "listening");
                continue;
            }
            MeshEvent::Refused { direction, remote, reason, code } => {
                if let Some(silent) = quiet.tell(code.label(), std::time::Instant::now()) {
                    tracing::warn!(?direction, %remote, code = code.label(), reason, silent, "connection refused");
                }
                refusals.note(clock::wall_ms(), direction, remote, code.label(), reason);
                continue;
            }
        };
        // Waits while the loop is busy: the mesh's own bounded queues then slow the peers down.
        if node.input_async(input).await.is_err() {
            return;
        }
    }
}
