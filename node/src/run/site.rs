//! The site's intermediate on the node that holds one: it renews for the site while the authority is dark.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use cauldron_identity::x509::{Bundle, Bundles, CertificateDer, SiteCa, SvidKey, root_of};
use cauldron_identity::{Digest, SpiffeId};

use crate::config::Config;
use crate::error::CliError;
use crate::paths::DataDir;
use crate::run::svid::Identity;
use crate::{chance, clock, files, sealing};

/// The place of the intermediate, filled by the first grant and renewed with later ones.
#[derive(Debug)]
pub struct SiteHolder {
    dir: DataDir,
    svid_lifetime: Duration,
    ca: ArcSwapOption<SiteCa>,
    tainted: AtomicBool,
}

impl SiteHolder {
    /// Nothing on a node that is not to hold one.
    ///
    /// # Errors
    /// [`CliError`] when the file is readable by others. A damaged one is named in the log and asked for anew.
    pub fn open(config: &Config) -> Result<Option<Arc<Self>>, CliError> {
        let Some(settings) = &config.site_issuer else { return Ok(None) };
        let dir = config.node.dir.clone();
        let path = dir.site_ca();
        let ca = match path.try_exists().unwrap_or(true) {
            false => None,
            true => match SiteCa::from_pem(&sealing::read(&path, dir.unlock())?) {
                Ok(ca) if Some(ca.site()) == config.identity.role.site() => Some(Arc::new(ca)),
                Ok(ca) => {
                    tracing::warn!(site = ca.site(), "ca/site.pem is for another site; asking for a new one");
                    None
                }
                Err(why) => {
                    tracing::warn!(%why, "ca/site.pem cannot be used; asking for a new one");
                    None
                }
            },
        };
        Ok(Some(Arc::new(Self {
            dir,
            svid_lifetime: settings.svid_lifetime,
            ca: ArcSwapOption::new(ca),
            tainted: AtomicBool::new(false),
        })))
    }

    /// The intermediate, where there is one that can sign now.
    pub fn ca(&self) -> Option<Arc<SiteCa>> {
        self.ca.load_full().filter(|ca| ca.validity().must_outlive(clock::wall_ms() / 1000, 1).is_ok())
    }

    /// Lifetime of the SVIDs issued here.
    pub fn svid_lifetime(&self) -> Duration {
        self.svid_lifetime
    }

    /// Whether to ask for an intermediate: there is none, half of its life is over, or its root is on its way out.
    pub fn wants(&self) -> bool {
        self.is_tainted()
            || self.ca().is_none_or(|ca| {
                let span = ca.validity();
                clock::wall_ms() / 1000 >= span.not_before_s + (span.not_after_s - span.not_before_s) / 2
            })
    }

    /// Takes a granted certificate, once it leads to a root that this node trusts and will outlive what it signs.
    ///
    /// # Errors
    /// A sentence; the one before stays.
    pub fn take(&self, key: SvidKey, certificate: CertificateDer<'static>, bundles: &Bundles) -> Result<(), String> {
        let ca = SiteCa::new(key, certificate).map_err(|e| e.to_string())?;
        let now_s = clock::wall_ms() / 1000;
        ca.validity().must_outlive(now_s, self.svid_lifetime.as_secs()).map_err(|e| e.to_string())?;
        // What it signs must be believed: tried on a name of the site before anything rests on it.
        let probe = SpiffeId::new(format!("{}/node/probe", ca.spiffe_id())).map_err(|e| e.to_string())?;
        let chain = issue(&ca, &probe, Duration::from_secs(1)).map_err(|e| e.to_string())?.0;
        cauldron_identity::x509::verify_svid(&chain, bundles, now_s).map_err(|e| e.to_string())?;
        files::create_dir(&self.dir.ca()).map_err(|e| e.to_string())?;
        let seal = self.dir.seal().map_err(|e| e.to_string())?;
        sealing::write(&self.dir.site_ca(), "pem", &ca.to_pem(), seal.as_ref()).map_err(|e| e.to_string())?;
        tracing::info!(site = ca.site(), "the site's intermediate was renewed");
        self.ca.store(Some(Arc::new(ca)));
        Ok(())
    }

    /// This node's own SVID in the dark.
    ///
    /// # Errors
    /// A sentence: there is no intermediate, or it cannot sign.
    pub fn issue_own(&self, id: &SpiffeId, bundles: Bundles) -> Result<Identity, String> {
        let (chain, key) = self.issue(id, self.svid_lifetime)?;
        Ok(Identity { chain, key, bundles })
    }

    /// The key of the root that the intermediate stands under.
    pub fn root(&self, bundle: &Bundle) -> Option<Digest> {
        // What it signs is verified, so something must be signed; nobody is given it.
        let ca = self.ca()?;
        let probe = SpiffeId::new(format!("{}/node/probe", ca.spiffe_id())).ok()?;
        root_of(&issue(&ca, &probe, Duration::from_secs(1)).ok()?.0, bundle)
    }

    /// Whether it stands under a root that is on its way out at once.
    pub fn is_tainted(&self) -> bool {
        self.tainted.load(Ordering::Relaxed)
    }

    /// Says so.
    pub fn set_tainted(&self, tainted: bool) {
        self.tainted.store(tainted, Ordering::Relaxed);
    }

    /// An SVID for a name of the site.
    ///
    /// # Errors
    /// As [`SiteHolder::issue_own`].
    pub fn issue(&self, id: &SpiffeId, lifetime: Duration) -> Result<(Vec<CertificateDer<'static>>, SvidKey), String> {
        let ca = self.ca().ok_or("there is no site intermediate yet")?;
        issue(&ca, id, lifetime).map_err(|e| e.to_string())
    }
}

fn issue(
    ca: &SiteCa,
    id: &SpiffeId,
    lifetime: Duration,
) -> Result<(Vec<CertificateDer<'static>>, SvidKey), cauldron_identity::x509::CaError> {
    let key = SvidKey::generate()?;
    let chain = ca.issue(&key.csr_der()?, id, clock::wall_ms() / 1000, lifetime.as_secs(), chance::bytes())?;
    Ok((chain, key))
}
