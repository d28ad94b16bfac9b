//! What an owner says of its own starts.

use cauldron_identity::codec::{CodecError, to_cbor};
use cauldron_identity::{Fact, FactId};
use minicbor::{Decode, Encode};

use super::{Recorded, State, read};
use crate::bodies::{
    Compensated, Compensating, CompensationFailed, Done, Ended, Failed, KIND_COMPENSATED, KIND_COMPENSATING,
    KIND_COMPENSATION_FAILED, KIND_DONE, KIND_ENDED, KIND_FAILED, KIND_UNKNOWN, KIND_VERIFIED, KIND_VERIFY_FAILED,
    Unknown, Verified,
};
use crate::signed::with_reason;

/// What an owner said about one of its starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// It happened.
    Done(Done),
    /// It did not.
    Failed(Failed),
    /// Nobody knows.
    Unknown(Unknown),
    /// It was over by its own time limit.
    Ended(Ended),
    /// The checks after it hold.
    Verified(Verified),
    /// A check after it does not hold, or nobody could tell.
    VerifyFailed(Verified),
    /// It is being taken back.
    Compensating(Compensating),
    /// It was taken back.
    Compensated(Compensated),
    /// It could not be taken back: a person must look.
    CompensationFailed(CompensationFailed),
}

impl Report {
    /// The start it reports on.
    #[must_use]
    pub fn started(&self) -> FactId {
        match self {
            Self::Done(done) => done.started,
            Self::Failed(failed) => failed.started,
            Self::Unknown(unknown) => unknown.started,
            Self::Ended(ended) => ended.started,
            Self::Verified(verified) | Self::VerifyFailed(verified) => verified.started,
            Self::Compensating(compensating) => compensating.started,
            Self::Compensated(compensated) => compensated.started,
            Self::CompensationFailed(failed) => failed.started,
        }
    }

    /// The state that it speaks of, and when that was, milliseconds since the Unix epoch by its author's clock.
    pub(super) fn found(&self) -> (State, u64) {
        match self {
            Self::Done(d) => (State::Done, d.done_ms),
            Self::Failed(f) => (State::Failed, f.failed_ms),
            Self::Unknown(u) => (State::Unknown, u.noticed_ms),
            Self::Ended(e) => (State::Done, e.ended_ms),
            Self::Verified(v) => (State::Verified, v.at_ms),
            Self::VerifyFailed(v) => (State::VerifyFailed, v.at_ms),
            Self::Compensating(c) => (State::Compensating, c.at_ms),
            Self::Compensated(c) => (State::Compensated, c.at_ms),
            Self::CompensationFailed(c) => (State::CompensationFailed, c.at_ms),
        }
    }

    /// Whether a person may have to accept that nothing better comes of it.
    pub(super) fn is_failure(&self) -> bool {
        matches!(self, Self::VerifyFailed(_) | Self::Compensating(_) | Self::CompensationFailed(_))
    }

    /// What it says, in one sentence.
    #[must_use]
    pub fn says(&self) -> String {
        match self {
            Self::Done(d) => format!("done: {}", d.effect_ref),
            Self::Failed(f) => with_reason("failed", &f.reason),
            Self::Unknown(u) => with_reason("unknown", &u.reason),
            Self::Ended(e) => format!("ended: {}", e.effect_ref),
            Self::Verified(v) => format!("verified: {}", v.says()),
            Self::VerifyFailed(v) => format!("not verified: {}", v.says()),
            Self::Compensating(c) => {
                with_reason(format!("taken back by {}", c.by.as_deref().unwrap_or("its owner")), &c.reason)
            }
            Self::Compensated(c) => format!("was taken back: {}", c.effect_ref),
            Self::CompensationFailed(c) => with_reason("could not be taken back; a person must look", &c.reason),
        }
    }

    /// Its fact kind and body.
    #[must_use]
    pub fn to_fact(&self) -> (&'static str, Vec<u8>) {
        fn body<T: Encode<()>>(kind: &'static str, body: &T) -> (&'static str, Vec<u8>) {
            (kind, to_cbor(body))
        }
        match self {
            Self::Done(b) => body(KIND_DONE, b),
            Self::Failed(b) => body(KIND_FAILED, b),
            Self::Unknown(b) => body(KIND_UNKNOWN, b),
            Self::Ended(b) => body(KIND_ENDED, b),
            Self::Verified(b) => body(KIND_VERIFIED, b),
            Self::VerifyFailed(b) => body(KIND_VERIFY_FAILED, b),
            Self::Compensating(b) => body(KIND_COMPENSATING, b),
            Self::Compensated(b) => body(KIND_COMPENSATED, b),
            Self::CompensationFailed(b) => body(KIND_COMPENSATION_FAILED, b),
        }
    }

    /// Reads a fact, where it is a report.
    pub(super) fn read(fact: &Fact) -> Option<Result<Recorded<Self>, CodecError>> {
        fn of<T: for<'b> Decode<'b, ()>>(
            fact: &Fact,
            make: impl FnOnce(T) -> Report,
        ) -> Option<Result<Recorded<Report>, CodecError>> {
            Some(read(fact).map(|r: Recorded<T>| r.map(make)))
        }
        match fact.header().kind.as_str() {
            KIND_DONE => of(fact, Self::Done),
            KIND_FAILED => of(fact, Self::Failed),
            KIND_UNKNOWN => of(fact, Self::Unknown),
            KIND_ENDED => of(fact, Self::Ended),
            KIND_VERIFIED => of(fact, Self::Verified),
            KIND_VERIFY_FAILED => of(fact, Self::VerifyFailed),
            KIND_COMPENSATING => of(fact, Self::Compensating),
            KIND_COMPENSATED => of(fact, Self::Compensated),
            KIND_COMPENSATION_FAILED => of(fact, Self::CompensationFailed),
            _ => None,
        }
    }
}
