//! An identity that comes from elsewhere: a SPIFFE Workload API (SPIRE), or PEM files that another program keeps fresh.
//!
//! What comes must be this node's own name, valid now under the bundle that came with it, and with its key; otherwise the
//! node keeps what it has, says so, and tries again. Nothing here ends the node. The last good state is sealed on disk as an
//! embedded one is, so that a node starts while its source is dark.
//!
//! Trust in the source is total for *SVIDs* and reaches no further: an SVID opens the door of the mesh lane, the enrolled
//! author key opens the scopes. Bundles of other trust domains that come along are not taken over.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cauldron_identity::SpiffeId;
use cauldron_identity::x509::{Bundle, Bundles, SvidKey, certificates_from_der, certificates_from_pem, verify_svid};
use cauldron_mesh::SvidSource;
use cauldron_workload_api::client;
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::config::{Config, Source};
use crate::run::svid::{self, Identity, jittered};
use crate::{clock, files};

/// Between two tries; doubled up to the second, with jitter.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));
/// How often files are looked at: three small reads, and a writer that replaces three files is soon done.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// What a start waits for its source when there is an SVID on disk: a node is up within 300 ms in the dark.
const START_WAIT_MAX: Duration = Duration::from_millis(150);

/// What is wrong with the source, for people.
#[derive(Debug, Default)]
pub struct Health(Mutex<Option<Problem>>);

/// Why the source gives nothing.
#[derive(Debug, Clone)]
pub struct Problem {
    /// A sentence.
    pub why: String,
    /// Since when, milliseconds since the Unix epoch.
    pub since_ms: u64,
}

impl Health {
    /// The present problem.
    pub fn problem(&self) -> Option<Problem> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn good(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Notes a problem; true when it is another one than before.
    fn bad(&self, why: &str) -> bool {
        let mut problem = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = problem.as_ref().is_none_or(|p| p.why != why);
        let since_ms = problem.as_ref().map_or_else(clock::wall_ms, |p| p.since_ms);
        *problem = Some(Problem { why: why.to_owned(), since_ms });
        new
    }
}

/// The identity to start with: the source's, or the last one on disk when the source is dark. With neither it waits.
pub async fn enter(config: &Config, on_disk: Option<Identity>) -> Identity {
    let (source, id) = (&config.identity.source, &config.identity.spiffe_id);
    if let Some(identity) = on_disk {
        let fetched = tokio::time::timeout(START_WAIT_MAX, fetch(source, id)).await;
        return match fetched {
            Ok(Ok(fresh)) => sealed(config, fresh),
            Ok(Err(why)) => {
                tracing::warn!(source = source.name(), why, "starting with the last SVID on disk");
                identity
            }
            Err(_) => {
                tracing::warn!(source = source.name(), "no answer yet; starting with the last SVID on disk");
                identity
            }
        };
    }
    let mut wait = RETRY.0;
    loop {
        match fetch(source, id).await {
            Ok(fresh) => return sealed(config, fresh),
            Err(why) => tracing::warn!(source = source.name(), why, "no identity yet; trying again"),
        }
        tokio::time::sleep(jittered(wait)).await;
        wait = (wait * 2).min(RETRY.1);
    }
}

fn sealed(config: &Config, identity: Identity) -> Identity {
    if let Err(why) = svid::write(&config.node.dir, &identity) {
        tracing::warn!(%why, "the SVID could not be sealed on disk");
    }
    identity
}

/// One state, checked.
async fn fetch(source: &Source, id: &SpiffeId) -> Result<Identity, String> {
    match source {
        Source::WorkloadApi { socket } => {
            let mut watch = client::watch(socket, id.clone()).await.map_err(|e| e.to_string())?;
            from_workload_api(watch.next().await.map_err(|e| e.to_string())?, id)
        }
        Source::Files { certificate, key, bundle } => from_files(certificate, key, bundle, id),
        Source::Embedded => Err("the embedded authority is asked elsewhere".to_owned()),
    }
}

fn from_workload_api(fetched: client::Fetched, id: &SpiffeId) -> Result<Identity, String> {
    let nonsense = |what: &str, e: &dyn std::fmt::Display| format!("the Workload API answered nonsense: {what}: {e}");
    let chain = certificates_from_der(&fetched.chain_der).map_err(|e| nonsense("the SVID", &e))?;
    let key = SvidKey::any_from_pkcs8_der(&fetched.key_pkcs8).map_err(|e| nonsense("the key", &e))?;
    let roots = fetched.bundles.get(id.trust_domain()).map(Vec::as_slice).unwrap_or_default();
    let roots = certificates_from_der(roots).map_err(|e| nonsense("the bundle", &e))?;
    let bundle = Bundle::new(id.trust_domain().clone(), roots).map_err(|e| nonsense("the bundle", &e))?;
    checked(Identity { chain, key, bundles: Bundles::from(bundle) }, id)
}

fn from_files(certificate: &Path, key: &Path, bundle: &Path, id: &SpiffeId) -> Result<Identity, String> {
    let named = |path: &Path, e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let text = |path: &Path| files::read_text(path).map_err(|e| e.to_string());
    let chain = certificates_from_pem(&text(certificate)?).map_err(|e| named(certificate, &e))?;
    let pem = Zeroizing::new(text(key)?);
    let key = SvidKey::any_from_pkcs8_pem(&pem).map_err(|e| named(key, &e))?;
    let roots = certificates_from_pem(&text(bundle)?).map_err(|e| named(bundle, &e))?;
    let found = Bundle::new(id.trust_domain().clone(), roots).map_err(|e| named(bundle, &e))?;
    checked(Identity { chain, key, bundles: Bundles::from(found) }, id)
}

/// Ours, valid now, and with its key.
fn checked(identity: Identity, id: &SpiffeId) -> Result<Identity, String> {
    let found = verify_svid(&identity.chain, &identity.bundles, clock::wall_ms() / 1000).map_err(|e| e.to_string())?;
    if found.spiffe_id != *id {
        return Err(format!("the SVID names {}, this node is {id}", found.spiffe_id));
    }
    if *found.spki_sha256.as_ref() != cauldron_identity::ids::sha256(&identity.key.spki_der()) {
        return Err("the key is not the key of the SVID".to_owned());
    }
    Ok(identity)
}

/// Takes over every new state until `stop` turns true.
pub async fn keep_fresh(
    config: std::sync::Arc<Config>,
    source: std::sync::Arc<SvidSource>,
    health: std::sync::Arc<Health>,
    mut stop: watch::Receiver<bool>,
) {
    let follow = async {
        match &config.identity.source {
            Source::WorkloadApi { socket } => follow_workload_api(&config, &source, &health, socket).await,
            Source::Files { .. } => follow_files(&config, &source, &health).await,
            Source::Embedded => {}
        }
    };
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => {}
        () = follow => {}
    }
}

async fn follow_workload_api(config: &Config, source: &SvidSource, health: &Health, socket: &Path) {
    let id = &config.identity.spiffe_id;
    let mut wait = RETRY.0;
    loop {
        let why = match client::watch(socket, id.clone()).await {
            Err(why) => why.to_string(),
            Ok(mut states) => loop {
                match states.next().await {
                    Ok(fetched) => match from_workload_api(fetched, id) {
                        Ok(fresh) => {
                            wait = RETRY.0;
                            take(config, source, health, fresh);
                        }
                        // The stream is good, its state is not: the next one may be.
                        Err(why) => complain(health, &why),
                    },
                    Err(why) => break why.to_string(),
                }
            },
        };
        complain(health, &why);
        tokio::time::sleep(jittered(wait)).await;
        wait = (wait * 2).min(RETRY.1);
    }
}

async fn follow_files(config: &Config, source: &SvidSource, health: &Health) {
    let Source::Files { certificate, key, bundle } = &config.identity.source else { return };
    let mut taken = None;
    loop {
        // By content: a writer may replace files, links or folders, and keep or set any time stamp.
        let bytes: Vec<Vec<u8>> = [certificate, key, bundle].map(|p| files::read(p).unwrap_or_default()).into();
        let state = cauldron_identity::ids::sha256(&Zeroizing::new(bytes.concat()));
        if taken != Some(state) {
            match from_files(certificate, key, bundle, &config.identity.spiffe_id) {
                Ok(fresh) => {
                    take(config, source, health, fresh);
                    taken = Some(state);
                }
                // Perhaps a writer is half done: the same bytes are read again.
                Err(why) => complain(health, &why),
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Takes over what is new in it: a source also tells what it has told before, and every change has links looked at again.
fn take(config: &Config, source: &SvidSource, health: &Health, fresh: Identity) {
    let (trust, svid) = (*source.bundles() != fresh.bundles, source.chain() != fresh.chain);
    if trust {
        source.set_bundles(fresh.bundles.clone());
        tracing::info!(source = config.identity.source.name(), "the trust bundle changed");
    }
    if svid {
        if let Err(why) = source.rotate(fresh.chain.clone(), &fresh.key) {
            return complain(health, &crate::run::chain(&why));
        }
        tracing::info!(source = config.identity.source.name(), "the SVID was renewed");
    }
    health.good();
    if trust || svid {
        sealed(config, fresh);
    }
}

fn complain(health: &Health, why: &str) {
    if health.bad(why) {
        tracing::warn!(
            why,
            "the source of this node's identity gives nothing; keeping the present SVID and trying again"
        );
    }
}
