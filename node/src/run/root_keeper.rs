//! The root keys on the machine that holds the mesh's authority: the one that signs, and the one that is to sign next.
//!
//! `ca/root.pem` is the certificate of the root that signs. Its key is `authority.root_key`, or after a rotation what lies
//! beside the certificate under the name of the key's digest: a key, or the URI of one in a token.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use cauldron_identity::authority::{Root, RootState};
use cauldron_identity::x509::{
    self, AuthorityCa, BACKDATE_S, CaError, CertificateDer, SvidKey, Validity, certificates_from_pem,
    certificates_to_pem, key_digest,
};
use cauldron_identity::{Digest, TrustDomain};

use crate::config::Config;
use crate::error::CliError;
use crate::paths::DataDir;
use crate::root_key::{self, RootKey, TokenUri};
use crate::{chance, clock, files, sealing};

/// The certificate authority of the mesh, where this machine holds it.
pub struct RootKeeper {
    config: Arc<Config>,
    ca: ArcSwap<AuthorityCa>,
    /// Whether it may sign: this node is the sequencer and the charter names the key. Until the core has said, it may.
    may_sign: AtomicBool,
    /// Held while a step of a rotation is under way: key files and what is published change together.
    pub turn: tokio::sync::Mutex<()>,
}

/// The certificate authority on this machine as it lies there, where there is one.
///
/// # Errors
/// [`CliError`] when its files are missing or damaged, its token does not open, or they are another mesh's.
pub fn load_authority(config: &Config) -> Result<Option<AuthorityCa>, CliError> {
    let Some(settings) = &config.authority else { return Ok(None) };
    let dir = &config.node.dir;
    let certificate = files::read_text(&dir.ca_certificate())?;
    // The key that a rotation brought stands first: the configured one may be gone since.
    if let Some(key) = beside(dir, &certificate)? {
        return AuthorityCa::with_key(key, &certificate).map(Some).map_err(|e| unusable(&e));
    }
    let ca = AuthorityCa::with_key(settings.root_key.open(dir.unlock())?, &certificate).map_err(|e| {
        let failed = unusable(&e);
        match e {
            CaError::KeyMismatch => failed.hint(
                "authority.root_key must be the key that this mesh was founded with: the charter pins it and ca/root.pem certifies it",
            ),
            _ => failed,
        }
    })?;
    Ok(Some(ca))
}

fn unusable(why: &CaError) -> CliError {
    CliError::integrity("the certificate authority in ca/ cannot be used").because(why)
}

/// The key of a certificate, where a rotation put it.
fn beside(dir: &DataDir, certificate_pem: &str) -> Result<Option<x509::RootKey>, CliError> {
    let Ok(found) = certificates_from_pem(certificate_pem) else { return Ok(None) };
    let Some(key) = found.first().and_then(|der| key_digest(der).ok()) else { return Ok(None) };
    kept(dir, &key)?.map(|kept| kept.open(dir.unlock())).transpose()
}

/// Where a rotation put a key, as something that can be opened; nothing where none brought it.
fn kept(dir: &DataDir, key: &Digest) -> Result<Option<RootKey>, CliError> {
    let (file, uri) = (dir.next_root(key, "key"), dir.next_root(key, "uri"));
    if file.try_exists().unwrap_or(true) {
        return Ok(Some(RootKey::File(file)));
    }
    if !uri.try_exists().unwrap_or(true) {
        return Ok(None);
    }
    let text = files::read_text(&uri)?;
    let parsed = RootKey::parse(text.trim(), Path::new("")).map(Some);
    parsed.map_err(|why| CliError::config(format!("{} {why}", uri.display())).hint(root_key::HINT))
}

/// The span of the root's next certificate, as long as the last, once nine tenths of that are over.
fn due_again(now: Validity, now_s: u64) -> Option<Validity> {
    let span = now.not_after_s.saturating_sub(now.not_before_s);
    let due = now.must_outlive(now_s, span / 10).is_err();
    due.then(|| span_from(now_s, span))
}

fn span_from(now_s: u64, span_s: u64) -> Validity {
    Validity { not_before_s: now_s.saturating_sub(BACKDATE_S), not_after_s: now_s.saturating_add(span_s) }
}

impl RootKeeper {
    /// The authority with a certificate that holds for a while; nothing on a machine without one.
    ///
    /// # Errors
    /// As [`load_authority`].
    pub fn open(config: &Arc<Config>) -> Result<Option<Arc<Self>>, CliError> {
        let Some(ca) = load_authority(config)? else { return Ok(None) };
        let keeper = Self {
            config: config.clone(),
            ca: ArcSwap::from_pointee(ca),
            may_sign: AtomicBool::new(true),
            turn: tokio::sync::Mutex::default(),
        };
        keeper.tend()?;
        Ok(Some(Arc::new(keeper)))
    }

    /// What signs here, where it may.
    ///
    /// # Errors
    /// A sentence: this machine's authority is not the mesh's.
    pub fn ca(&self) -> Result<Arc<AuthorityCa>, String> {
        match self.may_sign.load(Ordering::Relaxed) {
            true => Ok(self.ca.load_full()),
            false => Err(NOT_OURS.to_owned()),
        }
    }

    /// Why this machine's authority signs nothing; none while it does.
    pub fn idle_because(&self) -> Option<&'static str> {
        (!self.may_sign.load(Ordering::Relaxed)).then_some(NOT_OURS)
    }

    /// Takes what the core says: whether this node is the sequencer, and which keys the charter names.
    pub fn judge(&self, sequencer: bool, named: &[Digest]) -> bool {
        let may_sign = sequencer && named.contains(&self.ca.load().key_digest());
        if self.may_sign.swap(may_sign, Ordering::Relaxed) && !may_sign {
            tracing::error!("{NOT_OURS}");
        }
        may_sign
    }

    /// What signs here, as it is published.
    pub fn present(&self) -> Root {
        let ca = self.ca.load();
        published(ca.certificate(), ca.key_digest(), ca.validity())
    }

    /// Makes the certificate anew in the last tenth of its life: the charter pins the key, whoever holds that may.
    ///
    /// # Errors
    /// As [`load_authority`]; the one before stays.
    pub fn tend(&self) -> Result<(), CliError> {
        let Some(validity) = due_again(self.ca.load().validity(), clock::wall_ms() / 1000) else { return Ok(()) };
        let Some(ca) = load_authority(&self.config)? else { return Ok(()) };
        let ca = ca.reissued(validity, chance::bytes()).map_err(|e| unusable(&e))?;
        files::write_private(&self.dir().ca_certificate(), ca.certificate_pem().as_bytes())?;
        tracing::warn!(until_s = validity.not_after_s, "the root certificate was made anew for the same key");
        self.ca.store(Arc::new(ca));
        Ok(())
    }

    /// Makes the next root: a key here, or the one in a token with its URI, which `generate` makes. Its certificate lasts as long
    /// as the present one's, and is kept where it is published.
    ///
    /// # Errors
    /// [`CliError`] when the token does not open or a file cannot be written.
    pub fn prepare(&self, token: Option<(&TokenUri, &str)>, generate: bool) -> Result<Root, CliError> {
        let dir = self.dir();
        let failed = |e| CliError::integrity("the next root cannot be made").because(&e);
        let (key, text): (x509::RootKey, _) = match token {
            Some((uri, _)) => (root_key::open_token(uri, generate)?.into(), None),
            None => {
                let key = SvidKey::generate().map_err(failed)?;
                let text = key.to_pkcs8_pem();
                (key.into(), Some(text))
            }
        };
        let now = self.ca.load();
        let span_s = now.validity().not_after_s - now.validity().not_before_s;
        let validity = span_from(clock::wall_ms() / 1000, span_s);
        let domain: TrustDomain = now.trust_domain().clone();
        let ca = AuthorityCa::self_signed(domain, key, validity, chance::bytes()).map_err(failed)?;
        let digest = ca.key_digest();
        match (text, token) {
            (Some(pem), _) => sealing::write(&dir.next_root(&digest, "key"), "pem", &pem, dir.seal()?.as_ref())?,
            (None, Some((_, uri))) => {
                files::write_private(&dir.next_root(&digest, "uri"), format!("{uri}\n").as_bytes())?;
            }
            (None, None) => {}
        }
        tracing::warn!(key = %digest, "the next root is prepared; the council names its key in the charter");
        Ok(published(ca.certificate(), digest, validity))
    }

    /// Whether the key of a published root can be had here.
    ///
    /// # Errors
    /// [`CliError`] when it cannot.
    pub fn find(&self, root: &Root) -> Result<AuthorityCa, CliError> {
        let der = CertificateDer::from(root.certificate.to_vec());
        let key = match kept(self.dir(), &root.key)? {
            Some(kept) => kept.open(self.dir().unlock())?,
            None => {
                let settings = self.config.authority.as_ref();
                let configured = settings.ok_or_else(|| CliError::config("this node holds no authority"))?;
                configured.root_key.open(self.dir().unlock())?
            }
        };
        AuthorityCa::with_key(key, &certificates_to_pem(&[der])).map_err(|e| {
            CliError::integrity(format!("the key of root {} is not on this machine", root.key.short())).because(&e)
        })
    }

    /// Signs with `ca` from here on, after a restart too.
    ///
    /// # Errors
    /// [`CliError`] when the certificate cannot be written.
    pub fn take(&self, ca: AuthorityCa) -> Result<(), CliError> {
        files::write_private(&self.dir().ca_certificate(), ca.certificate_pem().as_bytes())?;
        tracing::warn!(key = %ca.key_digest(), "certificates are signed by this root key from here on");
        self.ca.store(Arc::new(ca));
        Ok(())
    }

    /// Destroys root keys in `ca/` that the charter named once and names no more.
    pub fn forget(&self, retired: &[Digest]) {
        let active = self.ca.load().key_digest();
        if retired.is_empty() {
            return;
        }
        for (key, path) in self.keys().into_iter().filter(|(key, _)| *key != active && retired.contains(key)) {
            match std::fs::remove_file(&path) {
                Ok(()) => {
                    tracing::warn!(%key, path = %path.display(), "a root key that the charter names no more is destroyed")
                }
                Err(why) => {
                    tracing::error!(%why, path = %path.display(), "a root key that the charter names no more is still there");
                }
            }
        }
    }

    /// Files in `ca/` that hold a root key or say where it is, with the key: those that rotations brought, and the founding key
    /// where it lies in its usual place.
    fn keys(&self) -> Vec<(Digest, PathBuf)> {
        let dir = self.dir();
        let mut keys = Vec::new();
        for path in std::fs::read_dir(dir.ca()).into_iter().flatten().flatten().map(|entry| entry.path()) {
            let name = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.strip_prefix("root-"));
            if let Some(key) = name.and_then(|name| name.parse().ok()) {
                keys.push((key, path));
            }
        }
        if let Some(founding) = self.founding_key().filter(|path| *path == dir.ca_key()) {
            let pem = sealing::read(&founding, dir.unlock()).ok();
            let key = pem.and_then(|pem| SvidKey::from_pkcs8_pem(&pem).ok());
            keys.extend(key.map(|key| (Digest::from_bytes(cauldron_identity::ids::sha256(&key.spki_der())), founding)));
        }
        keys
    }

    fn founding_key(&self) -> Option<PathBuf> {
        let path = self.config.authority.as_ref()?.root_key.file()?;
        path.try_exists().unwrap_or(false).then(|| path.to_owned())
    }

    fn dir(&self) -> &DataDir {
        &self.config.node.dir
    }
}

const NOT_OURS: &str = "this machine holds a certificate authority that is not the mesh's: another node is the sequencer, or \
                        the charter does not name its root key; it signs nothing";

fn published(certificate: &CertificateDer<'_>, key: Digest, validity: Validity) -> Root {
    let certificate = certificate.to_vec().into();
    Root { key, certificate, state: RootState::Active, not_after_s: validity.not_after_s }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_of_a_key_that_cannot_be_read_is_an_error_and_not_another_key() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let (dir, key) = (DataDir::new(folder.path()), Digest::from_bytes([7; 32]));
        files::create_dir(&dir.ca()).expect("made");
        assert_eq!(kept(&dir, &key), Ok(None));
        files::write_private(&dir.next_root(&key, "uri"), b"pkcs11:nonsense\n").expect("written");
        let error = kept(&dir, &key).expect_err("no URI, or none for this build");
        assert!(error.kind().exit_code() == 3 && error.to_string().contains(&format!("root-{key}.uri")), "{error}");
        files::write_private(&dir.next_root(&key, "key"), b"x").expect("written");
        assert_eq!(kept(&dir, &key), Ok(Some(RootKey::File(dir.next_root(&key, "key")))));
    }

    #[test]
    fn a_root_certificate_is_made_again_in_the_last_tenth_of_its_life_and_after_it() {
        let now = Validity { not_before_s: 1_000, not_after_s: 11_000 };
        assert_eq!(due_again(now, 9_999), None);
        for late_s in [10_001, 11_000, 50_000] {
            let next = due_again(now, late_s).expect("due");
            assert_eq!((next.not_before_s, next.not_after_s), (late_s - BACKDATE_S, late_s + 10_000));
        }
    }
}
