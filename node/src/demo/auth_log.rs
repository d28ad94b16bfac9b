//! The sshd log of the demo: the project's own sample moved to the present, or a copy of the user's, and fresh attacks.
//!
//! The user's own file is only read: what the story needs later is appended to the copy.

use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::error::CliError;
use crate::files;

/// Written by the project; see the README beside it for what each source does.
const SAMPLE: &[u8] = include_bytes!("../../../agents/samples/auth.log");
/// Length of a stamp such as `Jan  1 01:40:00`.
const STAMP_LEN: usize = 15;
/// Bytes at the end of the user's log in which its newest stamp is looked for.
const TAIL_BYTES: u64 = 64 * 1024;
/// Failed logins of one attack: one more than the rule asks for.
pub const ATTEMPTS: u16 = 6;
/// Sources of attacks that the demo makes up, from a documentation range (RFC 5737) and in no sample.
pub const ATTACKERS: [&str; 5] = ["203.0.113.201", "203.0.113.202", "203.0.113.203", "203.0.113.204", "203.0.113.205"];

/// The log that lyon reads.
#[derive(Debug, Clone)]
pub struct AuthLog {
    path: PathBuf,
    /// How far the log's time is ahead of ours: an old log goes on in its own time, for its agent follows that.
    ahead: SignedDuration,
}

impl AuthLog {
    /// Writes the log to `path`: a copy of `own`, or the sample with its last line a moment before `now`.
    ///
    /// # Errors
    /// [`CliError`] that names the file.
    pub fn create(path: PathBuf, own: Option<&Path>, now: Timestamp) -> Result<Self, CliError> {
        let Some(own) = own else {
            files::write_private(&path, &moved(SAMPLE, now))?;
            return Ok(Self { path, ahead: SignedDuration::ZERO });
        };
        let copied = || {
            std::fs::copy(own, &path)?;
            let mut file = OpenOptions::new().read(true).append(true).open(&path)?;
            let end = file.seek(SeekFrom::End(0))?;
            file.seek(SeekFrom::Start(end.saturating_sub(TAIL_BYTES)))?;
            let mut tail = Vec::new();
            file.read_to_end(&mut tail)?;
            if !matches!(tail.last(), None | Some(b'\n')) {
                file.write_all(b"\n")?;
            }
            Ok(ahead(&tail, now))
        };
        let ahead = copied().map_err(|e: std::io::Error| {
            CliError::config(format!("cannot copy {}", own.display()))
                .because(&e)
                .hint("name a log of sshd that you may read with --auth-log")
        })?;
        Ok(Self { path, ahead })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Empties the file.
    ///
    /// # Errors
    /// [`CliError`] that names the file.
    pub fn clear(&self) -> Result<(), CliError> {
        files::write_private(&self.path, b"")
    }

    /// Appends failed logins from `source`, as sshd would write them, the last one now.
    ///
    /// # Errors
    /// [`CliError`] that names the file.
    pub fn attack(&self, source: &str, now: Timestamp) -> Result<(), CliError> {
        (0..ATTEMPTS).try_for_each(|n| {
            let ago = SignedDuration::from_secs(i64::from(ATTEMPTS - 1 - n));
            self.failed_login(source, n, now.checked_sub(ago).unwrap_or(now)).map(drop)
        })
    }

    /// Appends the `n`th failed login from `source`, and answers with its line.
    ///
    /// # Errors
    /// [`CliError`] that names the file.
    pub fn failed_login(&self, source: &str, n: u16, at: Timestamp) -> Result<String, CliError> {
        let stamp = stamp(at.checked_add(self.ahead).unwrap_or(at));
        let (pid, port) = (7_000 + n, 52_000 + n);
        let line = format!("{stamp} edge-1 sshd[{pid}]: Failed password for root from {source} port {port} ssh2");
        let file = OpenOptions::new().append(true).open(&self.path);
        let written = file.and_then(|mut f| f.write_all(format!("{line}\n").as_bytes()));
        written.map_err(|e| CliError::config(format!("cannot append to {}", self.path.display())).because(&e))?;
        Ok(line)
    }
}

/// The stamp that syslog writes, in UTC, as the agent reads it.
fn stamp(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%b %e %H:%M:%S").to_string()
}

/// How far the newest stamp in the log's `tail` is ahead of `now`; nothing where the log is of today or has other stamps.
fn ahead(tail: &[u8], now: Timestamp) -> SignedDuration {
    let newest = tail.split(|b| *b == b'\n').rev().find_map(|line| Some(stamp_of(line)?.1));
    let today = stamp_of(stamp(now).as_bytes()).map(|(_, at)| at);
    match newest.zip(today) {
        Some((newest, today)) if newest.duration_since(today).abs() >= SignedDuration::from_hours(24) => {
            newest.duration_since(now)
        }
        _ => SignedDuration::ZERO,
    }
}

/// `sample` with every stamp moved by the same time, so that its newest line was written at `now`.
fn moved(sample: &[u8], now: Timestamp) -> Vec<u8> {
    let newest = sample.split(|b| *b == b'\n').filter_map(|line| Some(stamp_of(line)?.1)).max().unwrap_or(now);
    let by = now.duration_since(newest);
    let mut out = Vec::with_capacity(sample.len());
    for line in sample.split_inclusive(|b| *b == b'\n') {
        match stamp_of(line) {
            Some((rest, at)) => {
                out.extend_from_slice(stamp(at.checked_add(by).unwrap_or(now)).as_bytes());
                out.extend_from_slice(rest);
            }
            None => out.extend_from_slice(line),
        }
    }
    out
}

/// When a line of the sample was written, and what follows the stamp. The sample begins in December and ends in January.
fn stamp_of(line: &[u8]) -> Option<(&[u8], Timestamp)> {
    let (stamp, rest) = line.split_at_checked(STAMP_LEN)?;
    let text = std::str::from_utf8(stamp).ok()?;
    // The year is of no interest, but it has a 29 February.
    let year = if text.starts_with("Dec") { 2003 } else { 2004 };
    let at = DateTime::strptime("%Y %b %d %H:%M:%S", format!("{year} {text}")).ok()?;
    Some((rest, at.to_zoned(TimeZone::UTC).ok()?.timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cauldron_agents::security::sshd::{Config, SshdBruteforce, reference_year};
    use cauldron_agents::source::LineRef;

    fn proposed(log: &[u8], now: Timestamp) -> Vec<String> {
        let first = log.split(|b| *b == b'\n').next().expect("a line");
        let year = reference_year(first, log, now.as_second()).expect("a year");
        let mut agent = SshdBruteforce::new(Config { reference_year: year, ..Config::default() });
        let mut offset = 0;
        let mut found = Vec::new();
        for (bytes, line_no) in log.split(|b| *b == b'\n').zip(1..) {
            found.extend(agent.observe(LineRef { bytes, line_no, offset }));
            offset += bytes.len() as u64 + 1;
        }
        assert!(found.iter().all(|f| f.window_end_s <= now.as_second()), "nothing lies in the future");
        found.into_iter().map(|f| f.source.to_string()).collect()
    }

    #[test]
    fn the_moved_sample_still_tells_its_story_at_every_time_of_year() {
        for now in ["2026-11-24T11:00:00Z", "2027-01-01T00:30:00Z", "2028-02-29T23:59:59Z", "2028-03-01T00:10:00Z"] {
            let now: Timestamp = now.parse().expect("a time");
            let log = moved(SAMPLE, now);
            assert_eq!(log.len(), SAMPLE.len(), "only stamps change");
            let sources = ["198.51.100.7", "203.0.113.50", "198.51.100.23", "2001:db8:bad::5", "198.51.100.99"];
            assert_eq!(proposed(&log, now), sources, "{now}");
        }
    }

    #[test]
    fn attacks_are_proposed_in_the_logs_own_time_and_the_users_log_stays_as_it_is() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let own = dir.path().join("own.log");
        let now: Timestamp = "2026-11-24T11:00:00Z".parse().expect("a time");
        for (stamp, at) in [("Dec 10 07:00:00", "2025-12-10T07:00:00Z"), ("Nov 24 10:59:00", "2026-11-24T11:00:00Z")] {
            let line = format!("{stamp} h sshd[1]: Server listening on 0.0.0.0 port 22.");
            std::fs::write(&own, &line).expect("written");
            let log = AuthLog::create(dir.path().join("auth.log"), Some(&own), now).expect("copied");
            for source in ATTACKERS {
                log.attack(source, now).expect("appended");
            }
            let copy = std::fs::read(log.path()).expect("readable");
            let end: Timestamp = at.parse().expect("a time");
            assert_eq!(proposed(&copy, end), ATTACKERS, "{stamp}");
            assert_eq!(std::fs::read_to_string(&own).expect("readable"), line);
        }
        assert!(ATTACKERS.iter().all(|a| !String::from_utf8_lossy(SAMPLE).contains(a)));
    }
}
