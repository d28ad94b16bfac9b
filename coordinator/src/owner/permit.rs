//! The one thing a connector accepts.

use std::collections::BTreeSet;

use cauldron_identity::{Digest, FactId};

use super::undo::VerifiedUndo;
use crate::action::{Action, Catalogue};
use crate::bodies::{Amount, Permit, Proposal, RiskClass, Started};
use crate::ledger::Recorded;

/// Proof that this node judged a permit and found it valid, for one use.
///
/// Only [`super::judge`] and [`super::resume`] make one. It cannot be built outside:
///
/// ```compile_fail,E0451
/// # use cauldron_coordinator::{action::Action, bodies::RiskClass, owner::VerifiedPermit};
/// # use cauldron_identity::{Digest, FactId};
/// fn forge(id: FactId, digest: Digest, action: Action) -> VerifiedPermit {
///     VerifiedPermit {
///         permit: id, proposal: id, lineage: id, action, resource: String::new(), intent_key: String::new(),
///         risk: RiskClass::R0, execute_by_ms: 0, input_digest: digest, expected_version: None, budgets: vec![], sandbox: vec![], notify: Default::default(), undo: None,
///     }
/// }
/// ```
///
/// nor by its maker, which is private:
///
/// ```compile_fail,E0624
/// # use cauldron_coordinator::owner::VerifiedPermit;
/// let forge = VerifiedPermit::new;
/// ```
///
/// nor copied, to be used twice:
///
/// ```compile_fail,E0599
/// # use cauldron_coordinator::owner::VerifiedPermit;
/// fn twice(permit: VerifiedPermit) -> (VerifiedPermit, VerifiedPermit) {
///     (permit.clone(), permit)
/// }
/// ```
///
/// nor conjured by a default:
///
/// ```compile_fail,E0599
/// # use cauldron_coordinator::owner::VerifiedPermit;
/// let forge = VerifiedPermit::default();
/// ```
///
/// nor changed on the way:
///
/// ```compile_fail,E0616
/// # use cauldron_coordinator::owner::VerifiedPermit;
/// fn stretch(mut permit: VerifiedPermit) {
///     permit.execute_by_ms = u64::MAX;
/// }
/// ```
#[derive(Debug)]
#[must_use]
pub struct VerifiedPermit {
    permit: FactId,
    proposal: FactId,
    lineage: FactId,
    action: Action,
    resource: String,
    intent_key: String,
    risk: RiskClass,
    execute_by_ms: u64,
    input_digest: Digest,
    expected_version: Option<String>,
    budgets: Vec<Amount>,
    sandbox: Vec<String>,
    notify: BTreeSet<String>,
    undo: Option<Digest>,
}

impl VerifiedPermit {
    pub(super) fn new(
        permit: &Recorded<Permit>,
        proposal: &Recorded<Proposal>,
        action: Action,
        risk: RiskClass,
        input_digest: Digest,
    ) -> Self {
        Self {
            permit: permit.id,
            proposal: proposal.id,
            lineage: proposal.body.lineage(proposal.id),
            action,
            resource: proposal.body.resource.clone(),
            intent_key: proposal.body.intent_key.clone(),
            risk,
            execute_by_ms: permit.body.execute_by_ms,
            input_digest,
            expected_version: permit.body.expected_version.clone(),
            budgets: permit.body.budgets.clone(),
            sandbox: permit.body.sandbox.clone(),
            notify: BTreeSet::new(),
            undo: permit.body.undo,
        }
    }

    /// With groups that are told of it beside those that its decision names.
    pub(super) fn telling(self, notify: BTreeSet<String>) -> Self {
        Self { notify, ..self }
    }

    /// The permit fact.
    #[must_use]
    pub fn permit(&self) -> FactId {
        self.permit
    }

    /// The proposal fact.
    #[must_use]
    pub fn proposal(&self) -> FactId {
        self.proposal
    }

    /// The lineage.
    #[must_use]
    pub fn lineage(&self) -> FactId {
        self.lineage
    }

    /// What to do.
    #[must_use]
    pub fn action(&self) -> &Action {
        &self.action
    }

    /// To what.
    #[must_use]
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// The class it was judged under.
    #[must_use]
    pub fn risk(&self) -> RiskClass {
        self.risk
    }

    /// Until when the effect must have started, milliseconds since the Unix epoch.
    #[must_use]
    pub fn execute_by_ms(&self) -> u64 {
        self.execute_by_ms
    }

    /// The version that the resource must be at when the effect happens, where it has versions.
    #[must_use]
    pub fn expected_version(&self) -> Option<&str> {
        self.expected_version.as_deref()
    }

    /// Rights that must be set aside, durably, before the start: at least what both judges ask for.
    #[must_use]
    pub fn budgets(&self) -> &[Amount] {
        &self.budgets
    }

    /// Restrictions under which the connector works: it enforces each, or does nothing.
    #[must_use]
    pub fn sandbox(&self) -> &[String] {
        &self.sandbox
    }

    /// Groups that this owner's own policy tells of it, and that its decision does not name.
    #[must_use]
    pub fn notify(&self) -> &BTreeSet<String> {
        &self.notify
    }

    /// Leave to take the effect back, which was permitted with it; none where nothing takes it back.
    #[must_use]
    pub fn undo(&self, catalogue: &Catalogue) -> Option<VerifiedUndo> {
        let action = self.action.undo(catalogue).ok().flatten()?;
        VerifiedUndo::permitted(self.permit, self.undo, action, &self.resource, self.idempotency_key())
    }

    /// What the connector recognises a repetition by: the same for every permit of one lineage, so that even a second
    /// one would be seen as the same effect.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        let parts = [self.lineage.as_bytes().as_slice(), self.resource.as_bytes(), b"\0", self.intent_key.as_bytes()];
        Digest::of("cauldron/idempotency/v1", &parts.concat()).to_string()
    }

    /// The body of the `started` fact that must be durable before the effect.
    #[must_use]
    pub fn started(&self, owner_seq: u64, started_ms: u64) -> Started {
        Started {
            permit: self.permit,
            proposal: self.proposal,
            lineage: self.lineage,
            resource: self.resource.clone(),
            intent_key: self.intent_key.clone(),
            owner_seq,
            idempotency_key: self.idempotency_key(),
            input_digest: self.input_digest,
            started_ms,
        }
    }
}
