//! Brute force against sshd, seen in its log.
//!
//! **Rule.** At least `threshold` failed logins from one source within `window_s` seconds of *event* time make one finding.
//! `message repeated N times` counts N. The source is the address after the last ` from ` of a line that ends as sshd ends it.
//! Never proposed: loopback, link-local, multicast and other addresses that are no single stranger
//! ([`never_a_target`]), the node's own, the allow-listed, and sources with a successful login in
//! the window. One open finding per source: it is armed again only after its window is over *and* it was settled or its
//! time to live has passed.
//!
//! **Confidence** (`wilson-lower-95/v0`): the lower end of the 95 % Wilson interval (Wilson 1927) for "a login from this
//! source fails", given n failures and no success: n / (n + z²) with z = 1.96. Raw, not calibrated: 5 failures give
//! 565508 ppm, 100 give 963005 ppm.
//!
//! **Restart.** Nothing is stored: two windows of lines are read again from
//! [`resume_at`](crate::host::Agent::resume_at), and a finding is made only where they say everything about it.
//!
//! **Limits.** A local user who may write to the log can write any line. A rotated IPv6 address is a new source. Failed
//! logins by certificate carry text of the certificate's holder behind the address; they are not counted.
//!
//! No clock, no IO: time is what the lines say.

mod config;
mod line;
mod positions;
mod stamp;
#[cfg(test)]
mod tests;
mod tracker;

use std::net::IpAddr;

use cauldron_identity::Digest;
use cauldron_identity::ids::sha256;
use serde::Serialize;

pub use config::{Config, ConfigProblem};
pub use stamp::reference_year;

use crate::host::{Agent, AgentInfo, Observation};
use crate::net::{canonical, never_a_target};
use crate::proposal::{Evidence, ProposalDraft, TAINT_UNTRUSTED_LOG, Undo, for_display};
use crate::source::{LINE_BYTES_MAX, LineRef, Position};
use line::NoLogin;
use positions::Positions;
use stamp::{Dater, rfc3339};
use tracker::{Tracker, Verdict};

/// Name of the agent, the last part of its SPIFFE ID.
pub const NAME: &str = "sshd-bruteforce";

/// The detector: lines in, findings out.
#[derive(Clone, Debug)]
pub struct SshdBruteforce {
    config: Config,
    info: AgentInfo,
    dater: Dater,
    tracker: Tracker,
    positions: Positions,
    counters: Counters,
    /// Number of the first line seen, dated or not.
    first_line_no: Option<u64>,
    /// Whether a dated line was seen.
    begun: bool,
    found: Option<ProposalDraft>,
}

/// A source that crossed the threshold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Canonical address of the source.
    pub source: IpAddr,
    /// Failed logins in the window.
    pub failures: u32,
    /// First of them, Unix seconds.
    pub window_start_s: i64,
    /// Last of them, Unix seconds.
    pub window_end_s: i64,
    /// The newest lines behind it, in event order, at most [`Evidence::LINES_MAX`].
    pub evidence: Vec<Evidence>,
}

/// What became of the lines, for metrics and the replay's summary. Each line is in exactly one of the fields up to `failures`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Lines without a stamp that can be dated.
    pub no_stamp: u64,
    /// Lines of other programs.
    pub other_program: u64,
    /// Lines of sshd that report no login's outcome.
    pub other_message: u64,
    /// Lines that begin like a login's outcome and do not end like one.
    pub malformed: u64,
    /// Lines beyond [`LINE_BYTES_MAX`].
    pub too_long: u64,
    /// Lines that report successful logins.
    pub successes: u64,
    /// Lines that report failed logins.
    pub failures: u64,
    /// Of `failures`: from addresses that are never proposed.
    pub exempt: u64,
    /// Findings withheld because the source had logged in within the window.
    pub spared_by_success: u64,
    /// Findings withheld because too many are open already.
    pub withheld_open_max: u64,
    /// Findings withheld because reading began midway, less than two windows before: the detector that read these lines
    /// before the restart has judged them with all it knew.
    pub withheld_half_seen: u64,
    /// Sources forgotten early because too many were tracked.
    pub evicted: u64,
}

impl SshdBruteforce {
    /// Findings that may be open at the same time; further ones wait until some are settled. Well above the mesh's limit of
    /// 20 open proposals per agent, so that the ledger and not this memory bound decides.
    pub const OPEN_MAX: usize = 1024;

    /// A detector that has seen nothing. Settings beyond their bounds are moved to the nearest one that works; call
    /// [`Config::problems`] first to refuse them.
    pub fn new(mut config: Config) -> Self {
        config.threshold = config.threshold.clamp(1, Evidence::LINES_MAX as u32);
        config.window_s = config.window_s.clamp(1, 86_400);
        config.ttl_s = config.ttl_s.clamp(1, 86_400);
        config.sources_max = config.sources_max.clamp(1, 1_000_000);
        SshdBruteforce {
            info: AgentInfo::built_in(NAME, &config.rule_text()),
            dater: Dater::new(config.reference_year, config.utc_offset_s),
            tracker: Tracker::new(&config, Self::OPEN_MAX),
            // A success counts up to a window before the window that it spares.
            positions: Positions::new(config.window_s.saturating_mul(2)),
            counters: Counters::default(),
            first_line_no: None,
            begun: false,
            found: None,
            config,
        }
    }

    /// Looks at one line (without its terminator) and says whether its source has just crossed the threshold.
    pub fn observe(&mut self, line: LineRef<'_>) -> Option<Finding> {
        if line.bytes.len() > LINE_BYTES_MAX {
            self.too_long(line.line_no);
            return None;
        }
        let first_line_no = *self.first_line_no.get_or_insert(line.line_no);
        let (stamp, login) = match line::parse(line.bytes) {
            Ok(login) => (login.stamp, Some(login)),
            Err(NoLogin::NoStamp) => {
                self.counters.no_stamp += 1;
                return None;
            }
            Err(NoLogin::OtherProgram(stamp)) => {
                self.counters.other_program += 1;
                (stamp, None)
            }
            Err(NoLogin::OtherMessage(stamp)) => {
                self.counters.other_message += 1;
                (stamp, None)
            }
            Err(NoLogin::Malformed(stamp)) => {
                self.counters.malformed += 1;
                (stamp, None)
            }
        };
        // Every stamp moves the year along, whoever wrote the line.
        let event_s = self.dater.date(stamp);
        if let Some(event_s) = event_s {
            self.positions.note(event_s, line.position());
            if !self.begun && first_line_no > 1 {
                self.tracker.began_midway(event_s);
            }
            self.begun = true;
        }
        match (login, event_s) {
            (Some(login), Some(event_s)) => self.login(login, event_s, line),
            (Some(_), None) => {
                self.counters.no_stamp += 1;
                None
            }
            (None, _) => None,
        }
    }

    /// The proposal for `source` came to its end (executed and over, denied, expired): it may be found again once its window
    /// is over.
    pub fn settled(&mut self, source: IpAddr) {
        self.tracker.settled(canonical(source));
    }

    /// A proposal for `source` is open already; told after a restart, because the detector stores nothing.
    pub fn opened(&mut self, source: IpAddr, window_start_s: i64) {
        self.tracker.opened(canonical(source), window_start_s);
    }

    /// The follower skipped a line that was too long.
    pub fn too_long(&mut self, line_no: u64) {
        self.first_line_no.get_or_insert(line_no);
        self.counters.too_long += 1;
    }

    /// The year of the first year-less stamp; see [`reference_year`]. Changes nothing once a line was dated.
    pub fn set_reference_year(&mut self, year: i16) {
        self.dater.set_reference_year(year);
    }

    /// What became of the lines so far.
    pub fn counters(&self) -> Counters {
        Counters { evicted: self.tracker.evicted(), ..self.counters }
    }

    /// The proposal that a finding asks for.
    pub fn draft(&self, finding: &Finding) -> ProposalDraft {
        let (source, ttl_s) = (finding.source, self.config.ttl_s);
        let start = rfc3339(finding.window_start_s);
        let seconds = finding.window_end_s.saturating_sub(finding.window_start_s);
        let reason =
            format!("{} failed sshd logins from {source} within {seconds} s, none successful", finding.failures);
        ProposalDraft {
            agent: self.info.clone(),
            module: "security".into(),
            operation: "security.address.block".into(),
            risk_class: "R1".into(),
            connector: "blocklist".into(),
            object: source.to_string(),
            args: serde_json::json!({ "address": source.to_string(), "reason": reason, "ttl_s": ttl_s }),
            undo: Undo {
                reversible: true,
                plan: format!(
                    "the line for {source} leaves the blocklist by itself after {ttl_s} s; removing it by hand undoes the block at once"
                ),
            },
            rationale: format!(
                "{reason} (first {start}, last {}); the rule asks for {} within {} s.",
                rfc3339(finding.window_end_s),
                self.config.threshold,
                self.config.window_s
            ),
            confidence_ppm: confidence_ppm(finding.failures),
            confidence_method: "wilson-lower-95/v0".into(),
            evidence: finding.evidence.clone(),
            taint: vec![TAINT_UNTRUSTED_LOG.into()],
            // Read back by `read_intent_key`.
            intent_key: format!("{source}/{start}"),
            window_start_s: finding.window_start_s,
            window_end_s: finding.window_end_s,
        }
    }

    fn login(&mut self, login: line::Login, event_s: i64, line: LineRef<'_>) -> Option<Finding> {
        if login.success {
            self.counters.successes += 1;
            self.tracker.success(login.source, event_s);
            return None;
        }
        self.counters.failures += 1;
        if self.is_exempt(login.source) {
            self.counters.exempt += 1;
            return None;
        }
        let evidence = Evidence {
            line_no: line.line_no,
            event_s,
            count: login.count,
            digest: Digest::from_bytes(sha256(line.bytes)),
            text: for_display(line.bytes, Evidence::TEXT_BYTES_MAX),
        };
        match self.tracker.failure(login.source, evidence) {
            Verdict::Nothing => None,
            Verdict::Found(finding) => Some(finding),
            Verdict::Spared => {
                self.counters.spared_by_success += 1;
                None
            }
            Verdict::HalfSeen => {
                self.counters.withheld_half_seen += 1;
                None
            }
            Verdict::TooManyOpen => {
                self.counters.withheld_open_max += 1;
                None
            }
        }
    }

    fn is_exempt(&self, source: IpAddr) -> bool {
        never_a_target(source)
            || self.config.own_addresses.iter().any(|own| canonical(*own) == source)
            || self.config.allow.iter().any(|block| block.contains(source))
    }
}

/// n / (n + z²) in parts per million, z = 1.96: see the module's docs.
fn confidence_ppm(failures: u32) -> u32 {
    const Z_SQUARED_E4: u128 = 38_416;
    let n_e4 = u128::from(failures) * 10_000;
    u32::try_from(n_e4 * 1_000_000 / (n_e4 + Z_SQUARED_E4)).unwrap_or(1_000_000)
}

/// Source and window start of `<address>/<RFC 3339>`.
fn read_intent_key(key: &str) -> Option<(IpAddr, i64)> {
    let (source, start) = key.split_once('/')?;
    Some((source.parse().ok()?, start.parse::<jiff::Timestamp>().ok()?.as_second()))
}

impl Agent for SshdBruteforce {
    fn info(&self) -> &AgentInfo {
        &self.info
    }

    fn handle(&mut self, observation: Observation<'_>) {
        match observation {
            Observation::Line(line) => {
                let draft = self.observe(line).map(|finding| self.draft(&finding));
                self.found = draft.or(self.found.take());
            }
            Observation::SourceRestarted => self.positions.restarted(),
            Observation::Opened { intent_key } => {
                if let Some((source, window_start_s)) = read_intent_key(intent_key) {
                    self.opened(source, window_start_s);
                }
            }
            Observation::Settled { object } => {
                if let Ok(source) = object.parse() {
                    self.settled(source);
                }
            }
        }
    }

    fn poll(&mut self) -> Option<ProposalDraft> {
        self.found.take()
    }

    fn still_stands(&self, draft: &ProposalDraft) -> bool {
        let stands = |source: IpAddr| self.tracker.still_stands(canonical(source), draft.window_start_s);
        draft.object.parse().is_ok_and(stands)
    }

    fn resume_at(&self) -> Option<Position> {
        self.positions.oldest_in_window()
    }
}
