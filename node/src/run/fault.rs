//! Fault points for tests and the demo: `CAULDRON_FAULT=<point>:<what>`.
//!
//! | fault | what happens |
//! |---|---|
//! | `effect.before:kill` | the process dies after `Started` is durable and before the effect |
//! | `effect.after:kill` | the process dies after the effect and before its outcome is recorded |
//! | `effect.before:hang` | the connector hangs after `Started` is durable and before the effect, until the process is ended |
//! | `effect.done:lie` | connectors say that something is done, and do nothing |
//! | `check.held:lie` | connectors say that no check holds |
//! | `effect.ended:kill` | the process dies after an effect has left and before that is recorded |
//! | `enrol.reply:kill` | the process dies after an enrolment is durable and before its reply leaves |
//! | `permit:forge-permit` | a coordinator permits what nobody approved |
//! | `clock:+<duration>` | the machine slept that long: its wall clock and its boot time are ahead by it |
//! | `wall:+<duration>` | somebody set the wall clock ahead |
//! | `epoch:<n>` | an epoch of a document takes `n` changes; every node of the mesh must be told the same |
//!
//! Several are separated by commas.
//!
//! Packages are built without the feature `fault-points`; the variable is then refused, not ignored.

use cauldron_node_core::Misbehave;

use crate::error::CliError;

const NAME: &str = "CAULDRON_FAULT";

/// What this process was told to do wrong.
#[derive(Debug, Clone, Default)]
pub struct Fault {
    point: Option<String>,
    hangs_at: Option<String>,
    /// What connectors lie about.
    pub lie: Option<Lie>,
    /// What the core does wrong.
    pub misbehave: Misbehave,
    /// How many changes an epoch of a document takes.
    pub epoch_changes: Option<u64>,
}

/// What a connector lies about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// It says that something is done, and does nothing.
    Done,
    /// It says that no check holds.
    Check,
}

impl Fault {
    /// Reads `CAULDRON_FAULT`.
    ///
    /// # Errors
    /// [`CliError`] for a fault that this build does not know, or any in a build without fault points.
    pub fn from_env() -> Result<Self, CliError> {
        match std::env::var(NAME) {
            Ok(text) if !text.is_empty() => Self::parse(&text),
            _ => Ok(Self::default()),
        }
    }

    #[cfg(not(feature = "fault-points"))]
    fn parse(_: &str) -> Result<Self, CliError> {
        Err(CliError::config(format!("{NAME} is set, but this build has no fault points"))
            .hint(format!("unset {NAME}; test builds have the feature fault-points")))
    }

    #[cfg(feature = "fault-points")]
    fn parse(text: &str) -> Result<Self, CliError> {
        let mut fault = Self::default();
        for one in text.split(',') {
            let ahead = |prefix| one.strip_prefix(prefix).map(humantime::parse_duration);
            if let Some(Ok(changes)) = one.strip_prefix("epoch:").map(str::parse) {
                fault.epoch_changes = Some(changes);
                continue;
            }
            match (one, ahead("clock:+"), ahead("wall:+")) {
                ("effect.before:kill" | "effect.after:kill" | "effect.ended:kill" | "enrol.reply:kill", ..) => {
                    fault.point = one.strip_suffix(":kill").map(str::to_owned);
                }
                ("effect.before:hang", ..) => fault.hangs_at = Some("effect.before".to_owned()),
                ("effect.done:lie", ..) => fault.lie = Some(Lie::Done),
                ("check.held:lie", ..) => fault.lie = Some(Lie::Check),
                ("permit:forge-permit", ..) => fault.misbehave.forge_permits = true,
                (_, Some(Ok(ahead)), _) => crate::clock::sleep_through(ahead),
                (_, _, Some(Ok(ahead))) => crate::clock::set_ahead(ahead),
                _ => {
                    return Err(CliError::config(format!("{NAME}: {one:?} is no fault point")).hint(
                        "use effect.before:kill, effect.after:kill, effect.ended:kill, effect.before:hang, effect.done:lie, \
                         check.held:lie, enrol.reply:kill, permit:forge-permit, clock:+30d, wall:+30d or epoch:100",
                    ));
                }
            }
        }
        Ok(fault)
    }

    /// Called where the fault points are. Dies there without a word, as a power cut would, or hangs as a dead mount does.
    pub fn reached(&self, point: &str) {
        if self.point.as_deref() == Some(point) {
            std::process::abort();
        }
        while self.hangs_at.as_deref() == Some(point) {
            std::thread::park();
        }
    }
}

#[cfg(all(test, feature = "fault-points"))]
mod tests {
    use super::*;

    #[test]
    fn known_faults_are_taken_and_others_named() {
        assert!(Fault::parse("permit:forge-permit").expect("known").misbehave.forge_permits);
        assert_eq!(Fault::parse("effect.before:kill").expect("known").point.as_deref(), Some("effect.before"));
        assert!(Fault::parse("effect.before:forge").expect_err("unknown").to_string().contains("effect.before:forge"));
    }
}
