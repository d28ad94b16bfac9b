//! Seeds from third-party data, which lies beside the repository where it is there at all, and is never copied into it.

use std::path::{Path, PathBuf};

use super::{Seed, seed};
use crate::chunks::{join, through};

/// Longer files say nothing that shorter ones do not.
const BYTES_MAX: u64 = 16 * 1024;

pub(super) fn seeds() -> Vec<Seed> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let mut all = Vec::new();
    for (path, bytes) in files(&data.join("spiffe/tests/testdata")) {
        let name = name_of(&path);
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("json" | "jwks") => all.push(seed("jwks", name, bytes)),
            Some("pem") => all.push(seed("x509", name, through(5, bytes))),
            Some("der") => {
                all.push(seed("x509", format!("chain-{name}"), through(0, &bytes)));
                all.push(seed("x509", format!("root-{name}"), through(4, bytes)));
            }
            Some("jwt") => all.push(seed("jwt", name, through(0, bytes))),
            _ => {}
        }
    }
    for (path, bytes) in files(&data.join("automerge")) {
        if path.extension().is_some_and(|ending| ending == "automerge") {
            all.push(seed("document", name_of(&path), join([through(0, through(1, through(0, bytes)))])));
        }
    }
    all
}

fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    format!("shared-{name}")
}

/// Every small file below `folder`, by name.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.metadata().is_ok_and(|about| about.len() <= BYTES_MAX) {
            found.extend(std::fs::read(&path).ok().map(|bytes| (path.clone(), bytes)));
        }
    }
    found
}
