//! The names of the checks, and how each outcome is told.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::process::Failure;
use crate::error::CliError;

/// Everything that `demo --once` checks, in the order of the story. `--sabotage` takes the same names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Three nodes know each other.
    ThreeUp,
    /// Another authority's certificate opens nothing.
    ForeignCertificateRefused,
    /// The agent proposes, and its evidence stands in the log.
    ProposalWithEvidence,
    /// What was approved happened once.
    ApprovedExecutedOnce,
    /// A crash in the worst moment leaves one effect.
    KilledBetweenPermitAndEffect,
    /// hq alone cannot make lyon act.
    ForgedPermitRefused,
    /// A block leaves when its time is over.
    TtlRemoval,
    /// Without hq lyon goes on recording, and says what waits for hq.
    WaitsWhileHqDark,
    /// Afterwards all hold the same.
    EqualStateHashes,
    /// What was denied never touched the file.
    DeniedLeavesNoTrace,
    /// porto holds nothing of lyon's own.
    NoForeignScopeByte,
    /// Every signature and step can be checked.
    StoryVerifies,
}

impl Check {
    /// All, in order.
    pub const ALL: [Self; 12] = [
        Self::ThreeUp,
        Self::ForeignCertificateRefused,
        Self::ProposalWithEvidence,
        Self::ApprovedExecutedOnce,
        Self::KilledBetweenPermitAndEffect,
        Self::ForgedPermitRefused,
        Self::TtlRemoval,
        Self::WaitsWhileHqDark,
        Self::EqualStateHashes,
        Self::DeniedLeavesNoTrace,
        Self::NoForeignScopeByte,
        Self::StoryVerifies,
    ];

    /// Its stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ThreeUp => "three-up",
            Self::ForeignCertificateRefused => "foreign-certificate-refused",
            Self::ProposalWithEvidence => "proposal-with-evidence",
            Self::ApprovedExecutedOnce => "approved-executed-once",
            Self::KilledBetweenPermitAndEffect => "killed-between-permit-and-effect",
            Self::ForgedPermitRefused => "forged-permit-refused",
            Self::TtlRemoval => "ttl-removal",
            Self::WaitsWhileHqDark => "waits-while-hq-dark",
            Self::EqualStateHashes => "equal-state-hashes",
            Self::DeniedLeavesNoTrace => "denied-leaves-no-trace",
            Self::NoForeignScopeByte => "no-foreign-scope-byte",
            Self::StoryVerifies => "story-verifies",
        }
    }

    /// What `--sabotage` does to make it fail.
    pub const fn sabotage(self) -> &'static str {
        match self {
            Self::ThreeUp => "porto is never started",
            Self::ForeignCertificateRefused => "the stranger's certificate comes from the mesh's own authority",
            Self::ProposalWithEvidence => "the log that lyon reads is empty",
            Self::ApprovedExecutedOnce => "the line of the block is copied by hand",
            Self::KilledBetweenPermitAndEffect => "lyon is not killed",
            Self::ForgedPermitRefused => "hq forges nothing",
            Self::TtlRemoval => "the line of the block is edited by hand, so that it is nobody's",
            Self::WaitsWhileHqDark => "hq is not killed",
            Self::EqualStateHashes => "porto is cut off from the others",
            Self::DeniedLeavesNoTrace => "the denied address is written into the file by hand",
            Self::NoForeignScopeByte => "porto is given a copy of lyon's store",
            Self::StoryVerifies => "bytes of lyon's store are flipped",
        }
    }

    /// The check with this name.
    ///
    /// # Errors
    /// [`CliError`] of kind `Usage` that lists the names.
    pub fn named(name: &str) -> Result<Self, CliError> {
        Self::ALL.into_iter().find(|check| check.name() == name).ok_or_else(|| {
            CliError::usage(format!("no check is named {name:?}"))
                .detail(list().trim_end())
                .hint("take one of these names")
        })
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Every name with what its sabotage does, one per line.
pub fn list() -> String {
    let width = Check::ALL.iter().map(|c| c.name().len()).max().unwrap_or(0);
    Check::ALL.iter().map(|c| format!("{:<width$}  {}\n", c.name(), c.sabotage())).collect()
}

/// What became of a check.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Which.
    pub check: Check,
    /// What was seen, or why it does not hold.
    pub result: Result<String, Failure>,
    /// How long it took.
    pub took: Duration,
}

impl Outcome {
    fn detail(&self) -> &str {
        self.result.as_ref().map_or_else(|failure| failure.why.as_str(), String::as_str)
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let verdict = if self.result.is_ok() { "ok" } else { "FAILED" };
        let seconds = self.took.as_secs_f64();
        format!("{verdict:<6} {:<32} {seconds:>5.1} s  {}", self.check.name(), crate::output::harmless(self.detail()))
    }

    fn json(&self) -> Value {
        json!({
            "name": self.check.name(),
            "ok": self.result.is_ok(),
            "detail": self.detail(),
            "ms": u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
        })
    }
}

/// The whole run for programs.
pub fn report(outcomes: &[Outcome], took: Duration) -> Value {
    json!({
        "ok": outcomes.iter().all(|o| o.result.is_ok()),
        "checks": outcomes.iter().map(Outcome::json).collect::<Vec<_>>(),
        "duration_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_is_found_by_its_name_and_others_are_refused_with_the_list() {
        for check in Check::ALL {
            assert_eq!(Check::named(check.name()), Ok(check));
        }
        let error = Check::named("three").expect_err("unknown");
        assert_eq!(error.kind().exit_code(), 2);
        assert!(Check::ALL.iter().all(|c| error.to_string().contains(c.name())), "{error}");
    }

    #[test]
    fn the_report_is_ok_only_if_each_check_held() {
        let took = Duration::from_millis(1_200);
        let held = Outcome { check: Check::ThreeUp, result: Ok("three".into()), took };
        let broken = Outcome { check: Check::TtlRemoval, result: Err(Failure::new("it stands")), took };
        assert_eq!(report(std::slice::from_ref(&held), took)["ok"], true);
        let report = report(&[held, broken.clone()], took);
        assert_eq!((&report["ok"], &report["checks"][1]["detail"]), (&json!(false), &json!("it stands")));
        assert!(broken.line().starts_with("FAILED ttl-removal"), "{}", broken.line());
    }
}
