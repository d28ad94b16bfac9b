//! What was told, on disk: a start repeats nothing that a receiver has taken, and still says how it ended.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::CliError;
use crate::files;

/// One proposal that a receiver was told of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    /// Under which terms last.
    pub(super) terms: String,
    /// The groups that were named.
    pub(super) groups: BTreeSet<String>,
    /// Until when people could decide, milliseconds since the Unix epoch.
    pub(super) deadline_ms: u64,
    /// Whether the receiver knows that it is over.
    pub(super) over: bool,
}

/// By proposal.
pub(super) type All = BTreeMap<String, Told>;

/// Reads what was kept; nothing where there is no file yet.
///
/// # Errors
/// [`CliError`] that names the file: it cannot be read, or is damaged.
pub(super) fn read(path: &Path) -> Result<All, CliError> {
    if !path.try_exists().unwrap_or(true) {
        return Ok(All::new());
    }
    serde_json::from_slice(&files::read(path)?)
        .map_err(|e| CliError::integrity(format!("{} is damaged", path.display())).because(&e))
}

/// Keeps `all`: durable when this returns.
///
/// # Errors
/// [`CliError`] that names the file.
pub(super) fn write(path: &Path, all: &All) -> Result<(), CliError> {
    if let Some(folder) = path.parent() {
        files::create_dir(folder)?;
    }
    let text = serde_json::to_vec(all).map_err(|e| CliError::integrity("what was told is no JSON").because(&e))?;
    files::write_private(path, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_kept_and_a_damaged_file_is_named() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("notify/duty.json");
        assert_eq!(read(&path), Ok(All::new()));
        let told = Told { terms: "t".into(), groups: ["a".to_owned()].into(), deadline_ms: 7, over: false };
        let all = All::from([("p".to_owned(), told)]);
        write(&path, &all).expect("written");
        assert_eq!(read(&path), Ok(all));
        std::fs::write(&path, "{").expect("written");
        assert!(read(&path).expect_err("damaged").to_string().contains("duty.json"));
    }
}
