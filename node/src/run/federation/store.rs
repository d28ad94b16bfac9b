//! Foreign bundles on disk: one file per trust domain, written whole.

use std::path::{Path, PathBuf};

use cauldron_identity::{TrustBundle, TrustBundles, TrustDomain};
use serde_json::{Value, json};

use crate::error::CliError;
use crate::files;

fn path(dir: &Path, trust_domain: &TrustDomain) -> PathBuf {
    // A trust domain is made of a-z, 0-9, '.', '-' and '_': no separator, and the ending keeps `..` from meaning anything.
    dir.join(format!("{trust_domain}.json"))
}

/// What was kept of `trust_domain`, and when its endpoint confirmed it last, milliseconds since the Unix epoch.
pub(super) fn read(dir: &Path, trust_domain: &TrustDomain) -> Result<Option<(TrustBundle, u64)>, CliError> {
    let path = path(dir, trust_domain);
    if !path.try_exists().unwrap_or(true) {
        return Ok(None);
    }
    let damaged = || CliError::integrity(format!("{} is damaged", path.display()));
    let value: Value = serde_json::from_slice(&files::read(&path)?).map_err(|e| damaged().because(&e))?;
    let fetched_ms = value["fetched_ms"].as_u64().ok_or_else(damaged)?;
    let bundle = TrustBundle::from_jwks(trust_domain.clone(), value["bundle"].to_string().as_bytes())
        .map_err(|e| damaged().because(&e))?;
    Ok(Some((bundle, fetched_ms)))
}

/// Keeps a bundle that was fetched at `fetched_ms`.
pub(super) fn write(dir: &Path, bundle: &TrustBundle, fetched_ms: u64) -> Result<(), CliError> {
    files::create_dir(dir)?;
    let jwks: Value = serde_json::from_str(&bundle.to_jwks())
        .map_err(|e| CliError::integrity("a bundle that was just made is no JSON").because(&e))?;
    let value = json!({ "fetched_ms": fetched_ms, "bundle": jwks });
    files::write_private(&path(dir, bundle.trust_domain()), format!("{value:#}\n").as_bytes())
}

/// Every foreign bundle in the folder `dir`, for commands that verify without a running node.
///
/// # Errors
/// [`CliError`] that names the file.
pub fn read_all(dir: &Path) -> Result<TrustBundles, CliError> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Ok(TrustBundles::new()) };
    let mut bundles = TrustBundles::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let domain = name.to_str().and_then(|n| n.strip_suffix(".json")).and_then(|n| TrustDomain::new(n).ok());
        if let Some((bundle, _)) = domain.map(|domain| read(dir, &domain)).transpose()?.flatten() {
            bundles.insert(bundle);
        }
    }
    Ok(bundles)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_kept_under_its_own_name_and_a_damaged_one_is_named() {
        let folder = tempfile::tempdir().expect("temporary directory");
        let dir = folder.path().join("federation");
        let domain = TrustDomain::new("other.example").expect("a trust domain");
        assert_eq!(read(&dir, &domain), Ok(None));
        let mut bundle = TrustBundle::new(domain.clone());
        bundle.sequence = Some(3);
        write(&dir, &bundle, 77).expect("written");
        assert_eq!(read(&dir, &domain), Ok(Some((bundle.clone(), 77))));
        assert_eq!(read_all(&dir).expect("readable").get(&domain), Some(&bundle));
        std::fs::write(dir.join("other.example.json"), "{").expect("written");
        assert!(read(&dir, &domain).expect_err("damaged").to_string().contains("other.example.json"));
    }
}
