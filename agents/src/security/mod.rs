//! The security slice: sources of events, detection, response proposals.

pub mod replay;
pub mod sshd;
