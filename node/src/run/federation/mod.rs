//! Federation: bundles of other trust domains, fetched, kept and shown; ours, published.
//!
//! A foreign bundle verifies SVIDs and tokens of its own trust domain. It admits nobody to the mesh: peers are verified against
//! the mesh's own bundle, which lies elsewhere ([`cauldron_mesh::SvidSource`]), and must be enrolled.

mod fetch;
mod own;
mod serve;
mod store;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cauldron_identity::{TrustBundle, TrustBundles, TrustDomain};
use cauldron_mesh::SvidSource;
use cauldron_node_core::view::Time;
use serde_json::{Value, json};
use tokio::sync::watch;

pub use own::{Published, Token};
pub use serve::Server;
pub use store::read_all;

use crate::clock;
use crate::config::{Config, ForeignDomain, Profile};
use crate::error::CliError;
use cauldron_identity::trust_bundle::REFRESH_S_DEFAULT;

/// Keeps our own bundle fresh and answers for it where an endpoint is bound, until `stop` turns true.
pub fn publish(
    published: Option<&Arc<Published>>,
    server: Option<Server>,
    source: &Arc<SvidSource>,
    stop: &watch::Receiver<bool>,
) {
    let Some(published) = published else { return };
    tokio::spawn(published.clone().keep(stop.clone()));
    if let Some(server) = server {
        tokio::spawn(server.run(source.clone(), published.bundle(), stop.clone()));
    }
}

/// What is known of one foreign trust domain.
#[derive(Debug, Clone, Default)]
struct Foreign {
    bundle: Option<TrustBundle>,
    /// When that bundle was last confirmed by its endpoint; nothing for one from a configured file.
    fetched_ms: Option<u64>,
    tried_ms: Option<u64>,
    next_ms: Option<u64>,
    error: Option<String>,
}

/// The foreign bundles of this node.
#[derive(Debug)]
pub struct Federation {
    domains: Vec<ForeignDomain>,
    state: Mutex<BTreeMap<TrustDomain, Foreign>>,
    source: Arc<SvidSource>,
    dir: std::path::PathBuf,
}

/// What a node knows of foreign trust domains before it asks anybody.
#[derive(Debug)]
pub struct Known(BTreeMap<TrustDomain, Foreign>);

impl Known {
    /// Reads what was kept on disk, otherwise the configured files: a dark start knows what the last one knew.
    ///
    /// # Errors
    /// [`CliError`] when a configured bundle file is no bundle of its trust domain. What was kept and is damaged is only
    /// reported: the endpoint has it again.
    pub fn read(config: &Config) -> Result<Self, CliError> {
        let dir = config.node.dir.federation();
        let mut state = BTreeMap::new();
        for domain in &config.federation.domains {
            let name = &domain.trust_domain;
            let kept = store::read(&dir, name).unwrap_or_else(|why| {
                tracing::warn!(trust_domain = %name, %why, "the bundle that was kept cannot be used");
                None
            });
            let foreign = match (kept, &domain.bundle) {
                (Some((bundle, fetched_ms)), _) => {
                    Foreign { bundle: Some(bundle), fetched_ms: Some(fetched_ms), ..Foreign::default() }
                }
                (None, Some(file)) => {
                    let bundles = crate::cli::read_bundles(std::slice::from_ref(file), Some(name))?;
                    Foreign { bundle: bundles.get(name).cloned(), ..Foreign::default() }
                }
                (None, None) => Foreign::default(),
            };
            state.insert(name.clone(), foreign);
        }
        Ok(Self(state))
    }
}

impl Federation {
    /// Starts from what is known; nobody is asked yet.
    #[must_use]
    pub fn new(config: &Config, Known(state): Known, source: Arc<SvidSource>) -> Arc<Self> {
        let (dir, domains) = (config.node.dir.federation(), config.federation.domains.clone());
        Arc::new(Self { domains, state: Mutex::new(state), source, dir })
    }

    /// Follows every endpoint until `stop` turns true.
    pub fn follow(self: &Arc<Self>, stop: &watch::Receiver<bool>) {
        for domain in self.domains.clone() {
            let (federation, mut stop) = (self.clone(), stop.clone());
            tokio::spawn(async move {
                loop {
                    let wait = tokio::select! {
                        _ = stop.wait_for(|stop| *stop) => return,
                        wait = federation.poll(&domain) => wait,
                    };
                    tokio::select! {
                        _ = stop.wait_for(|stop| *stop) => return,
                        () = tokio::time::sleep(wait) => {}
                    }
                }
            });
        }
    }

    /// Asks once, and says how long to wait: after a failure as long as after a success (SPIFFE Federation §5).
    async fn poll(&self, domain: &ForeignDomain) -> Duration {
        let name = &domain.trust_domain;
        let fetched = fetch::fetch(domain, self.trusted_by(&domain.profile)).await;
        let now_ms = clock::wall_ms();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let foreign = state.entry(name.clone()).or_default();
        let taken = fetched.and_then(|new| match foreign.bundle.as_ref().map(|held| new.succeeds(held)) {
            Some(Err(older)) => Err(older.to_string()),
            _ => Ok(new),
        });
        foreign.tried_ms = Some(now_ms);
        match taken {
            Ok(new) => {
                if foreign.bundle.as_ref().is_none_or(|held| !held.same_keys(&new)) {
                    tracing::info!(trust_domain = %name, sequence = new.sequence, "a foreign trust bundle changed");
                }
                // Without it on disk a dark start would know less; the next fetch tries again.
                let kept = store::write(&self.dir, &new, now_ms);
                foreign.error = kept.err().map(|e| format!("it could not be kept on disk: {}", super::chain(&e)));
                (foreign.fetched_ms, foreign.bundle) = (Some(now_ms), Some(new));
            }
            Err(why) => {
                if foreign.error.as_ref() != Some(&why) {
                    tracing::warn!(trust_domain = %name, why, "a foreign trust bundle could not be fetched");
                }
                foreign.error = Some(why);
            }
        }
        let wait_s = foreign.bundle.as_ref().map_or(REFRESH_S_DEFAULT, TrustBundle::refresh_s);
        foreign.next_ms = Some(now_ms + wait_s * 1_000);
        Duration::from_secs(wait_s)
    }

    /// The bundle that the endpoint's SVID must lead to: that of the endpoint's own trust domain, and no other.
    fn trusted_by(&self, profile: &Profile) -> Option<cauldron_identity::x509::Bundle> {
        let Profile::Spiffe(endpoint) = profile else { return None };
        let domain = endpoint.trust_domain();
        if domain == self.source.spiffe_id().trust_domain() {
            return self.source.bundles().get(domain).cloned();
        }
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.get(domain)?.bundle.as_ref()?.x509().cloned()
    }

    /// Every foreign bundle that is held, for whoever verifies SVIDs and tokens of other trust domains.
    #[must_use]
    pub fn bundles(&self) -> TrustBundles {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.values().filter_map(|foreign| foreign.bundle.clone()).collect()
    }

    /// One row per foreign trust domain: whose, how old, what went wrong last.
    #[must_use]
    pub fn status(&self, now_ms: u64) -> Value {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let row = |domain: &ForeignDomain| {
            let foreign = state.get(&domain.trust_domain).cloned().unwrap_or_default();
            let bundle = foreign.bundle.as_ref();
            json!({
                "trust_domain": domain.trust_domain.as_str(),
                "url": domain.url.to_string(),
                "profile": domain.profile.name(),
                "sequence": bundle.and_then(|b| b.sequence),
                "x509_roots": bundle.map(|b| b.roots().len()),
                "jwt_keys": bundle.map(|b| b.jwt_keys().count()),
                "source": bundle.map(|_| if foreign.fetched_ms.is_some() { "endpoint" } else { "file" }),
                "fetched": foreign.fetched_ms.map(Time),
                "age_ms": foreign.fetched_ms.map(|at| now_ms.saturating_sub(at)),
                "tried": foreign.tried_ms.map(Time),
                "next": foreign.next_ms.map(Time),
                "last_error": foreign.error,
            })
        };
        self.domains.iter().map(row).collect()
    }
}
