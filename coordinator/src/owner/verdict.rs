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
    /// Its connector cannot enforce the sandbox that it carries.
    Sandbox,
    /// Its connector keeps a stale owner from acting less than the entry that moved the resource here says.
    Fencing,
    /// The step of its saga before it is not done.
    Saga,
}

impl Code {
    /// What would satisfy the rule: half a sentence.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::NotOwner => "a permit must name the node that owns its resource as enrolled here",
            Self::OtherIncarnation => "a coordinator must permit it anew for the present life",
            Self::Signer => "a coordinator of its site or of the mesh, in good standing, must sign it",
            Self::Proposer => "the node of its agent, or somebody who may edit it, must propose it anew",
            Self::Schema => "propose it with fields that fit the schema of its action",
            Self::Mismatch => "a coordinator must permit exactly what was proposed and decided",
            Self::Version => "propose it again on the version that is there now",
            Self::Killed => {
                "the council must lift that first, or the site's own people what they stopped themselves, past the lease"
            }
            Self::Vetoed => "a veto is final; propose something else",
            Self::Denied => "a no is final; propose something else",
            Self::Used => {
                "nothing is done twice; another try needs a failure of which a probe saw no effect, and a new permit"
            }
            Self::Late => "propose it again, and decide in time",
            Self::NoPolicy => "the active policy and its bundle must arrive here and load",
            Self::Overtaken => "it is judged again by what is newest, and needs a permit of that",
            Self::Policy => "propose what the active policy allows, or change the policy",
            Self::Isolated => {
                "the site must reach a coordinator for a fresh lease, or hold an isolation grant that covers it"
            }
            Self::Majority => "more than half of the coordinators that the charter names must permit it",
            Self::Quorum => "enough distinct people of the groups asked for must approve these very terms",
            Self::Silence => "a coordinator must vouch that the time to object is over",
            Self::Budget => "the permit must reserve what policy asks for",
            Self::Glass => {
                "a token that the council sealed for this node, unused and in time, must sign this proposal and reason"
            }
            Self::Sandbox => "policy must ask for what the connector can enforce, or another connector must do it",
            Self::Fencing => {
                "the council must say of that move what the connector declares: reassign again; with none, two people attest that the old machine is off"
            }
            Self::Saga => "every step before it must be done, and checked where its permit asks for that, and stand",
        }
    }
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
    Err(Stop::Refuse(code, said(code, why)))
}

pub(super) fn void<T>(code: Code, why: &str) -> Judged<T> {
    Err(Stop::Void(code, said(code, why)))
}

/// Which rule does not hold, and what would satisfy it.
fn said(code: Code, why: &str) -> String {
    format!("{why}; {}", code.remedy())
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
