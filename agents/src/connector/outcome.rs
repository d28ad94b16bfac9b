//! What a connector says: what it would do, what it did, what it sees.

use cauldron_coordinator::bodies::Blast;
use serde::Serialize;

/// How the actuator keeps a stale owner from acting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fencing {
    /// Only this machine reaches it, and a lock admits one process.
    Local,
    /// It checks a fencing token itself.
    Native,
    /// It takes commands from anyone with credentials.
    None,
}

/// What an action would change, for the people who decide.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DryRun {
    /// Lines of text, harmless to show, at most [`DryRun::TEXT_BYTES_MAX`] bytes.
    pub text: String,
    /// How much of what it reaches, where that is known.
    pub blast: Vec<Blast>,
}

impl DryRun {
    /// Bytes of [`DryRun::text`]: what a proposal may carry.
    pub const TEXT_BYTES_MAX: usize = 32 * 1024;
}

/// What a read brought back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Labels that travel with them into every later step of a session.
    pub labels: Vec<String>,
}

/// Whether a check after an effect holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "held", content = "says")]
pub enum Held {
    /// It does; what was seen.
    Yes(String),
    /// It does not; what was seen instead.
    No(String),
}

/// What an execution did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Whether anything changed.
    pub effect: Effect,
    /// Where a person finds the effect.
    pub effect_ref: String,
    /// When the effect ends by itself, Unix milliseconds.
    pub until_ms: Option<u64>,
    /// The resource's version before: `sha256:` and the hash of the file, or `absent`.
    pub before: String,
    /// The resource's version after.
    pub after: String,
    /// An earlier effect that this one took the place of.
    pub replaced: Option<Ended>,
    /// What else a person should know, one sentence each.
    pub told: Vec<String>,
}

/// Whether anything changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It was done now.
    Applied,
    /// The same permit had been carried out before; nothing changed.
    AlreadyApplied,
    /// The same permit had been carried out before and its effect is over; nothing changed.
    AlreadyEnded,
    /// Somebody else lists the address already; their line was left alone.
    AlreadyListed,
    /// There was nothing of ours to take away.
    NothingThere,
}

impl Effect {
    /// A sentence for people.
    #[must_use]
    pub fn says(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::AlreadyApplied => "had been applied under this permit before; nothing was done twice",
            Self::AlreadyEnded => "had been applied under this permit before, and is over",
            Self::AlreadyListed => "a foreign line lists it already; that line was left alone",
            Self::NothingThere => "there was nothing of ours to take away",
        }
    }
}

/// Whether a permit was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// It was, and its effect stands.
    Applied,
    /// It was, and its effect is over.
    Ended,
    /// There is no trace of it.
    Absent,
}

/// An effect that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// The permit it was carried out under.
    pub permit_id: String,
    /// What it acted on.
    pub object: String,
    /// Where it was, as in [`Outcome::effect_ref`].
    pub effect_ref: String,
    /// When it was due to end, Unix milliseconds.
    pub until_ms: u64,
    /// Why it is over.
    pub why: EndedWhy,
}

/// Why an effect is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedWhy {
    /// Its time was over.
    Expired,
    /// A later permit for the same object took its place.
    Replaced,
    /// A permit ended it.
    Lifted,
}
