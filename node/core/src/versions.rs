//! Versions of resources: a permit counts on one, and only the resource's connector knows the present one.

use std::collections::BTreeMap;

use cauldron_coordinator::action::Resource;
use cauldron_identity::FactId;

use crate::core::NodeCore;
use crate::input::Output;

/// How long an answer may be judged by, milliseconds, and after how long a connector that could not answer is asked again.
/// The connector compares once more at the effect; this only keeps a permit from being started in vain.
const VERSION_MS_MAX: u64 = 10_000;

/// What connectors said.
#[derive(Debug, Default)]
pub(crate) struct Versions(BTreeMap<FactId, Asked>);

#[derive(Debug)]
enum Asked {
    /// No answer yet.
    Open,
    /// The answer, and when it came, boot time in milliseconds.
    Told(Result<Option<String>, String>, u64),
}

impl Versions {
    /// Forgets what is asked about no more.
    pub(crate) fn keep(&mut self, is_open: impl Fn(&FactId) -> bool) {
        self.0.retain(|permit, _| is_open(permit));
    }

    /// When a connector that could not answer is asked again, boot time in milliseconds.
    pub(crate) fn wake_ms(&self) -> Option<u64> {
        let again = self.0.values().filter_map(|asked| match asked {
            Asked::Told(Err(_), at_ms) => Some(at_ms + VERSION_MS_MAX),
            _ => None,
        });
        again.min()
    }
}

impl NodeCore {
    /// The version by which a permit is judged, none inside where its resource has no versions. None: its connector has to be
    /// asked first; the verdict says so.
    pub(crate) fn version_for(&mut self, permit: &FactId) -> Option<Option<String>> {
        let Some((operation, object)) = self.versioned(permit) else { return Some(None) };
        let now_ms = self.now.boottime_ms;
        let why = match self.work.versions.0.get(permit) {
            Some(Asked::Open) => None,
            Some(Asked::Told(answer, at_ms)) if now_ms < at_ms + VERSION_MS_MAX => match answer {
                Ok(version) => return Some(version.clone()),
                Err(why) => Some(format!("the version of its resource cannot be told: {why}")),
            },
            _ => {
                self.work.versions.0.insert(*permit, Asked::Open);
                self.outputs.push_back(Output::Version { permit: *permit, operation, object });
                None
            }
        };
        let waits = || "waits for its connector to say at which version the resource is".to_owned();
        self.work.verdicts.insert(*permit, why.unwrap_or_else(waits));
        None
    }

    pub(crate) fn version_told(&mut self, permit: FactId, version: Result<Option<String>, String>) {
        if let Some(asked) = self.work.versions.0.get_mut(&permit) {
            *asked = Asked::Told(version, self.now.boottime_ms);
            self.dirty = true;
        }
    }

    /// Operation and object of a permit whose resource has versions.
    fn versioned(&self, permit: &FactId) -> Option<(String, String)> {
        let proposal = self.ledger.proposal(&self.ledger.permit(permit)?.body.proposal)?;
        let schema = self.catalogue().get(&proposal.body.action_class)?;
        let resource: Resource = proposal.body.resource.parse().ok()?;
        schema.about().versioned.then(|| (proposal.body.operation.clone(), resource.object))
    }
}
