//! What a machine may lack.

use std::path::{Path, PathBuf};

/// A path below `../shared`, beside the repository; nothing where it is not there.
#[must_use]
pub fn shared(path: &str) -> Option<PathBuf> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    Some(repository.parent()?.join("shared").join(path)).filter(|path| path.exists())
}

/// Says that a check did not run, on stderr and in the file that CI reads.
///
/// # Panics
/// When `CAULDRON_SKIPS` names a file that cannot be written.
pub fn skipped(name: &str, reason: &str) {
    eprintln!("skipped: {name}: {reason}");
    if let Some(path) = std::env::var_os("CAULDRON_SKIPS") {
        let mut file =
            std::fs::OpenOptions::new().create(true).append(true).open(path).expect("CAULDRON_SKIPS can be written");
        std::io::Write::write_all(&mut file, format!("skipped: {name}: {reason}\n").as_bytes())
            .expect("CAULDRON_SKIPS can be written");
    }
}
