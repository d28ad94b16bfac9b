//! Hands and eyes: sources bring observations in, agents turn them into proposals, connectors carry out permits.
//!
//! * [`host`]: what an agent is (observations in, proposal drafts out; no IO, no clock).
//! * [`source`]: where observations come from; a file that is followed through rotation and truncation.
//! * [`security`]: the security slice; today one agent that sees brute force in an sshd log.
//! * [`connector`]: what can be done to the outside world. The only door is [`connector::Connector::execute`], and it
//!   asks for a [`VerifiedPermit`](cauldron_coordinator::owner::VerifiedPermit) that only the owner's own judgement makes.
//!
//! Absent on purpose: any path to an effect without a verified permit, and any clock: time arrives as an argument.
#![forbid(unsafe_code)]

pub mod connector;
pub mod host;
pub mod net;
pub mod proposal;
pub mod security;
pub mod source;

pub use host::{Agent, AgentInfo, Observation};
pub use proposal::{Evidence, ProposalDraft};
