//! JWT-SVIDs for the programs on this machine: signed here where the authority is, otherwise over the enrol lane.

mod account;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cauldron_identity::jwt::{LEEWAY_S, LIFETIME_S_DEFAULT, validate_jwt};
use cauldron_identity::{SpiffeId, TrustBundle, TrustBundles, TrustDomain};
use cauldron_node_core::enrol::Workload as Asked;
use cauldron_workload_api::{JwtAuthority, JwtRefused};

use crate::config::Config;
use crate::paths::DataDir;
use crate::run::federation::{Federation, Published};
use crate::run::issued;
use crate::run::tokens::account::{Accounts, Now};
use crate::run::workloads::Signers;
use crate::{clock, files};

/// What signs and checks tokens.
pub struct Tokens {
    config: Arc<Config>,
    signers: Arc<Signers>,
    published: Option<Arc<Published>>,
    foreign: Arc<Federation>,
    /// The JWT keys of our own trust domain, on a node without its authority: as the last grant told them.
    told: Mutex<Option<TrustBundle>>,
    accounts: Accounts,
}

impl Tokens {
    /// Starts with the keys that are on disk.
    pub fn open(
        config: &Arc<Config>,
        signers: Arc<Signers>,
        published: Option<Arc<Published>>,
        foreign: Arc<Federation>,
    ) -> Self {
        let told = read(&config.node.dir, config.identity.spiffe_id.trust_domain());
        let accounts = Accounts::new(config.identity.workloads.entries.iter().map(|w| &w.entry.spiffe_id));
        Self { config: config.clone(), signers, published, foreign, told: Mutex::new(told), accounts }
    }

    /// The bundles of every trust domain that this node knows.
    pub fn bundles(&self) -> TrustBundles {
        let own = match &self.published {
            Some(published) => Some((**published.bundle().borrow()).clone()),
            None => self.told.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        };
        let mut bundles = self.foreign.bundles();
        if let Some(own) = own {
            bundles.insert(own);
        }
        bundles
    }

    /// Takes the JWT keys that came with a grant: its signer is named by the charter.
    pub fn told(&self, jwks: &[u8]) {
        let domain = self.config.identity.spiffe_id.trust_domain().clone();
        match TrustBundle::from_jwks(domain, jwks) {
            Ok(new) => {
                let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
                if told.as_ref() != Some(&new) {
                    let dir = &self.config.node.dir;
                    let sealed =
                        files::create_dir(&dir.workloads()).and_then(|()| files::write_public(&dir.jwt_bundle(), jwks));
                    if let Err(why) = sealed {
                        tracing::warn!(%why, "the trust domain's JWT keys could not be kept");
                    }
                    *told = Some(new);
                }
            }
            Err(why) => tracing::warn!(%why, "the JWT keys in a grant cannot be used"),
        }
    }

    async fn sign(&self, id: &SpiffeId, audience: &[String], lifetime: Duration) -> Result<String, JwtRefused> {
        // An authority that is not the mesh's signs nothing: nobody would believe it.
        let ours = self.signers.ca.as_ref().is_none_or(|keeper| keeper.ca().is_ok());
        if let Some(published) = self.published.as_ref().filter(|_| ours) {
            let token = published.issue_jwt(id, audience, lifetime).map_err(|e| JwtRefused::Denied(e.to_string()))?;
            issued::tell(&self.signers.node, [token.issuance]).await.map_err(JwtRefused::Unavailable)?;
            return Ok(token.text.to_string());
        }
        let asked =
            Asked { spiffe_id: id.to_string(), lifetime_s: Some(lifetime.as_secs()), audience: audience.to_vec() };
        let granted = self.signers.token(&self.config, asked).await.map_err(JwtRefused::Unavailable)?;
        if let Some(jwks) = granted.jwt_bundle.as_ref() {
            self.told(jwks);
        }
        let token = granted.token.ok_or_else(|| JwtRefused::Unavailable("the authority sent no token".to_owned()))?;
        let wanted = audience.first().map(String::as_str).unwrap_or_default();
        match self.validate(&token, wanted) {
            Ok((found, _)) if found == *id => Ok(token),
            Ok((found, _)) => Err(JwtRefused::Unavailable(format!("the authority sent a token of {found}"))),
            Err(why) => Err(JwtRefused::Unavailable(format!("the authority sent a token that is not valid: {why}"))),
        }
    }
}

#[tonic::async_trait]
impl JwtAuthority for Tokens {
    async fn issue(&self, id: &SpiffeId, audience: &[String]) -> Result<String, JwtRefused> {
        let ttl = self.config.identity.workloads.entries.iter().find(|w| w.entry.spiffe_id == *id).and_then(|w| w.ttl);
        let lifetime = Duration::from_secs(LIFETIME_S_DEFAULT).min(ttl.unwrap_or(Duration::MAX));
        let now = || Now { boottime_ms: clock::boottime_ms(), wall_s: clock::wall_ms() / 1000 };
        // Handed out again for half of its life: whoever gets it then has the other half.
        self.accounts.token(id, audience, lifetime / 2, now, self.sign(id, audience, lifetime)).await
    }

    fn validate(&self, token: &str, audience: &str) -> Result<(SpiffeId, serde_json::Value), String> {
        let now_s = clock::wall_ms() / 1000;
        let found = validate_jwt(token, &[audience], &self.bundles(), now_s, LEEWAY_S).map_err(|e| e.to_string())?;
        Ok((found.spiffe_id, serde_json::Value::Object(found.claims)))
    }
}

fn read(dir: &DataDir, domain: &TrustDomain) -> Option<TrustBundle> {
    let bytes = files::read(&dir.jwt_bundle()).ok()?;
    match TrustBundle::from_jwks(domain.clone(), &bytes) {
        Ok(bundle) => Some(bundle),
        Err(why) => {
            tracing::warn!(%why, "the JWT keys on disk are of no use; the next grant brings them");
            None
        }
    }
}
