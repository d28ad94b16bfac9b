//! The bundle that this trust domain publishes: the authority's roots and JWT keys, with a sequence that grows with every
//! change.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cauldron_identity::authority::Issuance;
use cauldron_identity::jwt::{JwtAuthority, JwtIssueError, JwtKey};
use cauldron_identity::{Digest, SpiffeId, TrustBundle, TrustDomain};
use cauldron_mesh::SvidSource;
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::config::Config;
use crate::error::CliError;
use crate::paths::DataDir;
use crate::run::issued;
use crate::{clock, files, sealing};

/// Between two looks at the age of the JWT keys, which turn by the day.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The authority's JWT keys and the bundle with everything that verifies this trust domain's SVIDs.
#[derive(Debug)]
pub struct Published {
    dir: DataDir,
    source: Arc<SvidSource>,
    refresh_hint_s: u64,
    jwt: Mutex<JwtAuthority>,
    bundle: watch::Sender<Arc<TrustBundle>>,
}

/// A JWT-SVID, and its line in the log of everything issued.
pub struct Token {
    /// The token.
    pub text: Zeroizing<String>,
    /// The line: nobody gets the token before that is written.
    pub issuance: Issuance,
}

/// What the bundle says of its refresh where no endpoint is configured to say otherwise.
const REFRESH_HINT: Duration = Duration::from_secs(300);

impl Published {
    /// The bundle of this trust domain, where its authority is.
    ///
    /// # Errors
    /// As [`Published::open`].
    pub fn of(config: &Config, source: Arc<SvidSource>) -> Result<Option<Arc<Self>>, CliError> {
        if config.authority.is_none() {
            return Ok(None);
        }
        let hint = config.federation.endpoint.as_ref().map_or(REFRESH_HINT, |endpoint| endpoint.refresh_hint);
        Self::open(&config.node.dir, source, hint).map(Some)
    }

    /// Reads the JWT keys, or makes the first one, and the sequence that was published last.
    ///
    /// # Errors
    /// [`CliError`] when a file is damaged, readable by others, or cannot be written.
    pub fn open(dir: &DataDir, source: Arc<SvidSource>, refresh_hint: Duration) -> Result<Arc<Self>, CliError> {
        let trust_domain = source.spiffe_id().trust_domain().clone();
        let jwt = read_jwt(dir, &trust_domain)?;
        let last = match dir.own_bundle().try_exists().unwrap_or(true) {
            false => TrustBundle::new(trust_domain),
            true => TrustBundle::from_jwks(trust_domain, &files::read(&dir.own_bundle())?).map_err(|e| {
                CliError::integrity(format!("{} is damaged", dir.own_bundle().display()))
                    .because(&e)
                    .hint("remove it: it is written anew, with a sequence made from the clock")
            })?,
        };
        let published = Self {
            dir: dir.clone(),
            source,
            refresh_hint_s: refresh_hint.as_secs(),
            jwt: Mutex::new(jwt),
            bundle: watch::Sender::new(Arc::new(last)),
        };
        published.refresh()?;
        Ok(Arc::new(published))
    }

    /// The bundle of this moment; a receiver learns of every change.
    #[must_use]
    pub fn bundle(&self) -> watch::Receiver<Arc<TrustBundle>> {
        self.bundle.subscribe()
    }

    /// Issues a JWT-SVID now.
    ///
    /// # Errors
    /// [`JwtIssueError`].
    pub fn issue_jwt(&self, id: &SpiffeId, audience: &[String], lifetime: Duration) -> Result<Token, JwtIssueError> {
        let jwt = self.jwt.lock().unwrap_or_else(PoisonError::into_inner);
        let now_s = clock::wall_ms() / 1_000;
        let text = jwt.issue(id, audience, now_s, lifetime.as_secs())?;
        let signed_by = jwt.signed_by(now_s).unwrap_or_else(|| Digest::from_bytes([0; 32]));
        let issuance = issued::token(&text, id, now_s.saturating_add(lifetime.as_secs()), signed_by);
        Ok(Token { text, issuance })
    }

    /// Turns the JWT keys and publishes what changed, until `stop` turns true.
    pub async fn keep(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut roots = self.source.subscribe();
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                changed = roots.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if let Err(why) = self.refresh() {
                tracing::error!(%why, "this trust domain's bundle cannot be published anew");
            }
        }
    }

    /// A new key and a new bundle reach the disk before anybody sees them: a restart goes back behind neither.
    fn refresh(&self) -> Result<(), CliError> {
        let now_s = clock::wall_ms() / 1_000;
        let mut jwt = self.jwt.lock().unwrap_or_else(PoisonError::into_inner);
        let retired = jwt.retire(now_s);
        if jwt.needs_key(now_s) {
            jwt.publish(JwtKey::generate().map_err(|e| unusable(&self.dir).because(&e))?, now_s);
            write_jwt(&self.dir, &jwt)?;
            tracing::info!("the next JWT signing key is published; it signs in a day");
        } else if retired {
            write_jwt(&self.dir, &jwt)?;
        }
        let last = self.bundle.borrow().clone();
        let mut new = TrustBundle::new(last.trust_domain().clone());
        let roots = self.source.bundles().get(last.trust_domain()).map(|b| b.roots().to_vec()).unwrap_or_default();
        new.set_roots(roots).map_err(|e| CliError::integrity("our own roots are no bundle").because(&e))?;
        new.set_jwt_keys(jwt.public_keys());
        new.refresh_hint_s = Some(self.refresh_hint_s);
        // By the clock where that is ahead, so that a lost file does not bring back a number that was used.
        new.sequence = match last.sequence {
            Some(sequence) if new.same_keys(&last) => Some(sequence),
            Some(sequence) => Some(now_s.max(sequence.saturating_add(1))),
            None => Some(now_s),
        };
        if new != *last {
            files::write_public(&self.dir.own_bundle(), new.to_jwks().as_bytes())?;
            self.bundle.send_replace(Arc::new(new));
        }
        Ok(())
    }
}

fn unusable(dir: &DataDir) -> CliError {
    CliError::integrity(format!("{} cannot be used", dir.jwt_key().display())).hint(
        "restore it from a backup, or remove it: a new key is made, and tokens that are out there are refused from then on",
    )
}

fn read_jwt(dir: &DataDir, trust_domain: &TrustDomain) -> Result<JwtAuthority, CliError> {
    if dir.jwt_key().try_exists().unwrap_or(true) {
        let text = sealing::read(&dir.jwt_key(), dir.unlock())?;
        return JwtAuthority::from_text(trust_domain.clone(), &text).map_err(|e| unusable(dir).because(&e));
    }
    let key = JwtKey::generate().map_err(|e| unusable(dir).because(&e))?;
    let jwt = JwtAuthority::new(trust_domain.clone(), key, clock::wall_ms() / 1_000);
    write_jwt(dir, &jwt)?;
    Ok(jwt)
}

fn write_jwt(dir: &DataDir, jwt: &JwtAuthority) -> Result<(), CliError> {
    sealing::write(&dir.jwt_key(), "pem", &jwt.to_text(), dir.seal()?.as_ref())
}
