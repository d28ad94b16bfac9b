//! Where certificates come from: the node's own SVID and the bundles it trusts, both replaceable while it runs.

use std::sync::Arc;

use arc_swap::ArcSwap;
use cauldron_identity::SpiffeId;
use cauldron_identity::x509::{Bundles, CertificateDer, SvidError, SvidKey, VerifiedSvid, Verifier};
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::watch;

/// Reads the wall clock in Unix seconds. The node decides what its clock is.
pub type WallClock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The system's clock, for nodes that trust it.
#[must_use]
pub fn system_clock() -> WallClock {
    Arc::new(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |d| d.as_secs())
    })
}

/// Why an SVID cannot be presented.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The leaf names nobody.
    #[error("our own certificate carries no usable SPIFFE ID: {0}")]
    NoSpiffeId(String),
    /// The key does not belong to the certificate, or cannot sign.
    #[error("our own certificate and key cannot be used for TLS")]
    Key(#[source] rustls::Error),
    /// A rotation to another name: the name is the node's place in the mesh and does not change while it runs.
    #[error("our SVID is `{ours}`, the new one is `{new}`: start the node anew to change its name")]
    OtherName {
        /// The name this source was made with.
        ours: SpiffeId,
        /// The name in the new certificate.
        new: SpiffeId,
    },
}

/// The node's SVID and the trust bundles. Handshakes and guards read it; [`SvidSource::rotate`] and
/// [`SvidSource::set_bundles`] replace parts without restart.
pub struct SvidSource {
    id: SpiffeId,
    local: ArcSwap<Local>,
    verifier: ArcSwap<Verifier>,
    generation: watch::Sender<u64>,
    clock: WallClock,
    provider: Arc<CryptoProvider>,
}

struct Local {
    chain: Vec<CertificateDer<'static>>,
    certified: Arc<CertifiedKey>,
}

impl SvidSource {
    /// Takes the first SVID (chain with the leaf first, and its key) and the bundles.
    ///
    /// An expired SVID is taken: a node starts with every authority dark, and [`SvidSource::own_status`] says what is wrong.
    ///
    /// # Errors
    /// [`SourceError`] when the leaf names nobody or the key is not its key.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: &SvidKey,
        bundles: Bundles,
        clock: WallClock,
    ) -> Result<Arc<Self>, SourceError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let (id, local) = load(chain, key, &provider)?;
        Ok(Arc::new(Self {
            id,
            local: ArcSwap::from_pointee(local),
            verifier: ArcSwap::from_pointee(Verifier::new(bundles)),
            generation: watch::Sender::new(0),
            clock,
            provider,
        }))
    }

    /// Presents a new SVID from the next handshake on. Live connections keep the one they were made with.
    ///
    /// # Errors
    /// [`SourceError`]; the old SVID then stays.
    pub fn rotate(&self, chain: Vec<CertificateDer<'static>>, key: &SvidKey) -> Result<(), SourceError> {
        let (new, local) = load(chain, key, &self.provider)?;
        if new != self.id {
            return Err(SourceError::OtherName { ours: self.id.clone(), new });
        }
        self.local.store(Arc::new(local));
        self.generation.send_modify(|g| *g += 1);
        Ok(())
    }

    /// Replaces what is trusted. Live connections are checked again at once and closed if they no longer verify.
    pub fn set_bundles(&self, bundles: Bundles) {
        self.verifier.store(Arc::new(Verifier::new(bundles)));
        self.generation.send_modify(|g| *g += 1);
    }

    /// What is trusted now: the mesh's own trust domain.
    #[must_use]
    pub fn bundles(&self) -> Arc<Bundles> {
        self.verifier.load().bundles().clone()
    }

    /// The node's own name.
    #[must_use]
    pub fn spiffe_id(&self) -> &SpiffeId {
        &self.id
    }

    /// Our own SVID seen with a peer's eyes, now.
    ///
    /// # Errors
    /// The reason a peer with the same bundles would refuse it.
    pub fn own_status(&self) -> Result<VerifiedSvid, SvidError> {
        self.verify(&self.local.load().chain)
    }

    /// The chain that is presented now, leaf first.
    #[must_use]
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.local.load().chain.clone()
    }

    /// Counts rotations and changes of trust.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Presents a chain that no honest node would.
    #[cfg(test)]
    pub(crate) fn present_unchecked(&self, chain: Vec<CertificateDer<'static>>, key: &SvidKey) {
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_pkcs8_der().to_vec()));
        let signer = self.provider.key_provider.load_private_key(der).expect("a usable key");
        let certified = Arc::new(CertifiedKey::new(chain.clone(), signer));
        self.local.store(Arc::new(Local { chain, certified }));
    }

    /// Verifies a peer's chain against the current bundles, now.
    pub(crate) fn verify(&self, chain: &[CertificateDer<'_>]) -> Result<VerifiedSvid, SvidError> {
        self.verifier.load().verify(chain, self.now_s())
    }

    pub(crate) fn now_s(&self) -> u64 {
        (self.clock)()
    }

    /// What a TLS server of this node presents. Other servers than the mesh's own use it too.
    #[must_use]
    pub fn certified(&self) -> Arc<CertifiedKey> {
        self.local.load().certified.clone()
    }

    pub(crate) fn provider(&self) -> &Arc<CryptoProvider> {
        &self.provider
    }
}

impl std::fmt::Debug for SvidSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SvidSource").field("id", &self.id).finish_non_exhaustive()
    }
}

fn load(
    chain: Vec<CertificateDer<'static>>,
    key: &SvidKey,
    provider: &CryptoProvider,
) -> Result<(SpiffeId, Local), SourceError> {
    let leaf = chain.first().ok_or_else(|| SourceError::NoSpiffeId("the chain is empty".to_owned()))?;
    let id = spiffe::cert::spiffe_id_from_der(leaf.as_ref()).map_err(|e| SourceError::NoSpiffeId(e.to_string()))?;
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_pkcs8_der().to_vec()));
    let certified = CertifiedKey::from_der(chain.clone(), der, provider).map_err(SourceError::Key)?;
    Ok((id, Local { chain, certified: Arc::new(certified) }))
}
