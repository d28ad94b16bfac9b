//! Goes by the roots that the charter names and the sequencer publishes, and says so: the bundle for TLS, the bundle on disk,
//! what this node's own certificates stand under, and whether they must be renewed at once.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cauldron_identity::Digest;
use cauldron_identity::authority::{KIND_HELD, KIND_ROOTS, Root, RootState, Trust};
use cauldron_identity::x509::{Bundle, CertificateDer, certificates_to_pem, key_digest, root_of};
use cauldron_mesh::SvidSource;
use cauldron_node_core::{Command, Event, NodeCore, RootStep, RootsNow};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use crate::config::Config;
use crate::files;
use crate::run::engine::Handle;
use crate::run::root_keeper::RootKeeper;
use crate::run::site::SiteHolder;
use crate::run::workloads::Overview;

/// How long this may stand behind the core when an event was missed.
const REFRESH_EVERY: Duration = Duration::from_secs(5);

/// What renewals must know, kept where they can look.
#[derive(Debug, Default)]
pub struct RootsWatch {
    tainted: Mutex<BTreeSet<Digest>>,
    /// Term and length of the authority chain by which the last grant was judged.
    judged: Mutex<(u32, u64)>,
}

impl RootsWatch {
    /// Whether this chain stands under a root that is on its way out at once.
    pub fn is_tainted(&self, chain: &[CertificateDer<'_>], bundle: Option<&Bundle>) -> bool {
        let tainted = self.tainted.lock().unwrap_or_else(PoisonError::into_inner);
        !tainted.is_empty() && bundle.and_then(|b| root_of(chain, b)).is_some_and(|key| tainted.contains(&key))
    }

    /// A grant was judged by a chain of this term and length: until this node's own has come as far, what the grant brought
    /// stands.
    pub fn granted(&self, term: u32, index: u64) {
        *self.judged.lock().unwrap_or_else(PoisonError::into_inner) = (term, index);
    }
}

/// The task.
pub struct Roots {
    /// The configuration.
    pub config: Arc<Config>,
    /// What TLS goes by.
    pub source: Arc<SvidSource>,
    /// The way to the core.
    pub node: Handle,
    /// The authority, where this machine holds it.
    pub keeper: Option<Arc<RootKeeper>>,
    /// The site's intermediate, where this node holds it.
    pub holder: Option<Arc<SiteHolder>>,
    /// SVIDs of this machine's workloads.
    pub workloads: Option<Overview>,
    /// For those who renew.
    pub watch: Arc<RootsWatch>,
}

impl Roots {
    /// Follows the core until `stop` turns true.
    pub async fn follow(self, mut stop: watch::Receiver<bool>) {
        let (mut events, mut trust) = (self.node.events(), self.source.subscribe());
        let mut told = None;
        loop {
            if self.pass(&mut told).await.is_none() {
                return;
            }
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(REFRESH_EVERY) => {}
                changed = trust.changed() => if changed.is_err() { return },
                changed = concerns_roots(&mut events) => if !changed { return },
            }
        }
    }

    /// Nothing, once the node stops.
    async fn pass(&self, told: &mut Option<Trust>) -> Option<()> {
        let look = |core: &NodeCore| (core.roots(), (core.authority().term(), core.authority().index()));
        let (now, reached) = self.node.read(look).await.ok()?;
        let judged = *self.watch.judged.lock().unwrap_or_else(PoisonError::into_inner);
        if reached >= judged {
            self.apply(&now);
        }
        let tainted = tainted(&now);
        if let Some(holder) = &self.holder {
            let bundles = self.source.bundles();
            let root = bundles.get(self.source.spiffe_id().trust_domain()).and_then(|bundle| holder.root(bundle));
            holder.set_tainted(root.is_some_and(|root| tainted.contains(&root)));
        }
        *self.watch.tainted.lock().unwrap_or_else(PoisonError::into_inner) = tainted;
        let trust = self.trust();
        if told.as_ref() != Some(&trust) {
            // Refused only when the node stops.
            if self.node.command(Command::Trust(trust.clone())).await.is_ok() {
                *told = Some(trust);
            }
        }
        self.tend_authority().await
    }

    /// What to accept certificates under: what is published, or what is here already, as far as the charter names it.
    fn apply(&self, now: &RootsNow) {
        let domain = self.source.spiffe_id().trust_domain();
        let bundles = self.source.bundles();
        let present = bundles.get(domain).map(|b| b.roots().to_vec()).unwrap_or_default();
        let published = now.published.as_ref().map(|roots| roots.iter().filter_map(certificate).collect());
        let mut wanted: Vec<CertificateDer<'static>> = published.unwrap_or_else(|| present.clone());
        wanted.retain(|der| key_digest(der).is_ok_and(|key| now.named.contains(&key)));
        if wanted == present {
            return;
        }
        let mut new = (*bundles).clone();
        match Bundle::new(domain.clone(), wanted.clone()) {
            Ok(bundle) => {
                tracing::info!(roots = wanted.len(), "the roots of this trust domain changed");
                new.insert(bundle);
                if let Err(why) =
                    files::write_public(&self.config.node.dir.bundle(), certificates_to_pem(&wanted).as_bytes())
                {
                    tracing::error!(%why, "the trust domain's roots could not be written down");
                }
            }
            Err(_) => {
                tracing::error!(
                    "the charter names none of the roots that this node knows; it trusts nobody until it renews"
                );
                new.remove(domain);
            }
        }
        self.source.set_bundles(new);
    }

    /// What this node goes by.
    fn trust(&self) -> Trust {
        let bundles = self.source.bundles();
        let Some(bundle) = bundles.get(self.source.spiffe_id().trust_domain()) else { return Trust::default() };
        let mut roots: Vec<Digest> = bundle.roots().iter().filter_map(|der| key_digest(der).ok()).collect();
        roots.sort_unstable();
        let mut under: BTreeSet<Digest> = root_of(&self.source.chain(), bundle).into_iter().collect();
        under.extend(self.holder.as_ref().and_then(|holder| holder.root(bundle)));
        under.extend(self.workloads.iter().flat_map(|workloads| workloads.roots(bundle)));
        Trust { roots, under: under.into_iter().collect() }
    }

    /// On the authority's machine: whether it may sign, what it publishes, and which keys have had their time. Nothing, once
    /// the node stops.
    async fn tend_authority(&self) -> Option<()> {
        let Some(keeper) = &self.keeper else { return Some(()) };
        // A step that is under way ends first; what it changes is looked at the next time.
        let Ok(_turn) = keeper.turn.try_lock() else { return Some(()) };
        let now = self.node.read(NodeCore::roots).await.ok()?;
        if !keeper.judge(now.sequencer, &now.named) {
            return Some(());
        }
        // Once in years; a token may take its time.
        if let Err(why) = tokio::task::block_in_place(|| keeper.tend()) {
            tracing::error!(%why, "the root certificate could not be made anew");
        }
        let active = now.published.iter().flatten().find(|root| root.state == RootState::Active);
        let present = keeper.present();
        if active != Some(&present)
            && let Err(why) = self.node.command(Command::Root(RootStep::Present(present))).await
        {
            // It is tried again: a node that has just started waits for its peers first.
            tracing::debug!(%why, "the root cannot be published yet");
        }
        keeper.forget(&now.retired);
        Some(())
    }
}

fn tainted(now: &RootsNow) -> BTreeSet<Digest> {
    let roots = now.published.iter().flatten();
    roots.filter(|root| root.state == RootState::Tainted).map(|root| root.key).collect()
}

/// The certificate of a published root, where its key is the one that was named with it.
fn certificate(root: &Root) -> Option<CertificateDer<'static>> {
    let der = CertificateDer::from(root.certificate.to_vec());
    (key_digest(&der).ok()? == root.key).then_some(der)
}

/// Waits for something that may change which roots count; false when there will be nothing.
async fn concerns_roots(events: &mut tokio::sync::broadcast::Receiver<Event>) -> bool {
    let authority = cauldron_identity::Scope::authority().to_string();
    loop {
        match events.recv().await {
            Ok(Event::Stored { scope, kind, .. }) => {
                if scope == authority || kind == KIND_ROOTS || kind == KIND_HELD {
                    return true;
                }
            }
            Ok(Event::Term { .. }) | Err(RecvError::Lagged(_)) => return true,
            Ok(_) => {}
            Err(RecvError::Closed) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use cauldron_identity::x509::{AuthorityCa, SvidKey, Validity};

    use super::*;

    #[test]
    fn a_certificate_of_another_key_than_the_one_named_with_it_is_no_root() {
        let make = || {
            let domain = cauldron_identity::TrustDomain::new("acme.test").expect("a trust domain");
            let validity = Validity { not_before_s: 1, not_after_s: 9 };
            AuthorityCa::self_signed(domain, SvidKey::generate().expect("a key"), validity, [1; 16]).expect("a root")
        };
        let (ours, other) = (make(), make());
        let root = |key: &AuthorityCa, shown: &AuthorityCa| Root {
            key: key.key_digest(),
            certificate: shown.certificate().to_vec().into(),
            state: RootState::Active,
            not_after_s: 9,
        };
        assert_eq!(certificate(&root(&ours, &ours)).as_ref(), Some(ours.certificate()));
        assert_eq!(certificate(&root(&ours, &other)), None);
        assert_eq!(certificate(&Root { certificate: vec![0x30, 0].into(), ..root(&ours, &ours) }), None);
    }
}
