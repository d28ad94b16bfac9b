//! `<path>.ended`: permits whose line has left the blocklist. A probe after a crash must not take "its time was over" for
//! "it never happened" and carry a permit out again.

use std::path::Path;

use super::file::{self, Replaced};
use super::text::is_permit_id;
use crate::connector::ConnectorError;

/// How long an ended permit is remembered: far beyond the 15 minutes within which a permit must be executed.
const KEPT_MS: u64 = 7 * 86_400_000;

/// Most that are remembered; the oldest are dropped first.
const KEPT_MAX: usize = 65_536;

/// Whether `permit_id` is remembered as ended.
pub(super) fn contains(path: &Path, permit_id: &str) -> Result<bool, ConnectorError> {
    let bytes = file::read(&file::suffixed(path, ".ended"))?.bytes;
    Ok(parse(&bytes).iter().any(|(_, id)| id == permit_id))
}

/// Remembers `permit_ids`, durably, before their lines are taken out.
pub(super) fn remember(path: &Path, permit_ids: &[String], now_ms: u64) -> Result<(), ConnectorError> {
    let journal = file::suffixed(path, ".ended");
    let old = file::read(&journal)?;
    let mut kept = parse(&old.bytes);
    kept.retain(|(at_ms, id)| at_ms.saturating_add(KEPT_MS) >= now_ms && !permit_ids.contains(id));
    kept.extend(permit_ids.iter().map(|id| (now_ms, id.clone())));
    let surplus = kept.len().saturating_sub(KEPT_MAX);
    let text: String = kept.iter().skip(surplus).map(|(at_ms, id)| format!("{at_ms} {id}\n")).collect();
    match file::replace(&journal, &old, text.as_bytes(), || {}, || {})? {
        Replaced::Yes => Ok(()),
        Replaced::ChangedMeanwhile => Err(ConnectorError::Contended { path: journal }),
    }
}

fn parse(bytes: &[u8]) -> Vec<(u64, String)> {
    let line = |line: &str| {
        let (at_ms, id) = line.split_once(' ')?;
        is_permit_id(id).then_some((at_ms.parse().ok()?, id.to_owned()))
    };
    String::from_utf8_lossy(bytes).lines().filter_map(line).collect()
}
