//! What the governance facts carry: deterministic CBOR maps with integer keys.
//!
//! Digests and signatures are always over stored bytes; the `serde` form of each body is a view for people and the API.
//! Fields that a build does not know survive, because facts keep their raw bytes.

mod deputy;
mod feature;
mod glass;
mod hand;
mod obligation;
mod outcome;
mod proposal;
mod read;
mod restriction;
mod ruling;
mod saga;
mod session;
mod word;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;

pub use deputy::{DEPUTY_MS_MAX, Deputy, DeputyStatement};
pub use feature::Feature;
pub use glass::{BrokenGlass, REASON_LEN_MAX, Review, ReviewStatement, SiteLift, SiteLiftStatement};
pub use hand::{Hand, HandStatement};
pub use obligation::{DELEGATES, DISTINCT, Escalation, GroupNeed, Need, Obligations, SELF_SERVED, VetoWindow};
pub use outcome::{
    Checked, Compensated, Compensating, CompensationFailed, Done, Ended, Failed, Started, Unknown, Verified,
};
pub use proposal::{Amount, Blast, Calibration, Evidence, Proposal, Reversibility, RiskClass};
pub use read::{Read, Returned};
pub use restriction::{COUNCIL, DUTY_GROUPS, ORDER_NAMESPACE, Order, Restriction, RestrictionError, Target};
pub use ruling::{
    Decision, Evaluation, Outcome, Permit, PolicyRef, Requester, Resolution, WindowClosed, terms, undo_digest,
};
pub use saga::{Aborted, SAGA_STEPS_MAX, SagaStep};
pub use session::{DELEGATION_MAX, Delegated, SessionStep};
pub use word::{Word, WordStatement};

pub use cauldron_identity::authority::{KIND_HANDOVER, KIND_TAKEOVER};

/// Fact kind of a [`Proposal`].
pub const KIND_PROPOSAL: &str = "proposal";
/// Fact kind of a [`Decision`].
pub const KIND_DECISION: &str = "decision";
/// Fact kind of a [`crate::vote::SignedVote`].
pub const KIND_VOTE: &str = "vote";
/// Fact kind of a [`Permit`].
pub const KIND_PERMIT: &str = "permit";
/// Fact kind of a [`Started`].
pub const KIND_STARTED: &str = "started";
/// Fact kind of a [`Done`].
pub const KIND_DONE: &str = "done";
/// Fact kind of a [`Failed`].
pub const KIND_FAILED: &str = "failed";
/// Fact kind of an [`Unknown`].
pub const KIND_UNKNOWN: &str = "unknown";
/// Fact kind of an [`Ended`].
pub const KIND_ENDED: &str = "ended";
/// Fact kind of a [`Verified`] whose checks hold.
pub const KIND_VERIFIED: &str = "verified";
/// Fact kind of a [`Verified`] with a check that does not hold, or that nobody could tell.
pub const KIND_VERIFY_FAILED: &str = "verify-failed";
/// Fact kind of a [`Compensating`].
pub const KIND_COMPENSATING: &str = "compensating";
/// Fact kind of a [`Compensated`].
pub const KIND_COMPENSATED: &str = "compensated";
/// Fact kind of a [`CompensationFailed`].
pub const KIND_COMPENSATION_FAILED: &str = "compensation-failed";
/// Fact kind of an [`Aborted`].
pub const KIND_ABORTED: &str = "aborted";
/// Fact kind of a [`Word`].
pub const KIND_RECONCILED: &str = "reconciled";
/// Fact kind of a [`WindowClosed`].
pub const KIND_WINDOW: &str = "window-closed";
/// Fact kind of a [`Read`].
pub const KIND_READ: &str = "read";
/// Fact kind of a [`Deputy`].
pub const KIND_DEPUTY: &str = "deputy";
/// Fact kind of a [`BrokenGlass`].
pub const KIND_BREAK_GLASS: &str = "break-glass";
/// Fact kind of a [`Review`].
pub const KIND_REVIEW: &str = "break-glass-review";
/// Fact kind of a [`SiteLift`].
pub const KIND_SITE_LIFT: &str = "site-lift";
/// Fact kind of a [`Restriction`]; in `#restrict` lanes only.
pub const KIND_RESTRICTION: &str = "restriction";
/// Fact kind of a packed [`crate::policy::Bundle`], in `mesh`.
pub const KIND_BUNDLE: &str = "policy.bundle";

/// Every kind that the ledger looks into.
pub const KINDS: [&str; 25] = [
    KIND_PROPOSAL,
    KIND_DECISION,
    KIND_VOTE,
    KIND_PERMIT,
    KIND_STARTED,
    KIND_DONE,
    KIND_FAILED,
    KIND_UNKNOWN,
    KIND_ENDED,
    KIND_VERIFIED,
    KIND_VERIFY_FAILED,
    KIND_COMPENSATING,
    KIND_COMPENSATED,
    KIND_COMPENSATION_FAILED,
    KIND_RESTRICTION,
    KIND_WINDOW,
    KIND_DEPUTY,
    KIND_READ,
    KIND_HANDOVER,
    KIND_TAKEOVER,
    KIND_BREAK_GLASS,
    KIND_REVIEW,
    KIND_SITE_LIFT,
    KIND_ABORTED,
    KIND_RECONCILED,
];

/// Byte strings as text in the JSON view; ours hold JSON or opaque bytes.
pub(crate) fn bytes_as_text<S: serde::Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
    match serde_json::from_slice::<serde_json::Value>(bytes) {
        Ok(value) => serde::Serialize::serialize(&value, s),
        Err(_) => s.serialize_str(&String::from_utf8_lossy(bytes)),
    }
}

/// The same, of what may be absent.
pub(crate) fn optional_bytes_as_text<S: serde::Serializer>(bytes: &Option<Vec<u8>>, s: S) -> Result<S::Ok, S::Error> {
    match bytes {
        Some(bytes) => bytes_as_text(bytes, s),
        None => s.serialize_none(),
    }
}
