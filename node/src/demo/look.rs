//! Reading what nodes show and what lies in files. Nothing here remembers anything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::process::{Failure, Node};
use crate::output::items;

/// Shorter than any block stands.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Bytes by which a needle is looked up.
const HEAD_LEN: usize = 4;

/// The text at `pointer`, empty where there is none.
pub fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The item with this id.
pub fn with_id<'v>(list: &'v Value, id: &str) -> Option<&'v Value> {
    items(list).iter().find(|item| text(item, "/id") == id)
}

/// The address that a proposal of lyon's agent is about: the last part of its target.
pub fn address(proposal: &Value) -> &str {
    text(proposal, "/target").rsplit('/').next().unwrap_or_default()
}

/// Sentences of a list, as one.
pub fn sentences(value: &Value, pointer: &str) -> String {
    let list = value.pointer(pointer).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join("; ")
}

/// How often each kind of fact stands in the story of `id`, as `node` tells it.
///
/// # Errors
/// [`Failure`] when the node does not answer.
pub async fn kinds(node: &Node, id: &str) -> Result<Vec<String>, Failure> {
    let story = node.get(&format!("/v1/audit/{id}")).await?;
    Ok(items(&story).iter().map(|fact| text(fact, "/kind").to_owned()).collect())
}

/// How many of `kinds` are `kind`.
pub fn count(kinds: &[String], kind: &str) -> usize {
    kinds.iter().filter(|k| *k == kind).count()
}

/// The lines of the blocklist that begin with `address`. A file that is not there has none.
///
/// # Errors
/// [`Failure`] when it cannot be read.
pub fn lines_of(blocklist: &Path, address: &str) -> Result<Vec<String>, Failure> {
    let of = |line: &&str| line.split_whitespace().next() == Some(address);
    Ok(read_lossy(blocklist)?.lines().filter(of).map(str::to_owned).collect())
}

/// A text file; empty where there is none.
///
/// # Errors
/// [`Failure`] when it is there and cannot be read.
pub fn read_lossy(path: &Path) -> Result<String, Failure> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(Failure::new(format!("cannot read {}: {e}", path.display()))),
    }
}

/// Looks at a file all the time and keeps every line that ever stood in it.
#[derive(Debug)]
pub struct Watch {
    seen: Arc<Mutex<BTreeSet<String>>>,
    stop: Arc<AtomicBool>,
}

impl Watch {
    /// Watches `path` until it is dropped.
    ///
    /// # Errors
    /// [`Failure`] when no thread can be started.
    pub fn start(path: PathBuf) -> Result<Self, Failure> {
        let (seen, stop) = (Arc::new(Mutex::new(BTreeSet::new())), Arc::new(AtomicBool::new(false)));
        let (lines, ended) = (seen.clone(), stop.clone());
        let work = move || {
            while !ended.load(Ordering::Relaxed) {
                if let Ok(text) = read_lossy(&path) {
                    let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                    lines.extend(text.lines().map(str::to_owned));
                }
                std::thread::sleep(LOOK_EVERY);
            }
        };
        std::thread::Builder::new()
            .name("watch".into())
            .spawn(work)
            .map_err(|e| Failure::new(format!("cannot watch the blocklist: {e}")))?;
        Ok(Self { seen, stop })
    }

    /// Every line seen so far that mentions `text` anywhere.
    pub fn mentions(&self, text: &str) -> Vec<String> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().filter(|line| line.contains(text)).cloned().collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Byte strings to look for, each with the name by which a finding is told.
#[derive(Debug, Default)]
pub struct Needles(BTreeMap<[u8; HEAD_LEN], Vec<(Vec<u8>, String)>>);

impl Needles {
    /// Adds a byte string of at least four bytes; shorter ones say nothing about where they come from.
    pub fn add(&mut self, bytes: impl Into<Vec<u8>>, name: impl Into<String>) {
        let bytes = bytes.into();
        if let Some(head) = bytes.first_chunk::<HEAD_LEN>() {
            self.0.entry(*head).or_default().push((bytes.clone(), name.into()));
        }
    }

    /// Names of needles in `hay`.
    pub fn found_in(&self, hay: &[u8]) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (at, head) in hay.windows(HEAD_LEN).enumerate() {
            let Some(candidates) = <[u8; HEAD_LEN]>::try_from(head).ok().and_then(|head| self.0.get(&head)) else {
                continue;
            };
            let rest = hay.get(at..).unwrap_or_default();
            found.extend(candidates.iter().filter(|(bytes, _)| rest.starts_with(bytes)).map(|(_, name)| name.clone()));
        }
        found
    }
}

/// Every regular file below `dir`.
///
/// # Errors
/// [`Failure`] when a directory cannot be listed.
pub fn files_below(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |e: std::io::Error| Failure::new(format!("cannot list {}: {e}", dir.display()));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() {
            found.extend(files_below(&entry.path())?);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Positions in `hay` at which `scope` stands as a scope: not as the beginning of a longer path.
pub fn names_scope(hay: &[u8], scope: &str) -> bool {
    let goes_on = |b: Option<&u8>| b.is_some_and(|b| *b == b'/' || *b == b'-' || b.is_ascii_alphanumeric());
    hay.windows(scope.len())
        .enumerate()
        .any(|(at, window)| window == scope.as_bytes() && !goes_on(hay.get(at + scope.len())))
}

/// The sum of the samples of a metric whose labels contain `label`.
pub fn metric(page: &str, name: &str, label: &str) -> u64 {
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        let rest = series.strip_prefix(name)?;
        (rest.is_empty() || rest.starts_with('{')).then_some(())?;
        rest.contains(label).then(|| value.parse::<u64>().ok())?
    };
    page.lines().filter_map(sample).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needles_are_found_wherever_they_stand() {
        let mut needles = Needles::default();
        needles.add("198.51.100.7", "address");
        needles.add([1, 2, 3, 4, 5], "id");
        needles.add([9], "too short to mean anything");
        assert_eq!(needles.found_in(b"xx198.51.100.7"), BTreeSet::from(["address".to_owned()]));
        assert_eq!(needles.found_in(&[0, 1, 2, 3, 4, 5]), BTreeSet::from(["id".to_owned()]));
        assert!(needles.found_in(&[1, 2, 3, 4, 9]).is_empty());
    }

    #[test]
    fn a_scope_is_not_a_spiffe_path() {
        assert!(names_scope(b"isite/lyon\x01", "site/lyon") && names_scope(b"site/lyon#restrict", "site/lyon"));
        assert!(!names_scope(b"spiffe://d/site/lyon/node/lyon", "site/lyon"));
        assert!(!names_scope(b"site/lyon-2", "site/lyon") && !names_scope(b"", "site/lyon"));
    }

    #[test]
    fn samples_of_one_metric_are_summed() {
        let page = "# HELP a_total x\na_total{code=\"certificate\"} 2\na_total{code=\"busy\"} 1\na_total_more 9\n";
        assert_eq!((metric(page, "a_total", "certificate"), metric(page, "a_total", "")), (2, 3));
    }
}
