//! Between the mesh and the core: frames out, events in.

use cauldron_mesh::{CloseCode, MeshEvent, MeshHandle};
use cauldron_node_core::{Input, LinkId};
use tokio::sync::mpsc;

use super::engine::{Handle, Wire};
use super::quiet;
use super::refusals::Refusals;
use crate::clock;

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
