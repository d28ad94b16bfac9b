//! Who may come over the data lane: what the authority chain says, kept where handshakes can ask.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use cauldron_identity::{PublicKey, SpiffeId};
use cauldron_mesh::Enrolled;
use cauldron_node_core::{Event, NodeCore};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use crate::run::engine::Handle;

/// How long the list may stand behind the core when an event was missed.
const REFRESH_EVERY: Duration = Duration::from_secs(5);

/// A clone is the same list.
#[derive(Debug, Clone, Default)]
pub struct Members(Arc<ArcSwap<BTreeMap<[u8; 32], SpiffeId>>>);

impl Members {
    /// Takes what the core says.
    pub fn set(&self, enrolled: Vec<(PublicKey, SpiffeId)>) {
        self.0.store(Arc::new(enrolled.into_iter().map(|(key, id)| (*key.as_bytes(), id)).collect()));
    }

    /// For the mesh.
    pub fn enrolled(&self) -> Enrolled {
        let members = self.clone();
        Enrolled::new(move |key| members.0.load().get(key.as_bytes()).cloned())
    }

    /// Follows the authority chain until `stop` turns true.
    pub async fn follow(self, node: Handle, mut stop: watch::Receiver<bool>) {
        let mut events = node.events();
        loop {
            match node.read(NodeCore::enrolled).await {
                Ok(enrolled) => self.set(enrolled),
                Err(_) => return,
            }
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(REFRESH_EVERY) => {}
                changed = authority_changed(&mut events) => if !changed { return },
            }
        }
    }
}

/// Waits for an entry of the authority chain; false when there will be none.
async fn authority_changed(events: &mut tokio::sync::broadcast::Receiver<Event>) -> bool {
    let authority = cauldron_identity::Scope::authority().to_string();
    loop {
        match events.recv().await {
            Ok(Event::Stored { scope, .. }) if scope == authority => return true,
            Ok(Event::Term { .. }) => return true,
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => return true,
            Err(RecvError::Closed) => return false,
        }
    }
}
