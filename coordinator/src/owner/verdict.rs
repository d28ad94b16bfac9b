//! What a judgement comes to.

use serde::Serialize;

use super::VerifiedPermit;

/// Why a permit is refused or void: stable names for counters, tests and the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// Another node's permit or resource.
    NotOwner,
    /// Another life's.
    OtherIncarnation,
    /// Its signer may not permit this.
    Signer,
    /// Its proposal does not count.
    Proposer,
    /// Its proposal is not a valid action.
    Schema,
    /// Permit, decision and proposal contradict each other.
    Mismatch,
    /// The resource is not at the version it was reasoned on.
    Version,
    /// A kill covers it.
    Killed,
    /// Its lineage is vetoed.
    Vetoed,
    /// A person or a coordinator said no.
    Denied,
    /// Its lineage or intent was started already.
    Used,
    /// Too late.
    Late,
    /// No policy is active or loadable here: deny.
    NoPolicy,
    /// A newer policy for its class is active.
    Overtaken,
    /// This owner's own evaluation denies it.
    Policy,
    /// The lease is too old for its class.
    Isolated,
    /// Too few coordinators permit it.
    Majority,
    /// Too few votes count.
    Quorum,
    /// Silence was to allow it, and nobody vouches that it was kept.
    Silence,
    /// It reserves less than policy asks for.
    Budget,
    /// Its token is not good, not for this, or used.
    Glass,
}

/// What a judgement comes to.
#[derive(Debug)]
pub enum Verdict {
    /// Write the start, then act.
    Execute(Box<VerifiedPermit>),
    /// Something it names is not here yet: judge again when facts arrive.
    Wait {
        /// What is missing.
        why: String,
    },
    /// Not under these circumstances. A later judgement may differ only where freshness, policy or facts changed.
    Refuse {
        /// Why, by name.
        code: Code,
        /// Why, in a sentence.
        why: String,
    },
    /// Never again.
    Void {
        /// Why, by name.
        code: Code,
        /// Why, in a sentence.
        why: String,
    },
}

/// What ends a judgement before its end.
#[derive(Debug)]
pub(super) enum Stop {
    Wait(String),
    Refuse(Code, String),
    Void(Code, String),
}

/// A check either passes or ends the judgement.
pub(super) type Judged<T> = Result<T, Stop>;

pub(super) fn wait(why: &str) -> Stop {
    Stop::Wait(why.to_owned())
}

pub(super) fn refuse<T>(code: Code, why: &str) -> Judged<T> {
    Err(Stop::Refuse(code, why.to_owned()))
}

pub(super) fn void<T>(code: Code, why: &str) -> Judged<T> {
    Err(Stop::Void(code, why.to_owned()))
}

impl From<Judged<VerifiedPermit>> for Verdict {
    fn from(judged: Judged<VerifiedPermit>) -> Self {
        match judged {
            Ok(verified) => Self::Execute(Box::new(verified)),
            Err(Stop::Wait(why)) => Self::Wait { why },
            Err(Stop::Refuse(code, why)) => Self::Refuse { code, why },
            Err(Stop::Void(code, why)) => Self::Void { code, why },
        }
    }
}

impl Verdict {
    /// Why it is not an execution, by name.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refuse { code, .. } | Self::Void { code, .. } => Some(*code),
            Self::Execute(_) | Self::Wait { .. } => None,
        }
    }

    /// Why it is not an execution, in a sentence.
    #[must_use]
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Refuse { why, .. } | Self::Void { why, .. } | Self::Wait { why } => Some(why),
            Self::Execute(_) => None,
        }
    }
}
